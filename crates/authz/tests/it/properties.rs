//! Properties that hold for every policy and every request.

use authz::{CompileOptions, KeySets, Policies, Request, compile};
use istio::{
    Action, AuthorizationPolicy, Condition, ConditionKey, JwtRule, Meta, Operation, Origin, RequestAuthentication,
    Resources, Rule, Source,
};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::support::{ISSUER, JWKS_URI, World, bearer, claims_of, request, token, with_header, workload};

const PATHS: [&str; 7] = ["/a", "/a*", "*", "/b", "*b", "/a/*/b", "/"];
const METHODS: [&str; 4] = ["GET", "P*", "*", "*T"];
const HOSTS: [&str; 4] = ["b.ns1.svc.cluster.local", "*.local", "*", "x*"];
const PRINCIPALS: [&str; 5] = ["*", "cluster.local/ns/ns1/sa/a", "*/sa/a", "cluster.local/*", "x"];
const NAMESPACES: [&str; 4] = ["ns1", "n*", "*", "ns2"];
const REQUEST_PRINCIPALS: [&str; 5] =
    ["*", "https://issuer.bookinfo.example/*", "https://issuer.bookinfo.example/client:a", "*b", "x*"];
const WORDS: [&str; 5] = ["a", "b", "*", "a*", "*b"];

fn some(values: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    prop_oneof![
        2 => Just(Vec::new()),
        1 => subsequence(values.to_vec(), 1..=2).prop_map(|values| values.into_iter().map(str::to_owned).collect()),
    ]
}

fn source() -> impl Strategy<Value = Source> {
    let lists = (
        some(&PRINCIPALS),
        some(&PRINCIPALS),
        some(&REQUEST_PRINCIPALS),
        some(&REQUEST_PRINCIPALS),
        some(&NAMESPACES),
        some(&NAMESPACES),
    );
    let sources = lists.prop_map(
        |(principals, not_principals, request_principals, not_request_principals, namespaces, not_namespaces)| Source {
            principals,
            not_principals,
            request_principals,
            not_request_principals,
            namespaces,
            not_namespaces,
            ..Source::default()
        },
    );
    sources.prop_filter("a source has a field", |source| *source != Source::default())
}

fn operation() -> impl Strategy<Value = Operation> {
    let ports = || subsequence(vec![80_u16, 8080], 0..=1);
    let lists =
        (some(&HOSTS), some(&HOSTS), ports(), ports(), some(&METHODS), some(&METHODS), some(&PATHS), some(&PATHS));
    let operations = lists.prop_map(|(hosts, not_hosts, ports, not_ports, methods, not_methods, paths, not_paths)| {
        Operation { hosts, not_hosts, ports, not_ports, methods, not_methods, paths, not_paths }
    });
    operations.prop_filter("an operation has a field", |operation| *operation != Operation::default())
}

fn condition() -> impl Strategy<Value = Condition> {
    let keys = vec![
        ConditionKey::RequestHeader("x".to_owned()),
        ConditionKey::RequestAuthClaims(vec!["scope".to_owned()]),
        ConditionKey::RequestAuthClaims(vec!["o".to_owned(), "k".to_owned()]),
        ConditionKey::RequestAuthAudiences,
        ConditionKey::RequestAuthPresenter,
        ConditionKey::RequestAuthPrincipal,
        ConditionKey::SourcePrincipal,
        ConditionKey::SourceNamespace,
    ];
    (select(keys), some(&WORDS), some(&WORDS))
        .prop_filter("a condition has values", |(_, values, not_values)| !values.is_empty() || !not_values.is_empty())
        .prop_map(|(key, values, not_values)| Condition { key, values, not_values })
}

pub(crate) fn rule() -> impl Strategy<Value = Rule> {
    let list = |present: bool| if present { 1..=2_usize } else { 0..=0 };
    (any::<[bool; 3]>()).prop_flat_map(move |[from, to, when]| {
        (
            proptest::collection::vec(source(), list(from)),
            proptest::collection::vec(operation(), list(to)),
            proptest::collection::vec(condition(), list(when)),
        )
            .prop_map(|(from, to, when)| Rule {
                from: (!from.is_empty()).then_some(from),
                to: (!to.is_empty()).then_some(to),
                when: (!when.is_empty()).then_some(when),
            })
    })
}

pub(crate) fn any_request() -> impl Strategy<Value = Request> {
    let paths = select(vec!["/a", "/a?b", "/ab", "/b", "/a/x/b", "/a/*/b", "/", "/c"]);
    let tokens = select(vec![
        None,
        Some(claims_of("a", "a b")),
        Some(claims_of("b", "ab")),
        Some(claims_of("a", "x").replace("\"scope\"", "\"o\":{\"k\":[\"a\"]},\"scope\"")),
    ]);
    let peers = select(vec![None, Some("cluster.local/ns/ns1/sa/a"), Some("other/ns/ns2/sa/b")]);
    let headers = proptest::collection::vec(select(vec!["a", "b", "ab", "a,b", "", "b, c"]), 0..=2);
    let ports = select(vec![None, Some(80), Some(8080)]);
    (select(vec!["GET", "POST", "OPTIONS"]), paths, tokens, peers, headers, ports, any::<bool>()).prop_map(
        |(method, path, claims, peer, lines, port, joined)| {
            let mut request = request(method, path);
            request.destination_port = port;
            request.source.principal = peer.map(str::to_owned);
            request.headers_joined = joined;
            for line in lines {
                request = with_header(request, "x", line);
            }
            match claims {
                Some(claims) => bearer(request, &token(&claims)),
                None => request,
            }
        },
    )
}

