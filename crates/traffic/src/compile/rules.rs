//! `DestinationRule` documents: which one a client gets for a host, merged as Istio merges them.

use std::collections::{BTreeSet, HashMap};

use istio::{DestinationRule, ExportTo, Meta, Resources, Subset, TrafficPolicy};

use super::hostname;
use super::labels::{Labels, selects};

/// All rules, by the namespaces that look for them.
#[derive(Debug)]
pub(super) struct Rules<'a> {
    root_namespace: &'a str,
    /// All rules of a namespace, for its own clients.
    local: HashMap<&'a str, Index<'a>>,
    /// Those of a namespace that others see.
    exported: HashMap<&'a str, Index<'a>>,
    /// Those of the root namespace that others do not see.
    root_local: Index<'a>,
}

/// One rule, or several of one host.
#[derive(Clone, Debug)]
pub(super) struct Rule<'a> {
    /// No two rules have the same.
    pub(super) id: usize,
    /// Of the first document.
    pub(super) meta: &'a Meta,
    /// Of the first document that has one.
    pub(super) traffic_policy: Option<&'a TrafficPolicy>,
    /// Of all of them; of two with the same name the first.
    pub(super) subsets: Vec<&'a Subset>,
    selector: Option<&'a Labels>,
    export_to: BTreeSet<&'a str>,
}

#[derive(Debug, Default)]
struct Index<'a> {
    exact: HashMap<String, Vec<Rule<'a>>>,
    wildcard: HashMap<String, Vec<Rule<'a>>>,
}

impl<'a> Rules<'a> {
    /// As Istio's `setDestinationRules`.
    pub(super) fn new(resources: &'a Resources) -> Rules<'a> {
        let mut rules = Rules {
            root_namespace: &resources.mesh.root_namespace,
            local: HashMap::new(),
            exported: HashMap::new(),
            root_local: Index::default(),
        };
        // Those with a selector first, and otherwise in the order of the files.
        let (selecting, others): (Vec<_>, Vec<_>) =
            resources.destination_rules.iter().partition(|rule| rule.workload_selector.is_some());
        let mut id = 0;
        for document in selecting.into_iter().chain(others) {
            let namespace = document.meta.namespace.as_str();
            let words = words(document);
            let mut add = |index: &mut Index<'a>| {
                id += 1;
                index.add(document, &words, id);
            };
            let is_local = words.is_empty() || ["*", ".", namespace].iter().any(|word| words.contains(word));
            if is_local {
                add(rules.local.entry(namespace).or_default());
            }
            let is_private = words.len() == 1 && (words.contains(".") || words.contains(namespace));
            if !is_private {
                add(rules.exported.entry(namespace).or_default());
            } else if namespace == rules.root_namespace {
                add(&mut rules.root_local);
            }
        }
        rules
    }

    /// The rule for a host of `service_namespace` that a client has: Istio looks in the client's namespace, then in the
    /// service's, then in the root namespace, and takes the most specific host of the first that has any.
    pub(super) fn find(&self, client: (&str, &Labels), host: &str, service_namespace: &str) -> Option<&Rule<'a>> {
        let (namespace, labels) = client;
        let own = if namespace == self.root_namespace { Some(&self.root_local) } else { self.local.get(namespace) };
        let found: Vec<&Rule<'a>> = match own.and_then(|index| index.most_specific(host)) {
            Some(rules) => rules.iter().collect(),
            None => [service_namespace, self.root_namespace]
                .iter()
                .map(|owner| self.exported_by(owner, host, namespace))
                .find(|rules| !rules.is_empty())?,
        };
        // "return destination rule if workload selector matches", of the client's own namespace alone.
        let of_workload = found.iter().find(|rule| {
            rule.meta.namespace == namespace && rule.selector.is_some_and(|selector| selects(selector, labels))
        });
        // "If there is no workload specific destinationRule, return the wild carded dr if present", the last of them.
        of_workload.or_else(|| found.iter().rev().find(|rule| rule.selector.is_none())).copied()
    }

    fn exported_by(&self, owner: &str, host: &str, client: &str) -> Vec<&Rule<'a>> {
        let rules = self.exported.get(owner).and_then(|index| index.most_specific(host)).unwrap_or_default();
        let is_for = |rule: &&Rule<'a>| {
            rule.export_to.is_empty() || rule.export_to.contains("*") || rule.export_to.contains(client)
        };
        rules.iter().filter(is_for).collect()
    }
}

impl<'a> Index<'a> {
    /// As Istio's `mergeDestinationRule`: rules of one host become one where the same clients see them.
    fn add(&mut self, document: &'a DestinationRule, export_to: &BTreeSet<&'a str>, id: usize) {
        let host = hostname::full(&document.host, &document.meta.namespace);
        let selector = document.workload_selector.as_ref().map(|selector| &selector.match_labels);
        let rules = match hostname::wildcard(&host) {
            Some(suffix) => self.wildcard.entry(suffix.to_owned()).or_default(),
            None => self.exact.entry(host).or_default(),
        };
        let mut is_apart = true;
        for rule in rules.iter_mut() {
            let is_wider = !rule.export_to.is_empty() && export_to.is_superset(&rule.export_to);
            if *export_to != rule.export_to && !is_wider {
                continue;
            }
            match (rule.selector, selector) {
                (Some(one), Some(other)) if one != other => continue,
                // A rule for some workloads takes what one for all says besides, which still is for the others.
                (Some(_), None) | (None, Some(_)) => {}
                (Some(_), Some(_)) | (None, None) => is_apart = false,
            }
            for subset in &document.subsets {
                if rule.subsets.iter().all(|known| known.name != subset.name) {
                    rule.subsets.push(subset);
                }
            }
            rule.traffic_policy = rule.traffic_policy.or(document.traffic_policy.as_ref());
        }
        if is_apart {
            rules.push(Rule {
                id,
                meta: &document.meta,
                traffic_policy: document.traffic_policy.as_ref(),
                subsets: document.subsets.iter().collect(),
                selector,
                export_to: export_to.clone(),
            });
        }
    }

    fn most_specific(&self, host: &str) -> Option<&[Rule<'a>]> {
        let exact = if hostname::wildcard(host).is_some() { None } else { self.exact.get(host) };
        let wildcard = || hostname::suffixes(host).find_map(|suffix| self.wildcard.get(suffix));
        exact.or_else(wildcard).map(Vec::as_slice)
    }
}

/// `exportTo` as Istio compares it. "destination rules with workloadSelector should not be exported to other
/// namespaces".
fn words(document: &DestinationRule) -> BTreeSet<&str> {
    if document.workload_selector.is_some() {
        return BTreeSet::from(["."]);
    }
    let words = document.export_to.iter().map(|word| match word {
        ExportTo::All => "*",
        ExportTo::Own => ".",
        ExportTo::Nobody => "~",
        ExportTo::Namespace(name) => name,
    });
    words.collect()
}
