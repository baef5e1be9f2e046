//! Connections of the function that did not go through the proxy.
//!
//! A library that ignores `HTTP_PROXY` reaches services without identity, rules and log line. The sandbox's table of
//! connections shows it. The function has ended by the SHUTDOWN event, so the table is looked at in each invocation,
//! too, and what was found is one line at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use platform::log::Log;

/// The most remote addresses that are remembered.
const MAX_REMEMBERED: usize = 32;

/// The most lines of a table that are read.
const MAX_LINES: usize = 4_096;

/// `TCP_ESTABLISHED` in the kernel's include/net/tcp_states.h.
const ESTABLISHED: &str = "01";

/// What was seen.
#[derive(Default)]
pub(crate) struct Seen(Mutex<Found>);

#[derive(Default)]
struct Found {
    /// The most connections at a time to each address.
    remotes: BTreeMap<SocketAddr, usize>,
    /// There were more addresses.
    more: bool,
}

/// A line of the table.
#[derive(Debug, PartialEq, Eq)]
struct Connection {
    remote: SocketAddr,
    inode: u64,
}

impl Seen {
    /// Looks at the connections of the sandbox. A table that cannot be read is an empty one.
    pub(crate) fn look(&self) {
        let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
        // After the tables: a socket of ours that is made in between is in neither, or in this list only.
        let own = own_inodes();
        let connections = tables.iter().flat_map(|table| established(table));
        self.note(connections.filter(|connection| !own.contains(&connection.inode)));
    }

    fn note(&self, connections: impl Iterator<Item = Connection>) {
        let mut counts: BTreeMap<SocketAddr, usize> = BTreeMap::new();
        for Connection { remote, .. } in connections.filter(|connection| leaves(connection.remote.ip())) {
            *counts.entry(remote).or_default() += 1;
        }
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (remote, count) in counts {
            if found.remotes.len() >= MAX_REMEMBERED && !found.remotes.contains_key(&remote) {
                found.more = true;
                continue;
            }
            let most = found.remotes.entry(remote).or_default();
            *most = count.max(*most);
        }
    }

    /// One line, if there is something to say.
    pub(crate) fn report(&self, log: &Log) {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if found.remotes.is_empty() {
            return;
        }
        let remotes: BTreeMap<String, usize> =
            found.remotes.iter().map(|(remote, count)| (remote.to_string(), *count)).collect();
        log.write(&serde_json::json!({
            "event": "bypass",
            "detail": "connections of this sandbox that did not go through the proxy; the number is the most at a time",
            "connections": remotes,
            "more": found.more,
        }));
    }
}

/// Whether a connection to here leaves the sandbox. The runtime's API and the credentials' endpoint are link-local.
fn leaves(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local() && !ip.is_unspecified(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local() && !ip.is_unspecified(),
    }
}

/// The inodes of the sockets of this process.
fn own_inodes() -> BTreeSet<u64> {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return BTreeSet::new() };
    let inode = |path: std::path::PathBuf| {
        let link = std::fs::read_link(path).ok()?;
        link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    entries.filter_map(|entry| inode(entry.ok()?.path())).collect()
}

/// The established connections of `/proc/net/tcp` or `/proc/net/tcp6`.
fn established(table: &str) -> impl Iterator<Item = Connection> + '_ {
    table.lines().skip(1).take(MAX_LINES).filter_map(|line| {
        // sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode …
        let mut fields = line.split_ascii_whitespace().skip(2);
        let (remote, state) = (fields.next()?, fields.next()?);
        let inode = fields.nth(5)?.parse().ok()?;
        (state == ESTABLISHED).then_some(())?;
        Some(Connection { remote: address(remote)?, inode })
    })
}

/// `0100007F:1F90`: the address as 32-bit words in the machine's byte order, the port as a number.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    if !ip.is_ascii() {
        return None;
    }
    let word = |index: usize| {
        let digits = ip.get(index * 8..index * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (index, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(index)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    fn hex(ip: &str, port: u16) -> String {
        let words = |bytes: &[u8]| -> String {
            bytes.chunks(4).map(|w| format!("{:08X}", u32::from_ne_bytes(w.try_into().unwrap()))).collect()
        };
        let ip = match ip.parse().unwrap() {
            IpAddr::V4(ip) => words(&ip.octets()),
            IpAddr::V6(ip) => words(&ip.octets()),
        };
        format!("{ip}:{port:04X}")
    }

    fn line(remote: &str, port: u16, state: &str, inode: u64) -> String {
        let (local, remote) = (hex("10.0.0.2", 40_000), hex(remote, port));
        format!("   0: {local} {remote} {state} 00000000:00000000 00:00000000 00000000  1000        0 {inode} 1 0 20\n")
    }

    #[test]
    fn established_connections_are_read() {
        let table = [
            HEAD,
            &line("192.0.2.1", 443, "01", 7),
            &line("192.0.2.2", 443, "06", 0),
            &line("0.0.0.0", 0, "0A", 8),
            &line("2001:db8::1", 5_432, "01", 9),
            "nonsense\n",
            "   1: 00000000:0000 zzzzzzzz:01BB 01 0:0 0:0 0 0 0 1\n",
            "   1: 00000000:0000 é0000000:01BB 01 0:0 0:0 0 0 0 1\n",
        ]
        .concat();
        let found: Vec<Connection> = established(&table).collect();
        let expected = [("192.0.2.1:443", 7), ("[2001:db8::1]:5432", 9)]
            .map(|(remote, inode)| Connection { remote: remote.parse().unwrap(), inode });
        assert_eq!(found, expected);
    }

    #[test]
    fn one_line_names_what_left_the_sandbox() {
        let seen = Seen::default();
        let (log, lines) = Log::memory();
        let at = |remote: &str| Connection { remote: remote.parse().unwrap(), inode: 1 };
        seen.note(
            ["127.0.0.1:15001", "169.254.100.1:9001", "[::1]:1", "[::ffff:127.0.0.1]:1", "[fe80::1]:1"]
                .map(at)
                .into_iter(),
        );
        seen.report(&log);
        assert!(lines.all().is_empty(), "{:?}", lines.all());
        seen.note(["192.0.2.1:443", "192.0.2.1:443", "[2001:db8::1]:443"].map(at).into_iter());
        seen.note(["192.0.2.1:443"].map(at).into_iter());
        seen.report(&log);
        let line: serde_json::Value = serde_json::from_str(&lines.all()[0]).unwrap();
        assert_eq!(line["connections"], serde_json::json!({"192.0.2.1:443": 2, "[2001:db8::1]:443": 1}));
        assert_eq!((&line["event"], &line["more"]), (&"bypass".into(), &false.into()));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let seen = Seen::default();
        let (log, lines) = Log::memory();
        let at = |n: usize| Connection { remote: format!("192.0.2.1:{}", n + 1).parse().unwrap(), inode: 1 };
        seen.note((0..MAX_REMEMBERED).map(at));
        seen.report(&log);
        seen.note((0..=MAX_REMEMBERED).map(at));
        seen.report(&log);
        for (line, more) in lines.all().iter().zip([false, true]) {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(line["connections"].as_object().unwrap().len(), MAX_REMEMBERED);
            assert_eq!(line["more"], more);
        }
        assert_eq!(lines.all().len(), 2);
    }

    #[test]
    fn sockets_of_our_own_are_known() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let local = hex("127.0.0.1", port);
        let line = table.lines().find(|line| line.split_ascii_whitespace().nth(1) == Some(&local)).unwrap();
        let inode = line.split_ascii_whitespace().nth(9).unwrap().parse().unwrap();
        assert!(own_inodes().contains(&inode));
    }
}
