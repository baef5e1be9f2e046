//! Tables for rules: what matches and what does not, sources, operations and conditions.

use authz::{Reason, Request};

use crate::support::{ISSUER, JWKS_URI, World, bearer, request, token, with_header, workload};

const A: &str = "cluster.local/ns/ns1/sa/a";

fn policy(action: &str, rules: &str) -> String {
    format!(
        r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: p, namespace: ns1}}
spec:
  action: {action}
  rules: {rules}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: r, namespace: ns1}}
spec:
  jwtRules:
    - issuer: {ISSUER}
      jwksUri: {JWKS_URI}
      forwardOriginalToken: true
"#
    )
}

/// Whether an ALLOW policy with `rules` allows, and a DENY policy with them denies.
fn matches(rules: &str, request: &Request) -> (bool, bool) {
    let allow = World::new(&policy("ALLOW", rules)).decide(request, &workload());
    let deny = World::new(&policy("DENY", rules)).decide(request, &workload());
    (allow.is_allowed(), !deny.is_allowed())
}

fn check(rules: &str, request: &Request, expected: bool) {
    assert_eq!(matches(rules, request), (expected, expected), "{rules} {request:?}");
}

fn from(principal: Option<&str>) -> Request {
    let mut request = request("GET", "/a");
    request.source.principal = principal.map(str::to_owned);
    request
}

