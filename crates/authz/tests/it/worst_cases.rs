//! What a stranger can make expensive, and its bounds.

use authz::{Reason, Request};

use crate::support::{
    ISSUER, JWKS_URI, NOW, World, b64, bearer, ec_jwk, jwks, keys, reader, request, with_header, workload,
};

/// A workload with these `jwtRules`, and an ALLOW policy that wants a request principal.
fn world(rules: &[String]) -> World {
    World::new(&format!(
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: r, namespace: ns1}}\n\
         spec: {{jwtRules: [{}]}}\n---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{name: p, namespace: ns1}}\nspec:\n  rules: [{{from: [{{source: {{requestPrincipals: ['*']}}}}]}}]\n",
        rules.join(", ")
    ))
}

fn reason(world: &World, request: &Request) -> Reason {
    world.decide(request, &workload()).reason()
}

fn rule(issuer: &str, more: &str) -> String {
    format!("{{issuer: '{issuer}', jwksUri: '{JWKS_URI}'{more}}}")
}

#[test]
fn one_token_is_one_token_however_many_rules_look_at_it() {
    // Rules are asked in the order of their issuers: the token's own is the last one.
    let mut rules: Vec<String> = (0..50).map(|i| rule(&format!("a{i}"), "")).collect();
    rules.push(rule(ISSUER, ""));
    let world = world(&rules);
    assert_eq!(reason(&world, &bearer(request("GET", "/"), &reader())), Reason::AllowedByPolicy);
    let stranger = format!("{}.{}.AAAA", b64(r#"{"alg":"ES256"}"#), b64(format!(r#"{{"iss":"x","exp":{NOW}}}"#)));
    assert_eq!(reason(&world, &bearer(request("GET", "/"), &stranger)), Reason::TokenIssuerUnknown);
}

#[test]
fn different_tokens_are_bounded() {
    let rules: Vec<String> =
        (0..9).map(|i| rule(&format!("a{i}"), &format!(", fromHeaders: [{{name: x-{i}}}]"))).collect();
    let world = world(&rules);
    let tokens = |count: usize| {
        (0..count).fold(request("GET", "/"), |request, i| {
            let claims = format!(r#"{{"iss":"x","sub":"{i}","exp":{NOW}}}"#);
            let token = format!("{}.{}.AAAA", b64(r#"{"alg":"ES256"}"#), b64(claims));
            with_header(request, &format!("x-{i}"), &token)
        })
    };
    assert_eq!(reason(&world, &tokens(8)), Reason::TokenIssuerUnknown);
    assert_eq!(reason(&world, &tokens(9)), Reason::TokenMalformed);
}

#[test]
fn equal_tokens_at_the_places_of_one_rule_are_bounded() {
    let world = world(&[rule(ISSUER, ", fromHeaders: [{name: x-token}]")]);
    let good = reader();
    let lines =
        |count: usize| (0..count).fold(request("GET", "/"), |request, _| with_header(request, "x-token", &good));
    assert_eq!(reason(&world, &lines(8)), Reason::AllowedByPolicy);
    assert_eq!(reason(&world, &lines(9)), Reason::TokenMalformed);
}

#[test]
fn wrong_signatures_are_bounded() {
    let other = jwks(&[ec_jwk("p256", "P-256", &keys().other)]);
    let of = |wrong: usize| {
        let mut rules = vec![format!("{{issuer: '{ISSUER}', jwks: '{other}'}}"); wrong];
        rules.push(rule(ISSUER, ""));
        world(&rules)
    };
    let request = bearer(request("GET", "/"), &reader());
    assert_eq!(reason(&of(63), &request), Reason::AllowedByPolicy);
    assert_eq!(reason(&of(64), &request), Reason::TokenMalformed);
}
