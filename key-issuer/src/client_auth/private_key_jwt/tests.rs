#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::PathBuf;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::test_keys::{TestKey, encode, with};

const NOW: u64 = 1_893_456_000;
const ISSUER: &str = "https://issuer.bookinfo.example";

static KEY: LazyLock<TestKey> = LazyLock::new(|| TestKey::new("ES256"));

fn claims() -> Value {
    json!({"iss": "worker", "sub": "worker", "aud": ISSUER, "exp": NOW + 60, "jti": "a1"})
}

fn checked(claims: &Value) -> Result<Fresh, String> {
    let text = KEY.assertion(claims);
    Assertion::parse(&text)?.check_claims(&[ISSUER.to_owned()], NOW)
}

fn record(key: &TestKey) -> ClientRecord {
    ClientRecord {
        authentication: Authentication::PrivateKeyJwt,
        jwks: Some(key.jwks()),
        ..ClientRecord::new("worker")
    }
}

#[test]
fn claims_that_are_accepted() {
    for (member, value) in [
        ("aud", json!(ISSUER)),
        ("aud", json!([ISSUER])),
        ("exp", json!(NOW - LEEWAY_SECONDS)),
        ("exp", json!(NOW + MAX_LIFE_SECONDS + LEEWAY_SECONDS)),
        ("exp", json!(f64::from(u32::try_from(NOW).unwrap()) + 0.5)),
        ("nbf", json!(NOW + LEEWAY_SECONDS)),
        ("nbf", json!(0)),
        ("iat", json!(NOW + LEEWAY_SECONDS)),
        ("iat", json!(NOW - MAX_LIFE_SECONDS - LEEWAY_SECONDS)),
        ("jti", json!("j".repeat(MAX_JTI_BYTES))),
        ("other", json!({"ignored": true})),
    ] {
        let changed = with(&claims(), member, value);
        let exp = changed["exp"].as_f64().unwrap();
        let fresh = checked(&changed).unwrap_or_else(|why| panic!("{changed}: {why}"));
        // It is remembered for at least as long as it would be accepted.
        #[allow(clippy::cast_precision_loss)]
        let remembered = fresh.until as f64 > exp.floor() + 60.0;
        assert!(remembered && fresh.jti == changed["jti"], "{changed}");
    }
}

#[test]
fn claims_that_are_refused() {
    for (member, value, named) in [
        ("aud", json!(null), "aud"),
        ("aud", json!([]), "aud"),
        ("aud", json!([ISSUER, "https://other.example"]), "aud"),
        ("aud", json!([ISSUER, ISSUER]), "aud"),
        ("aud", json!([[ISSUER]]), "aud"),
        ("aud", json!({"0": ISSUER}), "aud"),
        ("aud", json!(format!("{ISSUER}/")), "aud"),
        ("aud", json!(format!("{ISSUER}/oauth2/token")), "aud"),
        ("aud", json!("issuer.bookinfo.example"), "aud"),
        ("aud", json!("HTTPS://issuer.bookinfo.example"), "aud"),
        ("exp", json!(null), "exp is missing"),
        ("exp", json!("1893456060"), "exp is not a time"),
        ("exp", json!(-1), "exp is not a time"),
        ("exp", json!(1e300), "exp is not a time"),
        ("exp", json!(0), "expired"),
        ("exp", json!(NOW - LEEWAY_SECONDS - 1), "expired"),
        ("exp", json!(NOW + MAX_LIFE_SECONDS + LEEWAY_SECONDS + 1), "exp is more than"),
        ("exp", json!(u64::MAX - 5000), "exp is more than"),
        ("nbf", json!(NOW + LEEWAY_SECONDS + 1), "not valid yet"),
        ("nbf", json!("0"), "nbf is not a time"),
        ("iat", json!(NOW + LEEWAY_SECONDS + 1), "iat is in the future"),
        ("iat", json!(NOW - MAX_LIFE_SECONDS - LEEWAY_SECONDS - 1), "iat is more than"),
        ("iat", json!([0]), "iat is not a time"),
        ("jti", json!(null), "jti"),
        ("jti", json!(""), "jti"),
        ("jti", json!(1), "jti"),
        ("jti", json!("j".repeat(MAX_JTI_BYTES + 1)), "jti"),
        ("iss", json!("other"), "iss and sub"),
        ("iss", json!(null), "iss and sub"),
        ("sub", json!("other"), "iss and sub"),
        ("sub", json!(null), "iss and sub"),
        ("sub", json!(["worker"]), "iss and sub"),
    ] {
        let changed = with(&claims(), member, value);
        let why = checked(&changed).unwrap_err();
        assert!(why.contains(named), "{changed}: {why}");
    }
}

