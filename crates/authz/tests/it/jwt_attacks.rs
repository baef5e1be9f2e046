//! Tokens that must not verify, and the few that must.

use authz::jwt::{Expectation, MAX_BYTES, UnverifiedToken};
use authz::{Jwks, KeyOrigin, Reason};

use crate::support::{
    ISSUER, NOW, b64, claims_of, hs256, issuer_jwks, jwks, keys, reader, rsa_components, rsa_public_der, signature,
    token, token_of,
};

fn check_with(token: &str, keys: Option<&Jwks>, now: u64) -> Result<(), Reason> {
    let expected = Expectation { issuer: ISSUER, audiences: &["bookinfo"], keys };
    let verified = UnverifiedToken::parse(token, authz::Mode::Strict).and_then(|token| token.verify(&expected, now));
    verified.map(|_| ()).map_err(|refusal| refusal.reason)
}

fn check(token: &str) -> Result<(), Reason> {
    let keys = Jwks::parse(&issuer_jwks(), KeyOrigin::Fetched).unwrap();
    check_with(token, Some(&keys), NOW)
}

fn claims() -> String {
    claims_of("reader", "reviews.read")
}

/// The good claims with one member put in, or replaced.
fn with_claim(name: &str, value: &str) -> String {
    let mut claims: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&claims()).unwrap();
    claims.remove(name);
    let mut text = serde_json::to_string(&claims).unwrap();
    text.insert_str(1, &format!("\"{name}\":{value},"));
    text
}

