//! What each of the two hops sees of a request, one policy for each attribute and hop.

use authz::{Decision, Hop, Mode, PathHandling, Peer, Reason, Request, Target};

use crate::support::{ISSUER, JWKS_URI, World, bearer, claims_of, reader, request, token, with_header};

const FILES: [(&str, &str); 4] = [
    ("gateway.yaml", include_str!("../../../../examples/bookinfo/gateway.yaml")),
    ("mesh.yaml", include_str!("../../../../examples/bookinfo/mesh.yaml")),
    ("routes.yaml", include_str!("../../../../examples/bookinfo/routes.yaml")),
    ("services.yaml", include_str!("../../../../examples/bookinfo/services.yaml")),
];

const GATEWAY: (&str, &str) = ("istio-system", "istio: ingressgateway");
const PRODUCTPAGE: (&str, &str) = ("bookinfo", "app: productpage");

fn authentication(at: (&str, &str), rule: &str) -> String {
    let (namespace, labels) = at;
    format!(
        "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: jwt, namespace: {namespace}}}
spec: {{selector: {{matchLabels: {{{labels}}}}}, jwtRules: [{{issuer: '{ISSUER}', jwksUri: '{JWKS_URI}', {rule}}}]}}
---"
    )
}

fn policy(at: (&str, &str), action: &str, rule: &str) -> String {
    let (namespace, labels) = at;
    format!(
        "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: p, namespace: {namespace}}}
spec: {{selector: {{matchLabels: {{{labels}}}}}, action: {action}, rules: [{rule}]}}
---"
    )
}

fn world(access: &str) -> World {
    let mut files = FILES.to_vec();
    files.push(("access.yaml", access));
    World::of_files(&files)
}

fn resources(access: &str) -> istio::Resources {
    let file = |&(name, text): &(&str, &str)| istio::SourceFile { name: name.to_owned(), text: text.to_owned() };
    let files: Vec<_> = FILES.iter().chain([&("access.yaml", access)]).map(file).collect();
    istio::parse(&files).unwrap()
}

fn api() -> Target {
    Target::ApiGateway { api_id: "bookinfo".to_owned(), stage: "$default".to_owned(), domain: String::new() }
}

/// A request that the authorizer saw, from a client with a certificate.
fn get(path: &str) -> Request {
    Request {
        host: "api.bookinfo.example".to_owned(),
        scheme: "https".to_owned(),
        destination_port: Some(443),
        source: Peer {
            ip: "203.0.113.7".parse().ok(),
            remote_ip: "203.0.113.7".parse().ok(),
            principal: Some("partner.example/ns/shop/sa/client".to_owned()),
        },
        ..request("GET", path)
    }
}

const GATEWAYS_OWN: &str = "cluster.local/ns/istio-system/sa/istio-ingressgateway-service-account";

#[test]
fn each_attribute_at_each_hop() {
    let token = reader();
    let request = || with_header(bearer(get("/productpage?q=1"), &token), "x-plain", "p");
    let source = |field: &str, value: &str| format!("{{from: [{{source: {{{field}: ['{value}']}}}}]}}");
    let operation = |field: &str, value: &str| format!("{{to: [{{operation: {{{field}: ['{value}']}}}}]}}");
    let when = |key: &str, value: &str| format!("{{when: [{{key: '{key}', values: ['{value}']}}]}}");
    // The rule, and whether it matches at the gateway and at the destination.
    let cases = [
        (source("principals", "partner.example/ns/shop/sa/client"), true, false),
        (source("principals", GATEWAYS_OWN), false, true),
        (source("namespaces", "shop"), true, false),
        (source("namespaces", "istio-system"), false, true),
        (when("source.principal", GATEWAYS_OWN), false, true),
        (when("source.namespace", "shop"), true, false),
        (operation("ports", "443"), true, false),
        (operation("ports", "9080"), false, true),
        (when("destination.port", "9080"), false, true),
        (operation("hosts", "api.bookinfo.example"), true, true),
        (operation("methods", "GET"), true, true),
        (operation("paths", "/productpage"), true, true),
        (when("request.headers[:path]", "/productpage?q=1"), true, true),
        (when("request.headers[:scheme]", "https"), true, true),
        (when("request.headers[x-plain]", "p"), true, true),
        // The token is verified and taken out at the gateway, and what it says goes on as a header.
        (when("request.headers[authorization]", "*"), false, false),
        (when("request.headers[x-client]", "reader"), true, true),
        (source("requestPrincipals", "*"), true, false),
        (when("request.auth.claims[scope]", "reviews.read"), true, false),
    ];
    let claims = authentication(GATEWAY, "outputClaimToHeaders: [{header: x-client, claim: client_id}]")
        + &authentication(PRODUCTPAGE, "forwardOriginalToken: true");
    let open = world(&claims).decide(&request(), &api());
    assert_eq!((open.is_allowed(), open.reason()), (true, Reason::AllowedNoPolicy), "{open:?}");
    for (rule, at_gateway, at_destination) in &cases {
        for (place, hop, matches) in
            [(GATEWAY, Hop::Gateway, *at_gateway), (PRODUCTPAGE, Hop::Destination, *at_destination)]
        {
            let id = format!("ns[{}]-policy[p]-rule[0]", place.0);
            let denied = world(&format!("{claims}{}", policy(place, "DENY", rule))).decide(&request(), &api());
            let expected = if matches { (Reason::DeniedByPolicy, hop) } else { (open.reason(), Hop::Destination) };
            assert_eq!((denied.reason(), denied.hop()), expected, "{rule} at {hop}: {denied:?}");
            assert_eq!(denied.policy().is_some(), matches);
            let allowed = world(&format!("{claims}{}", policy(place, "ALLOW", rule))).decide(&request(), &api());
            let expected = if matches { (true, Some(id.as_str())) } else { (false, None) };
            assert_eq!((allowed.is_allowed(), allowed.policy()), expected, "{rule} at {hop}: {allowed:?}");
        }
    }
}

