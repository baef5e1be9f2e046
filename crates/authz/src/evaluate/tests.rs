//! The evaluator against a plain one, and what holds for every policy and every request.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod generate;
mod reference;
mod unknown;

use istio::{Action, Resources};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use self::generate::{Bytes, Owned};
use self::reference::Reference;
use super::*;
use crate::compile::{CompileOptions, compile};
use crate::policies::{Labels, Policies, Workload};
use crate::trace::{Found, RuleTrace};

fn open(resources: &Resources) -> Policies {
    let options = CompileOptions { mode: crate::Mode::Istio, ..CompileOptions::default() };
    let compiled = compile(resources, &options).unwrap_or_else(|errors| panic!("{errors:#?}"));
    Policies::open(&compiled.section).unwrap()
}

struct Case {
    resources: Resources,
    policies: Policies,
    request: Owned,
}

impl Case {
    fn new(bytes: &[u8]) -> (Self, Bytes<'_>) {
        let mut bytes = Bytes::new(bytes);
        // The request first, so that what it draws does not depend on how much the policies take.
        let request = generate::request(&mut bytes);
        let resources = generate::resources(&mut bytes);
        (Self { policies: open(&resources), resources, request }, bytes)
    }

    fn applicable<'a>(&'a self, policies: &'a Policies) -> Applicable<'a> {
        policies
            .of_workload(Workload { namespace: self.request.namespace, labels: Labels::Given(&self.request.labels) })
    }

    fn outcome(&self) -> Outcome {
        evaluate(self.applicable(&self.policies), &self.request.attributes())
    }

    /// The outcome with other policies.
    fn outcome_with(&self, change: impl FnOnce(&mut Resources)) -> Outcome {
        let mut resources = self.resources.clone();
        change(&mut resources);
        let policies = open(&resources);
        evaluate(self.applicable(&policies), &self.request.attributes())
    }
}

fn allows(outcome: &Outcome) -> bool {
    matches!(outcome.verdict, Verdict::AllowedBy(_) | Verdict::AllowedNoPolicy)
}

/// What the trace says, by the rules of b1: a scan over all policies.
fn traced(traces: &[PolicyTrace]) -> (Verdict, Shadow) {
    let of = |action: &'static str, dry_run: bool| {
        traces.iter().filter(move |policy| policy.applies && policy.action == action && policy.dry_run == dry_run)
    };
    let first = |action, dry_run| {
        of(action, dry_run).find_map(|policy| {
            let rule = policy.rules.iter().find(|rule| rule.matched)?;
            Some(format!("ns[{}]-policy[{}]-rule[{}]", policy.namespace, policy.name, rule.index))
        })
    };
    let verdict = match (first("DENY", false), first("ALLOW", false)) {
        (Some(rule), _) => Verdict::DeniedBy(rule),
        (None, Some(rule)) => Verdict::AllowedBy(rule),
        (None, None) if of("ALLOW", false).next().is_some() => Verdict::DeniedNoMatch,
        (None, None) => Verdict::AllowedNoPolicy,
    };
    let allow = first("ALLOW", true).map(DryRunAllow::AllowedBy);
    let shadow = Shadow {
        audit: first("AUDIT", false),
        dry_run_deny: first("DENY", true),
        dry_run_allow: allow.or(of("ALLOW", true).next().map(|_| DryRunAllow::Denied)),
    };
    (verdict, shadow)
}

/// Whether the parts of a traced rule add up to its answer.
fn adds_up(rule: &RuleTrace) -> bool {
    let branches = |branches: &[crate::trace::BranchTrace]| {
        assert!(branches.iter().all(|branch| branch.matched == branch.leaves.iter().all(|leaf| leaf.matched)));
        branches.is_empty() || branches.iter().any(|branch| branch.matched)
    };
    let when = rule.when.iter().all(|leaf| leaf.matched);
    rule.matched == (rule.unavailable.is_empty() && branches(&rule.from) && branches(&rule.to) && when)
}

