#![allow(clippy::unwrap_used)]
use authz::Mode;
use authz::jwt::UnverifiedJws;
use serde_json::Value;

use super::*;
use crate::bootstrap::new_signing_secret;

const NOW: u64 = 1_893_456_000;
const LIFE: u64 = MAX_TOKEN_LIFE_SECONDS;

fn key(algorithm: Algorithm, activate_at: Option<u64>, retire_at: Option<u64>) -> SecretKey {
    SecretKey { retire_at, ..SecretKey::generate(algorithm, activate_at).unwrap() }
}

fn read(keys: &[SecretKey]) -> SigningKeys {
    let file = SecretFile { keys: keys.to_vec() };
    SigningKeys::from_secret(file.to_secret().expose()).unwrap()
}

fn signer(keys: &SigningKeys, algorithm: Option<Algorithm>, now: u64) -> Option<&str> {
    keys.signer(algorithm, now).map(|key| key.jwk.kid.as_str())
}

#[test]
fn old_secrets_without_times_are_active_at_once_and_for_ever() {
    let (first, second) = (key(Algorithm::Es256, None, None), key(Algorithm::Es256, None, None));
    let keys = read(&[first.clone(), second.clone()]);
    for now in [0, NOW, u64::MAX] {
        assert_eq!(signer(&keys, None, now), Some(first.kid.as_str()), "the first of equals signs");
        let published: Vec<String> = keys.public(now).into_iter().map(|jwk| jwk.kid).collect();
        assert_eq!(published, [first.kid.clone(), second.kid.clone()]);
    }
    assert_eq!(keys.next_change(0), None);
}

#[test]
fn the_newest_active_key_signs_and_all_that_are_not_retired_are_published() {
    let old = key(Algorithm::Es256, None, Some(NOW + LIFE + 10));
    let new = key(Algorithm::Es256, Some(NOW), None);
    let keys = read(&[old.clone(), new.clone()]);
    for (now, signs, published) in
        [(NOW - 1, &old, 2), (NOW, &new, 2), (NOW + LIFE + 9, &new, 2), (NOW + LIFE + 10, &new, 1)]
    {
        assert_eq!(signer(&keys, None, now), Some(signs.kid.as_str()), "{now}");
        assert_eq!(keys.public(now).len(), published, "{now}");
        assert_eq!(keys.verifying(now).unwrap().len(), published, "{now}");
        assert_eq!(keys.verifying(now).unwrap().has_kid(&old.kid), published == 2, "{now}");
    }
    assert_eq!(keys.next_change(NOW - 5), Some(NOW));
    assert_eq!(keys.next_change(NOW), Some(NOW + LIFE + 10));
    assert_eq!(keys.next_change(NOW + LIFE + 10), None);
}

#[test]
fn no_key_signs_what_outlives_its_publication() {
    let keys = read(&[key(Algorithm::Es256, None, Some(NOW + LIFE))]);
    assert!(signer(&keys, None, NOW - 1).is_some());
    assert!(signer(&keys, None, NOW).is_none());
    assert_eq!(keys.public(NOW).len(), 1);
}

#[test]
fn es256_is_the_default_and_each_algorithm_has_its_own_signer() {
    let rs256 = key(Algorithm::Rs256, None, None);
    let eddsa = key(Algorithm::EdDsa, Some(NOW), None);
    let es256 = key(Algorithm::Es256, Some(NOW), None);
    let keys = read(&[rs256.clone(), eddsa.clone(), es256.clone()]);
    assert_eq!(signer(&keys, None, NOW), Some(es256.kid.as_str()));
    assert_eq!(signer(&keys, None, NOW - 1), Some(rs256.kid.as_str()), "ES256 is not active yet: the first");
    assert_eq!(signer(&keys, Some(Algorithm::Rs256), NOW), Some(rs256.kid.as_str()));
    assert_eq!(signer(&keys, Some(Algorithm::EdDsa), NOW), Some(eddsa.kid.as_str()));
    assert_eq!(signer(&keys, Some(Algorithm::EdDsa), NOW - 1), None);
    assert_eq!(signer(&read(&[rs256]), Some(Algorithm::Es256), NOW), None);
}

