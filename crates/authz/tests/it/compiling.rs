//! What is refused when a bundle is made, and when it is opened.

use std::sync::Arc;

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
        namespace_given: true,
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
        (policy(Action::Allow, operation(|o| o.paths = vec!["a/{*}".to_owned()])), "must begin with one slash"),
        (policy(Action::Deny, operation(|o| o.not_paths = vec!["/{**}/{*}".to_owned()])), "must be the last operator"),
        (policy(Action::Allow, source(Source { service_accounts: texts(&["a*"]), ..Source::default() })), "wildcards"),
        (policy(Action::Allow, source(Source { service_accounts: texts(&["a/b/c"]), ..Source::default() })), "NAME or"),
        (policy(Action::Allow, source(Source { service_accounts: texts(&["/b"]), ..Source::default() })), "NAME or"),
        (
            policy(
                Action::Allow,
                source(Source { service_accounts: texts(&["b"]), namespaces: texts(&["n"]), ..Source::default() }),
            ),
            "cannot stand beside",
        ),
        (policy(Action::Allow, condition(istio::ConditionKey::SourceIp, &["10.0.0.0/33"])), "CIDR block"),
        (policy(Action::Allow, condition(istio::ConditionKey::RemoteIp, &["x"])), "CIDR block"),
        (policy(Action::Custom, Some(vec![Rule::default()])), "must name its provider"),
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

