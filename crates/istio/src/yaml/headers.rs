use std::collections::BTreeMap;

use super::check::is_token;
use super::nearest::quoted;
use super::read::At;
use crate::{HeaderChanges, HeaderOperations};

/// What the Host is called among the headers of a request.
const AUTHORITY: &[&str] = &[":authority", "host"];

#[derive(Clone, Copy, Eq, PartialEq)]
enum Side {
    Request,
    Response,
}

/// `headers` of a route or of a destination. A Host, which `set` and `add` may have in a request, is `set` under the
/// name `host`.
pub(super) fn header_operations(at: &At<'_>) -> Option<HeaderOperations> {
    at.mapping(&[], |fields| {
        let request = fields.field("request").and_then(|at| changes(&at, Side::Request));
        let response = fields.field("response").and_then(|at| changes(&at, Side::Response));
        Some(HeaderOperations { request: request.unwrap_or_default(), response: response.unwrap_or_default() })
    })
}

fn changes(at: &At<'_>, side: Side) -> Option<HeaderChanges> {
    at.mapping(&[], |fields| {
        let mut set = fields.field("set").map(|at| values(&at, side)).unwrap_or_default();
        let mut add = fields.field("add").map(|at| values(&at, side)).unwrap_or_default();
        // Istio replaces the Host by either.
        if let Some(host) = add.remove("host")
            && set.insert("host".to_owned(), host).is_some()
        {
            // Istio (`validateAuthorityRewrite`).
            fields.at.error("the authority header cannot be set multiple times; keep one of `set` and `add`");
        }
        let remove = fields.list("remove", |at| {
            let name = at.non_empty_string()?;
            removable(at, &name).then(|| name.to_ascii_lowercase())
        });
        Some(HeaderChanges { set, add, remove: remove.unwrap_or_default() })
    })
}

fn values(at: &At<'_>, side: Side) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for (name, value) in at.entries() {
        let text = value.non_empty_string().and_then(|text| self::value(&value, &text));
        let lower = name.to_ascii_lowercase();
        let authority = side == Side::Request && AUTHORITY.contains(&lower.as_str());
        if !authority && !removable(&value, name) {
            continue;
        }
        let lower = if authority { "host".to_owned() } else { lower };
        if values.insert(lower, text.unwrap_or_default()).is_some() {
            value.error(format!("the header {} is given twice", quoted(name)));
        }
    }
    values
}

/// Whether it is a name that can be removed, and changed in an answer. Istio: "cannot set Host header", "header cannot
/// have ":" prefix".
fn removable(at: &At<'_>, name: &str) -> bool {
    if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
        at.error(format!("the header {} cannot be changed here", quoted(name)));
        return false;
    }
    if !is_token(name) {
        at.error(format!("expected the name of a header, found {}", quoted(name)));
        return false;
    }
    true
}

/// A value in Envoy's form: commands such as `%REQ(x-a)%` stand between percent signs, and `%%` is one.
fn value(at: &At<'_>, text: &str) -> Option<String> {
    // Istio's expression for values: no control characters but the tab.
    if text.chars().any(|c| c.is_ascii_control() && c != '\t') {
        at.error("expected a header's value without control characters");
        return None;
    }
    if !is_balanced(text) {
        at.error(format!(
            "a `%` begins a command of Envoy, and no other one ends it, found {}; write `%%` for a percent sign",
            quoted(text)
        ));
        return None;
    }
    Some(text.to_owned())
}

/// Whether each command has its end. Istio (`validateHeaderValue`) looks into the commands too; which ones there are is
/// for those who carry them out.
fn is_balanced(text: &str) -> bool {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('%') {
        rest = match after.strip_prefix('%') {
            Some(after) => after,
            None => match after.split_once('%') {
                Some((_, after)) => after,
                None => return false,
            },
        };
    }
    true
}
