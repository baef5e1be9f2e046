//! One row of the comparison: documents, services, and what the application does.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;

use crate::client::Call;
use crate::upstream::{Notes, Speaks, Step, Upstream};

/// What the application does next.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// A request, to its end.
    Call(Call),
    /// The same in the background, until a service has it.
    Open(Call),
    /// Lets the services answer whose step is [`Step::Gated`], and waits for all answers.
    Release,
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
    /// Fields that this row does not compare, each with a reason.
    pub(crate) unlike: Vec<(Unlike, &'static str)>,
    /// How many requests the services get at least, where some go aside.
    pub(crate) wanted: Option<usize>,
    /// Mesh mutual TLS, and the SPIFFE ID that the service shows.
    pub(crate) mesh: Option<&'static str>,
}

/// What a row leaves out of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unlike {
    /// The number of requests that the services get.
    Tries,
    /// Status, header fields and body of the answer: the wanted status of each side, the extension's first.
    Status(u16, u16),
    /// A header field of the answer.
    Answered(&'static str),
    /// A header field of the request upstream.
    Asked(&'static str),
    /// How a body is framed or whether it is there.
    Body,
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

    /// What a service does, request by request; the last step is for all further ones.
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

    pub(crate) fn release(mut self) -> Row {
        self.acts.push(Act::Release);
        self
    }

    pub(crate) fn by_chance(mut self) -> Row {
        self.by_chance = true;
        self
    }

    pub(crate) fn unlike(mut self, what: Unlike, reason: &'static str) -> Row {
        self.unlike.push((what, reason));
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
        for name in self.names() {
            let is_first = self.endpoints.contains(&name);
            let is_http2 = self.protocol != "HTTP" || self.policy.as_ref().is_some_and(|text| text.contains("UPGRADE"));
            let speaks = match &tls {
                _ if self.closed.contains(&name) => Speaks::Nobody,
                Some(acceptor) if is_first => Speaks::Tls(acceptor.clone()),
                _ if is_http2 && is_first => Speaks::Http2,
                _ => Speaks::Http1,
            };
            let script = self.scripts.get(name).cloned().unwrap_or_default();
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
