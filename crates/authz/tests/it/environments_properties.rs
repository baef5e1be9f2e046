//! Whatever is accepted when compiled, the gate itself never accepts a token of one environment at another.

use std::collections::BTreeSet;

use authz::{CompileOptions, Mode, VerifiedTokens};
use proptest::prelude::*;
use proptest::sample::select;

use crate::environments::{SHOP, apart, at, refused, target, together, token_for, tokens};
use crate::support::{ISSUER, World, open_with};

const ISSUERS: [&str; 2] = [ISSUER, "https://other.example"];
const AUDIENCES: [&str; 2] = ["a", "b"];
const HEADERS: [&str; 2] = ["authorization", "x-token"];

/// A rule for tokens: whose, for whom (one of `audiences`), and where.
fn any_rule(audiences: &'static [&'static str]) -> impl Strategy<Value = String> {
    let issuer = select(vec![Some(ISSUERS[0]), Some(ISSUERS[0]), Some(ISSUERS[1]), None]);
    let both = "fromHeaders: [{name: x-token}, {name: Authorization, prefix: \"Bearer \"}]";
    let place = select(vec!["", "", "fromHeaders: [{name: x-token}]", both]);
    (issuer, select(audiences), place).prop_map(|(issuer, audiences, place)| {
        let issuer = issuer.map(|issuer| format!("issuer: \"{issuer}\""));
        let audiences = (!audiences.is_empty()).then(|| format!("audiences: [{audiences}]"));
        let place = (!place.is_empty()).then(|| place.to_owned());
        [issuer, audiences, place].into_iter().flatten().collect::<Vec<_>>().join(", ")
    })
}

/// Mostly what keeps two environments apart: rules of their own at their gateways, something at the shop, and now and then
/// something else.
fn any_tokens() -> impl Strategy<Value = String> {
    let anywhere = select(vec![
        ("istio-system", "env: dev"),
        ("istio-system", "env: prod"),
        ("istio-system", ""),
        ("istio-system", "istio: ingressgateway"),
        ("shop", "app: web"),
    ]);
    let at = |place: (&'static str, &'static str), audiences: &'static [&'static str], most: usize| {
        (Just(place), prop::collection::vec(any_rule(audiences), 0..=most))
    };
    let usual = (
        at(("istio-system", "env: dev"), &["a", "a", "a", "a", ""], 2),
        at(("istio-system", "env: prod"), &["b", "b", "b", "b", "a, b"], 2),
        at(("shop", "app: web"), &["", "a", "b", "a, b"], 1),
    );
    let other = (anywhere, prop::collection::vec(any_rule(&["", "a", "b", "a, b"]), 1..=1));
    (usual, prop::option::weighted(0.2, other)).prop_map(|((dev, prod, web), other)| {
        let documents = [dev, prod, web].into_iter().chain(other).enumerate();
        let documents =
            documents.filter(|(_, (_, rules))| !rules.is_empty()).map(|(index, ((namespace, labels), rules))| {
                let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
                tokens(&format!("t{index}"), namespace, labels, &rules)
            });
        documents.collect()
    })
}

/// The tokens that some hop of the API accepted in some request, by themselves or beside another one.
fn accepted(world: &World, stage: &str, shown: &[Option<(String, String)>]) -> BTreeSet<String> {
    let host = format!("{stage}.shop.example");
    let verified = VerifiedTokens::default();
    let mut found = BTreeSet::new();
    for one in shown {
        for two in shown {
            let mut request = at(&host);
            for (header, token) in HEADERS.into_iter().zip([one, two]) {
                let Some((_, text)) = token else { continue };
                let prefix = if header == "authorization" { "Bearer " } else { "" };
                request.headers.push((header.to_owned(), format!("{prefix}{text}")));
            }
            let given = authz::Given { verified: Some(&verified), ..world.given() };
            let (decision, trace) = authz::explain(&world.policies, &request, &target("a", stage, &host), &given);
            if decision.is_allowed() {
                found.extend(trace.hops.into_iter().filter_map(|hop| hop.principal));
            }
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    /// Whatever is accepted when compiled, the gate itself never accepts one token at both.
    #[test]
    fn no_token_opens_both(
        documents in any_tokens(),
        own_workloads in prop::bool::weighted(0.9),
        mode in select(vec![Mode::Strict, Mode::Istio]),
    ) {
        let apis = if own_workloads { apart() } else { together("", "") };
        let documents = format!("{SHOP}{apis}{documents}");
        if refused(&documents).is_empty() {
            // A bundle of the `istio` mode is held to the same.
            let options = CompileOptions { mode, ..CompileOptions::default() };
            let policies = open_with(&[("shop.yaml", &documents)], &options).unwrap();
            let world = World { policies, ..World::new("") };
            let tokens = ISSUERS.iter().flat_map(|issuer| AUDIENCES.map(|audience| (*issuer, audience)));
            let mut shown: Vec<Option<(String, String)>> = vec![None];
            shown.extend(tokens.map(|(issuer, audience)| {
                Some((format!("{issuer}/{audience}"), token_for(issuer, audience)))
            }));
            let (dev, prod) = (accepted(&world, "dev", &shown), accepted(&world, "prod", &shown));
            prop_assert!(dev.is_disjoint(&prod), "{:?} and {:?} by {}", dev, prod, documents);
        }
    }
}
