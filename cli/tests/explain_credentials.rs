//! `causeway explain` with real tokens and API keys: what is wrong with one, and what would help. Nothing of a credential
//! is ever shown.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::Command;

use authz::ApiKey;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde_json::{Value, json};

const NOW: u64 = 1_800_000_000;
const ISSUER: &str = "https://issuer.bookinfo.example";

struct World {
    issuer: EcdsaKeyPair,
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self {
            issuer: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            folder: tempfile::tempdir().unwrap(),
        };
        // An uncompressed point: a byte, x, y.
        let point = world.issuer.public_key().as_ref();
        let (x, y) = (BASE64URL.encode(&point[1..33]), BASE64URL.encode(&point[33..]));
        let jwks =
            json!({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "k1", "x": x, "y": y}]}).to_string();
        std::fs::write(world.path("jwks.json"), jwks).unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A token of a reader, with members of the header and the claims replaced; `null` leaves one out.
    fn token(&self, header: Value, claims: Value) -> String {
        let mut own_header = json!({"alg": "ES256", "kid": "k1"});
        let mut own_claims = json!({"iss": ISSUER, "sub": "client:reader", "client_id": "reader", "aud": "bookinfo",
            "scope": "reviews.read", "exp": NOW + 600});
        for (own, other) in [(&mut own_header, header), (&mut own_claims, claims)] {
            for (name, value) in other.as_object().unwrap() {
                own[name] = value.clone();
            }
            own.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        }
        let part = |json: &Value| BASE64URL.encode(json.to_string());
        let text = format!("{}.{}", part(&own_header), part(&own_claims));
        let signature = self.issuer.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
        format!("{text}.{}", BASE64URL.encode(signature))
    }

    /// What explain says of a request at the examples' API, as text and as JSON. `change` is made to `access.yaml`.
    fn explain(&self, request: Value, change: impl Fn(String) -> String) -> (String, Value) {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/bookinfo");
        let mut configuration = Vec::new();
        for name in ["access.yaml", "gateway.yaml", "mesh.yaml", "routes.yaml", "services.yaml"] {
            let text = std::fs::read_to_string(examples.join(name)).unwrap();
            let text = if name == "access.yaml" { change(text) } else { text };
            std::fs::write(self.path(name), text).unwrap();
            configuration.push(self.path(name));
        }
        let mut whole = json!({"id": "1", "method": "GET", "scheme": "https", "host": "api.bookinfo.example",
            "path": "/productpage", "source": {"ip": "203.0.113.7"}});
        for (name, value) in request.as_object().unwrap() {
            whole[name] = value.clone();
        }
        let said = |options: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
            command.arg("explain").arg("--config").args(&configuration).args(options);
            command.arg("--jwks").arg(format!("{ISSUER}/jwks.json={}", self.path("jwks.json").display()));
            command.args(["--now", &NOW.to_string(), "--request", &whole.to_string()]);
            let output = command.output().unwrap();
            assert!(output.status.success(), "{output:?}");
            let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
            for secret in secrets(&whole) {
                assert!(!out.contains(&secret) && !err.contains(&secret), "{secret} is shown: {out}{err}");
            }
            out
        };
        (said(&[]), serde_json::from_str(&said(&["--json", "--all"])).unwrap())
    }
}

/// Pieces of the credentials of a request that must not be seen.
fn secrets(request: &Value) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for header in request["headers"].as_array().into_iter().flatten() {
        texts.push(header[1].as_str().unwrap().rsplit(' ').next().unwrap().to_owned());
    }
    texts.extend(request["path"].as_str().unwrap().split_once('=').map(|(_, value)| value.to_owned()));
    texts.iter().flat_map(|text| text.rsplit('.').take(2).map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn bearer(token: &str) -> Value {
    json!({"headers": [["authorization", format!("Bearer {token}")]]})
}

fn key(environment: &str) -> String {
    let mut random = [7; 48];
    random[0] = 1;
    ApiKey::generate(environment, &random).unwrap().text().expose().clone()
}

/// A request with an API key, which the store knows like that.
fn by_key(key: &str, header: Value, state: &str) -> Value {
    let stored = json!({"client_id": "reader", "scope": "reviews.read", "aud": ["bookinfo"], "state": state});
    let mut stored_keys = json!({});
    stored_keys[key] = stored;
    json!({"headers": [header], "api_keys": stored_keys})
}

/// What a scenario must say.
struct Row {
    name: &'static str,
    request: Value,
    /// Status, reason and hop.
    verdict: &'static str,
    /// What else the text must have.
    words: &'static [&'static str],
}

