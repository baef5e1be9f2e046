//! What verdicts at an API can depend on.

use authz::read_set::Read;
use authz::{Hop, Mode, read_set};

use crate::grants::{ALL_TO_WEB, all, policy, world, world_in};
use crate::support::{ISSUER, JWKS_URI, World};

/// What is read with these documents beside those around them, and what reads it.
fn reads(documents: &str, virtual_service: &str) -> Vec<(Read, Vec<String>)> {
    let set = read_set(&world(documents, virtual_service).policies, "shop/front").unwrap();
    let readers = |list: &[authz::read_set::Reader]| -> Vec<String> {
        list.iter().map(|one| format!("{} {} {}", one.hop, one.resource, one.field).replace("  ", " ")).collect()
    };
    set.iter().map(|(read, list)| (read.clone(), readers(list))).collect()
}

/// What is always read in these tests.
fn always() -> Vec<Read> {
    vec![
        Read::Header("authorization".to_owned()),
        Read::Parameter("access_token".to_owned()),
        Read::Path,
        Read::Host,
        Read::ClientCertificate,
        Read::Preflight,
        Read::Time,
    ]
}

fn names(documents: &str) -> Vec<Read> {
    let always = always();
    let all = reads(documents, ALL_TO_WEB).into_iter().map(|(read, _)| read);
    all.filter(|read| !always.contains(read)).collect()
}

#[test]
fn what_is_always_read() {
    let all: Vec<Read> = reads("", ALL_TO_WEB).into_iter().map(|(read, _)| read).collect();
    assert_eq!(all, always());
    let set = read_set(&world("", ALL_TO_WEB).policies, "shop/front").unwrap();
    assert_eq!(set.credentials(), &always()[..2]);
    assert_eq!(set.readers(&Read::Path).len(), 1);
    assert_eq!(set.readers(&Read::Path)[0].hop, Hop::Request);
    assert!(read_set(&world("", ALL_TO_WEB).policies, "shop/other").is_none());
}

#[test]
fn what_each_field_reads() {
    let header = |name: &str| Read::Header(name.to_owned());
    let rows = [
        ("to: [{operation: {methods: [GET]}}]", vec![Read::Method]),
        ("to: [{operation: {notMethods: [GET]}}]", vec![Read::Method]),
        ("from: [{source: {remoteIpBlocks: [\"10.0.0.0/8\"]}}]", vec![Read::ClientAddress]),
        // The second hop does not know its direct peer's address, and its peer is the gateway.
        ("from: [{source: {ipBlocks: [\"10.0.0.0/8\"]}}]", vec![]),
        ("from: [{source: {principals: [\"*\"]}}]", vec![]),
        ("from: [{source: {requestPrincipals: [\"*\"]}}]", vec![]),
        ("when: [{key: \"request.headers[X-A]\", values: [a]}]", vec![header("x-a")]),
        ("when: [{key: \"request.headers[:method]\", values: [a]}]", vec![Read::Method]),
        ("when: [{key: \"request.headers[:path]\", values: [a]}]", vec![Read::Query]),
        ("when: [{key: remote.ip, values: [\"10.0.0.1\"]}]", vec![Read::ClientAddress]),
        ("when: [{key: source.ip, values: [\"10.0.0.1\"]}]", vec![]),
        ("when: [{key: \"request.auth.claims[scope]\", values: [a]}]", vec![]),
        ("when: [{key: destination.port, values: [\"80\"]}]", vec![]),
    ];
    for (rule, expected) in rows {
        assert_eq!(names(&policy("DENY", &format!("[{{{rule}}}]"))), expected, "{rule}");
    }
    let at_gateway = |rule: &str| {
        let policy = policy("DENY", &format!("[{{{rule}}}]"))
            .replace("namespace: shop", "namespace: istio-system")
            .replace("spec:", "spec:\n  selector: {matchLabels: {istio: ingressgateway}}");
        let all = reads(&policy, ALL_TO_WEB).into_iter();
        let own = all.filter(|(_, readers)| readers.iter().any(|one| one.starts_with("gateway AuthorizationPolicy")));
        own.map(|(read, _)| read).collect::<Vec<_>>()
    };
    assert_eq!(at_gateway("from: [{source: {ipBlocks: [\"10.0.0.0/8\"]}}]"), [Read::ClientAddress]);
    assert_eq!(at_gateway("from: [{source: {namespaces: [a]}}]"), [Read::ClientCertificate]);
    assert_eq!(at_gateway("when: [{key: source.principal, values: [a]}]"), [Read::ClientCertificate]);
}

