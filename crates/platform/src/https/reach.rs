//! Which addresses a client may dial.
//!
//! A URL of the configuration leads to whatever its host's DNS says at the moment, and a policy may be written by
//! somebody who may not ask the cloud's metadata service. So the check is on the address that is dialled: a literal one
//! in the URL, or each one that the name resolves to, at every connection (DNS rebinding).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::BoxFuture;

/// What a client may dial.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Reach {
    /// Addresses of the public Internet alone.
    #[default]
    Public,
    /// Also this host and private networks (RFC 1918, RFC 4193, RFC 6598); never link-local addresses and the metadata
    /// services of a cloud.
    Private,
    /// Everything: for URLs that the operator of this very program chose.
    Any,
}

impl Reach {
    /// Whether `address` may be dialled.
    ///
    /// # Errors
    /// What it is instead.
    pub fn check(self, address: IpAddr) -> Result<(), &'static str> {
        let kind = Kind::of(address);
        match (self, kind) {
            (Self::Any, _) | (_, Kind::Public) => Ok(()),
            (Self::Private, Kind::Loopback | Kind::Private) => Ok(()),
            (_, kind) => Err(kind.name()),
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Public,
    Loopback,
    Private,
    LinkLocal,
    Metadata,
    Unspecified,
    Multicast,
    Reserved,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Public => "a public address",
            Self::Loopback => "a loopback address",
            Self::Private => "a private address",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "an address of the cloud's metadata services",
            Self::Unspecified => "an unspecified address",
            Self::Multicast => "a multicast address",
            Self::Reserved => "a reserved address",
        }
    }

    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        }
    }

    /// The registry of RFC 6890.
    fn of_v4(address: Ipv4Addr) -> Self {
        match address.octets() {
            [0, ..] => Self::Unspecified,
            [127, ..] => Self::Loopback,
            // The instance's metadata service and ECS' are both in here.
            [169, 254, ..] => Self::LinkLocal,
            [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Self::Private,
            // Protocol assignments, documentation, benchmarks.
            [192, 0, 0 | 2, _] | [198, 51, 100, _] | [203, 0, 113, _] | [198, 18 | 19, ..] => Self::Reserved,
            [224..=239, ..] => Self::Multicast,
            [240..=255, ..] => Self::Reserved,
            _ => Self::Public,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        match address.segments() {
            [0, 0, 0, 0, 0, 0, 0, 0] => Self::Unspecified,
            [0, 0, 0, 0, 0, 0, 0, 1] => Self::Loopback,
            // Local NAT64 (RFC 8215): where in it the IPv4 address is, the network alone knows.
            [0x64, 0xff9b, 1, ..] => Self::Reserved,
            // AWS' own services on an instance: fd00:ec2::254 and its neighbours.
            [0xfd00, 0xec2, ..] => Self::Metadata,
            segments => match (embedded(address), segments) {
                (Some(embedded), _) => Self::of_v4(embedded),
                (None, [0xfc00..=0xfdff, ..]) => Self::Private,
                (None, [0xfe80..=0xfebf, ..]) => Self::LinkLocal,
                // Site-local, deprecated (RFC 3879).
                (None, [0xfec0..=0xfeff, ..]) => Self::Private,
                (None, [0xff00..=0xffff, ..]) => Self::Multicast,
                // Teredo and the other protocol assignments, documentation.
                (None, [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..]) => Self::Reserved,
                // Global unicast is 2000::/3.
                (None, [0x2000..=0x3fff, ..]) => Self::Public,
                (None, _) => Self::Reserved,
            },
        }
    }
}

/// Where packets to an address go in the end: to the IPv4 address that is embedded in an IPv6 one, or else to the
/// address itself. Two spellings of one address are equal after this.
///
/// A prefix that a network has chosen for its own NAT64 (RFC 6052 2.2) cannot be told from other addresses.
pub fn canonical_address(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => embedded(v6).map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// The IPv4 address that is in an IPv6 address of a form that is known to have one.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        // Unspecified and loopback (RFC 4291 2.5.2, 2.5.3) have none.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        // IPv4-mapped and IPv4-compatible (RFC 4291), translated (RFC 2765) and NAT64 (RFC 6052).
        [0, 0, 0, 0, 0, 0xffff | 0, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        // Local NAT64 (RFC 8215), in the form with a prefix of 96 bits.
        | [0x64, 0xff9b, 1, _, _, _, high, low]
        // 6to4 (RFC 3056).
        | [0x2002, high, low, ..] => {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    }
}

/// Turns a name into addresses.
pub(super) trait Lookup: Send + Sync {
    fn lookup(&self, name: String) -> BoxFuture<'static, std::io::Result<Vec<SocketAddr>>>;
}

/// The operating system's resolver.
pub(super) struct SystemLookup;

impl Lookup for SystemLookup {
    fn lookup(&self, name: String) -> BoxFuture<'static, std::io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) })
    }
}

/// A resolver that gives out what may be dialled, and nothing else.
pub(super) struct Guarded {
    pub(super) reach: Reach,
    pub(super) lookup: Arc<dyn Lookup>,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let (reach, name) = (self.reach, name.as_str().to_owned());
        let found = self.lookup.lookup(name.clone());
        Box::pin(async move {
            let found = found.await?;
            let mut refused = None;
            let mut allowed = Vec::new();
            for address in found {
                match reach.check(address.ip()) {
                    Ok(()) => allowed.push(address),
                    Err(kind) => refused = Some((address.ip(), kind)),
                }
            }
            match (allowed.is_empty(), refused) {
                (true, Some((address, kind))) => Err(refusal(address, kind).into()),
                (true, None) => Err("the name has no address".into()),
                (false, _) => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

/// The text of a refusal.
pub(super) fn refusal(address: IpAddr, kind: &str) -> String {
    format!("{address} is {kind}, which is not dialled; see CAUSEWAY_ALLOW_PRIVATE_ISSUERS")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::https::{Client, ClientOptions, FetchError, checked_url};

    #[test]
    fn only_public_addresses_unless_private_ones_are_allowed() {
        for (address, kind) in [
            ("93.184.216.34", Kind::Public),
            ("2606:4700:4700::1111", Kind::Public),
            ("64:ff9b::5db8:d822", Kind::Public),
            ("127.0.0.1", Kind::Loopback),
            ("127.255.255.254", Kind::Loopback),
            ("::1", Kind::Loopback),
            ("::ffff:127.0.0.1", Kind::Loopback),
            ("::127.0.0.1", Kind::Loopback),
            ("10.0.0.1", Kind::Private),
            ("172.16.0.1", Kind::Private),
            ("172.31.255.255", Kind::Private),
            ("172.32.0.1", Kind::Public),
            ("192.168.1.1", Kind::Private),
            ("100.64.0.1", Kind::Private),
            ("100.128.0.1", Kind::Public),
            ("fc00::1", Kind::Private),
            ("fd12:3456::1", Kind::Private),
            ("fec0::1", Kind::Private),
            ("::ffff:10.1.2.3", Kind::Private),
            ("::ffff:0:10.1.2.3", Kind::Private),
            ("64:ff9b::a01:203", Kind::Private),
            ("2002:a01:203::1", Kind::Private),
            ("169.254.169.254", Kind::LinkLocal),
            ("169.254.170.2", Kind::LinkLocal),
            ("::ffff:169.254.169.254", Kind::LinkLocal),
            ("64:ff9b::a9fe:a9fe", Kind::LinkLocal),
            ("2002:a9fe:a9fe::", Kind::LinkLocal),
            ("fe80::1", Kind::LinkLocal),
            ("fd00:ec2::254", Kind::Metadata),
            ("fd00:ec2::23", Kind::Metadata),
            ("0.0.0.0", Kind::Unspecified),
            ("0.1.2.3", Kind::Unspecified),
            ("::", Kind::Unspecified),
            ("::ffff:0.0.0.0", Kind::Unspecified),
            ("224.0.0.1", Kind::Multicast),
            ("ff02::1", Kind::Multicast),
            ("255.255.255.255", Kind::Reserved),
            ("240.0.0.1", Kind::Reserved),
            ("198.18.0.1", Kind::Reserved),
            ("192.0.2.1", Kind::Reserved),
            ("2001:db8::1", Kind::Reserved),
            ("2001::1", Kind::Reserved),
            ("64:ff9b:1::1", Kind::Reserved),
            ("4000::1", Kind::Reserved),
        ] {
            let parsed: IpAddr = address.parse().unwrap();
            assert_eq!(Kind::of(parsed), kind, "{address}");
            assert_eq!(Reach::Public.check(parsed).is_ok(), kind == Kind::Public, "{address}");
            let private = matches!(kind, Kind::Public | Kind::Loopback | Kind::Private);
            assert_eq!(Reach::Private.check(parsed).is_ok(), private, "{address}");
            assert!(Reach::Any.check(parsed).is_ok());
        }
    }

    #[test]
    fn an_embedded_address_is_where_packets_go() {
        for (address, expected) in [
            ("10.1.2.3", "10.1.2.3"),
            ("::ffff:10.1.2.3", "10.1.2.3"),
            ("::10.1.2.3", "10.1.2.3"),
            ("::ffff:0:10.1.2.3", "10.1.2.3"),
            ("64:ff9b::10.1.2.3", "10.1.2.3"),
            ("64:ff9b:1::10.1.2.3", "10.1.2.3"),
            ("64:ff9b:1:7::10.1.2.3", "10.1.2.3"),
            ("2002:a01:203::", "10.1.2.3"),
            ("2002:a01:203:9::7", "10.1.2.3"),
            ("::", "::"),
            ("::1", "::1"),
            ("64:ff9b:2::10.1.2.3", "64:ff9b:2::a01:203"),
            ("fd00::10.1.2.3", "fd00::a01:203"),
            ("2001:db8::10.1.2.3", "2001:db8::a01:203"),
        ] {
            let (address, expected): (IpAddr, IpAddr) = (address.parse().unwrap(), expected.parse().unwrap());
            assert_eq!(canonical_address(address), expected, "{address}");
            assert_eq!(canonical_address(expected), expected);
        }
    }

    /// Answers with the next list at each question.
    struct Scripted(AtomicUsize, Vec<Vec<&'static str>>);

    impl Lookup for Scripted {
        fn lookup(&self, _: String) -> BoxFuture<'static, std::io::Result<Vec<SocketAddr>>> {
            let turn = self.0.fetch_add(1, Ordering::SeqCst);
            let addresses = self.1[turn.min(self.1.len() - 1)].iter();
            let addresses = addresses.map(|text| SocketAddr::new(text.parse().unwrap(), 0)).collect();
            Box::pin(async move { Ok(addresses) })
        }
    }

    fn client(reach: Reach, answers: &[&[&'static str]]) -> Client {
        let lookup = Scripted(AtomicUsize::new(0), answers.iter().map(|answer| answer.to_vec()).collect());
        let options = ClientOptions { reach, ..ClientOptions::new(Duration::from_secs(5), 100) };
        Client::with_lookup(options, Arc::new(lookup)).unwrap()
    }

    /// A server that counts connections.
    fn server() -> (u16, Arc<AtomicUsize>) {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let visits = Arc::new(AtomicUsize::new(0));
        let counted = visits.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            }
        });
        (port, visits)
    }

    #[tokio::test]
    async fn the_address_that_is_dialled_is_checked_each_time() {
        let (port, visits) = server();
        let url = checked_url(&format!("http://localhost:{port}/")).unwrap();
        // The first answer lets the client in, the second points elsewhere: what a rebinding name server does.
        let client = client(Reach::Private, &[&["127.0.0.1"], &["169.254.169.254"], &["169.254.169.254", "127.0.0.1"]]);
        client.get(&url).await.unwrap();
        let error = client.get(&url).await.unwrap_err().to_string();
        assert!(error.contains("169.254.169.254 is a link-local address"), "{error}");
        assert_eq!(visits.load(Ordering::SeqCst), 1);
        client.get(&url).await.unwrap();
        assert_eq!(visits.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_public_client_reaches_no_private_address() {
        let (port, visits) = server();
        for host in ["localhost", "127.0.0.1", "[::1]"] {
            let url = checked_url(&format!("http://{host}:{port}/")).unwrap();
            let error = client(Reach::Public, &[&["127.0.0.1", "::ffff:127.0.0.1"]]).get(&url).await.unwrap_err();
            assert!(matches!(error, FetchError::Refused { .. } | FetchError::Unreachable { .. }), "{error:?}");
            assert!(error.to_string().contains("is a loopback address"), "{error}");
        }
        for host in ["169.254.169.254", "[::ffff:a9fe:a9fe]", "2852039166", "0xa9.0xfe.0xa9.0xfe", "[fd00:ec2::254]"] {
            for reach in [Reach::Public, Reach::Private] {
                let url = checked_url(&format!("https://{host}:{port}/")).unwrap();
                let error = client(reach, &[&["127.0.0.1"]]).get(&url).await.unwrap_err();
                assert!(matches!(error, FetchError::Refused { .. }), "{host}: {error:?}");
            }
        }
        assert_eq!(visits.load(Ordering::SeqCst), 0);
    }
}
