//! The index of one namespace: which of its policies a request can match.
//!
//! Each rule is put into one of four tables: by its hosts, by its paths, by its principals, or by a label that its
//! policy selects. That one is chosen whose worst bucket is smallest. A rule that offers nothing is always looked at.
//! What is found in the tables is evaluated in full, so a table may say too much; it must never say too little.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::compiled::{
    AuthorizationPolicy, Field, Label, LabelEntry, Namespace, NamespaceIndex, Operation, PolicyIndex, RuleIndex,
    RuleRef, SelectorIndex, Source, TargetRef, TextEntry, TextTable,
};
use crate::index::reversed;
use crate::matchers::{PathPattern, Pattern};
use crate::policies::{GATEWAY_NAME, is_gateway};

/// A number in an index; what is compiled has far fewer than 2^32 of anything.
fn number(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

pub(super) fn namespace(namespace: &Namespace) -> NamespaceIndex {
    let authentications = namespace.request_authentications.iter().map(|a| attachment(&a.selector, &a.target_refs));
    let keys = namespace.api_key_authentications.iter().map(|a| attachment(&a.selector, &[]));
    NamespaceIndex {
        deny: policies(&namespace.deny),
        allow: policies(&namespace.allow),
        audit: policies(&namespace.audit),
        custom: policies(&namespace.custom),
        request_authentications: selectors(&authentications.enumerate().collect::<Vec<_>>()),
        api_key_authentications: selectors(&keys.enumerate().collect::<Vec<_>>()),
    }
}

fn policies(policies: &[AuthorizationPolicy]) -> PolicyIndex {
    PolicyIndex { enforced: rules(policies, false), dry_run: rules(policies, true) }
}

/// A name and a value.
type LabelKey<'a> = (&'a str, &'a str);

/// Which labels bring a workload to a policy.
#[derive(Clone, Debug)]
enum Attachment<'a> {
    /// No label that is known.
    Always,
    /// All of these are needed, so any one of them will do.
    Every(Vec<LabelKey<'a>>),
    /// One of these is needed, so all of them have to be looked under.
    Some(Vec<LabelKey<'a>>),
}

fn attachment<'a>(selector: &'a [Label], targets: &'a [TargetRef]) -> Attachment<'a> {
    if !targets.is_empty() {
        let gateways = targets
            .iter()
            .map(|target| is_gateway(&target.group, &target.kind).then_some((GATEWAY_NAME, target.name.as_str())));
        return gateways.collect::<Option<Vec<_>>>().map_or(Attachment::Always, Attachment::Some);
    }
    if selector.is_empty() {
        return Attachment::Always;
    }
    Attachment::Every(selector.iter().map(|label| (label.name.as_str(), label.value.as_str())).collect())
}

/// A text to be found under, and whether by what is equal to it or by what begins with it.
type Key<'a> = (Cow<'a, [u8]>, Reach);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reach {
    Exact,
    Prefix,
}

/// Where a rule can be put.
struct Places<'a> {
    /// By hosts, paths and principals; `None` where something in the rule cannot be found under any key.
    texts: [Option<Vec<Key<'a>>>; 3],
    attachment: Attachment<'a>,
}

fn rules(policies: &[AuthorizationPolicy], dry_run: bool) -> RuleIndex {
    let chosen = || policies.iter().enumerate().filter(|(_, policy)| policy.dry_run == dry_run);
    let mut references = Vec::new();
    let mut places = Vec::new();
    for (at, policy) in chosen() {
        for (index, rule) in policy.rules.iter().enumerate() {
            references.push(RuleRef { policy: number(at), rule: number(index) });
            places.push(Places {
                texts: [keys(&rule.to, host_keys), keys(&rule.to, path_keys), keys(&rule.from, principal_keys)],
                attachment: attachment(&policy.selector, &policy.target_refs),
            });
        }
    }

    // First count what each bucket would hold if every rule were put into it that can be.
    let mut texts: [HashMap<&[u8], usize>; 3] = Default::default();
    for place in &places {
        for (counts, keys) in texts.iter_mut().zip(&place.texts) {
            for (text, _) in keys.iter().flatten() {
                *counts.entry(text).or_default() += 1;
            }
        }
    }
    let labels = label_counts(places.iter().map(|place| &place.attachment));

    // Then choose.
    let mut tables: [TextBuilder<'_>; 3] = Default::default();
    let mut by_label = SelectorBuilder::default();
    for (id, place) in places.iter().enumerate() {
        let id = number(id);
        let worst = |(keys, counts): (&Option<Vec<Key<'_>>>, &HashMap<&[u8], usize>)| {
            keys.as_ref().map(|keys| keys.iter().filter_map(|(text, _)| counts.get(text.as_ref()).copied()).max())
        };
        let by_text = place.texts.iter().zip(&texts).map(worst).enumerate();
        let best = by_text.filter_map(|(table, worst)| Some((worst??, table))).min();
        match (best, label_choice(&place.attachment, &labels)) {
            (Some((worst, table)), (buckets, _)) if buckets.is_none_or(|bucket| worst < bucket) => {
                if let (Some(builder), Some(Some(keys))) = (tables.get_mut(table), place.texts.get(table)) {
                    builder.insert(id, keys);
                }
            }
            (_, (_, under)) => by_label.insert(id, &under),
        }
    }

    // One policy for each distinct choice of workloads, and of a provider.
    let mut known: BTreeSet<(Vec<LabelKey<'_>>, Vec<&TargetRef>, Option<u32>)> = BTreeSet::new();
    let distinct: Vec<(usize, Attachment<'_>)> = chosen()
        .filter(|(_, policy)| {
            let selector = policy.selector.iter().map(|label| (label.name.as_str(), label.value.as_str()));
            known.insert((selector.collect(), policy.target_refs.iter().collect(), policy.provider))
        })
        .map(|(at, policy)| (at, attachment(&policy.selector, &policy.target_refs)))
        .collect();

    let [hosts, paths, principals] = tables.map(TextBuilder::finish);
    let policies = selectors(&distinct);
    RuleIndex { rules: references, hosts, paths, principals, labels: by_label.finish(), policies }
}

/// The keys of all branches, of which a request must match one; `None` when a branch has none, or there is no branch.
fn keys<'a, T>(branches: &'a [T], of: impl Fn(&'a T) -> Option<Vec<Key<'a>>>) -> Option<Vec<Key<'a>>> {
    if branches.is_empty() {
        return None;
    }
    let lists: Option<Vec<Vec<Key<'a>>>> = branches.iter().map(of).collect();
    lists.map(|lists| lists.concat())
}

/// The keys of the positive values of one field; `None` when it has none, or one that cannot be found.
fn values<'a, T>(field: &'a Field<T>, key: impl Fn(&'a T) -> Option<Key<'a>>) -> Option<Vec<Key<'a>>> {
    let values = field.as_ref().map(|field| &field.values).filter(|values| !values.is_empty())?;
    values.iter().map(key).collect()
}

fn host_keys(operation: &Operation) -> Option<Vec<Key<'_>>> {
    values(&operation.hosts, |pattern| match pattern {
        Pattern::Exact(host) => Some((Cow::Owned(reversed(host)), Reach::Exact)),
        Pattern::Suffix(suffix) => Some((Cow::Owned(reversed(suffix)), Reach::Prefix)),
        Pattern::Any | Pattern::Prefix(_) => None,
    })
}

fn path_keys(operation: &Operation) -> Option<Vec<Key<'_>>> {
    values(&operation.paths, |path| match path {
        PathPattern::Text(pattern) => text_key(pattern),
        PathPattern::Template(template) => Some((Cow::Owned(template.literal_start().into_bytes()), Reach::Prefix)),
    })
}

