use std::collections::BTreeMap;
use std::fmt;

/// What every resource carries beside its `spec`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Meta {
    /// `metadata.name`, never empty.
    pub name: String,
    /// `metadata.namespace`; `default` when the document names none, as for `kubectl apply`.
    pub namespace: String,
    /// Whether the document names its namespace. `kubectl apply -n` puts one that does not elsewhere than into `default`.
    pub namespace_given: bool,
    /// `metadata.labels` of the resource itself (a selector matches a workload's labels instead).
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
    /// Where the document starts.
    pub origin: Origin,
}

/// Where a document starts.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Origin {
    /// Name of the file as it was given to the reader.
    pub file: String,
    /// Line of the document's first field, counted from 1.
    pub line: u32,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A document that the reader passed over because its kind is neither Istio's nor ours, or because
/// it is one of the few of Istio's that change neither a verdict nor a route.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Skipped {
    /// Name of the file as it was given to the reader.
    pub file: String,
    /// Line of the document's first field, counted from 1.
    pub line: u32,
    /// `kind` of the document.
    pub kind: String,
    /// `metadata.name`; empty when the document has none.
    pub name: String,
}

/// `selector`: the workloads that a policy applies to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct WorkloadSelector {
    /// `matchLabels`: labels that a workload must all carry with the same value. Empty selects
    /// every workload of the namespace.
    pub match_labels: BTreeMap<String, String>,
}

impl WorkloadSelector {
    /// Whether a workload with `labels` is selected: `match_labels` is a subset of them.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels.iter().all(|(name, value)| labels.get(name) == Some(value))
    }
}

/// `targetRefs[]`: a resource of the Gateway API that a policy is attached to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TargetRef {
    /// API group; empty for Kubernetes' core group.
    pub group: String,
    /// Kind of the target.
    pub kind: String,
    /// Name of the target.
    pub name: String,
    /// Namespace of the target; absent means the policy's own.
    pub namespace: Option<String>,
}
