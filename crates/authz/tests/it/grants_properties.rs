//! What holds for every cached answer: it allows nothing that the gate denies.

use authz::{Decision, Request, path};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::grants::{Document, allows, anonymous, apis, at, client, decides, target, world};
use crate::support::with_header;

const POLICY_PATHS: [&str; 18] = [
    "/a",
    "/a*",
    "/a/*",
    "*",
    "/b",
    "*b",
    "/a/b",
    "/a/b*",
    "/a/{*}",
    "/a/{**}",
    "/a/{*}/c",
    "/",
    "/{**}",
    "/a/b/*",
    "/a/{**}/c",
    "*/c",
    "/*",
    "/a/x",
];
const ROUTES: [(&str, &str); 14] = [
    ("GET", "/a"),
    ("ANY", "/a"),
    ("GET", "/a/{id}"),
    ("POST", "/a/{id}"),
    ("ANY", "/a/{proxy+}"),
    ("GET", "/a/b"),
    ("POST", "/a/b"),
    ("GET", "/a/{id}/c"),
    ("GET", "/a/b/{x}"),
    ("ANY", "/{proxy+}"),
    ("", "$default"),
    ("GET", "/b"),
    ("GET", "/a/bb"),
    ("GET", "/"),
];
const METHODS: [&str; 4] = ["GET", "POST", "OPTIONS", "PUT"];
/// Of every route, of its ARN alone, and of neither; percent-decoded, as an HTTP API has them.
pub(crate) const PATHS: [&str; 32] = [
    "/",
    "/a",
    "/a/",
    "/a/b",
    "/a/bb",
    "/a/b/",
    "/a/x",
    "/a/x/c",
    "/a/x/c/d",
    "/a/b/c",
    "/a/b/x",
    "/a/b/x/y",
    "/b",
    "/b/",
    "/c",
    "/ab",
    "/A",
    "/a/.x",
    "/a/../b",
    "/a/..",
    "/a//b",
    "/a/x;y",
    "/a/%2e%2e/b",
    "/a/x\"y",
    "/a/é",
    "/a/x y",
    "/a/[x]",
    "/a/x*",
    "/GET/a/x",
    "/a/x\\c",
    "/a/b#c",
    "/a/$x",
];
/// Where a backend may take the end for a query.
const CUT: [&str; 6] = ["/a/?x", "/a/b?x", "/a/x?/c", "/a?x", "/a/x/c?b", "/a/b/?/c"];

fn values(of: &'static [&'static str]) -> impl Strategy<Value = String> {
    subsequence(of.to_vec(), 1..=2)
        .prop_map(|values| values.iter().map(|value| format!("\"{value}\"")).collect::<Vec<_>>().join(", "))
}