fn principal_keys(source: &Source) -> Option<Vec<Key<'_>>> {
    values(&source.principals, text_key)
}

fn text_key(pattern: &Pattern) -> Option<Key<'_>> {
    match pattern {
        Pattern::Exact(text) => Some((Cow::Borrowed(text.as_bytes()), Reach::Exact)),
        Pattern::Prefix(text) => Some((Cow::Borrowed(text.as_bytes()), Reach::Prefix)),
        Pattern::Any | Pattern::Suffix(_) => None,
    }
}

#[derive(Default)]
struct TextBuilder<'a> {
    entries: BTreeMap<&'a [u8], (Vec<u32>, Vec<u32>)>,
}

impl<'a> TextBuilder<'a> {
    fn insert(&mut self, id: u32, keys: &'a [Key<'a>]) {
        for (text, reach) in keys {
            let (exact, prefix) = self.entries.entry(text.as_ref()).or_default();
            let items = match reach {
                Reach::Exact => exact,
                Reach::Prefix => prefix,
            };
            if items.last() != Some(&id) {
                items.push(id);
            }
        }
    }

    fn finish(self) -> TextTable {
        let mut entries: Vec<TextEntry> = Vec::with_capacity(self.entries.len());
        // The texts that the last one begins with, from the shortest to itself.
        let mut open: Vec<u32> = Vec::new();
        for (text, (exact, prefix)) in self.entries {
            let begins = |at: &u32| {
                let entry = usize::try_from(*at).ok().and_then(|at| entries.get(at));
                entry.is_some_and(|entry| text.starts_with(&entry.text))
            };
            while open.last().is_some_and(|at| !begins(at)) {
                open.pop();
            }
            let parent = open.last().copied();
            open.push(number(entries.len()));
            entries.push(TextEntry { text: text.to_vec(), parent, exact, prefix });
        }
        TextTable { entries }
    }
}