#[test]
fn headers_and_forms_of_assertions() {
    let parsed = |header: &Value| {
        let text = KEY.jws(header, &claims());
        Assertion::parse(&text).map(|assertion| assertion.client_id.clone())
    };
    let header = json!({"alg": "ES256"});
    for (member, value, good) in [
        ("alg", json!("ES256"), true),
        ("typ", json!("JWT"), true),
        ("typ", json!("jwt"), true),
        ("typ", json!("client-authentication+jwt"), true),
        ("x5t", json!("a hint"), true),
        ("typ", json!("at+jwt"), false),
        ("typ", json!("dpop+jwt"), false),
        ("typ", json!(1), false),
        ("alg", json!("HS256"), false),
        ("alg", json!("none"), false),
        ("alg", json!("es256"), false),
        ("alg", json!(null), false),
        ("crit", json!(["exp"]), false),
        ("b64", json!(true), false),
        ("jwk", KEY.jwk.clone(), false),
        ("jku", json!("https://attacker.example/jwks.json"), false),
        ("x5u", json!("https://attacker.example/cert.pem"), false),
        ("kid", json!(1), false),
    ] {
        let header = with(&header, member, value);
        assert_eq!(parsed(&header).is_ok(), good, "{header}: {:?}", parsed(&header));
    }
    let good = KEY.assertion(&claims());
    let twice = r#"{"iss":"worker","sub":"worker","sub":"admin"}"#;
    for text in [
        String::new(),
        "a.b".to_owned(),
        format!("{good}.a"),
        format!("{good}="),
        format!(" {good}"),
        format!("{}.{}.AA", encode(header.to_string()), encode(twice)),
        format!("{}.{}.AA", encode(header.to_string()), encode("[]")),
        KEY.assertion(&with(&claims(), "pad", json!("x".repeat(authz::jwt::MAX_BYTES)))),
    ] {
        assert!(Assertion::parse(&text).is_err(), "{text}");
    }
}

#[test]
fn signatures() {
    let text = KEY.assertion(&claims());
    let assertion = Assertion::parse(&text).unwrap();
    let other = TestKey::new("ES256");
    let named = |kid: &str, key: &TestKey| with(&key.jwk, "kid", json!(kid));
    for (name, jwks, algorithms, expected) in [
        ("its own", KEY.jwks(), vec![], Ok(Ok(()))),
        ("its own and its algorithm", KEY.jwks(), vec!["RS256", "ES256"], Ok(Ok(()))),
        ("another algorithm", KEY.jwks(), vec!["RS256"], Ok(Err(Reason::TokenAlgorithm))),
        ("another key", other.jwks(), vec![], Ok(Err(Reason::TokenSignature))),
        ("two without names", json!({"keys": [KEY.jwk, other.jwk]}), vec![], Ok(Err(Reason::TokenKeyUnknown))),
        ("no key", json!({"keys": []}), vec![], Ok(Err(Reason::TokenKeyUnknown))),
        (
            "another use",
            json!({"keys": [with(&KEY.jwk, "use", json!("enc"))]}),
            vec![],
            Ok(Err(Reason::TokenKeyUnknown)),
        ),
        (
            "another alg",
            json!({"keys": [with(&KEY.jwk, "alg", json!("ES384"))]}),
            vec![],
            Ok(Err(Reason::TokenKeyUnknown)),
        ),
        ("a secret", json!({"keys": [{"kty": "oct", "k": encode([1; 32])}]}), vec![], Err(())),
        ("a private key", json!({"keys": [with(&KEY.jwk, "d", json!("AA"))]}), vec![], Err(())),
        ("one name twice", json!({"keys": [named("a", &KEY), named("a", &other)]}), vec![], Err(())),
        ("no set", json!([]), vec![], Err(())),
    ] {
        let algorithms: Vec<String> = algorithms.into_iter().map(str::to_owned).collect();
        let found = verify(&assertion.jws, Some(&jwks), &algorithms);
        assert_eq!(found.map_err(|_| ()), expected, "{name}");
    }
    assert!(verify(&assertion.jws, None, &[]).is_err());

    // With a name, the key of this name is meant and no other is tried.
    let both = json!({"keys": [named("a", &KEY), named("b", &other)]});
    for (kid, expected) in [("a", Ok(())), ("b", Err(Reason::TokenSignature)), ("c", Err(Reason::TokenKeyUnknown))] {
        let text = KEY.jws(&json!({"alg": "ES256", "kid": kid}), &claims());
        let assertion = Assertion::parse(&text).unwrap();
        assert_eq!(verify(&assertion.jws, Some(&both), &[]), Ok(expected), "{kid}");
    }
}