fn field(name: &'static str, of: &'static [&'static str]) -> impl Strategy<Value = String> {
    values(of).prop_map(move |values| format!("{name}: [{values}]"))
}

fn fields(all: Vec<BoxedStrategy<String>>) -> impl Strategy<Value = String> {
    let length = all.len();
    (all, subsequence((0..length).collect::<Vec<_>>(), 1..=2))
        .prop_map(|(all, chosen)| chosen.iter().map(|index| all[*index].clone()).collect::<Vec<_>>().join(", "))
}

fn rule() -> impl Strategy<Value = String> {
    let operation = || {
        fields(vec![
            field("paths", &POLICY_PATHS).boxed(),
            field("paths", &POLICY_PATHS).boxed(),
            field("notPaths", &POLICY_PATHS).boxed(),
            field("methods", &["GET", "P*", "*", "*T"]).boxed(),
            field("notMethods", &["POST", "OPTIONS", "P*"]).boxed(),
            field("hosts", &["shop.example", "other"]).boxed(),
        ])
        .prop_map(unique)
    };
    let to = proptest::collection::vec(operation(), 0..=2).prop_map(|list| {
        let list: Vec<String> = list.iter().map(|one| format!("{{operation: {{{one}}}}}")).collect();
        if list.is_empty() { String::new() } else { format!("to: [{}]", list.join(", ")) }
    });
    let from = select(vec![
        "",
        "",
        "",
        "from: [{source: {requestPrincipals: [\"*\"]}}]",
        "from: [{source: {requestPrincipals: [\"https://issuer.bookinfo.example/client:a\"]}}]",
        "from: [{source: {notRequestPrincipals: [\"*\"]}}]",
        "from: [{source: {remoteIpBlocks: [\"203.0.113.0/24\"]}}]",
        "from: [{source: {notIpBlocks: [\"203.0.113.0/24\"]}}]",
    ]);
    let when = select(vec![
        "",
        "",
        "",
        "",
        "when: [{key: \"request.headers[x]\", values: [\"1\"]}]",
        "when: [{key: \"request.headers[:path]\", values: [\"/a*\"]}]",
        "when: [{key: \"request.headers[:path]\", notValues: [\"/a/b\"]}]",
        "when: [{key: \"request.headers[:method]\", values: [\"GET\"]}]",
        "when: [{key: \"request.auth.claims[scope]\", notValues: [\"x\"]}]",
    ]);
    (from, to, when).prop_map(|(from, to, when)| {
        let parts: Vec<&str> = [from, to.as_str(), when].into_iter().filter(|part| !part.is_empty()).collect();
        format!("{{{}}}", parts.join(", "))
    })
}

/// A field comes once.
fn unique(text: String) -> String {
    let mut seen: Vec<&str> = Vec::new();
    let mut kept: Vec<&str> = Vec::new();
    for part in text.split("], ") {
        let name = part.split(':').next().unwrap();
        if !seen.contains(&name) {
            seen.push(name);
            kept.push(part.trim_end_matches(']'));
        }
    }
    kept.iter().map(|part| format!("{part}]")).collect::<Vec<_>>().join(", ")
}

fn policies() -> impl Strategy<Value = String> {
    let place = select(vec![
        ("istio-system", "  selector: {matchLabels: {istio: ingressgateway}}\n"),
        ("shop", "  selector: {matchLabels: {app: web}}\n"),
        ("shop", "  selector: {matchLabels: {app: admin}}\n"),
        ("shop", ""),
    ]);
    let one = (place, select(vec!["ALLOW", "ALLOW", "DENY"]), proptest::collection::vec(rule(), 1..=3));
    proptest::collection::vec(one, 0..=4).prop_map(|list| {
        let all = list.iter().enumerate().map(|(n, ((namespace, selector), action, rules))| {
            format!(
                "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p{n}, namespace: \
                 {namespace}}}\nspec:\n{selector}  action: {action}\n  rules: [{}]\n",
                rules.join(", ")
            )
        });
        all.collect()
    })
}

fn virtual_service() -> impl Strategy<Value = String> {
    let uri = select(vec!["prefix: /a", "prefix: /a/", "exact: /a/b", "prefix: /a/b", "exact: /b", "prefix: /a/x"]);
    proptest::collection::vec((uri, any::<bool>()), 0..=2).prop_map(|list| {
        let to = |host: &str| format!("route: [{{destination: {{host: {host}, port: {{number: 80}}}}}}]\n");
        let some = list.iter().map(|(uri, admin)| {
            format!("  - match: [{{uri: {{{uri}}}}}]\n    {}", to(if *admin { "admin" } else { "web" }))
        });
        format!("{}  - {}", some.collect::<String>(), to("web"))
    })
}

fn caller() -> impl Strategy<Value = Request> {
    let who = select(vec![None, Some("a"), Some("b")]);
    (who, any::<[bool; 2]>()).prop_map(|(who, [header, preflight])| {
        let mut caller = who.map_or_else(anonymous, client);
        if header {
            caller = with_header(caller, "x", "1");
        }
        if preflight {
            caller = with_header(with_header(caller, "origin", "x"), "access-control-request-method", "GET");
        }
        caller
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    /// Nothing is allowed that the gate denies, and everything that it allows on a known route without parameters.
    #[test]
    fn a_cached_answer_says_what_the_gate_says(
        policies in policies(),
        virtual_service in virtual_service(),
        routes in subsequence(ROUTES.to_vec(), 1..=8),
        caller in caller(),
    ) {
        let world = world(&policies, &virtual_service);
        let known = apis(&routes);
        // By the place of the path in PATHS.
        let decided: Vec<Vec<Option<Decision>>> = METHODS
            .iter()
            .map(|method| PATHS.iter().map(|path| decides(&world, &caller, method, path)).collect())
            .collect();
        for (row, method) in decided.iter().zip(METHODS) {
            // What is granted beside the first request that is allowed and the last one. An ARN with a `*` is a pattern
            // itself: a front must not name it.
            let allowed = || {
                let nameable = (0..PATHS.len()).filter(|at| !PATHS[*at].contains('*'));
                nameable.filter(|at| row[*at].as_ref().is_some_and(Decision::is_allowed))
            };
            for at_path in allowed().next().into_iter().chain(allowed().next_back()) {
                let asked = PATHS[at_path];
                let Some(Decision::Allow(allow)) = &row[at_path] else { panic!() };
                let document = Document::new(&world, &known, &caller, method, asked);
                prop_assert!(document.allows(method, asked), "{method} {asked} itself");
                for (row, other) in decided.iter().zip(METHODS) {
                    for (decision, path) in row.iter().zip(PATHS) {
                        let allowed = document.allows(other, path);
                        let this = match decision {
                            Some(Decision::Allow(this)) => Some(this),
                            _ => None,
                        };
                        prop_assert!(!allowed || this.is_some(), "{method} {asked}: {other} {path}");
                        let is_known = routes.iter().any(|(m, p)| *p == path && (*m == other || *m == "ANY"));
                        let plain = path::encode(asked) == asked && !asked.contains(['.', '$', '*', '[']);
                        if is_known && plain && !allowed && let Some(this) = this {
                            prop_assert!(this.claims() != allow.claims(), "{method} {asked}: {other} {path} is missing");
                        }
                    }
                    // A decoded question mark: both of its readings are allowed.
                    for path in CUT.iter().filter(|path| document.allows(other, path)) {
                        let before = path.split('?').next().unwrap();
                        let encoded = at(&caller, other, &path.replace('?', "%3F"));
                        prop_assert!(allows(&world, &caller, other, before), "{method} {asked}: {other} {path}");
                        prop_assert!(world.decide(&encoded, &target()).is_allowed(), "{method} {asked}: {other} {path}");
                    }
                }
            }
        }
    }
}
