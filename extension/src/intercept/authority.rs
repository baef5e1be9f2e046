//! The certificate authority of this process: made at the start, kept in memory, gone with it.
//!
//! Its certificate names the hosts that this workload may call (RFC 5280 4.2.1.10), so that whoever trusts it trusts it
//! for nothing else, and for servers alone. One key is shared by all of its leaves: it never leaves this process either.

use std::sync::Arc;
use std::time::Duration;

use platform::random::{Random, SystemRandom};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, SanType, SerialNumber,
};
use rustls::crypto::aws_lc_rs::sign::any_ecdsa_type;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use traffic::open::View;

/// The most names in the authority's certificate. A `Sidecar` narrows what a workload sees.
pub(crate) const MAX_NAMES: usize = 2_048;

/// The end of the full name of a service in Kubernetes.
const SERVICE_SUFFIX: &str = ".svc.cluster.local";

/// A certificate is good from this long before it was made: no two clocks are the same.
const BEFORE: u64 = 300;

/// How long a leaf is good.
const LEAF_LIFE: Duration = Duration::from_secs(24 * 3_600);

/// The authority.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    /// The key of every leaf, twice: one says which it is, the other signs.
    leaf_key: KeyPair,
    signing_key: Arc<dyn SigningKey>,
    /// The hosts, sorted; each stands for what ends with it, too.
    names: Vec<String>,
    not_before: u64,
    not_after: u64,
}

/// The certificate of a host.
pub(super) struct Leaf {
    pub(super) certified: CertifiedKey,
    pub(super) not_after: u64,
}

impl Authority {
    /// One for these hosts, from `now` (Unix seconds) and for `life`.
    ///
    /// # Errors
    /// When there are too many names, or no randomness.
    pub(super) fn new(mut names: Vec<String>, now: u64, life: Duration) -> Result<Authority, String> {
        names.sort_unstable();
        names.dedup();
        if names.len() > MAX_NAMES {
            return Err(format!(
                "found {} names of services that this workload may call, expected at most {MAX_NAMES} for CAUSEWAY_HTTPS=intercept: narrow them by a Sidecar",
                names.len()
            ));
        }
        let (not_before, not_after) = (now.saturating_sub(BEFORE), now.saturating_add(life.as_secs()));
        let mut params = params("Causeway: calls of this workload", not_before, not_after)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.name_constraints = Some(constraints(&names));
        let key = key()?;
        let certificate = params.self_signed(&key).map_err(wrong)?;
        let (pem, certificate) = (certificate.pem(), certificate.der().clone());
        let leaf_key = self::key()?;
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
        let signing_key = any_ecdsa_type(&private).map_err(wrong)?;
        Ok(Authority {
            issuer: Issuer::new(params, key),
            certificate,
            pem,
            leaf_key,
            signing_key,
            names,
            not_before,
            not_after,
        })
    }

    pub(super) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    pub(super) fn pem(&self) -> &str {
        &self.pem
    }

    /// How many names there are.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// Until when it is good, in Unix seconds.
    pub(super) fn not_after(&self) -> u64 {
        self.not_after
    }

    /// Whether its certificates for this host (in lower case, without a dot at the end) are good.
    pub(super) fn covers(&self, host: &str) -> bool {
        // An address is in no list of names, whatever it looks like.
        if host.is_empty() || host.starts_with('[') || host.parse::<std::net::IpAddr>().is_ok() {
            return false;
        }
        let known = |name: &str| self.names.binary_search_by(|known| known.as_str().cmp(name)).is_ok();
        let ends = host.char_indices().filter(|(_, c)| *c == '.').map(|(at, _)| &host[at + 1..]);
        std::iter::once(host).chain(ends).any(known)
    }

