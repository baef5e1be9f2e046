//! Policies and requests out of bytes, such that they meet often.

use std::net::IpAddr;

use istio::{
    Action, AuthorizationPolicy, Condition, ConditionKey, ExtensionProvider, IpBlock, MeshConfig, Meta, Operation,
    Origin, Resources, Rule, Source, TargetRef, WorkloadSelector,
};

use super::super::Attributes;
use crate::claims::{Claims, Json, TOKEN_LIMITS};

/// Choices are made by bytes in order; when they run out, the first choice is made.
pub(super) struct Bytes<'a> {
    rest: std::slice::Iter<'a, u8>,
}

impl<'a> Bytes<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes.iter() }
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::from(*self.rest.next().unwrap_or(&0)) % bound.max(1)
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    /// True once in `times`.
    fn chance(&mut self, times: usize) -> bool {
        self.below(times) == 1
    }

    fn texts(&mut self, of: &[&str]) -> Vec<String> {
        let count = [0, 1, 0, 2, 0][self.below(5)];
        (0..count).map(|_| self.one(of).to_owned()).collect()
    }

    fn filled(&mut self, of: &[&str]) -> Vec<String> {
        let count = 1 + self.below(2);
        (0..count).map(|_| self.one(of).to_owned()).collect()
    }
}

const NAMESPACES: [&str; 3] = ["ns1", "istio-system", "ns2"];
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

const PATHS: [&str; 19] = [
    "/a",
    "/a*",
    "*",
    "/b",
    "*b",
    "/a/*/b",
    "/",
    "/a/{*}",
    "/a/{**}/b",
    "/{**}",
    "/{*}/b/",
    "/é*",
    "/a/b/{*}",
    "/a/b*",
    "/a/b/c",
    "/*",
    "/a/b/{*}/d",
    "*/",
    "/A",
];
const REQUEST_PATHS: [&str; 22] = [
    "/a",
    "/a?b",
    "/ab",
    "/b",
    "/a/x/b",
    "/a/*/b",
    "/",
    "/a/x",
    "/a//b",
    "/c",
    "/é",
    "/éb",
    "/a\nb",
    "",
    "/a/x/b/",
    "/a#/b",
    "/a/b/c",
    "/a/b/c/d?x",
    "/a/b/",
    "/x/b/",
    "/a/b=*",
    "/A",
];
const HOSTS: [&str; 9] =
    ["b.example", "B.Example:8080", "*.EXAMPLE", "*", "b.*", "*e", "example", "É.example", "*:8080"];
const REQUEST_HOSTS: [&str; 8] =
    ["b.example", "b.EXAMPLE", "B.example:8080", "example", "", "x.example", "É.Example", "é.example"];
const METHODS: [&str; 5] = ["GET", "P*", "*", "*T", "get"];
const PRINCIPALS: [&str; 16] = [
    "*",
    "cluster.local/ns/ns1/sa/a",
    "*/sa/a",
    "cluster.local/*",
    "td/ns/ns1/sa/a",
    "old/ns/ns1/sa/*",
    "*/ns/ns1/sa/a",
    "x",
    "*d/ns/ns1/sa/a",
    "o*/ns/ns1/sa/a",
    "cluster.local/ns/ns1/sa/a/b",
    "td/ns/*",
    "other/ns/ns1/sa/a",
    "*a",
    "td*",
    "tdé/ns/ns1/sa/a",
];
const PEERS: [Option<&str>; 20] = [
    None,
    Some("td/ns/ns1/sa/a"),
    Some("old/ns/ns1/sa/a"),
    Some("cluster.local/ns/ns1/sa/a"),
    Some("other/ns/ns2/sa/b"),
    Some("td/ns/ns1/x/sa/a"),
    Some("td/ns/ns1/sa/a/b"),
    Some("td/ns/ns1/sa/ab"),
    Some("td/ns/ns1/sa/a\n"),
    Some("ns/ns1/sa/a"),
    Some("td/ns/ns1//sa/a"),
    Some("td/ns/ns1/sa/sa/a"),
    Some("/ns/ns1/sa/a"),
    Some("td\n/ns/ns1/sa/a"),
    Some("tdé/ns/ns1/sa/a"),
    Some("td/ns/ns1/x/sa/sa/a"),
    Some("td/ns/ns1/ns/ns1/sa/a"),
    Some("td/ns/ns1/sa/a/"),
    Some("td/"),
    Some("td/ns/n.1/sa/a"),
];
const PEER_NAMESPACES: [&str; 9] = ["ns1", "n*", "*", "ns2", "n*1", "*a", "n.1", "*s*", "ns1/sa"];
const SERVICE_ACCOUNTS: [&str; 7] = ["a", "ns1/a", "ns2/b", "b", "ns1/ab", "a.b", "ns1/sa"];
const TRUST_DOMAINS: [&str; 11] = ["*", "td", "old", "*d", "t*", "other", "cluster.local", "t*d", "ns", "*é", "o*d*"];
/// Conditions may have a slash in a trust domain.
const CONDITION_TRUST_DOMAINS: [&str; 4] = ["td/ns", "*d/ns", "*", "td"];
const REQUEST_PRINCIPALS: [&str; 13] =
    ["*", "i/*", "i/s", "*s", "i*", "*/s", "i", "i/s*", "*i/s", "https://i/s", "https://i*", "i/", "*/"];
