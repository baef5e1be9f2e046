//! One row of the comparison: documents, services, and what the application does.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;

use crate::client::Call;
use crate::upstream::{Notes, Script, Speaks, Step, Upstream};

/// What the application does next.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// A request, to its end.
    Call(Call),
    /// The same in the background, until a service has it.
    Open(Call),
    /// So many at once, until the first of them is over; the others go on in the background.
    Race(usize, Call),
    /// Lets the services answer whose step is [`Step::Gated`], and waits for all answers.
    Release,
    /// Waits until Envoy leaves so many services out.
    LeftOut(usize),
}

/// A row.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// The `http` of the VirtualService of `HOST`.
    http: Option<String>,
    /// The `trafficPolicy` of the DestinationRule of `HOST`.
    policy: Option<String>,
    /// The services behind `HOST`, each a subset of its own name.
    endpoints: Vec<&'static str>,
    /// How the services behind `HOST` are spoken to, as a ServiceEntry names it.
    protocol: &'static str,
    closed: Vec<&'static str>,
    scripts: BTreeMap<&'static str, Vec<Step>>,
    pub(crate) acts: Vec<Act>,
    /// Which service behind `HOST` gets a request is left to chance.
    pub(crate) by_chance: bool,
    /// The lines that differ, as [`crate::compare`] has them with stars, why, and whether they always do.
    pub(crate) unlike: Vec<(&'static [&'static str], &'static str, bool)>,
    /// Whether Envoy believes its client (`PILOT_SIDECAR_USE_REMOTE_ADDRESS`).
    pub(crate) trusting: bool,
    /// How many requests the services get at least, where some go aside.
    pub(crate) wanted: Option<usize>,
    /// Mesh mutual TLS, and the SPIFFE ID that the service shows.
    pub(crate) mesh: Option<&'static str>,
}

impl Row {
    pub(crate) fn new(name: &'static str) -> Row {
        Row {
            name,
            http: None,
            policy: None,
            endpoints: vec!["v1"],
            protocol: "HTTP",
            closed: Vec::new(),
            scripts: BTreeMap::new(),
            acts: Vec::new(),
            by_chance: false,
            unlike: Vec::new(),
            trusting: false,
            wanted: None,
            mesh: None,
        }
    }

    /// The `http` of its VirtualService; `HOST` stands for the row's own host, `b.HOST` and `c.HOST` for others.
    pub(crate) fn http(mut self, http: &str) -> Row {
        self.http = Some(http.to_owned());
        self
    }

    /// The `trafficPolicy` of `HOST`.
    pub(crate) fn policy(mut self, policy: &str) -> Row {
        self.policy = Some(policy.to_owned());
        self
    }

    /// Several services behind `HOST`.
    pub(crate) fn endpoints(mut self, endpoints: &[&'static str]) -> Row {
        self.endpoints = endpoints.to_vec();
        self
    }

    pub(crate) fn protocol(mut self, protocol: &'static str) -> Row {
        self.protocol = protocol;
        self
    }

    /// Nobody listens there.
    pub(crate) fn closed(mut self, name: &'static str) -> Row {
        self.closed.push(name);
        self
    }

    /// What a service does, request by request; the last step is for all further ones. `any` is all of those behind
    /// `HOST` together: the first that is asked does the first step.
    pub(crate) fn script(mut self, name: &'static str, steps: &[Step]) -> Row {
        self.scripts.insert(name, steps.to_vec());
        self
    }

    pub(crate) fn call(mut self, call: Call) -> Row {
        self.acts.push(Act::Call(call));
        self
    }

    pub(crate) fn calls(mut self, calls: impl IntoIterator<Item = Call>) -> Row {
        self.acts.extend(calls.into_iter().map(Act::Call));
        self
    }

    /// Plain GETs.
    pub(crate) fn gets(self, paths: &[&str]) -> Row {
        self.calls(paths.iter().map(|path| Call::new("GET", path)))
    }

    pub(crate) fn open(mut self, call: Call) -> Row {
        self.acts.push(Act::Open(call));
        self
    }

    pub(crate) fn race(mut self, count: usize, call: Call) -> Row {
        self.acts.push(Act::Race(count, call));
        self
    }

    pub(crate) fn release(mut self) -> Row {
        self.acts.push(Act::Release);
        self
    }

    pub(crate) fn by_chance(mut self) -> Row {
        self.by_chance = true;
        self
    }

    /// These lines differ, and are to go from here when they do no more.
    pub(crate) fn unlike(mut self, lines: &'static [&'static str], reason: &'static str) -> Row {
        self.unlike.push((lines, reason, true));
        self
    }

