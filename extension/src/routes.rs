//! Which hosts may be called, where they are and who must answer there.
//!
//! Compiled from Istio's `ServiceEntry` and `DestinationRule` when the bundle is made. There is no entry without an
//! expected identity and none in plaintext: what the mesh would send in the clear is refused here, by name.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use identity::SpiffeId;
use istio::{ClientTls, ClientTlsMode, DestinationRule, Location, Resolution, Resources, ServiceEntry, full_host};
use rkyv::rancor;
use rustls_pki_types::ServerName;

/// The most destinations (host and port) of one table.
const MAX_DESTINATIONS: usize = 10_000;

/// The word of a VirtualService's `gateways` that means: for clients inside the mesh, such as this one.
const MESH: &str = "mesh";

/// The egress section of a bundle.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Table {
    trust_domain: String,
    entries: Vec<Entry>,
}

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Entry {
    host: String,
    port: u16,
    sni: String,
    expected: Vec<String>,
    endpoints: Vec<(String, u16)>,
}

/// Where requests for one host and port go.
#[derive(Debug)]
pub struct Destination {
    /// Its place in the table, from 0.
    pub(crate) index: usize,
    /// The mesh host, in lower case.
    pub host: String,
    /// The port that the application names.
    pub port: u16,
    /// The server name of the TLS handshake, which a mesh gateway routes by.
    pub sni: ServerName<'static>,
    /// The identities that may answer; never empty.
    pub expected: Vec<SpiffeId>,
    /// Where to connect: host names or addresses with their ports; never empty.
    pub endpoints: Vec<(String, u16)>,
}

/// The opened egress section of a bundle.
#[derive(Debug)]
pub struct Routes {
    trust_domain: String,
    destinations: BTreeMap<(String, u16), Arc<Destination>>,
}

/// Why an egress section cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "the egress section of the bundle cannot be used: {0}; write the bundle again with the `causeway` of the same release"
)]
pub struct OpenError(String);

impl Routes {
    /// Opens what [`compile`] wrote. The bytes are validated, so that a damaged section is an error and never a
    /// wrong route.
    ///
    /// # Errors
    /// When the bytes are not a whole egress section.
    pub fn open(section: &[u8]) -> Result<Routes, OpenError> {
        // The section lies anywhere in its file, and the archive needs its alignment.
        let mut aligned: rkyv::util::AlignedVec = rkyv::util::AlignedVec::with_capacity(section.len());
        aligned.extend_from_slice(section);
        let table: Table =
            rkyv::from_bytes::<Table, rancor::Error>(&aligned).map_err(|error| OpenError(error.to_string()))?;
        let mut destinations = BTreeMap::new();
        for (index, entry) in table.entries.into_iter().enumerate() {
            let destination = Destination::checked(index, entry).map_err(OpenError)?;
            let key = (destination.host.clone(), destination.port);
            if destinations.insert(key, Arc::new(destination)).is_some() {
                return Err(OpenError("found one host and port twice".to_owned()));
            }
        }
        Ok(Routes { trust_domain: table.trust_domain, destinations })
    }

    /// The destination of a host (in any case, a dot at the end allowed) and port. `None` is the answer for every
    /// host that is not in the configuration: Istio's REGISTRY_ONLY.
    pub fn find(&self, host: &str, port: u16) -> Option<&Arc<Destination>> {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        self.destinations.get(&(host, port))
    }

    /// The mesh's trust domain, as the configuration has it.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// How many destinations there are.
    pub fn len(&self) -> usize {
        self.destinations.len()
    }

    /// True without any destination: every request is answered `unknown_host`.
    pub fn is_empty(&self) -> bool {
        self.destinations.is_empty()
    }
}

impl Destination {
    fn checked(index: usize, entry: Entry) -> Result<Destination, String> {
        let expected: Result<Vec<SpiffeId>, _> = entry.expected.iter().map(|id| id.parse()).collect();
        let expected = expected.map_err(|error| format!("{}: {error}", entry.host))?;
        if expected.is_empty() || entry.endpoints.is_empty() {
            return Err(format!("{}: found no identity or no endpoint, expected both", entry.host));
        }
        let sni = server_name(&entry.sni).map_err(|error| format!("{}: {error}", entry.host))?;
        Ok(Destination { index, host: entry.host, port: entry.port, sni, expected, endpoints: entry.endpoints })
    }
}

