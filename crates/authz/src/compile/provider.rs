//! The extension providers that CUSTOM policies ask.

use std::collections::{BTreeMap, BTreeSet};

use istio::{Action, Meta};

use super::Compiler;
use crate::compiled::Provider;
use crate::policies::{GATEWAY_NAME, is_gateway};

/// Policies and labels that the search for a workload with two providers may look at.
const MAX_STEPS: usize = 4_000_000;

impl<'a> Compiler<'a> {
    /// The index in [`PolicySet::providers`](crate::compiled::PolicySet::providers) of what a CUSTOM policy asks;
    /// `None` for a policy of another action.
    pub(super) fn provider(&mut self, policy: &istio::AuthorizationPolicy) -> Option<u32> {
        let name = policy.provider.as_deref().filter(|_| policy.action == Action::Custom)?;
        let known = self.providers.iter().position(|provider| provider.name == name);
        let mut named = self.resources.mesh.extension_providers.iter().filter(|provider| provider.name == name);
        let configured = match (named.next(), named.next()) {
            (None, _) => Err(format!(
                "the mesh configuration has no extension provider {name:?}; add it to extensionProviders, as \
                 envoyExtAuthzHttp or envoyExtAuthzGrpc"
            )),
            (Some(_), Some(_)) => Err(format!(
                "the mesh configuration has several extension providers {name:?}; leave one in extensionProviders"
            )),
            (Some(provider), None) => match &provider.authorizer {
                None => Err(format!(
                    "the extension provider {name:?} is no external authorizer; name one that is envoyExtAuthzHttp or \
                     envoyExtAuthzGrpc in extensionProviders of the mesh configuration"
                )),
                Some(_) if !is_name(name) => Err(format!(
                    "Istio refuses the name of the extension provider {name:?}; expected at most 63 lower-case \
                     letters, digits and hyphens, no hyphen first or last"
                )),
                Some(authorizer) => Ok((authorizer, provider.is_adapter)),
            },
        };
        let provider = match configured {
            Ok((authorizer, is_adapter)) => Provider {
                name: name.to_owned(),
                usable: true,
                fail_open: authorizer.fail_open,
                status_on_error: authorizer.status_on_error,
                is_adapter,
            },
            Err(message) => {
                self.complain(&policy.meta, format!("{message}; until then it denies what it matches"));
                Provider {
                    name: name.to_owned(),
                    usable: false,
                    fail_open: false,
                    status_on_error: 403,
                    is_adapter: false,
                }
            }
        };
        let index = known.unwrap_or_else(|| {
            self.providers.push(provider);
            self.providers.len() - 1
        });
        u32::try_from(index).ok()
    }

    /// Istio, builder.go: "multiple CUSTOM authorization providers per workload requires
    /// PILOT_ENABLE_MULTIPLE_CUSTOM_AUTHZ_PROVIDERS", which is off by default; all their rules deny then.
    pub(super) fn check_providers(&mut self) {
        let policies = self.resources.authorization_policies.iter();
        let asking = policies.filter(|policy| policy.action == Action::Custom).flat_map(Asking::of);
        let mut namespaces: BTreeMap<&str, Vec<Asking<'a>>> = BTreeMap::new();
        for asking in asking {
            namespaces.entry(asking.meta.namespace.as_str()).or_default().push(asking);
        }
        let root = namespaces.remove(self.resources.mesh.root_namespace.as_str()).unwrap_or_default();
        // What is attached to a gateway reaches that of its own namespace alone, also from the root namespace.
        let everywhere: Vec<Asking<'a>> = root.iter().filter(|asking| !asking.is_attached).cloned().collect();
        let mut steps = MAX_STEPS;
        let found = if let Some(pair) = two_providers(root.clone(), &mut BTreeSet::new(), &mut steps) {
            vec![pair]
        } else {
            let near = |own: Vec<Asking<'a>>| {
                let all = own.into_iter().chain(everywhere.iter().cloned()).collect();
                two_providers(all, &mut BTreeSet::new(), &mut steps)
            };
            namespaces.into_values().filter_map(near).collect()
        };
        for (one, other) in found {
            let origin = &one.meta.origin;
            let (own, theirs) = (other.provider, one.provider);
            self.complain(
                other.meta,
                format!(
                    "a workload may have this CUSTOM policy, which asks {own:?}, and {}/{} at {origin}, which asks \
                     {theirs:?}: Istio denies what either matches; use one provider for one workload, or two values of \
                     one label in the two selectors",
                    one.meta.namespace, one.meta.name
                ),
            );
        }
    }
}

/// Istio, extauthz.go: "only lowercase letters, digits, and hyphens allowed", at most 63, no hyphen at an end.
fn is_name(name: &str) -> bool {
    let fits = (1..=63).contains(&name.len());
    let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    fits && plain && !name.starts_with('-') && !name.ends_with('-')
}

