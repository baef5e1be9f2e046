//! What operators are told about the signing keys.

use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::signing_key::{SigningKey, SigningKeys};

/// The body of `GET /v1/signing-keys`:
/// `{"now":…,"rotate_again_at":…,"keys":[{"kid","alg","state","default","activate_at","retire_at"}]}`, times in Unix
/// seconds. `rotate_again_at` is the moment from which on createSecret makes new keys; before, it refuses. A key
/// without a
/// `retire_at` has none yet.
///
/// A key is `published` (known to verifiers, signs later), `active` (signs), `retiring` (signs no more, verifies still)
/// or
/// `retired` (published no more; the next rotation drops it).
pub(crate) fn status(keys: &SigningKeys, now: u64) -> Value {
    let default = keys.signer(None, now).map(|key| key.jwk.kid.as_str());
    let mut described = Vec::new();
    for key in keys.all() {
        let kid = key.jwk.kid.as_str();
        described.push(json!({"kid": kid, "alg": key.algorithm, "state": state(keys, key, now),
            "default": default == Some(kid), "activate_at": key.activate_at, "retire_at": key.retire_at}));
    }
    let rotate_again_at = keys.all().iter().map(|key| key.activate_at).max().unwrap_or(now).max(now);
    json!({"now": now, "rotate_again_at": rotate_again_at, "keys": described})
}

fn state(keys: &SigningKeys, key: &SigningKey, now: u64) -> &'static str {
    let signs = keys.signer(Some(key.algorithm), now).is_some_and(|signer| signer.jwk.kid == key.jwk.kid);
    match () {
        () if !key.is_published(now) => "retired",
        () if signs => "active",
        () if key.activate_at > now => "published",
        () => "retiring",
    }
}

/// The status of the signing keys for people: one line a key. `None` if `status` is no answer of `GET
/// /v1/signing-keys`.
pub fn signing_keys_text(status: &Value) -> Option<String> {
    let now = status.get("now")?.as_u64()?;
    let mut text = String::new();
    for key in status.get("keys")?.as_array()? {
        let member = |name: &str| key.get(name).and_then(Value::as_str);
        let when = |name: &str| key.get(name).and_then(Value::as_u64);
        let (kid, alg, state) = (member("kid")?, member("alg")?, member("state")?);
        let default = if key.get("default")?.as_bool()? { " (default)" } else { "" };
        let activate_at = when("activate_at")?;
        let told = match (state, when("retire_at")) {
            ("published", _) => format!("signs from {}", time(activate_at)),
            ("retired", Some(at)) => format!("retired {}", time(at)),
            (_, Some(at)) => format!("verifies until {}", time(at)),
            (_, None) => "no successor yet".to_owned(),
        };
        writeln!(text, "{alg:<5}  {kid}  {state}{default}: {told}").ok()?;
    }
    match status.get("rotate_again_at")?.as_u64()? {
        at if at <= now => text.push_str("The keys can be rotated now.\n"),
        at => writeln!(text, "The keys can be rotated again from {} on.", time(at)).ok()?,
    }
    Some(text)
}

fn time(unix: u64) -> String {
    // A time that no clock can show is shown as it is.
    UNIX_EPOCH
        .checked_add(Duration::from_secs(unix))
        .filter(|_| unix < 253_402_300_800)
        .map_or_else(|| unix.to_string(), platform::clock::rfc3339)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Algorithm;
    use crate::signing_key::{SecretFile, SecretKey};

    const NOW: u64 = 1_893_456_000;

    #[test]
    fn every_state_is_told() {
        let key = |activate_at: Option<u64>, retire_at: Option<u64>| SecretKey {
            retire_at,
            ..SecretKey::generate(Algorithm::Es256, activate_at).unwrap()
        };
        let keys = vec![
            key(None, Some(NOW)),
            key(Some(NOW - 50), Some(NOW + 3000)),
            key(Some(NOW - 20), Some(NOW + 9000)),
            key(Some(NOW + 60), None),
        ];
        let keys = SigningKeys::from_file(&SecretFile { keys }).unwrap();
        let told = status(&keys, NOW);
        let states: Vec<&str> =
            told["keys"].as_array().unwrap().iter().map(|key| key["state"].as_str().unwrap()).collect();
        assert_eq!(states, ["retired", "retiring", "active", "published"]);
        assert_eq!(told["rotate_again_at"], NOW + 60);
        assert_eq!((&told["keys"][2]["default"], &told["keys"][1]["default"]), (&json!(true), &json!(false)));
        assert_eq!((&told["keys"][1]["retire_at"], &told["keys"][3]["retire_at"]), (&json!(NOW + 3000), &json!(null)));
        assert!(!told.to_string().contains("PRIVATE"));

        let text = signing_keys_text(&told).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("retired: retired 2030-01-01T00:00:00"), "{text}");
        assert!(lines[1].contains("retiring: verifies until 2030-01-01T00:50:00"), "{text}");
        assert!(lines[2].contains("active (default): verifies until"), "{text}");
        assert!(lines[3].contains("published: signs from 2030-01-01T00:01:00"), "{text}");
        assert!(lines[4].contains("rotated again from 2030-01-01T00:01:00"), "{text}");

        let later = status(&keys, NOW + 60);
        assert_eq!(later["rotate_again_at"], NOW + 60);
        let text = signing_keys_text(&later).unwrap();
        assert!(text.contains("active (default): no successor yet") && text.ends_with("rotated now.\n"), "{text}");
        assert_eq!(signing_keys_text(&json!({})), None);
        assert_eq!(signing_keys_text(&json!({"now": 1, "rotate_again_at": 1, "keys": [{}]})), None);
        assert_eq!(time(u64::MAX), u64::MAX.to_string());
    }
}