/// A world with one policy of one rule.
fn with_rule(at: (&str, &str), action: istio::Action, rule: istio::Rule) -> World {
    let mut resources = resources(&policy(at, "ALLOW", "{}"));
    for policy in &mut resources.authorization_policies {
        policy.action = action;
        policy.rules = Some(vec![rule.clone()]);
    }
    World::of_resources(&resources, authz::Mode::Strict)
}

/// The addresses and what else of a connection may be unknown. "ALLOW: any generator error drops the whole rule. DENY:
/// the failing condition is dropped, the rest of the rule stays."
#[test]
fn what_a_hop_cannot_know_widens_denials_and_kills_allowances() {
    use istio::ConditionKey::{ConnectionSni, DestinationIp, EnvoyFilter, RemoteIp, SourceIp};
    /// What the rule finds at a hop.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Found {
        Same,
        Other,
        Unknown,
    }
    use Found::{Other, Same, Unknown};
    let when = |key: istio::ConditionKey, value: &str| istio::Rule {
        when: Some(vec![istio::Condition { key, values: vec![value.to_owned()], not_values: Vec::new() }]),
        ..istio::Rule::default()
    };
    let from = |source: istio::Source| istio::Rule { from: Some(vec![source]), ..istio::Rule::default() };
    let blocks = |text: &str| vec![text.parse().unwrap()];
    let filter = EnvoyFilter { filter: "envoy.filters.a".to_owned(), path: vec!["b".to_owned()] };
    let cases = [
        (when(SourceIp, "203.0.113.7"), Same, Unknown),
        (when(SourceIp, "198.51.100.1"), Other, Unknown),
        (when(RemoteIp, "203.0.113.7"), Same, Same),
        (when(RemoteIp, "198.51.100.1"), Other, Other),
        (from(istio::Source { ip_blocks: blocks("203.0.113.0/24"), ..Default::default() }), Same, Unknown),
        (from(istio::Source { ip_blocks: blocks("198.51.100.0/24"), ..Default::default() }), Other, Unknown),
        (from(istio::Source { remote_ip_blocks: blocks("203.0.113.0/24"), ..Default::default() }), Same, Same),
        (from(istio::Source { remote_ip_blocks: blocks("198.51.100.0/24"), ..Default::default() }), Other, Other),
        (when(DestinationIp, "198.51.100.1"), Unknown, Unknown),
        (when(ConnectionSni, "other.example"), Unknown, Unknown),
        (when(filter, "c"), Unknown, Unknown),
    ];
    for (rule, at_gateway, at_destination) in cases {
        for (place, found) in [(GATEWAY, at_gateway), (PRODUCTPAGE, at_destination)] {
            let world = with_rule(place, istio::Action::Deny, rule.clone());
            let denied = world.decide(&get("/productpage"), &api());
            assert_eq!(denied.is_allowed(), found == Other, "{rule:?} at {place:?}: {denied:?}");
            let world = with_rule(place, istio::Action::Allow, rule.clone());
            let allowed = world.decide(&get("/productpage"), &api());
            assert_eq!(allowed.is_allowed(), found == Same, "{rule:?} at {place:?}: {allowed:?}");
        }
    }
}

