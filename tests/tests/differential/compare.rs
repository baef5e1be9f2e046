//! Both answers to one request, and whether they are the same.

use std::collections::BTreeMap;
use std::net::IpAddr;

use authz::claims::{Json, TOKEN_LIMITS};
use authz::{CompileOptions, Given, KeySets, Mode, Peer, Policies, ProviderAnswer, Request, Target};
use istio::Resources;
use serde_json::Value;

use crate::call::{Answer, Call, PROBE, Seen, Wire};
use crate::translate::{Setup, Workload};

/// `authz` with one set of policies.
pub struct Ours {
    policies: Policies,
    keys: KeySets,
    target: Target,
}

impl Ours {
    /// Compiles a set of policies.
    pub fn new(setup: &Setup, workload: &Workload) -> Result<Self, String> {
        let resources = Resources {
            authorization_policies: setup.policies.clone(),
            request_authentications: setup.authentications.clone(),
            mesh: setup.mesh.clone(),
            ..Resources::default()
        };
        let options = CompileOptions { mode: Mode::Istio, ..CompileOptions::default() };
        let compiled = authz::compile(&resources, &options)
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
        let policies = Policies::open(&compiled.section).map_err(|error| error.to_string())?;
        let keys = KeySets::embedded(&policies).map_err(|error| error.to_string())?;
        let labels = workload.labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let target = Target::Workload { namespace: workload.namespace.clone(), labels, environment: None };
        Ok(Self { policies, keys, target })
    }

    /// What `authz` answers.
    pub fn ask(&self, call: &Call, wire: &Wire, now: u64) -> Answer {
        // The codec takes the white space around a value off: `Bearer ` is `Bearer` by the time a front sees it.
        let lower =
            |(name, value): &(String, String)| (name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned());
        let headers: Vec<(String, String)> = wire.headers.iter().map(lower).collect();
        let mut providers = BTreeMap::new();
        for provider in ["one", "two", "three"] {
            let name = format!("x-custom-{provider}");
            let said = headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
            let answer = match said {
                Some("deny") => ProviderAnswer::Deny,
                Some("error") => ProviderAnswer::Error,
                _ => ProviderAnswer::Allow,
            };
            providers.insert(provider.to_owned(), answer);
        }
        let request = Request {
            method: call.method.clone(),
            scheme: if call.principal.is_some() { "https" } else { "http" }.to_owned(),
            host: call.host.clone(),
            path: wire.path.clone(),
            headers,
            source: Peer {
                ip: Some(IpAddr::V4(call.source_ip)),
                remote_ip: Some(call.remote_ip),
                principal: call.principal.clone(),
            },
            destination_ip: Some(call.destination_ip),
            destination_port: Some(call.destination_port),
            sni: Some(call.sent_sni().to_owned()),
            client_certificate: None,
            dynamic_metadata: Some(metadata(call)),
            ..Request::default()
        };
        let given = Given {
            keys: &self.keys,
            api_key: None,
            pepper: None,
            revocations: authz::Revocations::NotKept,
            providers: Some(&providers),
            verified: None,
            now,
        };
        let decision = authz::decide(&self.policies, &request, &self.target, &given);
        let why = match &decision {
            authz::Decision::Allow(_) => format!("{} {:?}", decision.reason(), decision.policy()),
            authz::Decision::Deny(deny) => format!("{} {:?} {}", deny.reason, deny.policy, deny.detail),
        };
        let seen = match &decision {
            authz::Decision::Allow(allow) => {
                Some(Seen::new(Some(allow.upstream_path().to_owned()), allow.upstream_headers().to_vec()))
            }
            authz::Decision::Deny(_) => None,
        };
        Answer { status: decision.status(), seen, why }
    }
}

/// The metadata as a front gives it: a filter that said nothing is not in it.
fn metadata(call: &Call) -> Vec<(String, Json)> {
    let members: serde_json::Map<String, Value> = call.metadata.iter().cloned().collect();
    if members.is_empty() {
        return Vec::new();
    }
    let text = Value::Object(members).to_string();
    vec![(PROBE.to_owned(), Json::parse(text.as_bytes(), TOKEN_LIMITS).unwrap())]
}

/// How the answers differ; `None` when they do not.
pub fn difference(envoy: &Answer, ours: &Answer) -> Option<String> {
    if envoy.status != ours.status {
        return Some(format!("status: Envoy {}, authz {}", envoy.status, ours.status));
    }
    let (Some(theirs), Some(own)) = (&envoy.seen, &ours.seen) else { return None };
    if theirs.headers != own.headers {
        let only = |a: &Seen, b: &Seen| -> Vec<String> {
            a.headers.iter().filter(|line| !b.headers.contains(line)).map(|(n, v)| format!("{n}: {v}")).collect()
        };
        let (envoys, ours) = (only(theirs, own), only(own, theirs));
        return Some(format!("upstream headers: only Envoy's {envoys:?}, only authz' {ours:?}"));
    }
    match (&theirs.path, &own.path) {
        (Some(a), Some(b)) if a != b => Some(format!("upstream path: Envoy {a:?}, authz {b:?}")),
        _ => None,
    }
}

/// The differences that are meant, each as narrow as it can be, with its reason. In none of them does `authz` allow what
/// Envoy denies.
pub fn is_deliberate(setup: &Setup, wire: &Wire, envoy: &Answer, ours: &Answer) -> Option<&'static str> {
    if ours.seen.is_some() {
        return None;
    }
    // With two rules or more, a good token whose header is removed takes the bad ones in the same header
    // with it, so that nobody looks at them any more and Envoy lets the request pass.
    if ours.why.contains("the request has a valid token beside it")
        && setup.authentications.iter().map(|authentication| authentication.jwt_rules.len()).sum::<usize>() > 1
        && header_with_two_tokens(setup, wire)
        && envoy.status != 401
    {
        return Some("a bad token beside a good one is refused");
    }
    // What Envoy makes of the query cannot be sent on: Envoy finds out last of all, `authz` at once.
    if ours.why.starts_with("path_invalid") && ours.why.contains("once the token is taken out") {
        // The answer to HEAD has no body.
        let unsendable = envoy.status == 503 && ["", "invalid header value for: :path"].contains(&envoy.why.as_str());
        return (unsendable || envoy.status == 403).then_some("a query that cannot be sent on is refused");
    }
    None
}

/// Whether the places of the rules find two texts in the lines of one header.
fn header_with_two_tokens(setup: &Setup, wire: &Wire) -> bool {
    let rules = || setup.authentications.iter().flat_map(|authentication| &authentication.jwt_rules);
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    let mut places: Vec<(String, &str)> = rules()
        .flat_map(|rule| &rule.from_headers)
        .map(|header| (header.name.to_ascii_lowercase(), header.prefix.as_str()))
        .collect();
    if rules().any(|rule| rule.from_headers.is_empty() && rule.from_params.is_empty() && rule.from_cookies.is_empty()) {
        places.push(("authorization".to_owned(), "Bearer "));
    }
    places.sort_unstable();
    places.dedup();
    for (name, prefix) in places {
        let lines = wire.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(&name));
        *found.entry(name.clone()).or_default() += lines.filter(|(_, line)| line.contains(prefix)).count();
    }
    found.values().any(|tokens| *tokens > 1)
}
