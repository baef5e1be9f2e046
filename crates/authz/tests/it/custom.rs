//! CUSTOM policies: who is asked, in which order, and what becomes of the answer.

use std::collections::BTreeMap;

use authz::{CompileError, CompileOptions, Decision, Hop, Mode, Policies, ProviderAnswer, Reason, compile};
use istio::{
    Action, AuthorizationPolicy, Condition, ConditionKey, ExtensionProvider, ExternalAuthorizer, JwtRule, Meta,
    Operation, Origin, RequestAuthentication, Resources, Rule, TargetRef, WorkloadSelector,
};

use crate::support::{ISSUER, JWKS_URI, World, bearer, reader, request, workload};

fn meta(namespace: &str, name: &str) -> Meta {
    Meta {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        namespace_given: true,
        labels: Default::default(),
        annotations: Default::default(),
        origin: Origin { file: format!("{name}.yaml"), line: 1 },
    }
}

fn paths(paths: &[&str]) -> Rule {
    let paths = paths.iter().map(|&path| path.to_owned()).collect();
    Rule { to: Some(vec![Operation { paths, ..Operation::default() }]), ..Rule::default() }
}

fn policy(action: Action, name: &str, rules: Vec<Rule>) -> AuthorizationPolicy {
    AuthorizationPolicy {
        meta: meta("ns1", name),
        selector: None,
        target_refs: Vec::new(),
        action,
        provider: None,
        dry_run: false,
        rules: Some(rules),
    }
}

fn custom(name: &str, provider: &str, path: &str) -> AuthorizationPolicy {
    AuthorizationPolicy { provider: Some(provider.to_owned()), ..policy(Action::Custom, name, vec![paths(&[path])]) }
}

fn selecting(policy: AuthorizationPolicy, labels: &[(&str, &str)]) -> AuthorizationPolicy {
    let match_labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    AuthorizationPolicy { selector: Some(WorkloadSelector { match_labels }), ..policy }
}

/// Attached to a Gateway of the Gateway API.
fn attached(policy: AuthorizationPolicy, gateway: &str) -> AuthorizationPolicy {
    let target = TargetRef {
        group: "gateway.networking.k8s.io".to_owned(),
        kind: "Gateway".to_owned(),
        name: gateway.to_owned(),
        namespace: None,
    };
    AuthorizationPolicy { target_refs: vec![target], ..policy }
}

fn in_namespace(namespace: &str, mut policy: AuthorizationPolicy) -> AuthorizationPolicy {
    policy.meta.namespace = namespace.to_owned();
    policy
}

/// Providers: `a` and `b` are usual, `open` fails open, `teapot` has a status of its own, `ours` is the adapter, `logs`
/// is no authorizer.
fn resources(policies: Vec<AuthorizationPolicy>) -> Resources {
    let provider = |name: &str, fail_open, status_on_error| ExtensionProvider {
        name: name.to_owned(),
        authorizer: Some(ExternalAuthorizer { fail_open, status_on_error }),
        is_adapter: name == "ours",
    };
    let mut resources = Resources { authorization_policies: policies, ..Resources::default() };
    resources.mesh.extension_providers = vec![
        provider("a", false, 403),
        provider("b", false, 403),
        provider("open", true, 403),
        provider("teapot", false, 418),
        provider("ours", false, 403),
        provider("Upper", false, 403),
        ExtensionProvider { name: "logs".to_owned(), authorizer: None, is_adapter: false },
    ];
    let jwt = JwtRule { issuer: ISSUER.to_owned(), jwks_uri: Some(JWKS_URI.to_owned()), ..JwtRule::default() };
    resources.request_authentications.push(RequestAuthentication {
        meta: meta("ns1", "jwt"),
        selector: None,
        target_refs: Vec::new(),
        jwt_rules: vec![jwt],
    });
    resources
}

fn world(policies: Vec<AuthorizationPolicy>) -> World {
    World::of_resources(&resources(policies), Mode::Istio)
}

fn answers(answers: &[(&str, ProviderAnswer)]) -> Option<BTreeMap<String, ProviderAnswer>> {
    Some(answers.iter().map(|(name, answer)| ((*name).to_owned(), *answer)).collect())
}

fn outcome(decision: &Decision) -> (Reason, u16, Option<&str>) {
    (decision.reason(), decision.status(), decision.policy())
}

