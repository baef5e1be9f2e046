//! Looking up in the compiled index: the few rules that a request can match, in their order.

use std::cell::OnceCell;

use crate::compiled::{
    ArchivedAuthorizationPolicy, ArchivedNamespace, ArchivedRule, ArchivedRuleIndex, ArchivedSelectorIndex,
    ArchivedTextTable,
};
use crate::grants::Area;
use crate::policies::{Applicable, Labels};

/// What a policy does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Action {
    Custom,
    Audit,
    Deny,
    Allow,
}

impl Action {
    /// In the order in which Envoy asks them.
    pub(crate) const ALL: &[Action] = &[Self::Custom, Self::Audit, Self::Deny, Self::Allow];

    /// Istio's word.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Custom => "CUSTOM",
            Self::Audit => "AUDIT",
            Self::Deny => "DENY",
            Self::Allow => "ALLOW",
        }
    }

    /// Its policies in `namespace`.
    pub(crate) fn policies(self, namespace: &ArchivedNamespace) -> &[ArchivedAuthorizationPolicy] {
        match self {
            Self::Custom => &namespace.custom,
            Self::Audit => &namespace.audit,
            Self::Deny => &namespace.deny,
            Self::Allow => &namespace.allow,
        }
    }
}

/// The policies of one action in one namespace, those that are enforced or those that are not.
#[derive(Clone, Copy)]
pub(crate) struct Table<'a> {
    pub(crate) namespace: &'a str,
    policies: &'a [ArchivedAuthorizationPolicy],
    index: &'a ArchivedRuleIndex,
}

/// A rule, with its policy and its place in it.
#[derive(Clone, Copy)]
pub(crate) struct Candidate<'a> {
    pub(crate) policy: &'a ArchivedAuthorizationPolicy,
    pub(crate) index: usize,
    pub(crate) rule: &'a ArchivedRule,
}

impl<'a> Table<'a> {
    pub(crate) fn of(namespace: &'a ArchivedNamespace, action: Action, dry_run: bool) -> Self {
        let index = match action {
            Action::Custom => &namespace.index.custom,
            Action::Audit => &namespace.index.audit,
            Action::Deny => &namespace.index.deny,
            Action::Allow => &namespace.index.allow,
        };
        let index = if dry_run { &index.dry_run } else { &index.enforced };
        Self { namespace: namespace.name.as_str(), policies: action.policies(namespace), index }
    }

    /// Whether any policy applies to the workload.
    pub(crate) fn any_applies(self, applicable: Applicable<'a>) -> bool {
        self.applying(applicable).next().is_some()
    }

    /// Policies that apply to the workload, one of those that choose the same workloads and the same provider.
    pub(crate) fn applying(self, applicable: Applicable<'a>) -> impl Iterator<Item = &'a ArchivedAuthorizationPolicy> {
        let found = self.index.policies.find(applicable.labels());
        let policies = found.into_iter().filter_map(move |at| self.policies.get(usize::try_from(at).ok()?));
        policies.filter(move |policy| applicable.applies(self.namespace, policy))
    }

    /// Every rule that can match, in the order of policies and rules, of policies that apply to the workload.
    pub(crate) fn candidates(
        self,
        applicable: Applicable<'a>,
        query: &Query<'_>,
    ) -> impl Iterator<Item = Candidate<'a>> {
        let mut found = Vec::new();
        if !self.index.rules.is_empty() {
            found = self.index.labels.find(applicable.labels());
            match query.host {
                Sought::Text(host) if !self.index.hosts.entries.is_empty() => {
                    self.index.hosts.find(query.reversed_host(host), &mut found);
                }
                Sought::Text(_) | Sought::Nothing => {}
                Sought::Anything => self.index.hosts.find_all(|_| true, &mut found),
            }
            match query.area {
                Some(area) => self.index.paths.find_all(|text| area.may_meet(text), &mut found),
                None => self.index.paths.find(query.path.as_bytes(), &mut found),
            }
            match query.principal {
                Sought::Text(principal) => self.index.principals.find(principal.as_bytes(), &mut found),
                Sought::Nothing => {}
                Sought::Anything => self.index.principals.find_all(|_| true, &mut found),
            }
            found.sort_unstable();
            found.dedup();
        }
        let mut last: Option<(u32, bool)> = None;
        found.into_iter().filter_map(move |id| {
            let reference = self.index.rules.get(usize::try_from(id).ok()?)?;
            let at = reference.policy.to_native();
            let policy = self.policies.get(usize::try_from(at).ok()?)?;
            let applies = match last {
                Some((policy, applies)) if policy == at => applies,
                _ => applicable.applies(self.namespace, policy),
            };
            last = Some((at, applies));
            let index = usize::try_from(reference.rule.to_native()).ok()?;
            policy.rules.get(index).filter(|_| applies).map(|rule| Candidate { policy, index, rule })
        })
    }
}

