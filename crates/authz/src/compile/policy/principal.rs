//! Peer principals and trust domains under the mesh's trust domain and its aliases: Istio's `MigrateTrustDomain`.

use istio::Meta;

use crate::compile::{Compiler, MAX_VALUES};
use crate::compiled::{Patterns, TrustDomains, Values};
use crate::matchers::{Pattern, TrustDomain};

/// Istio's pointer to the mesh's own trust domain, whatever that is called.
const LOCAL: &str = "cluster.local";

impl Compiler<'_> {
    pub(super) fn principals(&mut self, meta: &Meta, values: &[String], not_values: &[String]) -> Patterns {
        let mut migrated = |values: &[String]| -> Vec<Pattern> {
            let all: Vec<String> = values.iter().flat_map(|value| self.migrated(value)).collect();
            self.count_expanded(meta, all.len());
            all.iter().map(|value| Pattern::parse(value)).collect()
        };
        Values { values: migrated(values), not_values: migrated(not_values) }
    }

    pub(super) fn trust_domains(&mut self, meta: &Meta, values: &[String], not_values: &[String]) -> TrustDomains {
        let mut expanded = |values: &[String]| -> Vec<TrustDomain> {
            let own = self.trust_domains_of_mesh();
            let mut all: Vec<&str> = Vec::with_capacity(values.len());
            for value in values {
                match own.contains(&value.as_str()) {
                    true => all.extend(&own),
                    false => all.push(value),
                }
            }
            all.sort_unstable();
            all.dedup();
            let parsed: Vec<TrustDomain> = all.iter().map(|value| TrustDomain::parse(value)).collect();
            self.count_expanded(meta, parsed.len());
            parsed
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

    /// The mesh's trust domain, then its aliases.
    fn trust_domains_of_mesh(&self) -> Vec<&str> {
        let mesh = &self.resources.mesh;
        std::iter::once(&mesh.trust_domain).chain(&mesh.trust_domain_aliases).map(String::as_str).collect()
    }

    /// Istio's `ReplaceTrustDomainAliases` for one principal.
    fn migrated(&self, principal: &str) -> Vec<String> {
        let as_is = || vec![principal.to_owned()];
        // "Return the existing principals if the policy doesn't care about the trust domain": not five segments, or
        // `*` for the first.
        let Some((domain, rest)) = principal.split_once('/').filter(|_| principal.split('/').count() == 5) else {
            return as_is();
        };
        if domain == "*" || self.expanded > MAX_VALUES {
            return as_is();
        }
        let own = self.trust_domains_of_mesh();
        // "or if the trust domain is cluster.local, which is a pointer to the local trust domain and its aliases".
        if domain != LOCAL && !own.iter().any(|own| similar(domain, own)) {
            return as_is();
        }
        let mut principals: Vec<String> = Vec::with_capacity(own.len());
        for own in own {
            // "If the trust domain has a prefix *, keep the principal as-is for the matched trust domain."
            let replaced = if ends_as(own, domain) { principal.to_owned() } else { format!("{own}/{rest}") };
            if !principals.contains(&replaced) {
                principals.push(replaced);
            }
        }
        principals
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