/// Mostly nothing is unknown.
fn unknown() -> impl Strategy<Value = Unknown> {
    let flag = || proptest::bool::weighted(0.25);
    (flag(), flag(), flag()).prop_map(|(host, headers, principal)| Unknown { host, headers, principal })
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..900)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// The compiled bytes, found by the index, say what Istio's resources say, read plainly.
    #[test]
    fn agrees_with_a_plain_evaluator(bytes in bytes()) {
        let (case, _) = Case::new(&bytes);
        let attributes = case.request.attributes();
        let Outcome { verdict, shadow } = case.outcome();
        let reference = Reference {
            resources: &case.resources,
            namespace: case.request.namespace,
            labels: &case.request.labels,
            attributes: &attributes,
        };
        prop_assert_eq!((verdict, shadow), reference.evaluate());
        prop_assert_eq!(custom_providers(case.applicable(&case.policies)).len(), reference.providers());
        for dry_run in [false, true] {
            let found = custom(case.applicable(&case.policies), &attributes);
            let found: Vec<String> =
                found.into_iter().filter(|found| found.dry_run == dry_run).map(|found| found.rule).collect();
            prop_assert_eq!(found, reference.matches(Action::Custom, dry_run));
        }
    }

    /// The trace, a scan over all policies, never disagrees with the answer, which comes out of the index.
    #[test]
    fn the_trace_agrees_with_the_answer(bytes in bytes(), joined in any::<bool>(), unknown in unknown()) {
        let (case, _) = Case::new(&bytes);
        let attributes = Attributes { joined, unknown, ..case.request.attributes() };
        let applicable = case.applicable(&case.policies);
        let Outcome { verdict, shadow } = evaluate(applicable, &attributes);
        let traces = trace(applicable, &attributes, &attributes);
        prop_assert_eq!((verdict, shadow), traced(&traces));
        for policy in &traces {
            prop_assert_eq!(policy.applies, policy.why_not.is_empty());
            prop_assert!(policy.rules.iter().all(adds_up), "{:#?}", policy);
        }
        let guarded = traces.iter().any(|policy| policy.applies && !policy.dry_run && policy.action != "AUDIT");
        prop_assert_eq!(case.policies.is_guarded(case.request.namespace, &case.request.labels), guarded);
        let closed = traces.iter().any(|policy| policy.applies && !policy.dry_run && policy.action == "ALLOW");
        prop_assert_eq!(case.policies.is_closed(case.request.namespace, &case.request.labels), closed);
    }

    /// One DENY policy more never allows what was denied.
    #[test]
    fn a_deny_policy_never_widens(bytes in bytes()) {
        let (case, mut more) = Case::new(&bytes);
        let with = case.outcome_with(|resources| {
            resources.authorization_policies.push(generate::policy_of(&mut more, "more", Action::Deny));
        });
        prop_assert!(!allows(&with) || allows(&case.outcome()));
    }

    /// A rule taken out of an ALLOW policy that stays never allows what was denied. (The policy taken out as a whole
    /// may: a workload without ALLOW policies is open.)
    #[test]
    fn a_rule_less_in_an_allow_policy_never_widens(bytes in bytes()) {
        let (case, mut more) = Case::new(&bytes);
        let without = case.outcome_with(|resources| {
            let allow = resources.authorization_policies.iter_mut().filter(|policy| policy.action == Action::Allow);
            let mut rules: Vec<_> = allow.filter_map(|policy| policy.rules.as_mut()).filter(|r| !r.is_empty()).collect();
            let at = more.below(rules.len().max(1));
            if let Some(rules) = rules.get_mut(at) {
                rules.remove(more.below(rules.len()));
            }
        });
        prop_assert!(!allows(&without) || allows(&case.outcome()));
    }

    /// Whatever AUDIT and dry-run policies say, the verdict stays.
    #[test]
    fn audit_and_dry_run_change_no_verdict(bytes in bytes()) {
        let (case, mut more) = Case::new(&bytes);
        let without = case.outcome_with(|resources| {
            resources.authorization_policies.retain(|policy| policy.action != Action::Audit && !policy.dry_run);
        });
        prop_assert_eq!(&case.outcome().verdict, &without.verdict);
        let with = case.outcome_with(|resources| {
            let action = [Action::Allow, Action::Deny, Action::Audit][more.below(3)];
            let mut policy = generate::policy_of(&mut more, "more", action);
            policy.dry_run = action != Action::Audit;
            resources.authorization_policies.push(policy);
        });
        prop_assert_eq!(&case.outcome().verdict, &with.verdict);
    }

    /// An attribute that cannot be known never makes a policy allow more.
    #[test]
    fn an_unavailable_attribute_never_widens(bytes in bytes(), which in 0_usize..9) {
        let (case, _) = Case::new(&bytes);
        let mut attributes = case.request.attributes();
        match which {
            0 => attributes.source_ip = None,
            1 => attributes.remote_ip = None,
            2 => attributes.destination_ip = None,
            3 => attributes.port = None,
            4 => attributes.sni = None,
            5 => attributes.dynamic_metadata = None,
            6 => attributes.unknown.host = true,
            7 => attributes.unknown.headers = true,
            _ => attributes.unknown.principal = true,
        }
        let without = evaluate(case.applicable(&case.policies), &attributes);
        prop_assert!(!allows(&without) || allows(&case.outcome()));
    }
}

