#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::test_keys::{TestKey, encode, with};

const NOW: u64 = 1_893_456_000;
const ENDPOINT: &str = "https://issuer.bookinfo.example/oauth2/token";

static KEY: LazyLock<TestKey> = LazyLock::new(|| TestKey::new("ES256"));

fn claims() -> Value {
    json!({"jti": "a1", "htm": "POST", "htu": ENDPOINT, "iat": NOW})
}

fn checked(text: &str) -> Result<Proof, String> {
    let endpoints = [ENDPOINT.to_owned(), "https://mtls.bookinfo.example/oauth2/token".to_owned()];
    check(text, "POST", &endpoints, NOW)
}

/// RFC 9449 §4.1, figure 2, and the thumbprint of its key in §6.1, figure 9.
#[test]
fn the_example_of_rfc_9449() {
    let text = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";
    let endpoint = ["https://server.example.com/token".to_owned()];
    let expected = Proof {
        jkt: "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I".to_owned(),
        jti: "-BwC3ESc6acc2lTc".to_owned(),
        until: 1_562_262_616 + PAST_SECONDS + 1,
    };
    assert_eq!(check(text, "POST", &endpoint, 1_562_262_616), Ok(expected));
    assert!(check(text, "GET", &endpoint, 1_562_262_616).is_err());
    assert!(check(text, "POST", &[ENDPOINT.to_owned()], 1_562_262_616).is_err());
    assert!(check(text, "POST", &endpoint, NOW).is_err());
}

#[test]
fn thumbprints_of_the_standards() {
    // RFC 7638 §3.1; members that are not required count for nothing.
    let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
    let rsa = json!({"kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"});
    assert_eq!(thumbprint(&rsa).as_deref(), Some("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"));
    // RFC 8037 appendix A.3.
    let ed = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    assert_eq!(thumbprint(&ed).as_deref(), Some("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"));
    assert_eq!(thumbprint(&json!({"kty": "oct", "k": "AA"})), None);
}

#[test]
fn every_announced_algorithm_works() {
    for name in ALGORITHMS {
        let key = TestKey::new(name);
        let proof = checked(&key.proof(&claims())).unwrap_or_else(|why| panic!("{name}: {why}"));
        assert_eq!(proof.jkt, thumbprint(&key.jwk).unwrap());
    }
}

#[test]
fn claims_that_are_accepted() {
    for (member, value) in [
        ("htu", json!("HTTPS://ISSUER.bookinfo.example:443/oauth2/%74oken?a=b#c")),
        ("htu", json!("https://mtls.bookinfo.example/oauth2/token")),
        ("iat", json!(NOW + FUTURE_SECONDS)),
        ("iat", json!(NOW - PAST_SECONDS)),
        ("iat", json!(f64::from(u32::try_from(NOW).unwrap()) + 0.5)),
        ("jti", json!("j".repeat(MAX_JTI_BYTES))),
        ("nonce", json!("we give none")),
        ("ath", json!("we have no token")),
    ] {
        let claims = with(&claims(), member, value);
        let proof = checked(&KEY.proof(&claims)).unwrap_or_else(|why| panic!("{claims}: {why}"));
        let iat = claims["iat"].as_f64().unwrap().floor();
        #[allow(clippy::cast_precision_loss)]
        let remembered = proof.until as f64 > iat + 300.0;
        assert!(remembered, "{claims}");
    }
}

