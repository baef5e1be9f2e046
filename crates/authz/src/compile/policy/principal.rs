//! Peer principals and trust domains under the mesh's trust domain and its aliases: Istio's `MigrateTrustDomain`.

use std::collections::BTreeSet;

use istio::Meta;

use crate::compile::{Compiler, MAX_VALUES};
use crate::compiled::{Patterns, TrustDomains, Values};
use crate::matchers::{Pattern, TrustDomain};

/// Istio's pointer to the mesh's own trust domain, whatever that is called.
const LOCAL: &str = "cluster.local";

impl<'r> Compiler<'r> {
    pub(super) fn principals(&mut self, meta: &Meta, values: &[String], not_values: &[String]) -> Patterns {
        let own = self.trust_domains_of_mesh();
        let mut migrated = |values: &[String]| -> Vec<Pattern> {
            let mut all = Vec::with_capacity(values.len());
            for value in values {
                if self.expanded > MAX_VALUES {
                    break;
                }
                let before = all.len();
                migrate(&own, value, |value| all.push(Pattern::parse(value)));
                self.count_expanded(meta, all.len() - before);
            }
            all
        };
        Values { values: migrated(values), not_values: migrated(not_values) }
    }

    pub(super) fn trust_domains(&mut self, meta: &Meta, values: &[String], not_values: &[String]) -> TrustDomains {
        let own = self.trust_domains_of_mesh();
        let mut expanded = |values: &[String]| -> Vec<TrustDomain> {
            let mut all: BTreeSet<&str> = BTreeSet::new();
            let mut is_own = false;
            for value in values {
                if own.contains(&value.as_str()) {
                    is_own = true;
                } else {
                    all.insert(value);
                }
            }
            all.extend(own.iter().filter(|_| is_own));
            self.count_expanded(meta, all.len());
            all.into_iter().map(TrustDomain::parse).collect()
        };
        Values { values: expanded(values), not_values: expanded(not_values) }
    }

    /// Aliases multiply values; the product is bounded as the values are.
    fn count_expanded(&mut self, meta: &Meta, count: usize) {
        let before = self.expanded;
        self.expanded = before.saturating_add(count);
        if before <= MAX_VALUES && self.expanded > MAX_VALUES {
            self.error(meta, format!("with its trust domain aliases the mesh has more than {MAX_VALUES} principals"));
        }
    }

    /// The mesh's trust domain, then its aliases, each once.
    fn trust_domains_of_mesh(&self) -> Vec<&'r str> {
        let mesh = &self.resources.mesh;
        let mut known = BTreeSet::new();
        let all = std::iter::once(&mesh.trust_domain).chain(&mesh.trust_domain_aliases).map(String::as_str);
        all.filter(|domain| known.insert(*domain)).collect()
    }
}

/// Istio's `ReplaceTrustDomainAliases` for one principal in a mesh whose own trust domains are `own`.
fn migrate(own: &[&str], principal: &str, mut add: impl FnMut(&str)) {
    // "Return the existing principals if the policy doesn't care about the trust domain": not five segments, or `*`
    // for the first.
    let five = principal.split_once('/').filter(|_| principal.split('/').count() == 5);
    let Some((domain, rest)) = five.filter(|(domain, _)| *domain != "*") else { return add(principal) };
    // "or if the trust domain is cluster.local, which is a pointer to the local trust domain and its aliases".
    if domain != LOCAL && !own.iter().any(|own| similar(domain, own)) {
        return add(principal);
    }
    let mut kept = false;
    for own in own {
        // "If the trust domain has a prefix *, keep the principal as-is for the matched trust domain."
        if !ends_as(own, domain) {
            add(&format!("{own}/{rest}"));
        } else if !kept {
            kept = true;
            add(principal);
        }
    }
}

/// Istio's `stringMatch`: either may be the pattern of the other.
fn similar(domain: &str, own: &str) -> bool {
    domain == own
        || own == "*"
        || begins_as(domain, own)
        || begins_as(own, domain)
        || ends_as(domain, own)
        || ends_as(own, domain)
}

fn begins_as(text: &str, pattern: &str) -> bool {
    pattern.strip_suffix('*').is_some_and(|prefix| text.starts_with(prefix))
}

fn ends_as(text: &str, pattern: &str) -> bool {
    pattern.strip_prefix('*').is_some_and(|suffix| text.ends_with(suffix))
}
