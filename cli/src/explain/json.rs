//! The explanation for programs: what `evaluate` says, and the way to it.

use serde_json::{Map, Value, json};

use super::Explained;
use super::text::{VEIL, is_credential_header, veiled};
use crate::evaluate::Answer;

/// One line: an object with the fields of `evaluate`, `hop`, `detail`, `tokens`, `trace`, `nearest` and `hints`.
pub(crate) fn line(explained: &Explained<'_>) -> String {
    let mut object = match serde_json::to_value(Answer::new(&explained.id, explained.decision)) {
        Ok(Value::Object(object)) => object,
        // An answer is an object of texts.
        _ => Map::new(),
    };
    if let Some(Value::Object(headers)) = object.get_mut("upstream_headers") {
        for (name, value) in headers {
            if is_credential_header(name) || explained.key_headers.iter().any(|h| h.eq_ignore_ascii_case(name)) {
                *value = VEIL.into();
            }
        }
    }
    object.insert("hop".to_owned(), json!(explained.verdict.hop));
    object.insert("detail".to_owned(), json!(explained.verdict.detail));
    if let Some(status) = explained.answered {
        object.insert("answered_status".to_owned(), json!(status));
    }
    object.insert("presented".to_owned(), json!(explained.tokens));
    object.insert("trace".to_owned(), json!(explained.trace));
    add_sources(&mut object, explained);
    object.insert("nearest".to_owned(), json!(explained.nearest));
    object.insert("hints".to_owned(), json!(explained.hints));
    let mut value = Value::Object(object);
    veil(&mut value);
    value.to_string()
}

/// Puts file and line beside each policy and each authentication of the trace.
fn add_sources(object: &mut Map<String, Value>, explained: &Explained<'_>) {
    let Some(Value::Array(hops)) = object.get_mut("trace").and_then(|trace| trace.get_mut("hops")) else { return };
    for hop in hops {
        for list in ["policies", "authentication"] {
            let Some(Value::Array(documents)) = hop.get_mut(list) else { continue };
            for document in documents.iter_mut().filter_map(Value::as_object_mut) {
                let text = |name: &str| document.get(name).and_then(Value::as_str).unwrap_or_default();
                let kind = if list == "policies" { "AuthorizationPolicy" } else { text("kind") };
                let place = explained.places.find(kind, text("namespace"), text("name")).map(str::to_owned);
                document.insert("source".to_owned(), json!(place));
            }
        }
    }
}

/// Whatever found its way here: no token and no key leaves.
fn veil(value: &mut Value) {
    match value {
        Value::String(text) => {
            let shown = veiled(text);
            if shown != *text {
                *text = shown;
            }
        }
        Value::Array(list) => list.iter_mut().for_each(veil),
        Value::Object(members) => members.values_mut().for_each(veil),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
