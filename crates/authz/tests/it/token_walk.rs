//! Several JWT rules and several tokens: what is allowed, for whom, and what the destination sees. The rows were seen with
//! Envoy 1.40, but for the ones that say so.

use authz::{CompileOptions, Decision, Jwks, KeyOrigin, KeySets, Mode, Policies, Reason, Request};
use proptest::prelude::*;

use crate::support::{
    ISSUER, JWKS_URI, NOW, World, claims_of, ec_jwk, issuer_jwks, jwks, keys, open_with, reader, request, token,
    with_header, workload,
};

const OTHER: &str = "https://other.example";

fn policies(yaml: &str, mode: Mode) -> Policies {
    let options = CompileOptions { mode, ..CompileOptions::default() };
    open_with(&[("policies.yaml", yaml)], &options).unwrap_or_else(|errors| panic!("{}", errors.join("\n")))
}

fn world(rules: &[String], policy: &str, mode: Mode) -> World {
    let rules = rules.join(", ");
    let yaml = format!(
        "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: r, namespace: ns1}}
spec: {{jwtRules: [{rules}]}}
---
{policy}"
    );
    let policies = policies(&yaml, mode);
    let mut keys = KeySets::embedded(&policies).unwrap();
    keys.insert(JWKS_URI, Jwks::parse_as(&issuer_jwks(), KeyOrigin::Fetched, mode).unwrap().into());
    World { keys, policies, ..World::new("") }
}

fn rule(issuer: &str, more: &str) -> String {
    let keys = issuer_jwks().replace('\'', "''");
    format!("{{issuer: \"{issuer}\", jwks: '{keys}'{more}}}")
}

fn authorization_policy(action: &str, rule: &str) -> String {
    format!(
        "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: p, namespace: ns1}}
spec: {{action: {action}, rules: [{rule}]}}
"
    )
}

/// Who the caller is and what the destination sees of the headers that start with `x-` or hold a token, and the path.
type Outcome = Result<(Option<String>, Vec<String>, String), Reason>;

fn outcome(world: &World, request: &Request) -> Outcome {
    match world.decide(request, &workload()) {
        Decision::Deny(deny) => Err(deny.reason),
        Decision::Allow(allow) => {
            let mut lines: Vec<String> =
                allow.upstream_headers().iter().map(|(name, value)| format!("{name}: {value}")).collect();
            lines.sort();
            Ok((allow.principal().map(str::to_owned), lines, allow.upstream_path().to_owned()))
        }
    }
}

fn seen(principal: &str, lines: &[String], path: &str) -> Outcome {
    Ok((Some(principal.to_owned()), lines.to_vec(), path.to_owned()))
}

struct Tokens {
    ours: String,
    theirs: String,
    expired: String,
    elsewhere: String,
    no_exp: String,
}

fn tokens() -> Tokens {
    let ours = |change: &dyn Fn(String) -> String| token(&change(claims_of("reader", "a")));
    Tokens {
        ours: reader(),
        theirs: token(&claims_of("them", "a").replace(ISSUER, OTHER)),
        expired: ours(&|claims| claims.replace(&(NOW + 600).to_string(), "1")),
        elsewhere: ours(&|claims| claims.replace("\"bookinfo\"", "\"elsewhere\"")),
        no_exp: ours(&|claims| claims.replace(&format!("\"exp\":{},", NOW + 600), "")),
    }
}

