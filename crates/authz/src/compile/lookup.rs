//! Documents by what they are looked for: with thousands of routes and of policies, no document is looked for by going
//! through all of them.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use istio::{Meta, Resources, Service, ServiceEntry, WorkloadEntry, WorkloadSelector, full_host};

/// What a route can lead to, by host in lower case.
pub(super) struct Destinations<'a> {
    by_host: HashMap<String, (Option<&'a Service>, Vec<&'a ServiceEntry>)>,
    workload_entries: HashMap<&'a str, Vec<&'a WorkloadEntry>>,
}

impl<'a> Destinations<'a> {
    pub(super) fn new(resources: &'a Resources) -> Self {
        let mut by_host: HashMap<String, (Option<&'a Service>, Vec<&'a ServiceEntry>)> = HashMap::new();
        for service in &resources.services {
            let host = full_host(&service.meta.name, &service.meta.namespace).to_ascii_lowercase();
            by_host.entry(host).or_default().0.get_or_insert(service);
        }
        for entry in &resources.service_entries {
            // A host may be written twice in one document.
            let hosts: BTreeSet<String> = entry.hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
            for host in hosts {
                by_host.entry(host).or_default().1.push(entry);
            }
        }
        let mut workload_entries: HashMap<&str, Vec<&WorkloadEntry>> = HashMap::new();
        for entry in &resources.workload_entries {
            workload_entries.entry(&entry.meta.namespace).or_default().push(entry);
        }
        Self { by_host, workload_entries }
    }

    /// The `WorkloadEntry` documents of a namespace that have these labels.
    pub(super) fn workload_entries(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
    ) -> impl Iterator<Item = &'a WorkloadEntry> {
        let selector = WorkloadSelector { match_labels: labels.clone() };
        let all = self.workload_entries.get(namespace).map(Vec::as_slice).unwrap_or_default();
        all.iter().copied().filter(move |entry| selector.selects(&entry.endpoint.labels))
    }

    /// The Service of this host, and the ServiceEntries that have it.
    pub(super) fn find(&self, host: &str) -> (Option<&'a Service>, &[&'a ServiceEntry]) {
        let found = self.by_host.get(&host.to_ascii_lowercase());
        found.map_or((None, &[]), |(service, entries)| (*service, entries.as_slice()))
    }
}

/// A document, and the workloads that it selects.
pub(super) type Selecting<'a> = (&'a Meta, &'a WorkloadSelector);

/// Documents with a selector, by its labels.
pub(super) struct Selectors<'a> {
    documents: Vec<Selecting<'a>>,
    /// Namespace, name and value of a label → documents, in their order.
    by_label: HashMap<(&'a str, &'a str, &'a str), Vec<usize>>,
    of_unknown_workloads: OnceCell<Vec<Selecting<'a>>>,
}

impl<'a> Selectors<'a> {
    pub(super) fn new(resources: &'a Resources) -> Self {
        let policies = resources.authorization_policies.iter().map(|p| (&p.meta, p.selector.as_ref()));
        let tokens = resources.request_authentications.iter().map(|a| (&a.meta, a.selector.as_ref()));
        let keys = resources.api_key_authentications.iter().map(|a| (&a.meta, a.selector.as_ref()));
        let all = policies.chain(tokens).chain(keys);
        let documents: Vec<Selecting<'a>> = all.filter_map(|(meta, selector)| Some((meta, selector?))).collect();
        let mut by_label: HashMap<_, Vec<usize>> = HashMap::new();
        for (index, (meta, selector)) in documents.iter().enumerate() {
            for (name, value) in &selector.match_labels {
                let key = (meta.namespace.as_str(), name.as_str(), value.as_str());
                by_label.entry(key).or_default().push(index);
            }
        }
        Self { documents, by_label, of_unknown_workloads: OnceCell::new() }
    }

    /// The documents of these namespaces that select by one of these labels, each once and in their order.
    pub(super) fn sharing_a_label<'s>(
        &'s self,
        namespaces: [&'s str; 2],
        labels: &'s BTreeMap<&'s str, &'s str>,
    ) -> impl Iterator<Item = Selecting<'a>> + 's {
        let keys = namespaces
            .into_iter()
            .flat_map(move |namespace| labels.iter().map(move |(name, value)| (namespace, *name, *value)));
        let found: BTreeSet<usize> = keys.filter_map(|key| self.by_label.get(&key)).flatten().copied().collect();
        found.into_iter().filter_map(|index| self.documents.get(index).copied())
    }

    /// The documents of these namespaces that select some of the workloads with these labels, and not all of them.
    pub(super) fn of_some(&self, namespaces: [&str; 2], workloads: &[BTreeMap<String, String>]) -> Vec<Selecting<'a>> {
        if workloads.len() < 2 {
            return Vec::new();
        }
        let keys = namespaces.into_iter().flat_map(|namespace| {
            let labels = workloads.iter().flatten();
            labels.map(move |(name, value)| (namespace, name.as_str(), value.as_str()))
        });
        let found: BTreeSet<usize> = keys.filter_map(|key| self.by_label.get(&key)).flatten().copied().collect();
        let found = found.into_iter().filter_map(|index| self.documents.get(index).copied());
        found
            .filter(|(_, selector)| {
                let selected = workloads.iter().filter(|labels| selector.selects(labels)).count();
                (1..workloads.len()).contains(&selected)
            })
            .collect()
    }

    /// The documents that select by a label of which no document says that a workload in their reach has it.
    pub(super) fn of_unknown_workloads(&self, resources: &'a Resources) -> &[Selecting<'a>] {
        self.of_unknown_workloads.get_or_init(|| {
            let services = resources.services.iter().map(|service| (&service.meta.namespace, &service.selector));
            let entries = resources.service_entries.iter().map(|entry| (&entry.meta.namespace, &entry.meta.labels));
            let outside = resources.workload_entries.iter();
            let outside = outside.map(|entry| (&entry.meta.namespace, &entry.endpoint.labels));
            let endpoints = resources.service_entries.iter().flat_map(|entry| {
                let selected = entry.workload_selector.iter().map(|selector| &selector.match_labels);
                let labels = entry.endpoints.iter().map(|endpoint| &endpoint.labels).chain(selected);
                labels.map(|labels| (&entry.meta.namespace, labels))
            });
            let gateways = resources.api_gateways.iter().map(|api| (&api.workload.namespace, &api.workload.labels));
            // The empty namespace stands for any.
            let known: HashSet<(&str, &str, &str)> =
                (services.chain(entries).chain(endpoints).chain(outside).chain(gateways))
                    .flat_map(|(namespace, labels)| labels.iter().map(move |(name, value)| (namespace, name, value)))
                    .flat_map(|(namespace, name, value)| {
                        [namespace, ""].map(|namespace| (namespace, name.as_str(), value.as_str()))
                    })
                    .collect();
            let is_unknown = |(meta, selector): &&Selecting<'a>| {
                let everywhere = meta.namespace == resources.mesh.root_namespace;
                let namespace = if everywhere { "" } else { meta.namespace.as_str() };
                selector.match_labels.iter().any(|(name, value)| !known.contains(&(namespace, name, value)))
            };
            self.documents.iter().filter(is_unknown).copied().collect()
        })
    }
}