#[test]
fn a_forwarded_token_is_seen_twice() {
    let rule = "{from: [{source: {requestPrincipals: ['*']}}], when: [{key: 'request.headers[authorization]', values: ['Bearer *']}]}";
    for (forward, allowed) in [(true, true), (false, false)] {
        let forward = format!("forwardOriginalToken: {forward}");
        let access = authentication(GATEWAY, &forward)
            + &authentication(PRODUCTPAGE, "forwardOriginalToken: true")
            + &policy(PRODUCTPAGE, "ALLOW", rule);
        let decision = world(&access).decide(&bearer(get("/productpage"), &reader()), &api());
        assert_eq!((decision.is_allowed(), decision.hop()), (allowed, Hop::Destination), "{decision:?}");
        assert_eq!(decision.principal(), Some("https://issuer.bookinfo.example/client:reader"));
    }
    // A client cannot write the header that a rule makes out of claims, at neither hop.
    for at in [GATEWAY, PRODUCTPAGE] {
        let access = authentication(at, "outputClaimToHeaders: [{header: x-client, claim: client_id}]")
            + &policy(PRODUCTPAGE, "DENY", "{when: [{key: 'request.headers[x-client]', values: ['*']}]}");
        let forged = world(&access).decide(&with_header(get("/productpage"), "x-client", "boss"), &api());
        assert!(forged.is_allowed(), "{forged:?}");
        let Decision::Allow(allow) = forged else { panic!() };
        assert!(allow.upstream_headers().is_empty());
    }
}

#[test]
fn a_token_in_the_query_is_taken_out_of_the_path() {
    let query = |at, path: &str| {
        let rule = format!("{{when: [{{key: 'request.headers[:path]', values: ['{path}']}}]}}");
        world(&(authentication(at, "") + &policy(PRODUCTPAGE, "DENY", &rule)))
    };
    let request = get(&format!("/productpage?a=1&access_token={}", reader()));
    for at in [GATEWAY, PRODUCTPAGE] {
        let decision = query(at, "/productpage?a=1").decide(&request, &api());
        assert_eq!(decision.reason(), Reason::DeniedByPolicy, "{decision:?}");
        let Decision::Allow(allow) = query(at, "*=").decide(&request, &api()) else { panic!() };
        assert_eq!(allow.upstream_path(), "/productpage?a=1");
    }
    // Where nobody reads a token out of it, the query stays, and is not shown.
    let Decision::Allow(allow) = world("").decide(&request, &api()) else { panic!() };
    assert_eq!(allow.upstream_path(), request.path);
    assert!(!format!("{allow:?}").contains(&reader()));
}

#[test]
fn a_policy_for_one_hop_says_nothing_about_the_other() {
    let everything = "{}";
    for (at, hop) in [(GATEWAY, Hop::Gateway), (PRODUCTPAGE, Hop::Destination)] {
        let decision = world(&policy(at, "DENY", everything)).decide(&get("/productpage"), &api());
        assert_eq!((decision.reason(), decision.hop()), (Reason::DeniedByPolicy, hop));
    }
    for labels in ["app: reviews", "istio: other"] {
        for namespace in ["bookinfo", "istio-system"] {
            let access = policy((namespace, labels), "DENY", everything);
            assert!(world(&access).decide(&get("/productpage"), &api()).is_allowed(), "{namespace} {labels}");
        }
    }
}

#[test]
fn nothing_goes_where_no_virtual_service_sends_it() {
    let allow_all = policy(GATEWAY, "ALLOW", "{}") + &policy(PRODUCTPAGE, "ALLOW", "{}");
    for access in ["", allow_all.as_str()] {
        let world = world(access);
        assert!(world.decide(&get("/productpage"), &api()).is_allowed());
        for (host, path) in [
            ("api.bookinfo.example", "/nowhere"),
            ("productpage.bookinfo.svc.cluster.local", "/productpage"),
            ("evil.example", "/productpage"),
            ("", "/productpage"),
        ] {
            let decision = world.decide(&Request { host: host.to_owned(), ..get(path) }, &api());
            assert_eq!((decision.reason(), decision.hop()), (Reason::DestinationUnknown, Hop::Gateway), "{host}{path}");
        }
    }
}

// ---- the path

fn with_normalization(normalization: istio::PathNormalization, access: &str) -> World {
    let mut resources = resources(access);
    resources.mesh.path_normalization = normalization;
    World::of_resources(&resources, authz::Mode::Strict)
}

