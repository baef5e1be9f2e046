//! Ports for programs that cannot tell which one they were given.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Below the ports that Linux takes for outgoing connections (32,768 on, `ip_local_port_range`): of those, another
/// test's connection may have taken one before the program listens.
const RANGE: Range<u16> = 12_000..32_000;

static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port that is free now on every address of this machine, and that no other caller in this process gets.
///
/// # Errors
/// When none is.
pub fn free() -> std::io::Result<u16> {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    // Each process begins elsewhere: two that ask at the same time would get the same one.
    let first = RandomState::new().hash_one(0) % RANGE.len() as u64;
    for port in RANGE.cycle().skip(first as usize).take(RANGE.len()) {
        if !given.contains(&port) && TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            given.insert(port);
            return Ok(port);
        }
    }
    Err(std::io::Error::other(format!("found no free port in {RANGE:?}, expected one")))
}

/// The loopback address of a port.
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
