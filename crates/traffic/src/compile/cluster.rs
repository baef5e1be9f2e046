//! The destinations: what Envoy calls clusters.

use std::collections::HashMap;

use istio::{H2UpgradePolicy, LoadBalancerPolicy, Meta, Resources, Subset};

use super::labels::Labels;
use super::policy::{Policy, effective};
use super::registry::{Port, Registry, Service, Source};
use super::report::Report;
use super::rules::{Rule, Rules};
use super::{balance, endpoint, hostname, pool, tls};
use crate::table::{Cluster, Endpoint, Protocol, Resolution, Tls};

/// Who calls.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client<'a> {
    /// Empty for every namespace without rules of its own.
    pub(super) namespace: &'a str,
    /// At least these.
    pub(super) labels: &'a Labels,
}

/// A destination of a route.
#[derive(Debug)]
pub(super) enum Found {
    /// It can be reached.
    Alive(u32),
    /// There is nothing there, so that requests are answered 503, as in the mesh; and why.
    Dead(u32, String),
    /// It cannot be what was meant; and why.
    Wrong(String),
}

/// All clusters so far: views share them.
#[derive(Debug)]
pub(super) struct Clusters<'a, 'r> {
    resources: &'a Resources,
    registry: &'r Registry<'a>,
    rules: &'r Rules<'a>,
    table: Vec<Cluster>,
    by_name: HashMap<String, Vec<u32>>,
    known: HashMap<(usize, u16, String, Option<usize>), u32>,
}

impl<'a, 'r> Clusters<'a, 'r> {
    pub(super) fn new(resources: &'a Resources, registry: &'r Registry<'a>, rules: &'r Rules<'a>) -> Clusters<'a, 'r> {
        Clusters { resources, registry, rules, table: Vec::new(), by_name: HashMap::new(), known: HashMap::new() }
    }

    pub(super) fn into_table(self) -> Vec<Cluster> {
        self.table
    }

    /// Whether requests there can arrive anywhere.
    pub(super) fn is_alive(&self, cluster: u32) -> bool {
        let cluster = usize::try_from(cluster).ok().and_then(|place| self.table.get(place));
        cluster.is_some_and(|cluster| cluster.resolution == Resolution::Original || !cluster.endpoints.is_empty())
    }

    /// What endpoints of the cluster are chosen by.
    pub(super) fn is_hashed(&self, cluster: u32) -> bool {
        let cluster = usize::try_from(cluster).ok().and_then(|place| self.table.get(place));
        cluster.is_some_and(|cluster| matches!(cluster.balance.policy, crate::table::BalancePolicy::Hash(..)))
    }

    /// A cluster that leads nowhere: in the mesh it would be one that Envoy does not have.
    pub(super) fn dead(&mut self, host: &str, port: u16, subset: &str) -> u32 {
        self.intern(Cluster {
            name: name(host, port, subset),
            host: host.to_owned(),
            port,
            subset: subset.to_owned(),
            ..Cluster::default()
        })
    }

    /// The destination that a client gets for a port of a service, without a subset.
    pub(super) fn of_service(&mut self, client: &Client<'_>, service: usize, port: u16, report: &mut Report) -> u32 {
        let rule = self.rule(client, service);
        self.cluster(service, port, rule, None, report)
    }

    /// As [`of_service`](Self::of_service), for a subset.
    pub(super) fn of_subset(
        &mut self,
        client: &Client<'_>,
        (service, port, subset): (usize, u16, &str),
        report: &mut Report,
    ) -> Found {
        let rule = self.rule(client, service);
        let host = &self.registry.services[service].host;
        let known = rule.and_then(|rule| rule.subsets.iter().copied().find(|known| known.name == *subset));
        let Some(known) = known else {
            let text = format!("found the subset {subset:?}, which no DestinationRule of {host} has");
            if self.is_subset_anywhere(host, subset) {
                let dead = self.dead(&self.registry.services[service].host, port, subset);
                return Found::Dead(dead, format!("{text} that clients here see; requests there are answered 503"));
            }
            return Found::Wrong(format!("{text}, expected one of its spec.subsets"));
        };
        let whole = self.cluster(service, port, rule, None, report);
        let cluster = self.cluster(service, port, rule, Some(known), report);
        match (self.is_alive(whole), self.is_alive(cluster)) {
            (_, true) => Found::Alive(cluster),
            (false, false) => Found::Dead(cluster, self.unreachable(service, port)),
            (true, false) => Found::Wrong(format!(
                "no endpoint of {host} has the labels of the subset {subset:?}, expected at least one (a gateway's endpoint needs the labels of the subsets that it leads to)"
            )),
        }
    }

    /// Why a destination is dead.
    pub(super) fn unreachable(&self, service: usize, port: u16) -> String {
        let service = &self.registry.services[service];
        let host = &service.host;
        let why = match service.source {
            Source::Kubernetes(_) => "exists inside the cluster only, and no ServiceEntry of it has endpoints",
            Source::Entry(..) => "has no endpoint: no WorkloadEntry is selected",
        };
        format!("{host}:{port} {why}; requests there are answered 503")
    }

