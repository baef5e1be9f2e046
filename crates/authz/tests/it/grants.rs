//! An IAM answer that API Gateway caches: what it allows, by an IAM evaluator of its own, and what the gate says.

use authz::api::{Access, Api, ApiKind, ApiSet, Apis, Authorizer, AuthorizerKind, Route, Text, VERSION};
use authz::grants::UNREADABLE;
use authz::{Decision, Given, PathHandling, Peer, Request, Target, VerifiedTokens, grants, path};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::support::{ISSUER, JWKS_URI, World, bearer, claims_of, request, token, with_header};

const BASE: &str = "arn:aws:execute-api:eu-central-1:123456789012:a1b2c3/$default/";

const AROUND: &str = r#"
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: [shop.example], tls: {mode: SIMPLE, credentialName: shop}}
---
apiVersion: causeway.dev/v1alpha1
kind: ApiGateway
metadata: {name: front, namespace: shop}
spec:
  apiId: a1b2c3
  stage: $default
  domain: shop.example
  gateway: shop/front
  workload: {namespace: istio-system, labels: {istio: ingressgateway}, serviceAccount: gateway}
  environment: dev
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{name: http, port: 80}], selector: {app: web}}
---
apiVersion: v1
kind: Service
metadata: {name: admin, namespace: shop}
spec: {ports: [{name: http, port: 80}], selector: {app: admin}}
---
"#;

pub(crate) fn world(documents: &str, virtual_service: &str) -> World {
    World::new(&all(documents, virtual_service))
}

fn all(documents: &str, virtual_service: &str) -> String {
    let routes = format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: shop, namespace: shop}}\nspec:\n  hosts: \
         [shop.example]\n  gateways: [front]\n  http:\n{virtual_service}---\n"
    );
    let authentication = format!(
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: idp, namespace: \
         istio-system}}\nspec:\n  jwtRules: [{{issuer: \"{ISSUER}\", jwksUri: \"{JWKS_URI}\", forwardOriginalToken: true}}]\n"
    );
    format!("{AROUND}{routes}{authentication}{documents}")
}

pub(crate) const ALL_TO_WEB: &str = "  - route: [{destination: {host: web, port: {number: 80}}}]\n";

fn apis(routes: &[(&str, &str)]) -> Apis {
    let authorizer = Authorizer {
        name: "own".to_owned(),
        line: 1,
        kind: AuthorizerKind::Request,
        function: None,
        identity_sources: Vec::new(),
        ttl_seconds: None,
        payload_format: None,
        simple_responses: false,
    };
    let route = |(method, path): &(&str, &str)| Route {
        method: (*method).to_owned(),
        path: (*path).to_owned(),
        access: Access::Authorizer(0),
        file: String::new(),
        line: 1,
    };
    let api = Api {
        reference: Text::Known("Api".to_owned()),
        file: String::new(),
        line: 1,
        kind: Some(ApiKind::Http),
        stages: vec![Text::Known("$default".to_owned())],
        authorizers: vec![authorizer],
        routes: routes.iter().map(route).collect(),
    };
    Apis::open(&ApiSet { version: VERSION, apis: vec![api] }.write().unwrap()).unwrap()
}

fn target() -> Target {
    Target::ApiGateway { api_id: "a1b2c3".to_owned(), stage: "$default".to_owned(), domain: "shop.example".to_owned() }
}

fn at(caller: &Request, method: &str, path: &str) -> Request {
    Request { method: method.to_owned(), path: path.to_owned(), ..caller.clone() }
}

fn anonymous() -> Request {
    let ip = "203.0.113.7".parse().ok();
    Request {
        host: "shop.example".to_owned(),
        scheme: "https".to_owned(),
        headers_joined: true,
        path_handling: PathHandling::AsSent,
        source: Peer { ip, remote_ip: ip, principal: None },
        ..request("GET", "/")
    }
}

fn client(name: &str) -> Request {
    bearer(anonymous(), &token(&claims_of(name, "x")))
}

/// What an authorizer that caches nothing answers to the path that an HTTP API shows it, percent-decoded.
fn decides(world: &World, caller: &Request, method: &str, decoded: &str) -> Option<Decision> {
    path::canonical(decoded).ok()?;
    Some(world.decide(&at(caller, method, &path::encode(decoded)), &target()))
}

fn allows(world: &World, caller: &Request, method: &str, decoded: &str) -> bool {
    decides(world, caller, method, decoded).is_some_and(|decision| decision.is_allowed())
}

/// `Resource` of the two statements of an answer.
struct Document {
    allow: Vec<String>,
    deny: Vec<String>,
}

impl Document {
    /// The answer to a request that is allowed, for an API with these routes.
    fn new(world: &World, routes: &Apis, caller: &Request, method: &str, decoded: &str) -> Self {
        Self::within(world, routes, caller, (method, decoded), usize::MAX)
    }

    fn within(world: &World, routes: &Apis, caller: &Request, asked: (&str, &str), bytes: usize) -> Self {
        let (method, decoded) = asked;
        let request = at(caller, method, &path::encode(decoded));
        let Decision::Allow(allow) = world.decide(&request, &target()) else { panic!("{asked:?} is denied") };
        let verified = VerifiedTokens::default();
        let given = Given { verified: Some(&verified), ..world.given() };
        let found = grants(&world.policies, routes, &request, &target(), &given, &allow);
        let resources = found.resources(BASE, bytes);
        let mut all = vec![format!("{BASE}{method}{decoded}")];
        all.extend(resources.allow);
        Self { allow: all, deny: resources.deny }
    }

    /// IAM: "an explicit deny in any of these policies overrides the allow"; what nothing allows is denied.
    fn allows(&self, method: &str, decoded: &str) -> bool {
        let arn = format!("{BASE}{method}{decoded}");
        let any = |list: &[String]| list.iter().any(|resource| like(resource.as_bytes(), arn.as_bytes()));
        any(&self.allow) && !any(&self.deny)
    }

    /// Without the part of the ARN that is always the same.
    fn short(&self) -> (Vec<&str>, Vec<&str>) {
        let unreadable: Vec<String> = UNREADABLE.iter().map(|resource| format!("{BASE}{resource}")).collect();
        (
            self.allow.iter().map(|one| one.strip_prefix(BASE).unwrap()).collect(),
            self.deny
                .iter()
                .filter(|one| !unreadable.contains(one))
                .map(|one| one.strip_prefix(BASE).unwrap())
                .collect(),
        )
    }
}

/// IAM's `*`, any text, and `?`, any one character.
fn like(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => like(rest, text) || text.split_first().is_some_and(|(_, text)| like(pattern, text)),
        (Some((b'?', rest)), Some((_, text))) => like(rest, text),
        (Some((wanted, rest)), Some((found, text))) => wanted == found && like(rest, text),
        _ => false,
    }
}

