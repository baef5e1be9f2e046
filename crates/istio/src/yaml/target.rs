//! What a policy is attached to.

use super::meta::selector;
use super::nearest::quoted;
use super::read::{At, Mapping};
use crate::{TargetRef, WorkloadSelector};

/// Most `targetRefs` in Istio's schema.
const MAX_TARGETS: usize = 16;
/// Longest name of a target, and of its group.
const MAX_NAME: usize = 253;
/// Istio: "targetRef must be to one of …". The version does not count.
const TARGETS: &[(&str, &str)] = &[
    ("", "Service"),
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
    ("networking.istio.io", "ServiceEntry"),
];

/// `selector`, or `targetRef`, or `targetRefs`.
pub(super) fn attachment(spec: &mut Mapping<'_>) -> (Option<WorkloadSelector>, Vec<TargetRef>) {
    let given = ["selector", "targetRef", "targetRefs"].into_iter().filter(|name| spec.has(name)).count();
    // Istio's schema: "only one of targetRefs or selector can be set". It counts fields, even empty ones.
    if given > 1 {
        spec.at.error("`selector`, `targetRef` and `targetRefs` exclude each other; keep one");
    }
    let selector = selector(spec);
    let one = spec.field("targetRef").and_then(|at| target_ref(&at));
    let several = spec.bounded_list("targetRefs", MAX_TARGETS, target_ref);
    (selector, several.unwrap_or_default().into_iter().chain(one).collect())
}

fn target_ref(at: &At<'_>) -> Option<TargetRef> {
    at.mapping(&[], |fields| {
        let group = fields.string("group").unwrap_or_default();
        // Istio (`CanonicalGroup`) takes the name `core` for the core group, which has none.
        let group = if group == "core" { String::new() } else { group };
        let kind = fields.required_string("kind");
        let name = fields.required_string("name");
        if name.as_ref().is_some_and(|name| name.chars().count() > MAX_NAME) {
            fields.at.error(format!("expected the name of a target of at most {MAX_NAME} characters"));
        }
        // Istio: "targetRef namespace must not be set; cross namespace referencing is not supported". The empty text is
        // not set.
        if let Some(namespace) = fields.field("namespace")
            && namespace.string().is_some_and(|namespace| !namespace.is_empty())
        {
            namespace.error("a target in another namespace is not supported by Istio; remove the field");
        }
        let (kind, name) = (kind?, name?);
        if !TARGETS.contains(&(group.as_str(), kind.as_str())) {
            let found = if group.is_empty() { kind } else { format!("{group}/{kind}") };
            fields.at.error(format!(
                "expected a target of kind `Service`, `networking.istio.io/ServiceEntry`, \
                 `gateway.networking.k8s.io/Gateway` or `gateway.networking.k8s.io/GatewayClass`, found {}",
                quoted(&found)
            ));
            return None;
        }
        Some(TargetRef { group, kind, name, namespace: None })
    })
}
