use std::collections::BTreeMap;

use super::check::kubernetes_name;
use super::kind::Kind;
use super::nearest::quoted;
use super::read::{At, Mapping};
use crate::{Meta, Origin, WorkloadSelector};

/// Kubernetes' own bookkeeping; it changes neither a verdict nor a route.
const IGNORED: &[&str] = &[
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// `metadata` of a document.
pub(super) fn meta(document: &mut Mapping<'_>, kind: Kind) -> Option<Meta> {
    let origin = origin(&document.at);
    document.required("metadata")?.mapping(&[], |fields| {
        let name = fields.required("name").and_then(|name| kubernetes_name(&name, 253, true));
        let namespace = fields.field("namespace");
        let namespace_given = namespace.is_some();
        let namespace = match namespace {
            // As `kubectl apply` without a namespace.
            None => Some("default".to_owned()),
            Some(namespace) => kubernetes_name(&namespace, 63, false),
        };
        let labels = fields.string_map("labels");
        let annotations = fields.field("annotations").map(|at| annotations(&at, kind)).unwrap_or_default();
        fields.ignore(IGNORED);
        Some(Meta { name: name?, namespace: namespace?, namespace_given, labels, annotations, origin })
    })
}

/// Istio: "Only the AuthorizationPolicy supports the annotation". It turns a policy off.
pub(super) const DRY_RUN: &str = "istio.io/dry-run";

/// Annotations of Istio's own making. Istio: "annotation found, rejecting", "this may not be set by users".
const INTERNAL: &[&str] =
    &["internal.istio.io/parent-namespace", "internal.istio.io/parents", "internal.istio.io/webhook-always-reject"];

fn annotations(at: &At<'_>, kind: Kind) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::new();
    for (name, value) in at.entries() {
        let Some(text) = value.string() else {
            continue;
        };
        annotations.insert(name.to_owned(), text);
        // Of Kubernetes' own kinds Istio reads no annotation; of ours the same slip is the same mistake.
        if matches!(kind, Kind::MeshConfig | Kind::Service) {
            continue;
        }
        if name == DRY_RUN && kind != Kind::AuthorizationPolicy {
            value.error(format!("the annotation `{DRY_RUN}` has no effect on {}; remove it", kind.as_str()));
        }
        if INTERNAL.contains(&name) {
            value.error(format!("the annotation `{name}` may not be set by users; remove it"));
        }
    }
    annotations
}

/// An annotation of a document, whose `metadata` was read before.
pub(super) fn annotation<'a>(document: &At<'a>, name: &str) -> Option<At<'a>> {
    document.child("metadata")?.child("annotations")?.child(name)
}

pub(super) fn origin(document: &At<'_>) -> Origin {
    Origin { file: document.report.file().to_owned(), line: document.position().line }
}

/// `selector` of a policy.
pub(super) fn selector(spec: &mut Mapping<'_>) -> Option<WorkloadSelector> {
    match_labels(&spec.field("selector")?)
}

/// A selector with `matchLabels`.
pub(super) fn match_labels(at: &At<'_>) -> Option<WorkloadSelector> {
    selector_by(at, "matchLabels")
}

/// `workloadSelector` of the kinds that call the labels just that.
pub(super) fn workload_selector(spec: &mut Mapping<'_>) -> Option<WorkloadSelector> {
    selector_by(&spec.field("workloadSelector")?, "labels")
}

fn selector_by(at: &At<'_>, name: &'static str) -> Option<WorkloadSelector> {
    at.mapping(&[], |fields| {
        let labels = fields.field(name);
        Some(WorkloadSelector { match_labels: labels.map(|at| workload_labels(&at)).unwrap_or_default() })
    })
}

/// Most labels of a selector, and the longest value of one, in Istio's schema.
const MAX_LABELS: usize = 4096;
const MAX_LABEL_VALUE: usize = 63;

/// Labels that workloads are matched against. Istio: "empty key is not supported in selector",
/// "wildcard is not supported in selector".
pub(super) fn workload_labels(at: &At<'_>) -> BTreeMap<String, String> {
    at.at_most(MAX_LABELS);
    let labels = at.string_map();
    for (name, value) in &labels {
        if name.is_empty() {
            at.error("a label needs a name");
        }
        if name.contains('*') || value.contains('*') {
            at.error(format!("wildcards are not supported in labels, found {}", quoted(&format!("{name}={value}"))));
        }
        if value.chars().count() > MAX_LABEL_VALUE {
            at.error(format!(
                "expected the value of label {} to have at most {MAX_LABEL_VALUE} characters",
                quoted(name)
            ));
        }
    }
    labels
}

/// Stands in for a wrong `metadata` while the rest of its document is looked at. The document is
/// refused, so this never leaves the reader.
pub(super) fn stand_in(document: &At<'_>) -> Meta {
    Meta {
        name: String::new(),
        namespace: String::new(),
        namespace_given: false,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        origin: origin(document),
    }
}