fn meta(name: &str) -> Meta {
    Meta {
        name: name.to_owned(),
        namespace: "ns1".to_owned(),
        namespace_given: true,
        labels: Default::default(),
        annotations: Default::default(),
        origin: Origin::default(),
    }
}

pub(crate) fn policy(name: &str, action: Action, rules: Vec<Rule>) -> AuthorizationPolicy {
    AuthorizationPolicy {
        meta: meta(name),
        selector: None,
        target_refs: Vec::new(),
        action,
        provider: None,
        dry_run: false,
        rules: Some(rules),
    }
}

/// A world in which these rules allow (when there are any policies at all) and deny.
fn world(allow: Option<Vec<Rule>>, deny: Vec<Rule>) -> World {
    let mut resources = Resources::default();
    if let Some(rules) = allow {
        resources.authorization_policies.push(policy("allow", Action::Allow, rules));
    }
    if !deny.is_empty() {
        resources.authorization_policies.push(policy("deny", Action::Deny, deny));
    }
    let jwt = JwtRule { issuer: ISSUER.to_owned(), jwks_uri: Some(JWKS_URI.to_owned()), ..JwtRule::default() };
    resources.request_authentications.push(RequestAuthentication {
        meta: meta("r"),
        selector: None,
        target_refs: Vec::new(),
        jwt_rules: vec![jwt],
    });
    let policies = Policies::open(&compile(&resources, &CompileOptions::default()).unwrap().section).unwrap();
    let keys = KeySets::clone(&World::new("").keys);
    World { policies, keys, ..World::new("") }
}

pub(crate) fn rules(most: usize) -> impl Strategy<Value = Vec<Rule>> {
    proptest::collection::vec(rule(), 0..=most)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn another_deny_rule_allows_nothing_more(
        allow in proptest::option::of(rules(3)), deny in rules(2), more in rule(), request in any_request(),
    ) {
        let before = world(allow.clone(), deny.clone()).decide(&request, &workload()).is_allowed();
        let mut wider = deny;
        wider.push(more);
        let after = world(allow, wider).decide(&request, &workload()).is_allowed();
        prop_assert!(before || !after);
    }

    #[test]
    fn one_allow_rule_less_allows_nothing_more(allow in rules(3), deny in rules(1), at in any::<prop::sample::Index>(), request in any_request()) {
        let before = world(Some(allow.clone()), deny.clone()).decide(&request, &workload()).is_allowed();
        let mut fewer = allow;
        if !fewer.is_empty() {
            fewer.remove(at.index(fewer.len()));
        }
        let after = world(Some(fewer), deny).decide(&request, &workload()).is_allowed();
        prop_assert!(before || !after);
    }

    #[test]
    fn what_cannot_be_known_allows_nothing_more(allow in rules(3), deny in rules(2), request in any_request()) {
        // An unknown port, and headers of which only the joined form is known, never allow what some value
        // of the unknown would deny.
        let world = world(Some(allow), deny);
        let unknown = Request { destination_port: None, ..request.clone() };
        if world.decide(&unknown, &workload()).is_allowed() {
            for port in [80, 8080, 1] {
                let known = Request { destination_port: Some(port), ..request.clone() };
                prop_assert!(world.decide(&known, &workload()).is_allowed(), "port {}", port);
            }
        }
        let lines: Vec<&str> = request.header_lines("x").collect();
        let mut joined = request.clone();
        joined.headers.retain(|(name, _)| name != "x");
        if !lines.is_empty() {
            joined = with_header(joined, "x", &lines.join(","));
        }
        let separate = Request { headers_joined: false, ..request.clone() };
        let joined = Request { headers_joined: true, ..joined };
        if world.decide(&joined, &workload()).is_allowed() {
            prop_assert!(world.decide(&separate, &workload()).is_allowed(), "joined headers");
        }
    }

    #[test]
    fn what_is_explained_is_what_is_decided(allow in proptest::option::of(rules(3)), deny in rules(2), request in any_request()) {
        let world = world(allow, deny);
        let decided = world.decide(&request, &workload());
        let (explained, trace) = world.explain(&request, &workload());
        prop_assert_eq!(format!("{explained:?}"), format!("{decided:?}"));
        let [hop] = trace.hops.as_slice() else { return Err(TestCaseError::fail("one hop")) };
        prop_assert_eq!((hop.allowed, hop.principal.as_deref()), (decided.is_allowed(), decided.principal()));
    }

    #[test]
    fn no_changed_token_is_accepted(at in any::<prop::sample::Index>(), to in any::<char>()) {
        let good = token(&claims_of("a", "a"));
        let mut changed: Vec<char> = good.chars().collect();
        let at = at.index(changed.len());
        changed[at] = to;
        let changed: String = changed.into_iter().collect();
        let world = world(None, Vec::new());
        let decision = world.decide(&with_header(request("GET", "/a"), "authorization", &format!("Bearer {changed}")), &workload());
        prop_assert!(changed == good || decision.principal().is_none(), "{changed}");
    }

    #[test]
    fn no_request_makes_it_panic(method in "\\PC{0,8}", path in "\\PC{0,40}", host in "\\PC{0,20}", name in "[a-z:-]{0,12}", value in any::<String>(), allow in rules(2)) {
        let mut request = with_header(request(&method, &path), &name, &value);
        request.host = host;
        let request = with_header(request, "authorization", &value);
        let decision = world(Some(allow), Vec::new()).decide(&request, &workload());
        prop_assert!(!decision.is_allowed() || decision.status() == 200);
    }
}