#[test]
fn claims_that_are_refused() {
    for (member, value, named) in [
        ("htm", json!(null), "htm"),
        ("htm", json!("GET"), "htm"),
        ("htm", json!("post"), "htm"),
        ("htm", json!(["POST"]), "htm"),
        ("htu", json!(null), "htu"),
        ("htu", json!(1), "htu"),
        ("htu", json!(""), "htu"),
        ("htu", json!("/oauth2/token"), "htu"),
        ("htu", json!("https://issuer.bookinfo.example"), "htu"),
        ("htu", json!("https://issuer.bookinfo.example/oauth2/token/"), "htu"),
        ("htu", json!("https://issuer.bookinfo.example/OAUTH2/token"), "htu"),
        ("htu", json!("https://issuer.bookinfo.example:8443/oauth2/token"), "htu"),
        ("htu", json!("http://issuer.bookinfo.example/oauth2/token"), "htu"),
        ("htu", json!("https://attacker.example/oauth2/token"), "htu"),
        ("htu", json!("https://issuer.bookinfo.example@attacker.example/oauth2/token"), "htu"),
        ("htu", json!("https:\\\\issuer.bookinfo.example\\oauth2\\token"), "htu"),
        ("iat", json!(null), "iat is missing"),
        ("iat", json!("1893456000"), "iat is not a time"),
        ("iat", json!(-1), "iat is not a time"),
        ("iat", json!(NOW + FUTURE_SECONDS + 1), "in the future"),
        ("iat", json!(NOW - PAST_SECONDS - 1), "ago"),
        ("iat", json!(u64::MAX - 5000), "in the future"),
        ("jti", json!(null), "jti"),
        ("jti", json!(1), "jti"),
        ("jti", json!(""), "jti"),
        ("jti", json!("j".repeat(MAX_JTI_BYTES + 1)), "jti"),
    ] {
        let claims = with(&claims(), member, value);
        let why = checked(&KEY.proof(&claims)).unwrap_err();
        assert!(why.contains(named), "{claims}: {why}");
    }
}

#[test]
fn headers_that_are_refused() {
    let header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": KEY.jwk});
    assert!(checked(&KEY.jws(&header, &claims())).is_ok());
    let secret = json!({"kty": "oct", "k": encode([1; 32])});
    for (member, value) in [
        ("typ", json!(null)),
        ("typ", json!("JWT")),
        ("typ", json!("DPoP+jwt")),
        ("typ", json!("application/dpop+jwt")),
        ("alg", json!(null)),
        ("alg", json!("none")),
        ("alg", json!("HS256")),
        ("alg", json!("ES384")),
        ("alg", json!("RS256")),
        ("crit", json!(["jwk"])),
        ("b64", json!(false)),
        ("jwk", json!(null)),
        ("jwk", json!("key")),
        ("jwk", json!([KEY.jwk])),
        ("jwk", json!({})),
        ("jwk", secret),
        ("jwk", TestKey::new("ES256").jwk),
        ("jwk", TestKey::new("EdDSA").jwk),
        ("jwk", with(&KEY.jwk, "d", json!("AA"))),
        ("jwk", with(&KEY.jwk, "k", json!("AA"))),
        ("jwk", with(&KEY.jwk, "use", json!("enc"))),
        ("jwk", with(&KEY.jwk, "alg", json!("ES384"))),
        ("jwk", with(&KEY.jwk, "crv", json!("P-384"))),
        ("jwk", with(&KEY.jwk, "x", json!(format!("{}=", KEY.jwk["x"].as_str().unwrap())))),
        ("jwk", with(&KEY.jwk, "y", json!(encode([0; 32])))),
    ] {
        let header = with(&header, member, value);
        assert!(checked(&KEY.jws(&header, &claims())).is_err(), "{header}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn no_text_panics(text in "\\PC{0,80}", header in "\\PC{0,60}", claims in "\\PC{0,60}") {
        let _ = checked(&text);
        let _ = checked(&format!("{}.{}.AA", encode(header), encode(claims)));
    }

    #[test]
    fn no_key_panics(
        member in "(kty|crv|x|y|n|e|d|k|use|alg|kid)",
        value in "(\"\\PC{0,9}\"|\"[A-Z]{2}\"|[0-9]|\\[\\]|null)",
    ) {
        let jwk = with(&KEY.jwk, &member, serde_json::from_str(&value).unwrap_or_default());
        let _ = checked(&KEY.jws(&json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk}), &claims()));
    }

    /// One character changed, added or taken out anywhere.
    #[test]
    fn no_mutation_of_a_proof_is_accepted(
        at in any::<prop::sample::Index>(),
        new in "[A-Za-z0-9_.=+/ -]",
        how in 0..3,
    ) {
        let good = KEY.proof(&claims());
        let at = at.index(good.len());
        let mut changed = good.clone();
        match how {
            0 => changed.replace_range(at..=at, &new),
            1 => changed.insert_str(at, &new),
            _ => changed.replace_range(at..=at, ""),
        }
        prop_assume!(changed != good);
        prop_assert!(checked(&changed).is_err(), "{}", changed);
    }
}
