#![allow(clippy::unwrap_used)]
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// 2030-01-01T00:00:00Z.
const NOW: u64 = 1_893_456_000;
const SERVER: &str = "https://issuer.bookinfo.example";
const STS: &str = "https://sts.eu-central-1.amazonaws.com";
const SIGNED: &str =
    "content-type;host;x-amz-date;x-amz-security-token;x-causeway-csr-sha256;x-causeway-nonce;x-causeway-server-id";

fn authorization(signed: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential=ASIAEXAMPLE/20300101/eu-central-1/sts/aws4_request, SignedHeaders={signed}, Signature={}",
        "0a".repeat(32)
    )
}

fn good() -> Value {
    json!({"method": "POST", "url": format!("{STS}/"), "body": BODY, "headers": {
        "Authorization": authorization(SIGNED),
        "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
        "X-Amz-Date": "20300101T000000Z",
        "X-Amz-Security-Token": "token",
        "x-causeway-server-id": SERVER,
        "x-causeway-nonce": "nonce",
        "x-causeway-csr-sha256": Binding::csr("the csr").sha256,
    }})
}

fn checked_text(text: &str, now: u64) -> Result<(String, Vec<String>, u64), String> {
    let proof: Proof = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let endpoints = ["https://sts.us-east-1.amazonaws.com".to_owned(), STS.to_owned()];
    let checked = proof.check(&endpoints, SERVER, &Binding::csr("the csr"), now)?;
    assert_eq!((checked.nonce, checked.signature), ("nonce", "0a".repeat(32).as_str()));
    let headers = checked.headers.iter().map(|(name, value)| format!("{name}: {}", value.expose())).collect();
    Ok((checked.endpoint.to_owned(), headers, checked.valid_until))
}

fn checked(proof: &Value, now: u64) -> Result<(String, Vec<String>, u64), String> {
    checked_text(&proof.to_string(), now)
}

fn with(member: &str, value: Value) -> Value {
    let mut proof = good();
    proof[member] = value;
    proof
}

fn header(name: &str, value: &str) -> Value {
    let mut proof = good();
    proof["headers"][name] = json!(value);
    proof
}

fn without(name: &str) -> Value {
    let mut proof = good();
    proof["headers"].as_object_mut().unwrap().remove(name);
    proof
}

#[test]
fn a_proof_goes_to_the_configured_endpoint_with_our_own_accept() {
    let (endpoint, headers, until) = checked(&good(), NOW).unwrap();
    assert_eq!((endpoint.as_str(), until), (STS, NOW + 60));
    assert!(headers.contains(&"accept: application/xml".to_owned()), "{headers:?}");
    assert_eq!(headers.len(), 8, "{headers:?}");
    assert!(checked(&with("url", json!(STS)), NOW).is_ok());

    // What the client of the issuer writes itself is checked and not passed on.
    let mut hosted = header("host", "sts.eu-central-1.amazonaws.com");
    let signed = SIGNED.replace("content-type;", "content-length;content-type;");
    hosted["headers"]["content-length"] = json!("43");
    hosted["headers"]["Authorization"] = json!(authorization(&signed));
    let (_, sent, _) = checked(&hosted, NOW).unwrap();
    assert!(!sent.iter().any(|line| line.starts_with("host:") || line.starts_with("content-length:")), "{sent:?}");

    let mut bare = without("Content-Type");
    bare["headers"]["Authorization"] = json!(authorization(&SIGNED.replace("content-type;", "")));
    let (_, sent, _) = checked(&bare, NOW).unwrap();
    assert!(sent.contains(&"content-type: application/x-www-form-urlencoded".to_owned()), "{sent:?}");
}

#[test]
fn a_proof_lives_for_a_minute() {
    for (now, good_then) in [(NOW - 61, false), (NOW - 60, true), (NOW + 60, true), (NOW + 61, false)] {
        assert_eq!(checked(&good(), now).is_ok(), good_then, "{now}");
    }
}

