//! Where tokens are found, how several rules combine, and what the upstream gets.

use authz::{Decision, HeaderChanges, KeyRecordLookup, Reason, Request, RevocationList};

use crate::support::{
    ISSUER, JWKS_URI, NOW, World, api_key, b64, bearer, claims_of, ec_jwk, jwks, keys, reader, request, token,
    with_header, workload,
};

/// A `RequestAuthentication` with these `jwtRules`, and an ALLOW policy that wants a request principal.
fn world(rules: &str) -> World {
    World::new(&format!(
        r#"
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: r, namespace: ns1}}
spec:
  jwtRules: {rules}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: p, namespace: ns1}}
spec:
  rules: [{{from: [{{source: {{requestPrincipals: ["*"]}}}}]}}]
"#
    ))
}

fn rule(more: &str) -> String {
    format!("{{issuer: \"{ISSUER}\", jwksUri: \"{JWKS_URI}\"{more}}}")
}

fn reason(world: &World, request: &Request) -> Reason {
    world.decide(request, &workload()).reason()
}

fn upstream(world: &World, request: &Request) -> Vec<(String, String)> {
    match world.decide(request, &workload()) {
        Decision::Allow(allow) => allow.upstream_headers().to_vec(),
        Decision::Deny(deny) => panic!("{deny:?}"),
    }
}

#[test]
fn the_default_places() {
    let world = world(&format!("[{}]", rule("")));
    let get = request("GET", "/a");
    let good = reader();
    let header = |value: String| with_header(get.clone(), "authorization", &value);
    let cases = [
        (header(format!("Bearer {good}")), Reason::AllowedByPolicy),
        (header(format!("Bearer   {good}")), Reason::AllowedByPolicy),
        // The prefix is searched anywhere, with case.
        (header(format!("Basic eDp5,Bearer {good}")), Reason::AllowedByPolicy),
        (header(format!("Bearer {good},Basic eDp5")), Reason::TokenMalformed),
        (header(format!("bearer {good}")), Reason::NoCredential),
        (header(format!("BEARER {good}")), Reason::NoCredential),
        (header(good.clone()), Reason::NoCredential),
        (header("Bearer".to_owned()), Reason::NoCredential),
        (header("Bearer ".to_owned()), Reason::TokenMalformed),
        (header(format!("Bearer !{good}")), Reason::TokenMalformed),
        (header(format!("Bearer {good} x")), Reason::TokenMalformed),
        (header(format!("Bearer\t{good}")), Reason::NoCredential),
        (header(String::new()), Reason::NoCredential),
        // Lines of Authorization are joined first.
        (
            with_header(header("Basic eDp5".to_owned()), "authorization", &format!("Bearer {good}")),
            Reason::AllowedByPolicy,
        ),
        (with_header(header(format!("Bearer {good}")), "authorization", "Basic eDp5"), Reason::TokenMalformed),
        (bearer(header(format!("Bearer {good}")), &good), Reason::TokenMalformed),
        // The query parameter.
        (request("GET", &format!("/a?access_token={good}")), Reason::AllowedByPolicy),
        (request("GET", &format!("/a?x=1&access_token={good}&y")), Reason::AllowedByPolicy),
        (request("GET", &format!("/a?access%5Ftoken={}", good.replace('.', "%2E"))), Reason::AllowedByPolicy),
        (request("GET", &format!("/a?access_token={good}&access_token=x")), Reason::AllowedByPolicy),
        (request("GET", &format!("/a?access_token=x&access_token={good}")), Reason::TokenMalformed),
        (request("GET", "/a?access_token="), Reason::TokenMalformed),
        (request("GET", "/a?access_token"), Reason::TokenMalformed),
        (request("GET", &format!("/a?Access_token={good}")), Reason::NoCredential),
        // All that are there must verify.
        (bearer(request("GET", "/a?access_token=x"), &good), Reason::TokenMalformed),
        (bearer(request("GET", &format!("/a?access_token={good}")), "x"), Reason::TokenMalformed),
    ];
    for (request, expected) in cases {
        assert_eq!(reason(&world, &request), expected, "{request:?}");
    }
}