/// Compiles the egress section of a bundle. Every problem of the configuration is in the list, each with its place.
///
/// Supported: `ServiceEntry` with exact hosts and ports of protocol HTTP, reached over Istio mutual TLS (location
/// `MESH_INTERNAL`, or a `DestinationRule` with `ISTIO_MUTUAL`), with the expected server identities in
/// `subjectAltNames` of the rule or of the entry. Everything else of the two kinds, and a `VirtualService` that routes
/// requests of mesh clients, is refused by name. A Kubernetes `Service` alone is no egress destination: its address
/// exists inside the cluster only.
///
/// # Errors
/// One line for each problem.
pub fn compile(resources: &Resources) -> Result<Vec<u8>, Vec<String>> {
    let mut compiler = Compiler { resources, entries: BTreeMap::new(), errors: Vec::new() };
    for entry in &resources.service_entries {
        compiler.service_entry(entry);
    }
    compiler.refuse_other_rules();
    compiler.refuse_mesh_routes();
    if compiler.entries.len() > MAX_DESTINATIONS {
        let found = compiler.entries.len();
        compiler.errors.push(format!("found {found} egress destinations, expected at most {MAX_DESTINATIONS}"));
    }
    if !compiler.errors.is_empty() {
        return Err(compiler.errors);
    }
    let table =
        Table { trust_domain: resources.mesh.trust_domain.clone(), entries: compiler.entries.into_values().collect() };
    match rkyv::to_bytes::<rancor::Error>(&table) {
        Ok(bytes) => Ok(bytes.to_vec()),
        Err(error) => Err(vec![format!("the egress table cannot be written: {error}")]),
    }
}

struct Compiler<'a> {
    resources: &'a Resources,
    entries: BTreeMap<(String, u16), Entry>,
    errors: Vec<String>,
}

impl<'a> Compiler<'a> {
    fn service_entry(&mut self, entry: &ServiceEntry) {
        for host in &entry.hosts {
            if let Err(problem) = self.host(entry, &host.to_ascii_lowercase()) {
                self.errors.push(format!("{}: ServiceEntry {}: {problem}", entry.meta.origin, entry.meta.name));
            }
        }
    }

    fn host(&mut self, entry: &ServiceEntry, host: &str) -> Result<(), String> {
        if host.contains('*') {
            return Err(format!(
                "spec.hosts: found {host:?}, expected an exact host (wildcards are not supported yet)"
            ));
        }
        let tls = self.tls(entry, host)?;
        let expected = self.expected(entry, host, tls)?;
        for port in &entry.ports {
            if port.protocol != "HTTP" {
                return Err(format!(
                    "spec.ports: found protocol {} of port {}, expected HTTP (others are not supported for egress yet)",
                    port.protocol, port.number
                ));
            }
            let sni = match tls.and_then(|tls| tls.sni.clone()) {
                Some(sni) => sni,
                // Istio's name for a gateway in AUTO_PASSTHROUGH: direction, port, subset (none) and host.
                None => format!("outbound_.{}_._.{host}", port.number),
            };
            server_name(&sni)?;
            let compiled = Entry {
                host: host.to_owned(),
                port: port.number,
                sni,
                expected: expected.clone(),
                endpoints: endpoints(entry, host, &port.name, port.number)?,
            };
            if self.entries.insert((host.to_owned(), port.number), compiled).is_some() {
                return Err(format!("spec.hosts: found {host}:{} in a second ServiceEntry, expected one", port.number));
            }
        }
        Ok(())
    }

