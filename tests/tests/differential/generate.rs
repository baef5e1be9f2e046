//! Policies and requests out of small alphabets, so that matches and near misses are frequent. A seed gives the same in
//! every run (but the signatures, which no verdict depends on).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use istio::{
    Action, AuthorizationPolicy, ClaimToHeader, Condition, ConditionKey, ExtensionProvider, ExternalAuthorizer,
    IpBlock, JwtHeader, JwtRule, MeshConfig, Meta, Operation, Origin, PathNormalization, RequestAuthentication, Rule,
    Source, WorkloadSelector,
};
use serde_json::{Map, Value, json};

use crate::call::{Call, PROBE, PROBE_KEYS, Place};
use crate::token::{ISSUERS, Keys, ODDITIES, Oddity, Token};
use crate::translate::{Setup, Workload};
use crate::world::SERVER_NAMES;

/// What is generated beside the fields that every version of `authz` knew. All of it, unless a branch is behind.
#[derive(Clone, Copy, Debug)]
pub struct Fields {
    /// `serviceAccounts`, `trustDomains`, the two kinds of address blocks, and the conditions on the same and on SNI and
    /// the destination's address.
    pub peers: bool,
    /// Path templates.
    pub templates: bool,
    /// AUDIT, CUSTOM and dry-run policies.
    pub actions: bool,
    /// `trustDomainAliases`.
    pub aliases: bool,
    /// Paths that Envoy rewrites, and the four ways of doing it.
    pub normalization: bool,
    /// Tokens that only the strict mode refuses, or that are malformed in other ways.
    pub odd_tokens: bool,
    /// Token locations other than one list of headers, the payload's header and `spaceDelimitedClaims`.
    pub locations: bool,
}

/// What is compared now.
pub const FIELDS: Fields = Fields {
    peers: true,
    templates: true,
    actions: true,
    aliases: true,
    normalization: true,
    odd_tokens: true,
    locations: true,
};

/// SplitMix64: small, and the same everywhere.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// One or two of them.
    fn some(&mut self, all: &[&str]) -> Vec<String> {
        let mut some = vec![(*self.pick(all)).to_owned()];
        if self.chance(35) {
            some.push((*self.pick(all)).to_owned());
        }
        some
    }
}