#[test]
fn what_becomes_of_each_answer() {
    use ProviderAnswer::{Allow, Deny, Error};
    let unavailable = |status| (Reason::CustomProviderUnavailable, status, Some("ns[ns1]-policy[p]-rule[0]"));
    let on = (Reason::AllowedNoPolicy, 200, None);
    let denied = (Reason::DeniedByProvider, 403, Some("ns[ns1]-policy[p]-rule[0]"));
    let cases = [
        ("a", Some(Allow), on),
        ("a", Some(Deny), denied),
        ("a", Some(Error), unavailable(403)),
        ("a", None, unavailable(403)),
        ("open", Some(Allow), on),
        ("open", Some(Deny), denied),
        ("open", Some(Error), on),
        // Nobody tried to reach it: that is not the failure that its failOpen is about.
        ("open", None, unavailable(403)),
        ("teapot", Some(Error), unavailable(418)),
        ("teapot", None, unavailable(403)),
        ("ours", None, on),
        ("ours", Some(Allow), on),
        ("ours", Some(Deny), denied),
        ("ours", Some(Error), unavailable(403)),
        // Not among the providers, not an authorizer, not a name that Istio takes.
        ("nobody", Some(Allow), unavailable(403)),
        ("logs", Some(Allow), unavailable(403)),
        ("Upper", Some(Allow), unavailable(403)),
    ];
    for (provider, answer, expected) in cases {
        let mut world = world(vec![custom("p", provider, "/a")]);
        world.providers = answer.and_then(|answer| answers(&[(provider, answer)]));
        let decision = world.decide(&request("GET", "/a"), &workload());
        assert_eq!(outcome(&decision), expected, "{provider} {answer:?}: {decision:?}");
        assert_eq!(decision.hop(), Hop::Workload);
        // The answer of another provider is none, and what does not match asks nobody.
        world.providers = answers(&[("other", Allow)]);
        let decision = world.decide(&request("GET", "/a"), &workload());
        assert_eq!(decision.is_allowed(), provider == "ours", "{provider}: {decision:?}");
        world.providers = answers(&[(provider, Deny)]);
        assert!(world.decide(&request("GET", "/b"), &workload()).is_allowed(), "{provider}");
    }
}

#[test]
fn providers_are_asked_before_anything_else() {
    let bad_token = bearer(request("GET", "/a"), "a.b.c");
    let policies = || {
        vec![
            policy(Action::Deny, "deny", vec![Rule::default()]),
            policy(Action::Allow, "allow", Vec::new()),
            custom("p", "a", "/a"),
        ]
    };
    let mut world = world(policies());
    let mut reason = |answer| {
        world.providers = answers(&[("a", answer)]);
        world.decide(&bad_token, &workload()).reason()
    };
    assert_eq!(reason(ProviderAnswer::Deny), Reason::DeniedByProvider);
    assert_eq!(reason(ProviderAnswer::Error), Reason::CustomProviderUnavailable);
    // Once it lets the request pass, the token is next, and then the policies.
    assert_eq!(reason(ProviderAnswer::Allow), Reason::TokenMalformed);
    let decision = world.decide(&bearer(request("GET", "/a"), &reader()), &workload());
    assert_eq!(outcome(&decision), (Reason::DeniedByPolicy, 403, Some("ns[ns1]-policy[deny]-rule[0]")));
}

#[test]
fn a_rule_sees_the_request_as_it_was_sent() {
    let header = |name: &str| Rule {
        when: Some(vec![Condition {
            key: ConditionKey::RequestHeader(name.to_owned()),
            values: vec!["*".to_owned()],
            not_values: Vec::new(),
        }]),
        ..Rule::default()
    };
    // The token is taken out by the authentication that comes after.
    let mut world = world(vec![AuthorizationPolicy {
        provider: Some("a".to_owned()),
        ..policy(Action::Custom, "p", vec![header("authorization")])
    }]);
    world.providers = answers(&[("a", ProviderAnswer::Deny)]);
    let decision = world.decide(&bearer(request("GET", "/"), &reader()), &workload());
    assert_eq!(decision.reason(), Reason::DeniedByProvider);
    assert_eq!(decision.principal(), None, "nobody has verified it yet");
    assert!(world.decide(&request("GET", "/"), &workload()).is_allowed());
}