#[test]
fn the_normal_form_is_judged_routed_and_forwarded() {
    let access = policy(GATEWAY, "DENY", "{to: [{operation: {paths: ['/admin', '/admin/*']}}]}");
    use istio::PathNormalization::{Base, DecodeAndMergeSlashes, MergeSlashes};
    // What was sent, and what comes of it: the path that is forwarded, or a denial.
    let cases = [
        (Base, "/x/../productpage?a=..", Ok("/productpage?a=..")),
        (Base, "/%70roductpage", Ok("/productpage")),
        (Base, "/productpage#f", Ok("/productpage")),
        (Base, "/productpage/../admin", Err(Reason::DeniedByPolicy)),
        (Base, "/%61dmin", Err(Reason::DeniedByPolicy)),
        (Base, "/x\\..\\admin", Err(Reason::DeniedByPolicy)),
        (Base, "//admin", Err(Reason::DestinationUnknown)),
        (MergeSlashes, "//admin", Err(Reason::DeniedByPolicy)),
        (MergeSlashes, "//productpage", Ok("/productpage")),
        (MergeSlashes, "/admin%2fx", Err(Reason::DestinationUnknown)),
        (DecodeAndMergeSlashes, "/admin%2fx", Err(Reason::DeniedByPolicy)),
        (istio::PathNormalization::None, "/productpage", Ok("/productpage")),
        (istio::PathNormalization::None, "/%61dmin", Err(Reason::DestinationUnknown)),
        (Base, "/a%00", Err(Reason::PathInvalid)),
        (Base, "", Err(Reason::PathInvalid)),
        (Base, "*", Err(Reason::PathInvalid)),
        (istio::PathNormalization::None, "a", Err(Reason::PathInvalid)),
    ];
    for (mode, path, expected) in cases {
        let world = with_normalization(mode, &access);
        let (decision, trace) = world.explain(&get(path), &api());
        match expected {
            Ok(forwarded) => {
                let Decision::Allow(allow) = &decision else { panic!("{mode:?} {path}: {decision:?}") };
                assert_eq!(allow.upstream_path(), forwarded, "{mode:?} {path}");
            }
            Err(reason) => assert_eq!(decision.reason(), reason, "{mode:?} {path}: {decision:?}"),
        }
        if decision.reason() == Reason::PathInvalid {
            assert_eq!((decision.status(), decision.hop()), (400, Hop::Request));
            assert!(trace.hops.is_empty());
        }
    }
}

#[test]
fn a_path_that_cannot_be_rewritten_must_be_in_the_normal_form() {
    use istio::PathNormalization::{Base, DecodeAndMergeSlashes, MergeSlashes};
    for (mode, path, reason) in [
        (Base, "/productpage", Reason::AllowedNoPolicy),
        (Base, "/productpage?a=../b", Reason::AllowedNoPolicy),
        (Base, "/x/../productpage", Reason::PathNotCanonical),
        (Base, "/%70roductpage", Reason::PathNotCanonical),
        (Base, "/productpage#f", Reason::PathNotCanonical),
        // Decoded to `/..;`, which a servlet container would read as `/..`.
        (Base, "/productpage/%2e%2e;/admin", Reason::PathNotCanonical),
        (Base, "/productpage/..;/admin", Reason::PathNotCanonical),
        (Base, "//productpage", Reason::DestinationUnknown),
        (MergeSlashes, "//productpage", Reason::PathNotCanonical),
        (DecodeAndMergeSlashes, "/productpage%2fx", Reason::PathNotCanonical),
        (Base, "/a%00", Reason::PathInvalid),
        (Base, "a", Reason::PathInvalid),
    ] {
        let request = Request { path_handling: PathHandling::AsSent, ..get(path) };
        let decision = with_normalization(mode, "").decide(&request, &api());
        assert_eq!(decision.reason(), reason, "{mode:?} {path}: {decision:?}");
        if let Decision::Allow(allow) = &decision {
            assert_eq!(allow.upstream_path(), path);
        }
    }
}

/// Each hop reads a header that the other one does not: the two callers must not add up to one.
#[test]
fn two_callers_one_at_each_hop_are_a_mismatch_in_strict() {
    let access = authentication(GATEWAY, "fromHeaders: [{name: x-first}]")
        + &authentication(PRODUCTPAGE, "fromHeaders: [{name: x-second}]")
        + &policy(GATEWAY, "ALLOW", "{from: [{source: {requestPrincipals: ['*']}}]}");
    let of = |client: &str, scope: &str| token(&claims_of(client, scope));
    let ask = |mode, first: &str, second: &str| {
        let request = with_header(with_header(get("/productpage"), "x-first", first), "x-second", second);
        let world = World::of_resources(&resources(&access), mode);
        (world.decide(&request, &api()).reason(), world.explain(&request, &api()).0.reason())
    };
    let (reader, other) = (of("reader", "a"), of("other", "a"));
    let (allowed, mismatch) = (Reason::AllowedByPolicy, Reason::CredentialMismatch);
    assert_eq!(ask(Mode::Strict, &reader, &other), (mismatch, mismatch));
    assert_eq!(ask(Mode::Strict, &other, &reader), (mismatch, mismatch));
    // Another token of the same caller.
    assert_eq!(ask(Mode::Strict, &reader, &of("reader", "b")), (allowed, allowed));
    assert_eq!(ask(Mode::Istio, &reader, &other), (allowed, allowed));
}