/// The workload that all requests are for.
pub fn workload() -> Workload {
    let labels = [("app", "b"), ("version", "v1")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    Workload { namespace: "ns1".to_owned(), labels: BTreeMap::from(labels) }
}

/// A set of policies, and what the generator of requests has to know of its tokens.
pub struct Generated {
    pub setup: Setup,
    /// For each JWT rule the index of the issuer whose keys it has, and where its tokens are.
    pub rules: Vec<(usize, Vec<Place>)>,
}

// ---- alphabets

const METHODS: [&str; 7] = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"];
const METHOD_PATTERNS: [&str; 12] =
    ["GET", "POST", "DELETE", "OPTIONS", "*", "P*", "*T", "GET*", "*ET", "get", "G*", "HEAD"];
const HOSTS: [&str; 9] = [
    "b.example.com",
    "B.Example.COM",
    "b.example.com:8080",
    "a.example.com",
    "example.com",
    "b.example.org",
    "x-b.example.com",
    ".example.com",
    "b",
];
const HOST_PATTERNS: [&str; 12] = [
    "b.example.com",
    "B.EXAMPLE.com",
    "*.example.com",
    "b.*",
    "*",
    "*:8080",
    "b.example.com:*",
    "*com*",
    "a.example.com",
    "*.ORG",
    "b.example.com:8080",
    "*example*",
];
/// Paths that no normalisation touches.
const PATHS: [&str; 24] = [
    "/",
    "/a",
    "/a/b",
    "/a/b/c",
    "/a/",
    "/A",
    "/a/b?x=1",
    "/a?x=/b",
    "/a;x/b",
    "/a/b/",
    "/store/x/cart",
    "/store/x/y/cart",
    "/store/cart",
    "/a*b",
    "/a=b",
    "/a/*/b",
    "/a%20b",
    "/a/b%22",
    "/a/x,y;z@:!$&'()+/b",
    "/a/b?/../c",
    "/*",
    "/a/..b",
    "/~a_b-c.d",
    "/a/b?",
];
/// Paths that one or another normalisation touches.
const RAW_PATHS: [&str; 26] = [
    "/a//b",
    "//a/b",
    "/a/../b",
    "/a/./b",
    "/a/..;/b",
    "/a/..;x=1/b",
    "/a/.;x/b",
    "/a/%2e%2e/b",
    "/%61/b",
    "/a\\b",
    "/a%2fb",
    "/a%2Fb",
    "/a%5cb",
    "/a%5C%2fb",
    "/store//cart",
    "/a/%2e%2e;/b",
    "/a/b/..",
    "/a/b/.",
    "/../a",
    "/a%7eb",
    "/a%00b",
    "/a%2",
    "/a%zzb",
    "/a%25%32%66b",
    "/a/b/../../..//store/x/cart",
    "/a%2f..%2fb",
];
const PATH_PATTERNS: [&str; 17] = [
    "/a", "/a/b", "/a*", "*b", "/a/*", "*", "*/cart", "/a/*/b", "/a/b/c", "/", "/A*", "*/", "/store/*", "/a/b*",
    "/a%2fb", "/a%20b", "*%22",
];
const TEMPLATES: [&str; 14] = [
    "/a/{*}",
    "/a/{**}",
    "/store/{*}/cart",
    "/store/{**}/cart",
    "/{*}",
    "/{**}",
    "/{**}/b",
    "/a/{*}/{*}",
    "/a/{**}/",
    "/{*}/b",
    "/{*}/{**}",
    "/a/{*}/",
    "/a/b/{**}",
    "/a;x/{*}",
];
const PORTS: [u16; 4] = [8080, 80, 443, 9080];

/// The peers that clients can be.
pub const IDENTITIES: [&str; 11] = [
    "cluster.local/ns/ns1/sa/a",
    "cluster.local/ns/ns2/sa/a",
    "cluster.local/ns/ns1/sa/b",
    "td2/ns/ns1/sa/a",
    "old-td/ns/ns1/sa/a",
    "cluster.local/ns/ns11/sa/ab",
    "ns/ns1/sa/a",
    "cluster.local/x/y/ns/ns1/k/v/sa/a",
    "cluster.local/ns/ns1/sa/a/extra/1",
    "cluster.localx/ns/ns1/sa/a",
    "td2",
];
const PRINCIPAL_PATTERNS: [&str; 17] = [
    "cluster.local/ns/ns1/sa/a",
    "cluster.local/ns/ns2/sa/a",
    "td2/ns/ns1/sa/a",
    "old-td/ns/ns1/sa/a",
    "*",
    "*/ns/ns1/sa/a",
    "cluster.local/*",
    "cluster.local/ns/ns1/*",
    "*/sa/a",
    "*a",
    "*local/ns/ns1/sa/a",
    "td*",
    "cluster.local/ns/ns1/sa/*",
    "spiffe://cluster.local/ns/ns1/sa/a",
    "other/ns/ns1/sa/a",
    "*td/ns/ns1/sa/a",
    "cluster.local",
];
const NAMESPACE_PATTERNS: [&str; 10] = ["ns1", "ns2", "ns*", "*1", "*", "n*1", "ns11", "*s*", "n.1", "ns1/sa"];
const SERVICE_ACCOUNTS: [&str; 7] = ["ns1/a", "a", "ns2/a", "ns1/b", "b", "ns11/ab", "n.1/a"];
const TRUST_DOMAINS: [&str; 10] =
    ["cluster.local", "td2", "old-td", "*", "cluster.*", "*.local", "*td", "c*l", "td*", "ns"];

const SOURCE_IPS: [[u8; 4]; 5] = [[127, 0, 0, 1], [127, 1, 2, 3], [127, 1, 2, 4], [127, 1, 9, 9], [127, 2, 3, 4]];
const SOURCE_BLOCKS: [&str; 10] = [
    "127.0.0.0/8",
    "127.1.0.0/16",
    "127.1.2.3",
    "127.1.2.3/31",
    "127.2.0.0/15",
    "10.0.0.0/8",
    "::1",
    "0.0.0.0/0",
    "::/0",
    "127.1.2.3/32",
];
const REMOTE_IPS: [&str; 11] = [
    "203.0.113.7",
    "203.0.113.8",
    "10.1.2.3",
    "2001:db8::1",
    "2001:db8:0:1::1",
    "192.168.1.1",
    "::1",
    "2001:db8::2",
    "2001:db8:8000::1",
    "fe80::1",
    "::ffff:203.0.113.7",
];
const REMOTE_BLOCKS: [&str; 17] = [
    "2001:db8::/33",
    "2001:db8::1/127",
    "2001:db8::2/128",
    "fe80::/10",
    "::ffff:0:0/96",
    "8000::/1",
    "203.0.113.7",
    "203.0.113.0/24",
    "203.0.113.7/31",
    "10.0.0.0/8",
    "2001:db8::/32",
    "2001:db8::/64",
    "2001:db8::1",
    "0.0.0.0/0",
    "::/0",
    "10.1.2.3/9",
    "192.168.1.1/32",
];

const SUBJECTS: [&str; 7] = ["sub-1", "sub-12", "client:x", "a/b", "", "S", "*x"];
const REQUEST_PRINCIPALS: [&str; 20] = [
    "*",
    "*/sub-1",
    "https://a.example/*",
    "https://a.example/sub-1",
    "https://a.example/sub*",
    "https://a.example*",
    "https://a.example",
    "*-1",
    "*b@x/sub-1",
    "issuer-b@x/*",
    "issuer-b@x",
    "issuer-*",
    "https://a.example/x/sub-1",
    "https://a.example/a/b",
    "https://c.example//sub-1",
    "*/",
    "https://*",
    "*.example/sub-1",
    "https://a.example/*x",
    "https://a.example/",
];
/// `user-agent` and `origin` are headers that Envoy keeps in one line.
const HEADER_NAMES: [&str; 12] = [
    "x-a",
    "X-B",
    "x-c",
    ":method",
    ":authority",
    "authorization",
    "x-role",
    "host",
    ":path",
    "user-agent",
    "Origin",
    "cookie",
];
/// Of dynamic metadata; in brackets they are about the elements of a list.
const METADATA_PATTERNS: [&str; 9] = ["v", "v*", "*v", "*", "[v]", "[v*]", "[*v]", "[*]", "[[v]]"];
const HEADER_PATTERNS: [&str; 11] = ["v", "v*", "*v", "*", "a,b", "a", "b", "V", "GET", "/a*", "*example.com"];
const HEADER_VALUES: [&str; 10] = ["v", "vx", "xv", "", "a", "b", "a,b", "V", "v,v", "a, b"];
const CLAIM_VALUES: [&str; 11] = ["g1", "g2", "g*", "*1", "*", "r", "5", "true", "a b", "a", "aud1"];

/// The claims that conditions look at.
fn claim_paths() -> Vec<Vec<String>> {
    let paths: [&[&str]; 14] = [
        &["groups"],
        &["role"],
        &["scope"],
        &["permission"],
        &["custom"],
        &["nested", "k"],
        &["nested"],
        &["n"],
        &["flag"],
        &["a.b"],
        &["https://x.example/c", "d"],
        &["missing"],
        &["groups", "g1"],
        &["iss"],
    ];
    paths.iter().map(|path| path.iter().map(|name| (*name).to_owned()).collect()).collect()
}

// ---- policies

/// A set of policies.
pub fn setup(rng: &mut Rng, fields: Fields, keys: &Keys) -> Generated {
    let mut mesh = MeshConfig::default();
    if fields.aliases && rng.chance(30) {
        mesh.trust_domain = (*rng.pick(&["cluster.local", "td2", "*td"])).to_owned();
        if mesh.trust_domain == "*td" {
            mesh.trust_domain = "td2".to_owned();
        }
        mesh.trust_domain_aliases = rng.some(&["old-td", "td2", "*-td"]);
    }
    if fields.normalization {
        mesh.path_normalization = *rng.pick(&[
            PathNormalization::Base,
            PathNormalization::None,
            PathNormalization::MergeSlashes,
            PathNormalization::DecodeAndMergeSlashes,
        ]);
    }
    for (name, fail_open, status_on_error) in [("one", false, 403), ("two", true, 403), ("three", false, 401)] {
        let authorizer = Some(ExternalAuthorizer { fail_open, status_on_error });
        mesh.extension_providers.push(ExtensionProvider { name: name.to_owned(), authorizer, is_adapter: false });
    }

    let mut policies = Vec::new();
    let provider = (*rng.pick(&["one", "two", "three", "unknown"])).to_owned();
    for index in 0..=rng.below(3) {
        let action = match rng.below(100) {
            0..50 => Action::Allow,
            50..80 => Action::Deny,
            _ if !fields.actions => Action::Allow,
            80..90 => Action::Audit,
            _ => Action::Custom,
        };
        // istiod enforces a dry-run CUSTOM policy's rules as DENY, which is a mistake of its own.
        let dry_run = fields.actions && action != Action::Custom && rng.chance(12);
        let mut rules = Vec::new();
        for _ in 0..=rng.below(2) {
            rules.push(rule(rng, fields, action));
        }
        let rules = match action {
            Action::Allow if rng.chance(4) => None,
            Action::Allow if rng.chance(4) => Some(Vec::new()),
            _ => Some(rules),
        };
        policies.push(AuthorizationPolicy {
            meta: meta(rng, &format!("p{index}")),
            selector: selector(rng),
            target_refs: Vec::new(),
            action,
            provider: (action == Action::Custom).then(
                || {
                    if rng.chance(10) { "two".to_owned() } else { provider.clone() }
                },
            ),
            dry_run,
            rules,
        });
    }

    let mut known = Vec::new();
    let mut authentications: Vec<RequestAuthentication> = Vec::new();
    let count = *rng.pick(&[0, 1, 1, 1, 2, 2, 3]);
    for index in 0..count {
        let (rule, issuer, places) = jwt_rule(rng, fields, keys);
        known.push((issuer, places));
        match authentications.last_mut() {
            Some(last) if rng.chance(50) => last.jwt_rules.push(rule),
            _ => authentications.push(RequestAuthentication {
                meta: meta(rng, &format!("r{index}")),
                selector: selector(rng),
                target_refs: Vec::new(),
                jwt_rules: vec![rule],
            }),
        }
    }
    Generated { setup: Setup { mesh, policies, authentications }, rules: known }
}

fn meta(rng: &mut Rng, name: &str) -> Meta {
    let namespace = if rng.chance(90) { "ns1" } else { *rng.pick(&["istio-system", "ns2"]) };
    Meta {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        namespace_given: true,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        origin: Origin::default(),
    }
}

fn selector(rng: &mut Rng) -> Option<WorkloadSelector> {
    if rng.chance(80) {
        return None;
    }
    let (name, value) = *rng.pick(&[("app", "b"), ("app", "b"), ("version", "v2")]);
    Some(WorkloadSelector { match_labels: BTreeMap::from([(name.to_owned(), value.to_owned())]) })
}

fn rule(rng: &mut Rng, fields: Fields, action: Action) -> Rule {
    // "CUSTOM rules may not use" who the caller is: authentication runs behind them.
    let identities = action != Action::Custom;
    let mut rule = Rule::default();
    if rng.chance(4) {
        return rule;
    }
    if rng.chance(45) {
        let sources: Vec<Source> = (0..=rng.below(2)).filter_map(|_| source(rng, fields, identities)).collect();
        rule.from = (!sources.is_empty()).then_some(sources);
    }
    if rng.chance(60) {
        rule.to = Some((0..=rng.below(2)).map(|_| operation(rng, fields)).collect());
    }
    if rng.chance(45) || (rule.from.is_none() && rule.to.is_none()) {
        rule.when = Some((0..=rng.below(2)).map(|_| condition(rng, fields, identities)).collect());
    }
    rule
}

/// Fills `values` or `not_values`, or both.
fn sides<T>(rng: &mut Rng, mut some: impl FnMut(&mut Rng) -> Vec<T>) -> (Vec<T>, Vec<T>) {
    match rng.below(10) {
        0..6 => (some(rng), Vec::new()),
        6..9 => (Vec::new(), some(rng)),
        _ => (some(rng), some(rng)),
    }
}

fn blocks(rng: &mut Rng, all: &[&str]) -> Vec<IpBlock> {
    rng.some(all).iter().map(|block| block.parse().unwrap()).collect()
}

fn source(rng: &mut Rng, fields: Fields, identities: bool) -> Option<Source> {
    let mut source = Source::default();
    let mut any = false;
    for _ in 0..=rng.below(2) {
        match rng.below(if fields.peers { 7 } else { 3 }) {
            0 if identities && source.service_accounts.is_empty() && source.not_service_accounts.is_empty() => {
                (source.principals, source.not_principals) = sides(rng, |rng| rng.some(&PRINCIPAL_PATTERNS));
            }
            1 if identities => {
                (source.request_principals, source.not_request_principals) =
                    sides(rng, |rng| rng.some(&REQUEST_PRINCIPALS));
            }
            2 if identities && source.service_accounts.is_empty() && source.not_service_accounts.is_empty() => {
                (source.namespaces, source.not_namespaces) = sides(rng, |rng| rng.some(&NAMESPACE_PATTERNS));
            }
            3 => (source.ip_blocks, source.not_ip_blocks) = sides(rng, |rng| blocks(rng, &SOURCE_BLOCKS)),
            4 => (source.remote_ip_blocks, source.not_remote_ip_blocks) = sides(rng, |rng| blocks(rng, &REMOTE_BLOCKS)),
            5 if identities => {
                (source.trust_domains, source.not_trust_domains) = sides(rng, |rng| rng.some(&TRUST_DOMAINS));
            }
            6 if identities && source == Source::default() => {
                (source.service_accounts, source.not_service_accounts) = sides(rng, |rng| rng.some(&SERVICE_ACCOUNTS));
            }
            _ => continue,
        }
        any = true;
    }
    any.then_some(source)
}

fn path_patterns(rng: &mut Rng, fields: Fields) -> Vec<String> {
    if fields.templates && rng.chance(40) { rng.some(&TEMPLATES) } else { rng.some(&PATH_PATTERNS) }
}

fn operation(rng: &mut Rng, fields: Fields) -> Operation {
    let mut operation = Operation::default();
    for _ in 0..=rng.below(2) {
        match rng.below(6) {
            0 => (operation.hosts, operation.not_hosts) = sides(rng, |rng| rng.some(&HOST_PATTERNS)),
            1 => (operation.ports, operation.not_ports) = sides(rng, |rng| vec![*rng.pick(&PORTS)]),
            2 | 3 => (operation.methods, operation.not_methods) = sides(rng, |rng| rng.some(&METHOD_PATTERNS)),
            _ => (operation.paths, operation.not_paths) = sides(rng, |rng| path_patterns(rng, fields)),
        }
    }
    operation
}

fn condition(rng: &mut Rng, fields: Fields, identities: bool) -> Condition {
    loop {
        let (key, (values, not_values)) = match rng.below(if fields.peers { 18 } else { 10 }) {
            0..2 => {
                let name = (*rng.pick(&HEADER_NAMES)).to_owned();
                (ConditionKey::RequestHeader(name), sides(rng, |rng| rng.some(&HEADER_PATTERNS)))
            }
            2..5 if identities => {
                let path = rng.pick(&claim_paths()).clone();
                (ConditionKey::RequestAuthClaims(path), sides(rng, |rng| rng.some(&CLAIM_VALUES)))
            }
            5 if identities => (ConditionKey::RequestAuthPrincipal, sides(rng, |rng| rng.some(&REQUEST_PRINCIPALS))),
            6 if identities => {
                let key = if rng.chance(50) {
                    ConditionKey::RequestAuthAudiences
                } else {
                    ConditionKey::RequestAuthPresenter
                };
                (key, sides(rng, |rng| rng.some(&["aud1", "aud*", "*", "*2", "azp1"])))
            }
            7 if identities => (ConditionKey::SourcePrincipal, sides(rng, |rng| rng.some(&PRINCIPAL_PATTERNS))),
            8 if identities => (ConditionKey::SourceNamespace, sides(rng, |rng| rng.some(&NAMESPACE_PATTERNS))),
            9 => (ConditionKey::DestinationPort, sides(rng, |rng| rng.some(&["8080", "80", "443"]))),
            10 => (ConditionKey::SourceIp, sides(rng, |rng| rng.some(&SOURCE_BLOCKS))),
            11 => (ConditionKey::RemoteIp, sides(rng, |rng| rng.some(&REMOTE_BLOCKS))),
            12 => (ConditionKey::DestinationIp, sides(rng, |rng| rng.some(&REMOTE_BLOCKS))),
            13 if identities => (ConditionKey::SourceServiceAccount, sides(rng, |rng| rng.some(&SERVICE_ACCOUNTS))),
            14 if identities => (ConditionKey::SourceTrustDomain, sides(rng, |rng| rng.some(&TRUST_DOMAINS))),
            15 | 16 => {
                let patterns = ["b.example.com", "*.example.com", "b.*", "*", "B.example.com", "example.com"];
                (ConditionKey::ConnectionSni, sides(rng, |rng| rng.some(&patterns)))
            }
            17 => {
                let key = (*rng.pick(&PROBE_KEYS)).to_owned();
                let key = ConditionKey::EnvoyFilter { filter: PROBE.to_owned(), path: vec![key] };
                (key, sides(rng, |rng| rng.some(&METADATA_PATTERNS)))
            }
            _ => continue,
        };
        return Condition { key, values, not_values };
    }
}

fn jwt_rule(rng: &mut Rng, fields: Fields, keys: &Keys) -> (JwtRule, usize, Vec<Place>) {
    // The last issuer is nobody's.
    let issuer = rng.below(ISSUERS.len() - 1);
    let mut rule = JwtRule {
        issuer: if rng.chance(93) { ISSUERS[issuer].to_owned() } else { String::new() },
        jwks: Some(keys.jwks(issuer)),
        forward_original_token: rng.chance(40),
        ..JwtRule::default()
    };
    if rng.chance(35) {
        rule.audiences = rng.some(&["aud1", "https://aud1/", "aud2", "http://aud2"]);
    }
    if rng.chance(45) {
        let headers = [
            ("x-jwt", ""),
            ("X-Token", "Token "),
            ("Authorization", "Bearer "),
            ("authorization", "JWT "),
            ("x-jwt", "p="),
        ];
        for _ in 0..=rng.below(2) {
            let (name, prefix) = *rng.pick(&headers);
            rule.from_headers.push(JwtHeader { name: name.to_owned(), prefix: prefix.to_owned() });
        }
    }
    if fields.locations && rng.chance(30) {
        rule.from_params = rng.some(&["token", "access_token", "t"]);
        rule.from_params.dedup();
    }
    if fields.locations && rng.chance(25) {
        rule.from_cookies = rng.some(&["session", "jwt"]);
        rule.from_cookies.dedup();
    }
    if fields.locations && rng.chance(30) {
        rule.output_payload_to_header = Some((*rng.pick(&["x-payload", "X-A"])).to_owned());
    }
    if fields.locations && rng.chance(30) {
        rule.space_delimited_claims = rng.some(&["custom", "role"]);
    }
    if rng.chance(45) {
        let outputs = [
            ("x-sub", "sub"),
            ("X-Role", "role"),
            ("x-n", "n"),
            ("x-flag", "flag"),
            ("x-groups", "groups"),
            ("x-k", "nested.k"),
            ("x-a", "role"),
            ("x-f", "fraction"),
            ("x-scope", "scope"),
            ("x-ab", "a.b"),
        ];
        for _ in 0..=rng.below(3) {
            let (header, claim) = *rng.pick(&outputs);
            if !rule.output_claim_to_headers.iter().any(|output| output.header == header) {
                rule.output_claim_to_headers.push(ClaimToHeader { header: header.to_owned(), claim: claim.to_owned() });
            }
        }
    }
    let mut places: Vec<Place> =
        rule.from_headers.iter().map(|header| Place::Header(header.name.clone(), header.prefix.clone())).collect();
    places.extend(rule.from_params.iter().cloned().map(Place::Parameter));
    places.extend(rule.from_cookies.iter().cloned().map(Place::Cookie));
    if places.is_empty() {
        places.push(Place::Header("Authorization".to_owned(), "Bearer ".to_owned()));
        places.push(Place::Parameter("access_token".to_owned()));
    }
    (rule, issuer, places)
}

// ---- requests

/// What happens to an attribute that a leaf looks at.
#[derive(Clone, Copy, PartialEq)]
enum Turn {
    Satisfied,
    Violated,
    Missing,
}

/// One value of a policy.
enum Leaf {
    Method(String),
    Host(String),
    Path(String),
    Port(u16),
    Peer,
    SourceIp,
    RemoteIp(IpBlock),
    DestinationIp(IpBlock),
    Sni,
    RequestPrincipal(String),
    Claim(Vec<String>, String),
    Header(String, String),
    Metadata(String, String),
}

/// Requests for a set of policies: every leaf satisfied, then one or two of them violated or missing; and some that have
/// nothing to do with the policies.
pub fn calls(rng: &mut Rng, fields: Fields, generated: &Generated, most: usize, now: u64) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut asker = Asker { rng, fields, rules: &generated.rules, now };
    let rules: Vec<&Rule> = generated.setup.policies.iter().flat_map(|policy| policy.rules.iter().flatten()).collect();
    let share = (most * 4 / 5) / rules.len().max(1);
    for rule in rules {
        let leaves = asker.leaves(rule);
        let mut hit = asker.call();
        for (leaf, positive) in &leaves {
            asker.turn(leaf, if *positive { Turn::Satisfied } else { Turn::Violated }, &mut hit);
        }
        let end = calls.len() + share;
        calls.push(hit.clone());
        let mut turned: Vec<(usize, Turn)> = Vec::new();
        for (index, (_, positive)) in leaves.iter().enumerate() {
            turned.push((index, if *positive { Turn::Violated } else { Turn::Satisfied }));
            turned.push((index, Turn::Missing));
        }
        for (index, turn) in &turned {
            let mut call = hit.clone();
            asker.turn(&leaves[*index].0, *turn, &mut call);
            calls.push(call);
        }
        while calls.len() < end && !turned.is_empty() {
            let mut call = hit.clone();
            for _ in 0..2 {
                let (index, turn) = *asker.rng.pick(&turned);
                asker.turn(&leaves[index].0, turn, &mut call);
            }
            asker.disturb(&mut call);
            calls.push(call);
        }
    }
    while calls.len() < most {
        let mut call = asker.call();
        asker.disturb(&mut call);
        calls.push(call);
    }
    calls.truncate(most);
    calls
}