#[test]
fn the_generator_reaches_every_verdict() {
    let mut seen = [0; 4];
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..500 {
        let bytes = bytes().new_tree(&mut runner).unwrap().current();
        match Case::new(&bytes).0.outcome().verdict {
            Verdict::AllowedBy(_) => seen[0] += 1,
            Verdict::AllowedNoPolicy => seen[1] += 1,
            Verdict::DeniedBy(_) => seen[2] += 1,
            Verdict::DeniedNoMatch => seen[3] += 1,
        }
    }
    assert!(seen.iter().all(|count| *count >= 25), "{seen:?}");
}

/// Reads documents; policies are in `ns1`.
fn read(yaml: &str) -> Policies {
    let file = istio::SourceFile { name: "p.yaml".to_owned(), text: yaml.to_owned() };
    open(&istio::parse(&[file]).unwrap_or_else(|errors| panic!("{errors:?}")))
}

fn plain<'a>(headers: &'a [(String, String)]) -> Attributes<'a> {
    Attributes {
        method: "GET",
        scheme: "http",
        host: "b.example",
        path: "/a?access_token=s3cret",
        headers,
        joined: false,
        principal: None,
        source_ip: None,
        remote_ip: None,
        destination_ip: None,
        port: None,
        sni: None,
        dynamic_metadata: None,
        unknown: Unknown::default(),
        claims: None,
        area: None,
        caller_unknown: false,
    }
}

fn traces_of(policies: &Policies, labels: &[(String, String)], attributes: &Attributes<'_>) -> Vec<PolicyTrace> {
    let workload = Workload { namespace: "ns1", labels: Labels::Given(labels) };
    trace(policies.of_workload(workload), attributes, attributes)
}

#[test]
fn a_trace_shows_every_leaf_and_no_credential() {
    let policies = read(
        r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: ns1}
spec:
  action: DENY
  rules:
    - from: [{source: {notPrincipals: ["td/ns/ns1/sa/a"], namespaces: ["ns1", "n*2"]}}, {source: {requestPrincipals: ["i/s"]}}]
      to: [{operation: {ports: ["80"], notPaths: ["/b*"]}}]
      when:
        - {key: "request.headers[authorization]", values: ["*", "Bearer s3cret"]}
        - {key: "request.headers[X-Token]", values: ["s3cret"], notValues: ["x"]}
        - {key: "request.headers[x-own-key]", values: ["a"]}
        - {key: "request.headers[:path]", values: ["/a*"]}
        - {key: "request.headers[x-long]", values: ["*"]}
        - {key: "request.auth.claims[o][k]", notValues: ["a"]}
        - {key: request.auth.audiences, values: ["a"]}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: r, namespace: elsewhere}
spec: {jwtRules: [{issuer: i, jwksUri: "https://i.example/", fromHeaders: [{name: X-Token}]}]}
---
apiVersion: causeway.dev/v1alpha1
kind: ApiKeyAuthentication
metadata: {name: k, namespace: elsewhere}
spec: {issuer: i, headerName: X-Own-Key}
"#,
    );
    let long = "é".repeat(200);
    let headers =
        [("authorization", "Bearer s3cret"), ("x-token", "s3cret"), ("x-own-key", "s3cret"), ("x-long", long.as_str())];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let traces = traces_of(&policies, &[], &plain(&headers));
    assert!(!serde_json::to_string(&traces).unwrap().contains("s3cret"));
    let [policy] = traces.as_slice() else { panic!("{traces:#?}") };
    let [rule] = policy.rules.as_slice() else { panic!("{policy:#?}") };
    assert!(policy.applies && !rule.matched && rule.unavailable.is_empty());
    let show = |leaf: &crate::trace::LeafTrace| {
        let found = match &leaf.found {
            Found::Missing => "missing".to_owned(),
            Found::Unavailable => "unavailable".to_owned(),
            Found::Values(values) => values.join(" "),
            Found::WrongType(kind) => format!("a {kind}"),
        };
        format!("{} {:?} {} {}", leaf.field, leaf.wanted, found, leaf.matched)
    };
    let branches = rule.from.iter().chain(&rule.to);
    let leaves: Vec<String> = branches.flat_map(|branch| &branch.leaves).chain(&rule.when).map(show).collect();
    let long = format!("request.headers[x-long] [\"*\"] {}… true", "é".repeat(128));
    assert_eq!(
        leaves,
        [
            "notPrincipals [\"td/ns/ns1/sa/a\"] missing true",
            "namespaces [\"ns1\", \"n*2\"] missing false",
            "requestPrincipals [\"i/s\"] missing false",
            "ports [\"80\"] unavailable true",
            "notPaths [\"/b*\"] /a true",
            "request.headers[authorization] [\"*\", \"***\"] *** true",
            "request.headers[x-token] [\"***\"] *** true",
            "request.headers[x-token] [\"***\"] *** true",
            "request.headers[x-own-key] [\"***\"] *** false",
            "request.headers[:path] [\"/a*\"] /a?*** true",
            long.as_str(),
            "request.auth.claims[o][k] [\"a\"] missing true",
            "request.auth.audiences [\"a\"] missing false",
        ]
    );
}