fn check(world: &World, rows: Vec<Row>, change: impl Fn(String) -> String + Copy) {
    for Row { name, request, verdict, words } in rows {
        let (text, json) = world.explain(request, change);
        assert!(text.starts_with(verdict), "{name}: {text}");
        for words in words {
            assert!(text.contains(words), "{name} lacks {words:?}: {text}");
        }
        // The JSON has the same facts.
        assert!(verdict.contains(json["reason"].as_str().unwrap()), "{name}: {json}");
        assert!(verdict.contains(&json["status"].to_string()), "{name}: {json}");
        for list in [&json["nearest"], &json["hints"]] {
            for one in list.as_array().unwrap() {
                let said = one.as_str().or_else(|| one["text"].as_str()).unwrap();
                assert!(text.contains(said), "{name}: {said} is said in JSON alone");
            }
        }
        let bullets = text.matches("\n  • ").count();
        let said = json["nearest"].as_array().unwrap().len() + json["hints"].as_array().unwrap().len();
        assert_eq!(bullets, said, "{name}: {text}{json}");
    }
}

#[test]
fn what_is_wrong_with_a_token_and_what_would_help() {
    let world = World::new();
    let good = world.token(json!({}), json!({}));
    let with = |claims: Value| bearer(&world.token(json!({}), claims));
    let mut parts: Vec<String> = good.split('.').map(str::to_owned).collect();
    parts[1] =
        BASE64URL.encode(json!({"iss": ISSUER, "sub": "client:root", "aud": "bookinfo", "exp": NOW + 600}).to_string());
    let row = |name, request, verdict, words| Row { name, request, verdict, words };
    let rows = vec![
        row(
            "another audience",
            with(json!({"aud": "other"})),
            "denied 403 token_audience at the gateway",
            &[
                "would be allowed if (one of these is enough)\n  • the token were for the audience bookinfo; it is for other\n",
                "\n  • the configuration were changed: add other to audiences of jwtRules[0] of RequestAuthentication",
                "which then accepts tokens made for other",
            ],
        ),
        row(
            "an issuer with a slash",
            with(json!({"iss": format!("{ISSUER}/")})),
            "denied 401 token_issuer_unknown",
            &["it is from https://issuer.bookinfo.example/\n", "differ in a / at the end only"],
        ),
        row(
            "bearer in lower case",
            json!({"headers": [["authorization", format!("bearer {good}")]]}),
            "denied 403 no_credential at the gateway",
            &[
                "would be allowed if\n  • the token in header authorization (after \"bearer \") were in header authorization (after \"Bearer \")\n",
            ],
        ),
        row(
            "expired",
            with(json!({"exp": NOW - 7200})),
            "denied 401 token_expired",
            &[
                "token was valid until 2027-01-15T06:00:00Z, it is 2027-01-15T08:00:00Z\n",
                "would be allowed if\n  • the token in header authorization were a fresh one: this one expired 2 h ago",
            ],
        ),
        row(
            "not yet valid",
            with(json!({"nbf": NOW + 300})),
            "denied 401 token_not_yet_valid",
            &["would be allowed if\n  • it were later: the token is valid in 5 min"],
        ),
        row(
            "an unknown key",
            bearer(&world.token(json!({"kid": "k9"}), json!({}))),
            "denied 401 token_key_unknown",
            &["had the key k9; it has k1 (ES256): the issuer may have rotated"],
        ),
        row(
            "another algorithm",
            bearer(&world.token(json!({"alg": "HS256"}), json!({}))),
            "denied 401 token_algorithm",
            &["the issuer's key set, which has k1 (ES256); it says HS256"],
        ),
        row(
            "tampered with",
            bearer(&parts.join(".")),
            "denied 401 token_signature",
            &["the token was altered or cut on its way"],
        ),
        row(
            "in a header of its own",
            json!({"headers": [["x-token", good]]}),
            "denied 403 no_credential",
            &[
                "would be allowed if\n  • the token in header x-token were in header authorization (after \"Bearer \")\n",
                "header x-token holds a token, and no rule of this workload looks there",
            ],
        ),
        row(
            "in another parameter",
            json!({"path": format!("/productpage?token={good}")}),
            "denied 403 no_credential",
            &["would be allowed if\n  • the token in query parameter token were in header authorization"],
        ),
        row(
            "two in two headers",
            json!({"headers": [["authorization", format!("Bearer {good}")],
                ["authorization", format!("Bearer {}", world.token(json!({}), json!({"sub": "client:b"})))]]}),
            "denied 401 token_malformed",
            &[
                "would be allowed if (one of these is enough)\n  • the token in header authorization (number 1 of 2) were left out\n",
                "the 2 authorization headers are read as one",
            ],
        ),
        row(
            "a good one and an old one",
            json!({"headers": [["authorization", format!("Bearer {good}")]],
                "path": format!("/productpage?access_token={}", world.token(json!({}), json!({"exp": NOW - 3600})))}),
            "denied 401 token_malformed",
            &["would be allowed if\n  • the token in query parameter access_token were left out\n", "found 2"],
        ),
        row(
            "a scope that is missing",
            with(json!({"scope": "other"})),
            "denied 403 denied_no_match at the destination",
            &[
                "closest: ns[bookinfo]-policy[productpage-viewer]-rule[0]",
                "request.auth.claims[scope]: found other, wanted reviews.read",
                "the token's claim scope had reviews.read, for rule 0 of bookinfo/productpage-viewer",
            ],
        ),
        row(
            "none at all",
            json!({}),
            "denied 403 no_credential at the gateway",
            &[
                "a credential were presented (an API key that stands for https://issuer.bookinfo.example in header x-api-key, or a token of",
            ],
        ),
        row(
            "a route in other capitals",
            json!({"path": "/Productpage", "headers": bearer(&good)["headers"]}),
            "denied 403 destination_unknown",
            &[
                "✗ hop 2 of 2, no destination",
                "the path /Productpage and the route for /productpage differ in case only",
            ],
        ),
    ];
    check(&world, rows, |access| access);
}