#[test]
fn one_provider_is_asked_once() {
    let policies = vec![custom("p1", "a", "/b"), custom("p2", "a", "/*"), custom("p3", "a", "/a")];
    let mut world = world(policies);
    world.providers = answers(&[("a", ProviderAnswer::Deny)]);
    let (decision, trace) = world.explain(&request("GET", "/a"), &workload());
    assert_eq!(decision.policy(), Some("ns[ns1]-policy[p2]-rule[0]"));
    let asked: Vec<_> = trace.hops[0].providers.iter().map(|p| (p.name.as_str(), p.rule.as_str())).collect();
    assert_eq!(asked, [("a", "ns[ns1]-policy[p2]-rule[0]")]);
}

#[test]
fn two_providers_at_one_workload_deny_what_either_matches() {
    let mut world = world(vec![custom("pb", "b", "/b"), custom("pa", "a", "/a"), custom("pn", "nobody", "/n")]);
    world.providers = answers(&[("a", ProviderAnswer::Allow), ("b", ProviderAnswer::Allow)]);
    for (path, policy) in [("/a", "pa"), ("/b", "pb"), ("/n", "pn")] {
        let decision = world.decide(&request("GET", path), &workload());
        let rule = format!("ns[ns1]-policy[{policy}]-rule[0]");
        assert_eq!(outcome(&decision), (Reason::CustomProviderUnavailable, 403, Some(rule.as_str())), "{path}");
    }
    assert!(world.decide(&request("GET", "/c"), &workload()).is_allowed());

    // They count when they are selected for the workload, wherever they stand, and not otherwise.
    let with = |other: AuthorizationPolicy| {
        let mut world = self::world(vec![custom("p", "a", "/a"), other]);
        world.providers = answers(&[("a", ProviderAnswer::Allow), ("b", ProviderAnswer::Allow)]);
        world.decide(&request("GET", "/a"), &workload()).is_allowed()
    };
    let other = || custom("o", "b", "/never");
    assert!(!with(other()));
    assert!(!with(in_namespace("istio-system", other())));
    assert!(!with(selecting(other(), &[("app", "b")])));
    assert!(!with(AuthorizationPolicy { dry_run: true, ..other() }), "Istio counts dry-run policies");
    assert!(with(selecting(other(), &[("app", "c")])));
    assert!(with(in_namespace("ns2", other())));
    assert!(with(custom("o", "a", "/never")));
}

#[test]
fn a_dry_run_is_reported_and_never_enforced() {
    use ProviderAnswer::{Allow, Deny, Error};
    let dry = |name: &str, provider: &str| AuthorizationPolicy { dry_run: true, ..custom(name, provider, "/a") };
    for (provider, answer, found) in [
        ("a", Some(Allow), None),
        ("a", Some(Deny), Some("ns[ns1]-policy[p]-rule[0]")),
        ("a", Some(Error), Some("ns[ns1]-policy[p]-rule[0]")),
        ("a", None, Some("ns[ns1]-policy[p]-rule[0]")),
        ("open", Some(Error), None),
        ("ours", None, None),
        ("nobody", Some(Allow), Some("ns[ns1]-policy[p]-rule[0]")),
    ] {
        let mut world = world(vec![dry("p", provider)]);
        world.providers = answer.and_then(|answer| answers(&[(provider, answer)]));
        let decision = world.decide(&request("GET", "/a"), &workload());
        assert!(decision.is_allowed(), "{provider} {answer:?}: {decision:?}");
        assert_eq!(decision.shadow().dry_run_deny.as_deref(), found, "{provider} {answer:?}");
    }
    // Both kinds of one provider: the enforced one decides, and the finding is on the denial too.
    let mut world = world(vec![dry("p", "a"), custom("q", "a", "/a")]);
    world.providers = answers(&[("a", Deny)]);
    let decision = world.decide(&request("GET", "/a"), &workload());
    assert_eq!(decision.policy(), Some("ns[ns1]-policy[q]-rule[0]"));
    assert_eq!(decision.shadow().dry_run_deny.as_deref(), Some("ns[ns1]-policy[p]-rule[0]"));
    // It stays on a denial of a later stage.
    world.providers = answers(&[("a", Allow)]);
    assert_eq!(world.decide(&request("GET", "/a"), &workload()).shadow().dry_run_deny, None);
    let mut world = self::world(vec![dry("p", "a"), policy(Action::Allow, "none", Vec::new())]);
    world.providers = answers(&[("a", Deny)]);
    for request in [request("GET", "/a"), bearer(request("GET", "/a"), "a.b.c")] {
        let decision = world.decide(&request, &workload());
        assert!(!decision.is_allowed());
        assert_eq!(decision.shadow().dry_run_deny.as_deref(), Some("ns[ns1]-policy[p]-rule[0]"));
    }
}