    /// A certificate of this host.
    ///
    /// # Errors
    /// When the host is none of ours, or the authority's own time is over.
    pub(super) fn leaf(&self, host: &str, now: u64) -> Result<Leaf, String> {
        if !self.covers(host) {
            return Err(format!("found {host}, expected the name of a service that the configuration has"));
        }
        if now >= self.not_after {
            return Err("the certificate authority of this start has expired: start the workload again".to_owned());
        }
        let not_before = now.saturating_sub(BEFORE).max(self.not_before);
        let not_after = now.saturating_add(LEAF_LIFE.as_secs()).min(self.not_after);
        let mut params = params("Causeway: a service of the mesh", not_before, not_after)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names = vec![SanType::DnsName(host.try_into().map_err(wrong)?)];
        let leaf = params.signed_by(&self.leaf_key, &self.issuer).map_err(wrong)?;
        let certified = CertifiedKey::new(vec![leaf.der().clone()], Arc::clone(&self.signing_key));
        Ok(Leaf { certified, not_after })
    }
}

fn params(name: &str, not_before: u64, not_after: u64) -> Result<CertificateParams, String> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, name);
    (params.not_before, params.not_after) = (moment(not_before)?, moment(not_after)?);
    // Random, as the leaves share a key, which is what the library would make it of.
    let mut serial = [0; 16];
    SystemRandom.fill(&mut serial).map_err(wrong)?;
    // RFC 5280 4.1.2.2: "The serial number MUST be a positive integer".
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

/// These names and what is below them; no address.
fn constraints(names: &[String]) -> NameConstraints {
    let permitted_subtrees = match names {
        // RFC 5280 4.2.1.10: no permitted name of a kind permits all of the kind; `.invalid` is nobody (RFC 6761 6.4).
        [] => vec![GeneralSubtree::DnsName("invalid".to_owned())],
        names => names.iter().cloned().map(GeneralSubtree::DnsName).collect(),
    };
    let every_address = [CidrSubnet::V4([0; 4], [0; 4]), CidrSubnet::V6([0; 16], [0; 16])];
    NameConstraints { permitted_subtrees, excluded_subtrees: every_address.map(GeneralSubtree::IpAddress).to_vec() }
}

fn key() -> Result<KeyPair, String> {
    // ECDSA on P-256.
    KeyPair::generate().map_err(wrong)
}

fn moment(unix: u64) -> Result<OffsetDateTime, String> {
    let seconds = i64::try_from(unix).map_err(wrong)?;
    OffsetDateTime::from_unix_timestamp(seconds).map_err(wrong)
}

fn wrong(error: impl std::fmt::Display) -> String {
    format!("cannot make a certificate for CAUSEWAY_HTTPS=intercept: {error}")
}

/// The names by which this view's hosts can be called, in every form that [`View::find`] knows. The wildcard of every
/// host (`*`) names nobody.
pub(super) fn names_of(view: &View, namespace: Option<&str>) -> Vec<String> {
    let mut names = Vec::new();
    for (host, _) in view.names() {
        if let Some((name, of)) = host.strip_suffix(SERVICE_SUFFIX).and_then(|service| service.split_once('.')) {
            names.extend([format!("{name}.{of}"), format!("{name}.{of}.svc")]);
            if namespace == Some(of) {
                names.push(name.to_owned());
            }
        }
        names.push(host);
    }
    let below = view.wildcards().into_iter().filter_map(|(host, _)| Some(host.strip_prefix("*.")?.to_owned()));
    names.extend(below);
    names.retain(|name| is_name(name));
    names
}

