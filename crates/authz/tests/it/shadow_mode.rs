//! Shadow mode: what is overlooked, what never is, and what goes on of a request.

use authz::shadow_mode::MAX_AHEAD;
use authz::{
    Allow, Decision, Deny, Hop, KeyRecordLookup, KeyState, Mode, Reason, Request, ShadowMode, Target, overlook,
};
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::{NOW, World, api_key, bearer, claims_of, reader, request, token, token_of, with_header, workload};

/// Tokens at every kind of place, and both credentials forwarded.
const AUTHENTICATION: &str = "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: { name: tokens, namespace: ns1 }
spec:
  jwtRules:
    - issuer: https://issuer.bookinfo.example
      audiences: [bookinfo]
      jwksUri: https://issuer.bookinfo.example/jwks.json
      forwardOriginalToken: true
      fromHeaders: [{ name: authorization, prefix: 'Bearer ' }, { name: x-token }]
      fromParams: [access_token]
      fromCookies: [session]
      outputPayloadToHeader: x-payload
      outputClaimToHeaders: [{ header: x-client, claim: client_id }]
---
apiVersion: causeway.dev/v1alpha1
kind: ApiKeyAuthentication
metadata: { name: keys, namespace: ns1 }
spec: { issuer: https://issuer.bookinfo.example, forwardOriginalKey: true }
---
";

const CLOSED: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: closed, namespace: ns1 }
spec: {}
";

fn on() -> ShadowMode {
    ShadowMode::new("ns1", NOW + 1).unwrap()
}

/// What shadow mode makes of the world's answer.
fn shadowed(world: &World, mode: &ShadowMode, request: &Request, target: &Target) -> Decision {
    match world.decide(request, target) {
        Decision::Deny(deny) => overlook(&world.policies, request, target, mode, Some(&world.given()), world.now, deny),
        allow => allow,
    }
}

fn allow(decision: Decision) -> Allow {
    match decision {
        Decision::Allow(allow) => allow,
        Decision::Deny(deny) => panic!("{deny:?}"),
    }
}

#[test]
fn each_verdict_with_and_without_shadow_mode() {
    let world = World::new(&format!("{AUTHENTICATION}{CLOSED}"));
    let get = || request("GET", "/a");
    let expired = token(&claims_of("reader", "x").replace(&(NOW + 600).to_string(), &(NOW - 600).to_string()));
    let rows = [
        ("no credential", get(), Reason::NoCredential, true, None),
        ("a good token", bearer(get(), &reader()), Reason::DeniedNoMatch, true, Some("reader")),
        ("an expired token", bearer(get(), &expired), Reason::TokenExpired, true, None),
        ("no token at all", bearer(get(), "x"), Reason::TokenMalformed, true, None),
        ("an unknown key", with_header(get(), "x-api-key", &api_key("a").0), Reason::ApiKeyUnavailable, true, None),
        ("no key at all", with_header(get(), "x-api-key", "x"), Reason::ApiKeyMalformed, true, None),
        ("no path", request("GET", "a"), Reason::PathInvalid, false, None),
        ("a control byte", request("GET", "/a%00"), Reason::PathInvalid, false, None),
        ("no method", request("", "/a"), Reason::Internal, false, None),
        (
            "too many headers",
            (0..200).fold(get(), |r, i| with_header(r, &i.to_string(), "")),
            Reason::RequestTooLarge,
            false,
            None,
        ),
    ];
    for (name, request, reason, overlooked, client) in rows {
        let denied = world.decide(&request, &workload());
        assert_eq!((denied.is_allowed(), denied.reason()), (false, reason), "{name}");
        let decision = shadowed(&world, &on(), &request, &workload());
        assert_eq!((decision.is_allowed(), decision.reason()), (overlooked, reason), "{name}: {decision:?}");
        let Decision::Allow(allow) = decision else { continue };
        let would = allow.would_deny().unwrap();
        assert_eq!((would.reason, allow.hop(), allow.client_id()), (reason, Hop::Workload, client), "{name}");
        // Off in time or place, nothing changes.
        for mode in [
            ShadowMode::new("ns2", NOW + 1).unwrap(),
            ShadowMode::new("ns1/app=c", NOW + 1).unwrap(),
            ShadowMode::new("*", NOW).unwrap(),
            ShadowMode::new("*", NOW + MAX_AHEAD + 1).unwrap(),
        ] {
            assert!(!shadowed(&world, &mode, &request, &workload()).is_allowed(), "{name}: {mode:?}");
        }
    }
}

