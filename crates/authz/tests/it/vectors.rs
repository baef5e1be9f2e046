//! Other people's test vectors for the signature layer. `CAUSEWAY_VECTORS` says where they are.

use std::path::{Path, PathBuf};

use authz::jwt::UnverifiedJws;
use authz::{Decision, Jwks, KeyOrigin, Peer, Request, Target};
use serde_json::Value;

use crate::support::{NOW, World};

/// The folder of the vectors; `None`, with a message, when it is not there and need not be.
#[expect(clippy::disallowed_methods, reason = "where test data lies is no configuration of a program")]
fn folder() -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors");
    let folder = std::env::var("CAUSEWAY_VECTORS").unwrap_or_else(|_| default.to_owned());
    let folder = PathBuf::from(folder);
    if folder.join("wycheproof").is_dir() {
        return Some(folder);
    }
    let message = format!("no test vectors in {}; set CAUSEWAY_VECTORS", folder.display());
    assert!(std::env::var("CAUSEWAY_REQUIRE_VECTORS").as_deref() != Ok("1"), "{message}");
    eprintln!("skipped: {message}");
    None
}

fn read(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Whether `token` verifies with the only key `jwk`, whose private half is taken out as publishing it would.
fn verifies(token: &str, jwk: &Value) -> bool {
    let mut jwk = jwk.clone();
    let members = jwk.as_object_mut().unwrap();
    for private in ["d", "p", "q", "dp", "dq", "qi"] {
        members.remove(private);
    }
    let set = serde_json::json!({ "keys": [jwk] }).to_string();
    let Ok(keys) = Jwks::parse(&set, KeyOrigin::Inline) else { return false };
    UnverifiedJws::parse(token, authz::Mode::Strict).is_ok_and(|jws| jws.verify(&keys).is_ok())
}

#[test]
fn wycheproof_signatures() {
    /// Labels that are wrong for a strict verifier; the vectors' README gives the reasons.
    const REFUSED_ALTHOUGH_VALID: [u64; 6] = [346, 347, 350, 351, 372, 373];
    const ACCEPTED_ALTHOUGH_INVALID: [u64; 2] = [367, 370];
    let Some(folder) = folder() else { return };
    let file = read(&folder.join("wycheproof/json_web_signature_test.json"));
    let mut seen = 0;
    for group in file["testGroups"].as_array().unwrap() {
        let jwk = group.get("public").or_else(|| group.get("private")).unwrap();
        for test in group["tests"].as_array().unwrap() {
            let id = test["tcId"].as_u64().unwrap();
            let expected = match test["result"].as_str().unwrap() {
                "valid" => !REFUSED_ALTHOUGH_VALID.contains(&id),
                "invalid" => ACCEPTED_ALTHOUGH_INVALID.contains(&id),
                other => panic!("{other}"),
            };
            assert_eq!(verifies(test["jws"].as_str().unwrap(), jwk), expected, "{id}: {}", test["comment"]);
            seen += 1;
        }
    }
    assert_eq!(Some(seen), file["numberOfTests"].as_u64());
}

#[test]
fn wycheproof_encryptions_are_no_signed_tokens() {
    let Some(folder) = folder() else { return };
    let file = read(&folder.join("wycheproof/json_web_encryption_test.json"));
    let mut seen = 0;
    for group in file["testGroups"].as_array().unwrap() {
        for test in group["tests"].as_array().unwrap() {
            assert!(
                UnverifiedJws::parse(test["jwe"].as_str().unwrap(), authz::Mode::Strict).is_err(),
                "{}",
                test["tcId"]
            );
            seen += 1;
        }
    }
    assert_eq!(Some(seen), file["numberOfTests"].as_u64());
}

#[test]
fn rfc_7515_examples() {
    let Some(folder) = folder() else { return };
    let file = read(&folder.join("rfc/rfc7515_examples.json"));
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 3);
    for case in cases {
        let token = case["jws"].as_str().unwrap();
        if case["must"] == "reject" {
            assert!(UnverifiedJws::parse(token, authz::Mode::Strict).is_err(), "{}", case["name"]);
        } else {
            assert_eq!(Some(verifies(token, &case["jwk"])), case["signature_valid"].as_bool(), "{}", case["name"]);
            assert!(!verifies(&format!("{token}A"), &case["jwk"]), "{}", case["name"]);
        }
    }
}

#[test]
fn rfc_7520_examples() {
    let Some(folder) = folder() else { return };
    let folder = folder.join("rfc7520-cookbook");
    let accepted = [
        "jws/4_1.rsa_v15_signature.json",
        "jws/4_2.rsa-pss_signature.json",
        "jws/4_3.ecdsa_signature.json",
        "jws/4_4.hmac-sha2_integrity_protection.json",
        "curve25519/jws.json",
    ];
    for name in accepted {
        let example = read(&folder.join(name));
        let token = example["output"]["compact"].as_str().unwrap();
        assert!(verifies(token, &example["input"]["key"]), "{name}");
    }
    let mut refused = vec![
        PathBuf::from("jws/4_5.signature_with_detached_content.json"),
        PathBuf::from("curve25519/ecdh-es.json"),
        PathBuf::from("6.nesting_signatures_and_encryption.json"),
    ];
    for sub in ["jwe", "rfc7797"] {
        for entry in std::fs::read_dir(folder.join(sub)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "json") {
                refused.push(path);
            }
        }
    }
    let mut seen = 0;
    for name in refused {
        let example = read(&folder.join(&name));
        let compact = [&example["output"]["compact"], &example["encrypt"]["output"]["compact"]];
        for token in compact.into_iter().filter_map(Value::as_str) {
            let key = &example["input"]["key"];
            let ok = if key.is_object() {
                verifies(token, key)
            } else {
                UnverifiedJws::parse(token, authz::Mode::Strict).is_ok()
            };
            assert!(!ok, "{}", name.display());
            seen += 1;
        }
    }
    assert!(seen >= 10, "only {seen} refused examples were found");
}

