//! Inline key sets, as far as Istio's validation looks at them.

use serde_json::{Map, Value};

/// Istio (`jwk.Parse`): a key set, or a single key; every key is of a known type and complete. Whether a key can verify
/// a token is seen when the policies are compiled.
pub(super) fn check(text: &str) -> Result<(), String> {
    let value: Value = serde_json::from_str(text)
        .map_err(|error| format!("not valid JSON in line {}, column {}", error.line(), error.column()))?;
    let Value::Object(set) = &value else {
        return Err("expected a JSON object".to_owned());
    };
    match set.get("keys") {
        None => check_key(set).map_err(|wrong| format!("expected a list `keys`, or a single key: {wrong}")),
        Some(Value::Array(keys)) => {
            for (index, key) in keys.iter().enumerate() {
                let checked = match key {
                    Value::Object(key) => check_key(key),
                    _ => Err("expected an object".to_owned()),
                };
                checked.map_err(|wrong| format!("keys[{index}]: {wrong}"))?;
            }
            Ok(())
        }
        Some(_) => Err("expected a list `keys`".to_owned()),
    }
}

fn check_key(key: &Map<String, Value>) -> Result<(), String> {
    let required: &[&str] = match key.get("kty").and_then(Value::as_str) {
        Some("EC") => &["crv", "x", "y"],
        Some("OKP") => &["crv", "x"],
        Some("RSA") => &["e", "n"],
        Some("oct") => &["k"],
        _ => return Err("expected `kty` to be `EC`, `OKP`, `RSA` or `oct`".to_owned()),
    };
    let text = |name: &str| key.get(name).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    match required.iter().find(|name| !text(name)) {
        Some(missing) => Err(format!("the member `{missing}` is missing")),
        None => Ok(()),
    }
}
