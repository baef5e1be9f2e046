//! `localityLbSetting` of a rule and of the mesh.

use std::collections::BTreeMap;

use super::nearest::quoted;
use super::read::{At, Mapping};
use crate::{Distribute, LocalityLb};

const LISTS: &[&str] = &["distribute", "failover", "failoverPriority"];

pub(super) fn locality_lb(at: &At<'_>) -> Option<LocalityLb> {
    at.mapping(&[], |fields| {
        let distribute = fields.list("distribute", distribute).unwrap_or_default();
        let failover = fields.list("failover", failover).unwrap_or_default();
        let failover_priority = fields.list("failoverPriority", priority).unwrap_or_default();
        let enabled = fields.optional_boolean("enabled");
        // "Only one of distribute, failover or failoverPriority can be set."
        let given = [!distribute.is_empty(), !failover.is_empty(), !failover_priority.is_empty()];
        let given: Vec<_> = LISTS.iter().zip(given).filter(|(_, given)| *given).map(|(name, _)| name).collect();
        if let [first, second, ..] = given.as_slice() {
            fields.at.error(format!("`{first}` and `{second}` exclude each other; keep one"));
        }
        disjoint(&distribute.iter().map(|part| part.from.as_str()).collect::<Vec<_>>(), fields);
        Some(LocalityLb { distribute, failover, failover_priority, enabled })
    })
}

fn distribute(at: &At<'_>) -> Option<Distribute> {
    at.mapping(&[], |fields| {
        let from = fields.required("from").and_then(|at| locality(&at, &at.non_empty_string()?));
        let mut to = BTreeMap::new();
        for (name, weight) in fields.required("to")?.entries() {
            let name = locality(&weight, name);
            let Some(number) = weight.number() else {
                continue;
            };
            // Istio: "locality weight must be in range [1, 100]".
            if !(1..=100).contains(&number) {
                weight.error(format!("expected a weight from 1 to 100, found {number}"));
            }
            to.extend(name.map(|name| (name, number)));
        }
        // Istio: "total locality weight … != 100".
        let sum: u64 = to.values().copied().map(u64::from).sum();
        if sum != 100 && fields.clean() {
            fields.at.error(format!("expected weights that sum to 100, found {sum}"));
        }
        disjoint(&to.keys().map(String::as_str).collect::<Vec<_>>(), fields);
        Some(Distribute { from: from?, to })
    })
}

/// `REGION/ZONE/SUBZONE`, with `*` at the end of it or alone. Istio: "must not contain empty region/zone/subzone info",
/// "wildcard '*' number can not exceed 1 and must be in the end".
fn locality(at: &At<'_>, text: &str) -> Option<String> {
    let parts: Vec<_> = text.split('/').collect();
    let stars = text.bytes().filter(|byte| *byte == b'*').count();
    let fits = parts.len() <= 3 && parts.iter().all(|part| !part.is_empty());
    // A star is a part of its own: Istio compares the others as they are.
    if !fits || stars > 1 || (stars == 1 && parts.last() != Some(&"*")) {
        at.error(format!("expected `REGION/ZONE/SUBZONE`, perhaps with `*` at the end, found {}", quoted(text)));
        return None;
    }
    Some(text.to_owned())
}

/// Istio: "locality … overlap with previous specified ones".
fn disjoint(localities: &[&str], fields: &Mapping<'_>) {
    for (index, locality) in localities.iter().enumerate() {
        for earlier in localities.iter().take(index) {
            if within(locality, earlier) || within(earlier, locality) {
                fields.at.error(format!("the localities {} and {} overlap", quoted(earlier), quoted(locality)));
            }
        }
    }
}

/// Whether every place of `inner` is one of `outer`.
fn within(inner: &str, outer: &str) -> bool {
    let outer = outer.strip_suffix('*').map_or(outer, |outer| outer.trim_end_matches('/'));
    let inner = inner.strip_suffix('*').map_or(inner, |inner| inner.trim_end_matches('/'));
    outer.is_empty() || inner == outer || inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'))
}

/// Regions, which differ. Istio: "locality lb failover only specify region", "… should not contain '*' wildcard".
fn failover(at: &At<'_>) -> Option<(String, String)> {
    let region = |at: At<'_>| {
        let name = at.non_empty_string()?;
        if name.contains(['/', '*']) {
            at.error(format!("expected the name of a region, found {}", quoted(&name)));
            return None;
        }
        Some(name)
    };
    at.mapping(&[], |fields| {
        let from = fields.required("from").and_then(region);
        let to = fields.required("to").and_then(region);
        let (from, to) = (from?, to?);
        if from == to {
            fields.at.error("expected two regions that differ");
        }
        Some((from, to))
    })
}

/// A label, `KEY` or `KEY=VALUE`.
fn priority(at: &At<'_>) -> Option<String> {
    let text = at.non_empty_string()?;
    if text.starts_with('=') {
        at.error(format!("expected a label, `KEY` or `KEY=VALUE`, found {}", quoted(&text)));
        return None;
    }
    Some(text)
}
