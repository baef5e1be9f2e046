mod condition;
mod operation;
mod source;

use self::condition::condition;
use self::operation::to_entry;
use self::source::from_entry;
use super::go::parse_bool;
use super::meta::{DRY_RUN, annotation};
use super::nearest::quoted;
use super::read::{At, Mapping};
use super::target::attachment;
use crate::{Action, AuthorizationPolicy, Meta, Rule};

/// Most `rules`, and most elements of `from`, in Istio's schema.
const MAX_RULES: usize = 512;
const ACTIONS: &[(&str, Action)] =
    &[("ALLOW", Action::Allow), ("AUDIT", Action::Audit), ("CUSTOM", Action::Custom), ("DENY", Action::Deny)];

pub(super) fn authorization_policy(document: &At<'_>, meta: Meta, spec: &At<'_>) -> Option<AuthorizationPolicy> {
    spec.mapping(&[], |fields| {
        let (selector, target_refs) = attachment(fields);
        let action = match fields.field("action") {
            Some(action) => action.word(ACTIONS, &[]),
            None => Some(Action::default()),
        };
        let provider = provider(fields, action);
        let action = action.unwrap_or_default();
        let dry_run = dry_run(document, &meta, action);
        let rules = fields.bounded_list("rules", MAX_RULES, |at| rule(at, action));
        // Istio: "… action without `rules` is meaningless as it will never be triggered, add an
        // empty rule `{}` if you want it be triggered for every request". Its check lets
        // `rules: []` pass; that is the same mistake.
        if rules.as_ref().is_none_or(Vec::is_empty) && fields.clean() {
            match action {
                Action::Deny => fields.at.error(
                    "a DENY policy without rules never denies; add the empty rule `{}` to deny every \
                     request",
                ),
                Action::Custom => fields.at.error(
                    "a CUSTOM policy without rules never asks its provider; add the empty rule `{}` to ask it \
                     about every request",
                ),
                Action::Allow | Action::Audit => {}
            }
        }
        Some(AuthorizationPolicy { meta, selector, target_refs, action, provider, dry_run, rules })
    })
}

/// `action` is absent when it is wrong.
fn provider(fields: &mut Mapping<'_>, action: Option<Action>) -> Option<String> {
    let provider = fields.field("provider");
    let name = provider.as_ref().and_then(|at| at.mapping(&[], |fields| fields.required_string("name")));
    match (&provider, action) {
        // Istio: "`provider.name` must not be empty".
        (None, Some(Action::Custom)) => fields.at.error("a CUSTOM policy needs `provider`"),
        // Istio: "`provider` must not be with non CUSTOM action".
        (Some(provider), Some(action @ (Action::Allow | Action::Audit | Action::Deny))) => {
            provider.error(format!("`provider` is for the action CUSTOM, found {}", action.as_str()));
        }
        (Some(_), Some(Action::Custom) | None) | (None, _) => {}
    }
    name
}

/// Istio (`checkDryRunAnnotation`): only a boolean in Go's words, and only with ALLOW and DENY, "the annotation …
/// currently only supports action ALLOW/DENY" even if it is false.
fn dry_run(document: &At<'_>, meta: &Meta, action: Action) -> bool {
    // With another type there is an error already, and no text.
    let (Some(text), Some(at)) = (meta.annotations.get(DRY_RUN), annotation(document, DRY_RUN)) else {
        return false;
    };
    if matches!(action, Action::Audit | Action::Custom) {
        let action = action.as_str();
        at.error(format!("the annotation `{DRY_RUN}` is for the actions ALLOW and DENY, found {action}; remove it"));
    } else if parse_bool(text).is_none() {
        at.error(format!("expected \"true\" or \"false\", found {}", quoted(text)));
    }
    parse_bool(text).unwrap_or_default()
}

fn rule(at: &At<'_>, action: Action) -> Option<Rule> {
    at.mapping(&[], |fields| {
        // Istio: "`from` must not be empty", "`to` must not be empty".
        let from = fields.field("from");
        let from = from.map(|from| {
            from.at_most(MAX_RULES);
            from.elements().iter().filter_map(|at| from_entry(at, action)).collect()
        });
        let to = fields.field("to");
        let to = to.map(|to| to.elements().iter().filter_map(to_entry).collect());
        let when = fields.list("when", |at| condition(at, action)).filter(|when| !when.is_empty());
        Some(Rule { from, to, when })
    })
}
