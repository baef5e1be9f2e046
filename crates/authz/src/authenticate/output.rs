//! What the destination gets to see of a verified caller.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Visible;
use crate::claims::{Claims, Json};
use crate::compiled::{ArchivedClaimToHeader, ArchivedJwtRule};

/// Takes all configured output headers out: "configured output headers are always removed from the request first
/// (anti-spoof)". Envoy does so rule by rule as far as it gets; here they are all removed, whatever comes after.
pub(super) fn remove_outputs(rules: &[&ArchivedJwtRule], visible: &mut Visible) {
    for rule in rules {
        for output in rule.outputs.iter() {
            visible.remove_header(output.header.as_str());
        }
        if let Some(name) = rule.payload_header.as_ref() {
            visible.remove_header(name.as_str());
        }
    }
}

/// Puts in what `rule` makes of a caller: `outputPayloadToHeader`, where the caller has a token, and
/// `outputClaimToHeaders`.
pub(super) fn add_outputs(rule: &ArchivedJwtRule, claims: &Claims, payload: Option<&str>, visible: &mut Visible) {
    let mut add = |name: &str, value: String| {
        visible.headers.push((name.to_owned(), value));
        visible.made.push(name.to_owned());
    };
    // "Payload header = token's own base64url payload, unpadded."
    if let (Some(name), Some(payload)) = (rule.payload_header.as_ref(), payload) {
        add(name.as_str(), payload.to_owned());
    }
    for output in rule.outputs.iter() {
        if let Some(value) = header_value(claims, output) {
            add(output.header.as_str(), value);
        }
    }
}

/// A claim as a header, as Envoy 1.40 writes it: its numbers are doubles, lists and objects are base64 of their JSON, and
/// what is empty, null or not there makes no header.
fn header_value(claims: &Claims, output: &ArchivedClaimToHeader) -> Option<String> {
    let mut value = claims.as_json();
    for name in output.path.iter() {
        value = value.get(name.as_str())?;
    }
    let text = match value {
        Json::String(text) => text.clone(),
        Json::Bool(value) => value.to_string(),
        #[allow(clippy::cast_precision_loss)]
        Json::Unsigned(value) => number(*value as f64),
        Json::Float(value) => number(*value),
        Json::List(_) | Json::Object(_) => STANDARD.encode(json(value)),
        Json::Null => return None,
    };
    // A line feed in a claim must not become a header of its own.
    (!text.is_empty() && text.bytes().all(|byte| byte == b'\t' || !byte.is_ascii_control())).then_some(text)
}

/// "Non-negative integral → plain integer, else `std::to_string`", which is C's "%f".
fn number(value: f64) -> String {
    const END: f64 = 18_446_744_073_709_551_616.0;
    if (0.0..END).contains(&value) && value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.6}") }
}

/// JSON as protobuf writes it: without spaces, integral numbers without a fraction, `<` and `>` escaped.
fn json(value: &Json) -> String {
    let text = |text: &str| {
        // Writing a string cannot fail.
        serde_json::to_string(text).unwrap_or_default().replace('<', "\\u003c").replace('>', "\\u003e")
    };
    match value {
        Json::Null => "null".to_owned(),
        Json::Bool(value) => value.to_string(),
        Json::Unsigned(value) => value.to_string(),
        Json::Float(value) => value.to_string(),
        Json::String(value) => text(value),
        Json::List(values) => format!("[{}]", values.iter().map(json).collect::<Vec<_>>().join(",")),
        Json::Object(members) => {
            let members = members.iter().map(|(name, value)| format!("{}:{}", text(name), json(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
    }
}