    /// The TLS settings of the host's rule; an error for everything that would leave in the clear.
    fn tls(&self, entry: &ServiceEntry, host: &str) -> Result<Option<&'a ClientTls>, String> {
        let resources = self.resources;
        let mut rules = resources.destination_rules.iter().filter(|rule| rule_host(rule) == host);
        let tls = rules.next().and_then(|rule| rule.traffic_policy.as_ref()).and_then(|policy| policy.tls.as_ref());
        match (tls.map(|tls| tls.mode), entry.location) {
            (Some(ClientTlsMode::IstioMutual), _) | (None, Location::MeshInternal) => Ok(tls),
            (Some(ClientTlsMode::Disable), Location::MeshInternal) => Err(format!(
                "the DestinationRule of {host} says tls.mode DISABLE: plaintext to the mesh is refused, expected ISTIO_MUTUAL"
            )),
            (Some(ClientTlsMode::Simple), _) => Err("tls.mode SIMPLE is not supported yet".to_owned()),
            (Some(ClientTlsMode::Disable) | None, Location::MeshExternal) => Err(format!(
                "{host} is MESH_EXTERNAL over plain http, which is not supported yet: expected MESH_INTERNAL, or a DestinationRule with tls.mode ISTIO_MUTUAL"
            )),
        }
    }

    /// The identities that may answer. Istio: `subjectAltNames` of the DestinationRule "override the value of
    /// subject_alt_names from the ServiceEntry".
    fn expected(&self, entry: &ServiceEntry, host: &str, tls: Option<&ClientTls>) -> Result<Vec<String>, String> {
        let names = match tls {
            Some(tls) if !tls.subject_alt_names.is_empty() => &tls.subject_alt_names,
            _ => &entry.subject_alt_names,
        };
        if names.is_empty() {
            return Err(format!(
                "found no subjectAltNames for {host}, expected the SPIFFE IDs that may answer (an expected identity is required; without one any workload of the mesh could)"
            ));
        }
        let trust_domain = &self.resources.mesh.trust_domain;
        for name in names {
            let id: SpiffeId = name.parse().map_err(|error| format!("subjectAltNames: {name:?}: {error}"))?;
            if id.trust_domain() != trust_domain {
                return Err(format!(
                    "subjectAltNames: found {name:?}, expected the mesh's trust domain {trust_domain} (others are not supported yet)"
                ));
            }
        }
        Ok(names.clone())
    }

    /// Rules that say something about an egress host besides the one rule that was taken.
    fn refuse_other_rules(&mut self) {
        let mut seen = BTreeSet::new();
        for rule in &self.resources.destination_rules {
            let host = rule_host(rule);
            if !self.entries.keys().any(|(known, _)| matches_host(&host, known)) {
                continue;
            }
            let at = format!("{}: DestinationRule {}", rule.meta.origin, rule.meta.name);
            if host.contains('*') {
                self.errors.push(format!(
                    "{at}: spec.host: found {host:?}, expected an exact host (wildcards are not supported for egress yet)"
                ));
            } else if !seen.insert(host.clone()) {
                // Istio merges them by rules of its own; taking one of them would be a guess.
                self.errors.push(format!(
                    "{at}: spec.host: found a second rule for {host}, expected one (merging is not supported yet)"
                ));
            }
        }
    }

    /// A VirtualService for mesh clients would change where a request goes.
    fn refuse_mesh_routes(&mut self) {
        for service in &self.resources.virtual_services {
            if !service.gateways.iter().any(|gateway| gateway == MESH) {
                continue;
            }
            for host in &service.hosts {
                let host = full_host(host, &service.meta.namespace).to_ascii_lowercase();
                let routed = self.entries.keys().find(|(known, _)| matches_host(&host, known));
                if let Some((known, _)) = routed {
                    self.errors.push(format!(
                        "{}: VirtualService {}: spec.gateways: found `mesh` (or none, which means it) with a host that covers {known}; routing rules for egress are not supported yet",
                        service.meta.origin, service.meta.name
                    ));
                }
            }
        }
    }
}

fn rule_host(rule: &DestinationRule) -> String {
    full_host(&rule.host, &rule.meta.namespace).to_ascii_lowercase()
}

/// Whether a VirtualService's host (exact, `*` or `*.suffix`) covers an exact one.
fn matches_host(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) => host.ends_with(suffix),
        None => pattern == host,
    }
}

