//! Which mode of mutual TLS is in force at a port of a workload: Istio's `ComposePeerAuthentication`.

use authz::PeerMode::{self, Disable, Permissive, Strict};

use crate::support::open;

/// One document; `what` is a selector, `mtls` and `portLevelMtls`.
fn policy(namespace: &str, name: &str, what: &str) -> String {
    format!(
        "
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{{what}}}
"
    )
}

fn mode(documents: &str, namespace: &str, labels: &[(&str, &str)], port: u16) -> PeerMode {
    let policies = open(&[("f.yaml", documents)]).unwrap_or_else(|errors| panic!("{documents} {errors:?}"));
    let labels: Vec<(String, String)> = labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    policies.peer_mode(namespace, &labels, port)
}

#[test]
fn the_narrowest_scope_wins_and_unset_inherits() {
    let mesh = |mode: &str| policy("istio-system", "mesh", &format!("mtls: {{mode: {mode}}}"));
    let wide = |mode: &str| policy("ns", "wide", &format!("mtls: {{mode: {mode}}}"));
    let of = |name: &str, labels: &str, what: &str| {
        policy("ns", name, &format!("selector: {{matchLabels: {{{labels}}}}}, {what}"))
    };
    let own = |mode: &str| of("own", "app: shop", &format!("mtls: {{mode: {mode}}}"));
    let at = |mode: &str, port: u16, of_port: &str| {
        of("own", "app: shop", &format!("mtls: {{mode: {mode}}}, portLevelMtls: {{{port}: {{mode: {of_port}}}}}"))
    };
    for (documents, expected) in [
        // Nobody says anything: Istio's default.
        (String::new(), Permissive),
        (mesh("STRICT"), Strict),
        (mesh("UNSET"), Permissive),
        (mesh("STRICT") + &wide("UNSET"), Strict),
        (mesh("STRICT") + &wide("DISABLE"), Disable),
        (mesh("DISABLE") + &wide("STRICT"), Strict),
        (wide("STRICT") + &own("PERMISSIVE"), Permissive),
        (wide("STRICT") + &own("UNSET"), Strict),
        (mesh("STRICT") + &own("UNSET"), Strict),
        (mesh("DISABLE") + &wide("PERMISSIVE") + &own("STRICT"), Strict),
        // Another workload's.
        (wide("STRICT") + &of("other", "app: other", "mtls: {mode: DISABLE}"), Strict),
        (of("other", "app: shop, version: v2", "mtls: {mode: DISABLE}"), Permissive),
        // Another namespace's.
        (policy("elsewhere", "wide", "mtls: {mode: STRICT}"), Permissive),
        // A port has its own, of the port that was asked for.
        (at("STRICT", 8080, "DISABLE"), Disable),
        (at("DISABLE", 8080, "STRICT"), Strict),
        (at("STRICT", 9090, "DISABLE"), Strict),
        (at("STRICT", 8080, "UNSET"), Strict),
        (wide("STRICT") + &at("UNSET", 8080, "UNSET"), Strict),
        (wide("STRICT") + &at("UNSET", 8080, "PERMISSIVE"), Permissive),
        // Istio: with a selector in the root namespace it is for nobody.
        (policy("istio-system", "odd", "selector: {matchLabels: {app: shop}}, mtls: {mode: STRICT}"), Permissive),
        // Two select the workload: the stricter one.
        (of("a", "app: shop", "mtls: {mode: DISABLE}") + &of("b", "version: v1", "mtls: {mode: STRICT}"), Strict),
        (
            of("a", "app: shop", "mtls: {mode: PERMISSIVE}") + &of("b", "version: v1", "mtls: {mode: DISABLE}"),
            Permissive,
        ),
    ] {
        let found = mode(&documents, "ns", &[("app", "shop"), ("version", "v1")], 8080);
        assert_eq!(found, expected, "{documents}");
    }
}

#[test]
fn in_the_root_namespace_the_mesh_s_mode_holds() {
    let mesh = policy("istio-system", "mesh", "mtls: {mode: STRICT}");
    let own = policy("istio-system", "own", "selector: {matchLabels: {app: shop}}, mtls: {mode: DISABLE}");
    assert_eq!(mode(&(mesh + &own), "istio-system", &[("app", "shop")], 8080), Strict);
}

#[test]
fn the_trust_domain_s_aliases_are_there() {
    let config = "
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: \"trustDomain: cluster.local\\ntrustDomainAliases: [old.example, older.example]\\n\"}
";
    let policies = open(&[("f.yaml", config)]).unwrap();
    assert_eq!(policies.trust_domain_aliases().collect::<Vec<_>>(), ["old.example", "older.example"]);
}
