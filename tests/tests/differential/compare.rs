//! Both answers to one request, and whether they are the same.

use std::collections::BTreeMap;
use std::net::IpAddr;

use authz::{CompileOptions, Given, KeySets, Mode, Peer, Policies, ProviderAnswer, Request, Target};
use istio::Resources;

use crate::call::{Answer, Call, Seen, Wire};
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
            dynamic_metadata: Some(Vec::new()),
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

/// The differences that are meant, each as narrow as it can be, with its reason.
pub fn is_deliberate(setup: &Setup, wire: &Wire, envoy: &Answer, ours: &Answer) -> Option<&'static str> {
    let rules: Vec<_> = setup.authentications.iter().flat_map(|authentication| &authentication.jwt_rules).collect();
    // With two rules or more Envoy lets `[bad, good]` in one token header of one's own pass (facts b11.5), and so too one
    // line that two locations of a rule read with different prefixes.
    let several = rules.iter().any(|rule| {
        let own = rule.from_headers.iter().filter(|header| !header.name.eq_ignore_ascii_case("authorization"));
        own.clone().any(|header| {
            let places = own.clone().filter(|other| other.name.eq_ignore_ascii_case(&header.name)).count();
            let lines = wire.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(&header.name)).count();
            places * lines > 1
        })
    });
    if rules.len() > 1 && several && ours.status == 401 && envoy.status != 401 {
        return Some("a bad token beside a good one is refused");
    }
    None
}