#[test]
fn everything_that_could_be_another_request_is_refused() {
    let resigned = |from: &str, to: &str| header("Authorization", &authorization(&SIGNED.replace(from, to)));
    let credential = |from: &str, to: &str| header("Authorization", &authorization(SIGNED).replace(from, to));
    let cases = vec![
        ("GET", with("method", json!("GET")), "method"),
        ("post", with("method", json!("post")), "method"),
        ("no action", with("body", json!("Version=2011-06-15")), "body"),
        ("no body", with("body", json!("")), "body"),
        ("another action", with("body", json!(BODY.replace("GetCallerIdentity", "GetSessionToken"))), "body"),
        ("two actions", with("body", json!(format!("{BODY}&Action=GetCallerIdentity"))), "body"),
        ("an action more", with("body", json!(format!("Action=AssumeRole&{BODY}"))), "body"),
        ("another order", with("body", json!("Version=2011-06-15&Action=GetCallerIdentity")), "body"),
        ("a parameter more", with("body", json!(format!("{BODY}&x=y"))), "body"),
        ("an escape", with("body", json!(BODY.replace("Get", "%47et"))), "body"),
        ("a line break", with("body", json!(format!("{BODY}\n"))), "body"),
        ("another host", with("url", json!("https://sts.evil.example/")), "URL"),
        ("another Region", with("url", json!("https://sts.eu-west-1.amazonaws.com/")), "URL"),
        ("a host that ends so", with("url", json!("https://evil.example/sts.eu-central-1.amazonaws.com")), "URL"),
        ("a host that begins so", with("url", json!(format!("{STS}.evil.example/"))), "URL"),
        ("user information", with("url", json!("https://sts.eu-central-1.amazonaws.com@evil.example/")), "URL"),
        ("a port", with("url", json!(format!("{STS}:443/"))), "URL"),
        ("in the clear", with("url", json!(STS.replace("https", "http"))), "URL"),
        ("upper case", with("url", json!(STS.to_uppercase())), "URL"),
        ("a query", with("url", json!(format!("{STS}/?Action=AssumeRole"))), "URL"),
        ("a path", with("url", json!(format!("{STS}/x"))), "URL"),
        ("two slashes", with("url", json!(format!("{STS}//"))), "URL"),
        ("dots", with("url", json!(format!("{STS}/."))), "URL"),
        ("a fragment", with("url", json!(format!("{STS}/#x"))), "URL"),
        ("a blank", with("url", json!(format!(" {STS}/"))), "URL"),
        ("another Host", header("host", "sts.evil.example"), "Host"),
        ("no authorization", without("Authorization"), "missing"),
        ("Bearer", header("Authorization", "Bearer x"), "Authorization"),
        ("SigV4A", credential("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), "Authorization"),
        ("no date", without("X-Amz-Date"), "missing"),
        ("no server", without("x-causeway-server-id"), "missing"),
        ("no nonce", without("x-causeway-nonce"), "missing"),
        ("no CSR", without("x-causeway-csr-sha256"), "missing"),
        ("no token", without("X-Amz-Security-Token"), "missing"),
        ("server not signed", resigned(";x-causeway-server-id", ""), "not"),
        ("nonce not signed", resigned(";x-causeway-nonce", ""), "not"),
        ("CSR not signed", resigned(";x-causeway-csr-sha256", ""), "not"),
        ("host not signed", resigned("host;", ""), "not"),
        ("date not signed", resigned("x-amz-date;", ""), "not"),
        ("token not signed", resigned("x-amz-security-token;", ""), "not signed"),
        ("a signed name twice", resigned("host;", "host;host;"), "order"),
        ("out of order", resigned("content-type;host", "host;content-type"), "order"),
        ("upper case in signed", resigned("host", "Host"), "order"),
        ("an empty signed name", resigned("content-type;", ";content-type;"), "order"),
        ("another server", header("x-causeway-server-id", "https://issuer.evil.example"), "another server"),
        ("another CSR", header("x-causeway-csr-sha256", &Binding::csr("another").sha256), "another request"),
        (
            "CSR in upper case",
            header("x-causeway-csr-sha256", &Binding::csr("the csr").sha256.to_uppercase()),
            "another",
        ),
        ("an unknown header", header("x-other", "y"), "not allowed"),
        ("Accept", header("Accept", "application/json"), "not allowed"),
        ("X-Amz-Target", header("X-Amz-Target", "y"), "not allowed"),
        ("method override", header("x-http-method-override", "GET"), "not allowed"),
        ("transfer encoding", header("Transfer-Encoding", "chunked"), "not allowed"),
        ("another binding", header("x-causeway-audience-sha256", "00"), "not allowed"),
        ("a date twice, by case", header("x-amz-date", "20300101T000000Z"), "twice"),
        ("two authorizations, by case", header("authorization", &authorization(SIGNED)), "twice"),
        ("a line break", header("x-causeway-nonce", "nonce\r\nx-evil: y"), "plain text"),
        ("a tab", header("x-causeway-nonce", "non\tce"), "plain text"),
        ("two blanks", header("x-causeway-nonce", "non  ce"), "plain text"),
        ("a blank at the end", header("x-causeway-nonce", "nonce "), "plain text"),
        ("another letter", header("x-causeway-nonce", "noncé"), "plain text"),
        ("an empty value", header("x-causeway-nonce", ""), "plain text"),
        ("a long value", header("x-causeway-nonce", &"n".repeat(MAX_VALUE_BYTES + 1)), "plain text"),
        ("another length", header("content-length", "44"), "not signed"),
        ("JSON", header("Content-Type", "application/json"), "Content-Type"),
        ("another charset", header("Content-Type", "application/x-www-form-urlencoded; charset=utf-7"), "Content-Type"),
        ("no date at all", header("X-Amz-Date", "now"), "no date"),
        ("another service", credential("/sts/", "/lambda/"), "scope"),
        ("another day", credential("/20300101/", "/20300102/"), "scope"),
        ("a short day", credential("/20300101/", "/203001/"), "scope"),
        ("a short signature", credential("0a0a", "0a"), "signature"),
        ("a signature in upper case", credential("0a", "0A"), "signature"),
        ("a second signature", credential("Signature=", "Signature=00, Signature="), "Authorization"),
        ("a number", with("method", json!(1)), "invalid type"),
        ("a member more", with("role", json!("admin")), "unknown field"),
        ("a list of values", with("headers", json!({"Authorization": ["a"]})), "invalid type"),
        ("no headers", with("headers", json!([])), "invalid type"),
    ];
    for (name, proof, named) in cases {
        let error = checked(&proof, NOW).unwrap_err();
        assert!(error.contains(named), "{name}: {error}");
    }
}

#[test]
fn what_json_itself_would_hide_is_refused() {
    let text = good().to_string();
    let twice = text.replacen("\"X-Amz-Date\":", "\"X-Amz-Date\":\"20300101T000000Z\",\"X-Amz-Date\":", 1);
    assert_ne!(twice, text);
    assert!(checked_text(&twice, NOW).unwrap_err().contains("twice"));
    let method = text.replacen("\"method\":", "\"method\":\"POST\",\"method\":", 1);
    assert!(checked_text(&method, NOW).unwrap_err().contains("duplicate field"));
    let many: serde_json::Map<String, Value> = (0..=MAX_HEADERS).map(|i| (format!("x-{i}"), json!("y"))).collect();
    assert!(checked(&with("headers", Value::Object(many)), NOW).unwrap_err().contains("more headers"));
}

#[test]
fn a_proof_is_bound_to_one_use() {
    let a = Binding::audiences(&["a".to_owned(), "b".to_owned()]);
    assert_ne!(a.sha256, Binding::audiences(&["b".to_owned(), "a".to_owned()]).sha256);
    assert_ne!(a.header, Binding::csr("a\nb").header);
    let proof: Proof = serde_json::from_value(good()).unwrap();
    assert!(proof.check(&[STS.to_owned()], SERVER, &a, NOW).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// One header changed at random never makes another proof that passes: what passes is what was there.
    #[test]
    fn a_changed_header_is_refused_or_means_the_same(
        name in prop::sample::select(vec!["Authorization", "X-Amz-Date", "x-causeway-server-id", "x-causeway-csr-sha256"]),
        at in any::<prop::sample::Index>(),
        put in "\\PC",
    ) {
        let proof = good();
        let old = proof["headers"][name].as_str().unwrap().to_owned();
        let mut value = old.clone();
        value.insert_str(at.index(old.len()), &put);
        if let Ok(proof) = serde_json::from_value::<Proof>(header(name, &value))
            && let Ok(checked) = proof.check(&[STS.to_owned()], SERVER, &Binding::csr("the csr"), NOW)
        {
            // The access key and the Region are STS's to judge.
            prop_assert_eq!(name, "Authorization");
            prop_assert_eq!(checked.signature, "0a".repeat(32));
        }
    }
}