/// In `strict` a token with `cnf` is good for one certificate alone; `istio` does not look at it.
#[test]
fn a_token_reads_the_certificate_in_strict() {
    let readers = |mode| {
        let policies = world_in(mode, "", ALL_TO_WEB).policies;
        read_set(&policies, "shop/front").unwrap().readers(&Read::ClientCertificate).to_vec()
    };
    let strict = readers(Mode::Strict);
    assert_eq!(strict[0].field, "tokens may be bound to a certificate (`cnf`)");
    assert_eq!(strict[0].resource, "RequestAuthentication istio-system/idp");
    assert_eq!(readers(Mode::Istio), []);
}

/// The base path is taken off at the custom domain alone, so that the path that is judged depends on the domain.
#[test]
fn a_base_path_reads_the_host() {
    let readers = |change: fn(String) -> String| {
        let text = change(all("", ALL_TO_WEB)).replace("shop.example", "*");
        let text = text.replace("domain: *", "domain: shop.example").replace("[*]", "[\"*\"]");
        let set = read_set(&World::new(&text).policies, "shop/front").unwrap();
        set.readers(&Read::Host).iter().map(|one| one.field.clone()).collect::<Vec<_>>()
    };
    assert_eq!(readers(|text| text), [""; 0]);
    assert_eq!(readers(|text| text.replace("  gateway: shop", "  basePath: /v1\n  gateway: shop")), ["spec.basePath"]);
}

#[test]
fn what_cannot_decide_is_not_read() {
    let rule = "[{to: [{operation: {methods: [GET]}}]}]";
    let dry =
        policy("DENY", rule).replace("namespace: shop}", "namespace: shop, annotations: {istio.io/dry-run: \"true\"}}");
    assert_eq!(names(&dry), []);
    assert_eq!(names(&policy("AUDIT", rule)), []);
    let elsewhere = policy("DENY", rule).replace("spec:", "spec:\n  selector: {matchLabels: {app: admin}}");
    assert_eq!(names(&elsewhere), [], "no route leads there");
}

#[test]
fn credentials_routes_and_reasons() {
    let documents = format!(
        "---\napiVersion: causeway.dev/v1alpha1\nkind: ApiKeyAuthentication\nmetadata: {{name: keys, namespace: shop}}\nspec: \
         {{issuer: \"{ISSUER}\", headerName: X-Own-Key}}\n---\napiVersion: security.istio.io/v1\nkind: \
         RequestAuthentication\nmetadata: {{name: own, namespace: shop}}\nspec:\n  jwtRules: [{{issuer: \"{ISSUER}\", jwksUri: \
         \"{JWKS_URI}\", fromCookies: [session]}}]\n{}",
        policy("ALLOW", "[{}, {to: [{operation: {paths: [\"/a\"]}}]}]")
    );
    let split = format!(
        "  - match: [{{uri: {{prefix: /a}}}}]\n    route: [{{destination: {{host: admin, port: {{number: 80}}}}}}]\n{ALL_TO_WEB}"
    );
    let all = reads(&documents, &split);
    let readers =
        |read: &Read| all.iter().find(|(one, _)| one == read).map(|(_, readers)| readers.clone()).unwrap_or_default();
    assert_eq!(
        readers(&Read::Header("x-own-key".to_owned())),
        ["destination ApiKeyAuthentication shop/keys headerName"]
    );
    assert_eq!(
        readers(&Read::Cookie("session".to_owned())),
        ["destination RequestAuthentication shop/own fromCookies"]
    );
    assert_eq!(
        readers(&Read::Path),
        [
            "request a path that can be read in two ways is denied",
            "request ApiGateway shop/front uri matches of its VirtualServices",
            "destination AuthorizationPolicy shop/p-allow rules[1]: paths"
        ]
    );
}