// ---- when a bundle is made

fn compiled(policies: Vec<AuthorizationPolicy>, mode: Mode) -> Result<Vec<CompileError>, Vec<CompileError>> {
    let options = CompileOptions { mode, ..CompileOptions::default() };
    compile(&resources(policies), &options).map(|compiled| {
        Policies::open(&compiled.section).unwrap();
        compiled.warnings
    })
}

/// What the strict mode refuses, which the other one must warn about in the same words.
fn complaints(policies: Vec<AuthorizationPolicy>) -> Vec<String> {
    let strict = match compiled(policies.clone(), Mode::Strict) {
        Ok(warnings) => {
            assert_eq!(warnings, []);
            Vec::new()
        }
        Err(errors) => errors,
    };
    assert_eq!(compiled(policies, Mode::Istio), Ok(strict.clone()));
    strict.iter().map(ToString::to_string).collect()
}

#[test]
fn a_provider_that_cannot_be_asked_is_refused_or_warned_about() {
    for provider in ["a", "b", "open", "ours"] {
        assert_eq!(complaints(vec![custom("p", provider, "/a")]), Vec::<String>::new());
    }
    for (provider, expected) in [
        ("nobody", "has no extension provider \"nobody\"; add it to extensionProviders"),
        ("logs", "\"logs\" is no external authorizer"),
        ("Upper", "Istio refuses the name"),
    ] {
        let found = complaints(vec![custom("p", provider, "/a")]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("p.yaml:1: ns1/p: ") && found[0].contains(expected), "{found:?}");
    }
}

#[test]
fn a_second_provider_for_one_workload_is_refused_or_warned_about() {
    let one = || custom("one", "a", "/a");
    let other = || custom("other", "b", "/b");
    let cases = [
        ("the same namespace", one(), other(), true),
        ("the root namespace", one(), in_namespace("istio-system", other()), true),
        ("two namespaces", one(), in_namespace("ns2", other()), false),
        ("one provider", one(), custom("other", "a", "/b"), false),
        ("another value", selecting(one(), &[("app", "x")]), selecting(other(), &[("app", "y")]), false),
        ("the same value", selecting(one(), &[("app", "x")]), selecting(other(), &[("app", "x")]), true),
        ("different labels", selecting(one(), &[("app", "x")]), selecting(other(), &[("tier", "y")]), true),
        ("all workloads", one(), selecting(other(), &[("app", "y")]), true),
        (
            "one label of two",
            selecting(one(), &[("app", "x"), ("v", "1")]),
            selecting(other(), &[("app", "x"), ("v", "2")]),
            false,
        ),
        (
            "root with a selector",
            selecting(one(), &[("app", "x")]),
            in_namespace("istio-system", selecting(other(), &[("app", "y")])),
            false,
        ),
        ("one gateway", attached(one(), "edge"), attached(other(), "edge"), true),
        ("two gateways", attached(one(), "edge"), attached(other(), "inner"), false),
        // What is attached to a gateway reaches that of its own namespace alone, also from the root namespace.
        ("a gateway of the root namespace", one(), in_namespace("istio-system", attached(other(), "edge")), false),
        (
            "gateways of one name",
            attached(one(), "edge"),
            in_namespace("istio-system", attached(other(), "edge")),
            false,
        ),
        (
            "both in the root namespace",
            in_namespace("istio-system", one()),
            in_namespace("istio-system", attached(other(), "edge")),
            true,
        ),
        (
            "a gateway of another namespace than root",
            in_namespace("istio-system", one()),
            attached(other(), "edge"),
            true,
        ),
        ("a dry run", one(), AuthorizationPolicy { dry_run: true, ..other() }, true),
    ];
    for (name, one, other, overlap) in cases {
        for pair in [vec![one.clone(), other.clone()], vec![other, one]] {
            let found = complaints(pair);
            assert_eq!(!found.is_empty(), overlap, "{name}: {found:?}");
            assert!(found.iter().all(|message| message.contains("use one provider for one workload")), "{found:?}");
        }
    }
}