#[test]
fn explicit_places_replace_the_default_ones() {
    let world = world(&format!("[{}]", rule(r#", fromHeaders: [{name: X-Token, prefix: "T "}, {name: x-plain}]"#)));
    let get = request("GET", "/a");
    let good = reader();
    let cases = [
        (with_header(get.clone(), "x-token", &format!("T {good}")), Reason::AllowedByPolicy),
        (with_header(get.clone(), "x-token", &good), Reason::NoCredential),
        (with_header(get.clone(), "x-plain", &good), Reason::AllowedByPolicy),
        (with_header(get.clone(), "x-plain", &format!(" {good}")), Reason::TokenMalformed),
        (bearer(get.clone(), &good), Reason::NoCredential),
        (request("GET", &format!("/a?access_token={good}")), Reason::NoCredential),
        // Each line is a token and all must verify.
        (with_header(with_header(get.clone(), "x-plain", &good), "x-plain", &good), Reason::AllowedByPolicy),
        (with_header(with_header(get.clone(), "x-plain", &good), "x-plain", "x"), Reason::TokenMalformed),
        (with_header(with_header(get.clone(), "x-plain", "x"), "x-plain", &good), Reason::TokenMalformed),
    ];
    for (request, expected) in cases {
        assert_eq!(reason(&world, &request), expected, "{request:?}");
    }
    let many = |count: usize| (0..count).fold(get.clone(), |request, _| with_header(request, "x-plain", &good));
    assert_eq!(reason(&world, &many(8)), Reason::AllowedByPolicy);
    assert_eq!(reason(&world, &many(9)), Reason::TokenMalformed);
}

#[test]
fn several_rules_combine_as_envoys_do() {
    // One rule reads Authorization, the other x-other; both accept our issuer's keys.
    let other = "https://other.example";
    let rules = format!(
        "[{}, {{issuer: \"{other}\", jwksUri: \"{JWKS_URI}\", fromHeaders: [{{name: x-other}}]}}]",
        rule(", audiences: [bookinfo]")
    );
    let world = world(&rules);
    let get = request("GET", "/a");
    let ours = reader();
    let theirs = token(&claims_of("c", "x").replace(ISSUER, other));
    let expired = token(&claims_of("c", "x").replace(&(NOW + 600).to_string(), "1"));
    let elsewhere = token(&claims_of("c", "x").replace("\"bookinfo\"", "\"elsewhere\""));
    let stranger = token(&claims_of("c", "x").replace(ISSUER, "https://evil.example"));
    let at = |authorization: Option<&str>, other: Option<&str>| {
        let mut request = get.clone();
        if let Some(token) = authorization {
            request = bearer(request, token);
        }
        if let Some(token) = other {
            request = with_header(request, "x-other", token);
        }
        request
    };
    let cases = [
        (at(None, None), Reason::NoCredential),
        (at(Some(&ours), None), Reason::AllowedByPolicy),
        (at(None, Some(&theirs)), Reason::AllowedByPolicy),
        (at(Some(&ours), Some(&theirs)), Reason::AllowedByPolicy),
        // One that is valid for some rule is enough.
        (at(Some(&expired), Some(&theirs)), Reason::AllowedByPolicy),
        (at(Some(&ours), Some("x")), Reason::AllowedByPolicy),
        // None is: the first error that is not about the issuer.
        (at(Some(&expired), None), Reason::TokenExpired),
        (at(Some(&elsewhere), None), Reason::TokenAudience),
        (at(Some(&stranger), None), Reason::TokenIssuerUnknown),
        (at(Some(&stranger), Some("x")), Reason::TokenMalformed),
        (at(Some("x"), Some(&stranger)), Reason::TokenMalformed),
        // A token of the one issuer in the place of the other.
        (at(Some(&theirs), None), Reason::TokenIssuerUnknown),
        (at(None, Some(&ours)), Reason::TokenIssuerUnknown),
    ];
    for (request, expected) in cases {
        assert_eq!(reason(&world, &request), expected, "{request:?}");
    }
    assert_eq!(world.decide(&at(Some(&elsewhere), None), &workload()).status(), 403);
    assert_eq!(world.decide(&at(Some(&expired), None), &workload()).status(), 401);
}

#[test]
fn two_documents_for_one_issuer_accept_either_audience() {
    let one = |name: &str, namespace: &str, audience: &str| {
        format!(
            "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  jwtRules: [{{issuer: \"{ISSUER}\", jwksUri: \"{JWKS_URI}\", audiences: [{audience}]}}]
---"
        )
    };
    let world = World::new(&format!("{}{}", one("a", "istio-system", "foo"), one("b", "ns1", "bar")));
    for (audience, expected) in
        [("foo", Reason::AllowedNoPolicy), ("bar", Reason::AllowedNoPolicy), ("baz", Reason::TokenAudience)]
    {
        let claims = claims_of("c", "x").replace("\"bookinfo\"", &format!("\"{audience}\""));
        assert_eq!(reason(&world, &bearer(request("GET", "/a"), &token(&claims))), expected, "{audience}");
    }
}

#[test]
fn keys_belong_to_their_rule() {
    // Two rules name one issuer; the key inline in ns2 is not a key of ns1.
    let inline = jwks(&[ec_jwk("p256", "P-256", &keys().other)]);
    let yaml = format!(
        "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: r, namespace: ns1}}
spec: {{jwtRules: [{{issuer: \"{ISSUER}\", jwksUri: \"{JWKS_URI}\"}}]}}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: r, namespace: ns2}}
spec: {{jwtRules: [{{issuer: \"{ISSUER}\", jwks: '{inline}'}}]}}
"
    );
    let world = World::new(&yaml);
    let message = format!("{}.{}", b64(r#"{"alg":"ES256","kid":"p256"}"#), b64(claims_of("c", "x")));
    let other = keys().other.sign(&aws_lc_rs::rand::SystemRandom::new(), message.as_bytes()).unwrap();
    let other = bearer(request("GET", "/a"), &format!("{message}.{}", b64(other)));
    let ours = bearer(request("GET", "/a"), &reader());
    let ns2 = authz::Target::Workload { namespace: "ns2".to_owned(), labels: Vec::new(), environment: None };
    assert_eq!(world.decide(&ours, &workload()).reason(), Reason::AllowedNoPolicy);
    assert_eq!(world.decide(&other, &workload()).reason(), Reason::TokenSignature);
    assert_eq!(world.decide(&other, &ns2).reason(), Reason::AllowedNoPolicy);
    assert_eq!(world.decide(&ours, &ns2).reason(), Reason::TokenSignature);
    // Keys of other policies do not serve an inline rule.
    let foreign = World { keys: World::new("").keys, ..world };
    assert_eq!(foreign.decide(&other, &ns2).reason(), Reason::JwksUnavailable);
}

#[test]
fn forwarding() {
    let good = reader();
    let sent = |forward: bool| {
        let world = world(&format!("[{}]", rule(&format!(", forwardOriginalToken: {forward}"))));
        let request = with_header(bearer(request("GET", "/a"), &good), "x", "1");
        upstream(&world, &request)
    };
    let x = ("x".to_owned(), "1".to_owned());
    assert_eq!(sent(true), [("authorization".to_owned(), format!("Bearer {good}")), x.clone()]);
    assert_eq!(sent(false), [x]);
}

#[test]
fn claims_become_headers_and_nobody_elses() {
    let outputs = r#", outputClaimToHeaders: [
        {header: X-Sub, claim: sub}, {header: x-n, claim: num}, {header: x-f, claim: f}, {header: x-neg, claim: neg},
        {header: x-b, claim: b}, {header: x-list, claim: list}, {header: x-deep, claim: o.k}, {header: x-none, claim: none},
        {header: x-bad, claim: bad}]"#;
    let world = World::new(&format!(
        "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: r, namespace: ns1}}
spec: {{jwtRules: [{}]}}
",
        rule(outputs)
    ));
    let claims = format!(
        r#"{{"iss":"{ISSUER}","exp":9999999999,"sub":"s","num":7,"f":1.5,"neg":-3,"b":true,"list":["a"],"o":{{"k":"v"}},"bad":"a\r\nx-admin: 1"}}"#
    );
    let spoofed = ["x-sub", "x-none", "x-list", "x-bad"]
        .iter()
        .fold(request("GET", "/a"), |request, name| with_header(request, name, "spoofed"));
    let with_token = bearer(spoofed.clone(), &token(&claims));
    // A list is the base64 of its JSON (Envoy 1.40).
    let expected = [
        ("x-sub", "s"),
        ("x-n", "7"),
        ("x-f", "1.500000"),
        ("x-neg", "-3.000000"),
        ("x-b", "true"),
        ("x-list", "WyJhIl0="),
        ("x-deep", "v"),
    ];
    let expected: Vec<_> = expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    assert_eq!(upstream(&world, &with_token), expected);
    // Without a token they are taken out all the same, at a preflight too.
    assert_eq!(upstream(&world, &spoofed), []);
    let preflight = with_header(with_header(spoofed, "origin", "o"), "access-control-request-method", "GET");
    let preflight = Request { method: "OPTIONS".to_owned(), ..preflight };
    assert_eq!(upstream(&world, &preflight).len(), 2);
    // What a client sends is no claim, also where no rule makes a header of that name.
    let Decision::Allow(allow) = world.decide(&with_header(with_token.clone(), "x-else", "spoofed"), &workload())
    else {
        panic!()
    };
    let made: Vec<_> = expected.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(allow.claim_headers().collect::<Vec<_>>(), made);
    // The difference, for those who cannot replace all headers.
    let Decision::Allow(allow) = world.decide(&with_token, &workload()) else { panic!() };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        allow.header_changes(&with_token),
        HeaderChanges { remove: names(&["x-none", "x-bad", "authorization"]), set: expected }
    );
}

#[test]
fn a_preflight_shows_no_token_but_meets_the_policies() {
    let world = world(&format!("[{}]", rule("")));
    let bad = bearer(request("OPTIONS", "/a"), "x");
    let preflight = with_header(with_header(bad.clone(), "origin", "o"), "access-control-request-method", "GET");
    assert_eq!(reason(&world, &bad), Reason::TokenMalformed);
    assert_eq!(reason(&world, &preflight), Reason::NoCredential);
    let empty = with_header(with_header(bad, "origin", ""), "access-control-request-method", "GET");
    assert_eq!(reason(&world, &empty), Reason::TokenMalformed);
    let get = Request { method: "GET".to_owned(), ..preflight };
    assert_eq!(reason(&world, &get), Reason::TokenMalformed);
}

#[test]
fn api_keys_at_a_workload() {
    let yaml = |issuer: &str, header: &str, name: &str, forward: bool| {
        format!(
            "
apiVersion: causeway.dev/v1alpha1
kind: ApiKeyAuthentication
metadata: {{name: {name}, namespace: ns1}}
spec: {{issuer: \"{issuer}\", headerName: {header}, forwardOriginalKey: {forward}}}
---"
        )
    };
    let (text, record) = api_key("reader");
    let (other, _) = api_key("someone");
    let found = |yaml: &str| World { lookup: Some(KeyRecordLookup::Found(record.clone())), ..World::new(yaml) };
    let get = request("GET", "/a");

    let world = found(&yaml(ISSUER, "X-Api-Key", "a", false));
    let with_key = with_header(get.clone(), "x-api-key", &text);
    let decision = world.decide(&with_key, &workload());
    assert_eq!(decision.principal(), Some("https://issuer.bookinfo.example/client:reader"));
    assert_eq!(upstream(&world, &with_key), []);
    assert_eq!(upstream(&found(&yaml(ISSUER, "x-api-key", "a", true)), &with_key), with_key.headers);
    // The same twice is one key; two are none.
    assert_eq!(reason(&world, &with_header(with_key.clone(), "x-api-key", &text)), Reason::AllowedNoPolicy);
    assert_eq!(reason(&world, &with_header(with_key.clone(), "x-api-key", &other)), Reason::ApiKeyMalformed);
    assert_eq!(
        reason(&world, &with_header(get.clone(), "x-api-key", &format!("{text},{text}"))),
        Reason::ApiKeyMalformed
    );
    assert_eq!(reason(&world, &with_header(get.clone(), "x-api-key", "")), Reason::ApiKeyMalformed);
    // A record of another key.
    assert_eq!(reason(&world, &with_header(get.clone(), "x-api-key", &other)), Reason::ApiKeyUnavailable);
    // A header that nobody asks for is just a header.
    assert_eq!(reason(&world, &with_header(get.clone(), "x-key", &text)), Reason::AllowedNoPolicy);
    // Two documents that give one key two names; with one selector the reader refuses them.
    let other = yaml("https://other.example", "x-api-key", "b", false);
    let other = other.replace("spec: {", "spec: {selector: {matchLabels: {app: b}}, ");
    let two = format!("{}{other}", yaml(ISSUER, "x-api-key", "a", false));
    assert_eq!(reason(&found(&two), &with_key), Reason::ConfigurationInvalid);
}

#[test]
fn a_client_of_the_same_name_at_another_issuer_is_another_client() {
    let other = "https://other.example";
    let yaml = format!(
        "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: r, namespace: ns1}}
spec: {{jwtRules: [{}, {{issuer: \"{other}\", jwksUri: \"{JWKS_URI}\"}}]}}
---
apiVersion: causeway.dev/v1alpha1
kind: ApiKeyAuthentication
metadata: {{name: k, namespace: ns1}}
spec: {{issuer: \"{ISSUER}\"}}
",
        rule("")
    );
    let (text, record) = api_key("reader");
    let world = World { lookup: Some(KeyRecordLookup::Found(record)), ..World::new(&yaml) };
    let with = |token: &str| with_header(bearer(request("GET", "/a"), token), "x-api-key", &text);
    let theirs = token(&claims_of("reader", "x").replace(ISSUER, other));
    // Alone the token is good; beside the key of the other issuer's client it is not.
    assert_eq!(reason(&world, &bearer(request("GET", "/a"), &theirs)), Reason::AllowedNoPolicy);
    assert_eq!(reason(&world, &with(&reader())), Reason::AllowedNoPolicy);
    assert_eq!(reason(&world, &with(&theirs)), Reason::CredentialMismatch);
}

#[test]
fn audiences_of_a_rule_for_any_issuer_bind_a_key() {
    let (text, record) = api_key("reader");
    let reason_of = |rules: &str| {
        let yaml = format!(
            "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: r, namespace: ns1}}
spec: {{jwtRules: [{rules}]}}
---
apiVersion: causeway.dev/v1alpha1
kind: ApiKeyAuthentication
metadata: {{name: k, namespace: ns1}}
spec: {{issuer: \"{ISSUER}\"}}
"
        );
        let world = World { lookup: Some(KeyRecordLookup::Found(record.clone())), ..World::new(&yaml) };
        reason(&world, &with_header(request("GET", "/a"), "x-api-key", &text))
    };
    let any = |audience: &str| format!("{{jwksUri: \"{JWKS_URI}\", audiences: [{audience}]}}");
    let own = |audience: &str| rule(&format!(", audiences: [{audience}]"));
    let other = "{issuer: \"https://other.example\", jwksUri: \"https://other.example/k\", audiences: [other]}";
    assert_eq!(reason_of(&any("bookinfo")), Reason::AllowedNoPolicy);
    assert_eq!(reason_of(&any("other")), Reason::TokenAudience);
    // A rule for the issuer itself goes first; one of another issuer has no part in it.
    assert_eq!(reason_of(&format!("{}, {}", own("bookinfo"), any("other"))), Reason::AllowedNoPolicy);
    assert_eq!(reason_of(&format!("{}, {}", own("other"), any("bookinfo"))), Reason::TokenAudience);
    assert_eq!(reason_of(other), Reason::AllowedNoPolicy);
}

#[test]
fn requests_have_limits() {
    let world = World::new("");
    let headers = |count: usize| (0..count).fold(request("GET", "/"), |r, i| with_header(r, &format!("h{i}"), ""));
    assert!(world.decide(&headers(100), &workload()).is_allowed());
    assert_eq!(reason(&world, &headers(101)), Reason::RequestTooLarge);
    let sized = |bytes: usize| with_header(request("GET", "/"), "x", &"v".repeat(bytes));
    let fixed = "GET".len() + "/".len() + "b.ns1.svc.cluster.local".len() + 1;
    assert!(world.decide(&sized(64 * 1024 - fixed), &workload()).is_allowed());
    assert_eq!(reason(&world, &sized(64 * 1024 - fixed + 1)), Reason::RequestTooLarge);
    // Faults of a front are not allowances.
    assert_eq!(reason(&world, &request("", "/")), Reason::Internal);
    assert_eq!(reason(&world, &with_header(request("GET", "/"), "X", "1")), Reason::Internal);
    let mut empty = request("GET", "/");
    empty.source.principal = Some(String::new());
    assert_eq!(reason(&world, &empty), Reason::Internal);
}

#[test]
fn what_was_revoked_opens_nothing() {
    let yaml = format!(
        "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: r, namespace: ns1}}
spec: {{jwtRules: [{{issuer: '{ISSUER}', jwksUri: '{JWKS_URI}'}}]}}
---
apiVersion: causeway.dev/v1alpha1
kind: ApiKeyAuthentication
metadata: {{name: k, namespace: ns1}}
spec: {{issuer: '{ISSUER}'}}
"
    );
    let (text, record) = api_key("reader");
    let id = record.id.clone();
    let mut world = World::new(&yaml);
    world.lookup = Some(authz::KeyRecordLookup::Found(record));
    let by_token = bearer(request("GET", "/"), &crate::support::reader());
    let by_key = with_header(request("GET", "/"), "x-api-key", &text);
    // The token's id is 1.
    let cases = [
        (None, true, true),
        (Some(vec![]), true, true),
        (Some(vec!["1"]), false, true),
        (Some(vec!["10", ""]), true, true),
        (Some(vec![id.as_str()]), true, false),
        (Some(vec![id.as_str(), "1"]), false, false),
    ];
    for (revoked, token, key) in cases {
        world.revoked = revoked.as_ref().map(|ids| RevocationList::of_ids(ids.iter().map(|&id| id.to_owned())));
        for (request, passes, reason) in
            [(&by_token, token, Reason::TokenRevoked), (&by_key, key, Reason::ApiKeyRevoked)]
        {
            let decision = world.decide(request, &workload());
            assert_eq!(decision.is_allowed(), passes, "{revoked:?}: {decision:?}");
            if !passes {
                assert_eq!((decision.reason(), decision.status(), decision.principal()), (reason, 401, None));
            }
        }
    }
}
