//! CUSTOM policies and their providers.

use std::collections::BTreeSet;

use istio::Action;

use super::context::Context;
use super::finding::{Code, Findings, Severity};
use super::words;

pub(super) const CODES: &[&Code] = &[&UNKNOWN_PROVIDER, &SEVERAL_PROVIDERS, &NOT_OUR_ADAPTER, &FAIL_OPEN];

/// A CUSTOM policy with a provider, and the mesh configuration with what is said of providers.
macro_rules! custom {
    ($provider:literal, $fail_open:literal, $annotation:literal) => {
        concat!(
            "kind: AuthorizationPolicy\nmetadata: {name: example, namespace: shop}\nspec:\n  selector: {matchLabels: {app: \
             web}}\n  action: CUSTOM\n  provider: {name: ",
            $provider,
            "}\n  rules:\n  - to: [{operation: {paths: [\"/admin\", \"/admin/*\"]}}]\n---\nkind: ConfigMap\nmetadata: {name: \
             istio, namespace: istio-system",
            $annotation,
            "}\ndata:\n  mesh: |-\n    extensionProviders:\n    - name: adapter\n      envoyExtAuthzGrpc: {service: \
             adapter.shop.svc.cluster.local, port: 9191, failOpen: ",
            $fail_open,
            "}\n"
        )
    };
}

static UNKNOWN_PROVIDER: Code = Code {
    name: "custom-provider-unknown",
    severity: Severity::Error,
    what: "a CUSTOM policy whose provider the mesh configuration does not have as an authorizer",
    why: "Istio denies what such a policy matches; the mode `strict` and `bundle` refuse it.",
    instead: "write the name of one of `extensionProviders` with envoyExtAuthzHttp or envoyExtAuthzGrpc",
    wrong: custom!("adaptre", "false", ", annotations: {causeway.dev/adapter-providers: adapter}"),
    right: custom!("adapter", "false", ", annotations: {causeway.dev/adapter-providers: adapter}"),
};

static SEVERAL_PROVIDERS: Code = Code {
    name: "custom-several-providers",
    severity: Severity::Error,
    what: "CUSTOM policies of several providers for one workload",
    why: "Unless Istio is told otherwise it takes one provider a workload, and denies what any of the policies matches.",
    instead: "use one provider for each workload",
    wrong: "kind: AuthorizationPolicy
metadata: {name: one, namespace: shop}
spec: {action: CUSTOM, provider: {name: adapter}, rules: [{to: [{operation: {paths: [/a]}}]}]}
---
kind: AuthorizationPolicy
metadata: {name: two, namespace: shop}
spec: {action: CUSTOM, provider: {name: other}, rules: [{to: [{operation: {paths: [/b]}}]}]}
---
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |-
    extensionProviders:
    - {name: adapter, envoyExtAuthzGrpc: {service: a.shop.svc.cluster.local, port: 9191}}
    - {name: other, envoyExtAuthzGrpc: {service: b.shop.svc.cluster.local, port: 9191}}
",
    right: custom!("adapter", "false", ""),
};

static NOT_OUR_ADAPTER: Code = Code {
    name: "custom-provider-unavailable",
    severity: Severity::Warning,
    what: "a CUSTOM policy at API Gateway whose provider is not our adapter",
    why: "At API Gateway only our adapter can be asked, in process. What a policy of another provider matches is denied \
          there (`custom_provider_unavailable`).",
    instead: "name the provider in the ConfigMap's annotation `causeway.dev/adapter-providers` if it is our adapter, or \
              select workloads that API Gateway does not reach",
    wrong: custom!("adapter", "false", ""),
    right: custom!("adapter", "false", ", annotations: {causeway.dev/adapter-providers: adapter}"),
};

static FAIL_OPEN: Code = Code {
    name: "custom-fail-open",
    severity: Severity::Warning,
    what: "a CUSTOM policy whose provider fails open",
    why: "With `failOpen: true` a request passes whenever the provider is unavailable: whoever can overload it is let in.",
    instead: "leave `failOpen` out",
    wrong: custom!("adapter", "true", ", annotations: {causeway.dev/adapter-providers: adapter}"),
    right: custom!("adapter", "false", ", annotations: {causeway.dev/adapter-providers: adapter}"),
};

pub(super) fn check(context: &Context<'_>, findings: &mut Findings) {
    let providers = &context.resources.mesh.extension_providers;
    for policy in context.policies.iter().filter(|policy| policy.action() == Action::Custom) {
        let name = policy.document.provider.as_deref().unwrap_or_default();
        let known = providers.iter().find(|provider| provider.name == name);
        match known.and_then(|provider| provider.authorizer.as_ref()) {
            None => {
                let known: BTreeSet<&str> = providers
                    .iter()
                    .filter(|provider| provider.authorizer.is_some())
                    .map(|provider| provider.name.as_str())
                    .collect();
                let instead = match words::nearest(name, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if known.is_empty() => "add it to `extensionProviders` of the mesh configuration".to_owned(),
                    None => format!("the mesh configuration has {}", words::list(&known)),
                };
                let message = format!("the mesh configuration has no authorizer `{name}`: what matches is denied");
                findings.add(&UNKNOWN_PROVIDER, policy.at("spec.provider.name"), message, instead);
                continue;
            }
            Some(authorizer) if authorizer.fail_open => {
                let message = format!("the provider `{name}` fails open: a request passes when it is unavailable");
                findings.add(&FAIL_OPEN, policy.at("spec.provider.name"), message, "leave `failOpen` out");
            }
            Some(_) => {}
        }
        let at_gateway = policy.workloads.iter().find(|index| {
            context.is_destination(**index)
                || context.workloads.get(**index).is_some_and(|workload| workload.is_gateway)
        });
        let ours = known.is_some_and(|provider| provider.is_adapter);
        if let Some(workload) = at_gateway.filter(|_| !ours).and_then(|index| context.workloads.get(*index)) {
            let message = format!("API Gateway cannot ask `{name}`: what matches at {} is denied there", workload.name);
            let instead = "list it in the annotation `causeway.dev/adapter-providers` if it is our adapter";
            findings.add(&NOT_OUR_ADAPTER, policy.at("spec.provider.name"), message, instead);
        }
    }
    for (index, workload) in context.workloads.iter().enumerate() {
        let mut customs =
            context.policies_of(index).filter(|policy| policy.action() == Action::Custom && policy.is_enforced());
        let Some(first) = customs.next() else { continue };
        if let Some(other) = customs.find(|policy| policy.document.provider != first.document.provider) {
            let message =
                format!("{} has CUSTOM policies of several providers: what they match is denied", workload.name);
            let instead = "use one provider for each workload";
            findings.add(&SEVERAL_PROVIDERS, other.at("spec.provider.name"), message, instead);
        }
    }
}
