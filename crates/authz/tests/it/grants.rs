//! An IAM answer that API Gateway caches: what it allows, by an IAM evaluator of its own, and what the gate says.

use authz::api::{Access, Api, ApiKind, ApiSet, Apis, Authorizer, AuthorizerKind, Route, Text, VERSION};
use authz::grants::UNREADABLE;
use authz::{Decision, Given, PathHandling, Peer, Request, Target, VerifiedTokens, grants, path};

use crate::grants_properties::PATHS;
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

pub(crate) fn world_in(mode: authz::Mode, documents: &str, virtual_service: &str) -> World {
    let file = istio::SourceFile { name: "policies.yaml".to_owned(), text: all(documents, virtual_service) };
    World::of_resources(&istio::parse(&[file]).unwrap(), mode)
}

pub(crate) fn all(documents: &str, virtual_service: &str) -> String {
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

pub(crate) fn apis(routes: &[(&str, &str)]) -> Apis {
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

pub(crate) fn target() -> Target {
    Target::ApiGateway { api_id: "a1b2c3".to_owned(), stage: "$default".to_owned(), domain: "shop.example".to_owned() }
}

pub(crate) fn at(caller: &Request, method: &str, path: &str) -> Request {
    Request { method: method.to_owned(), path: path.to_owned(), ..caller.clone() }
}

pub(crate) fn anonymous() -> Request {
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

pub(crate) fn client(name: &str) -> Request {
    bearer(anonymous(), &token(&claims_of(name, "x")))
}

/// What an authorizer that caches nothing answers to the path that an HTTP API shows it, percent-decoded.
pub(crate) fn decides(world: &World, caller: &Request, method: &str, decoded: &str) -> Option<Decision> {
    path::canonical(decoded).ok()?;
    Some(world.decide(&at(caller, method, &path::encode(decoded)), &target()))
}

pub(crate) fn allows(world: &World, caller: &Request, method: &str, decoded: &str) -> bool {
    decides(world, caller, method, decoded).is_some_and(|decision| decision.is_allowed())
}

/// `Resource` of the two statements of an answer.
pub(crate) struct Document {
    allow: Vec<String>,
    deny: Vec<String>,
}

impl Document {
    /// The answer to a request that is allowed, for an API with these routes.
    pub(crate) fn new(world: &World, routes: &Apis, caller: &Request, method: &str, decoded: &str) -> Self {
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
    pub(crate) fn allows(&self, method: &str, decoded: &str) -> bool {
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
    // So does the caller, whom only that destination knows.
    let known_there = all("", &split).replace(
        "name: idp, namespace: istio-system}\nspec:",
        "name: idp, namespace: istio-system}\nspec:\n  selector: {matchLabels: {app: admin}}",
    );
    let known_there = World::new(&known_there);
    assert_eq!(Document::new(&known_there, &routes, &client("a"), "GET", "/").short().0, ["GET/", "GET/a/*"]);
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