fn endpoints(entry: &ServiceEntry, host: &str, port_name: &str, port: u16) -> Result<Vec<(String, u16)>, String> {
    if entry.endpoints.is_empty() {
        return match entry.resolution {
            // "If no endpoints are specified, the proxy will resolve the DNS address specified in the hosts field".
            Resolution::Dns => Ok(vec![(host.to_owned(), port)]),
            Resolution::None | Resolution::DnsRoundRobin => Err("this resolution is not supported yet".to_owned()),
            Resolution::Static => {
                Err("spec.endpoints: found none, expected at least one with resolution STATIC".to_owned())
            }
        };
    }
    let mut found = Vec::new();
    for endpoint in &entry.endpoints {
        if entry.resolution == Resolution::Static && endpoint.address.parse::<IpAddr>().is_err() {
            return Err(format!(
                "spec.endpoints: found {:?}, expected an IP address with resolution STATIC",
                endpoint.address
            ));
        }
        let port = endpoint.ports.get(port_name).copied().unwrap_or(port);
        found.push((endpoint.address.to_ascii_lowercase(), port));
    }
    Ok(found)
}

fn server_name(sni: &str) -> Result<ServerName<'static>, String> {
    match ServerName::try_from(sni.to_owned()) {
        Ok(name @ ServerName::DnsName(_)) => Ok(name),
        _ => Err(format!("found the TLS server name {sni:?}, expected a DNS name of at most 253 bytes")),
    }
}

#[cfg(test)]
mod tests {
    use istio::SourceFile;

    use super::*;

    const ENTRY: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: ratings, namespace: bookinfo }
