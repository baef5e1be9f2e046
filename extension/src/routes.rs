//! What this workload may call, and by which routes: the bundle's rules as its namespace and labels see them.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use http::HeaderMap;
use http::uri::PathAndQuery;
use platform::https::canonical_address;
use traffic::route::{Head, Line, Routes};
use traffic::table::Outbound;
use traffic::{Rules, open::View};

use crate::reason::{Reason, Refusal};
use crate::target::Target;

/// What the names of a cluster's services end with.
const CLUSTER: &str = ".svc.cluster.local";

/// The hosts of a view, each prepared when it is first used.
pub(crate) struct Hosts {
    rules: Rules,
    pub(crate) view: View,
    labels: Vec<(String, String)>,
    /// What belongs to somebody; gathered when it is first asked for.
    known: OnceLock<Known>,
    opened: Vec<OnceLock<Result<Arc<Routes>, String>>>,
}

/// The names and addresses of the mesh, whether or not this workload sees them, and the hosts that it sees.
#[derive(Debug, Default)]
struct Known {
    hosts: HashSet<String>,
    wildcards: Vec<String>,
    /// The namespaces of hosts such as `reviews.bookinfo.svc.cluster.local`.
    namespaces: HashSet<String>,
}

impl Known {
    fn of(rules: &Rules, view: &View) -> Known {
        let seen = view.names().into_iter().chain(view.wildcards()).map(|(host, _)| host);
        let listeners = view.listeners().into_iter().flat_map(|listener| listener.names);
        // A listener's wildcards are suffixes.
        let listened = listeners.map(|name| match name.host {
            suffix if suffix.is_empty() || suffix.starts_with('.') => format!("*{suffix}"),
            host => host,
        });
        let all = rules.mesh().map(str::to_owned).chain(seen).chain(listened);
        let (wildcards, hosts): (HashSet<String>, HashSet<String>) = all.partition(|host| host.starts_with('*'));
        let hosts: HashSet<String> = hosts.into_iter().map(|host| spelt(&host)).collect();
        let namespaces = hosts.iter().filter_map(|host| host.strip_suffix(CLUSTER)?.split_once('.'));
        let namespaces = namespaces.map(|(_, namespace)| namespace.to_owned()).collect();
        Known { hosts, wildcards: wildcards.into_iter().collect(), namespaces }
    }

    /// Whether a host is of the mesh, whatever its port and whether or not the bundle leads there. Kubernetes' short
    /// names (`reviews`, `reviews.bookinfo`) mean nothing outside of a cluster.
    fn covers(&self, host: &str) -> bool {
        let host = spelt(host);
        if host.parse::<IpAddr>().is_ok() {
            return self.hosts.contains(&host);
        }
        let Some((_, rest)) = host.split_once('.') else { return true };
        // No name ends so (RFC 3696 2: a top-level domain is "not all-numeric"): it is an old spelling of an address,
        // such as `0x0a.1`, which the system's resolver understands.
        let last = host.rsplit('.').next().unwrap_or_default();
        last.bytes().all(|byte| byte.is_ascii_digit())
            || last.starts_with("0x")
            || host.ends_with(".svc")
            || host.ends_with(CLUSTER)
            || self.namespaces.contains(rest)
            || self.hosts.contains(&host)
            || self.wildcards.iter().any(|wildcard| traffic::covers(wildcard, &host))
    }
}

/// A host as it is compared: in lower case, without dots at its end. Of an address it is where packets to it go: one of
/// IPv6 with one of IPv4 in it is the latter.
fn spelt(host: &str) -> String {
    let host = host.trim_end_matches('.');
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(address) => canonical_address(address).to_string(),
        Err(_) => host.to_ascii_lowercase(),
    }
}

impl Hosts {
    /// Those that a workload of `namespace` with `labels` sees.
    ///
    /// # Errors
    /// When that depends on the namespace, and there is none.
    pub(crate) fn new(rules: Rules, namespace: Option<&str>, labels: Vec<(String, String)>) -> Result<Hosts, String> {
        let view = rules.view(namespace, &labels)?;
        let opened = std::iter::repeat_with(OnceLock::new).take(rules.virtual_hosts()).collect();
        Ok(Hosts { rules, view, labels, known: OnceLock::new(), opened })
    }

    /// The routes of a host and port; `None` when nobody has named it.
    ///
    /// # Errors
    /// When they cannot be used.
    pub(crate) fn find(&self, host: &str, port: u16) -> Result<Option<Arc<Routes>>, Refusal> {
        match self.view.find(host, port) {
            Some(index) => self.at(index).map(Some),
            None => Ok(None),
        }
    }