#[test]
fn every_announced_algorithm_works_and_none_stands_in_for_another() {
    let keys: Vec<TestKey> = ALGORITHMS.iter().map(|name| TestKey::new(name)).collect();
    for key in &keys {
        let text = key.assertion(&claims());
        let assertion = Assertion::parse(&text).unwrap();
        for name in ALGORITHMS {
            let expected = if name == key.algorithm { Ok(()) } else { Err(Reason::TokenAlgorithm) };
            assert_eq!(verify(&assertion.jws, Some(&key.jwks()), &[name.to_owned()]), Ok(expected), "{name}");
        }
        // The signature says one algorithm, the header another one.
        for name in ALGORITHMS.iter().filter(|name| **name != key.algorithm) {
            let text = key.jws(&json!({"alg": name}), &claims());
            let assertion = Assertion::parse(&text).unwrap();
            assert!(verify(&assertion.jws, Some(&key.jwks()), &[]).unwrap().is_err(), "{name} by {}", key.algorithm);
        }
    }
}

#[test]
fn there_is_one_decoy_for_each_algorithm() {
    let decoys = Jwks::parse(DECOY_KEYS, KeyOrigin::Fetched).unwrap();
    assert_eq!((decoys.len(), decoys.skipped().len()), (5, 0));
    for name in ALGORITHMS {
        for kid in [Value::Null, json!("any")] {
            let header = with(&json!({"alg": name}), "kid", kid);
            let text = TestKey::new(name).jws(&header, &claims());
            let assertion = Assertion::parse(&text).unwrap();
            // The signature was computed, and is wrong.
            assert_eq!(assertion.jws.verify(&decoys).unwrap_err().reason, Reason::TokenSignature, "{header}");
        }
    }
}

#[test]
fn clients_that_are_refused_get_one_answer() {
    let text = KEY.assertion(&claims());
    let assertion = Assertion::parse(&text).unwrap();
    let good = record(&KEY);
    assert!(assertion.check_signature(Some(good.clone())).is_ok());
    let disabled = ClientRecord { state: ClientState::Disabled, ..good.clone() };
    let by_secret = ClientRecord { authentication: Authentication::ClientSecret, ..good.clone() };
    let by_certificate = ClientRecord { authentication: Authentication::SelfSignedTlsClientAuth, ..good };
    let mut answers = Vec::new();
    for record in [None, Some(disabled), Some(by_secret), Some(by_certificate), Some(record(&TestKey::new("ES256")))] {
        let refusal = assertion.check_signature(record).unwrap_err();
        answers.push((refusal.status, refusal.response().body));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(answers[0].0, 401);
}

#[expect(clippy::disallowed_methods, reason = "where test data lies is no configuration of a program")]
fn vectors() -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors");
    let folder = PathBuf::from(std::env::var("CAUSEWAY_VECTORS").unwrap_or_else(|_| default.to_owned()));
    if folder.join("wycheproof").is_dir() {
        return Some(folder);
    }
    assert!(std::env::var("CAUSEWAY_REQUIRE_VECTORS").as_deref() != Ok("1"), "no vectors; set CAUSEWAY_VECTORS");
    None
}