#[test]
fn a_trace_says_why_a_policy_does_not_apply() {
    let mut resources = Resources::default();
    let mut bytes = Bytes::new(&[]);
    let selector = |labels: &[(&str, &str)]| {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Some(istio::WorkloadSelector { match_labels: labels.collect() })
    };
    let target = istio::TargetRef {
        group: "gateway.networking.k8s.io".to_owned(),
        kind: "Gateway".to_owned(),
        name: "g".to_owned(),
        namespace: None,
    };
    for (name, labels, targets) in [
        ("selected", selector(&[("app", "c")]), Vec::new()),
        ("attached", None, vec![target.clone()]),
        ("abroad", None, vec![istio::TargetRef { namespace: Some("ns2".to_owned()), ..target }]),
        ("all", None, Vec::new()),
    ] {
        let policy = generate::policy_of(&mut bytes, name, Action::Allow);
        resources.authorization_policies.push(istio::AuthorizationPolicy {
            selector: labels,
            target_refs: targets,
            ..policy
        });
    }
    let policies = open(&resources);
    let why_not = |labels: &[(&str, &str)]| {
        let labels: Vec<_> = labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let traces = traces_of(&policies, &labels, &plain(&[]));
        traces.into_iter().map(|policy| policy.why_not).collect::<Vec<_>>()
    };
    const NAME: &str = "gateway.networking.k8s.io/gateway-name";
    const NO_GATEWAY: &str = "targetRefs, and the workload is no gateway of the Gateway API";
    assert_eq!(why_not(&[]), ["selector app=c, the workload has no label app", NO_GATEWAY, NO_GATEWAY, ""]);
    assert_eq!(why_not(&[("app", "b")])[0], "selector app=c, the workload has app=b");
    let elsewhere = "targetRefs, none of which is this gateway, g";
    assert_eq!(why_not(&[(NAME, "g"), ("app", "c")]), ["", "", elsewhere, ""]);
    let waypoint = "no targetRefs, and a waypoint follows nothing else";
    assert_eq!(
        why_not(&[(NAME, "g"), ("app", "c"), ("gateway.istio.io/managed", "istio.io-mesh-controller")]),
        [waypoint, "", elsewhere, waypoint]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// What the index says of credentials, and what a scan over all documents says.
    #[test]
    fn the_index_misses_no_authentication(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = Bytes::new(&bytes);
        let request = generate::request(&mut bytes);
        let mut resources = Resources::default();
        for i in 0..bytes.below(12) {
            let policy = generate::policy_of(&mut bytes, &format!("r{i:02}"), Action::Allow);
            let istio::AuthorizationPolicy { meta, selector, target_refs, .. } = policy;
            if i % 3 == 0 {
                let authentication = istio::ApiKeyAuthentication {
                    meta,
                    selector,
                    issuer: "i".to_owned(),
                    header_name: "x-api-key".to_owned(),
                    forward_original_key: false,
                };
                resources.api_key_authentications.push(authentication);
            } else {
                let authentication = istio::RequestAuthentication { meta, selector, target_refs, jwt_rules: Vec::new() };
                resources.request_authentications.push(authentication);
            }
        }
        let policies = open(&resources);
        let workload = Workload { namespace: request.namespace, labels: Labels::Given(&request.labels) };
        let applicable = policies.of_workload(workload);
        let mut wanted = (Vec::new(), Vec::new());
        for namespace in applicable.namespaces() {
            let tokens = namespace.request_authentications.iter();
            wanted.0.extend(tokens.filter(|authentication| {
                applicable.why_not(&namespace.name, &authentication.selector, &authentication.target_refs).is_none()
            }).map(|authentication| authentication.name.as_str()));
            let keys = namespace.api_key_authentications.iter();
            let own = |label: &crate::compiled::ArchivedLabel| {
                request.labels.iter().any(|(name, value)| *name == *label.name && *value == *label.value)
            };
            wanted.1.extend(keys.filter(|key| key.selector.iter().all(own)).map(|key| key.name.as_str()));
        }
        let tokens: Vec<&str> = applicable.request_authentications().map(|one| one.name.as_str()).collect();
        let keys: Vec<&str> = applicable.api_key_authentications().map(|one| one.name.as_str()).collect();
        prop_assert_eq!((tokens, keys), wanted);
    }
}