spec:
  hosts: [ratings.bookinfo.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: DNS
  ports:
  - { number: 9080, name: http, protocol: HTTP }
  endpoints:
  - address: eastwest.mesh.example
    ports: { http: 15443 }
  subjectAltNames: [spiffe://cluster.local/ns/bookinfo/sa/bookinfo-ratings]
";

    const RULE: &str = "
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: ratings, namespace: bookinfo }
spec:
  host: ratings
  trafficPolicy:
    tls: { mode: ISTIO_MUTUAL }
";

    fn compiled(yaml: &str) -> Result<Routes, Vec<String>> {
        let file = SourceFile { name: "mesh.yaml".to_owned(), text: yaml.to_owned() };
        let resources = istio::parse(&[file]).expect("the YAML itself is good");
        compile(&resources).map(|bytes| Routes::open(&bytes).expect("what was compiled opens"))
    }

    #[test]
    fn an_entry_gives_gateway_server_name_and_identity() {
        for yaml in [ENTRY.to_owned(), format!("{ENTRY}{RULE}")] {
            let routes = compiled(&yaml).unwrap();
            assert_eq!((routes.len(), routes.trust_domain()), (1, "cluster.local"));
            let found = routes.find("Ratings.bookinfo.svc.cluster.local.", 9080).unwrap();
            assert_eq!(found.endpoints, [("eastwest.mesh.example".to_owned(), 15443)]);
            assert_eq!(found.sni.to_str(), "outbound_.9080_._.ratings.bookinfo.svc.cluster.local");
            assert_eq!(found.expected[0].principal(), "cluster.local/ns/bookinfo/sa/bookinfo-ratings");
            assert!(routes.find("ratings.bookinfo.svc.cluster.local", 80).is_none());
            assert!(routes.find("ratings", 9080).is_none());
        }
    }

    #[test]
    fn the_rules_names_replace_those_of_the_entry() {
        let rule = RULE.replace(
            "{ mode: ISTIO_MUTUAL }",
            "{ mode: ISTIO_MUTUAL, sni: ratings.example, subjectAltNames: [spiffe://cluster.local/ns/a/sa/b] }",
        );
        let routes = compiled(&format!("{ENTRY}{rule}")).unwrap();
        let found = routes.find("ratings.bookinfo.svc.cluster.local", 9080).unwrap();
        assert_eq!(found.sni.to_str(), "ratings.example");
        assert_eq!(found.expected, ["spiffe://cluster.local/ns/a/sa/b".parse().unwrap()]);
    }

    #[test]
    fn without_endpoints_the_host_itself_is_looked_up() {
        let yaml = ENTRY.replace("  endpoints:\n  - address: eastwest.mesh.example\n    ports: { http: 15443 }\n", "");
        let routes = compiled(&yaml).unwrap();
        let found = routes.find("ratings.bookinfo.svc.cluster.local", 9080).unwrap();
        assert_eq!(found.endpoints, [("ratings.bookinfo.svc.cluster.local".to_owned(), 9080)]);
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        let entry = |from: &str, to: &str| {
            assert!(ENTRY.contains(from), "{from}");
            ENTRY.replace(from, to)
        };
        let san = "  subjectAltNames: [spiffe://cluster.local/ns/bookinfo/sa/bookinfo-ratings]\n";
        let mesh_route = |gateways: &str, host: &str| {
            format!(
                "{ENTRY}\n---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{ name: r, namespace: bookinfo }}\nspec:\n  hosts: [\"{host}\"]\n{gateways}  http:\n  - route:\n    - destination: {{ host: ratings }}\n"
            )
        };
        for (name, yaml, expected) in [
            ("plaintext to the mesh", format!("{ENTRY}{}", RULE.replace("ISTIO_MUTUAL", "DISABLE")), "DISABLE"),
            ("external plain http", entry("MESH_INTERNAL", "MESH_EXTERNAL"), "MESH_EXTERNAL"),
            ("another protocol", entry("protocol: HTTP", "protocol: GRPC"), "GRPC"),
            ("no identity", entry(san, ""), "an expected identity is required"),
            (
                "a DNS name as identity",
                entry("spiffe://cluster.local/ns/bookinfo/sa/bookinfo-ratings", "a.example"),
                "a.example",
            ),
            (
                "another trust domain",
                entry("spiffe://cluster.local", "spiffe://other.example"),
                "trust domain cluster.local",
            ),
            ("a wildcard host", entry("[ratings.bookinfo.svc.cluster.local]", "[\"*.example.com\"]"), "wildcards"),
            ("two rules", format!("{ENTRY}{RULE}{}", RULE.replace("name: ratings", "name: second")), "second rule"),
            ("a wildcard rule", format!("{ENTRY}{}", RULE.replace("host: ratings", "host: \"*.local\"")), "wildcards"),
            ("a mesh route", mesh_route("", "ratings"), "routing rules for egress"),
            (
                "a mesh route by wildcard",
                mesh_route("  gateways: [mesh]\n", "*.bookinfo.svc.cluster.local"),
                "routing rules",
            ),
        ] {
            let errors = compiled(&yaml).expect_err(name);
            assert!(errors.iter().any(|e| e.contains(expected) && e.starts_with("mesh.yaml:")), "{name}: {errors:?}");
        }
        // A VirtualService of a gateway does not concern mesh clients.
        assert!(compiled(&mesh_route("  gateways: [bookinfo/public]\n", "ratings")).is_ok());
    }

    #[test]
    fn all_problems_come_at_once() {
        let second = ENTRY
            .replace("name: ratings", "name: second")
            .replace("ratings.bookinfo.svc", "second.bookinfo.svc")
            .replace("MESH_INTERNAL", "MESH_EXTERNAL");
        let first = ENTRY.replace("protocol: HTTP", "protocol: TCP");
        assert_eq!(compiled(&format!("{first}\n---{second}")).unwrap_err().len(), 2);
    }

    #[test]
    fn a_damaged_section_is_an_error() {
        let file = SourceFile { name: "mesh.yaml".to_owned(), text: ENTRY.to_owned() };
        let good = compile(&istio::parse(&[file]).unwrap()).unwrap();
        assert!(Routes::open(&good).is_ok());
        assert!(Routes::open(&[]).is_err());
        assert!(Routes::open(&good[..good.len() - 1]).is_err());
        // No damaged byte may make it panic; most are found here, the others by the bundle's checksum.
        for place in 0..good.len() {
            let mut bad = good.clone();
            bad[place] ^= 0xff;
            let _ = Routes::open(&bad);
        }
    }

    #[test]
    fn no_entry_is_a_table_too() {
        let routes = Routes::open(&compile(&Resources::default()).unwrap()).unwrap();
        assert!(routes.is_empty());
        assert!(routes.find("anything", 80).is_none());
    }
}