#[test]
fn a_token_takes_effect_before_the_next_rule_is_asked() {
    let Tokens { ours, theirs, .. } = tokens();
    let (us, them) = (format!("{ISSUER}/client:reader"), format!("{OTHER}/client:them"));
    let output = |name: &str| format!(", outputClaimToHeaders: [{{header: {name}, claim: sub}}]");
    let two = |more: &str| [rule(ISSUER, &(more.to_owned() + &output("x-us"))), rule(OTHER, &output("x-them"))];
    let (istio, strict) =
        (|rules: &[String]| world(rules, "", Mode::Istio), |rules: &[String]| world(rules, "", Mode::Strict));

    // Two valid tokens at the default places: the one in the query is verified by its own rule, which then fails for the
    // one in the header; in the second round the header's is alone. It is the caller, and what the first round made for
    // the other rule is taken out again.
    let both = with_header(
        request("GET", &format!("/a?x=1&access_token={theirs}&b")),
        "authorization",
        &format!("Bearer {ours}"),
    );
    let rules = two("");
    assert_eq!(outcome(&istio(&rules), &both), seen(&us, &["x-us: client:reader".to_owned()], "/a?b=&x=1"));
    // The strict mode does not take a caller of two issuers.
    assert_eq!(outcome(&strict(&rules), &both), Err(Reason::TokenMalformed));

    // A rule that fails for one token has already done away with the other, and written its header.
    let rules = two(", fromHeaders: [{name: x-t}, {name: authorization, prefix: \"Bearer \"}]");
    let mixed =
        with_header(with_header(request("GET", "/a"), "x-t", &ours), "authorization", &format!("Bearer {theirs}"));
    assert_eq!(
        outcome(&istio(&rules), &mixed),
        seen(&them, &["x-them: client:them".to_owned(), "x-us: client:reader".to_owned()], "/a")
    );
    // The strict mode takes no different tokens at the places of one rule.
    assert_eq!(outcome(&strict(&rules), &mixed), Err(Reason::TokenMalformed));
}

#[test]
fn a_bad_token_that_a_good_one_hides_is_refused() {
    let Tokens { ours, .. } = tokens();
    let places = ", fromHeaders: [{name: x-t}]";
    let rules = [rule(ISSUER, places), rule(OTHER, places)];
    let lines = |first: &str, second: &str| with_header(with_header(request("GET", "/a"), "x-t", first), "x-t", second);
    let prefixes =
        ", fromHeaders: [{name: authorization, prefix: \"Bearer \"}, {name: authorization, prefix: \"JWT \"}]";
    let one_line = [rule(ISSUER, prefixes), rule(OTHER, "")];
    let read_twice = with_header(request("GET", "/a"), "authorization", &format!("Bearer x,JWT {ours}"));
    for mode in [Mode::Istio, Mode::Strict] {
        // Envoy answers 200 to the first and the third.
        assert_eq!(outcome(&world(&rules, "", mode), &lines("x", &ours)), Err(Reason::TokenMalformed), "{mode:?}");
        assert_eq!(outcome(&world(&rules, "", mode), &lines(&ours, "x")), Err(Reason::TokenMalformed), "{mode:?}");
        assert_eq!(outcome(&world(&one_line, "", mode), &read_twice), Err(Reason::TokenMalformed), "{mode:?}");
    }
}

