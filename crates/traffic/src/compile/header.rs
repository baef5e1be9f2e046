//! Changes of headers.

use istio::HeaderOperations;

use crate::table::{HeaderChanges, HeaderOps};

/// `headers`, without the Host: "internal headers" are never changed this way.
pub(super) fn operations(from: &HeaderOperations) -> HeaderOps {
    HeaderOps { request: changes(&from.request), response: changes(&from.response) }
}

/// A new Host among the headers of the request: Istio makes it a rewrite of the authority. "If authority is set in 'add'
/// and 'set', pick the one from 'set'".
pub(super) fn authority(from: &HeaderOperations) -> Option<String> {
    let of = |headers: &std::collections::BTreeMap<String, String>| {
        let mut hosts = headers.iter().filter(|(name, _)| is_authority(name));
        hosts.next_back().map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
    };
    of(&from.request.set).or_else(|| of(&from.request.add))
}

/// The changes of a route and those of its only destination, as one: Envoy makes all of the one kind before the next.
pub(super) fn joined(mut route: HeaderOps, destination: HeaderOps) -> HeaderOps {
    for (own, more) in [(&mut route.request, destination.request), (&mut route.response, destination.response)] {
        own.set.extend(more.set);
        own.add.extend(more.add);
        own.remove.extend(more.remove);
    }
    route
}

/// Whether they can be made.
pub(super) fn check(changes: &HeaderOps) -> Result<(), String> {
    for (part, changes) in [("request", &changes.request), ("response", &changes.response)] {
        crate::headers::Changes::new(changes).map_err(|problem| format!("{part}: {problem}"))?;
    }
    Ok(())
}

fn changes(from: &istio::HeaderChanges) -> HeaderChanges {
    let kept = |headers: &std::collections::BTreeMap<String, String>| {
        let kept = headers.iter().filter(|(name, _)| !is_internal(name));
        kept.map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect()
    };
    let removed = from.remove.iter().filter(|name| !is_internal(name));
    HeaderChanges {
        set: kept(&from.set),
        add: kept(&from.add),
        remove: removed.map(|name| name.to_ascii_lowercase()).collect(),
    }
}

fn is_internal(name: &str) -> bool {
    name.starts_with(':') || name.eq_ignore_ascii_case("host")
}

fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
}
