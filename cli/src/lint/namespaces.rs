//! Documents that do not say where they belong.

use super::context::Context;
use super::finding::{Code, Findings, Place, Severity};

pub(super) const CODES: &[&Code] = &[&NO_NAMESPACE];

static NO_NAMESPACE: Code = Code {
    name: "namespace-missing",
    severity: Severity::Warning,
    what: "a document that names no namespace",
    why: "Here it belongs to the namespace `default`. `kubectl apply -n NAMESPACE` puts the same document into \
          another one: the mesh then enforces a policy that API Gateway does not, and the other way round.",
    instead: "write `namespace` under `metadata`",
    wrong: "kind: AuthorizationPolicy
metadata: {name: example}
spec:
  action: DENY
  rules:
  - to: [{operation: {methods: [DELETE]}}]
",
    right: "kind: AuthorizationPolicy
metadata: {name: example, namespace: shop}
spec:
  action: DENY
  rules:
  - to: [{operation: {methods: [DELETE]}}]
",
};

pub(super) fn check(context: &Context<'_>, findings: &mut Findings) {
    let all = context.resources;
    let policies = all.authorization_policies.iter().map(|document| ("AuthorizationPolicy", &document.meta));
    let tokens = all.request_authentications.iter().map(|document| ("RequestAuthentication", &document.meta));
    let keys = all.api_key_authentications.iter().map(|document| ("ApiKeyAuthentication", &document.meta));
    let peers = all.peer_authentications.iter().map(|document| ("PeerAuthentication", &document.meta));
    for (kind, meta) in policies.chain(tokens).chain(keys).chain(peers).filter(|(_, meta)| !meta.namespace_given) {
        let message = "it names no namespace and belongs to `default` here, wherever `kubectl apply -n` would put it";
        findings.add(&NO_NAMESPACE, Place::new(kind, meta, "metadata"), message, "write `namespace` under `metadata`");
    }
}
