//! The hosts that a `Sidecar` lets its workloads see.

use std::collections::HashMap;

use super::hostname::{is_covered, overlap, wildcard};

/// `egress[].hosts` of one listener.
#[derive(Debug)]
pub(super) struct Filter {
    by_namespace: HashMap<String, Hosts>,
}

#[derive(Debug, Default)]
struct Hosts {
    seen: Vec<String>,
    hidden: Vec<String>,
}

impl Filter {
    /// For a client of `namespace`. `.` is that namespace; `~` in front hides, and alone hides everywhere.
    pub(super) fn new<'h>(hosts: impl IntoIterator<Item = &'h str>, namespace: &str) -> Filter {
        let mut filter = Filter { by_namespace: HashMap::new() };
        for host in hosts {
            let (of, host) = host.split_once('/').unwrap_or(("*", host));
            let (of, is_hidden) = match of.strip_prefix('~') {
                Some("") => ("*", true),
                Some(of) => (of, true),
                None => (of, false),
            };
            let of = if of == "." { namespace } else { of };
            let hosts = filter.by_namespace.entry(of.to_owned()).or_default();
            let list = if is_hidden { &mut hosts.hidden } else { &mut hosts.seen };
            list.push(host.to_ascii_lowercase());
        }
        filter
    }

    /// Whether a service of a namespace is seen.
    pub(super) fn has_service(&self, namespace: &str, host: &str) -> bool {
        self.has(namespace, |seen| is_covered(host, seen)) && !self.is_hidden(namespace, host)
    }

    /// Whether a `VirtualService` of a namespace is seen, by one of its hosts: "we check Matches which is
    /// bi-directional".
    pub(super) fn has_routes(&self, namespace: &str, hosts: &[String]) -> bool {
        hosts.iter().any(|host| {
            let is_seen = |seen: &str| match (wildcard(host), wildcard(seen)) {
                (None, None) => host == seen,
                _ => overlap(host, seen),
            };
            self.has(namespace, is_seen) && !self.is_hidden(namespace, host)
        })
    }

    fn has(&self, namespace: &str, is_seen: impl Fn(&str) -> bool) -> bool {
        self.of(namespace).any(|hosts| hosts.seen.iter().any(|seen| is_seen(seen)))
    }

    fn is_hidden(&self, namespace: &str, host: &str) -> bool {
        self.of(namespace).any(|hosts| hosts.hidden.iter().any(|hidden| is_covered(host, hidden)))
    }

    fn of(&self, namespace: &str) -> impl Iterator<Item = &Hosts> {
        [namespace, "*"].into_iter().filter_map(|namespace| self.by_namespace.get(namespace))
    }
}