    /// These lines may differ or not.
    pub(crate) fn may_differ(mut self, lines: &'static [&'static str], reason: &'static str) -> Row {
        self.unlike.push((lines, reason, false));
        self
    }

    pub(crate) fn trusting(mut self) -> Row {
        self.trusting = true;
        self
    }

    /// Waits until Envoy leaves so many services out: it decides that aside.
    pub(crate) fn left_out(mut self, count: usize) -> Row {
        self.acts.push(Act::LeftOut(count));
        self
    }

    /// Waits until the services have got so many requests.
    pub(crate) fn wanted(mut self, count: usize) -> Row {
        self.wanted = Some(count);
        self
    }

    pub(crate) fn mesh(mut self, shown: &'static str) -> Row {
        self.mesh = Some(shown);
        self
    }

    /// Its host: the row's number, and not its name, so that no name is too long.
    pub(crate) fn host(&self, number: usize) -> String {
        format!("r{number}.example")
    }

    fn names(&self) -> Vec<&'static str> {
        let mut names = self.endpoints.clone();
        names.extend(["b", "c", "alt"]);
        names
    }

    /// Starts its services.
    pub(crate) async fn start(&self, notes: &Arc<Notes>, tls: Option<TlsAcceptor>) -> std::io::Result<Vec<Upstream>> {
        let mut upstreams = Vec::new();
        let shared = self.scripts.get("any").map(|steps| Script::new(steps));
        for name in self.names() {
            let is_first = self.endpoints.contains(&name);
            let is_http2 = self.protocol != "HTTP" || self.policy.as_ref().is_some_and(|text| text.contains("UPGRADE"));
            let speaks = match &tls {
                _ if self.closed.contains(&name) => Speaks::Nobody,
                Some(acceptor) if is_first => Speaks::Tls(acceptor.clone()),
                _ if is_http2 && is_first => Speaks::Http2,
                _ => Speaks::Http1,
            };
            let own = || Script::new(self.scripts.get(name).map_or(&[], Vec::as_slice));
            let script = shared.clone().filter(|_| is_first).unwrap_or_else(own);
            upstreams.push(Upstream::start(name, speaks, script, notes).await?);
        }
        Ok(upstreams)
    }

    /// Its documents.
    pub(crate) fn documents(&self, number: usize, upstreams: &[Upstream]) -> String {
        let host = self.host(number);
        let port = |name: &str| upstreams.iter().find(|one| one.name == name).map_or(1, |one| one.address.port());
        let alt = port("alt");
        let (location, names) = match self.mesh {
            Some(_) => ("MESH_INTERNAL", format!("  subjectAltNames: [{}]\n", crate::mesh::RATINGS)),
            None => ("MESH_EXTERNAL", String::new()),
        };
        let endpoints = self.endpoints.iter().map(|name| {
            format!(
                "  - {{ address: 127.0.0.1, ports: {{ first: {}, alt: {alt} }}, labels: {{ version: {name} }} }}\n",
                port(name)
            )
        });
        let endpoints: String = endpoints.collect();
        let mut text = format!(
            "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: r{number}, namespace: shop }}
spec:
  hosts: [{host}]
  location: {location}
  resolution: STATIC
  ports: [{{ number: 80, name: first, protocol: {} }}, {{ number: 8080, name: alt, protocol: HTTP }}]
  endpoints:
{endpoints}{names}---
",
            self.protocol
        );
        for other in ["b", "c"] {
            text.push_str(&format!(
                "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: {other}-r{number}, namespace: shop }}
spec:
  hosts: [{other}.{host}]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{{ number: 80, name: first, protocol: HTTP }}]
  endpoints: [{{ address: 127.0.0.1, ports: {{ first: {} }} }}]
---
",
                port(other)
            ));
        }
        let subsets = self.endpoints.iter().map(|name| format!("{{ name: {name}, labels: {{ version: {name} }} }}"));
        let subsets: Vec<String> = subsets.collect();
        let policy = self.policy.as_ref().map(|policy| format!("  trafficPolicy:\n{policy}\n")).unwrap_or_default();
        text.push_str(&format!(
            "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{ name: r{number}, namespace: shop }}
spec:
  host: {host}
{policy}  subsets: [{}]
---
",
            subsets.join(", ")
        ));
        if let Some(http) = &self.http {
            text.push_str(&format!(
                "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: r{number}, namespace: shop }}
spec:
  hosts: [{host}]
  http:
{http}
---
"
            ));
        }
        text.replace("HOST", &host)
    }
}