fn selectors(attachments: &[(usize, Attachment<'_>)]) -> SelectorIndex {
    let counts = label_counts(attachments.iter().map(|(_, attachment)| attachment));
    let mut builder = SelectorBuilder::default();
    for (item, attachment) in attachments {
        builder.insert(number(*item), &label_choice(attachment, &counts).1);
    }
    builder.finish()
}

fn label_counts<'a>(attachments: impl Iterator<Item = &'a Attachment<'a>>) -> HashMap<LabelKey<'a>, usize> {
    let mut counts = HashMap::new();
    for attachment in attachments {
        if let Attachment::Every(labels) | Attachment::Some(labels) = attachment {
            for label in labels {
                *counts.entry(*label).or_default() += 1;
            }
        }
    }
    counts
}

/// The size of the worst bucket, and the labels to be found under; `None` and no label where none will do.
fn label_choice<'a>(
    attachment: &Attachment<'a>,
    counts: &HashMap<LabelKey<'_>, usize>,
) -> (Option<usize>, Vec<LabelKey<'a>>) {
    let count = |label: &LabelKey<'a>| counts.get(label).copied().unwrap_or_default();
    match attachment {
        Attachment::Always => (None, Vec::new()),
        Attachment::Every(labels) => {
            let rarest = labels.iter().min_by_key(|label| count(label)).copied();
            (rarest.as_ref().map(count), rarest.into_iter().collect())
        }
        Attachment::Some(labels) => (labels.iter().map(count).max(), labels.clone()),
    }
}

#[derive(Default)]
struct SelectorBuilder<'a> {
    labels: BTreeMap<LabelKey<'a>, Vec<u32>>,
    always: Vec<u32>,
}

impl<'a> SelectorBuilder<'a> {
    fn insert(&mut self, item: u32, labels: &[LabelKey<'a>]) {
        if labels.is_empty() {
            self.always.push(item);
        }
        for label in labels {
            let items = self.labels.entry(*label).or_default();
            if items.last() != Some(&item) {
                items.push(item);
            }
        }
    }

    fn finish(self) -> SelectorIndex {
        let entry = |((name, value), items): (LabelKey<'_>, Vec<u32>)| LabelEntry {
            label: Label { name: name.to_owned(), value: value.to_owned() },
            items,
        };
        SelectorIndex { labels: self.labels.into_iter().map(entry).collect(), always: self.always }
    }
}
