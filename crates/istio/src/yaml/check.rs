//! Grammars that several kinds share.

use std::collections::BTreeSet;

use super::nearest::quoted;
use super::read::At;

/// A name or a namespace of Kubernetes (RFC 1123: lower-case letters, digits, `-`, and `.` in a
/// name).
pub(super) fn kubernetes_name(at: &At<'_>, longest: usize, dots: bool) -> Option<String> {
    let name = at.non_empty_string()?;
    let fits = name.len() <= longest && if dots { name.split('.').all(is_label) } else { is_label(&name) };
    if !fits {
        let dot = if dots { ", `.`" } else { "" };
        at.error(format!(
            "expected a name of at most {longest} lower-case letters, digits, `-`{dot}, found {}",
            quoted(&name)
        ));
        return None;
    }
    Some(name)
}

/// RFC 1123, in lower case; of any length.
pub(super) fn is_label(label: &str) -> bool {
    label.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// The name of an HTTP header (RFC 9110 section 5.6.2: a token).
pub(super) fn header_name(at: &At<'_>) -> Option<String> {
    let name = at.non_empty_string()?;
    if !is_token(&name) {
        at.error(format!("expected the name of a header, found {}", quoted(&name)));
        return None;
    }
    Some(name)
}

/// RFC 9110 section 5.6.2.
pub(super) fn is_token(text: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(token)
}

/// The name of `what`, a label of DNS with letters of both cases.
pub(super) fn dns_label(at: &At<'_>, what: &str) -> Option<String> {
    let name = at.non_empty_string()?;
    if !is_dns_label(&name) {
        at.error(format!("expected the name of {what}, found {}", quoted(&name)));
        return None;
    }
    Some(name)
}

/// A label of DNS with letters of both cases, as Istio takes it for names of subsets, ports and namespaces
/// (`IsDNS1123Label`).
pub(super) fn is_dns_label(text: &str) -> bool {
    text.len() <= 63 && is_label(&text.to_ascii_lowercase())
}

/// A DNS name. `wildcard` also admits `*` and `*.` in front of a name.
pub(super) fn host(at: &At<'_>, wildcard: bool) -> Option<String> {
    let text = at.non_empty_string()?;
    if !is_host(&text, wildcard) {
        let also = if wildcard { " (`*.` may lead it)" } else { "" };
        at.error(format!("expected a host name{also}, found {}", quoted(&text)));
        return None;
    }
    Some(text)
}

pub(super) fn is_host(text: &str, wildcard: bool) -> bool {
    if wildcard && text == "*" {
        return true;
    }
    let name = match text.strip_prefix("*.") {
        Some(name) if wildcard => name,
        _ => text,
    };
    // Letters of both cases and `_` occur in real DNS names; Istio admits them too.
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// Reports each element that is equal to an earlier one.
pub(super) fn distinct<T: Ord>(items: impl IntoIterator<Item = T>, mut report: impl FnMut(&T)) {
    let mut seen = BTreeSet::new();
    for item in items {
        if seen.contains(&item) {
            report(&item);
        } else {
            seen.insert(item);
        }
    }
}