/// A host as the tables of hosts have it: in lower case, from its last byte to its first.
pub(crate) fn reversed(host: &str) -> Vec<u8> {
    host.bytes().rev().map(|byte| byte.to_ascii_lowercase()).collect()
}

/// One text to look up.
#[derive(Clone, Copy)]
pub(crate) enum Sought<'a> {
    /// This one.
    Text(&'a str),
    /// There is none, and nothing matches.
    Nothing,
    /// It is unknown: conditions on it may be dropped, and so every rule can match.
    Anything,
}

/// What is looked up of a request.
pub(crate) struct Query<'a> {
    host: Sought<'a>,
    reversed_host: OnceCell<Vec<u8>>,
    /// Without query and fragment.
    path: &'a str,
    principal: Sought<'a>,
    area: Option<&'a Area<'a>>,
}

impl<'a> Query<'a> {
    pub(crate) fn new(host: Sought<'a>, path: &'a str, principal: Sought<'a>, area: Option<&'a Area<'a>>) -> Self {
        Self { host, reversed_host: OnceCell::new(), path, principal, area }
    }

    fn reversed_host(&self, host: &str) -> &[u8] {
        self.reversed_host.get_or_init(|| reversed(host))
    }
}

impl ArchivedTextTable {
    /// Adds what is found under every text that `wanted` takes to `found`.
    fn find_all(&self, wanted: impl Fn(&[u8]) -> bool, found: &mut Vec<u32>) {
        for entry in self.entries.iter().filter(|entry| wanted(entry.text.as_slice())) {
            found.extend(entry.exact.iter().chain(entry.prefix.iter()).map(|id| id.to_native()));
        }
    }

    /// Adds what is found under `value` to `found`.
    fn find(&self, value: &[u8], found: &mut Vec<u32>) {
        let after = self.entries.partition_point(|entry| entry.text.as_slice() <= value);
        let Some(mut at) = after.checked_sub(1) else { return };
        let Some(nearest) = self.entries.get(at) else { return };
        if nearest.text.as_slice() == value {
            found.extend(nearest.exact.iter().map(|id| id.to_native()));
        }
        // Whatever `value` begins with, the nearest text begins with, too: all texts between the two do. So it is the
        // nearest one or among its parents. What the nearest text and `value` have in common tells which.
        let common = nearest.text.iter().zip(value).take_while(|(one, other)| one == other).count();
        while let Some(entry) = self.entries.get(at) {
            if entry.text.len() <= common {
                found.extend(entry.prefix.iter().map(|id| id.to_native()));
            }
            // A parent comes before its children; damaged bytes may say otherwise.
            match entry.parent.as_ref().and_then(|parent| usize::try_from(parent.to_native()).ok()) {
                Some(parent) if parent < at => at = parent,
                _ => break,
            }
        }
    }
}

impl ArchivedSelectorIndex {
    /// What can apply to a workload with `labels`, in order.
    pub(crate) fn find(&self, labels: Labels<'_>) -> Vec<u32> {
        let mut found: Vec<u32> = self.always.iter().map(|item| item.to_native()).collect();
        if self.labels.is_empty() {
            return found;
        }
        for wanted in labels.iter() {
            let place = self
                .labels
                .binary_search_by(|entry| (entry.label.name.as_str(), entry.label.value.as_str()).cmp(&wanted));
            if let Some(entry) = place.ok().and_then(|at| self.labels.get(at)) {
                found.extend(entry.items.iter().map(|item| item.to_native()));
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}
