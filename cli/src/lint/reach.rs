//! Which workloads a resource reaches, found by namespace and label: thousands of policies are not compared with
//! thousands of workloads.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use istio::{Meta, WorkloadSelector};

use super::context::Workload;

/// What a resource applies to by namespace and selector, whatever its targetRefs say.
#[derive(Clone, Debug)]
pub(super) struct Scope<'a> {
    /// Equal for resources of one namespace with equal selectors.
    pub(super) id: usize,
    namespace: &'a str,
    is_root: bool,
    labels: Option<&'a Labels>,
    /// Indices of the known workloads, ascending.
    pub(super) workloads: Rc<[usize]>,
}

type Labels = BTreeMap<String, String>;

impl Scope<'_> {
    /// Whether two resources may reach the same workload. Where no known workload decides, their labels do: they may
    /// unless they contradict one another.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        if !self.workloads.is_empty() {
            return intersect(&self.workloads, &other.workloads);
        }
        let near = self.namespace == other.namespace || self.is_root || other.is_root;
        let contradict = match (self.labels, other.labels) {
            (Some(a), Some(b)) => a.iter().any(|(name, value)| b.get(name).is_some_and(|other| other != value)),
            _ => false,
        };
        near && !contradict
    }
}

/// Whether two ascending lists have an index in common.
fn intersect(a: &[usize], b: &[usize]) -> bool {
    let (short, long) = if a.len() < b.len() { (a, b) } else { (b, a) };
    short.iter().any(|index| long.binary_search(index).is_ok())
}

/// Workloads by namespace and label.
#[derive(Debug)]
pub(super) struct Reach<'a> {
    root: &'a str,
    all: Rc<[usize]>,
    by_namespace: HashMap<&'a str, Rc<[usize]>>,
    by_label: HashMap<(&'a str, &'a str), Vec<usize>>,
    /// What was asked for already.
    known: RefCell<HashMap<(&'a str, Option<&'a Labels>), Scope<'a>>>,
}

impl<'a> Reach<'a> {
    pub(super) fn new(root: &'a str, workloads: &[Workload<'a>]) -> Self {
        let mut by_namespace: HashMap<&'a str, Vec<usize>> = HashMap::new();
        let mut by_label: HashMap<(&'a str, &'a str), Vec<usize>> = HashMap::new();
        for (index, workload) in workloads.iter().enumerate() {
            by_namespace.entry(workload.namespace).or_default().push(index);
            for (name, value) in workload.labels {
                by_label.entry((name, value)).or_default().push(index);
            }
        }
        Self {
            root,
            all: (0..workloads.len()).collect(),
            by_namespace: by_namespace.into_iter().map(|(namespace, indices)| (namespace, indices.into())).collect(),
            by_label,
            known: RefCell::default(),
        }
    }

    /// The workloads that the namespace of a resource lets it reach: all of them from the root namespace.
    pub(super) fn near(&self, meta: &Meta) -> Rc<[usize]> {
        if meta.namespace == self.root {
            return Rc::clone(&self.all);
        }
        self.by_namespace.get(meta.namespace.as_str()).cloned().unwrap_or_default()
    }

    /// What a resource reaches. `workloads` are those that this was made of.
    pub(super) fn scope(
        &self,
        workloads: &[Workload<'a>],
        meta: &'a Meta,
        selector: Option<&'a WorkloadSelector>,
    ) -> Scope<'a> {
        let labels = selector.map(|selector| &selector.match_labels);
        let key = (meta.namespace.as_str(), labels);
        if let Some(known) = self.known.borrow().get(&key) {
            return known.clone();
        }
        let mut known = self.known.borrow_mut();
        let id = known.len();
        let scope = Scope {
            id,
            namespace: key.0,
            is_root: meta.namespace == self.root,
            labels,
            workloads: self.selected(workloads, meta, selector),
        };
        known.insert(key, scope.clone());
        scope
    }

    fn selected(&self, workloads: &[Workload<'a>], meta: &Meta, selector: Option<&'a WorkloadSelector>) -> Rc<[usize]> {
        let Some(selector) = selector.filter(|selector| !selector.match_labels.is_empty()) else {
            return self.near(meta);
        };
        // The workloads of the rarest of the labels, one by one.
        let with_label = |(name, value): (&'a String, &'a String)| {
            self.by_label.get(&(name.as_str(), value.as_str())).map_or(&[][..], Vec::as_slice)
        };
        let fewest = selector.match_labels.iter().map(with_label).min_by_key(|found| found.len()).unwrap_or_default();
        let reached = |index: &usize| {
            workloads.get(*index).is_some_and(|workload| {
                (meta.namespace == self.root || meta.namespace == workload.namespace)
                    && selector.selects(workload.labels)
            })
        };
        fewest.iter().copied().filter(|index| reached(index)).collect()
    }
}