fn texts(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

fn target(group: &str, kind: &str, name: &str) -> istio::TargetRef {
    istio::TargetRef { group: group.to_owned(), kind: kind.to_owned(), name: name.to_owned(), namespace: None }
}

#[test]
fn what_a_policy_is_attached_to_is_checked() {
    const GATEWAY: &str = "gateway.networking.k8s.io";
    let attached = |targets: Vec<istio::TargetRef>| {
        let mut resources = policy(Action::Allow, None);
        resources.authorization_policies[0].target_refs = targets.clone();
        resources.request_authentications.push(istio::RequestAuthentication {
            meta: meta(),
            selector: None,
            target_refs: targets,
            jwt_rules: Vec::new(),
        });
        resources
    };
    let accepted = [(target(GATEWAY, "Gateway", "g"), 0), (target(GATEWAY, "GatewayClass", "istio-waypoint"), 0)];
    for (target, warnings) in accepted {
        let compiled = compile(&attached(vec![target.clone()]), &CompileOptions::default()).unwrap();
        assert_eq!(compiled.warnings.len(), warnings, "{target:?}");
    }
    // Only a waypoint enforces these: an error in the strict mode unless they are allowed, and a warning otherwise.
    for (group, kind) in [("", "Service"), ("core", "Service"), ("networking.istio.io", "ServiceEntry")] {
        for targets in [vec![target(group, kind, "s")], vec![target(GATEWAY, "Gateway", "g"), target(group, kind, "s")]]
        {
            let resources = attached(targets);
            let refused = errors(&resources);
            assert_eq!(refused.len(), 2, "{refused:?}");
            let said = format!("p.yaml:3: ns1/p: it is attached to the {kind} s, so only a waypoint enforces it");
            assert!(refused.iter().all(|error| error.starts_with(&said) && error.contains("selector")), "{refused:?}");
            let allowed = CompileOptions { allow_waypoint_policies: true, ..CompileOptions::default() };
            let istio = CompileOptions { mode: authz::Mode::Istio, ..CompileOptions::default() };
            for options in [allowed, istio] {
                let warnings = compile(&resources, &options).unwrap().warnings;
                assert_eq!(warnings.iter().map(ToString::to_string).collect::<Vec<_>>(), refused);
            }
        }
    }
    for target in [target("", "Gateway", "g"), target("apps", "Deployment", "d"), target(GATEWAY, "HTTPRoute", "r")] {
        assert_eq!(errors(&attached(vec![target.clone()])).len(), 2, "{target:?}");
    }
    let gateways = |count: usize| vec![target(GATEWAY, "Gateway", "g"); count];
    assert_eq!(errors(&attached(gateways(16))), Vec::<String>::new());
    assert_eq!(errors(&attached(gateways(17))).len(), 2);

    let selected = |labels: usize, bytes: usize| {
        let mut resources = policy(Action::Allow, None);
        let label = |i: usize| (format!("{i:0>bytes$}"), "x".repeat(bytes));
        let match_labels = (0..labels).map(label).collect();
        resources.authorization_policies[0].selector = Some(istio::WorkloadSelector { match_labels });
        resources
    };
    assert_eq!(errors(&selected(64, 317)), Vec::<String>::new());
    assert_eq!(errors(&selected(65, 317)).len(), 1);
    assert_eq!(errors(&selected(64, 318)).len(), 1);
    let mut both = selected(1, 1);
    both.authorization_policies[0].target_refs = gateways(1);
    assert_eq!(errors(&both).len(), 1);
}

#[test]
fn a_custom_policy_may_look_at_nothing_that_authentication_yields() {
    let custom = |rule: Rule, provider: &str| {
        let mut resources = policy(Action::Custom, Some(vec![rule]));
        resources.authorization_policies[0].provider = Some(provider.to_owned());
        resources.mesh.extension_providers = [("ours", true), ("tracing", false)]
            .map(|(name, usable)| istio::ExtensionProvider {
                name: name.to_owned(),
                authorizer: usable.then_some(istio::ExternalAuthorizer { fail_open: false, status_on_error: 403 }),
                is_adapter: false,
            })
            .to_vec();
        resources
    };
    let from = |source| Rule { from: Some(vec![source]), ..Rule::default() };
    assert_eq!(errors(&custom(Rule::default(), "ours")), Vec::<String>::new());
    let block = istio::IpBlock { address: "10.0.0.1".parse().unwrap(), prefix: 8 };
    let by_address = from(Source { ip_blocks: vec![block], ..Source::default() });
    assert_eq!(errors(&custom(by_address, "ours")), Vec::<String>::new());
    let refused = [
        Source { principals: texts(&["*"]), ..Source::default() },
        Source { not_namespaces: texts(&["x"]), ..Source::default() },
        Source { trust_domains: texts(&["x"]), ..Source::default() },
        Source { not_request_principals: texts(&["x"]), ..Source::default() },
    ];
    for source in refused {
        assert_eq!(errors(&custom(from(source.clone()), "ours")).len(), 1, "{source:?}");
    }
    let claim = istio::Condition {
        key: istio::ConditionKey::RequestAuthClaims(texts(&["x"])),
        values: texts(&["x"]),
        not_values: Vec::new(),
    };
    assert_eq!(errors(&custom(Rule { when: Some(vec![claim]), ..Rule::default() }, "ours")).len(), 1);
    // A provider that is not there: Istio loads it and denies what matches.
    for provider in ["tracing", "nobody"] {
        let resources = custom(Rule::default(), provider);
        assert_eq!(errors(&resources).len(), 1, "{provider}");
        let options = CompileOptions { mode: authz::Mode::Istio, ..CompileOptions::default() };
        assert_eq!(compile(&resources, &options).unwrap().warnings.len(), 1, "{provider}");
    }
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
    resources = policy(Action::Allow, operation(|o| o.ports = vec![1; 1_000_000]));
    assert_eq!(errors(&resources), Vec::<String>::new());
    resources = policy(Action::Allow, operation(|o| o.ports = vec![1; 1_000_001]));
    assert_eq!(errors(&resources), ["found 1000001 values, expected at most 1000000"]);
}

#[test]
fn values_of_every_field_count() {
    let text = || vec!["a".to_owned(); 62_501];
    let block = || vec!["10.0.0.1".parse::<istio::IpBlock>().unwrap(); 62_501];
    let source = Source {
        principals: text(),
        not_principals: text(),
        request_principals: text(),
        not_request_principals: text(),
        namespaces: text(),
        not_namespaces: text(),
        service_accounts: text(),
        not_service_accounts: text(),
        trust_domains: text(),
        not_trust_domains: text(),
        ip_blocks: block(),
        not_ip_blocks: block(),
        remote_ip_blocks: block(),
        not_remote_ip_blocks: block(),
    };
    let condition = istio::Condition { key: istio::ConditionKey::SourceNamespace, values: text(), not_values: text() };
    let rule = Rule { from: Some(vec![source]), to: None, when: Some(vec![condition]) };
    let resources = policy(Action::Allow, Some(vec![rule]));
    assert_eq!(errors(&resources), ["found 1000016 values, expected at most 1000000"]);
}

#[test]
fn aliases_of_the_trust_domain_are_bounded_with_the_values_that_they_multiply() {
    let with = |principals: usize, aliases: usize| {
        let principals = vec!["cluster.local/ns/ns1/sa/a".to_owned(); principals];
        let source = Source { principals, ..Source::default() };
        let mut resources = policy(Action::Allow, Some(vec![Rule { from: Some(vec![source]), ..Rule::default() }]));
        resources.mesh.trust_domain_aliases = (0..aliases).map(|i| format!("td{i}")).collect();
        errors(&resources).len()
    };
    assert_eq!(with(10_000, 99), 0);
    assert_eq!(with(10_001, 99), 1);
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
    assert!(refused(&inline(&jwks(&[])), &none).contains(" has no key: its list `keys` is empty"));
    // Keys given for a published set are checked as published ones.
    let published = authentication("ns1", &format!(", jwksUri: \"{JWKS_URI}\""));
    let symmetric = jwks(&[oct]);
    assert!(refused(&published, &options(&[(ISSUER, &symmetric)])).contains("symmetric"));
    // Keys that a rule names no place of are discovered when they are needed, unless they are given.
    let discovered = authentication("ns1", "");
    for options in [none, options(&[(ISSUER, &issuer_jwks())])] {
        let policies = open_with(&[("p", &discovered)], &options).unwrap();
        let source = policies.key_sources().next().unwrap();
        assert_eq!(source.discovery, Some(&*format!("{ISSUER}/.well-known/openid-configuration")));
        assert_eq!(source.document.is_some(), !options.jwks.is_empty());
    }
    // An issuer that is no URL has no such document.
    let unnamed = discovered.replace(ISSUER, "testing@secure.istio.io");
    assert!(refused(&unnamed, &CompileOptions::default()).contains("name its jwksUri"));
    let istio = CompileOptions { mode: authz::Mode::Istio, ..CompileOptions::default() };
    assert!(open_with(&[("p", &unnamed)], &istio).is_ok());
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

/// A cache of verified tokens keys on it: no two contents may share one, however they came about.
#[test]
fn the_generation_of_key_sets_says_what_is_in_them() {
    let set = |text: &str| Arc::new(authz::Jwks::parse(text, authz::KeyOrigin::Fetched).unwrap());
    let (full, empty) = (set(&issuer_jwks()), set(r#"{"keys":[]}"#));
    let of = |sets: &[(&str, &Arc<authz::Jwks>)]| {
        let mut keys = KeySets::default();
        sets.iter().for_each(|(uri, jwks)| keys.insert(uri, (*jwks).clone()));
        keys
    };
    let all = [
        of(&[]),
        of(&[("a", &full)]),
        of(&[("a", &empty)]),
        of(&[("b", &full)]),
        of(&[("a", &full), ("b", &empty)]),
        of(&[("a", &empty), ("b", &full)]),
    ];
    for (index, one) in all.iter().enumerate() {
        assert!(all.iter().skip(index + 1).all(|other| other.generation() != one.generation()), "{index}");
    }
    // Clones that change apart from each other differ; the way to the same contents does not matter.
    let mut changed = of(&[("b", &empty), ("a", &empty)]);
    let before = changed.clone();
    changed.insert("a", full);
    assert_ne!(changed.generation(), before.generation());
    assert_eq!(changed.generation(), of(&[("a", &set(&issuer_jwks())), ("b", &empty)]).generation());
    changed.remove("a");
    changed.remove("nothing");
    assert_eq!(changed.generation(), of(&[("b", &empty)]).generation());
    assert!(before.fetched("a").is_some());
}

#[test]
fn shared_bytes_are_used_wherever_they_begin() {
    struct From(Vec<u8>, usize);
    impl AsRef<[u8]> for From {
        fn as_ref(&self) -> &[u8] {
            &self.0[self.1..]
        }
    }
    let resources = policy(Action::Deny, operation(|o| o.paths = vec!["/admin".to_owned()]));
    let good = compile(&resources, &CompileOptions::default()).unwrap().section;
    for begin in 0..16 {
        let bytes = [vec![0; begin], good.clone()].concat();
        let policies = Policies::open_shared(Arc::new(From(bytes, begin))).unwrap();
        let world = World { policies, ..World::new("") };
        assert!(!world.decide(&request("GET", "/admin"), &workload()).is_allowed(), "{begin}");
    }
    assert!(matches!(Policies::open_shared(Arc::new(good[..16].to_vec())), Err(OpenError::Damaged(_))));
    assert!(matches!(Policies::open_shared(Arc::new(vec![0; 32 * 1024 * 1024 + 1])), Err(OpenError::TooLarge(_))));
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
