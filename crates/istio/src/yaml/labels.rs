use std::collections::BTreeMap;

use super::check::is_dns_label;
use super::nearest::quoted;
use super::read::At;

/// Labels that a workload has or must have, in Kubernetes' grammar (Istio: `labels.Instance.Validate`).
pub(super) fn labels(at: &At<'_>) -> BTreeMap<String, String> {
    let labels = at.string_map();
    for (name, value) in &labels {
        if !is_name(name) {
            at.error(format!("expected the name of a label, found {}", quoted(name)));
        }
        if !value.is_empty() && !is_qualified(value) {
            at.error(format!("expected the value of a label, found {}", quoted(value)));
        }
    }
    labels
}

fn is_name(text: &str) -> bool {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    let prefix_fits = prefix.is_none_or(|prefix| prefix.len() <= 253 && prefix.split('.').all(is_dns_label));
    prefix_fits && name.len() <= 63 && is_qualified(name)
}

/// Letters, digits, `-`, `_` and `.`, with a letter or a digit at each end.
fn is_qualified(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(inner)
}