/// A name of DNS, as far as a certificate is concerned.
fn is_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    let label = |label: &str| !label.is_empty() && label.len() <= 63 && label.bytes().all(inner);
    name.len() <= 253 && name.split('.').all(label) && name.parse::<std::net::IpAddr>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;
    const DAY: u64 = 86_400;

    fn authority(names: &[&str]) -> Authority {
        let names = names.iter().map(ToString::to_string).collect();
        Authority::new(names, NOW, Duration::from_secs(30 * DAY)).unwrap()
    }

    /// What a client that trusts the authority says of this host's certificate at this time.
    fn judged(authority: &Authority, leaf: &Leaf, host: &str, now: u64) -> Result<(), rustls::Error> {
        use rustls::client::danger::ServerCertVerifier as _;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.certificate().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            rustls::client::WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
        let now = rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(now));
        let host = host.to_owned().try_into().unwrap();
        verifier.verify_server_cert(&leaf.certified.cert[0], &[], &host, &[], now).map(|_| ())
    }

    #[test]
    fn a_leaf_is_good_for_its_host_and_time() {
        let authority = authority(&["ratings.bookinfo.svc.cluster.local", "mesh.example"]);
        for host in ["ratings.bookinfo.svc.cluster.local", "a.mesh.example", "mesh.example"] {
            let leaf = authority.leaf(host, NOW).unwrap();
            for now in [NOW - BEFORE, NOW, NOW + DAY] {
                assert_eq!(judged(&authority, &leaf, host, now), Ok(()), "{host} at {now}");
            }
            for (host, now) in [("b.mesh.example", NOW), (host, NOW - BEFORE - 1), (host, NOW + DAY + 1)] {
                assert!(judged(&authority, &leaf, host, now).is_err(), "{host} at {now}");
            }
        }
        // A leaf never outlives its authority.
        let late = authority.leaf("mesh.example", NOW + 30 * DAY - 60).unwrap();
        assert_eq!(late.not_after, authority.not_after());
        assert!(authority.leaf("mesh.example", NOW + 30 * DAY).is_err());
    }

    #[test]
    fn the_constraints_hold_where_our_own_check_does_not() {
        let mut authority = authority(&["mesh.example"]);
        authority.names = vec!["example".to_owned()];
        for host in ["bank.example", "notmesh.example"] {
            let leaf = authority.leaf(host, NOW).unwrap();
            let said = format!("{:?}", judged(&authority, &leaf, host, NOW));
            assert!(said.contains("NameConstraintViolation"), "{host}: {said}");
        }
        let mut nobody = self::authority(&[]);
        nobody.names = vec!["example".to_owned()];
        let leaf = nobody.leaf("bank.example", NOW).unwrap();
        assert!(judged(&nobody, &leaf, "bank.example", NOW).is_err());
    }

    #[test]
    fn a_host_of_nobody_gets_no_certificate() {
        let authority = authority(&["mesh.example", "ratings"]);
        for host in ["mesh.example", "a.b.mesh.example", "ratings"] {
            assert!(authority.covers(host), "{host}");
        }
        for host in ["", "example", "notmesh.example", "mesh.example.org", "10.0.0.1", "[::1]", "::1", ".", "reviews"] {
            assert!(!authority.covers(host), "{host}");
            assert!(authority.leaf(host, NOW).is_err(), "{host}");
        }
    }

    #[test]
    fn names_are_bounded_and_are_names() {
        let names = |count: usize| (0..count).map(|n| format!("a{n}.example")).collect::<Vec<_>>();
        let made = |names| Authority::new(names, NOW, Duration::from_secs(DAY));
        assert_eq!(made(names(MAX_NAMES)).unwrap().len(), MAX_NAMES);
        let said = made(names(MAX_NAMES + 1)).err().unwrap();
        assert!(said.contains("2049") && said.contains("Sidecar"), "{said}");
        for name in ["a", "a.b", "a_b.c-d"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".a", "a..b", "*.a", "10.0.0.1", "::1", "A.b", "é", &"a".repeat(64)] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn two_certificates_have_different_serials_and_two_starts_different_keys() {
        let one = authority(&["a", "b"]);
        let serial = |host: &str| {
            let leaf = one.leaf(host, NOW).unwrap();
            leaf.certified.cert[0].as_ref()[15..31].to_vec()
        };
        assert_ne!(serial("a"), serial("b"));
        assert_ne!(one.pem(), authority(&["a", "b"]).pem());
    }
}