/// A CUSTOM policy, as far as two of them can be about one workload.
#[derive(Clone)]
struct Asking<'a> {
    meta: &'a Meta,
    provider: &'a str,
    /// Labels that a workload needs to have it.
    labels: BTreeMap<&'a str, &'a str>,
    /// Whether it has a targetRef instead of a selector.
    is_attached: bool,
}

impl<'a> Asking<'a> {
    /// Once for each choice of workloads. What is attached to a Service or a class is for waypoints alone, which are
    /// looked at when a request is there.
    fn of(policy: &'a istio::AuthorizationPolicy) -> Vec<Self> {
        let provider = policy.provider.as_deref().unwrap_or_default();
        let is_attached = !policy.target_refs.is_empty();
        let asking = |labels| Self { meta: &policy.meta, provider, labels, is_attached };
        if policy.target_refs.is_empty() {
            let labels = policy.selector.iter().flat_map(|selector| &selector.match_labels);
            return vec![asking(labels.map(|(name, value)| (name.as_str(), value.as_str())).collect())];
        }
        let gateways = policy.target_refs.iter().filter(|target| is_gateway(&target.group, &target.kind));
        gateways.map(|target| asking(BTreeMap::from([(GATEWAY_NAME, target.name.as_str())]))).collect()
    }
}

/// Two policies of different providers that a workload can have both: no label of one contradicts the other.
///
/// They are told apart by one label after the other, the most used first, rather than two by two. Should that take too
/// long, the first two that are left count as such a pair.
fn two_providers<'a>(
    policies: Vec<Asking<'a>>,
    told_apart: &mut BTreeSet<&'a str>,
    steps: &mut usize,
) -> Option<(Asking<'a>, Asking<'a>)> {
    let first = policies.first()?;
    let other = policies.iter().find(|policy| policy.provider != first.provider)?;
    let mut uses: BTreeMap<&'a str, usize> = BTreeMap::new();
    let names = policies.iter().flat_map(|policy| policy.labels.keys().copied());
    for name in names.filter(|name| !told_apart.contains(name)) {
        *uses.entry(name).or_default() += 1;
    }
    let label = uses.into_iter().max_by_key(|(_, uses)| *uses);
    let taken: usize = policies.iter().map(|policy| 1 + policy.labels.len()).sum();
    let (Some((label, _)), Some(left)) = (label, steps.checked_sub(taken)) else {
        return Some((first.clone(), other.clone()));
    };
    *steps = left;
    let mut anywhere = Vec::new();
    let mut by_value: BTreeMap<&str, Vec<Asking<'a>>> = BTreeMap::new();
    for policy in &policies {
        match policy.labels.get(label) {
            Some(value) => by_value.entry(value).or_default().push(policy.clone()),
            None => anywhere.push(policy.clone()),
        }
    }
    told_apart.insert(label);
    let mut found = None;
    for mut with_value in by_value.into_values() {
        with_value.extend(anywhere.iter().cloned());
        found = two_providers(with_value, told_apart, steps);
        if found.is_some() {
            break;
        }
    }
    told_apart.remove(label);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two by two, ten thousand policies are 50 million pairs.
    #[test]
    fn ten_thousand_policies_are_told_apart_in_few_steps() {
        let texts: Vec<(String, String)> =
            (0..10_000).map(|i| (format!("a{}", i / 2), format!("v{}", i % 2))).collect();
        let meta = Meta {
            name: "p".to_owned(),
            namespace: "ns1".to_owned(),
            namespace_given: true,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            origin: istio::Origin::default(),
        };
        let asking = |provider, labels| Asking { meta: &meta, provider, labels, is_attached: false };
        let many: Vec<_> = texts
            .iter()
            .map(|(app, version)| {
                let provider = if version == "v0" { "a" } else { "b" };
                asking(
                    provider,
                    BTreeMap::from([("app", app.as_str()), ("team", "one"), ("version", version.as_str())]),
                )
            })
            .collect();
        let find = |last: &[(&'static str, &'static str)]| {
            let mut policies = many.clone();
            policies.push(asking("b", last.iter().copied().collect()));
            let mut steps = MAX_STEPS;
            let found = two_providers(policies, &mut BTreeSet::new(), &mut steps);
            assert!(MAX_STEPS - steps < 500_000, "{last:?} took {}", MAX_STEPS - steps);
            found.map(|(one, other)| [one.provider, other.provider])
        };
        assert_eq!(find(&[("app", "a7"), ("version", "v2")]), None);
        assert_eq!(find(&[("version", "v0"), ("team", "two")]), None);
        assert_eq!(find(&[("app", "a7"), ("version", "v1")]), None);
        assert!(find(&[("app", "a7")]).is_some_and(|[one, other]| one != other));
        assert!(find(&[]).is_some_and(|[one, other]| one != other));
        // Out of steps, what is left counts as a pair.
        assert!(two_providers(many.clone(), &mut BTreeSet::new(), &mut 10).is_some());
        assert!(two_providers(many.clone(), &mut BTreeSet::new(), &mut { MAX_STEPS }).is_none());
    }
}