#[test]
fn what_is_wrong_with_an_api_key_and_what_would_help() {
    let world = World::new();
    let good = key("dev");
    let other = key("prod");
    let mut mistyped = good.clone();
    let last = if mistyped.pop() == Some('x') { 'y' } else { 'x' };
    mistyped.push(last);
    let b = world.token(json!({}), json!({"sub": "client:b", "client_id": "b"}));
    let mut both = by_key(&good, json!(["x-api-key", good]), "active");
    both["headers"].as_array_mut().unwrap().push(json!(["authorization", format!("Bearer {b}")]));
    let row = |name, request, verdict, words| Row { name, request, verdict, words };
    let at = |key: &str| json!(["x-api-key", key]);
    let rows = vec![
        row("good", by_key(&good, at(&good), "active"), "allowed 200 allowed_by_policy", &["environment dev"]),
        row(
            "mistyped",
            by_key(&good, at(&mistyped), "active"),
            "denied 401 api_key_malformed",
            &["what begins like an API key of ours and is none: checksum of the api key is wrong"],
        ),
        row("revoked", by_key(&good, at(&good), "revoked"), "denied 401 api_key_revoked", &["this one was revoked"]),
        row(
            "expired",
            by_key(&good, at(&good), "expired"),
            "denied 401 api_key_expired",
            &["this one is past its time"],
        ),
        row(
            "unknown",
            json!({"headers": [at(&good)]}),
            "denied 401 api_key_unknown",
            &["the key store knew the API key"],
        ),
        row(
            "of another environment",
            by_key(&other, at(&other), "active"),
            "denied 401 api_key_environment",
            &["the API key were one of the environment dev (ApiGateway ", "; it is one of prod\n"],
        ),
        row(
            "as a token",
            by_key(&good, json!(["authorization", format!("Bearer {good}")]), "active"),
            "denied 401 token_malformed",
            &["would be allowed if\n  • the API key in header authorization were in header x-api-key\n"],
        ),
        row(
            "with another client's token",
            both,
            "denied 401 credential_mismatch",
            &[
                "would be allowed if (one of these is enough)\n  • the API key in header x-api-key were left out\n  • the token in header authorization were left out\n",
            ],
        ),
    ];
    check(&world, rows, |access| access);
}

#[test]
fn a_token_that_is_taken_off_is_missed_later() {
    let world = World::new();
    let request = bearer(&world.token(json!({}), json!({})));
    let row = |name, request, verdict, words| Row { name, request, verdict, words };
    let kept = |access: String| access.replace("      forwardOriginalToken: true\n", "");
    let rows = vec![row(
        "at the destination",
        request.clone(),
        "denied 403 denied_no_match at the destination",
        &[
            "would be allowed if\n  • forwardOriginalToken: true stood in jwtRules[0] of RequestAuthentication istio-system/bookinfo-issuer",
        ],
    )];
    check(&world, rows, kept);
    let asked = |access: String| {
        format!(
            "{}---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: header, namespace: bookinfo}}\nspec:\n  \
             selector: {{matchLabels: {{app: details}}}}\n  rules:\n  - when: [{{key: \"request.headers[authorization]\", values: [\"Bearer *\"]}}]\n",
            kept(access)
        )
    };
    let mut at_details = request;
    at_details["workload"] = json!({"namespace": "bookinfo", "labels": {"app": "details"}});
    let rows = vec![row(
        "in a condition",
        at_details,
        "denied 403 denied_no_match at the workload",
        &[
            "would be allowed if\n  • forwardOriginalToken: true stood in jwtRules[0]",
            "the header authorization had a value that the rule names, which are not shown",
            "request.headers[authorization] was there: a verified credential is taken off before policies look",
        ],
    )];
    check(&world, rows, asked);
}