/// Istio's own cases, every suite that is there, in the mode that is for parity with Istio.
#[test]
fn istio_suites() {
    let Some(folder) = folder() else { return };
    let mut suites: Vec<PathBuf> =
        std::fs::read_dir(folder.join("istio")).unwrap().map(|entry| entry.unwrap().path()).collect();
    suites.retain(|suite| suite.join("policies.yaml").is_file() && suite.join("requests.jsonl").is_file());
    suites.sort();
    let (mut seen, mut failures) = (0, Vec::new());
    for suite in suites {
        let name = suite.file_name().unwrap().to_string_lossy().into_owned();
        let requests = std::fs::read_to_string(suite.join("requests.jsonl")).unwrap();
        let world = match istio_world(&suite) {
            Ok(world) => world,
            Err(errors) => {
                failures.push(format!("{name}: does not load: {}", errors.join("; ")));
                continue;
            }
        };
        for line in requests.lines().filter(|line| !line.trim().is_empty()) {
            let case: Value = serde_json::from_str(line).unwrap();
            let (request, target) = request_of(&case);
            let decision = world.decide(&request, &target);
            let expect = &case["expect"];
            let mut wrong = expect["allowed"].as_bool() != Some(decision.is_allowed())
                || expect["status"].as_u64() != Some(u64::from(decision.status()));
            if let Decision::Allow(allow) = &decision {
                for (name, value) in expect["upstream_headers"].as_object().into_iter().flatten() {
                    let lines = allow.upstream_headers().iter().filter(|(n, _)| n == name);
                    let found: Vec<&str> = lines.map(|(_, value)| value.as_str()).collect();
                    let expected: Vec<&str> = value.as_str().filter(|value| !value.is_empty()).into_iter().collect();
                    wrong |= found != expected;
                }
            }
            if wrong {
                failures.push(format!("{name}: {line}: {decision:?}"));
            }
            seen += 1;
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(seen, 72, "the suites of the vectors' README");
}

/// Values of `paths` that Istio accepts and refuses.
#[test]
fn istio_path_templates() {
    let Some(folder) = folder() else { return };
    let cases = std::fs::read_to_string(folder.join("istio/path-templates/cases.jsonl")).unwrap();
    for line in cases.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let parsed = authz::matchers::PathPattern::parse(case["path"].as_str().unwrap());
        assert_eq!(Some(parsed.is_ok()), case["valid"].as_bool(), "{line}");
    }
}

/// The documents of a suite, with its mesh configuration where it has one, in the `istio` mode.
fn istio_world(suite: &Path) -> Result<World, Vec<String>> {
    let file = |name: &str| std::fs::read_to_string(suite.join(name)).ok().map(|text| (name.to_owned(), text));
    let files: Vec<(String, String)> = ["policies.yaml", "mesh.yaml"].into_iter().filter_map(file).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let options = authz::CompileOptions { mode: authz::Mode::Istio, ..Default::default() };
    let policies = crate::support::open_with(&files, &options)?;
    let keys = authz::KeySets::embedded(&policies).map_err(|error| vec![error.to_string()])?;
    Ok(World { policies, keys, now: NOW, ..World::new("") })
}

fn request_of(case: &Value) -> (Request, Target) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pair = |pair: &Value| (text(&pair[0]).to_ascii_lowercase(), text(&pair[1]));
    let labels = case["workload"]["labels"].as_object().into_iter().flatten();
    let request = Request {
        method: text(&case["method"]),
        scheme: "http".to_owned(),
        host: text(&case["host"]),
        path: text(&case["path"]),
        headers: case["headers"].as_array().into_iter().flatten().map(pair).collect(),
        headers_joined: false,
        source: Peer {
            ip: case["source"]["ip"].as_str().map(|ip| ip.parse().unwrap()),
            remote_ip: None,
            principal: case["source"]["principal"].as_str().map(str::to_owned),
        },
        destination_port: case["destination"]["port"].as_u64().and_then(|port| u16::try_from(port).ok()),
        ..Request::default()
    };
    let target = Target::Workload {
        namespace: text(&case["workload"]["namespace"]),
        labels: labels.map(|(name, value)| (name.clone(), text(value))).collect(),
        environment: None,
    };
    (request, target)
}

#[test]
fn istio_normalize() {
    use istio::PathNormalization;
    let Some(folder) = folder() else { return };
    let cases = std::fs::read_to_string(folder.join("istio/normalize/cases.jsonl")).unwrap();
    let mut seen = 0;
    for line in cases.lines().filter(|line| !line.trim().is_empty()) {
        let case: Value = serde_json::from_str(line).unwrap();
        let mode = match case["mode"].as_str().unwrap() {
            "NONE" => PathNormalization::None,
            "BASE" => PathNormalization::Base,
            "MERGE_SLASHES" => PathNormalization::MergeSlashes,
            "DECODE_AND_MERGE_SLASHES" => PathNormalization::DecodeAndMergeSlashes,
            other => panic!("{other}"),
        };
        let found = istio::path::normalize(case["in"].as_str().unwrap(), mode);
        assert_eq!(found.as_deref().unwrap_or("400"), case["out"].as_str().unwrap(), "{line}");
        seen += 1;
    }
    assert_eq!(seen, 173);
}