#[test]
fn every_algorithm_verifies() {
    let kids = [
        ("RS256", "rsa"),
        ("RS384", "rsa"),
        ("RS512", "rsa"),
        ("PS256", "rsa"),
        ("PS384", "rsa"),
        ("PS512", "rsa"),
        ("ES256", "p256"),
        ("ES384", "p384"),
        ("ES512", "p521"),
        ("EdDSA", "ed25519"),
    ];
    for (algorithm, kid) in kids {
        let good = token_of(algorithm, &format!(r#"{{"alg":"{algorithm}","kid":"{kid}"}}"#), &claims());
        assert_eq!(check(&good), Ok(()), "{algorithm}");
        // A kid is not needed where only one key fits the algorithm.
        let nameless = token_of(algorithm, &format!(r#"{{"alg":"{algorithm}"}}"#), &claims());
        assert_eq!(check(&nameless), Ok(()), "{algorithm} without kid");
        let other_key = token_of(algorithm, &format!(r#"{{"alg":"{algorithm}","kid":"x"}}"#), &claims());
        assert_eq!(check(&other_key), Err(Reason::TokenKeyUnknown), "{algorithm} with another kid");
    }
}

#[test]
fn headers_that_must_not_work() {
    let cases = [
        // No signature, in every spelling.
        (r#"{"alg":"none"}"#, Reason::TokenAlgorithm),
        (r#"{"alg":"None"}"#, Reason::TokenAlgorithm),
        (r#"{"alg":"NONE"}"#, Reason::TokenAlgorithm),
        (r#"{"alg":"nOnE"}"#, Reason::TokenAlgorithm),
        (r#"{"alg":""}"#, Reason::TokenAlgorithm),
        (r#"{"alg":"es256"}"#, Reason::TokenAlgorithm),
        (r#"{"alg":"ES256K","kid":"p256"}"#, Reason::TokenAlgorithm),
        (r#"{"alg":["ES256"],"kid":"p256"}"#, Reason::TokenMalformed),
        (r#"{"alg":null,"kid":"p256"}"#, Reason::TokenMalformed),
        (r#"{"kid":"p256"}"#, Reason::TokenMalformed),
        // The algorithm is the key's, not the token's.
        (r#"{"alg":"HS256","kid":"p256"}"#, Reason::TokenAlgorithm),
        (r#"{"alg":"RS256","kid":"p256"}"#, Reason::TokenAlgorithm),
        (r#"{"alg":"ES384","kid":"p256"}"#, Reason::TokenAlgorithm),
        (r#"{"alg":"EdDSA","kid":"p256"}"#, Reason::TokenAlgorithm),
        (r#"{"alg":"HS256"}"#, Reason::TokenAlgorithm),
        // Extensions.
        (r#"{"alg":"ES256","kid":"p256","crit":["exp"],"exp":1}"#, Reason::TokenMalformed),
        (r#"{"alg":"ES256","kid":"p256","crit":[]}"#, Reason::TokenMalformed),
        (r#"{"alg":"ES256","kid":"p256","crit":null}"#, Reason::TokenMalformed),
        (r#"{"alg":"ES256","kid":"p256","b64":false}"#, Reason::TokenMalformed),
        (r#"{"alg":"ES256","kid":"p256","crit":["b64"],"b64":false}"#, Reason::TokenMalformed),
        // A member twice.
        (r#"{"alg":"ES256","alg":"ES256","kid":"p256"}"#, Reason::TokenMalformed),
        (r#"{"alg":"none","kid":"p256","alg":"ES256"}"#, Reason::TokenMalformed),
        (r#"{"alg":"ES256","kid":"p256","\u006bid":"p256"}"#, Reason::TokenMalformed),
        // Odd kids.
        (r#"{"alg":"ES256","kid":7}"#, Reason::TokenMalformed),
        (r#"{"alg":"ES256","kid":["p256"]}"#, Reason::TokenMalformed),
        (r#"{"alg":"ES256","kid":null}"#, Reason::TokenMalformed),
        (r#"{"alg":"ES256","kid":"../../../../dev/null"}"#, Reason::TokenKeyUnknown),
        (r#"{"alg":"ES256","kid":"' or 1=1 --"}"#, Reason::TokenKeyUnknown),
        (r#"{"alg":"ES256","kid":"p256\u0000"}"#, Reason::TokenKeyUnknown),
        (r#"{"alg":"ES256","kid":""}"#, Reason::TokenKeyUnknown),
        (r#"{"alg":"ES256","kid":"p256","typ":1}"#, Reason::TokenMalformed),
        // Not an object.
        (r#"["ES256"]"#, Reason::TokenMalformed),
        (r#""ES256""#, Reason::TokenMalformed),
        ("", Reason::TokenMalformed),
        (r#"{"alg":"ES256","kid":"p256"} {}"#, Reason::TokenMalformed),
    ];
    for (header, expected) in cases {
        // The signature is right for the message, so that only the header can be the reason.
        assert_eq!(check(&token_of("ES256", header, &claims())), Err(expected), "{header}");
    }
}

#[test]
fn keys_in_the_token_are_ignored() {
    // A token that brings its own key, or says where it is, is judged by the issuer's keys alone.
    let own = crate::support::ec_jwk("own", "P-256", &keys().other);
    let cases = [
        format!(r#"{{"alg":"ES256","jwk":{own}}}"#),
        r#"{"alg":"ES256","jku":"https://evil.example/jwks.json"}"#.to_owned(),
        r#"{"alg":"ES256","x5u":"https://evil.example/cert.pem"}"#.to_owned(),
        r#"{"alg":"ES256","x5c":["AAAA"]}"#.to_owned(),
    ];
    for header in cases {
        let message = format!("{}.{}", b64(&header), b64(claims()));
        let forged = keys().other.sign(&aws_lc_rs::rand::SystemRandom::new(), message.as_bytes()).unwrap();
        assert_eq!(check(&format!("{message}.{}", b64(forged))), Err(Reason::TokenSignature), "{header}");
        // And with the issuer's own signature it is just a token.
        assert_eq!(check(&token_of("ES256", &header, &claims())), Ok(()), "{header}");
    }
}

#[test]
fn a_public_key_is_no_hmac_secret() {
    let (n, _) = rsa_components();
    let (pkcs1, spki) = rsa_public_der();
    let pem = |label: &str, der: &[u8]| {
        let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
        let lines: Vec<_> = body.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n")).into_bytes()
    };
    let secrets = [
        ("n", n.clone()),
        ("n in base64url", b64(&n).into_bytes()),
        ("PKCS #1", pkcs1.clone()),
        ("SPKI", spki.clone()),
        ("PKCS #1 PEM", pem("RSA PUBLIC KEY", &pkcs1)),
        ("SPKI PEM", pem("PUBLIC KEY", &spki)),
        ("nothing", Vec::new()),
    ];
    for header in [r#"{"alg":"HS256","kid":"rsa"}"#, r#"{"alg":"HS256"}"#] {
        let message = format!("{}.{}", b64(header), b64(claims()));
        for (name, secret) in &secrets {
            let forged = format!("{message}.{}", b64(hs256(secret, message.as_bytes())));
            assert_eq!(check(&forged), Err(Reason::TokenAlgorithm), "{name}");
        }
    }
}

#[test]
fn psychic_and_other_signatures() {
    let header = r#"{"alg":"ES256","kid":"p256"}"#;
    let message = format!("{}.{}", b64(header), b64(claims()));
    let good = signature("ES256", &message);
    // The order of P-256.
    let order: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad,
        0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let (r, s) = good.split_at(32);
    let mut der = vec![0x30, 68, 0x02, 32];
    der.extend_from_slice(r);
    der.extend_from_slice(&[0x02, 32]);
    der.extend_from_slice(s);
    let cases = [
        ("zeros", vec![0; 64]),
        ("r zero", [&[0; 32], s].concat()),
        ("s zero", [r, &[0; 32]].concat()),
        ("r is the order", [&order, s].concat()),
        ("s is the order", [r, &order].concat()),
        ("both are the order", [order, order].concat()),
        ("ones", vec![0xff; 64]),
        ("DER", der),
        ("short", good[..63].to_vec()),
        ("long", [good.as_slice(), &[0]].concat()),
        ("doubled", [good.as_slice(), &good].concat()),
        ("swapped", [s, r].concat()),
        ("one byte", vec![0]),
    ];
    for (name, signature) in cases {
        assert_eq!(check(&format!("{message}.{}", b64(signature))), Err(Reason::TokenSignature), "{name}");
    }
    assert_eq!(check(&format!("{message}.{}", b64(good))), Ok(()));
}

#[test]
fn claims_have_types() {
    let cases: Vec<(&str, &str, Result<(), Reason>)> = vec![
        ("exp", "1800000600", Ok(())),
        ("exp", "1800000600.9", Ok(())),
        ("exp", "1.8000006e9", Ok(())),
        ("exp", "18446744073709549568", Ok(())),
        // A double rounds it up to 2^64.
        ("exp", "18446744073709551615", Err(Reason::TokenMalformed)),
        ("exp", "9223372036854775808", Ok(())),
        ("exp", "18446744073709551616", Err(Reason::TokenMalformed)),
        ("exp", "1e400", Err(Reason::TokenMalformed)),
        ("exp", "1e20", Err(Reason::TokenMalformed)),
        ("exp", "-1", Err(Reason::TokenMalformed)),
        ("exp", "-0.5", Err(Reason::TokenMalformed)),
        ("exp", "NaN", Err(Reason::TokenMalformed)),
        ("exp", "\"1800000600\"", Err(Reason::TokenMalformed)),
        ("exp", "null", Err(Reason::TokenMalformed)),
        ("exp", "true", Err(Reason::TokenMalformed)),
        ("exp", "[1800000600]", Err(Reason::TokenMalformed)),
        ("exp", "{}", Err(Reason::TokenMalformed)),
        ("exp", "0", Err(Reason::TokenExpired)),
        // 60 seconds of leeway, and not one more.
        ("exp", "1799999940", Ok(())),
        ("exp", "1799999939", Err(Reason::TokenExpired)),
        ("exp", "1799999939.9", Err(Reason::TokenExpired)),
        ("nbf", "1800000060", Ok(())),
        ("nbf", "1800000061", Err(Reason::TokenNotYetValid)),
        ("nbf", "18446744073709549568", Err(Reason::TokenNotYetValid)),
        ("nbf", "\"1\"", Err(Reason::TokenMalformed)),
        ("nbf", "null", Err(Reason::TokenMalformed)),
        ("iat", "1800009999", Ok(())),
        ("iat", "\"1\"", Err(Reason::TokenMalformed)),
        ("iat", "-1", Err(Reason::TokenMalformed)),
        ("iss", "7", Err(Reason::TokenMalformed)),
        ("iss", "[\"https://issuer.bookinfo.example\"]", Err(Reason::TokenMalformed)),
        ("iss", "\"https://issuer.bookinfo.example/\"", Err(Reason::TokenIssuerUnknown)),
        ("iss", "\"HTTPS://issuer.bookinfo.example\"", Err(Reason::TokenIssuerUnknown)),
        ("iss", "\"\"", Err(Reason::TokenIssuerUnknown)),
        ("sub", "7", Err(Reason::TokenMalformed)),
        ("sub", "null", Err(Reason::TokenMalformed)),
        ("jti", "7", Err(Reason::TokenMalformed)),
        ("aud", "\"bookinfo\"", Ok(())),
        ("aud", "[\"a\",\"bookinfo\"]", Ok(())),
        ("aud", "\"https://bookinfo/\"", Ok(())),
        ("aud", "\"http://bookinfo\"", Ok(())),
        ("aud", "\"bookinfo//\"", Err(Reason::TokenAudience)),
        ("aud", "\"Bookinfo\"", Err(Reason::TokenAudience)),
        ("aud", "\"bookinfo,a\"", Err(Reason::TokenAudience)),
        ("aud", "[]", Err(Reason::TokenAudience)),
        ("aud", "[1]", Err(Reason::TokenMalformed)),
        ("aud", "[\"bookinfo\",1]", Err(Reason::TokenMalformed)),
        ("aud", "{\"bookinfo\":1}", Err(Reason::TokenMalformed)),
        ("aud", "7", Err(Reason::TokenMalformed)),
        ("aud", "null", Err(Reason::TokenMalformed)),
    ];
    for (name, value, expected) in cases {
        assert_eq!(check(&token(&with_claim(name, value))), expected, "{name}: {value}");
    }
    let missing = |name: &str| {
        let mut claims: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&claims()).unwrap();
        claims.remove(name);
        token(&serde_json::to_string(&claims).unwrap())
    };
    assert_eq!(check(&missing("exp")), Err(Reason::TokenMalformed));
    assert_eq!(check(&missing("nbf")), Ok(()));
    assert_eq!(check(&missing("iss")), Err(Reason::TokenIssuerUnknown));
    assert_eq!(check(&missing("aud")), Err(Reason::TokenAudience));
    for twice in ["exp", "aud", "scope"] {
        let claims = claims().replacen('{', &format!("{{\"{twice}\":\"x\","), 1);
        assert_eq!(check(&token(&claims)), Err(Reason::TokenMalformed), "{twice} twice");
    }
}

#[test]
fn texts_that_are_no_token() {
    let good = reader();
    let parts: Vec<&str> = good.split('.').collect();
    let (header, claims, signature) = (parts[0], parts[1], parts[2]);
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep = with_claim("x", &format!("{}{}", "[".repeat(16), "]".repeat(16)));
    let cases = [
        (String::new(), Reason::TokenMalformed),
        (".".to_owned(), Reason::TokenMalformed),
        ("..".to_owned(), Reason::TokenMalformed),
        ("...".to_owned(), Reason::TokenMalformed),
        (header.to_owned(), Reason::TokenMalformed),
        (format!("{header}.{claims}"), Reason::TokenMalformed),
        (format!("{header}.{claims}."), Reason::TokenMalformed),
        (format!(".{good}"), Reason::TokenMalformed),
        (format!("{good}."), Reason::TokenMalformed),
        (format!("{header}..{claims}.{signature}"), Reason::TokenMalformed),
        // A JWE has five parts; nothing in it is looked at.
        (format!("{header}.{claims}.{signature}.{claims}.{signature}"), Reason::TokenMalformed),
        (
            format!("{}.AA.AA.AA.AA", b64(r#"{"alg":"PBES2-HS256+A128KW","p2c":2147483647,"enc":"A128GCM"}"#)),
            Reason::TokenMalformed,
        ),
        (format!("{good}="), Reason::TokenMalformed),
        (format!("{good}=="), Reason::TokenMalformed),
        (format!("{header}=.{claims}.{signature}"), Reason::TokenMalformed),
        (format!(" {good}"), Reason::TokenMalformed),
        (format!("{good} "), Reason::TokenMalformed),
        (format!("{good}\n"), Reason::TokenMalformed),
        (format!("{header}.\n{claims}.{signature}"), Reason::TokenMalformed),
        (good.replace('.', " ."), Reason::TokenMalformed),
        (format!("{good},{good}"), Reason::TokenMalformed),
        (format!("{header}?.{claims}.{signature}"), Reason::TokenMalformed),
        (format!("\u{feff}{good}"), Reason::TokenMalformed),
        (format!("{header}.{}.{signature}", "."), Reason::TokenMalformed),
        (".".repeat(1_000_000), Reason::TokenTooLarge),
        ("a".repeat(1_000_000), Reason::TokenTooLarge),
        (token(&nested), Reason::TokenTooLarge),
        (token(&deep), Reason::TokenMalformed),
        (token("[]"), Reason::TokenMalformed),
        (token("null"), Reason::TokenMalformed),
        (token(""), Reason::TokenMalformed),
    ];
    for (text, expected) in cases {
        let shown: String = text.chars().take(80).collect();
        assert_eq!(check(&text), Err(expected), "{shown}");
    }
}

#[test]
fn the_size_limit_is_exact() {
    let padded = |size: usize| {
        // Three bytes of padding make four of the token; the rest is in the kid-less header's white space.
        let empty = token(&with_claim("pad", "\"\"")).len();
        let mut pad = (size - empty) / 4 * 3;
        loop {
            let token = token(&with_claim("pad", &format!("\"{}\"", "x".repeat(pad))));
            if token.len() >= size {
                return token;
            }
            pad += 1;
        }
    };
    let fits = padded(MAX_BYTES - 2);
    assert!(fits.len() <= MAX_BYTES, "{}", fits.len());
    assert_eq!(check(&fits), Ok(()));
    let mut text = fits.clone();
    while text.len() < MAX_BYTES {
        text.push('A');
    }
    assert_ne!(check(&text).err(), Some(Reason::TokenTooLarge), "at the limit");
    text.push('A');
    assert_eq!(check(&text), Err(Reason::TokenTooLarge), "one past it");
}

#[test]
fn the_order_of_the_checks_is_envoys() {
    // All of issuer, time, audience and signature are wrong: issuer first.
    let wrong = |claims: String| {
        let token = token(&claims);
        let (message, _) = token.rsplit_once('.').unwrap();
        format!("{message}.{}", b64([1; 64]))
    };
    let all = with_claim("iss", "\"x\"").replace(&(NOW + 600).to_string(), "1").replace("\"bookinfo\"", "\"x\"");
    assert_eq!(check(&wrong(all)), Err(Reason::TokenIssuerUnknown));
    let time = with_claim("exp", "1").replace("\"bookinfo\"", "\"x\"");
    assert_eq!(check(&wrong(time)), Err(Reason::TokenExpired));
    assert_eq!(check(&wrong(with_claim("aud", "\"x\""))), Err(Reason::TokenAudience));
    assert_eq!(check(&wrong(claims())), Err(Reason::TokenSignature));
    assert_eq!(check_with(&wrong(claims()), None, NOW), Err(Reason::JwksUnavailable));
}

#[test]
fn no_changed_byte_verifies() {
    let good = reader();
    assert_eq!(check(&good), Ok(()));
    for at in 0..good.len() {
        for with in [b'A', b'_', b'.', b'=', b'%', 0x20] {
            let mut changed = good.clone().into_bytes();
            if changed[at] == with {
                continue;
            }
            changed[at] = with;
            let changed = String::from_utf8(changed).unwrap();
            assert!(check(&changed).is_err(), "byte {at} changed to {with}");
        }
    }
}

#[test]
fn key_sets_that_are_refused() {
    use authz::JwksError;
    let p256 = crate::support::ec_jwk("a", "P-256", &keys().p256);
    let private = p256.replace("\"use\"", "\"d\":\"AAAA\",\"use\"");
    let oct = format!(r#"{{"kty":"oct","kid":"o","alg":"HS256","k":"{}"}}"#, b64([42; 32]));
    let fetched = |document: &str| Jwks::parse(document, KeyOrigin::Fetched).map(|jwks| jwks.len());
    let inline = |document: &str| Jwks::parse(document, KeyOrigin::Inline).map(|jwks| jwks.len());

    assert_eq!(fetched(&jwks(std::slice::from_ref(&p256))), Ok(1));
    assert_eq!(fetched(r#"{"keys":[]}"#), Ok(0));
    assert_eq!(fetched(&jwks(&[p256.clone(), p256.clone()])), Err(JwksError::DuplicateKid("a".to_owned())));
    assert_eq!(fetched(&jwks(&[private])), Err(JwksError::PrivateKey));
    assert_eq!(fetched(&jwks(std::slice::from_ref(&oct))), Err(JwksError::Symmetric));
    assert_eq!(fetched(&jwks(&[p256.clone(), oct.clone()])), Err(JwksError::Symmetric));
    assert_eq!(inline(&jwks(&[p256.clone(), oct.clone()])), Err(JwksError::Symmetric));
    assert_eq!(inline(&jwks(std::slice::from_ref(&oct))), Ok(1));
    for shape in ["{}", "[]", r#"{"keys":{}}"#, r#"{"keys":["x"]}"#, r#"{"keys":null}"#] {
        assert_eq!(fetched(shape), Err(JwksError::Shape), "{shape}");
    }
    for json in ["", "<html>", r#"{"keys":[],"keys":[]}"#] {
        assert!(matches!(fetched(json), Err(JwksError::Json(_))), "{json}");
    }
    let many = |count: usize| {
        let keys: Vec<_> = (0..count).map(|kid| p256.replace("\"a\"", &format!("\"{kid}\""))).collect();
        jwks(&keys)
    };
    assert_eq!(fetched(&many(100)), Ok(100));
    assert_eq!(fetched(&many(101)), Err(JwksError::TooManyKeys(101)));
    let mut padded = jwks(std::slice::from_ref(&p256));
    padded.push_str(&" ".repeat(150_000 - padded.len()));
    assert_eq!(fetched(&padded), Ok(1));
    padded.push(' ');
    assert_eq!(fetched(&padded), Err(JwksError::TooLarge(150_001)));
}

#[test]
fn keys_that_are_skipped() {
    let p256 = crate::support::ec_jwk("a", "P-256", &keys().p256);
    let (n, _) = rsa_components();
    let rsa = |n: &[u8], e: &[u8]| format!(r#"{{"kty":"RSA","kid":"r","n":"{}","e":"{}"}}"#, b64(n), b64(e));
    let mut leading_zero = vec![0];
    leading_zero.extend_from_slice(&n);
    let cases = [
        ("2047 bits", rsa(&[&[0x7f], &n[1..]].concat(), &[1, 0, 1])),
        ("1024 bits", rsa(&n[..128], &[1, 0, 1])),
        ("leading zero", rsa(&leading_zero, &[1, 0, 1])),
        ("exponent 1", rsa(&n, &[1])),
        ("exponent 2", rsa(&n, &[2])),
        ("exponent 17", rsa(&n, &[17])),
        ("no modulus", r#"{"kty":"RSA","kid":"r","e":"AQAB"}"#.to_owned()),
        ("encryption", p256.replace("\"sig\"", "\"enc\"")),
        ("key_ops", p256.replace("\"use\":\"sig\"", "\"key_ops\":[\"encrypt\"]")),
        ("unknown kty", p256.replace("\"EC\"", "\"AKP\"")),
        ("unknown curve", p256.replace("P-256", "secp256k1")),
        ("wrong curve", p256.replace("P-256", "P-384")),
        ("wrong alg", p256.replace("\"use\"", "\"alg\":\"RS256\",\"use\"")),
        ("unknown alg", p256.replace("\"use\"", "\"alg\":\"ES521\",\"use\"")),
        ("padding", p256.replace("\",\"y\"", "=\",\"y\"")),
        ("X25519", crate::support::ed25519_jwk("e").replace("Ed25519", "X25519")),
        ("numeric kid", p256.replace("\"a\"", "7")),
    ];
    for (name, key) in cases {
        let set = Jwks::parse(&jwks(std::slice::from_ref(&key)), KeyOrigin::Fetched).unwrap();
        assert_eq!((set.len(), set.skipped().len()), (0, 1), "{name}: {key}");
    }
    let three = Jwks::parse(&jwks(&[rsa(&n, &[3])]), KeyOrigin::Fetched).unwrap();
    assert_eq!(three.len(), 1, "exponent 3");
}

#[test]
fn a_key_with_an_alg_is_for_that_alg_only() {
    let only_rs256 = crate::support::rsa_jwk("rsa").replace("\"use\"", "\"alg\":\"RS256\",\"use\"");
    let set = Jwks::parse(&jwks(&[only_rs256]), KeyOrigin::Fetched).unwrap();
    for (algorithm, expected) in
        [("RS256", Ok(())), ("RS512", Err(Reason::TokenAlgorithm)), ("PS256", Err(Reason::TokenAlgorithm))]
    {
        let token = token_of(algorithm, &format!(r#"{{"alg":"{algorithm}","kid":"rsa"}}"#), &claims());
        assert_eq!(check_with(&token, Some(&set), NOW), expected, "{algorithm}");
    }
}

#[test]
fn a_kid_is_needed_where_two_keys_fit() {
    let keys = keys();
    let two =
        jwks(&[crate::support::ec_jwk("a", "P-256", &keys.p256), crate::support::ec_jwk("b", "P-256", &keys.other)]);
    let set = Jwks::parse(&two, KeyOrigin::Fetched).unwrap();
    let nameless = token_of("ES256", r#"{"alg":"ES256"}"#, &claims());
    assert_eq!(check_with(&nameless, Some(&set), NOW), Err(Reason::TokenKeyUnknown));
    let named = token_of("ES256", r#"{"alg":"ES256","kid":"a"}"#, &claims());
    assert_eq!(check_with(&named, Some(&set), NOW), Ok(()));
    let other = token_of("ES256", r#"{"alg":"ES256","kid":"b"}"#, &claims());
    assert_eq!(check_with(&other, Some(&set), NOW), Err(Reason::TokenSignature));
    // A key without a name serves any name, as long as it is the only one.
    let bare = crate::support::ec_jwk("a", "P-256", &keys.p256).replace("\"kid\":\"a\",", "");
    let set = Jwks::parse(&jwks(&[bare]), KeyOrigin::Fetched).unwrap();
    assert_eq!(check_with(&named, Some(&set), NOW), Ok(()));
}

#[test]
fn symmetric_tokens_work_with_inline_keys_only() {
    let oct = format!(r#"{{"kty":"oct","kid":"o","k":"{}"}}"#, b64(keys().secret));
    let set = Jwks::parse(&jwks(&[oct]), KeyOrigin::Inline).unwrap();
    let token = token_of("HS256", r#"{"alg":"HS256","kid":"o"}"#, &claims());
    assert_eq!(check_with(&token, Some(&set), NOW), Ok(()));
    assert_eq!(check(&token), Err(Reason::TokenKeyUnknown));
}

/// The same library through jsonwebtoken says the same of every signature, good and damaged, with one key that is parsed
/// once and used again.
#[test]
fn verification_agrees_with_jsonwebtoken() {
    let set = Jwks::parse(&issuer_jwks(), KeyOrigin::Fetched).unwrap();
    let published: jsonwebtoken::jwk::JwkSet = serde_json::from_str(&issuer_jwks()).unwrap();
    // It has no ES512.
    let algorithms = [
        ("RS256", "rsa"),
        ("RS384", "rsa"),
        ("RS512", "rsa"),
        ("PS256", "rsa"),
        ("PS384", "rsa"),
        ("PS512", "rsa"),
        ("ES256", "p256"),
        ("ES384", "p384"),
        ("EdDSA", "ed25519"),
    ];
    for (name, kid) in algorithms {
        let header = format!(r#"{{"alg":"{name}","kid":"{kid}"}}"#);
        let message = format!("{}.{}", b64(&header), b64(claims()));
        let good = signature(name, &message);
        let mut signatures = vec![good.clone(), good[1..].to_vec(), [&good[..], &[0]].concat(), vec![0; good.len()]];
        signatures.extend((0..good.len()).step_by(7).map(|at| {
            let mut damaged = good.clone();
            damaged[at] ^= 1;
            damaged
        }));
        signatures.extend(algorithms.iter().map(|(other, _)| signature(other, &message)));
        let key = jsonwebtoken::DecodingKey::from_jwk(published.find(kid).unwrap()).unwrap();
        let algorithm = name.parse().unwrap();
        for signature in signatures {
            let signature = b64(signature);
            let theirs = jsonwebtoken::crypto::verify(&signature, message.as_bytes(), &key, algorithm).unwrap();
            let ours = check_with(&format!("{message}.{signature}"), Some(&set), NOW);
            assert_eq!(ours, if theirs { Ok(()) } else { Err(Reason::TokenSignature) }, "{name} {signature}");
        }
    }
}
