//! Where a connection comes in, which says what can be called through it.

use std::sync::Arc;

use http::uri::Authority;
use platform::https::canonical_address;
use tokio::sync::{OwnedSemaphorePermit, watch};
use traffic::route::Routes;
use traffic::table::Listener;

use crate::keepalive::Busy;
use crate::reason::{Reason, Refusal};
use crate::routes::Hosts;
use crate::target::Target;

/// Where a connection comes in.
#[derive(Clone, Debug)]
pub(crate) enum Door {
    /// The proxy's port: all that the workload sees.
    Proxy,
    /// In a tunnel (CONNECT) to this port: the same.
    Tunnel(u16),
    /// In TLS in a tunnel to this host and port: that one alone.
    Secure(Arc<Origin>),
    /// A port of its own for one service or some.
    Service(Arc<Listener>),
}

/// The host and port that a certificate was shown for.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Origin {
    fn is(&self, host: &str, port: u16) -> bool {
        let plain = |host: &str| host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        self.port == port && plain(&self.host) == plain(host)
    }
}

impl Door {
    /// The scheme of the addresses that are called here.
    pub(crate) fn scheme(&self) -> &'static str {
        match self {
            Door::Secure(_) => "https",
            Door::Proxy | Door::Tunnel(_) | Door::Service(_) => "http",
        }
    }

    /// The port of a host that is named without one.
    pub(crate) fn default_port(&self) -> u16 {
        match self {
            // RFC 9110 4.2.1: "TCP port 80 ... is the default".
            Door::Proxy => 80,
            Door::Tunnel(port) => *port,
            Door::Secure(origin) => origin.port,
            Door::Service(listener) => listener.port,
        }
    }

    /// The routes of a target. Where a client has named this machine, the one service of the port is meant, and the
    /// target is changed to it: a service has no use for `127.0.0.1` as its host.
    ///
    /// # Errors
    /// When the routes cannot be used, when the target is not the one that TLS was spoken for, or when it is another
    /// service than the one of this port.
    pub(crate) fn find(&self, hosts: &Hosts, target: &mut Target) -> Result<Option<Arc<Routes>>, Refusal> {
        let listener = match self {
            Door::Service(listener) => listener,
            // RFC 9110 7.4: "a request for an "https" resource MUST be rejected unless it has been received over a
            // connection that has been secured via a certificate valid for that target URI's origin".
            Door::Secure(origin) if !origin.is(&target.host, target.port) => {
                let detail = format!(
                    "found the host {} and port {} in TLS to {} and port {}, expected the same",
                    target.host, target.port, origin.host, origin.port
                );
                return Err(Refusal::new(Reason::RequestInvalid, detail));
            }
            Door::Proxy | Door::Tunnel(_) | Door::Secure(_) => return hosts.find(&target.host, target.port),
        };
        if let [only] = listener.names.as_slice() {
            // A wildcard is no name that anybody has.
            let is_name = !only.host.is_empty() && !only.host.starts_with('.');
            if is_this_machine(&target.host) {
                if is_name && let Ok(authority) = format!("{}:{}", only.host, only.port).parse::<Authority>() {
                    (target.host, target.port, target.authority) = (only.host.clone(), only.port, authority);
                }
            } else if hosts.is_of_another(&target.host, target.port, only.virtual_host, &only.host) {
                // What was meant for somebody else, and a credential in it, is not for this one.
                let detail = format!(
                    "found the host {} and port {} at port {}, which is for {} and port {}",
                    target.host, target.port, listener.port, only.host, only.port
                );
                return Err(Refusal::new(Reason::UnknownHost, detail));
            }
        }
        match listener.find(&target.host, target.port) {
            Some(index) => hosts.at(index).map(Some),
            None => Ok(None),
        }
    }

    /// Whether hosts that nobody has named may be called here, where the mesh allows any.
    ///
    /// # Errors
    /// When this port is for certain services, or the application expects TLS up to there.
    pub(crate) fn may_pass(&self, target: &Target) -> Result<(), Refusal> {
        match self {
            Door::Proxy | Door::Tunnel(_) => Ok(()),
            Door::Secure(_) => {
                let detail = format!("found https for {}, which is no service of the configuration", target.host);
                Err(Refusal::new(Reason::UnknownHost, detail))
            }
            Door::Service(listener) => {
                let (host, port, own) = (&target.host, target.port, listener.port);
                let detail =
                    format!("found the host {host} and port {port} at port {own}, which is for other services");
                Err(Refusal::new(Reason::UnknownHost, detail))
            }
        }
    }
}

fn is_this_machine(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || address.parse().is_ok_and(|address| canonical_address(address).is_loopback())
}

/// A connection of the application.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) door: Door,
    pub(crate) busy: Busy,
    /// True when the extension is to end.
    pub(crate) stop: watch::Receiver<bool>,
    /// Its place among all connections, which a tunnel keeps.
    pub(crate) _place: Option<Arc<OwnedSemaphorePermit>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_host_in_any_spelling_and_a_port() {
        let origin = Origin { host: "Ratings.example.".to_owned(), port: 443 };
        assert!(origin.is("ratings.example", 443) && origin.is("RATINGS.EXAMPLE.", 443));
        assert!(!origin.is("ratings.example", 80) && !origin.is("a.ratings.example", 443));
    }

    #[test]
    fn this_machine_has_several_names() {
        for host in ["127.0.0.1", "127.1.2.3", "localhost", "LocalHost", "[::1]", "[::ffff:127.0.0.1]"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in ["ratings", "10.0.0.1", "localhost.example", "[::2]"] {
            assert!(!is_this_machine(host), "{host}");
        }
    }
}