struct Asker<'a> {
    rng: &'a mut Rng,
    fields: Fields,
    rules: &'a [(usize, Vec<Place>)],
    now: u64,
}

impl Asker<'_> {
    /// The first of an alphabet half the time, or any.
    fn usual(&mut self, all: &[&str]) -> String {
        if self.rng.chance(50) { all[0].to_owned() } else { (*self.rng.pick(all)).to_owned() }
    }

    fn call(&mut self) -> Call {
        let mut call = Call {
            method: self.usual(&METHODS),
            host: self.usual(&HOSTS),
            path: self.path(),
            headers: Vec::new(),
            tokens: Vec::new(),
            metadata: Vec::new(),
            principal: self.rng.chance(60).then(|| self.usual(&IDENTITIES)),
            sni: self.rng.chance(60).then(|| self.usual(&SERVER_NAMES)),
            source_ip: Ipv4Addr::from(*self.rng.pick(&SOURCE_IPS)),
            remote_ip: self.rng.pick(&REMOTE_IPS).parse().unwrap(),
            destination_ip: IpAddr::from([10, 9, 8, 7]),
            destination_port: *self.rng.pick(&PORTS),
        };
        self.same_family(&mut call);
        for _ in 0..self.rng.below(3) {
            let name = *self.rng.pick(&["x-a", "X-B", "x-c", "x-role", "x-sub", "x-payload", "user-agent", "Origin"]);
            call.headers.push((name.to_owned(), (*self.rng.pick(&HEADER_VALUES)).to_owned()));
        }
        if self.fields.actions {
            for provider in ["one", "two", "three"] {
                let says = *self.rng.pick(&["allow", "allow", "deny", "error"]);
                call.headers.push((format!("x-custom-{provider}"), says.to_owned()));
            }
        }
        if self.rng.chance(65) {
            self.add_token(&mut call);
        }
        call
    }

    /// The PROXY protocol has one family for both of its addresses.
    fn same_family(&mut self, call: &mut Call) {
        if call.remote_ip.is_ipv4() != call.destination_ip.is_ipv4() {
            let same: Vec<IpAddr> = REMOTE_IPS
                .iter()
                .filter_map(|ip| ip.parse::<IpAddr>().ok())
                .filter(|ip| ip.is_ipv4() == call.remote_ip.is_ipv4())
                .collect();
            call.destination_ip = *self.rng.pick(&same);
        }
    }

    fn path(&mut self) -> String {
        if self.fields.normalization && self.rng.chance(30) {
            return (*self.rng.pick(&RAW_PATHS)).to_owned();
        }
        (*self.rng.pick(&PATHS)).to_owned()
    }

    fn add_token(&mut self, call: &mut Call) {
        let Some((issuer, places)) = (!self.rules.is_empty()).then(|| self.rng.pick(self.rules).clone()) else {
            return;
        };
        let place = self.rng.pick(&places).clone();
        let issuer = if self.rng.chance(92) { issuer } else { self.rng.below(ISSUERS.len()) };
        let mut claims = Map::new();
        claims.insert("iss".to_owned(), json!(ISSUERS[issuer]));
        claims.insert("sub".to_owned(), json!(self.usual(&SUBJECTS)));
        claims.insert("exp".to_owned(), json!(self.now + 36_000));
        claims.insert("aud".to_owned(), self.rng.pick(&audiences()).clone());
        for (name, values) in claim_values() {
            if self.rng.chance(50) {
                claims.insert(name.to_owned(), self.rng.pick(&values).clone());
            }
        }
        let mut oddity = Oddity::None;
        if self.rng.chance(15) {
            oddity = if self.fields.odd_tokens {
                *self.rng.pick(&ODDITIES)
            } else {
                *self.rng.pick(&[Oddity::BadSignature, Oddity::ForeignKey, Oddity::TwoParts, Oddity::AlgNone])
            };
        }
        call.tokens.push((place, Token { issuer, claims, oddity }));
    }

    /// Small changes that no leaf asks for.
    fn disturb(&mut self, call: &mut Call) {
        match self.rng.below(12) {
            0 => call.path = self.path(),
            1 => call.method = self.usual(&METHODS),
            2 => call.principal = None,
            3 => call.tokens.clear(),
            4 => self.add_token(call),
            5 => {
                let name = *self.rng.pick(&["x-a", "X-B", "x-role", "authorization"]);
                call.headers.push((name.to_owned(), (*self.rng.pick(&HEADER_VALUES)).to_owned()));
            }
            6 => {
                // A CORS preflight, or almost one.
                call.method = "OPTIONS".to_owned();
                call.headers.push(("Origin".to_owned(), (*self.rng.pick(&["https://o", "https://o", ""])).to_owned()));
                if self.rng.chance(80) {
                    call.headers.push(("Access-Control-Request-Method".to_owned(), "GET".to_owned()));
                }
            }
            7 if !call.tokens.is_empty() => {
                let odd = self.odd_time();
                let index = self.rng.below(call.tokens.len());
                let claims = &mut call.tokens[index].1.claims;
                match odd {
                    (name, Some(value)) => drop(claims.insert(name.to_owned(), value)),
                    (name, None) => drop(claims.remove(name)),
                }
            }
            8 if self.fields.locations => {
                let query = *self.rng.pick(&[
                    "x=1&access_token=",
                    "token=a",
                    "token",
                    "t=1&t=2",
                    "a=b&token=&c=d",
                    "b=1&a=2&b",
                    "%74oken=x&z=%26a%3d",
                    "q=%0a&x",
                    "q=%c3%a9%2541",
                    "&&=x",
                ]);
                call.path = format!("{}?{query}", call.path.split('?').next().unwrap_or("/"));
            }
            9 if self.fields.odd_tokens => {
                let value = *self.rng.pick(&["Bearer", "Bearer ", "bearer x", "Basic x", "Bearer  x.y.z", "xBearer x"]);
                call.headers.push(("Authorization".to_owned(), value.to_owned()));
            }
            _ => {}
        }
    }

    /// A registered claim with an odd value, or without one.
    fn odd_time(&mut self) -> (&'static str, Option<Value>) {
        let now = self.now;
        let mut all = vec![
            ("exp", Some(json!(now - 36_000))),
            ("nbf", Some(json!(now + 36_000))),
            ("nbf", Some(json!(now - 10))),
            ("exp", Some(json!(now + 36_000))),
            ("exp", Some(json!("soon"))),
            ("exp", Some(json!(-1))),
            ("aud", Some(json!([1]))),
            ("iss", Some(json!(7))),
            ("sub", Some(json!(["s"]))),
            ("sub", None),
        ];
        if self.fields.odd_tokens {
            // What Envoy lets pass and the strict mode does not.
            all.extend([
                ("exp", None),
                ("exp", Some(json!(0))),
                ("exp", Some(json!(now as f64 + 3600.5))),
                ("exp", Some(json!(now - 20))),
                ("nbf", Some(json!(now + 20))),
                ("iat", Some(json!("x"))),
                ("iat", Some(json!(now + 36_000))),
                ("nbf", Some(json!(1e300))),
                ("exp", Some(json!(1e300))),
                ("exp", Some(json!(null))),
                ("exp", Some(json!(u64::MAX))),
                ("jti", Some(json!(5))),
                ("aud", Some(json!({}))),
                ("aud", Some(json!([]))),
                ("aud", Some(json!(""))),
                ("aud", None),
                ("iss", None),
                ("iss", Some(json!(""))),
            ]);
        }
        self.rng.pick(&all).clone()
    }

    // ---- leaves

    /// One value of each field of a rule, with whether it is to match.
    fn leaves(&mut self, rule: &Rule) -> Vec<(Leaf, bool)> {
        let mut leaves = Vec::new();
        if let Some(sources) = &rule.from {
            let source = self.rng.pick(sources).clone();
            for (all, positive) in [
                (vec![&source.principals, &source.namespaces, &source.service_accounts, &source.trust_domains], true),
                (
                    vec![
                        &source.not_principals,
                        &source.not_namespaces,
                        &source.not_service_accounts,
                        &source.not_trust_domains,
                    ],
                    false,
                ),
            ] {
                leaves.extend(all.iter().filter(|values| !values.is_empty()).map(|_| (Leaf::Peer, positive)));
            }
            self.one(&mut leaves, &source.request_principals, &source.not_request_principals, |v: &String| {
                Leaf::RequestPrincipal(v.clone())
            });
            self.one(&mut leaves, &source.ip_blocks, &source.not_ip_blocks, |_| Leaf::SourceIp);
            self.one(&mut leaves, &source.remote_ip_blocks, &source.not_remote_ip_blocks, |v| Leaf::RemoteIp(*v));
        }
        if let Some(operations) = &rule.to {
            let operation = self.rng.pick(operations).clone();
            self.one(&mut leaves, &operation.hosts, &operation.not_hosts, |v: &String| Leaf::Host(v.clone()));
            self.one(&mut leaves, &operation.methods, &operation.not_methods, |v: &String| Leaf::Method(v.clone()));
            self.one(&mut leaves, &operation.paths, &operation.not_paths, |v: &String| Leaf::Path(v.clone()));
            self.one(&mut leaves, &operation.ports, &operation.not_ports, |v| Leaf::Port(*v));
        }
        for Condition { key, values, not_values } in rule.when.iter().flatten() {
            let claim = |name: &str, value: &String| Leaf::Claim(vec![name.to_owned()], value.clone());
            let block = |value: &String| -> IpBlock { value.parse().unwrap() };
            self.one(&mut leaves, values, not_values, |value: &String| match key {
                ConditionKey::ConnectionSni => Leaf::Sni,
                ConditionKey::DestinationIp => Leaf::DestinationIp(block(value)),
                ConditionKey::DestinationPort => Leaf::Port(value.parse().unwrap()),
                ConditionKey::RemoteIp => Leaf::RemoteIp(block(value)),
                ConditionKey::SourceIp => Leaf::SourceIp,
                ConditionKey::RequestAuthAudiences => claim("aud", value),
                ConditionKey::RequestAuthPresenter => claim("azp", value),
                ConditionKey::RequestAuthClaims(path) => Leaf::Claim(path.clone(), value.clone()),
                ConditionKey::RequestAuthPrincipal => Leaf::RequestPrincipal(value.clone()),
                ConditionKey::RequestHeader(name) => match name.as_str() {
                    ":method" => Leaf::Method(value.clone()),
                    ":authority" | "host" => Leaf::Host(value.clone()),
                    ":path" => Leaf::Path(value.clone()),
                    _ => Leaf::Header(name.clone(), value.clone()),
                },
                ConditionKey::EnvoyFilter { path, .. } => Leaf::Metadata(path[0].clone(), value.clone()),
                _ => Leaf::Peer,
            });
        }
        leaves
    }

    fn one<T>(&mut self, leaves: &mut Vec<(Leaf, bool)>, values: &[T], not: &[T], leaf: impl Fn(&T) -> Leaf) {
        for (values, positive) in [(values, true), (not, false)] {
            if !values.is_empty() {
                leaves.push((leaf(self.rng.pick(values)), positive));
            }
        }
    }

    /// A text that a pattern matches.
    fn like(&mut self, pattern: &str) -> String {
        let more = *self.rng.pick(&["", "x", "1"]);
        if pattern == "*" {
            return (*self.rng.pick(&["v", "a", ""])).to_owned();
        }
        match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
            (Some(suffix), _) => format!("{more}{suffix}"),
            (None, Some(prefix)) => format!("{prefix}{more}"),
            (None, None) => pattern.to_owned(),
        }
    }

    /// A text that a pattern just does not match, mostly.
    fn unlike(&mut self, pattern: &str) -> String {
        let like = self.like(pattern);
        match self.rng.below(5) {
            0 => format!("{like}z"),
            1 => format!("z{like}"),
            2 => like.get(1..).unwrap_or_default().to_owned(),
            3 => like
                .chars()
                .map(|c| if c.is_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() })
                .collect(),
            _ => format!("{like},{like}"),
        }
    }

    fn turn(&mut self, leaf: &Leaf, turn: Turn, call: &mut Call) {
        let satisfied = turn == Turn::Satisfied;
        match leaf {
            Leaf::Method(pattern) => {
                let like = self.like(pattern);
                let fits = METHODS.contains(&like.as_str()) && satisfied;
                call.method = if fits { like } else { self.usual(&METHODS) };
            }
            Leaf::Host(pattern) => {
                let text = if satisfied { self.like(pattern) } else { self.usual(&HOSTS) };
                let legal = |c: char| c.is_ascii_alphanumeric() || ".-:".contains(c);
                let fits = !text.is_empty() && text.chars().all(legal) && !text.starts_with(':');
                call.host = if fits { text } else { self.usual(&HOSTS) };
            }
            Leaf::Path(pattern) => call.path = self.path_like(pattern, satisfied),
            Leaf::Port(port) => call.destination_port = if satisfied { *port } else { *self.rng.pick(&PORTS) },
            Leaf::Peer => match turn {
                Turn::Missing => call.principal = None,
                _ => call.principal = Some((*self.rng.pick(&IDENTITIES)).to_owned()),
            },
            Leaf::SourceIp => call.source_ip = Ipv4Addr::from(*self.rng.pick(&SOURCE_IPS)),
            Leaf::RemoteIp(block) => {
                call.remote_ip = self.ip_like(block, satisfied);
                self.same_family(call);
            }
            Leaf::DestinationIp(block) => {
                let ip = self.ip_like(block, satisfied);
                if ip.is_ipv4() == call.remote_ip.is_ipv4() {
                    call.destination_ip = ip;
                }
            }
            Leaf::Sni => {
                call.sni = (turn != Turn::Missing).then(|| self.usual(&SERVER_NAMES));
                if call.principal.is_none() && self.rng.chance(80) {
                    call.principal = Some(IDENTITIES[0].to_owned());
                }
            }
            Leaf::RequestPrincipal(pattern) => self.request_principal(pattern, turn, call),
            Leaf::Claim(path, pattern) => self.claim(path, pattern, turn, call),
            Leaf::Metadata(key, pattern) => {
                call.metadata.retain(|(known, _)| known != key);
                let bare = pattern.trim_start_matches('[').trim_end_matches(']');
                let text = if satisfied { self.like(bare) } else { self.unlike(bare) };
                let is_list = pattern.starts_with('[') == satisfied;
                let value = match turn {
                    Turn::Missing => return,
                    _ if self.rng.chance(20) => {
                        let odd = [json!(true), json!([]), json!({"k": text}), json!([[text]]), json!("")];
                        self.rng.pick(&odd).clone()
                    }
                    _ if is_list => json!(["x", text]),
                    _ => json!(text),
                };
                call.metadata.push((key.clone(), value));
            }
            Leaf::Header(name, pattern) => {
                call.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
                if turn == Turn::Missing {
                    return;
                }
                let value = if satisfied { self.like(pattern) } else { self.unlike(pattern) };
                call.headers.push((name.clone(), value));
                if self.rng.chance(25) {
                    call.headers.push((name.clone(), (*self.rng.pick(&HEADER_VALUES)).to_owned()));
                }
            }
        }
    }

    fn path_like(&mut self, pattern: &str, satisfied: bool) -> String {
        let mut path = if !satisfied && self.rng.chance(50) {
            self.path()
        } else if pattern.contains("{*}") || pattern.contains("{**}") {
            let one = *self.rng.pick(&["x", "a.b", "x%20y", "a=b", "a*b", "b", "x,y;z"]);
            let any = *self.rng.pick(&["", "x", "x/y", "b", "x/y/"]);
            pattern.replace("{**}", any).replace("{*}", one)
        } else {
            self.like(pattern)
        };
        if !satisfied {
            match self.rng.below(4) {
                0 => path.push_str("/x"),
                1 => path.push('z'),
                2 => path = path.replace("/a", "/A"),
                _ => {}
            }
        }
        if !path.starts_with('/') {
            path.insert(0, '/');
        }
        if !self.fields.normalization {
            path = path.replace("//", "/");
        }
        if self.rng.chance(20) && !path.contains('?') {
            path.push_str(self.rng.pick::<&str>(&["?x=1", "?", "?a=b&c=/a/b"]));
        }
        path
    }

    fn ip_like(&mut self, block: &IpBlock, satisfied: bool) -> IpAddr {
        if satisfied && !block.address.is_unspecified() {
            block.address
        } else {
            self.rng.pick(&REMOTE_IPS).parse().unwrap()
        }
    }

    fn token<'c>(&mut self, call: &'c mut Call) -> Option<&'c mut Map<String, Value>> {
        if call.tokens.is_empty() {
            self.add_token(call);
        }
        call.tokens.first_mut().map(|(_, token)| &mut token.claims)
    }

    fn request_principal(&mut self, pattern: &str, turn: Turn, call: &mut Call) {
        let subject = match pattern.rsplit_once('/') {
            Some((_, subject)) => subject,
            None => pattern,
        };
        let mut value = match turn {
            Turn::Satisfied => Some(self.like(subject)),
            Turn::Violated => Some((*self.rng.pick(&SUBJECTS)).to_owned()),
            Turn::Missing => None,
        };
        if turn == Turn::Satisfied && !pattern.contains('/') && !pattern.starts_with('*') {
            // The pattern is about the issuer alone.
            value = Some(if pattern.ends_with('*') { "s".to_owned() } else { String::new() });
        }
        if turn == Turn::Missing && self.rng.chance(50) {
            call.tokens.clear();
            return;
        }
        let Some(claims) = self.token(call) else { return };
        match value {
            Some(value) => drop(claims.insert("sub".to_owned(), json!(value))),
            None => drop(claims.remove("sub")),
        }
    }

    fn claim(&mut self, path: &[String], pattern: &str, turn: Turn, call: &mut Call) {
        let value = match turn {
            Turn::Satisfied => {
                let text = self.like(pattern);
                match self.rng.below(4) {
                    0 => json!([text, "other"]),
                    1 => json!([1, "other", text]),
                    2 => json!(format!("other {text} x")),
                    _ => json!(text),
                }
            }
            Turn::Violated => {
                let text = self.unlike(pattern);
                let all =
                    [json!(text), json!([text]), json!(5), json!(true), json!(null), json!({"g1": "g1"}), json!([])];
                self.rng.pick(&all).clone()
            }
            Turn::Missing => Value::Null,
        };
        let Some(claims) = self.token(call) else { return };
        let [first, rest @ ..] = path else { return };
        if first == "iss" {
            return;
        }
        if turn == Turn::Missing {
            claims.remove(first);
            return;
        }
        let mut value = value;
        for name in rest.iter().rev() {
            value = json!({name: value});
        }
        claims.insert(first.clone(), value);
    }
}

