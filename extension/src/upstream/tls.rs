//! TLS configurations: one for each cluster, protocol and SVID, as no session may outlive either.

use std::collections::HashMap;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use identity::{SpiffeId, tls};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use traffic::table::{IstioMutual, Simple, Tls};

use super::Hop;
use crate::reason::{Reason, Refusal};

/// The longest file of roots.
const MAX_ROOTS_BYTES: u64 = 1024 * 1024;

/// What is spoken inside of TLS. The configuration says so, and never what the server picks of the offer: a mesh
/// sidecar may pick nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Spoken {
    Http1,
    Http2,
    Bytes,
}

impl Spoken {
    /// What a sidecar must see offered to take the connection for mesh mutual TLS of this protocol.
    fn in_mesh(self) -> &'static [&'static str] {
        match self {
            Spoken::Http1 => &["istio-http/1.1", "istio", "http/1.1"],
            Spoken::Http2 => &["istio-h2", "istio", "h2"],
            Spoken::Bytes => &["istio-peer-exchange", "istio"],
        }
    }

    /// The same outside of the mesh, where Istio's own names mean nothing.
    fn outside(self) -> &'static [&'static str] {
        match self {
            Spoken::Http1 => &["http/1.1"],
            Spoken::Http2 => &["h2"],
            Spoken::Bytes => &[],
        }
    }
}

/// A configuration and the name to ask for.
pub(super) type Protection = (Arc<ClientConfig>, ServerName<'static>);

/// The configurations that have been made.
#[derive(Default)]
pub(super) struct Configs {
    made: Mutex<HashMap<(u32, Spoken, u64), Made>>,
}

struct Made {
    config: Arc<ClientConfig>,
    /// Of the file of roots.
    stamp: Option<Stamp>,
}

/// What changes with a file: its inode, time and length.
type Stamp = (u64, Option<SystemTime>, u64);

fn stamp(path: &str) -> Option<Stamp> {
    let found = std::fs::metadata(path).ok()?;
    Some((found.ino(), found.modified().ok(), found.len()))
}

impl Configs {
    /// How the connection to this hop is protected; `None` only where the cluster says that it is not.
    pub(super) fn protection(&self, hop: &Hop, spoken: Spoken) -> Result<Option<Protection>, Refusal> {
        let (name, generation) = match &hop.cluster.tls {
            Tls::Plaintext => return Ok(None),
            Tls::IstioMutual(mutual) => (mutual.sni.as_str(), hop.generation()),
            Tls::Simple(simple) if simple.sni.is_empty() => (hop.server_name.as_str(), 0),
            Tls::Simple(simple) => (simple.sni.as_str(), 0),
        };
        let name = server_name(name).map_err(|why| failed(hop, &why))?;
        let key = (hop.index, spoken, generation);
        // Before the file is read: whatever changes it then is seen the next time.
        let stamp = match &hop.cluster.tls {
            Tls::Simple(simple) if !simple.roots.is_empty() => stamp(&simple.roots),
            _ => None,
        };
        if let Some(made) = self.lock().get(&key)
            && made.stamp == stamp
        {
            return Ok(Some((Arc::clone(&made.config), name)));
        }
        let config = match &hop.cluster.tls {
            Tls::IstioMutual(expected) => mutual(hop, expected, spoken)?,
            Tls::Simple(wanted) => simple(wanted, spoken).map_err(|why| failed(hop, &why))?,
            Tls::Plaintext => return Ok(None),
        };
        let mut made = self.lock();
        // What belongs to an older SVID of this cluster is of no more use.
        made.retain(|held, _| held.0 != key.0 || held.1 != key.1 || held.2 >= key.2);
        made.insert(key, Made { config: Arc::clone(&config), stamp });
        Ok(Some((config, name)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(u32, Spoken, u64), Made>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    ServerName::try_from(name.to_owned()).map_err(|_| format!("found {name:?}, expected a server name"))
}

fn mutual(hop: &Hop, expected: &IstioMutual, spoken: Spoken) -> Result<Arc<ClientConfig>, Refusal> {
    let Some(credentials) = &hop.credentials else { return Err(no_identity(hop, "there is no SVID")) };
    let expected: Result<Vec<SpiffeId>, _> = expected.expected.iter().map(|id| id.parse()).collect();
    let expected = expected.map_err(|error| failed(hop, &error.to_string()))?;
    tls::client_config(credentials.svid(), credentials.bundle(), &expected, spoken.in_mesh())
        .map_err(|error| failed(hop, &error.to_string()))
}

fn simple(wanted: &Simple, spoken: Spoken) -> Result<Arc<ClientConfig>, String> {
    let pem = match wanted.roots.as_str() {
        "" => None,
        path => Some(read_roots(path).map_err(|error| format!("cannot read the roots in {path}: {error}"))?),
    };
    let roots = match &pem {
        Some(pem) => tls::Roots::Pem(pem),
        None => tls::Roots::Anchors(webpki_roots::TLS_SERVER_ROOTS),
    };
    tls::simple_config(roots, &wanted.names, spoken.outside()).map_err(|error| error.to_string())
}

fn read_roots(path: &str) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(MAX_ROOTS_BYTES + 1).read_to_end(&mut text)?;
    match text.len() as u64 > MAX_ROOTS_BYTES {
        true => Err(std::io::Error::other(format!("found more than {MAX_ROOTS_BYTES} bytes"))),
        false => Ok(text),
    }
}

/// A missing identity is an error, whatever else would be possible.
pub(super) fn no_identity(hop: &Hop, why: &str) -> Refusal {
    let detail = format!("{}: {why}, and without one nothing is sent to the mesh", hop.cluster.host);
    Refusal::new(Reason::IdentityUnavailable, detail)
}

fn failed(hop: &Hop, why: &str) -> Refusal {
    Refusal::new(Reason::ConfigurationInvalid, format!("{}: {why}", hop.cluster.host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_server_names() {
        for name in ["a.example", "a.example.", "10.0.0.1", "::1", "[::1]", "outbound_.80_._.a.svc.cluster.local"] {
            assert!(server_name(name).is_ok(), "{name}");
        }
        for name in ["", "a b", "a:80"] {
            assert!(server_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_file_of_roots_has_a_bound() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        let bound = usize::try_from(MAX_ROOTS_BYTES).unwrap();
        std::fs::write(path, vec![b'a'; bound]).unwrap();
        assert!(read_roots(path).is_ok());
        std::fs::write(path, vec![b'a'; bound + 1]).unwrap();
        assert!(read_roots(path).is_err());
        assert!(read_roots("/nowhere/roots.pem").is_err());
    }
}
