//! What is refused when a bundle is made, and when it is opened.

use authz::policies::OpenError;
use authz::{CompileOptions, KeySets, Policies, Reason, compile};
use istio::{Action, AuthorizationPolicy, Meta, Operation, Origin, Resources, Rule, Source};

use crate::support::{
    ISSUER, JWKS_URI, World, b64, bearer, ec_jwk, issuer_jwks, jwks, keys, open, open_with, options, reader, request,
    workload,
};

fn authentication(namespace: &str, rule: &str) -> String {
    format!(
        "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: r, namespace: {namespace}}}
spec: {{jwtRules: [{{issuer: \"{ISSUER}\"{rule}}}]}}
---"
    )
}

fn meta() -> Meta {
    Meta {
        name: "p".to_owned(),
        namespace: "ns1".to_owned(),
        labels: Default::default(),
        annotations: Default::default(),
        origin: Origin { file: "p.yaml".to_owned(), line: 3 },
    }
}

fn policy(action: Action, rules: Option<Vec<Rule>>) -> Resources {
    let policy = AuthorizationPolicy {
        meta: meta(),
        selector: None,
        target_refs: Vec::new(),
        action,
        provider: None,
        dry_run: false,
        rules,
    };
    Resources { authorization_policies: vec![policy], ..Resources::default() }
}

fn errors(resources: &Resources) -> Vec<String> {
    let compiled = compile(resources, &CompileOptions::default());
    compiled.err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

fn operation(change: impl FnOnce(&mut Operation)) -> Option<Vec<Rule>> {
    let mut operation = Operation::default();
    change(&mut operation);
    Some(vec![Rule { to: Some(vec![operation]), ..Rule::default() }])
}

#[test]
fn what_would_widen_a_policy_is_refused_although_the_reader_lets_none_through() {
    let source = |source| Some(vec![Rule { from: Some(vec![source]), ..Rule::default() }]);
    let condition = |key, values: &[&str]| {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        let condition = istio::Condition { key, values, not_values: Vec::new() };
        Some(vec![Rule { when: Some(vec![condition]), ..Rule::default() }])
    };
    let cases = [
        (policy(Action::Deny, None), "needs rules"),
        (policy(Action::Deny, Some(Vec::new())), "needs rules"),
        (
            policy(Action::Allow, Some(vec![Rule { from: Some(Vec::new()), ..Rule::default() }])),
            "from is an empty list",
        ),
        (policy(Action::Allow, Some(vec![Rule { to: Some(Vec::new()), ..Rule::default() }])), "to is an empty list"),
        (policy(Action::Allow, source(Source::default())), "source has no field"),
        (policy(Action::Allow, operation(|_| ())), "operation has no field"),
        (policy(Action::Allow, operation(|o| o.paths = vec![String::new()])), "empty value"),
        (policy(Action::Allow, operation(|o| o.paths = vec!["/a/{*}".to_owned()])), "path template"),
        (policy(Action::Deny, operation(|o| o.not_paths = vec!["/a/{**}".to_owned()])), "path template"),
        (policy(Action::Allow, condition(istio::ConditionKey::RequestAuthPrincipal, &[])), "condition has no field"),
        (policy(Action::Allow, condition(istio::ConditionKey::DestinationPort, &["70000"])), "not a port number"),
        (
            policy(Action::Allow, condition(istio::ConditionKey::RequestAuthClaims(Vec::new()), &["x"])),
            "names no claim",
        ),
        (policy(Action::Allow, condition(istio::ConditionKey::SourceNamespace, &["a\nb"])), "line feed"),
    ];
    for (resources, expected) in cases {
        let errors = errors(&resources);
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].contains(expected) && errors[0].starts_with("p.yaml:3: ns1/p: "), "{errors:?}");
    }
}

#[test]
fn target_refs_are_refused() {
    let target =
        istio::TargetRef { group: String::new(), kind: "Service".to_owned(), name: "x".to_owned(), namespace: None };
    let mut resources = policy(Action::Allow, None);
    resources.authorization_policies[0].target_refs.push(target.clone());
    resources.request_authentications.push(istio::RequestAuthentication {
        meta: meta(),
        selector: None,
        target_refs: vec![target],
        jwt_rules: Vec::new(),
    });
    assert_eq!(errors(&resources).len(), 2);
}

#[test]
fn sizes_are_bounded() {
    let rule = Rule::default();
    let mut resources = policy(Action::Allow, Some(vec![rule.clone(); 100_000]));
    assert_eq!(errors(&resources), Vec::<String>::new());
    resources = policy(Action::Allow, Some(vec![rule; 100_001]));
    assert_eq!(errors(&resources), ["found 100001 rules, expected at most 100000"]);
    resources = policy(Action::Allow, None);
    resources.authorization_policies = vec![resources.authorization_policies[0].clone(); 10_000];
    assert_eq!(errors(&resources), Vec::<String>::new());
    resources.authorization_policies.push(resources.authorization_policies[0].clone());
    assert_eq!(errors(&resources), ["found 10001 policies, expected at most 10000"]);
    resources = policy(Action::Allow, operation(|o| o.ports = vec![1; 1_000_001]));
    assert_eq!(errors(&resources), ["found 1000001 values, expected at most 1000000"]);
}

#[test]
fn keys_are_checked_when_compiled() {
    let inline = |document: &str| authentication("ns1", &format!(", jwks: '{document}'"));
    let p256 = ec_jwk("a", "P-256", &keys().p256);
    let oct = format!(r#"{{"kty":"oct","k":"{}"}}"#, b64([1; 32]));
    assert!(open(&[("p", &inline(&jwks(std::slice::from_ref(&p256))))]).is_ok());
    assert!(open(&[("p", &inline(&jwks(std::slice::from_ref(&oct))))]).is_ok());
    let refused = |yaml: &str, options: &CompileOptions| open_with(&[("p", yaml)], options).err().unwrap().join("\n");
    let none = CompileOptions::default();
    let twice = jwks(&[p256.clone(), p256.clone()]);
    assert!(refused(&inline(&twice), &none).contains("has the kid \"a\" twice"));
    assert!(refused(&inline(&jwks(&[p256.replace("P-256", "P-999")])), &none).contains("no usable key: its curve"));
    // Keys given for a published set are checked as published ones.
    let published = authentication("ns1", &format!(", jwksUri: \"{JWKS_URI}\""));
    let symmetric = jwks(&[oct]);
    assert!(refused(&published, &options(&[(ISSUER, &symmetric)])).contains("symmetric"));
    // Keys that have to be discovered must be given.
    let discovered = authentication("ns1", "");
    assert!(refused(&discovered, &none).contains("let `--fetch` find its keys by discovery"));
    assert!(open_with(&[("p", &discovered)], &options(&[(ISSUER, &issuer_jwks())])).is_ok());
}

#[test]
fn keys_fetched_for_the_bundle_serve_until_newer_ones_come() {
    let published = authentication("ns1", &format!(", jwksUri: \"{JWKS_URI}\""));
    let policies = open_with(&[("p", &published)], &options(&[(ISSUER, &issuer_jwks())])).unwrap();
    let keys = KeySets::embedded(&policies).unwrap();
    let mut world = World { policies, keys, ..World::new("") };
    let request = bearer(request("GET", "/a"), &reader());
    assert_eq!(world.decide(&request, &workload()).reason(), Reason::AllowedNoPolicy);
    let generation = world.keys.generation();
    let empty = authz::Jwks::parse(r#"{"keys":[]}"#, authz::KeyOrigin::Fetched).unwrap();
    world.keys.insert(JWKS_URI, empty.into());
    assert_ne!(world.keys.generation(), generation);
    assert_eq!(world.decide(&request, &workload()).reason(), Reason::TokenKeyUnknown);
}

#[test]
fn damaged_policies_are_not_opened() {
    let resources = policy(Action::Deny, operation(|o| o.paths = vec!["/admin".to_owned()]));
    let good = compile(&resources, &CompileOptions::default()).unwrap().section;
    assert!(Policies::open(&good).is_ok());
    assert!(matches!(Policies::open(&[]), Err(OpenError::Damaged(_))));
    assert!(matches!(Policies::open(&good[..good.len() - 1]), Err(OpenError::Damaged(_))));
    assert!(matches!(Policies::open(&good[4..]), Err(OpenError::Damaged(_)) | Err(OpenError::Version(_))));
    assert!(matches!(Policies::open(&vec![0; 32 * 1024 * 1024 + 1]), Err(OpenError::TooLarge(_))));
    // Whatever byte is changed: it is refused, or it is read without a panic.
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 0xff;
        if let Ok(policies) = Policies::open(&changed) {
            let world = World { policies, ..World::new("") };
            let _ = world.decide(&request("GET", "/admin"), &workload());
        }
    }
}