    /// The routes with this index in the bundle.
    ///
    /// # Errors
    /// When they cannot be used.
    pub(crate) fn at(&self, index: u32) -> Result<Arc<Routes>, Refusal> {
        let slot = usize::try_from(index).ok().and_then(|index| self.opened.get(index));
        let prepared = slot.map(|slot| slot.get_or_init(|| self.prepare(index)));
        match prepared {
            Some(Ok(routes)) => Ok(Arc::clone(routes)),
            Some(Err(problem)) => Err(Refusal::new(Reason::ConfigurationInvalid, problem.clone())),
            None => Err(Refusal::new(Reason::ConfigurationInvalid, format!("the bundle has no host number {index}"))),
        }
    }

    /// The path that routes and services see in place of this one; `None` when it is the same.
    ///
    /// # Errors
    /// When Envoy would answer 400.
    pub(crate) fn normalize(&self, path: &PathAndQuery) -> Result<Option<PathAndQuery>, Refusal> {
        let refused =
            |why: &str| Refusal::new(Reason::RequestInvalid, format!("found a path that has no normal form: {why}"));
        match self.rules.normalize(path.as_str()).map_err(|error| refused(&error.to_string()))? {
            normal if normal == path.as_str() => Ok(None),
            normal => normal.parse().map(Some).map_err(|_| refused("it is too long")),
        }
    }

    /// Whether a host that nobody has named may be forwarded as it is, in the clear.
    ///
    /// # Errors
    /// When the mesh refuses such hosts (`REGISTRY_ONLY`), or when the name is one of the mesh.
    pub(crate) fn may_pass(&self, target: &Target) -> Result<(), Refusal> {
        let (host, port) = (&target.host, target.port);
        if self.view.outbound() == Outbound::RegistryOnly {
            let detail = format!(
                "found the host {host} and port {port}, expected one that a ServiceEntry of the configuration names and this workload may see (others are refused: REGISTRY_ONLY)"
            );
            return Err(Refusal::new(Reason::UnknownHost, detail));
        }
        if !self.known().covers(host) {
            return Ok(());
        }
        let detail = format!(
            "found the host {host} and port {port}, a name or an address of the mesh or of its cluster that this workload may not call so: ALLOW_ANY is for hosts outside of it, and nothing goes to the mesh in the clear"
        );
        Err(Refusal::new(Reason::DestinationForbidden, detail))
    }

    /// Whether a host and port are somebody else's than those of the virtual host `own`, whose name is `name`.
    pub(crate) fn is_of_another(&self, host: &str, port: u16, own: u32, name: &str) -> bool {
        match self.view.find(host, port) {
            Some(found) => found != own,
            None => !self.view.means(host, name) && self.known().covers(host),
        }
    }

    fn known(&self) -> &Known {
        self.known.get_or_init(|| Known::of(&self.rules, &self.view))
    }

    /// How many hosts and ports can be called.
    pub(crate) fn len(&self) -> usize {
        self.view.len()
    }

    fn prepare(&self, index: u32) -> Result<Arc<Routes>, String> {
        let host = self.rules.virtual_host(index).ok_or("the bundle has fewer hosts than it names")?;
        Routes::new(host, &self.labels).map(Arc::new)
    }
}

/// What a route looks at.
pub(crate) fn head<'a>(line: &Line<'a>, headers: &'a HeaderMap) -> Head<'a> {
    let Line { method, scheme, authority, path_and_query } = *line;
    Head { method, scheme, authority, path_and_query, headers }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_mesh_are_known_in_every_form() {
        let known = Known {
            hosts: [
                "reviews.bookinfo.svc.cluster.local".into(),
                "api.partner.example".into(),
                "10.0.1.7".into(),
                "fd00::7".into(),
            ]
            .into(),
            wildcards: vec!["*.mesh.example".into()],
            namespaces: ["bookinfo".into()].into(),
        };
        for host in [
            "reviews",
            "REVIEWS.",
            "details.bookinfo",
            "details.other.svc",
            "details.other.svc.cluster.local.",
            "api.partner.example",
            "a.mesh.example",
            "a.mesh.example..",
            "details.bookinfo.svc..",
            "10.0.1.7",
            "10.0.1.7.",
            "[::ffff:10.0.1.7]",
            "[::10.0.1.7]",
            "[::ffff:0:10.0.1.7]",
            "[64:ff9b::a00:107]",
            "[64:ff9b:1::10.0.1.7]",
            "[2002:a00:107::1]",
            "[FD00:0::7]",
            "0x0a.1",
            "10.0.263",
            "www.example.0x7f",
        ] {
            assert!(known.covers(host), "{host}");
        }
        for host in ["example.com", "www.partner.example", "bookinfo.example", "10.0.0.1", "[::1]", "[64:ff9b::a00:1]"]
        {
            assert!(!known.covers(host), "{host}");
        }
    }
}