fn with_claims(claims: &str) -> Request {
    bearer(request("GET", "/a"), &token(&format!(r#"{{"iss":"{ISSUER}","exp":9999999999,{claims}}}"#)))
}

#[test]
fn b3_structure() {
    let get = request("GET", "/a");
    // One empty rule matches everything.
    check("[{}]", &get, true);
    // Sources are OR, fields of one are AND.
    check(r#"[{from: [{source: {principals: ["x"]}}, {source: {namespaces: ["ns1"]}}]}]"#, &from(Some(A)), true);
    check(r#"[{from: [{source: {principals: ["x"], namespaces: ["ns1"]}}]}]"#, &from(Some(A)), false);
    // Operations are OR, fields of one are AND.
    check(r#"[{to: [{operation: {paths: ["/b"]}}, {operation: {methods: ["GET"]}}]}]"#, &get, true);
    check(r#"[{to: [{operation: {paths: ["/b"], methods: ["GET"]}}]}]"#, &get, false);
    // from AND to AND when.
    let when = r#"when: [{key: "request.headers[x]", values: ["1"]}]"#;
    let both = format!(
        r#"[{{from: [{{source: {{principals: ["*"]}}}}], to: [{{operation: {{methods: ["GET"]}}}}], {when}}}]"#
    );
    check(&both, &with_header(from(Some(A)), "x", "1"), true);
    check(&both, &from(Some(A)), false);
    check(&both, &with_header(from(None), "x", "1"), false);
    // Conditions are AND.
    let two = r#"[{when: [{key: "request.headers[x]", values: ["1"]}, {key: "request.headers[y]", values: ["1"]}]}]"#;
    check(two, &with_header(with_header(get.clone(), "x", "1"), "y", "1"), true);
    check(two, &with_header(get.clone(), "x", "1"), false);
    // Rules are OR, and the id tells which.
    let world =
        World::new(&policy("ALLOW", r#"[{to: [{operation: {paths: ["/b"]}}]}, {to: [{operation: {paths: ["/a"]}}]}]"#));
    assert_eq!(world.decide(&get, &workload()).policy(), Some("ns[ns1]-policy[p]-rule[1]"));
}

#[test]
fn b3_a_policy_without_rules_never_matches() {
    let yaml = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nothing, namespace: ns1}
spec: {}
";
    let decision = World::new(yaml).decide(&from(Some(A)), &workload());
    assert_eq!(decision.reason(), Reason::DeniedNoMatch);
    // The same, and nobody showed anything: no credential would help where none is read.
    assert_eq!(World::new(yaml).decide(&from(None), &workload()).reason(), Reason::DeniedNoMatch);
}

#[test]
fn a_missing_credential_is_the_reason_only_where_one_could_help() {
    let policy = |spec: &str| {
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: ns1}}\nspec: {spec}\n"
        )
    };
    let tokens = |namespace: &str, more: &str| {
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: r, namespace: {namespace}}}\n\
             spec: {{{more}jwtRules: [{{issuer: \"{ISSUER}\", jwksUri: \"{JWKS_URI}\"}}]}}\n"
        )
    };
    let keys = |namespace: &str| {
        format!(
            "---\napiVersion: causeway.dev/v1alpha1\nkind: ApiKeyAuthentication\nmetadata: {{name: k, namespace: {namespace}}}\n\
             spec: {{issuer: \"{ISSUER}\"}}\n"
        )
    };
    let elsewhere = "selector: {matchLabels: {app: elsewhere}}, ";
    // Documents about credentials, and whether one could be accepted at the workload.
    let rows = [
        (String::new(), false),
        (tokens("ns1", ""), true),
        (tokens("istio-system", ""), true),
        (tokens("ns2", ""), false),
        (tokens("ns1", elsewhere), false),
        (keys("ns1"), true),
        (keys("istio-system"), true),
        (keys("ns2"), false),
    ];
    for (documents, helps) in rows {
        for (spec, own) in [
            (r#"{rules: [{from: [{source: {requestPrincipals: ["*"]}}]}]}"#, Reason::DeniedNoMatch),
            (r#"{action: DENY, rules: [{from: [{source: {notRequestPrincipals: ["*"]}}]}]}"#, Reason::DeniedByPolicy),
        ] {
            let world = World::new(&format!("{documents}{}", policy(spec)));
            let expected = if helps { Reason::NoCredential } else { own };
            let decision = world.decide(&from(None), &workload());
            assert_eq!((decision.reason(), decision.status()), (expected, 403), "{documents} {spec}");
        }
    }
}

#[test]
fn b3_an_unavailable_port_narrows_allow_and_widens_deny() {
    let unknown = Request { destination_port: None, ..request("GET", "/a") };
    let cases = [
        // rules, ALLOW allows, DENY denies
        (r#"[{to: [{operation: {ports: ["1"]}}]}]"#, false, true),
        (r#"[{to: [{operation: {notPorts: ["1"]}}]}]"#, false, true),
        // The rest of a DENY rule stays.
        (r#"[{to: [{operation: {ports: ["1"], paths: ["/b"]}}]}]"#, false, false),
        (r#"[{to: [{operation: {ports: ["1"], paths: ["/a"]}}]}]"#, false, true),
        // The whole ALLOW rule dies, its other branches too.
        (r#"[{to: [{operation: {ports: ["1"]}}, {operation: {paths: ["/a"]}}]}]"#, false, true),
        (r#"[{when: [{key: destination.port, values: ["1"]}]}]"#, false, true),
        (r#"[{when: [{key: destination.port, notValues: ["1"]}]}]"#, false, true),
        // Another rule lives.
        (r#"[{to: [{operation: {ports: ["1"]}}]}, {to: [{operation: {paths: ["/a"]}}]}]"#, true, true),
    ];
    for (rules, allows, denies) in cases {
        assert_eq!(matches(rules, &unknown), (allows, denies), "{rules}");
    }
}

#[test]
fn b1_deny_comes_first_and_no_policy_allows() {
    let both = format!(
        "{}---\n{}",
        policy("ALLOW", "[{}]"),
        policy("DENY", r#"[{to: [{operation: {paths: ["/admin*"]}}]}]"#)
            .replace("name: p", "name: d")
            .split("---")
            .next()
            .unwrap()
    );
    let world = World::new(&both);
    assert_eq!(world.decide(&request("GET", "/a"), &workload()).policy(), Some("ns[ns1]-policy[p]-rule[0]"));
    let denied = world.decide(&from(Some(A)), &workload());
    assert!(denied.is_allowed());
    let denied = world.decide(&Request { path: "/admin".to_owned(), ..from(Some(A)) }, &workload());
    assert_eq!((denied.reason(), denied.policy()), (Reason::DeniedByPolicy, Some("ns[ns1]-policy[d]-rule[0]")));
    let elsewhere = authz::Target::Workload { namespace: "ns2".to_owned(), labels: Vec::new(), environment: None };
    assert_eq!(world.decide(&request("GET", "/admin"), &elsewhere).reason(), Reason::AllowedNoPolicy);
}

#[test]
fn b2_which_policies_apply() {
    let deny = |namespace: &str, selector: &str| {
        format!(
            "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: p, namespace: {namespace}}}
spec:
  action: DENY
  {selector}
  rules: [{{}}]
"
        )
    };
    let cases = [
        ("ns1", "", true),
        ("ns2", "", false),
        ("istio-system", "", true),
        ("ns1", "selector: {matchLabels: {app: b}}", true),
        ("ns1", "selector: {matchLabels: {app: c}}", false),
        ("ns1", "selector: {matchLabels: {app: b, version: v1}}", false),
        ("istio-system", "selector: {matchLabels: {app: b}}", true),
        ("istio-system", "selector: {matchLabels: {app: c}}", false),
    ];
    for (namespace, selector, applies) in cases {
        let decision = World::new(&deny(namespace, selector)).decide(&request("GET", "/a"), &workload());
        assert_eq!(!decision.is_allowed(), applies, "{namespace} {selector}");
    }
    let mesh = "
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: mesh}
data:
  mesh: 'rootNamespace: mesh'
";
    for (namespace, applies) in [("mesh", true), ("istio-system", false)] {
        let world = World::new(&format!("{}---{mesh}", deny(namespace, "")));
        assert_eq!(!world.decide(&request("GET", "/a"), &workload()).is_allowed(), applies, "{namespace}");
    }
    // A workload of the root namespace.
    let root = authz::Target::Workload { namespace: "istio-system".to_owned(), labels: Vec::new(), environment: None };
    assert!(!World::new(&deny("istio-system", "")).decide(&request("GET", "/a"), &root).is_allowed());
    assert!(World::new(&deny("ns1", "")).decide(&request("GET", "/a"), &root).is_allowed());
}

#[test]
fn b5_peers() {
    let source = |field: &str| format!("[{{from: [{{source: {{{field}}}}}]}}]");
    let cases = [
        (r#"principals: ["cluster.local/ns/ns1/sa/a"]"#, Some(A), true),
        (r#"principals: ["cluster.local/ns/ns1/sa/b"]"#, Some(A), false),
        (r#"principals: ["*"]"#, Some(A), true),
        (r#"principals: ["*"]"#, None, false),
        (r#"principals: ["*/sa/a"]"#, Some(A), true),
        (r#"principals: ["cluster.local/ns/ns1/*"]"#, Some(A), true),
        (r#"notPrincipals: ["cluster.local/ns/ns1/sa/a"]"#, Some(A), false),
        (r#"notPrincipals: ["cluster.local/ns/ns1/sa/b"]"#, Some(A), true),
        // Plaintext: not… always matches.
        (r#"notPrincipals: ["cluster.local/ns/ns1/sa/a"]"#, None, true),
        (r#"notPrincipals: ["*"]"#, None, true),
        (r#"notPrincipals: ["*"]"#, Some(A), false),
        (r#"principals: ["*"], notPrincipals: ["*/sa/a"]"#, Some(A), false),
        (r#"namespaces: ["ns1"]"#, Some(A), true),
        (r#"namespaces: ["ns2"]"#, Some(A), false),
        (r#"namespaces: ["ns*"]"#, Some(A), true),
        (r#"namespaces: ["*"]"#, None, false),
        (r#"notNamespaces: ["ns1"]"#, Some(A), false),
        (r#"notNamespaces: ["ns1"]"#, None, true),
    ];
    for (field, principal, expected) in cases {
        check(&source(field), &from(principal), expected);
    }
    for (key, value, principal, expected) in [
        ("source.principal", A, Some(A), true),
        ("source.principal", "*", None, false),
        ("source.namespace", "ns1", Some(A), true),
        ("source.namespace", "ns2", Some(A), false),
    ] {
        check(&format!("[{{when: [{{key: {key}, values: [\"{value}\"]}}]}}]"), &from(principal), expected);
        check(&format!("[{{when: [{{key: {key}, notValues: [\"{value}\"]}}]}}]"), &from(principal), !expected);
    }
}

#[test]
fn b5_trust_domain() {
    let mesh = "---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: 'trustDomain: example.org'
";
    let cases = [
        // `cluster.local` points to the mesh's own trust domain.
        ("cluster.local/ns/ns1/sa/a", "example.org/ns/ns1/sa/a", true),
        ("cluster.local/ns/ns1/sa/a", "cluster.local/ns/ns1/sa/a", false),
        ("cluster.local/ns/ns1/sa/*", "example.org/ns/ns1/sa/a", true),
        ("example.org/ns/ns1/sa/a", "example.org/ns/ns1/sa/a", true),
        ("other.org/ns/ns1/sa/a", "other.org/ns/ns1/sa/a", true),
        ("*/ns/ns1/sa/a", "other.org/ns/ns1/sa/a", true),
        // Not five segments: taken as it is.
        ("cluster.local/*", "example.org/ns/ns1/sa/a", false),
        ("cluster.local/*", "cluster.local/ns/ns1/sa/a", true),
    ];
    for (value, principal, expected) in cases {
        let rules = format!("[{{from: [{{source: {{principals: [\"{value}\"]}}}}]}}]");
        let world = World::new(&format!("{}{mesh}", policy("ALLOW", &rules)));
        assert_eq!(world.decide(&from(Some(principal)), &workload()).is_allowed(), expected, "{value} {principal}");
    }
}

#[test]
fn b5_request_principals() {
    let with = |sub: &str| with_claims(&format!(r#""sub":"{sub}""#));
    let none = request("GET", "/a");
    let without_sub = with_claims(r#""x":1"#);
    let cases = [
        (format!("{ISSUER}/s"), with("s"), true),
        (format!("{ISSUER}/s"), with("t"), false),
        (format!("{ISSUER}/s*"), with("st"), true),
        (format!("{ISSUER}/*"), with("s"), true),
        (format!("{ISSUER}/*"), without_sub.clone(), false),
        ("*".to_owned(), with("s"), true),
        ("*".to_owned(), with(""), false),
        ("*".to_owned(), with("s\\n"), false),
        ("*".to_owned(), without_sub, false),
        ("*".to_owned(), none, false),
        ("*/s".to_owned(), with("s"), true),
        ("*.example/s".to_owned(), with("s"), true),
        ("*s".to_owned(), with("s"), true),
        // A subject with a slash can never match exactly.
        (format!("{ISSUER}/a/b"), with("a/b"), false),
        (format!("{ISSUER}*"), with("s"), false),
    ];
    for (value, request, expected) in cases {
        let value = format!("\"{value}\"");
        check(&format!("[{{from: [{{source: {{requestPrincipals: [{value}]}}}}]}}]"), &request, expected);
        check(&format!("[{{from: [{{source: {{notRequestPrincipals: [{value}]}}}}]}}]"), &request, !expected);
        check(&format!("[{{when: [{{key: request.auth.principal, values: [{value}]}}]}}]"), &request, expected);
        check(&format!("[{{when: [{{key: request.auth.principal, notValues: [{value}]}}]}}]"), &request, !expected);
    }
}

#[test]
fn b6_operations() {
    let cases = [
        ("paths", "/a", "GET", "/a", "h", true),
        ("paths", "/a", "GET", "/a?x=1", "h", true),
        ("paths", "/a", "GET", "/a/", "h", false),
        ("paths", "/a", "GET", "/A", "h", false),
        ("paths", "/a*", "GET", "/abc", "h", true),
        ("paths", "*/info", "GET", "/x/info?y", "h", true),
        ("paths", "*", "GET", "/", "h", true),
        ("paths", "/a/*/b", "GET", "/a/x/b", "h", false),
        ("methods", "GET", "GET", "/", "h", true),
        ("methods", "GET", "get", "/", "h", false),
        ("methods", "P*", "POST", "/", "h", true),
        ("methods", "*", "POST", "/", "h", true),
        ("hosts", "h", "GET", "/", "h", true),
        ("hosts", "H.Example", "GET", "/", "h.eXample", true),
        ("hosts", "h", "GET", "/", "h:8080", false),
        ("hosts", "h:*", "GET", "/", "h:8080", true),
        ("hosts", "*.example", "GET", "/", "a.EXAMPLE", true),
        ("hosts", "*.example", "GET", "/", "example", false),
        ("ports", "8080", "GET", "/", "h", true),
        ("ports", "808", "GET", "/", "h", false),
    ];
    for (field, value, method, path, host, expected) in cases {
        let request = Request { host: host.to_owned(), ..request(method, path) };
        check(&format!("[{{to: [{{operation: {{{field}: [\"{value}\"]}}}}]}}]"), &request, expected);
        let (first, rest) = field.split_at(1);
        let negated = format!("not{}{rest}", first.to_uppercase());
        check(&format!("[{{to: [{{operation: {{{negated}: [\"{value}\"]}}}}]}}]"), &request, !expected);
    }
}

#[test]
fn b7_claims() {
    let claims = r#""text":"abc","list":["x","abc",7],"number":7,"bool":true,"null":null,"object":{"k":"abc","deep":{"l":["abc"]}},
        "scope":"a b  c","permission":"p q","roles":"a b","aud":["one","two"],"azp":"me","a.b/c":"abc","empty":"""#;
    let claims = claims.replace('\n', "");
    let cases = [
        ("claims[text]", "abc", true),
        ("claims[text]", "ab", false),
        ("claims[text]", "ab*", true),
        ("claims[text]", "*bc", true),
        ("claims[text]", "*", true),
        ("claims[text]", "ABC", false),
        ("claims[list]", "abc", true),
        ("claims[list]", "x*", true),
        ("claims[list]", "7", false),
        ("claims[number]", "7", false),
        ("claims[number]", "*", false),
        ("claims[bool]", "true", false),
        ("claims[null]", "*", false),
        ("claims[object]", "*", false),
        ("claims[object][k]", "abc", true),
        ("claims[object][deep][l]", "abc", true),
        ("claims[object][x]", "*", false),
        ("claims[text][k]", "*", false),
        ("claims[missing]", "*", false),
        ("claims[empty]", "*", false),
        ("claims[scope]", "a", true),
        ("claims[scope]", "c", true),
        ("claims[scope]", "a b", false),
        ("claims[scope]", "d", false),
        ("claims[permission]", "q", true),
        // Only these two are split.
        ("claims[roles]", "a", false),
        ("claims[roles]", "a b", true),
        ("claims[a.b/c]", "abc", true),
        ("audiences", "two", true),
        ("audiences", "three", false),
        ("presenter", "me", true),
        ("presenter", "you", false),
    ];
    let request = with_claims(&claims);
    for (key, value, expected) in cases {
        let when = |list: &str| format!("[{{when: [{{key: \"request.auth.{key}\", {list}: [\"{value}\"]}}]}}]");
        check(&when("values"), &request, expected);
        check(&when("notValues"), &request, !expected);
        // Without a token nothing matches, and every negation does.
        check(&when("values"), &crate::support::request("GET", "/a"), false);
        check(&when("notValues"), &crate::support::request("GET", "/a"), true);
    }
    // values AND NOT notValues.
    let both = r#"[{when: [{key: "request.auth.claims[list]", values: ["abc"], notValues: ["x"]}]}]"#;
    check(both, &request, false);
}

#[test]
fn b7_headers() {
    let get = request("GET", "/a?q=1");
    let lines = |values: &[&str]| values.iter().fold(get.clone(), |request, value| with_header(request, "x", value));
    let cases = [
        ("x", "1", lines(&["1"]), true),
        ("X", "1", lines(&["1"]), true),
        ("x", "1", lines(&["2"]), false),
        ("x", "1", lines(&[]), false),
        ("x", "*", lines(&[]), false),
        ("x", "*", lines(&[""]), true),
        ("x", "a*", lines(&["abc"]), true),
        ("x", "*c", lines(&["abc"]), true),
        // Lines are tested one by one; the joined value is never tried, a line is never split.
        ("x", "1", lines(&["2", "1"]), true),
        ("x", "2,1", lines(&["2", "1"]), false),
        ("x", "1", lines(&["1,2"]), false),
        (":method", "GET", get.clone(), true),
        (":path", "/a?q=1", get.clone(), true),
        (":path", "/a", get.clone(), false),
        (":scheme", "http", get.clone(), true),
        (":authority", "b.ns1.svc.cluster.local", get.clone(), true),
        ("host", "b.ns1.svc.cluster.local", get.clone(), true),
        ("host", "evil", with_header(get.clone(), "host", "evil"), false),
    ];
    for (name, value, request, expected) in cases {
        let when = |list: &str| format!("[{{when: [{{key: \"request.headers[{name}]\", {list}: [\"{value}\"]}}]}}]");
        check(&when("values"), &request, expected);
        check(&when("notValues"), &request, !expected);
    }
}

#[test]
fn b7_joined_headers_are_read_in_the_way_that_allows_less() {
    let joined = |value: &str| {
        let mut request = with_header(request("GET", "/a"), "x", value);
        request.headers_joined = true;
        request
    };
    let when = |list: &str| format!("[{{when: [{{key: \"request.headers[x]\", {list}: [\"1\"]}}]}}]");
    let cases = [
        // value, list, ALLOW allows, DENY denies
        ("1", "values", true, true),
        ("2", "values", false, false),
        ("2, 1", "values", false, true),
        ("2,1", "values", false, true),
        ("1", "notValues", false, false),
        ("2", "notValues", true, true),
        ("2, 1", "notValues", false, true),
        ("2,1", "notValues", false, true),
    ];
    for (value, list, allows, denies) in cases {
        assert_eq!(matches(&when(list), &joined(value)), (allows, denies), "{value} {list}");
    }
    // A line may have commas of its own, so that it may be any run of the parts.
    let when =
        |list: &str, pattern: &str| format!("[{{when: [{{key: \"request.headers[x]\", {list}: [\"{pattern}\"]}}]}}]");
    let cases = [
        // pattern, value, whether some line may match
        ("a,b", "a,b,c", true),
        ("a,b", "c,a,b", true),
        ("a,b", "c, a,b ,d", true),
        ("a,b", "a,b", true),
        ("a,b", "a,c,b", false),
        ("a,b", "a,bc", false),
        ("a,b", "ca,b", false),
        ("a,*", "c,a,b", true),
        ("a,b*", "c, a,bc,d", true),
        ("a,b*", "c,a", false),
        ("*a,b", "ca,b,d", true),
        ("*a,b", "ca,b , d", true),
        ("*a,b", "a,bc", false),
        ("*", ",", true),
    ];
    for (pattern, value, some) in cases {
        // What would deny looks at every run, what would allow at the whole.
        assert_eq!(matches(&when("values", pattern), &joined(value)).1, some, "{pattern} {value} DENY");
        assert_eq!(matches(&when("notValues", pattern), &joined(value)).0, !some, "{pattern} {value} ALLOW");
    }
}

#[test]
fn a_verified_tokens_header_is_gone_before_policies_look() {
    let rules = r#"[{when: [{key: "request.headers[authorization]", values: ["*"]}]}]"#;
    let hidden = policy("ALLOW", rules).replace("forwardOriginalToken: true", "forwardOriginalToken: false");
    let request = with_claims(r#""sub":"s""#);
    assert!(World::new(&policy("ALLOW", rules)).decide(&request, &workload()).is_allowed());
    assert!(!World::new(&hidden).decide(&request, &workload()).is_allowed());
    // What is no token stays.
    let basic = with_header(crate::support::request("GET", "/a"), "authorization", "Basic eDp5");
    assert!(World::new(&hidden).decide(&basic, &workload()).is_allowed());
}
