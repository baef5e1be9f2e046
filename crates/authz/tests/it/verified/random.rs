//! Random policies, tokens, times and rotations of keys, all of which meet one cache.

use std::sync::OnceLock;

use authz::{Mode, RevocationList, Revocations, VerifiedTokens};
use aws_lc_rs::rand::SystemRandom;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::{CERTIFICATE, OTHER_ISSUER, OTHER_URI, World, bound_token, rotated_jwks};
use crate::support::{
    ISSUER, JWKS_URI, NOW, b64, bearer, claims_of, ec_jwk, issuer_jwks, jwks, keys, request, token, token_of,
    with_header,
};

/// Tokens of all sorts, signed once.
fn tokens() -> &'static [String] {
    static TOKENS: OnceLock<Vec<String>> = OnceLock::new();
    TOKENS.get_or_init(|| {
        let plain = claims_of("reader", "a b");
        let with = |more: &str| plain.replace("\"scope\"", &format!("{more},\"scope\""));
        let by_other = |claims: &str| {
            let message = format!("{}.{}", b64(r#"{"alg":"ES256","kid":"p256"}"#), b64(claims));
            let signature = keys().other.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
            format!("{message}.{}", b64(signature))
        };
        let good = token(&plain);
        vec![
            bound_token(),
            good.clone(),
            format!(".{good}."),
            format!("{}.{}", good.rsplit_once('.').unwrap().0, b64([1; 64])),
            token(&plain.replace("\"bookinfo\"", "\"x\"")),
            token(&plain.replace("\"jti\":\"1\"", "\"jti\":\"2\"")),
            token(&plain.replace(ISSUER, OTHER_ISSUER)),
            token(&with("\"groups\":\"evil\"")),
            token(&with("\"groups\":\"good evil\"")),
            token(&format!(r#"{{"iss":"{ISSUER}","sub":"s"}}"#)),
            token(&format!(r#"{{"iss":"{ISSUER}","sub":"s","exp":0}}"#)),
            token_of("ES256", r#"{"alg":"ES256"}"#, &plain),
            token_of("EdDSA", r#"{"alg":"EdDSA","kid":"ed25519"}"#, &plain),
            by_other(&plain),
            by_other(&plain.replace(ISSUER, OTHER_ISSUER)),
            "nonsense".to_owned(),
        ]
    })
}

/// Documents that are published one after the other.
fn documents() -> [String; 5] {
    [
        issuer_jwks(),
        rotated_jwks(),
        jwks(&[]),
        jwks(&[ec_jwk("p256", "P-256", &keys().p256)]),
        jwks(&[ec_jwk("p256", "P-256", &keys().p256), ec_jwk("other", "P-256", &keys().other)]),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Ask {
        tokens: Vec<(Index, &'static str)>,
        bound: bool,
    },
    /// No document takes the set away.
    Publish(&'static str, Option<Index>),
    At(u64),
    Revoke(Option<bool>),
    /// Other policies meet the same cache.
    Policies(Index),
}

fn step() -> impl Strategy<Value = Step> {
    let places = || select(vec!["authorization", "authorization", "x-a", "x-b"]);
    let asked = proptest::collection::vec((any::<Index>(), places()), 1..=2);
    let uri = select(vec![JWKS_URI, OTHER_URI]);
    let times = vec![NOW, NOW, NOW + 660, NOW + 661, NOW - 65, NOW - 66, 0, u64::MAX];
    prop_oneof![
        8 => (asked, any::<bool>()).prop_map(|(tokens, bound)| Step::Ask { tokens, bound }),
        2 => (uri, proptest::option::weighted(0.9, any::<Index>())).prop_map(|(uri, at)| Step::Publish(uri, at)),
        1 => select(times).prop_map(Step::At),
        1 => proptest::option::of(any::<bool>()).prop_map(Step::Revoke),
        1 => any::<Index>().prop_map(Step::Policies),
    ]
}

fn any_rule() -> impl Strategy<Value = String> {
    let inline = |document: String| format!("jwks: '{document}'");
    let key_sources = vec![
        format!("jwksUri: '{JWKS_URI}'"),
        format!("jwksUri: '{JWKS_URI}'"),
        format!("jwksUri: '{OTHER_URI}'"),
        inline(issuer_jwks()),
        inline(rotated_jwks()),
    ];
    let places = select(vec!["", "", ", fromHeaders: [{name: x-a}]", ", fromHeaders: [{name: x-b}, {name: x-a}]"]);
    let audiences = select(vec!["", "", ", audiences: [bookinfo]", ", audiences: [other]"]);
    let more = select(vec![
        "",
        ", forwardOriginalToken: true",
        ", outputPayloadToHeader: x-payload",
        ", outputClaimToHeaders: [{header: x-sub, claim: sub}]",
        ", spaceDelimitedClaims: [groups]",
    ]);
    (select(vec![ISSUER, ISSUER, OTHER_ISSUER]), select(key_sources), places, audiences, more).prop_map(
        |(issuer, keys, places, audiences, more)| format!("{{issuer: '{issuer}', {keys}{places}{audiences}{more}}}"),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_decision_is_the_same_without_the_cache(
        sets in proptest::collection::vec(proptest::collection::vec(any_rule(), 1..=3), 1..=2),
        entries in select(vec![1, 3, 100]),
        steps in proptest::collection::vec(step(), 1..=24),
    ) {
        let cache = VerifiedTokens::with_limits(entries, 1 << 20);
        let list = RevocationList::of_ids(["1".to_owned()]);
        // All policies in both modes meet the same cache.
        let of_mode = |mode| sets.iter().map(|rules| World::new(rules, mode, &cache)).collect::<Vec<_>>();
        let mut worlds: Vec<_> = of_mode(Mode::Istio).into_iter().chain(of_mode(Mode::Strict)).collect();
        let mut current = 0;
        let documents = documents();
        for step in steps {
            match step {
                Step::Policies(at) => current = at.index(sets.len()),
                Step::At(now) => worlds.iter_mut().for_each(|world| world.now = now),
                Step::Revoke(kept) => worlds.iter_mut().for_each(|world| {
                    world.revocations = match kept {
                        None => Revocations::NotKept,
                        Some(true) => Revocations::List(&list),
                        Some(false) => Revocations::Unavailable,
                    };
                }),
                Step::Publish(uri, document) => worlds.iter_mut().for_each(|world| match &document {
                    Some(at) => world.publish(uri, &documents[at.index(documents.len())]),
                    None => world.keys.remove(uri),
                }),
                Step::Ask { tokens: asked, bound } => {
                    let mut request = request("GET", "/a");
                    request.client_certificate = bound.then_some(CERTIFICATE);
                    for (at, place) in asked {
                        let token = &tokens()[at.index(tokens().len())];
                        request = match place {
                            "authorization" => bearer(request, token),
                            place => with_header(request, place, token),
                        };
                    }
                    // Twice, so that what was remembered is met.
                    for world in worlds.iter().skip(current).step_by(sets.len()) {
                        world.ask(&request);
                        world.ask(&request);
                    }
                }
            }
            prop_assert!(cache.len() <= entries);
        }
    }
}
