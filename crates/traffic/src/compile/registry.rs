//! The services that there are: hosts and ports of `ServiceEntry` and of Kubernetes' `Service`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use istio::{ExportTo, Location, Meta, Resources, ServiceEntry, ServicePort, WorkloadEntry, is_visible};

use super::hostname;
use super::report::Report;
use crate::table::Protocol;

/// All services, in the order of the files: Istio takes the older of two, and a file does not say when it was applied.
#[derive(Debug)]
pub(super) struct Registry<'a> {
    /// Named by their places.
    pub(super) services: Vec<Service<'a>>,
    by_host: HashMap<String, Vec<usize>>,
}

/// One host of a document.
#[derive(Debug)]
pub(super) struct Service<'a> {
    /// Full and in lower case; `*.` may lead it.
    pub(super) host: String,
    /// Of its document.
    pub(super) namespace: &'a str,
    /// By number.
    pub(super) ports: BTreeMap<u16, Port>,
    /// Where it comes from.
    pub(super) source: Source<'a>,
    export_to: Vec<ExportTo>,
}

/// The document of a [`Service`].
#[derive(Debug)]
pub(super) enum Source<'a> {
    /// With the `WorkloadEntry` documents that it selects.
    Entry(&'a ServiceEntry, Vec<&'a WorkloadEntry>),
    /// Its address exists inside the cluster only.
    Kubernetes(&'a Meta),
}

/// A port of a [`Service`].
#[derive(Clone, Debug)]
pub(super) struct Port {
    /// Endpoints name theirs after it.
    pub(super) name: String,
    /// What is spoken, before any rule.
    pub(super) protocol: Protocol,
    /// Where endpoints listen that say nothing themselves.
    pub(super) target: u16,
}

impl Port {
    /// Whether requests are routed; otherwise it is bytes.
    pub(super) fn is_http(&self) -> bool {
        self.protocol != Protocol::Tcp
    }
}

impl<'a> Registry<'a> {
    pub(super) fn new(resources: &'a Resources, report: &mut Report) -> Registry<'a> {
        let mut registry = Registry { services: Vec::new(), by_host: HashMap::new() };
        let mut seen: BTreeSet<(String, &str, u16)> = BTreeSet::new();
        for entry in &resources.service_entries {
            let workloads = selected(entry, &resources.workload_entries);
            for host in &entry.hosts {
                let host = host.to_ascii_lowercase();
                if let Err(problem) = hostname::check(&host) {
                    report.error(&entry.meta, "ServiceEntry", &format!("spec.hosts: {problem}"));
                    continue;
                }
                let ports = ports_of(entry);
                for number in ports.keys() {
                    if !seen.insert((host.clone(), &entry.meta.namespace, *number)) {
                        let problem = format!(
                            "spec.hosts: found {host}:{number} in a second ServiceEntry of the namespace, expected one"
                        );
                        report.error(&entry.meta, "ServiceEntry", &problem);
                    }
                }
                registry.add(Service {
                    host,
                    namespace: &entry.meta.namespace,
                    ports,
                    source: Source::Entry(entry, workloads.clone()),
                    export_to: entry.export_to.clone(),
                });
            }
        }
        for service in &resources.services {
            let ports = service.ports.iter().map(|port| {
                let protocol = service_protocol(port);
                (port.port, Port { name: port.name.clone(), protocol, target: port.port })
            });
            registry.add(Service {
                host: hostname::full(&service.meta.name, &service.meta.namespace),
                namespace: &service.meta.namespace,
                ports: ports.collect(),
                source: Source::Kubernetes(&service.meta),
                export_to: exported(&service.meta),
            });
        }
        registry
    }

    fn add(&mut self, service: Service<'a>) {
        self.by_host.entry(service.host.clone()).or_default().push(self.services.len());
        self.services.push(service);
    }

    /// Whether a client of `namespace` may see it.
    pub(super) fn is_visible(&self, service: usize, namespace: &str) -> bool {
        let service = &self.services[service];
        is_visible(&service.export_to, service.namespace, namespace)
    }

    /// Of several documents for one host, those that a client of `namespace` gets: Istio prefers the client's own
    /// namespace, then the oldest. A `ServiceEntry` goes before a `Service`, whose address nobody outside reaches.
    pub(super) fn preferred(&self, candidates: &[usize], namespace: &str) -> Vec<usize> {
        let rank = |place: usize| {
            let service = &self.services[place];
            (matches!(service.source, Source::Kubernetes(_)), service.namespace != namespace)
        };
        let Some(best) = candidates.iter().copied().min_by_key(|place| (rank(*place), *place)) else {
            return Vec::new();
        };
        let of = &self.services[best];
        let alike = |place: &usize| rank(*place) == rank(best) && self.services[*place].namespace == of.namespace;
        candidates.iter().copied().filter(alike).collect()
    }

    /// Of all visible services, those that a client of `namespace` gets, in order.
    pub(super) fn of_each_host(&self, visible: &[usize], namespace: &str) -> Vec<usize> {
        let mut by_host: HashMap<&str, Vec<usize>> = HashMap::new();
        for place in visible {
            by_host.entry(&self.services[*place].host).or_default().push(*place);
        }
        let mut found: Vec<usize> =
            by_host.values().flat_map(|candidates| self.preferred(candidates, namespace)).collect();
        found.sort_unstable();
        found
    }

    /// The namespaces of hosts that documents of several namespaces have, and those that services are exported to.
    pub(super) fn contested(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for places in self.by_host.values() {
            let namespaces: BTreeSet<&str> = places.iter().map(|place| self.services[*place].namespace).collect();
            if namespaces.len() > 1 {
                found.extend(namespaces.into_iter().map(str::to_owned));
            }
        }
        for service in self.services.iter().filter(|service| !service.export_to.is_empty()) {
            if service.export_to.contains(&ExportTo::All) {
                continue;
            }
            found.insert(service.namespace.to_owned());
            found.extend(service.export_to.iter().filter_map(|word| match word {
                ExportTo::Namespace(name) => Some(name.clone()),
                ExportTo::All | ExportTo::Own | ExportTo::Nobody => None,
            }));
        }
        found
    }

    /// Whether an exact host is of one namespace alone.
    pub(super) fn is_only_of(&self, host: &str, namespace: &str) -> bool {
        let places = self.by_host.get(host).map_or(&[][..], Vec::as_slice);
        hostname::wildcard(host).is_none() && places.iter().all(|place| self.services[*place].namespace == namespace)
    }

    /// The documents for an exact host that is a destination of a client of `namespace`, which need not be among the
    /// hosts of its `Sidecar`: "the services that virtual services route to are imported too".
    pub(super) fn destination(&self, host: &str, namespace: &str) -> Vec<usize> {
        let known = self.by_host.get(host).map_or(&[][..], Vec::as_slice);
        let visible: Vec<usize> = known.iter().copied().filter(|place| self.is_visible(*place, namespace)).collect();
        self.preferred(&visible, namespace)
    }
}

impl Service<'_> {
    /// The document's metadata and kind.
    pub(super) fn document(&self) -> (&Meta, &'static str) {
        match &self.source {
            Source::Entry(entry, _) => (&entry.meta, "ServiceEntry"),
            Source::Kubernetes(meta) => (meta, "Service"),
        }
    }

