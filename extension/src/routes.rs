//! What this workload may call, and by which routes: the bundle's rules as its namespace and labels see them.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use http::HeaderMap;
use http::uri::PathAndQuery;
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
    /// The hosts of the view, where others are forwarded.
    known: Known,
    opened: Vec<OnceLock<Result<Arc<Routes>, String>>>,
}

/// The names of the mesh.
#[derive(Debug, Default)]
struct Known {
    hosts: HashSet<String>,
    wildcards: Vec<String>,
    /// The namespaces of hosts such as `reviews.bookinfo.svc.cluster.local`.
    namespaces: HashSet<String>,
}

impl Known {
    fn of(view: &View) -> Known {
        let hosts: HashSet<String> = view.names().into_iter().map(|(host, _)| host).collect();
        let namespaces = hosts.iter().filter_map(|host| host.strip_suffix(CLUSTER)?.split_once('.'));
        let namespaces = namespaces.map(|(_, namespace)| namespace.to_owned()).collect();
        let wildcards = view.wildcards().into_iter().map(|(host, _)| host).collect();
        Known { hosts, wildcards, namespaces }
    }

    /// Whether a host is of the mesh, whatever its port and whether or not the bundle leads there. Kubernetes' short
    /// names (`reviews`, `reviews.bookinfo`) mean nothing outside of a cluster.
    fn covers(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        if host.starts_with('[') || host.parse::<std::net::IpAddr>().is_ok() {
            return self.hosts.contains(&host);
        }
        let Some((_, rest)) = host.split_once('.') else { return true };
        host.ends_with(".svc")
            || host.ends_with(CLUSTER)
            || self.namespaces.contains(rest)
            || self.hosts.contains(&host)
            || self.wildcards.iter().any(|wildcard| traffic::covers(wildcard, &host))
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
        let known = match view.outbound() {
            Outbound::AllowAny => Known::of(&view),
            Outbound::RegistryOnly => Known::default(),
        };
        Ok(Hosts { rules, view, labels, known, opened })
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
        if !self.known.covers(host) {
            return Ok(());
        }
        let detail = format!(
            "found the host {host} and port {port}, a name of the mesh or of its cluster that no ServiceEntry gives an address: ALLOW_ANY is for hosts outside of it, and nothing goes to the mesh in the clear"
        );
        Err(Refusal::new(Reason::DestinationForbidden, detail))
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
            hosts: ["reviews.bookinfo.svc.cluster.local".into(), "api.partner.example".into()].into(),
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
        ] {
            assert!(known.covers(host), "{host}");
        }
        for host in ["example.com", "www.partner.example", "bookinfo.example", "10.0.0.1", "[::1]"] {
            assert!(!known.covers(host), "{host}");
        }
    }
}