#[test]
fn iam() {
    for (pattern, text, expected) in [
        ("a*c", "abbc", true),
        ("a*c", "ac", true),
        ("a*c", "ab", false),
        ("a?c", "a/c", true),
        ("a?c", "ac", false),
        ("*", "", true),
        ("a/*/c", "a/b/b/c", true),
        ("A", "a", false),
    ] {
        assert_eq!(like(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
    }
}

pub(crate) fn policy(action: &str, rules: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p-{}, namespace: shop}}\nspec:\n  \
         action: {action}\n  rules: {rules}\n",
        action.to_ascii_lowercase()
    )
}

#[test]
fn what_is_granted() {
    let allow_a = policy("ALLOW", r#"[{to: [{operation: {methods: [GET], paths: ["/a", "/a/*", "/b"]}}]}]"#);
    let with = |deny: &str| {
        format!("{allow_a}{}", policy("DENY", &format!(r#"[{{to: [{{operation: {{paths: [{deny}]}}}}]}}]"#)))
    };
    let template = policy("ALLOW", r#"[{to: [{operation: {paths: ["/a", "/a/{**}"]}}]}]"#);
    type Row<'a> = (&'a str, String, &'a [(&'a str, &'a str)], &'a [&'a str], &'a [&'a str]);
    let rows: [Row<'_>; 11] = [
        ("no known route", allow_a.clone(), &[], &[], &[]),
        (
            "exact paths and one pattern",
            allow_a.clone(),
            &[("GET", "/a"), ("POST", "/a"), ("GET", "/b"), ("GET", "/c"), ("GET", "/a/{id}"), ("POST", "/a/{id}")],
            &["GET/a", "GET/b", "GET/a/*"],
            &[],
        ),
        ("every method is named", allow_a.clone(), &[("ANY", "/a/{proxy+}")], &["GET/a/*"], &[]),
        ("what follows a parameter", allow_a.clone(), &[("GET", "/a/{id}/c")], &["GET/a/*/c"], &[]),
        ("too wide", allow_a.clone(), &[("GET", "/{proxy+}"), ("", "$default")], &[], &[]),
        (
            "a known route in it that is denied",
            with("\"/a/secret\""),
            &[("GET", "/a/{id}"), ("ANY", "/a/secret")],
            &["GET/a/*"],
            &["GET/a/secret*"],
        ),
        ("the same, unknown", with("\"/a/secret\""), &[("GET", "/a/{id}")], &[], &[]),
        (
            "a denial that would deny what is granted",
            with("\"/a/secret\""),
            &[("GET", "/a/{id}"), ("GET", "/a/secret"), ("GET", "/a/secrets")],
            &["GET/a/secrets"],
            &[],
        ),
        ("a denied end", with("\"*/admin\""), &[("GET", "/a/{id}"), ("GET", "/a/x/admin")], &[], &[]),
        ("a template", template, &[("GET", "/a/{proxy+}")], &["GET/a/*"], &[]),
        (
            "what cannot be named",
            allow_a.clone(),
            &[("GET", "/a/.x"), ("GET", "/a/x*"), ("GET", "/a/%41"), ("connect", "/a"), ("", "$connect"), ("GET", "a")],
            &[],
            &[],
        ),
    ];
    for (name, policies, routes, allow, deny) in rows {
        let world = world(&policies, ALL_TO_WEB);
        let document = Document::new(&world, &apis(routes), &client("a"), "GET", "/a");
        let mut expected = vec!["GET/a"];
        expected.extend(allow);
        assert_eq!(document.short(), (expected, deny.to_vec()), "{name}");
    }
}

#[test]
fn destinations_and_callers() {
    let split = "  - match: [{uri: {prefix: /a/admin}}]\n    route: [{destination: {host: admin, port: {number: 80}}}]\n  - route: \
                 [{destination: {host: web, port: {number: 80}}}]\n";
    let routes = apis(&[("GET", "/a/{id}"), ("GET", "/b/{id}"), ("GET", "/b")]);
    let of_admin = policy("DENY", "[{}]").replace("spec:", "spec:\n  selector: {matchLabels: {app: admin}}");
    // Not all of /a/* goes one way.
    assert_eq!(
        Document::new(&world(&of_admin, split), &routes, &client("a"), "GET", "/").short().0,
        ["GET/", "GET/b", "GET/b/*"]
    );
    // What only one destination learns of the caller stands in the context of the answer.
    let own = format!(
        "---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: own, namespace: shop}}\nspec:\n  \
         selector: {{matchLabels: {{app: admin}}}}\n  jwtRules: [{{issuer: \"{ISSUER}\", jwksUri: \"{JWKS_URI}\", \
         outputClaimToHeaders: [{{header: x-sub, claim: sub}}]}}]\n"
    );
    let split = split.replace("/a/admin", "/b");
    let own = all(&own, &split).replace(
        "name: idp, namespace: istio-system}\nspec:",
        "name: idp, namespace: istio-system}\nspec:\n  selector: {matchLabels: {istio: ingressgateway}}",
    );
    let own = World::new(&own);
    assert_eq!(Document::new(&own, &routes, &client("a"), "GET", "/").short().0, ["GET/", "GET/a/*"]);
    assert_eq!(Document::new(&own, &routes, &client("a"), "GET", "/b").short().0, ["GET/b", "GET/b", "GET/b/*"]);
    // No caller, no difference.
    assert_eq!(Document::new(&own, &routes, &anonymous(), "GET", "/b").allow.len(), 4);
}

#[test]
fn what_a_backend_could_read_in_another_way_is_denied() {
    let world = world("", ALL_TO_WEB);
    let document = Document::new(&world, &apis(&[("GET", "/a/{proxy+}")]), &client("a"), "GET", "/");
    for path in ["/a/x", "/a/", "/a/x/y", "/a/x/", "/a/~x", "/a/é"] {
        assert!(document.allows("GET", path), "{path}");
    }
    for path in PATHS.iter().filter(|path| path.starts_with("/a/") && path::canonical(path).is_err()) {
        assert!(!document.allows("GET", path), "{path}");
    }
    for path in ["/a/..?x", "/a/.?x", "/a/.", "/a/..;/x", "/a/\"x", "/a/{x}", "/b", "/ab", "/a"] {
        assert!(!document.allows("GET", path), "{path}");
    }
    assert!(!document.allows("POST", "/a/x") && !document.allows("POST", "/GET/a/x"));
}

#[test]
fn a_preflight_is_authenticated_in_another_way() {
    let only = policy("ALLOW", "[{from: [{source: {requestPrincipals: [\"*\"]}}]}]");
    let world = world(&only, ALL_TO_WEB);
    let caller = with_header(with_header(client("a"), "origin", "x"), "access-control-request-method", "GET");
    let document = Document::new(&world, &apis(&[("ANY", "/a/{id}")]), &caller, "GET", "/");
    assert!(document.allows("POST", "/a/x") && !document.allows("OPTIONS", "/a/x"));
    assert!(Document::new(&world, &apis(&[("ANY", "/a/{id}")]), &client("a"), "GET", "/").allows("OPTIONS", "/a/x"));
}

#[test]
fn what_a_provider_said_counts_for_its_request_alone() {
    let custom = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    \
                  extensionProviders:\n    - {name: ext, envoyExtAuthzGrpc: {service: ext.shop.svc.cluster.local, port: 9000}}\n---\n\
                  apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: c, namespace: shop}\nspec:\n  action: \
                  CUSTOM\n  provider: {name: ext}\n  rules: [{to: [{operation: {paths: [\"/a*\"]}}]}]\n";
    let mut world = world(custom, ALL_TO_WEB);
    world.providers = Some([("ext".to_owned(), authz::ProviderAnswer::Allow)].into());
    let routes = apis(&[("GET", "/a/{id}"), ("GET", "/a"), ("GET", "/b/{id}")]);
    assert_eq!(Document::new(&world, &routes, &client("a"), "GET", "/a").short().0, ["GET/a", "GET/b/*"]);
}

#[test]
fn what_does_not_fit_is_not_allowed() {
    let world = world("", ALL_TO_WEB);
    let routes: Vec<String> =
        (0..20).map(|n| format!("/r{n:02}")).chain((0..5).map(|n| format!("/p{n}/{{id}}"))).collect();
    let routes: Vec<(&str, &str)> = routes.iter().map(|path| ("GET", path.as_str())).collect();
    let routes = apis(&routes);
    let mut seen = std::collections::BTreeSet::new();
    for bytes in (0..4_000).step_by(37).chain([usize::MAX]) {
        let document = Document::within(&world, &routes, &client("a"), ("GET", "/x"), bytes);
        let used: usize = document.allow[1..].iter().chain(&document.deny).map(|arn| arn.len() + 4).sum();
        assert!(used <= bytes, "{used} {bytes}");
        let patterns = document.allow.iter().filter(|arn| arn.contains('*')).count();
        assert_eq!(document.deny.len(), if patterns > 0 { UNREADABLE.len() } else { 0 }, "{bytes}");
        seen.insert((document.allow.len(), patterns));
    }
    assert!(
        seen.contains(&(1, 0)) && seen.contains(&(21, 0)) && seen.contains(&(23, 2)) && seen.contains(&(26, 5)),
        "{seen:?}"
    );
    // The longest resource of an answer, and one more.
    for (length, expected) in [(512, 2), (513, 1)] {
        let path = format!("/{}", "x".repeat(length - BASE.len() - "GET/".len()));
        assert_eq!(Document::new(&world, &apis(&[("GET", &path)]), &client("a"), "GET", "/").allow.len(), expected);
    }
}

const POLICY_PATHS: [&str; 18] = [
    "/a",
    "/a*",
    "/a/*",
    "*",
    "/b",
    "*b",
    "/a/b",
    "/a/b*",
    "/a/{*}",
    "/a/{**}",
    "/a/{*}/c",
    "/",
    "/{**}",
    "/a/b/*",
    "/a/{**}/c",
    "*/c",
    "/*",
    "/a/x",
];
const ROUTES: [(&str, &str); 14] = [
    ("GET", "/a"),
    ("ANY", "/a"),
    ("GET", "/a/{id}"),
    ("POST", "/a/{id}"),
    ("ANY", "/a/{proxy+}"),
    ("GET", "/a/b"),
    ("POST", "/a/b"),
    ("GET", "/a/{id}/c"),
    ("GET", "/a/b/{x}"),
    ("ANY", "/{proxy+}"),
    ("", "$default"),
    ("GET", "/b"),
    ("GET", "/a/bb"),
    ("GET", "/"),
];
const METHODS: [&str; 4] = ["GET", "POST", "OPTIONS", "PUT"];
/// Of every route, of its ARN alone, and of neither; percent-decoded, as an HTTP API has them.
const PATHS: [&str; 32] = [
    "/",
    "/a",
    "/a/",
    "/a/b",
    "/a/bb",
    "/a/b/",
    "/a/x",
    "/a/x/c",
    "/a/x/c/d",
    "/a/b/c",
    "/a/b/x",
    "/a/b/x/y",
    "/b",
    "/b/",
    "/c",
    "/ab",
    "/A",
    "/a/.x",
    "/a/../b",
    "/a/..",
    "/a//b",
    "/a/x;y",
    "/a/%2e%2e/b",
    "/a/x\"y",
    "/a/é",
    "/a/x y",
    "/a/[x]",
    "/a/x*",
    "/GET/a/x",
    "/a/x\\c",
    "/a/b#c",
    "/a/$x",
];
/// Where a backend may take the end for a query.
const CUT: [&str; 6] = ["/a/?x", "/a/b?x", "/a/x?/c", "/a?x", "/a/x/c?b", "/a/b/?/c"];

fn values(of: &'static [&'static str]) -> impl Strategy<Value = String> {
    subsequence(of.to_vec(), 1..=2)
        .prop_map(|values| values.iter().map(|value| format!("\"{value}\"")).collect::<Vec<_>>().join(", "))
}

fn field(name: &'static str, of: &'static [&'static str]) -> impl Strategy<Value = String> {
    values(of).prop_map(move |values| format!("{name}: [{values}]"))
}

fn fields(all: Vec<BoxedStrategy<String>>) -> impl Strategy<Value = String> {
    let length = all.len();
    (all, subsequence((0..length).collect::<Vec<_>>(), 1..=2))
        .prop_map(|(all, chosen)| chosen.iter().map(|index| all[*index].clone()).collect::<Vec<_>>().join(", "))
}

fn rule() -> impl Strategy<Value = String> {
    let operation = || {
        fields(vec![
            field("paths", &POLICY_PATHS).boxed(),
            field("paths", &POLICY_PATHS).boxed(),
            field("notPaths", &POLICY_PATHS).boxed(),
            field("methods", &["GET", "P*", "*", "*T"]).boxed(),
            field("notMethods", &["POST", "OPTIONS", "P*"]).boxed(),
            field("hosts", &["shop.example", "other"]).boxed(),
        ])
        .prop_map(unique)
    };
    let to = proptest::collection::vec(operation(), 0..=2).prop_map(|list| {
        let list: Vec<String> = list.iter().map(|one| format!("{{operation: {{{one}}}}}")).collect();
        if list.is_empty() { String::new() } else { format!("to: [{}]", list.join(", ")) }
    });
    let from = select(vec![
        "",
        "",
        "",
        "from: [{source: {requestPrincipals: [\"*\"]}}]",
        "from: [{source: {requestPrincipals: [\"https://issuer.bookinfo.example/client:a\"]}}]",
        "from: [{source: {notRequestPrincipals: [\"*\"]}}]",
        "from: [{source: {remoteIpBlocks: [\"203.0.113.0/24\"]}}]",
        "from: [{source: {notIpBlocks: [\"203.0.113.0/24\"]}}]",
    ]);
    let when = select(vec![
        "",
        "",
        "",
        "",
        "when: [{key: \"request.headers[x]\", values: [\"1\"]}]",
        "when: [{key: \"request.headers[:path]\", values: [\"/a*\"]}]",
        "when: [{key: \"request.headers[:path]\", notValues: [\"/a/b\"]}]",
        "when: [{key: \"request.headers[:method]\", values: [\"GET\"]}]",
        "when: [{key: \"request.auth.claims[scope]\", notValues: [\"x\"]}]",
    ]);
    (from, to, when).prop_map(|(from, to, when)| {
        let parts: Vec<&str> = [from, to.as_str(), when].into_iter().filter(|part| !part.is_empty()).collect();
        format!("{{{}}}", parts.join(", "))
    })
}

/// A field comes once.
fn unique(text: String) -> String {
    let mut seen: Vec<&str> = Vec::new();
    let mut kept: Vec<&str> = Vec::new();
    for part in text.split("], ") {
        let name = part.split(':').next().unwrap();
        if !seen.contains(&name) {
            seen.push(name);
            kept.push(part.trim_end_matches(']'));
        }
    }
    kept.iter().map(|part| format!("{part}]")).collect::<Vec<_>>().join(", ")
}

fn policies() -> impl Strategy<Value = String> {
    let place = select(vec![
        ("istio-system", "  selector: {matchLabels: {istio: ingressgateway}}\n"),
        ("shop", "  selector: {matchLabels: {app: web}}\n"),
        ("shop", "  selector: {matchLabels: {app: admin}}\n"),
        ("shop", ""),
    ]);
    let one = (place, select(vec!["ALLOW", "ALLOW", "DENY"]), proptest::collection::vec(rule(), 1..=3));
    proptest::collection::vec(one, 0..=4).prop_map(|list| {
        let all = list.iter().enumerate().map(|(n, ((namespace, selector), action, rules))| {
            format!(
                "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p{n}, namespace: \
                 {namespace}}}\nspec:\n{selector}  action: {action}\n  rules: [{}]\n",
                rules.join(", ")
            )
        });
        all.collect()
    })
}

fn virtual_service() -> impl Strategy<Value = String> {
    let uri = select(vec!["prefix: /a", "prefix: /a/", "exact: /a/b", "prefix: /a/b", "exact: /b", "prefix: /a/x"]);
    proptest::collection::vec((uri, any::<bool>()), 0..=2).prop_map(|list| {
        let to = |host: &str| format!("route: [{{destination: {{host: {host}, port: {{number: 80}}}}}}]\n");
        let some = list.iter().map(|(uri, admin)| {
            format!("  - match: [{{uri: {{{uri}}}}}]\n    {}", to(if *admin { "admin" } else { "web" }))
        });
        format!("{}  - {}", some.collect::<String>(), to("web"))
    })
}

fn caller() -> impl Strategy<Value = Request> {
    let who = select(vec![None, Some("a"), Some("b")]);
    (who, any::<[bool; 2]>()).prop_map(|(who, [header, preflight])| {
        let mut caller = who.map_or_else(anonymous, client);
        if header {
            caller = with_header(caller, "x", "1");
        }
        if preflight {
            caller = with_header(with_header(caller, "origin", "x"), "access-control-request-method", "GET");
        }
        caller
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    /// Nothing is allowed that the gate denies, and everything that it allows on a known route without parameters.
    #[test]
    fn a_cached_answer_says_what_the_gate_says(
        policies in policies(),
        virtual_service in virtual_service(),
        routes in subsequence(ROUTES.to_vec(), 1..=8),
        caller in caller(),
    ) {
        let world = world(&policies, &virtual_service);
        let known = apis(&routes);
        // By the place of the path in PATHS.
        let decided: Vec<Vec<Option<Decision>>> = METHODS
            .iter()
            .map(|method| PATHS.iter().map(|path| decides(&world, &caller, method, path)).collect())
            .collect();
        for (row, method) in decided.iter().zip(METHODS) {
            // What is granted beside the first request that is allowed and the last one. An ARN with a `*` is a pattern
            // itself: a front must not name it.
            let allowed = || {
                let nameable = (0..PATHS.len()).filter(|at| !PATHS[*at].contains('*'));
                nameable.filter(|at| row[*at].as_ref().is_some_and(Decision::is_allowed))
            };
            for at_path in allowed().next().into_iter().chain(allowed().last()) {
                let asked = PATHS[at_path];
                let Some(Decision::Allow(allow)) = &row[at_path] else { panic!() };
                let document = Document::new(&world, &known, &caller, method, asked);
                prop_assert!(document.allows(method, asked), "{method} {asked} itself");
                for (row, other) in decided.iter().zip(METHODS) {
                    for (decision, path) in row.iter().zip(PATHS) {
                        let allowed = document.allows(other, path);
                        let this = match decision {
                            Some(Decision::Allow(this)) => Some(this),
                            _ => None,
                        };
                        prop_assert!(!allowed || this.is_some(), "{method} {asked}: {other} {path}");
                        let is_known = routes.iter().any(|(m, p)| *p == path && (*m == other || *m == "ANY"));
                        let plain = path::encode(asked) == asked && !asked.contains(['.', '$', '*', '[']);
                        if is_known && plain && !allowed && let Some(this) = this {
                            prop_assert!(this.claims() != allow.claims(), "{method} {asked}: {other} {path} is missing");
                        }
                    }
                    // A decoded question mark: both of its readings are allowed.
                    for path in CUT.iter().filter(|path| document.allows(other, path)) {
                        let before = path.split('?').next().unwrap();
                        let encoded = at(&caller, other, &path.replace('?', "%3F"));
                        prop_assert!(allows(&world, &caller, other, before), "{method} {asked}: {other} {path}");
                        prop_assert!(world.decide(&encoded, &target()).is_allowed(), "{method} {asked}: {other} {path}");
                    }
                }
            }
        }
    }
}
