//! Documents that contradict each other, in one file or in several.

use std::collections::BTreeMap;

use super::kind::Kind;
use super::meta::origin;
use super::nearest::quoted;
use super::read::At;
use crate::{ApiKeyAuthentication, Meta, Origin, PeerAuthentication, Sidecar, WorkloadSelector};

/// Namespace and labels. No selector and one without labels select the same workloads.
type Scope = (String, BTreeMap<String, String>);

/// What the documents before said.
#[derive(Default)]
pub(super) struct Seen {
    /// By kind, namespace and name.
    documents: BTreeMap<(&'static str, String, String), Origin>,
    /// Name and place, by scope.
    peer_authentications: BTreeMap<Scope, (String, Origin)>,
    /// Name and place, by scope.
    sidecars: BTreeMap<Scope, (String, Origin)>,
    /// By scope and header.
    api_keys: BTreeMap<(Scope, String), (String, Origin)>,
}

impl Seen {
    pub(super) fn document(&mut self, kind: Kind, namespace: &str, name: &str, at: &At<'_>) {
        // A mesh has one configuration, whatever its namespace is called.
        let key = match kind {
            Kind::MeshConfig => (kind.as_str(), String::new(), name.to_owned()),
            _ => (kind.as_str(), namespace.to_owned(), name.to_owned()),
        };
        if let Some(first) = self.documents.get(&key) {
            at.error(format!("{} `{name}` in namespace `{namespace}` is already given at {first}", kind.as_str()));
        } else {
            self.documents.insert(key, origin(at));
        }
    }

    /// Istio takes the oldest of several for the same workloads ("PeerAuthentication is already defined … Ignore …").
    /// Files have no age.
    pub(super) fn peer_authentication(&mut self, policy: &PeerAuthentication, at: &At<'_>) {
        let Some(scope) = scope(&policy.meta, policy.selector.as_ref()) else {
            return;
        };
        match self.peer_authentications.get(&scope) {
            // The same document twice has its error already.
            Some((name, _)) if *name == policy.meta.name => {}
            Some((_, first)) => {
                at.error(format!("a PeerAuthentication for the same workloads is already given at {first}; keep one"));
            }
            None => {
                let Meta { name, origin, .. } = policy.meta.clone();
                self.peer_authentications.insert(scope, (name, origin));
            }
        }
    }

    /// "The behavior of the system is undefined if more than one selector-less Sidecar configurations exist in a given
    /// namespace", and likewise for those with a selector.
    pub(super) fn sidecar(&mut self, sidecar: &Sidecar, at: &At<'_>) {
        let Some(scope) = scope(&sidecar.meta, sidecar.workload_selector.as_ref()) else {
            return;
        };
        match self.sidecars.get(&scope) {
            Some((name, _)) if *name == sidecar.meta.name => {}
            Some((_, first)) => {
                at.error(format!("a Sidecar for the same workloads is already given at {first}; keep one"));
            }
            None => {
                let Meta { name, origin, .. } = sidecar.meta.clone();
                self.sidecars.insert(scope, (name, origin));
            }
        }
    }

    /// One header cannot hold the keys of two issuers.
    pub(super) fn api_key_authentication(&mut self, policy: &ApiKeyAuthentication, at: &At<'_>) {
        let Some(scope) = scope(&policy.meta, policy.selector.as_ref()) else {
            return;
        };
        let key = (scope, policy.header_name.clone());
        match self.api_keys.get(&key) {
            Some((issuer, first)) if *issuer != policy.issuer => at.error(format!(
                "the header `{}` of the same workloads holds keys of issuer {} by {first}; keep one issuer",
                policy.header_name,
                quoted(issuer)
            )),
            Some(_) => {}
            None => {
                self.api_keys.insert(key, (policy.issuer.clone(), policy.meta.origin.clone()));
            }
        }
    }
}

/// `None` when `metadata` was wrong: the namespace is not known then.
fn scope(meta: &Meta, selector: Option<&WorkloadSelector>) -> Option<Scope> {
    let labels = selector.map(|selector| selector.match_labels.clone()).unwrap_or_default();
    (!meta.name.is_empty()).then(|| (meta.namespace.clone(), labels))
}