#[test]
fn each_algorithm_signs_what_our_own_verifier_takes() {
    let keys = read(&Algorithm::ALL.map(|algorithm| key(algorithm, None, None)));
    let jwks = keys.verifying(NOW).unwrap();
    assert_eq!((jwks.len(), jwks.skipped().len()), (3, 0));
    assert!(Arc::ptr_eq(&jwks, &keys.verifying(NOW + 1).unwrap()), "it is parsed once");
    for algorithm in Algorithm::ALL {
        let key = keys.signer(Some(algorithm), NOW).unwrap();
        let token = key.sign_jws("at+jwt", &json!({"sub": "x"})).unwrap();
        let parsed = UnverifiedJws::parse(&token, Mode::Strict).unwrap();
        assert_eq!(parsed.unverified_kid(), Some(key.jwk.kid.as_str()));
        assert_eq!(parsed.unverified_type(), Some("at+jwt"));
        assert_eq!(parsed.verify(&jwks).unwrap(), br#"{"sub":"x"}"#);
        let (message, signature) = token.rsplit_once('.').unwrap();
        let other = if signature.starts_with('A') { "B" } else { "A" };
        let forged = format!("{message}.{other}{}", &signature[1..]);
        assert!(UnverifiedJws::parse(&forged, Mode::Strict).unwrap().verify(&jwks).is_err());
    }
}

#[test]
fn what_is_written_is_read_back() {
    let file =
        SecretFile { keys: vec![key(Algorithm::Es256, None, None), key(Algorithm::EdDsa, Some(NOW), Some(NOW + 1))] };
    let text = file.to_secret();
    assert_eq!(SecretFile::parse(text.expose()).unwrap().to_secret().expose(), text.expose());
    assert!(SecretFile::is_one(text.expose()) && SecretFile::is_one(r#"{"keys":[]}"#));
    for other in ["", "hunter2", "{}", "[]", r#"{"keys":1}"#] {
        assert!(!SecretFile::is_one(other), "{other}");
    }
}

#[test]
fn bad_secrets_are_refused_without_showing_them() {
    let good: Value = serde_json::from_str(new_signing_secret().unwrap().expose()).unwrap();
    let key = &good["keys"][0];
    let with = |member: &str, value: Value| {
        let mut key = key.clone();
        key[member] = value;
        json!({"keys": [key]}).to_string()
    };
    let times = |activate_at: u64, retire_at: u64| {
        let mut key = key.clone();
        key["activate_at"] = json!(activate_at);
        key["retire_at"] = json!(retire_at);
        json!({"keys": [key]}).to_string()
    };
    assert!(SigningKeys::from_secret(&times(5, 6)).is_ok());
    let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    for (secret, named) in [
        ("not json".to_owned(), "JSON"),
        (json!({"keys": []}).to_string(), "found 0 keys"),
        (json!({"keys": vec![key; MAX_KEYS + 1]}).to_string(), "found 11 keys"),
        (json!({"keys": [key, key]}).to_string(), "keys[1]"),
        (with("alg", json!("HS256")), "ES256"),
        (with("alg", json!("RS256")), "RSA"),
        (with("alg", json!("EdDSA")), "Ed25519"),
        (with("kid", json!("mine")), "thumbprint"),
        (with("activate", json!(1)), "JSON"),
        (with("activate_at", json!("soon")), "JSON"),
        (with("activate_at", json!(-1)), "JSON"),
        (times(5, 5), "retire_at"),
        (with("private_key", json!("hunter2")), "PKCS#8"),
        (with("private_key", json!({"hunter2": 1})), "JSON"),
        (with("private_key", json!(p384.serialize_pem())), "P-256"),
    ] {
        let error = SigningKeys::from_secret(&secret).err().unwrap();
        assert!(error.contains(named), "{error}");
        assert!(!error.contains("hunter2") && !error.contains("MIG"), "{error}");
    }
}