#[test]
fn each_reason_is_overlooked_or_never() {
    let world = World::new(CLOSED);
    let never = [
        Reason::AllowedByPolicy,
        Reason::AllowedNoPolicy,
        Reason::GatewayUnknown,
        Reason::PathNotCanonical,
        Reason::RequestInvalid,
        Reason::PathInvalid,
        Reason::RequestTooLarge,
        Reason::ConfigurationInvalid,
        Reason::Internal,
    ];
    for reason in Reason::ALL {
        let deny = Deny::new(*reason, Hop::Workload, "");
        let given = world.given();
        for given in [Some(&given), None] {
            let (get, to) = (request("GET", "/a"), workload());
            let decision = overlook(&world.policies, &get, &to, &on(), given, NOW, deny.clone());
            assert_eq!(decision.is_allowed(), !never.contains(reason), "{reason}");
            assert_eq!(decision.reason(), *reason);
        }
    }
}

#[test]
fn what_was_refused_does_not_go_on() {
    let world = World::new(&format!("{AUTHENTICATION}{CLOSED}"));
    let (good, bad) = (reader(), "e30.e30.e30");
    let sent = [
        ("authorization", format!("Bearer {bad}")),
        ("x-token", good.clone()),
        ("x-token", bad.to_owned()),
        ("cookie", format!("a=1; session={bad}; b=2")),
        ("cookie", format!("session=\"{good}\"; c=3")),
        ("x-api-key", "cwk_x".to_owned()),
        ("x-client", "admin".to_owned()),
        ("x-payload", "e30".to_owned()),
        ("accept", "*/*".to_owned()),
    ];
    let path = format!("/a?x=1&access_token={bad}&y=2&access_token={good}");
    let request = sent.iter().fold(request("GET", &path), |request, (name, value)| with_header(request, name, value));
    let allow = allow(shadowed(&world, &on(), &request, &workload()));
    assert!(allow.claims().is_none() && allow.principal().is_none() && !allow.by_api_key());
    assert_eq!(allow.claim_headers().count(), 0);
    assert_eq!(allow.upstream_path(), "/a?x=1&y=2");
    let mut headers = allow.upstream_headers().to_vec();
    headers.sort();
    let expected = [("accept", "*/*"), ("cookie", "a=1; b=2; c=3")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    assert_eq!(headers, expected);
    // What is no token to the policies, but may be to a backend.
    for value in ["bearer e30.e30.e30", "BEARER\te30.e30.e30", "Basic x, bearer y"] {
        let request = with_header(crate::support::request("GET", "/a"), "authorization", value);
        let request = with_header(request, "cookie", "session =x; a=1;\tsession=y");
        let allow = self::allow(shadowed(&world, &on(), &request, &workload()));
        let cookie = ("cookie".to_owned(), "a=1".to_owned());
        assert_eq!(allow.upstream_headers(), [cookie], "{value}");
    }
    // Nobody looks at the tokens of a CORS preflight.
    let preflight = [("origin", "https://a.example"), ("access-control-request-method", "GET")];
    let preflight =
        preflight.into_iter().fold(crate::support::request("OPTIONS", "/a"), |r, (n, v)| with_header(r, n, v));
    let allow = self::allow(shadowed(&world, &on(), &bearer(preflight, bad), &workload()));
    assert!(allow.upstream_headers().iter().all(|(name, _)| name != "authorization"), "{allow:?}");
    // What is no token of the policies is not theirs to take.
    let basic = with_header(crate::support::request("GET", "/a?access_token="), "authorization", "Basic YTpi");
    let decision = shadowed(&world, &on(), &basic, &workload());
    let allow = self::allow(decision);
    assert!(allow.upstream_headers().contains(&("authorization".to_owned(), "Basic YTpi".to_owned())), "{allow:?}");
}

#[test]
fn a_request_for_another_workload_is_enforced() {
    let files = [
        ("access.yaml", include_str!("../../../../examples/bookinfo/access.yaml")),
        ("gateway.yaml", include_str!("../../../../examples/bookinfo/gateway.yaml")),
        ("mesh.yaml", include_str!("../../../../examples/bookinfo/mesh.yaml")),
        ("routes.yaml", include_str!("../../../../examples/bookinfo/routes.yaml")),
        ("services.yaml", include_str!("../../../../examples/bookinfo/services.yaml")),
    ];
    let world = World::of_files(&files);
    let api = |api_id: &str| Target::ApiGateway {
        api_id: api_id.to_owned(),
        stage: "$default".to_owned(),
        domain: "api.bookinfo.example".to_owned(),
    };
    let get = |path: &str| Request { host: "api.bookinfo.example".to_owned(), ..request("GET", path) };
    let known = "bookinfo";
    let rows = [
        // Who is denied by the gateway is looked at by where the request goes.
        ("bookinfo/app=reviews", known, "/reviews/0", true),
        ("bookinfo/app=reviews", known, "/productpage", false),
        ("bookinfo/app=productpage", known, "/productpage", true),
        ("bookinfo", known, "/productpage", true),
        ("istio-system", known, "/productpage", false),
        // Nothing routes it, so it is of no workload.
        ("bookinfo", known, "/nowhere", false),
        ("*", known, "/nowhere", true),
        // Nobody knows what it is.
        ("*", "other", "/productpage", false),
    ];
    for (workloads, api_id, path, overlooked) in rows {
        let mode = ShadowMode::new(workloads, NOW + 1).unwrap();
        for request in [get(path), bearer(get(path), "x"), bearer(get(path), &token(&claims_of("a", "other")))] {
            let decision = shadowed(&world, &mode, &request, &api(api_id));
            assert_eq!(decision.is_allowed(), overlooked, "{workloads} {api_id} {path}: {decision:?}");
            assert_eq!(decision.would_deny().is_some(), overlooked);
        }
    }
}

#[test]
fn a_misspelt_workload_is_known_to_nobody() {
    let files = [
        ("access.yaml", include_str!("../../../../examples/bookinfo/access.yaml")),
        ("gateway.yaml", include_str!("../../../../examples/bookinfo/gateway.yaml")),
        ("mesh.yaml", include_str!("../../../../examples/bookinfo/mesh.yaml")),
        ("routes.yaml", include_str!("../../../../examples/bookinfo/routes.yaml")),
        ("services.yaml", include_str!("../../../../examples/bookinfo/services.yaml")),
    ];
    let routed = World::of_files(&files).policies;
    let selected = "apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: { name: a, namespace: shop }
spec: { selector: { matchLabels: { app: cart } }, jwtRules: [{ issuer: a, jwksUri: 'https://a.example/jwks' }] }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: b, namespace: istio-system }
spec: { selector: { matchLabels: { tier: front } } }
";
    let selected = World::new(selected).policies;
    for (policies, workloads, unknown) in [
        (&routed, "*", &[][..]),
        (&routed, "bookinfo,bookinfo/app=reviews,istio-system/istio=ingressgateway", &[]),
        (&routed, "bookinfo/app=revews,bookinfo", &["bookinfo/app=revews"]),
        (&routed, "bokinfo,bokinfo/app=reviews", &["bokinfo", "bokinfo/app=reviews"]),
        (&selected, "shop,shop/app=cart,shop/tier=front", &[]),
        // A label of the root namespace is one of every namespace; a label of another namespace is not.
        (&selected, "istio-system/app=cart,shop/app=front", &["istio-system/app=cart", "shop/app=front"]),
    ] {
        assert_eq!(ShadowMode::new(workloads, 1).unwrap().unknown(policies), unknown, "{workloads}");
    }
}