    fn is_subset_anywhere(&self, host: &str, subset: &str) -> bool {
        self.resources.destination_rules.iter().any(|rule| {
            let of = hostname::full(&rule.host, &rule.meta.namespace);
            hostname::is_covered(host, &of) && rule.subsets.iter().any(|known| known.name == *subset)
        })
    }

    fn rule(&self, client: &Client<'_>, service: usize) -> Option<&'r Rule<'a>> {
        let rules = self.rules;
        let service = &self.registry.services[service];
        rules.find((client.namespace, client.labels), &service.host, service.namespace)
    }

    fn cluster(
        &mut self,
        service: usize,
        port: u16,
        rule: Option<&'r Rule<'a>>,
        subset: Option<&'a Subset>,
        report: &mut Report,
    ) -> u32 {
        let subset_name = subset.map_or("", |subset| subset.name.as_str());
        let key = (service, port, subset_name.to_owned(), rule.map(|rule| rule.id));
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let registry = self.registry;
        let of = &registry.services[service];
        let made = of.ports.get(&port).and_then(|settings| self.make(of, (port, settings), rule, subset, report));
        let index = match made {
            Some(cluster) => self.intern(cluster),
            None => self.dead(&of.host, port, subset_name),
        };
        self.known.insert(key, index);
        index
    }

    /// `None` where it is refused, or exists inside the cluster only.
    fn make(
        &self,
        service: &Service<'a>,
        (number, port): (u16, &Port),
        rule: Option<&Rule<'a>>,
        subset: Option<&'a Subset>,
        report: &mut Report,
    ) -> Option<Cluster> {
        let Source::Entry(entry, workloads) = &service.source else { return None };
        let mesh = &self.resources.mesh;
        let policy = effective(rule, subset, number);
        let subset_name = subset.map_or("", |subset| subset.name.as_str());
        let none = Labels::new();
        let labels = subset.map_or(&none, |subset| &subset.labels);
        let (resolution, endpoints) = match policy.load_balancer.map(|settings| &settings.policy) {
            Some(LoadBalancerPolicy::Passthrough) => (Resolution::Original, Vec::new()),
            _ => {
                let found = endpoint::endpoints(entry, workloads, &service.host, port, labels);
                (endpoint::resolution(entry), said(found, &entry.meta, report)?)
            }
        };
        let peer = tls::Peer {
            mesh,
            entry,
            workloads,
            is_internal: service.is_internal(),
            host: &service.host,
            port: number,
            subset: subset_name,
        };
        // Nothing is sent where there is no endpoint, so nobody need be expected there.
        let is_dead = resolution != Resolution::Original && endpoints.is_empty();
        let tls = if is_dead { Ok(Tls::Plaintext) } else { tls::tls(&peer, policy.tls) };
        let tls = tls.map_err(|problem| {
            let (meta, kind) = tls::place(&problem, rule.map(|rule| rule.meta), &entry.meta);
            report.error(meta, kind, &problem.text);
        });
        let outlier = policy.outlier_detection.map(pool::outlier);
        Some(Cluster {
            name: name(&service.host, number, subset_name),
            host: service.host.clone(),
            port: number,
            subset: subset_name.to_owned(),
            protocol: protocol(port.protocol, &policy),
            tls: tls.ok()?,
            resolution,
            endpoints,
            balance: balance::balance(policy.load_balancer, mesh, outlier.is_some()),
            outlier,
            pool: pool::pool(&policy, mesh),
        })
    }

    fn intern(&mut self, cluster: Cluster) -> u32 {
        let places = self.by_name.entry(cluster.name.clone()).or_default();
        let known = places.iter().find(|place| {
            let known = usize::try_from(**place).ok().and_then(|place| self.table.get(place));
            known == Some(&cluster)
        });
        if let Some(known) = known {
            return *known;
        }
        let index = u32::try_from(self.table.len()).unwrap_or(u32::MAX);
        places.push(index);
        self.table.push(cluster);
        index
    }
}

/// As Istio names it (`BuildSubsetKey`).
fn name(host: &str, port: u16, subset: &str) -> String {
    format!("outbound|{port}|{subset}|{host}")
}

fn said(found: Result<Vec<Endpoint>, String>, meta: &Meta, report: &mut Report) -> Option<Vec<Endpoint>> {
    found.map_err(|problem| report.error(meta, "ServiceEntry", &problem)).ok()
}

/// `useClientProtocol` goes before `h2UpgradePolicy`; bytes stay bytes.
fn protocol(of_port: Protocol, policy: &Policy<'_>) -> Protocol {
    let Some(pool) = policy.connection_pool.filter(|_| of_port != Protocol::Tcp) else { return of_port };
    match pool.h2_upgrade_policy {
        _ if pool.use_client_protocol => Protocol::Client,
        Some(H2UpgradePolicy::Upgrade) => Protocol::Http2,
        _ => of_port,
    }
}
