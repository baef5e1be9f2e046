//! CUSTOM policies: the extension providers of the mesh are asked, before anything else at a workload.
//!
//! Nobody is asked in here: what the providers say was found out before, or is not known and denies.

use std::collections::{BTreeMap, BTreeSet};

use crate::evaluate::{self, Attributes, CustomMatch};
use crate::gate::ProviderAnswer;
use crate::policies::{Applicable, Policies};
use crate::reason::Reason;
use crate::trace::{ProviderOutcome, ProviderTrace};

/// What the CUSTOM policies of a workload came to.
#[derive(Default)]
pub(crate) struct Asked {
    /// The first provider that does not let the request pass.
    pub(crate) refused: Option<Refused>,
    /// The first rule of a dry-run policy whose provider would not let it pass.
    pub(crate) dry_run: Option<String>,
    /// All of them, in the order in which Istio asks.
    pub(crate) providers: Vec<ProviderTrace>,
}

/// A provider that does not let a request pass.
pub(crate) struct Refused {
    pub(crate) reason: Reason,
    pub(crate) status: u16,
    pub(crate) rule: String,
    pub(crate) detail: String,
}

/// Asks the providers of the CUSTOM policies that match. `attributes` are those of the request as it arrived.
pub(crate) fn ask(
    policies: &Policies,
    applicable: Applicable<'_>,
    attributes: &Attributes<'_>,
    answers: Option<&BTreeMap<String, ProviderAnswer>>,
) -> Asked {
    let mut asked = Asked::default();
    // Most workloads have none.
    if applicable.custom().next().is_none() {
        return asked;
    }
    // Istio, builder.go: the providers of all CUSTOM policies of the workload count, whether they match or not, and
    // dry-run policies as well. More than one "requires PILOT_ENABLE_MULTIPLE_CUSTOM_AUTHZ_PROVIDERS", off by default.
    let named: BTreeSet<_> =
        applicable.custom().map(|(_, policy)| policy.provider.as_ref().map(|index| index.to_native())).collect();
    let several = named.len() > 1;
    for (matched, name) in first_of_each(policies, evaluate::custom(applicable, attributes)) {
        let CustomMatch { provider, dry_run, rule } = matched;
        let provider = policies.provider(provider).filter(|provider| provider.usable);
        let outcome = match (provider, answers.and_then(|answers| answers.get(&name))) {
            // "Generate deny rules for all policies since we can't safely pick one provider."
            _ if several => ProviderOutcome::Several,
            (None, _) => ProviderOutcome::Unusable,
            (Some(_), Some(ProviderAnswer::Allow)) => ProviderOutcome::Allowed,
            (Some(_), Some(ProviderAnswer::Deny)) => ProviderOutcome::Denied,
            (Some(provider), Some(ProviderAnswer::Error)) if provider.fail_open => ProviderOutcome::FailedOpen,
            (Some(_), Some(ProviderAnswer::Error)) => ProviderOutcome::Failed,
            (Some(provider), None) if provider.is_adapter => ProviderOutcome::Adapter,
            (Some(_), None) => ProviderOutcome::NotAsked,
        };
        if !outcome.passes() {
            if dry_run {
                // A dry-run policy is never enforced. (Istio's builder of 1.31-alpha puts its rules among those that
                // Envoy's filter enforces, against its own comment; the releases before it leave them out.)
                asked.dry_run.get_or_insert_with(|| rule.clone());
            } else if asked.refused.is_none() {
                let on_error = provider.map_or(403, |provider| provider.status_on_error.to_native());
                asked.refused = Some(refused(outcome, &name, &rule, on_error));
            }
        }
        asked.providers.push(ProviderTrace { name, rule, dry_run, outcome });
    }
    asked
}

/// Several policies of one provider ask it once, and the providers are asked in the order of their names. Where both
/// kinds of policies match, the enforced one is the one that asks, and the dry-run one would learn the same.
fn first_of_each(policies: &Policies, matched: Vec<CustomMatch>) -> Vec<(CustomMatch, String)> {
    let mut named: Vec<(CustomMatch, String)> = matched
        .into_iter()
        .map(|matched| {
            let name = policies.provider(matched.provider).map_or("", |provider| provider.name.as_str()).to_owned();
            (matched, name)
        })
        .collect();
    // Stable: the first rule of each is the one that is named.
    named.sort_by(|(a, a_name), (b, b_name)| a_name.cmp(b_name).then(a.dry_run.cmp(&b.dry_run)));
    named.dedup_by(|(b, b_name), (a, a_name)| a_name == b_name && a.dry_run == b.dry_run);
    named
}

fn refused(outcome: ProviderOutcome, name: &str, rule: &str, on_error: u16) -> Refused {
    // Istio, extauthz.go: rules that cannot be asked about deny, with "-deny-due-to-bad-CUSTOM-action" behind their
    // names.
    let (reason, status, detail) = match outcome {
        ProviderOutcome::Denied => (Reason::DeniedByProvider, 403, format!("{rule} asks {name}, which denies it")),
        ProviderOutcome::Several => (
            Reason::CustomProviderUnavailable,
            403,
            format!("{rule} matches, and CUSTOM policies of several providers apply to the workload"),
        ),
        ProviderOutcome::Unusable => (
            Reason::CustomProviderUnavailable,
            403,
            format!("{rule} asks {name:?}, which is no external authorizer of the mesh configuration"),
        ),
        ProviderOutcome::NotAsked => {
            (Reason::CustomProviderUnavailable, 403, format!("{rule} asks {name}, which cannot be asked from here"))
        }
        _ => (Reason::CustomProviderUnavailable, on_error, format!("{rule} asks {name}, which could not be had")),
    };
    Refused { reason, status, rule: rule.to_owned(), detail }
}
