//! The root namespace, whose policies reach the whole mesh.

use istio::Meta;

use super::context::Context;
use super::finding::{Code, Finding, Findings, Severity};
use super::words;

pub(super) const CODES: &[&Code] = &[&UNKNOWN];

static UNKNOWN: Code = Code {
    name: "root-namespace-unknown",
    severity: Severity::Warning,
    what: "a rootNamespace that no document is in, and that is nearly one that there is",
    why: "Policies of the root namespace reach every workload. Under a misspelt name they reach those of their own \
          namespace alone, and nobody is told.",
    instead: "write the namespace that the documents for the whole mesh are in",
    wrong: "kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: 'rootNamespace: istio-sytem'
",
    right: "kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: 'rootNamespace: istio-system'
",
};

pub(super) fn check(context: &Context<'_>, findings: &mut Findings) {
    let all = context.resources;
    let root = all.mesh.root_namespace.as_str();
    let Some(origin) = &all.mesh.origin else { return };
    let policies = all.authorization_policies.iter().map(|document| &document.meta);
    let tokens = all.request_authentications.iter().map(|document| &document.meta);
    let keys = all.api_key_authentications.iter().map(|document| &document.meta);
    let peers = all.peer_authentications.iter().map(|document| &document.meta);
    let namespace = |meta: &Meta| meta.namespace.clone();
    let known: Vec<String> = policies.chain(tokens).chain(keys).chain(peers).map(namespace).collect();
    if known.iter().any(|known| known == root) {
        return;
    }
    let Some(near) = words::nearest(root, known.iter().map(String::as_str)) else { return };
    findings.push(Finding {
        code: UNKNOWN.name,
        severity: UNKNOWN.severity,
        file: origin.file.clone(),
        line: origin.line,
        resource: "the mesh configuration".to_owned(),
        path: "data.mesh: rootNamespace".to_owned(),
        message: format!("no policy is in the root namespace `{root}`, so none is for the whole mesh"),
        instead: format!("did you mean `{near}`?"),
    });
}