    /// Whether it is part of the mesh.
    pub(super) fn is_internal(&self) -> bool {
        match &self.source {
            Source::Entry(entry, _) => entry.location == Location::MeshInternal,
            Source::Kubernetes(_) => true,
        }
    }
}

fn ports_of(entry: &ServiceEntry) -> BTreeMap<u16, Port> {
    let ports = entry.ports.iter().map(|port| {
        let target = entry.target_ports.get(&port.number).copied().unwrap_or(port.number);
        (port.number, Port { name: port.name.clone(), protocol: protocol(&port.protocol), target })
    });
    ports.collect()
}

/// The `WorkloadEntry` documents of the entry's namespace that it selects.
fn selected<'a>(entry: &ServiceEntry, workloads: &'a [WorkloadEntry]) -> Vec<&'a WorkloadEntry> {
    let Some(selector) = &entry.workload_selector else { return Vec::new() };
    let of_namespace = workloads.iter().filter(|workload| workload.meta.namespace == entry.meta.namespace);
    of_namespace.filter(|workload| selector.selects(&super::endpoint::labels_of(workload))).collect()
}

/// The ports whose servers speak first, or whose clients a look at the first bytes would break: Istio's `wellKnownPorts`,
/// SMTP, DNS, MySQL and MongoDB.
const SERVER_FIRST: [u16; 4] = [25, 53, 3306, 27017];

/// The protocol of a port of Kubernetes' `Service`, as Istio's `ConvertProtocol` has it: `appProtocol`, or else what stands
/// before the first hyphen of the name.
fn service_protocol(port: &ServicePort) -> Protocol {
    let word = match port.app_protocol.as_deref() {
        Some("kubernetes.io/h2c") => return Protocol::Http2,
        Some("kubernetes.io/ws") => return Protocol::Http1,
        Some("kubernetes.io/wss") => return Protocol::Tcp,
        Some(word) => word,
        None => &port.name,
    };
    // "Check if the port name prefix is "grpc-web". Need to do this before the general prefix check below, since it
    // contains a hyphen."
    let is_web = word.get(.."grpc-web".len()).is_some_and(|start| start.eq_ignore_ascii_case("grpc-web"));
    let word = if is_web { "grpc-web" } else { word.split('-').next().unwrap_or_default() };
    match protocol(word) {
        // "Make TCP as default protocol for well know ports if protocol is not specified."
        Protocol::Client if SERVER_FIRST.contains(&port.port) => Protocol::Tcp,
        protocol => protocol,
    }
}

/// What Istio makes of a word for a protocol. One that it does not know is no error: the proxy looks at the first bytes,
/// so that the client's protocol goes on.
fn protocol(word: &str) -> Protocol {
    match word.to_ascii_lowercase().as_str() {
        "http" | "http_proxy" => Protocol::Http1,
        "http2" | "grpc" | "grpc-web" => Protocol::Http2,
        "tcp" | "tls" | "https" | "mongo" | "redis" | "mysql" | "udp" => Protocol::Tcp,
        _ => Protocol::Client,
    }
}

/// The annotation by which a `Service` says who sees it.
fn exported(meta: &Meta) -> Vec<ExportTo> {
    let words = meta.annotations.get("networking.istio.io/exportTo").map_or("", String::as_str);
    let words = words.split(',').map(str::trim).filter(|word| !word.is_empty());
    let word = |word: &str| match word {
        "*" => ExportTo::All,
        "." => ExportTo::Own,
        "~" => ExportTo::Nobody,
        name => ExportTo::Namespace(name.to_owned()),
    };
    words.map(word).collect()
}