const ADDRESSES: [&str; 8] =
    ["10.0.0.1", "10.0.0.0/8", "0.0.0.0/0", "2001:db8::/32", "::/0", "::ffff:10.0.0.1", "10.0.0.9/31", "2001:db8::1"];
const REQUEST_ADDRESSES: [Option<&str>; 7] = [
    None,
    Some("10.0.0.1"),
    Some("10.0.0.8"),
    Some("11.0.0.1"),
    Some("2001:db8::1"),
    Some("::ffff:10.0.0.1"),
    Some("::1"),
];
const WORDS: [&str; 11] = ["a", "b", "*", "a*", "*b", "[a]", "[*]", "[*b]", "é", "a b", "[[a*]]"];
const SNI: [&str; 5] = ["a.example", "*", "*.example", "a.*", "A.example"];
const LINES: [&str; 9] = ["a", "b", "ab", "", "a,b", "é", "a\nb", "B", "[a]"];

const CLAIMS: [Option<&str>; 12] = [
    None,
    Some(r#"{"iss":"i","sub":"s","aud":["a","x"],"azp":"b","scope":"a ab","o":{"k":["é","a"],"n":1}}"#),
    Some(r#"{"iss":"i","sub":"s","aud":"a","scope":" ","permission":"b a","o":{"k":"a b"}}"#),
    Some(r#"{"iss":"i","sub":"","aud":7,"azp":null,"scope":["a b"],"o":{"k":{"k":"a"}}}"#),
    Some(r#"{"iss":"https://i","sub":"s","o":"a"}"#),
    Some(r#"{"iss":"xi","sub":"s\n","aud":"a\nb","scope":""}"#),
    Some(r#"{"iss":"i"}"#),
    Some(r#"{"sub":"s"}"#),
    Some(r#"{"iss":"","sub":"s","o":{"k":[]}}"#),
    Some(r#"{"iss":["i"],"sub":"s"}"#),
    Some(r#"{"iss":"i","sub":"a/s"}"#),
    Some(r#"{"iss":"https:/","sub":"i","permission":"a\tb"}"#),
];
const METADATA: [Option<&str>; 6] = [
    None,
    Some(r#"{"k":"a","l":["a","xb"]}"#),
    Some(r#"{"k":["a"],"l":"ab"}"#),
    Some(r#"{"k":{"l":"a"},"l":7}"#),
    Some(r#"{"k":"","l":[]}"#),
    Some("{}"),
];

/// A request that owns what [`Attributes`] borrow.
#[derive(Debug)]
pub(super) struct Owned {
    pub(super) namespace: &'static str,
    pub(super) labels: Vec<(String, String)>,
    method: &'static str,
    host: &'static str,
    path: &'static str,
    headers: Vec<(String, String)>,
    principal: Option<&'static str>,
    addresses: [Option<IpAddr>; 3],
    port: Option<u16>,
    sni: Option<&'static str>,
    dynamic_metadata: Option<Vec<(String, Json)>>,
    claims: Option<Claims>,
}

impl Owned {
    pub(super) fn attributes(&self) -> Attributes<'_> {
        let [source_ip, remote_ip, destination_ip] = self.addresses;
        Attributes {
            method: self.method,
            scheme: "http",
            host: self.host,
            path: self.path,
            headers: &self.headers,
            joined: false,
            principal: self.principal,
            source_ip,
            remote_ip,
            destination_ip,
            port: self.port,
            sni: self.sni,
            dynamic_metadata: self.dynamic_metadata.as_deref(),
            unknown: crate::request::Unknown::default(),
            claims: self.claims.as_ref(),
            area: None,
            caller_unknown: false,
        }
    }
}

pub(super) fn request(bytes: &mut Bytes<'_>) -> Owned {
    let json = |text: &str| Json::parse(text.as_bytes(), TOKEN_LIMITS).unwrap();
    let address = |bytes: &mut Bytes<'_>| bytes.one(&REQUEST_ADDRESSES).map(|text| text.parse().unwrap());
    Owned {
        namespace: bytes.one(&NAMESPACES),
        labels: labels(bytes),
        method: bytes.one(&["GET", "POST", "get"]),
        host: bytes.one(&REQUEST_HOSTS),
        path: bytes.one(&REQUEST_PATHS),
        headers: (0..bytes.below(3)).map(|_| ("x".to_owned(), bytes.one(&LINES).to_owned())).collect(),
        principal: bytes.one(&PEERS),
        addresses: [address(bytes), address(bytes), address(bytes)],
        port: bytes.one(&[None, Some(80), Some(8080)]),
        sni: bytes.one(&[None, Some(""), Some("a.example"), Some("A.Example")]),
        dynamic_metadata: bytes.one(&METADATA).map(|object| vec![("envoy.filters.a".to_owned(), json(object))]),
        claims: bytes.one(&CLAIMS).map(|claims| Claims::from_verified(json(claims)).unwrap()),
    }
}

fn labels(bytes: &mut Bytes<'_>) -> Vec<(String, String)> {
    let choices: [&[(&str, &str)]; 9] = [
        &[("app", "b")],
        &[("app", "b"), ("version", "v1")],
        &[("app", "c"), ("version", "v1")],
        &[],
        &[(GATEWAY_NAME, "g")],
        &[(GATEWAY_NAME, "g"), ("app", "b")],
        &[(GATEWAY_NAME, "g"), ("gateway.istio.io/managed", "istio.io-mesh-controller")],
        &[("gateway.istio.io/managed", "istio.io-mesh-controller"), ("app", "b")],
        &[(GATEWAY_NAME, "h"), ("gateway.istio.io/managed", "istio.io-gateway-controller"), ("version", "v1")],
    ];
    bytes.one(&choices).iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

pub(super) fn resources(bytes: &mut Bytes<'_>) -> Resources {
    let aliases: [&[&str]; 6] = [&[], &["old"], &["old", "o*"], &["*d"], &["*"], &["td", "cluster.local"]];
    let mesh = MeshConfig {
        trust_domain: bytes.one(&["td", "cluster.local"]).to_owned(),
        trust_domain_aliases: bytes.one(&aliases).iter().map(|alias| (*alias).to_owned()).collect(),
        extension_providers: vec![ExtensionProvider { name: "p".to_owned(), authorizer: None, is_adapter: false }],
        ..MeshConfig::default()
    };
    let actions = [Action::Allow, Action::Deny, Action::Allow, Action::Deny, Action::Audit, Action::Custom];
    let policies = 1 + bytes.below(8);
    let policies = (0..policies).map(|i| {
        let action = bytes.one(&actions);
        let mut policy = policy_of(bytes, &format!("p{i}"), action);
        policy.dry_run = bytes.chance(4);
        policy
    });
    let authorization_policies = policies.collect();
    Resources { authorization_policies, mesh, ..Resources::default() }
}

pub(super) fn policy_of(bytes: &mut Bytes<'_>, name: &str, action: Action) -> AuthorizationPolicy {
    let mut target_refs = Vec::new();
    let mut selector = None;
    match bytes.below(6) {
        0 | 1 => {
            let choices: [&[(&str, &str)]; 6] = [
                &[("app", "b")],
                &[("version", "v1")],
                &[("app", "b"), ("version", "v1")],
                &[],
                &[("app", "c")],
                &[(GATEWAY_NAME, "g")],
            ];
            let labels = bytes.one(&choices).iter();
            let match_labels = labels.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            selector = Some(WorkloadSelector { match_labels });
        }
        2 => {
            let targets =
                [("Gateway", "g"), ("Gateway", "h"), ("GatewayClass", "istio-waypoint"), ("GatewayClass", "x")];
            for _ in 0..=bytes.below(2) {
                let (kind, name) = bytes.one(&targets);
                let group = "gateway.networking.k8s.io".to_owned();
                target_refs.push(TargetRef { group, kind: kind.to_owned(), name: name.to_owned(), namespace: None });
            }
        }
        _ => {}
    }
    let least = usize::from(matches!(action, Action::Custom | Action::Deny));
    let count = least + bytes.below(4);
    let rules = (0..count).map(|_| rule(bytes, action == Action::Custom)).collect();
    AuthorizationPolicy {
        meta: Meta {
            name: name.to_owned(),
            namespace: bytes.one(&NAMESPACES).to_owned(),
            namespace_given: true,
            labels: Default::default(),
            annotations: Default::default(),
            origin: Origin::default(),
        },
        selector,
        target_refs,
        action,
        provider: (action == Action::Custom).then(|| bytes.one(&["p", "q"]).to_owned()),
        dry_run: false,
        rules: Some(rules),
    }
}

fn rule(bytes: &mut Bytes<'_>, early: bool) -> Rule {
    let shape = bytes.below(8);
    let list = |present: bool, bytes: &mut Bytes<'_>| if present { 1 + bytes.below(2) } else { 0 };
    let from = list(shape & 1 != 0, bytes);
    let from: Vec<Source> = (0..from).map(|_| source(bytes, early)).collect();
    let to = list(shape & 2 != 0, bytes);
    let to: Vec<Operation> = (0..to).map(|_| operation(bytes)).collect();
    let when = list(shape & 4 != 0 && bytes.chance(2), bytes);
    let when: Vec<Condition> = (0..when).map(|_| condition(bytes, early)).collect();
    Rule {
        from: (!from.is_empty()).then_some(from),
        to: (!to.is_empty()).then_some(to),
        when: (!when.is_empty()).then_some(when),
    }
}

fn blocks(texts: Vec<String>) -> Vec<IpBlock> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn source(bytes: &mut Bytes<'_>, early: bool) -> Source {
    let mut source = Source::default();
    // Few fields at a time: more of them hardly ever match.
    for _ in 0..=bytes.below(2) {
        match if early { 6 + bytes.below(2) } else { bytes.below(8) } {
            0 | 1 => {
                source.principals = bytes.filled(&PRINCIPALS);
                source.not_principals = bytes.texts(&PRINCIPALS);
            }
            2 => {
                source.request_principals = bytes.texts(&REQUEST_PRINCIPALS);
                source.not_request_principals = bytes.filled(&REQUEST_PRINCIPALS);
            }
            3 => {
                source.namespaces = bytes.texts(&PEER_NAMESPACES);
                source.not_namespaces = bytes.texts(&PEER_NAMESPACES);
            }
            4 => {
                source.service_accounts = bytes.filled(&SERVICE_ACCOUNTS);
                source.not_service_accounts = bytes.texts(&SERVICE_ACCOUNTS);
            }
            5 => {
                source.trust_domains = bytes.filled(&TRUST_DOMAINS);
                source.not_trust_domains = bytes.texts(&TRUST_DOMAINS);
            }
            6 => {
                source.ip_blocks = blocks(bytes.filled(&ADDRESSES));
                source.not_ip_blocks = blocks(bytes.texts(&ADDRESSES));
            }
            _ => {
                source.remote_ip_blocks = blocks(bytes.texts(&ADDRESSES));
                source.not_remote_ip_blocks = blocks(bytes.texts(&ADDRESSES));
            }
        }
    }
    if !(source.service_accounts.is_empty() && source.not_service_accounts.is_empty()) {
        source.principals.clear();
        source.not_principals.clear();
        source.namespaces.clear();
        source.not_namespaces.clear();
    }
    if source == Source::default() {
        source.ip_blocks = blocks(vec!["10.0.0.0/8".to_owned()]);
    }
    source
}

fn operation(bytes: &mut Bytes<'_>) -> Operation {
    let mut operation = Operation::default();
    for _ in 0..=bytes.below(2) {
        match bytes.below(6) {
            0 | 1 => {
                operation.hosts = bytes.filled(&HOSTS);
                operation.not_hosts = bytes.texts(&HOSTS);
            }
            2 | 3 => {
                operation.paths = bytes.filled(&PATHS);
                operation.not_paths = bytes.texts(&PATHS);
            }
            4 => {
                operation.methods = bytes.filled(&METHODS);
                operation.not_methods = bytes.texts(&METHODS);
            }
            _ => {
                operation.ports = vec![bytes.one(&[80, 8080])];
                operation.not_ports = if bytes.chance(3) { vec![80] } else { Vec::new() };
            }
        }
    }
    operation
}

fn condition(bytes: &mut Bytes<'_>, early: bool) -> Condition {
    let text = |text: &str| text.to_owned();
    let filter = |path: &[&str]| ConditionKey::EnvoyFilter {
        filter: text("envoy.filters.a"),
        path: path.iter().map(|name| text(name)).collect(),
    };
    let keys: [(ConditionKey, &[&str]); 23] = [
        (ConditionKey::RequestHeader(text("X")), &WORDS),
        (ConditionKey::RequestHeader(text(":Method")), &METHODS),
        (ConditionKey::RequestHeader(text(":path")), &PATHS),
        (ConditionKey::RequestHeader(text("host")), &HOSTS),
        (ConditionKey::RemoteIp, &ADDRESSES),
        (ConditionKey::SourceIp, &ADDRESSES),
        (ConditionKey::DestinationIp, &ADDRESSES),
        (ConditionKey::DestinationPort, &["80", "8080"]),
        (ConditionKey::ConnectionSni, &SNI),
        (filter(&["k"]), &WORDS),
        (filter(&["l"]), &WORDS),
        (filter(&["k", "l"]), &WORDS),
        // What follows needs authentication.
        (ConditionKey::RequestAuthClaims(vec![text("scope")]), &WORDS),
        (ConditionKey::RequestAuthClaims(vec![text("permission")]), &WORDS),
        (ConditionKey::RequestAuthClaims(vec![text("o"), text("k")]), &WORDS),
        (ConditionKey::RequestAuthClaims(vec![text("o")]), &WORDS),
        (ConditionKey::RequestAuthAudiences, &WORDS),
        (ConditionKey::RequestAuthPresenter, &WORDS),
        (ConditionKey::RequestAuthPrincipal, &REQUEST_PRINCIPALS),
        (ConditionKey::SourcePrincipal, &PRINCIPALS),
        (ConditionKey::SourceNamespace, &PEER_NAMESPACES),
        (ConditionKey::SourceServiceAccount, &SERVICE_ACCOUNTS),
        (ConditionKey::SourceTrustDomain, &CONDITION_TRUST_DOMAINS),
    ];
    let (key, of) = bytes.one(if early { &keys[..12] } else { &keys });
    let negated = bytes.below(3);
    let values = if negated == 1 { Vec::new() } else { bytes.filled(of) };
    let not_values = if negated == 0 { Vec::new() } else { bytes.filled(of) };
    Condition { key, values, not_values }
}