fn audiences() -> Vec<Value> {
    vec![
        json!("aud1"),
        json!(["aud1", "aud2"]),
        json!("https://aud1"),
        json!("aud2/"),
        json!(["x"]),
        json!("http://aud2/"),
    ]
}

fn claim_values() -> Vec<(&'static str, Vec<Value>)> {
    vec![
        ("groups", vec![json!(["g1", "g2"]), json!("g1"), json!(["g2", 5, true]), json!([]), json!([["g1"]])]),
        ("role", vec![json!("r"), json!("a b"), json!(""), json!("r1"), json!("vx")]),
        ("scope", vec![json!("a b"), json!("g1 r"), json!("a  b"), json!(" a"), json!(["a b"]), json!("a\tb")]),
        ("permission", vec![json!("a g1"), json!(["g1"]), json!(7)]),
        ("custom", vec![json!("g1 a"), json!("a")]),
        (
            "nested",
            vec![
                json!({"k": "g1"}),
                json!({"k": ["g1", "r"]}),
                json!("g1"),
                json!({"k": {"k": "g1"}}),
                json!({"k": 5}),
            ],
        ),
        ("n", vec![json!(5), json!(5.5), json!(-5), json!(1e3), json!(12_345_678_901_i64)]),
        ("fraction", vec![json!(0.1), json!(1.0), json!(-0.5), json!(123_456.789), json!(1e20)]),
        ("flag", vec![json!(true), json!(false), json!("true")]),
        ("a.b", vec![json!("g1"), json!("a")]),
        ("https://x.example/c", vec![json!({"d": "g1"}), json!({"d": ["r"]})]),
        ("azp", vec![json!("azp1"), json!(["azp1"])]),
    ]
}