#[test]
fn a_rule_of_the_gateway_is_not_lifted_for_one_service() {
    let files = [
        ("access.yaml", include_str!("../../../../examples/bookinfo/access.yaml")),
        ("gateway.yaml", include_str!("../../../../examples/bookinfo/gateway.yaml")),
        ("mesh.yaml", include_str!("../../../../examples/bookinfo/mesh.yaml")),
        ("routes.yaml", include_str!("../../../../examples/bookinfo/routes.yaml")),
        ("services.yaml", include_str!("../../../../examples/bookinfo/services.yaml")),
    ];
    let world = World::of_files(&files);
    let (stage, domain) = ("$default".to_owned(), "api.bookinfo.example".to_owned());
    let api = Target::ApiGateway { api_id: "bookinfo".to_owned(), stage, domain: domain.clone() };
    let get = Request { host: domain, ..request("GET", "/reviews/0") };
    let rows = [
        ("bookinfo", Reason::DeniedByPolicy, Hop::Gateway, false),
        ("bookinfo", Reason::DeniedByProvider, Hop::Gateway, false),
        ("bookinfo", Reason::CustomProviderUnavailable, Hop::Gateway, false),
        ("bookinfo", Reason::DeniedNoMatch, Hop::Gateway, true),
        ("bookinfo", Reason::DeniedByPolicy, Hop::Destination, true),
        ("bookinfo,istio-system/istio=ingressgateway", Reason::DeniedByPolicy, Hop::Gateway, true),
        ("*", Reason::DeniedByPolicy, Hop::Gateway, true),
    ];
    for (workloads, reason, hop, overlooked) in rows {
        let mode = ShadowMode::new(workloads, NOW + 1).unwrap();
        let deny = Deny::new(reason, hop, "");
        let decision = overlook(&world.policies, &get, &api, &mode, Some(&world.given()), NOW, deny);
        assert_eq!(decision.is_allowed(), overlooked, "{workloads} {reason} {hop:?}");
    }
}