fn verifies(text: &str, jwk: &Value) -> bool {
    let mut jwk = jwk.clone();
    for private in ["d", "p", "q", "dp", "dq", "qi"] {
        jwk.as_object_mut().unwrap().remove(private);
    }
    UnverifiedJws::parse(text, Mode::Strict).is_ok_and(|jws| {
        check_header(&jws).is_ok() && matches!(verify(&jws, Some(&json!({"keys": [jwk]})), &[]), Ok(Ok(())))
    })
}

/// The payloads are no claims, so it is the header and the signature that is tested here.
#[test]
fn signatures_of_wycheproof_and_rfc_7515() {
    /// Labels that are wrong for a strict verifier; the vectors' README gives the reasons.
    const REFUSED_ALTHOUGH_VALID: [u64; 6] = [346, 347, 350, 351, 372, 373];
    const ACCEPTED_ALTHOUGH_INVALID: [u64; 2] = [367, 370];
    let Some(folder) = vectors() else { return };
    let read = |path: &str| -> Value { serde_json::from_slice(&std::fs::read(folder.join(path)).unwrap()).unwrap() };
    let file = read("wycheproof/json_web_signature_test.json");
    let (mut seen, mut accepted) = (0, 0);
    for group in file["testGroups"].as_array().unwrap() {
        let jwk = group.get("public").or_else(|| group.get("private")).unwrap();
        for test in group["tests"].as_array().unwrap() {
            let id = test["tcId"].as_u64().unwrap();
            let labelled = match test["result"].as_str().unwrap() {
                "valid" => !REFUSED_ALTHOUGH_VALID.contains(&id),
                _ => ACCEPTED_ALTHOUGH_INVALID.contains(&id),
            };
            // A secret authenticates nobody here.
            let expected = labelled && jwk["kty"] != "oct";
            assert_eq!(verifies(test["jws"].as_str().unwrap(), jwk), expected, "{id}: {}", test["comment"]);
            seen += 1;
            accepted += usize::from(expected);
        }
    }
    assert_eq!(Some(seen), file["numberOfTests"].as_u64());
    assert!(accepted >= 9, "{accepted}");
    for case in read("rfc/rfc7515_examples.json")["cases"].as_array().unwrap() {
        let expected = case["signature_valid"] == true && case["jwk"]["kty"] != "oct";
        let jwk = case.get("jwk").cloned().unwrap_or_else(|| KEY.jwk.clone());
        assert_eq!(verifies(case["jws"].as_str().unwrap(), &jwk), expected, "{}", case["name"]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn no_text_panics(
        text in "\\PC{0,80}",
        parts in "[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,60}",
    ) {
        let _ = Assertion::parse(&text);
        let _ = Assertion::parse(&parts);
    }

    #[test]
    fn no_claims_panic(
        name in "(iss|sub|aud|exp|nbf|iat|jti)",
        value in "(-?[0-9]{1,25}|[0-9]e[0-9]{1,3}|\"\\PC{0,9}\"|\\[\\]|\\{\\}|null|true)",
    ) {
        let claims = format!("{{\"iss\":\"a\",\"sub\":\"a\",\"aud\":\"{ISSUER}\",\"{name}\":{value}}}");
        let text = format!("{}.{}.AA", encode(r#"{"alg":"ES256"}"#), encode(claims));
        if let Ok(assertion) = Assertion::parse(&text) {
            let _ = assertion.check_claims(&[ISSUER.to_owned()], NOW);
        }
    }

    /// One character changed, added or taken out anywhere.
    #[test]
    fn no_mutation_of_an_assertion_is_accepted(
        at in any::<prop::sample::Index>(),
        new in "[A-Za-z0-9_.=+/ -]",
        how in 0..3,
    ) {
        let good = KEY.assertion(&claims());
        let at = at.index(good.len());
        let mut changed = good.clone();
        match how {
            0 => changed.replace_range(at..=at, &new),
            1 => changed.insert_str(at, &new),
            _ => changed.replace_range(at..=at, ""),
        }
        prop_assume!(changed != good);
        if let Ok(assertion) = Assertion::parse(&changed) {
            prop_assert!(verify(&assertion.jws, Some(&KEY.jwks()), &[]).unwrap().is_err(), "{}", changed);
        }
    }
}
