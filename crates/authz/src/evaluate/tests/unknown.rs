//! Hosts, headers and peers that cannot be known: ALLOW rules that look at them die, DENY rules lose the condition.

use super::*;

const ALLOW_LEAVES: [(&str, [bool; 3]); 14] = [
    // A condition, and whether it needs the host, the headers, the peer.
    ("to: [{operation: {hosts: [b.example]}}]", [true, false, false]),
    ("to: [{operation: {notHosts: [c.example]}}]", [true, false, false]),
    ("to: [{operation: {paths: [/a], methods: [GET]}}]", [false, false, false]),
    ("when: [{key: 'request.headers[x]', values: [v]}]", [false, true, false]),
    ("when: [{key: 'request.headers[y]', notValues: [v]}]", [false, true, false]),
    ("when: [{key: 'request.headers[:path]', values: ['/a*']}]", [false, true, false]),
    ("when: [{key: 'request.headers[:method]', values: [GET]}]", [false, false, false]),
    ("when: [{key: 'request.headers[:scheme]', values: [http]}]", [false, false, false]),
    ("when: [{key: 'request.headers[Host]', values: [b.example]}]", [true, false, false]),
    ("when: [{key: 'request.headers[:authority]', values: [b.example]}]", [true, false, false]),
    ("from: [{source: {principals: ['*']}}]", [false, false, true]),
    ("from: [{source: {notPrincipals: [td/ns/z/sa/z]}}]", [false, false, true]),
    ("when: [{key: source.namespace, values: [ns1]}]", [false, false, true]),
    ("when: [{key: source.trustDomain, values: ['*']}]", [false, false, true]),
];

fn policy(action: &str, rule: &str) -> Policies {
    read(&format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: ns1}}\n\
         spec:\n  action: {action}\n  rules:\n    - {rule}\n"
    ))
}

fn verdict(policies: &Policies, unknown: Unknown) -> Verdict {
    let headers = [("x".to_owned(), "v".to_owned())];
    let attributes = Attributes { unknown, principal: Some("td/ns/ns1/sa/a"), ..plain(&headers) };
    let workload = Workload { namespace: "ns1", labels: Labels::Given(&[]) };
    evaluate(policies.of_workload(workload), &attributes).verdict
}

/// Each of the three alone.
const ONE: [Unknown; 3] = [
    Unknown { host: true, headers: false, principal: false },
    Unknown { host: false, headers: true, principal: false },
    Unknown { host: false, headers: false, principal: true },
];

#[test]
fn an_allow_rule_that_needs_it_dies() {
    for (leaf, needs) in ALLOW_LEAVES {
        let policies = policy("ALLOW", leaf);
        let allowed = Verdict::AllowedBy("ns[ns1]-policy[p]-rule[0]".to_owned());
        assert_eq!(verdict(&policies, Unknown::default()), allowed, "{leaf}");
        for (unknown, needed) in ONE.into_iter().zip(needs) {
            let expected = if needed { Verdict::DeniedNoMatch } else { allowed.clone() };
            assert_eq!(verdict(&policies, unknown), expected, "{leaf} {unknown:?}");
        }
    }
}

#[test]
fn a_deny_rule_loses_the_condition() {
    // None of them matches the request as it is.
    for (leaf, needs) in [
        ("to: [{operation: {hosts: [c.example]}}]", [true, false, false]),
        ("to: [{operation: {notHosts: [b.example]}}]", [true, false, false]),
        ("to: [{operation: {paths: [/c]}}]", [false, false, false]),
        ("when: [{key: 'request.headers[y]', values: [v]}]", [false, true, false]),
        ("when: [{key: 'request.headers[x]', notValues: [v]}]", [false, true, false]),
        ("from: [{source: {principals: [td/ns/ns1/sa/z]}}]", [false, false, true]),
        ("from: [{source: {notPrincipals: ['*']}}]", [false, false, true]),
        ("from: [{source: {serviceAccounts: [z]}}]", [false, false, true]),
        ("from: [{source: {trustDomains: [else]}}]", [false, false, true]),
        // The rest of the rule stays.
        ("to: [{operation: {hosts: [c.example], methods: [PUT]}}]", [false, false, false]),
        ("from: [{source: {principals: [td/ns/ns1/sa/z], requestPrincipals: ['*']}}]", [false, false, false]),
    ] {
        let policies = policy("DENY", leaf);
        assert_eq!(verdict(&policies, Unknown::default()), Verdict::AllowedNoPolicy, "{leaf}");
        for (unknown, needed) in ONE.into_iter().zip(needs) {
            let denied = Verdict::DeniedBy("ns[ns1]-policy[p]-rule[0]".to_owned());
            let expected = if needed { denied } else { Verdict::AllowedNoPolicy };
            assert_eq!(verdict(&policies, unknown), expected, "{leaf} {unknown:?}");
        }
    }
}

#[test]
fn the_trace_names_what_is_missing() {
    for (leaf, unknown, word) in [
        ("to: [{operation: {hosts: [b.example]}}]", ONE[0], "hosts"),
        ("when: [{key: 'request.headers[x]', values: [v]}]", ONE[1], "request.headers"),
        ("from: [{source: {principals: ['*']}}]", ONE[2], "source.principal"),
    ] {
        let headers = [];
        let attributes = Attributes { unknown, ..plain(&headers) };
        let traces = traces_of(&policy("ALLOW", leaf), &[], &attributes);
        assert_eq!(traces[0].rules[0].unavailable, [word]);
        let rule = &traces[0].rules[0];
        let leaves = rule.from.iter().chain(&rule.to).flat_map(|branch| &branch.leaves).chain(&rule.when);
        assert!(leaves.into_iter().all(|leaf| leaf.found == Found::Unavailable), "{rule:?}");
    }
}