/// Credentials of all kinds, good ones and others.
fn tokens() -> &'static [String] {
    static TOKENS: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
    TOKENS.get_or_init(|| {
        vec![
            reader(),
            token(&claims_of("other", "x")),
            token(&claims_of("a", "x").replace("bookinfo\"", "else\"")),
            token(&claims_of("a", "x").replace(&(NOW + 600).to_string(), &(NOW - 600).to_string())),
            token_of("EdDSA", r#"{"alg":"EdDSA","kid":"nobody","typ":"at+jwt"}"#, &claims_of("a", "x")),
            format!("{}.{}.", crate::support::b64(r#"{"alg":"none"}"#), crate::support::b64(claims_of("admin", "x"))),
            "e30.e30.e30".to_owned(),
        ]
    })
}

/// What stands in front of a token that no rule finds, and that a careless backend does.
const ODD_SCHEMES: [&str; 8] = ["bearer ", "BEARER\t", "Bearer\t", "", "Token ", "JWT ", "Basic ", "Basic x, bearer "];
const ODD_COOKIES: [&str; 6] = ["k=v,session=", "k=v session=", "Session=", "session =", "se%73sion=", "k=\"session="];

/// A header of the request, and whether it is as the rule expects it: of others there is no end.
fn any_header() -> impl Strategy<Value = (&'static str, String, bool)> {
    let values = || select(tokens());
    let keys = || select(vec![api_key("reader").0, api_key("nobody-knows").0, "cwk_x".to_owned()]);
    prop_oneof![
        4 => values().prop_map(|token| ("authorization", format!("Bearer {token}"), true)),
        1 => Just(("authorization", "Basic YTpi".to_owned(), true)),
        3 => (select(&ODD_SCHEMES[..]), values()).prop_map(|(word, token)| ("authorization", format!("{word}{token}"), false)),
        1 => values().prop_map(|token| ("x-token", token, true)),
        1 => values().prop_map(|token| ("x_token", token, false)),
        1 => values().prop_map(|token| ("cookie", format!("k=v; session={token}"), true)),
        2 => (select(&ODD_COOKIES[..]), values()).prop_map(|(name, token)| ("cookie", format!("{name}{token}"), false)),
        3 => keys().prop_map(|key| ("x-api-key", key, true)),
        1 => keys().prop_map(|key| ("x_api_key", key, false)),
        1 => Just(("x-client", "forged".to_owned(), true)),
        1 => Just(("x_client", "forged".to_owned(), false)),
        1 => Just(("x-payload", "forged".to_owned(), true)),
    ]
}

/// A part of the query with a token in it, and whether it is as the rule expects it.
fn any_parameter() -> impl Strategy<Value = (String, bool)> {
    let names =
        select(&["access_token=", "ACCESS_TOKEN=", "access%5ftoken=", "a=1;access_token=", "access_token[]="][..]);
    (names, select(tokens())).prop_map(|(name, token)| (format!("{name}{token}&"), name == "access_token="))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Where policies deny everything, shadow mode sends on who policies that allow everything send on, and of what looks
    /// like a credential that alone which was verified; and where those deny, because of a credential, or find none, it
    /// sends on nothing that looks like one.
    #[test]
    fn a_caller_is_who_is_proven_or_nobody(
        headers in proptest::collection::vec(any_header(), 0..4),
        parameter in proptest::option::weighted(0.2, any_parameter()),
        preflight in proptest::bool::weighted(0.2), state in select(vec![KeyState::Active, KeyState::Revoked]),
        strict in any::<bool>(), after in any::<bool>(),
    ) {
        let path = format!("/a?{}q=1", parameter.as_ref().map_or("", |(parameter, _)| parameter));
        let method = if preflight { "OPTIONS" } else { "GET" };
        let mut request = headers.iter().fold(request(method, &path), |r, (name, value, _)| with_header(r, name, value));
        if preflight {
            request = with_header(request, "origin", "https://a.example");
            request = with_header(request, "access-control-request-method", "GET");
        }
        // Of several lines the rule reads one, or all as one.
        let is_once = |name: &str| headers.iter().filter(|(known, _, _)| *known == name).count() < 2;
        let as_expected = !preflight && is_once("authorization") && is_once("cookie") && headers.iter().all(|(_, _, expected)| *expected)
            && parameter.as_ref().is_none_or(|(_, expected)| *expected);
        let mode = if strict { Mode::Strict } else { Mode::Istio };
        let world = |yaml: &str| {
            let file = istio::SourceFile { name: "p.yaml".to_owned(), text: yaml.to_owned() };
            let resources = istio::parse(&[file]).unwrap();
            let (_, mut record) = api_key("reader");
            record.state = state;
            let keys = World::new(AUTHENTICATION).keys;
            World { keys, lookup: Some(KeyRecordLookup::Found(record)), ..World::of_resources(&resources, mode) }
        };
        let (closed, open) = (world(&format!("{AUTHENTICATION}{CLOSED}")), world(AUTHENTICATION));
        let denied = closed.decide(&request, &workload());
        prop_assert!(!denied.is_allowed());
        if after {
            let ended = ShadowMode::new("*", NOW).unwrap();
            let decision = shadowed(&closed, &ended, &request, &workload());
            prop_assert!(!decision.is_allowed() && decision.reason() == denied.reason());
        }
        let shadow = match shadowed(&closed, &on(), &request, &workload()) {
            Decision::Allow(shadow) => shadow,
            Decision::Deny(deny) => return { prop_assert_eq!(deny.reason, Reason::PathInvalid); Ok(()) },
        };
        let real = open.decide(&request, &workload());
        let goes_on = |text: &str| {
            shadow.upstream_path().contains(text) || shadow.upstream_headers().iter().any(|(_, value)| value.contains(text))
        };
        prop_assert!(shadow.upstream_path().ends_with("q=1"));
        for name in ["x_token", "x_api_key", "x_client"] {
            prop_assert!(shadow.upstream_headers().iter().all(|(known, _)| known != name), "{name}");
        }
        if shadow.claims().is_some() {
            let Decision::Allow(real) = real else { return Err(TestCaseError::fail("proven by nothing")) };
            prop_assert_eq!(shadow.principal(), real.principal());
            prop_assert_eq!(shadow.by_api_key(), real.by_api_key());
            prop_assert!(shadow.claim_headers().eq(real.claim_headers()));
            prop_assert!(shadow.would_deny().is_some() && real.would_deny().is_none());
            for token in tokens().iter().filter(|token| goes_on(token)) {
                let alone = open.decide(&bearer(crate::support::request("GET", "/a"), token), &workload());
                prop_assert!(alone.is_allowed() && !preflight, "{token} was not verified");
            }
            if as_expected {
                prop_assert_eq!(shadow.upstream_headers(), real.upstream_headers());
                prop_assert_eq!(shadow.upstream_path(), real.upstream_path());
            }
        } else {
            prop_assert!(shadow.principal().is_none() && !shadow.by_api_key());
            prop_assert!(!(as_expected && real.is_allowed() && real.principal().is_some()), "proven, and nobody");
            for token in tokens() {
                prop_assert!(!goes_on(token), "{token}");
            }
            for name in ["x-token", "x-api-key", "x-client", "x-payload"] {
                prop_assert!(shadow.upstream_headers().iter().all(|(known, _)| known != name), "{name}");
            }
        }
    }
}