#[test]
fn which_of_several_errors_counts() {
    let Tokens { ours, theirs, expired, elsewhere, .. } = tokens();
    let at = |name: &str| format!(", audiences: [bookinfo], fromHeaders: [{{name: {name}}}]");
    let rules = [rule(ISSUER, &at("x-1")), rule(ISSUER, &at("x-2")), rule(OTHER, &at("x-3"))];
    type Sent<'a> = &'a [(&'a str, &'a str)];
    let cases: [(Sent<'_>, Reason, u16); 6] = [
        (&[("x-1", &expired), ("x-2", &elsewhere)], Reason::TokenExpired, 401),
        (&[("x-1", &elsewhere), ("x-2", &expired)], Reason::TokenAudience, 403),
        (&[("x-2", &elsewhere), ("x-3", &ours)], Reason::TokenAudience, 403),
        (&[("x-1", &theirs), ("x-2", &elsewhere)], Reason::TokenAudience, 403),
        (&[("x-1", &theirs), ("x-3", "x")], Reason::TokenMalformed, 401),
        (&[("x-1", &theirs), ("x-2", &theirs)], Reason::TokenIssuerUnknown, 401),
    ];
    let world = world(&rules, "", Mode::Istio);
    for (headers, reason, status) in cases {
        let request =
            headers.iter().fold(request("GET", "/a"), |request, (name, value)| with_header(request, name, value));
        let denied = world.decide(&request, &workload());
        assert_eq!((denied.reason(), denied.status()), (reason, status), "{:?}", request.headers);
    }
}

#[test]
fn policies_see_one_line_of_authorization() {
    let condition = |action: &str, value: &str| {
        authorization_policy(
            action,
            &format!("{{when: [{{key: \"request.headers[authorization]\", values: [\"{value}\"]}}]}}"),
        )
    };
    let lines = |values: &[&str]| {
        values.iter().fold(request("GET", "/a"), |request, value| with_header(request, "authorization", value))
    };
    let cases = [
        ("a,b", ["a", "b"], true),
        ("a", ["a", "b"], false),
        ("b", ["a", "b"], false),
        ("a*", ["a", "b"], true),
        ("b", ["", "b"], true),
        ("a", ["a", ""], true),
    ];
    for mode in [Mode::Istio, Mode::Strict] {
        for (value, sent, matches) in cases {
            let allowed = |action| {
                world(&[rule(ISSUER, "")], &condition(action, value), mode)
                    .decide(&lines(&sent), &workload())
                    .is_allowed()
            };
            assert_eq!((allowed("ALLOW"), allowed("DENY")), (matches, !matches), "{value} {sent:?}");
        }
        let Ok((_, headers, _)) = outcome(&world(&[], "", mode), &lines(&["", "x"])) else { panic!("denied") };
        assert_eq!(headers, ["authorization: x"]);
    }
}

#[test]
fn a_query_that_cannot_be_sent_on_is_refused() {
    let good = reader();
    let rules = [rule(ISSUER, "")];
    let path = |rest: &str| request("GET", &format!("/a?access_token={good}&{rest}"));
    let us = format!("{ISSUER}/client:reader");
    for (rest, istio, strict) in [("x=%41%26", Some("/a?x=A&"), "/a?x=%41%26"), ("x=%0d%0ay:1", None, "/a?x=%0d%0ay:1")]
    {
        let expected = istio.map_or(Err(Reason::PathInvalid), |path| seen(&us, &[], path));
        assert_eq!(outcome(&world(&rules, "", Mode::Istio), &path(rest)), expected);
        assert_eq!(outcome(&world(&rules, "", Mode::Strict), &path(rest)), seen(&us, &[], strict));
    }
    // Nothing is taken out, so nothing is written anew.
    let untouched = request("GET", "/a?x=%0d%0ay:1");
    assert_eq!(outcome(&world(&rules, "", Mode::Istio), &untouched), Ok((None, vec![], untouched.path.clone())));
    assert_eq!(world(&rules, "", Mode::Istio).decide(&path("x=%0a"), &workload()).status(), 400);
}

/// The strict mode alone: a token that it refuses and that names the caller in the `istio` mode.
#[test]
fn the_strict_mode_knows_nobody_by_a_second_token() {
    let Tokens { theirs, no_exp, expired, .. } = tokens();
    let at = |name: &str| format!(", fromHeaders: [{{name: {name}}}]");
    let rules = [rule(ISSUER, &at("x-1")), rule(OTHER, &at("x-2"))];
    let ask = |first: &str, mode| {
        let request = with_header(with_header(request("GET", "/a"), "x-1", first), "x-2", &theirs);
        outcome(&world(&rules, "", mode), &request).map(|(principal, _, _)| principal)
    };
    assert_eq!(ask(&no_exp, Mode::Istio), Ok(Some(format!("{ISSUER}/client:reader"))));
    assert_eq!(ask(&no_exp, Mode::Strict), Err(Reason::TokenMalformed));
    // The first rule has not the key of a token that the last one takes; the second one refuses another for its form.
    let few = jwks(&[ec_jwk("p384", "P-384", &keys().p384)]);
    let without_key = format!("{{issuer: \"{ISSUER}\", jwks: '{few}', fromHeaders: [{{name: x-1}}]}}");
    let rules_of_three = [without_key, rule(ISSUER, &at("x-2")), rule(ISSUER, &at("x-3"))];
    let writer = token(&claims_of("writer", "a"));
    let sent = [("x-1", &writer), ("x-2", &no_exp), ("x-3", &writer)];
    let three = sent.iter().fold(request("GET", "/a"), |request, (name, value)| with_header(request, name, value));
    let ask_three = |mode| outcome(&world(&rules_of_three, "", mode), &three).map(|(principal, _, _)| principal);
    assert_eq!(ask_three(Mode::Istio), Ok(Some(format!("{ISSUER}/client:reader"))));
    assert_eq!(ask_three(Mode::Strict), Err(Reason::TokenMalformed));
    // Neither mode takes these.
    for bad in [expired.as_str(), "x"] {
        for mode in [Mode::Istio, Mode::Strict] {
            assert_eq!(ask(bad, mode), Ok(Some(format!("{OTHER}/client:them"))), "{bad}");
        }
    }
}

// ---- the strict mode is never looser

fn any_rule() -> impl Strategy<Value = String> {
    let places = prop::sample::subsequence(
        vec![
            "{name: authorization, prefix: \"Bearer \"}",
            "{name: authorization, prefix: \"JWT \"}",
            "{name: x-t}",
            "{name: x-u}",
        ],
        0..3,
    );
    let issuer = prop::sample::select(vec![ISSUER, OTHER, ""]);
    (issuer, places, any::<bool>(), any::<bool>(), any::<bool>(), 0..6).prop_map(
        |(issuer, headers, parameter, forward, audience, keys_of)| {
            let mut more = format!(", forwardOriginalToken: {forward}");
            if !headers.is_empty() {
                more.push_str(&format!(", fromHeaders: [{}]", headers.join(", ")));
            }
            if parameter {
                more.push_str(", fromParams: [t]");
            }
            if audience {
                more.push_str(", audiences: [bookinfo]");
            }
            // Now and then the issuer's key is not in the set.
            let set = if keys_of == 0 { jwks(&[ec_jwk("p384", "P-384", &keys().p384)]) } else { issuer_jwks() };
            // Only a rule with `jwksUri` may be for any issuer.
            match issuer {
                "" => format!("{{jwksUri: \"{JWKS_URI}\"{more}}}"),
                _ => format!("{{issuer: \"{issuer}\", jwks: '{set}'{more}}}"),
            }
        },
    )
}

fn any_token() -> impl Strategy<Value = String> {
    let Tokens { ours, theirs, expired, elsewhere, no_exp } = tokens();
    let other_caller = token(&claims_of("writer", "b"));
    let exp_0 = token(&claims_of("zero", "b").replace(&(NOW + 600).to_string(), "0"));
    let padded = format!("{other_caller}==");
    let mut bad_signature = ours.clone();
    bad_signature.truncate(ours.len() - 8);
    prop::sample::select(vec![
        ours,
        theirs,
        other_caller,
        expired,
        elsewhere,
        no_exp,
        exp_0,
        padded,
        format!("{bad_signature}AAAAAAAA"),
        "x".to_owned(),
    ])
}

fn any_policy() -> impl Strategy<Value = String> {
    let from = |field: &str, value: &str| format!("{{from: [{{source: {{{field}: [\"{value}\"]}}}}]}}");
    let when = |field: &str, value: &str| {
        format!("{{when: [{{key: \"request.auth.claims[client_id]\", {field}: [\"{value}\"]}}]}}")
    };
    let mut all = vec![String::new()];
    for action in ["ALLOW", "DENY"] {
        for field in ["requestPrincipals", "notRequestPrincipals"] {
            for value in ["*", "*/client:reader", &format!("{OTHER}/*")] {
                all.push(authorization_policy(action, &from(field, value)));
            }
        }
        for field in ["values", "notValues"] {
            all.push(authorization_policy(action, &when(field, "w*")));
        }
    }
    prop::sample::select(all)
}

proptest! {
    #[test]
    fn what_the_strict_mode_allows_the_istio_mode_allows_for_the_same_caller(
        rules in prop::collection::vec(any_rule(), 1..4),
        tokens in prop::collection::vec((0..5_usize, any_token()), 0..4),
        policy in any_policy(),
    ) {
        let mut request = request("GET", "/a?z=1");
        for (place, token) in tokens {
            match place {
                0 => request = with_header(request, "authorization", &format!("Bearer {token}")),
                1 => request = with_header(request, "authorization", &format!("JWT {token}")),
                2 => request = with_header(request, "x-t", &token),
                3 => request = with_header(request, "x-u", &token),
                _ => request.path.push_str(&format!("&t={token}")),
            }
        }
        let ask = |mode| match world(&rules, &policy, mode).decide(&request, &workload()) {
            Decision::Allow(allow) => Some(allow.principal().map(str::to_owned)),
            Decision::Deny(_) => None,
        };
        if let Some(strict) = ask(Mode::Strict) {
            prop_assert_eq!(ask(Mode::Istio), Some(strict));
        }
    }
}
