//! `causeway evaluate`, sentence by sentence of its contract.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use authz::api_key::ApiKey;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde_json::{Value, json};
use tempfile::TempDir;

const NOW: u64 = 1_795_176_000;
const SECRET: &[u8] = b"a secret of thirty-two bytes, or";

/// One workload `b` in `ns1` with everything that the contract speaks of.
const POLICIES: &str = r#"
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: { name: tokens, namespace: ns1 }
spec:
  jwtRules:
  - issuer: iss
    jwks: '{"keys":[{"kty":"oct","alg":"HS256","k":"SECRET"}]}'
    forwardOriginalToken: false
    outputClaimToHeaders:
    - { header: x-jwt-sub, claim: sub }
---
apiVersion: causeway.dev/v1alpha1
kind: ApiKeyAuthentication
metadata: { name: keys, namespace: ns1 }
spec: { issuer: iss }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: b, namespace: ns1 }
spec:
  selector: { matchLabels: { app: b } }
  rules:
  - to: [{ operation: { paths: ["/open"] } }]
  - from: [{ source: { requestPrincipals: ["iss/*"] } }]
  - from: [{ source: { principals: ["cluster.local/ns/ns1/sa/a"] } }]
    to: [{ operation: { paths: ["/mesh"] } }]
  - to: [{ operation: { paths: ["/port"], ports: ["8080"] } }]
"#;

fn policies() -> String {
    POLICIES.replace("SECRET", &BASE64URL.encode(SECRET))
}

fn token(claims: &Value) -> String {
    jws(&json!({"alg": "HS256"}), claims)
}

fn jws(header: &Value, payload: &Value) -> String {
    let part = |value: &Value| BASE64URL.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(payload));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET);
    let signature = BASE64URL.encode(aws_lc_rs::hmac::sign(&key, message.as_bytes()));
    format!("{message}.{signature}")
}

fn bearer(claims: &Value) -> Value {
    json!([["Authorization", format!("Bearer {}", token(claims))]])
}

/// A folder with a file `name` of `text`, and the file.
fn file(name: &str, text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

fn start(config: &[&Path], more: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
    command.arg("evaluate").arg("--config").args(config).args(["--requests", "-", "--now", &NOW.to_string()]);
    command.args(more).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Gives `lines` to a run with `config` and `more` arguments.
fn run(config: &[&Path], more: &[&str], lines: &str) -> Output {
    let mut child = start(config, more);
    let mut input = child.stdin.take().unwrap();
    let lines = lines.to_owned();
    // A refused configuration ends the program before it has read anything.
    let writer = std::thread::spawn(move || drop(input.write_all(lines.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn answers(output: &Output) -> Vec<Value> {
    String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The answers to `requests`, all of which are well-formed.
fn decide(config: &str, more: &[&str], requests: &[Value]) -> Vec<Value> {
    let (_folder, path) = file("policies.yaml", config);
    let lines: Vec<String> = requests.iter().map(Value::to_string).collect();
    let output = run(&[&path], more, &lines.join("\n"));
    assert_eq!(output.status.code(), Some(0), "{} {:?}", stderr(&output), answers(&output));
    let answers = answers(&output);
    assert_eq!(answers.len(), requests.len());
    answers
}

/// A request to `b` for `path`, with `more` members.
fn request(path: &str, more: Value) -> Value {
    let mut request = json!({"id": path, "method": "GET", "host": "b.ns1", "path": path,
        "workload": {"namespace": "ns1", "labels": {"app": "b"}}});
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    request
}

fn decide_one(request: Value) -> Value {
    decide(&policies(), &[], &[request]).remove(0)
}

#[test]
fn an_answer_has_exactly_the_fields_of_the_contract() {
    let claims = json!({"iss": "iss", "sub": "sub", "exp": NOW + 60});
    let mut headers = bearer(&claims);
    headers.as_array_mut().unwrap().extend([json!(["X-Twice", "1"]), json!(["x-twice", "2"])]);
    let (_folder, path) = file("policies.yaml", &policies());
    let output = run(&[&path], &[], &request("/a?x=1", json!({"headers": headers})).to_string());
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        concat!(
            r#"{"id":"/a?x=1","allowed":true,"status":200,"reason":"allowed_by_policy","#,
            r#""policy":"ns[ns1]-policy[b]-rule[1]","principal":"iss/sub","#,
            r#""upstream_headers":{"x-jwt-sub":"sub","x-twice":"1,2"}}"#,
            "\n"
        ),
        "the token is taken out, the claim put in, names are in lower case and lines of one name are joined"
    );
    assert_eq!(stderr(&output), "");
}

#[test]
fn a_denial_exits_with_0_and_shows_the_status_of_envoy() {
    let rows = [
        (request("/", json!({})), 403, "no_credential"),
        (request("/", json!({"headers": [["authorization", "Bearer x.y"]]})), 401, "token_malformed"),
        (request("/", json!({"headers": bearer(&json!({"iss": "iss", "exp": NOW - 61}))})), 401, "token_expired"),
        (request("/mesh", json!({"source": {"principal": "cluster.local/ns/ns1/sa/b"}})), 403, "denied_no_match"),
    ];
    let requests: Vec<Value> = rows.iter().map(|(request, ..)| request.clone()).collect();
    for (answer, (request, status, reason)) in decide(&policies(), &[], &requests).iter().zip(&rows) {
        assert_eq!(
            (&answer["allowed"], &answer["status"], &answer["reason"]),
            (&json!(false), &json!(status), &json!(reason)),
            "{request}"
        );
        assert_eq!((&answer["policy"], &answer["principal"]), (&Value::Null, &Value::Null), "{request}");
        assert_eq!(answer["upstream_headers"], json!({}), "nothing goes upstream");
    }
}

#[test]
fn answers_come_in_the_order_of_the_requests() {
    let requests: Vec<Value> =
        (0..500).map(|n| request(if n % 3 == 0 { "/open" } else { "/closed" }, json!({"id": n.to_string()}))).collect();
    for (n, answer) in decide(&policies(), &[], &requests).iter().enumerate() {
        assert_eq!(answer["id"], n.to_string());
        assert_eq!(answer["allowed"], n % 3 == 0);
    }
}

#[test]
fn an_id_may_be_a_number_and_comes_back_as_it_was() {
    assert_eq!(decide_one(request("/open", json!({"id": 7})))["id"], 7);
}

#[test]
fn absent_fields_mean_what_they_mean_to_envoy() {
    let port = |port: u16| request("/port", json!({"destination": {"ip": "10.0.0.2", "port": port}}));
    let peer = |principal: &str| request("/mesh", json!({"source": {"principal": principal}}));
    let rows = [
        (port(8080), true),
        (port(8081), false),
        (request("/port", json!({})), false),
        (peer("cluster.local/ns/ns1/sa/a"), true),
        (request("/mesh", json!({})), false),
        (request("/mesh", json!({"source": {"ip": "10.0.0.1"}})), false),
        (request("/open", json!({"headers": [], "source": {}, "destination": {}, "sni": "", "custom": {}})), true),
        (request("/open", json!({"dynamic_metadata": {"f": {"a": [1, {"b": null}]}}, "api_keys": {}})), true),
        (request("/open", json!({"scheme": "https", "source": {"ip": "::1", "remote_ip": "203.0.113.7"}})), true),
        // Labels may be absent; the policy selects some.
        (request("/closed", json!({"workload": {"namespace": "ns1"}})), true),
    ];
    let requests: Vec<Value> = rows.iter().map(|(request, _)| request.clone()).collect();
    for (answer, (request, allowed)) in decide(&policies(), &[], &requests).iter().zip(&rows) {
        assert_eq!(answer["allowed"], *allowed, "{request}");
    }
}

#[test]
fn expect_tags_and_note_are_ignored() {
    let more = json!({"expect": {"allowed": false, "x": [1]}, "tags": ["a"], "note": "n"});
    assert_eq!(decide_one(request("/open", more))["allowed"], true);
}

#[test]
fn the_path_is_the_one_that_envoy_sends_on() {
    let answer = decide_one(request("/a/../open", json!({})));
    assert_eq!(answer["policy"], "ns[ns1]-policy[b]-rule[0]", "path_not_canonical is for API Gateway's front to say");
}

#[test]
fn a_malformed_line_gives_an_error_and_exit_1_at_the_end() {
    let open = request("/open", json!({"id": "good"})).to_string();
    let with = |more: Value| request("/open", more).to_string();
    let bad = [
        ("{", Value::Null),
        ("[]", Value::Null),
        ("7", Value::Null),
        (r#"{"id":"cut","method":"GE"#, json!("cut")),
        (r#"{"id":"a","method":"GET","host":"h"}"#, json!("a")),
        (r#"{"method":"GET","host":"h","path":"/"}"#, Value::Null),
        (r#"{"id":"a","id":"b","method":"GET","host":"h","path":"/"}"#, json!("a")),
        (&with(json!({"id": "a", "hots": "h"})), json!("a")),
        (&with(json!({"source": {"ip": "10.0.0.300"}})), json!("/open")),
        (&with(json!({"source": {"ips": "10.0.0.1"}})), json!("/open")),
        (&with(json!({"source": {"principal": ""}})), json!("/open")),
        (&with(json!({"source": {"principal": "spiffe://cluster.local/ns/a/sa/b"}})), json!("/open")),
        (&with(json!({"destination": {"port": 65_536}})), json!("/open")),
        (&with(json!({"custom": {"p": "maybe"}})), json!("/open")),
        (&with(json!({"dynamic_metadata": {"f": 1}})), json!("/open")),
        (&with(json!({"dynamic_metadata": []})), json!("/open")),
        (&with(json!({"headers": [["a"]]})), json!("/open")),
        (&with(json!({"headers": {"a": "b"}})), json!("/open")),
        (&with(json!({"headers": [[":path", "/"]]})), json!("/open")),
        (&with(json!({"headers": [["a", "b\r\nc: d"]]})), json!("/open")),
        (&with(json!({"workload": {"labels": {}}})), json!("/open")),
        (&with(json!({"api_keys": {"k": {"client_id": "c", "state": "lost"}}})), json!("/open")),
        (&with(json!({"scheme": "ftp"})), json!("/open")),
        (&with(json!({"method": ""})), json!("/open")),
        (&with(json!({"sni": 1})), json!("/open")),
        (
            r#"{"id":"a","method":"GET","host":"h","path":"/","workload":{"namespace":"n","labels":{"a":"1","a":"2"}}}"#,
            json!("a"),
        ),
    ];
    let (_folder, path) = file("policies.yaml", &policies());
    for (line, id) in &bad {
        let output = run(&[&path], &[], &format!("{open}\n{line}\n{open}\n"));
        assert_eq!(output.status.code(), Some(1), "{line}");
        let [before, error, after] = <[Value; 3]>::try_from(answers(&output)).unwrap();
        assert_eq!((&before["allowed"], &after["allowed"]), (&json!(true), &json!(true)), "{line}");
        assert_eq!(error["id"], *id, "{line}");
        assert!(error["error"].as_str().is_some_and(|why| !why.is_empty()), "{line}");
        assert_eq!(error.as_object().unwrap().len(), 2, "{error}");
    }
}

#[test]
fn what_is_no_json_is_called_so() {
    let (_folder, path) = file("policies.yaml", &policies());
    for line in ["GET /open", "{'id': 1}", r#"{"id":1"#] {
        let error = answers(&run(&[&path], &[], line))[0]["error"].as_str().unwrap().to_owned();
        assert!(error.contains("no JSON"), "{line}: {error}");
    }
    let error = answers(&run(&[&path], &[], "[]"))[0]["error"].as_str().unwrap().to_owned();
    assert!(!error.contains("no JSON"), "{error}");
}

#[test]
fn an_error_quotes_no_value() {
    let (_folder, path) = file("policies.yaml", &policies());
    let wrong = [
        json!({"headers": "Bearer s3cr3t"}),
        json!({"headers": "\"s3cr3t\", expected s3cr3t"}),
        json!({"custom": {"p": "s3cr3t"}}),
        json!({"source": {"ip": "s3cr3t"}}),
        json!({"api_keys": {"s3cr3t": {}}}),
        json!({"headers": [["s3cr3t:", "s3cr3t\n"]]}),
    ];
    for more in wrong {
        let output = run(&[&path], &[], &request("/", more).to_string());
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("error") && !said.contains("s3cr3t"), "{said}");
    }
}

#[test]
fn a_line_has_a_bound() {
    let (_folder, path) = file("policies.yaml", &policies());
    let line = |length: usize| {
        let empty = request("/open", json!({"note": ""})).to_string();
        request("/open", json!({"note": "x".repeat(length - empty.len())})).to_string()
    };
    let most = 1024 * 1024;
    let lines = format!("{}\n{}\n{}", line(most), line(most + 1), line(most));
    let output = run(&[&path], &[], &lines);
    let [at, beyond, after] = <[Value; 3]>::try_from(answers(&output)).unwrap();
    assert_eq!((&at["allowed"], &after["allowed"]), (&json!(true), &json!(true)));
    assert_eq!((&beyond["id"], output.status.code()), (&Value::Null, Some(1)));
    assert!(beyond["error"].as_str().unwrap().contains("1048576"), "{beyond}");
}

#[test]
fn empty_lines_and_a_missing_last_line_feed_change_nothing() {
    let (_folder, path) = file("policies.yaml", &policies());
    let open = request("/open", json!({}));
    let output = run(&[&path], &[], &format!("\n{open}\r\n  \n{open}"));
    assert_eq!((answers(&output).len(), output.status.code()), (2, Some(0)));
    let output = run(&[&path], &[], "");
    assert_eq!((output.stdout.len(), output.status.code()), (0, Some(0)));
}

#[test]
fn requests_come_from_a_file_as_well() {
    let (folder, path) = file("policies.yaml", &policies());
    let requests = folder.path().join("requests.jsonl");
    std::fs::write(&requests, request("/open", json!({})).to_string()).unwrap();
    let evaluate = |requests: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
        command.args(["evaluate", "--config"]).arg(&path).arg("--requests").arg(requests).output().unwrap()
    };
    let output = evaluate(&requests);
    assert_eq!((answers(&output).len(), output.status.code()), (1, Some(0)));
    let output = evaluate(Path::new("/nonexistent"));
    assert_eq!((output.stdout.len(), output.status.code()), (0, Some(2)));
    assert!(stderr(&output).contains("cannot read /nonexistent"), "{}", stderr(&output));
}

#[test]
fn a_refused_configuration_exits_with_2_before_the_first_line_and_names_every_error() {
    let wrong = policies().replace("selector:", "selektor:").replace("issuer: iss\n", "isuer: iss\n");
    let (_folder, path) = file("policies.yaml", &wrong);
    let output = run(&[&path], &[], &request("/open", json!({})).to_string());
    assert_eq!((output.stdout.len(), output.status.code()), (0, Some(2)));
    let said = stderr(&output);
    assert!(said.contains("selektor") && said.contains("isuer") && said.contains("policies.yaml:"), "{said}");
}

#[test]
fn files_and_folders_make_one_configuration() {
    let (folder, first) = file("a.yaml", &policies());
    let second = folder.path().join("more");
    std::fs::create_dir(&second).unwrap();
    let deny = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: deny, namespace: ns1 }\n\
                spec: { action: DENY, rules: [{}] }\n";
    std::fs::write(second.join("deny.yml"), deny).unwrap();
    std::fs::write(second.join("README.md"), "no policy").unwrap();
    let line = request("/open", json!({})).to_string();
    let policy = |output: Output| answers(&output)[0]["policy"].clone();
    assert_eq!(policy(run(&[&first], &[], &line)), "ns[ns1]-policy[b]-rule[0]");
    assert_eq!(policy(run(&[&first, &second], &[], &line)), "ns[ns1]-policy[deny]-rule[0]");
    let again = ["--config", second.to_str().unwrap()];
    assert_eq!(policy(run(&[&first], &again, &line)), "ns[ns1]-policy[deny]-rule[0]");
}

#[test]
fn a_bundle_is_read_as_well() {
    let (folder, path) = file("policies.yaml", &policies());
    let bundle = folder.path().join("mesh.bundle");
    let made = Command::new(env!("CARGO_BIN_EXE_causeway")).arg("bundle").arg(&path).arg("-o").arg(&bundle).output();
    assert!(made.unwrap().status.success());
    let line = request("/a", json!({"headers": bearer(&json!({"iss": "iss", "sub": "s", "exp": NOW}))})).to_string();
    assert_eq!(answers(&run(&[&bundle], &[], &line))[0]["principal"], "iss/s");
    let output = run(&[&bundle], &["--mode", "istio"], &line);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("mode strict, not istio"), "{}", stderr(&output));
    let output = run(&[&bundle, &path], &[], &line);
    assert!(output.status.code() == Some(2) && stderr(&output).contains("read alone"), "{}", stderr(&output));
}

#[test]
fn the_mode_is_strict_unless_it_is_istio() {
    let without_exp = request("/a", json!({"headers": bearer(&json!({"iss": "iss", "sub": "s"}))}));
    let allowed = |more: &[&str]| decide(&policies(), more, std::slice::from_ref(&without_exp))[0]["allowed"].clone();
    assert_eq!(allowed(&[]), false);
    assert_eq!(allowed(&["--mode", "strict"]), false);
    assert_eq!(allowed(&["--mode", "istio"]), true);
}

#[test]
fn api_keys_play_the_key_store() {
    let key = ApiKey::generate("prod", &[7; 48]).unwrap().text().expose().clone();
    let other = ApiKey::generate("prod", &[8; 48]).unwrap().text().expose().clone();
    let asked = |presented: &str, state: Value| {
        let mut stored = json!({"client_id": "c", "scope": "read", "aud": ["a"]});
        if !state.is_null() {
            stored["state"] = state;
        }
        let mut keys = serde_json::Map::new();
        keys.insert(key.clone(), stored);
        request("/a", json!({"headers": [["X-Api-Key", presented]], "api_keys": keys}))
    };
    let rows = [
        (asked(&key, json!("active")), "allowed_by_policy", json!("iss/client:c")),
        (asked(&key, Value::Null), "allowed_by_policy", json!("iss/client:c")),
        (asked(&key, json!("revoked")), "api_key_revoked", Value::Null),
        (asked(&key, json!("expired")), "api_key_expired", Value::Null),
        (asked(&key, json!("unavailable")), "api_key_unavailable", Value::Null),
        (asked(&other, json!("active")), "api_key_unknown", Value::Null),
        (asked("cwk_prod_x", json!("active")), "api_key_malformed", Value::Null),
    ];
    let requests: Vec<Value> = rows.iter().map(|(request, ..)| request.clone()).collect();
    for (answer, (_, reason, principal)) in decide(&policies(), &[], &requests).iter().zip(&rows) {
        assert_eq!((&answer["reason"], &answer["principal"]), (&json!(reason), principal));
        assert_eq!(answer["status"], if *reason == "allowed_by_policy" { 200 } else { 401 });
        assert!(!answer.to_string().contains("cwk_"), "the key is not forwarded");
    }
    // A workload of another environment does not open.
    let elsewhere = decide(&policies(), &["--environment", "dev"], &requests[..1]);
    assert_eq!(elsewhere[0]["reason"], "api_key_environment");
}

#[test]
fn a_revoked_token_is_refused() {
    let (_folder, list) = file("revoked", "# tokens\n\n  id-1  \r\nid-2\n");
    let with = |jti: &str| {
        request("/a", json!({"headers": bearer(&json!({"iss": "iss", "sub": "s", "exp": NOW, "jti": jti}))}))
    };
    let requests = [with("id-1"), with("id-2"), with("id-3"), with("# tokens")];
    let answers = decide(&policies(), &["--revocations", list.to_str().unwrap()], &requests);
    let allowed: Vec<&Value> = answers.iter().map(|answer| &answer["allowed"]).collect();
    assert_eq!(allowed, [false, false, true, true]);
    assert_eq!((&answers[0]["reason"], &answers[0]["status"]), (&json!("token_revoked"), &json!(401)));
}

#[test]
fn a_client_is_revoked_with_all_that_it_has() {
    let (_folder, list) = file("revoked", "client:c\n");
    let with = |client: &str| {
        let claims = json!({"iss": "iss", "sub": "s", "exp": NOW, "client_id": client});
        request("/a", json!({"headers": bearer(&claims)}))
    };
    let answers = decide(&policies(), &["--revocations", list.to_str().unwrap()], &[with("c"), with("d")]);
    let reasons: Vec<&Value> = answers.iter().map(|answer| &answer["reason"]).collect();
    assert_eq!(reasons, ["token_revoked", "allowed_by_policy"]);
}

#[test]
fn a_signed_revocation_list_is_verified() {
    let signed = |typ: &str, issuer: &str, expires_at: u64| {
        let ids = [authz::RevokedId::token("id-1")];
        let payload =
            authz::revocation::encode_payload(issuer, NOW - 60, expires_at, ids, &std::collections::BTreeMap::new());
        jws(&json!({"alg": "HS256", "typ": typ}), &serde_json::from_str(&payload.unwrap()).unwrap())
    };
    let good = signed("revocations+jwt", "iss", NOW + 60);
    let with = |jti: &str| {
        request("/a", json!({"headers": bearer(&json!({"iss": "iss", "sub": "s", "exp": NOW, "jti": jti}))}))
    };
    let (_folder, list) = file("revocations.jwt", &format!("{good}\n"));
    let answers = decide(&policies(), &["--revocations", list.to_str().unwrap()], &[with("id-1"), with("id-2")]);
    let reasons: Vec<&Value> = answers.iter().map(|answer| &answer["reason"]).collect();
    assert_eq!(reasons, ["token_revoked", "allowed_by_policy"]);

    let (_folder, path) = file("policies.yaml", &policies());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let forged = format!("{message}.{}", signature.chars().rev().collect::<String>());
    let no_keys = policies().replace("    jwks: '", "    jwksUri: https://iss.example/\n    # '");
    let (_folder, without_keys) = file("policies.yaml", &no_keys);
    for (config, text, expected) in [
        (&path, signed("at+jwt", "iss", NOW + 60), "the \"typ\" of the revocation list is not"),
        (&path, signed("revocations+jwt", "other", NOW + 60), "no RequestAuthentication names the issuer"),
        (&path, signed("revocations+jwt", "iss", NOW), "was valid until"),
        (&path, forged, "revocation list"),
        (&without_keys, good, "there are no keys of its issuer iss"),
    ] {
        let (_folder, list) = file("revocations.jwt", &text);
        let output = run(&[config], &["--revocations", list.to_str().unwrap()], "");
        assert_eq!(output.status.code(), Some(2));
        let said = stderr(&output);
        assert!(said.contains("revocations.jwt: ") && said.contains(expected), "{said}");
        assert_eq!(said.lines().filter(|line| line.contains("--revocations")).count(), 1, "{said}");
    }
}

#[test]
fn a_revocation_list_has_a_bound() {
    let (_folder, path) = file("policies.yaml", &policies());
    let ids: String = (0..=1_000_000).map(|n| format!("{n}\n")).collect();
    let (_folder, list) = file("revoked", &ids);
    let output = run(&[&path], &["--revocations", list.to_str().unwrap()], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("1000000 ids"), "{}", stderr(&output));
}

#[test]
fn custom_plays_the_extension_providers() {
    let config = "
apiVersion: v1
kind: ConfigMap
metadata: { name: istio, namespace: istio-system }
data:
  mesh: |
    extensionProviders:
    - name: opa
      envoyExtAuthzGrpc: { service: opa.istio-system.svc.cluster.local, port: 9191 }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: ask, namespace: ns1 }
spec: { action: CUSTOM, provider: { name: opa }, rules: [{}] }
";
    let asked = |custom: Value| request("/a", json!({"custom": custom}));
    let requests = [
        asked(json!({"opa": "allow"})),
        asked(json!({"opa": "deny"})),
        asked(json!({"opa": "error"})),
        asked(json!({"other": "allow"})),
    ];
    let answers = decide(config, &[], &requests);
    let reasons: Vec<&str> = answers.iter().map(|answer| answer["reason"].as_str().unwrap()).collect();
    assert_eq!(
        reasons,
        ["allowed_no_policy", "denied_by_provider", "custom_provider_unavailable", "custom_provider_unavailable"]
    );
}

#[test]
fn dynamic_metadata_feeds_the_conditions_of_envoys_filters() {
    let config = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: p, namespace: ns1 }
spec:
  rules:
  - when: [{ key: 'experimental.envoy.filters.network.mysql_proxy[db.table]', values: ['[update]'] }]
";
    let with = |metadata: Value| request("/", json!({"dynamic_metadata": metadata}));
    let requests = [
        with(json!({"envoy.filters.network.mysql_proxy": {"db.table": ["update"]}})),
        with(json!({"envoy.filters.network.mysql_proxy": {"db.table": ["insert"]}})),
        request("/", json!({})),
    ];
    let answers = decide(config, &[], &requests);
    let allowed: Vec<&Value> = answers.iter().map(|answer| &answer["allowed"]).collect();
    assert_eq!(allowed, [true, false, false]);
}

#[test]
fn findings_of_policies_that_do_not_decide_are_extra_fields() {
    let policy = |name: &str, action: &str, dry_run: bool| {
        let dry_run = if dry_run { "istio.io/dry-run: 'true'" } else { "" };
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: {name}\n  \
             namespace: ns1\n  annotations: {{ {dry_run} }}\nspec:\n  action: {action}\n  \
             rules: [{{ to: [{{ operation: {{ paths: ['/{name}'] }} }}] }}]\n"
        )
    };
    let config = [policy("audit", "AUDIT", false), policy("deny", "DENY", true), policy("allow", "ALLOW", true)];
    let requests = ["/audit", "/deny", "/allow"].map(|path| request(path, json!({})));
    let answers = decide(&config.concat(), &[], &requests);
    assert_eq!(answers[0]["audit"], "ns[ns1]-policy[audit]-rule[0]");
    assert_eq!(answers[1]["dry_run_deny"], "ns[ns1]-policy[deny]-rule[0]");
    assert_eq!(answers[2]["dry_run_allow"], json!({"allowed": true, "policy": "ns[ns1]-policy[allow]-rule[0]"}));
    assert_eq!(answers[0]["dry_run_allow"], json!({"allowed": false, "policy": null}));
    for (answer, absent) in answers.iter().zip([["dry_run_deny", "x"], ["audit", "x"], ["audit", "dry_run_deny"]]) {
        assert!(absent.iter().all(|field| answer.get(field).is_none()), "{answer}");
        assert_eq!(answer["allowed"], true, "none of them decides");
    }
}

/// An API in front of `b`, at two base paths; `MORE` stands for more documents.
const GATEWAYS: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: gw, namespace: ns1 }
spec:
  selector: { istio: ingressgateway }
  servers: [{ port: { number: 80, name: http, protocol: HTTP }, hosts: ['api.example'] }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: b, namespace: ns1 }
spec:
  hosts: [api.example]
  gateways: [gw]
  http: [{ match: [{ uri: { prefix: /a } }], route: [{ destination: { host: b } }] }]
---
apiVersion: v1
kind: Service
metadata: { name: b, namespace: ns1 }
spec: { selector: { app: b }, ports: [{ port: 80, name: http }] }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: b, namespace: ns1 }
spec:
  selector: { matchLabels: { app: b } }
  rules: [{ from: [{ source: { principals: [cluster.local/ns/gws/sa/gw] } }] }]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: edge, namespace: gws }
spec:
  action: DENY
  rules: [{ to: [{ operation: { paths: [/a/secret] } }] }]
";

fn api(name: &str, stage: &str, base_path: Option<&str>) -> String {
    let base_path = base_path.map_or_else(String::new, |path| format!("  basePath: {path}\n"));
    format!(
        "---\napiVersion: causeway.dev/v1alpha1\nkind: ApiGateway\nmetadata: {{ name: {name}, namespace: ns1 }}\nspec:\n  \
         apiId: id1\n  stage: {stage}\n  domain: api.example\n{base_path}  gateway: gw\n  environment: prod\n  \
         workload: {{ namespace: gws, labels: {{ istio: ingressgateway }}, serviceAccount: gw }}\n"
    )
}

fn client(host: &str, path: &str) -> Value {
    json!({"id": path, "method": "GET", "scheme": "https", "host": host, "path": path,
           "source": {"ip": "203.0.113.7"}})
}

#[test]
fn a_request_without_workload_takes_both_hops() {
    let config = format!("{GATEWAYS}{}", api("api", "$default", None));
    let rows = [
        (client("api.example", "/a"), "allowed_by_policy"),
        (client("API.example:443", "/a"), "allowed_by_policy"),
        // No credential is read there, so that none is missed.
        (client("api.example", "/a/secret"), "denied_by_policy"),
        (client("api.example", "/b"), "destination_unknown"),
        (client("other.example", "/a"), "gateway_unknown"),
    ];
    let requests: Vec<Value> = rows.iter().map(|(request, _)| request.clone()).collect();
    for (answer, (request, reason)) in decide(&config, &[], &requests).iter().zip(&rows) {
        assert_eq!(answer["reason"], *reason, "{request}");
        assert_eq!(answer["status"], if *reason == "allowed_by_policy" { 200 } else { 403 });
    }
}

#[test]
fn the_longest_base_path_finds_the_api_and_is_taken_off() {
    let config = format!("{GATEWAYS}{}{}", api("one", "one", Some("/v1")), api("two", "two", Some("/v1/x")));
    let rows = [
        ("/v1/a", "allowed_by_policy"),
        ("/v1/x/a?q", "allowed_by_policy"),
        ("/v1", "destination_unknown"),
        ("/v10/a", "gateway_unknown"),
        ("/a", "gateway_unknown"),
    ];
    let requests: Vec<Value> = rows.iter().map(|(path, _)| client("api.example", path)).collect();
    for (answer, (path, reason)) in decide(&config, &[], &requests).iter().zip(&rows) {
        assert_eq!(answer["reason"], *reason, "{path}");
    }
}

#[test]
fn stages_of_one_domain_are_told_apart_by_an_option_alone() {
    let config = format!("{GATEWAYS}{}{}", api("one", "one", None), api("two", "two", None));
    let (_folder, path) = file("policies.yaml", &config);
    let line = client("api.example", "/a").to_string();
    let output = run(&[&path], &[], &line);
    let error = answers(&output)[0]["error"].as_str().unwrap().to_owned();
    assert_eq!(output.status.code(), Some(1));
    for word in ["ns1/one", "stage one", "ns1/two", "--api-gateway"] {
        assert!(error.contains(word), "{error}");
    }
    let output = run(&[&path], &["--api-gateway", "ns1/two"], &line);
    assert_eq!(answers(&output)[0]["reason"], "allowed_by_policy");
    // A slip in the name would look like a denial of the policies.
    let output = run(&[&path], &["--api-gateway", "ns1/tow"], &line);
    let error = answers(&output)[0]["error"].as_str().unwrap().to_owned();
    assert!(error.contains("ns1/tow") && error.contains("ns1/one and ns1/two"), "{error}");
    for wrong in ["two", "/two", "ns1/"] {
        let output = run(&[&path], &["--api-gateway", wrong], &line);
        assert_eq!(output.status.code(), Some(2), "{wrong}");
        assert!(stderr(&output).contains("expected NAMESPACE/NAME"), "{wrong}");
    }
}

#[test]
fn nothing_goes_over_the_network_without_fetch() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = format!(
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{ name: t, namespace: ns1 }}\n\
         spec: {{ jwtRules: [{{ issuer: iss, jwksUri: 'http://{address}/jwks.json' }}] }}\n"
    );
    let claims = json!({"iss": "iss", "sub": "s", "exp": NOW});
    let requests = [request("/a", json!({"headers": bearer(&claims)})), request("/a", json!({}))];
    let answers = decide(&config, &[], &requests);
    assert_eq!((&answers[0]["status"], &answers[0]["reason"]), (&json!(401), &json!("jwks_unavailable")));
    assert_eq!(answers[1]["allowed"], true, "a request without a token needs no keys");
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "somebody connected");
}

/// A path, and the body that it is answered with.
type Page = (&'static str, fn(std::net::SocketAddr) -> String);

/// Answers each connection with its page, on a thread of its own.
fn serve<const N: usize>(bodies: [Page; N]) -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = String::new();
            BufReader::new(&stream).read_line(&mut head).unwrap();
            let path = head.split(' ').nth(1).unwrap_or_default();
            let body = bodies.iter().find(|(known, _)| *known == path).map(|(_, body)| body(address));
            let status = if body.is_some() { "200 OK" } else { "404 Not Found" };
            let body = body.unwrap_or_default();
            let length = body.len();
            write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}").unwrap();
        }
    });
    address
}

fn published(_: std::net::SocketAddr) -> String {
    // RFC 7517, appendix A.1.
    json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "1",
        "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]})
    .to_string()
}

#[test]
fn fetch_gets_the_key_sets_and_a_failure_is_a_warning() {
    let address = serve([("/jwks.json", published)]);
    let rule = |path: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{ name: t, namespace: ns1 }}\n\
             spec: {{ jwtRules: [{{ issuer: iss, jwksUri: 'http://{address}{path}' }}] }}\n"
        )
    };
    let line = request("/a", json!({"headers": bearer(&json!({"iss": "iss", "exp": NOW}))})).to_string();
    // The token is for another kind of key than the one published, which says that it was had.
    let (_folder, path) = file("p.yaml", &rule("/jwks.json"));
    let output = run(&[&path], &["--fetch"], &line);
    assert_eq!(answers(&output)[0]["reason"], "token_algorithm", "{}", stderr(&output));
    let (_folder, path) = file("p.yaml", &rule("/gone.json"));
    let output = run(&[&path], &["--fetch"], &line);
    assert_eq!((&answers(&output)[0]["reason"], output.status.code()), (&json!("jwks_unavailable"), Some(0)));
    assert!(stderr(&output).contains("/gone.json") && stderr(&output).contains("404"), "{}", stderr(&output));
}

#[test]
fn fetch_finds_the_keys_of_an_issuer_by_its_metadata() {
    let metadata = |address: std::net::SocketAddr| {
        json!({"issuer": format!("http://{address}"), "jwks_uri": format!("http://{address}/keys")}).to_string()
    };
    let address = serve([("/.well-known/openid-configuration", metadata), ("/keys", published)]);
    let config = format!(
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{ name: t, namespace: ns1 }}\n\
         spec: {{ jwtRules: [{{ issuer: 'http://{address}' }}] }}\n"
    );
    let (_folder, path) = file("p.yaml", &config);
    let claims = json!({"iss": format!("http://{address}"), "exp": NOW});
    let output = run(&[&path], &["--fetch"], &request("/a", json!({"headers": bearer(&claims)})).to_string());
    assert_eq!(answers(&output)[0]["reason"], "token_algorithm", "{}", stderr(&output));
}

/// A rule that names an issuer alone, which Istio discovers the keys of.
#[test]
fn a_bundle_takes_a_rule_whose_keys_are_discovered() {
    let metadata = |address: std::net::SocketAddr| {
        json!({"issuer": format!("http://{address}"), "jwks_uri": format!("http://{address}/keys")}).to_string()
    };
    let address = serve([("/.well-known/openid-configuration", metadata), ("/keys", published)]);
    let issuer = format!("http://{address}");
    let config = format!(
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{ name: t, namespace: ns1 }}\n\
         spec: {{ jwtRules: [{{ issuer: '{issuer}' }}] }}\n"
    );
    let (folder, policy) = file("p.yaml", &config);
    let line = request("/a", json!({"headers": bearer(&json!({"iss": issuer, "exp": NOW}))})).to_string();
    let made = |name: &str, more: &[&str]| {
        let out = folder.path().join(name);
        let output = Command::new(env!("CARGO_BIN_EXE_causeway"))
            .args(["bundle", "--allow-lint-errors", policy.to_str().unwrap(), "-o", out.to_str().unwrap()])
            .args(more)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        out
    };
    let reason = |bundle: &Path, more: &[&str]| answers(&run(&[bundle], more, &line))[0]["reason"].clone();
    // Without them the authorizer looks for them when a token comes, and this program when it is asked to.
    let bare = made("bare.bundle", &[]);
    assert_eq!(reason(&bare, &[]), "jwks_unavailable");
    assert_eq!(reason(&bare, &["--fetch"]), "token_algorithm");
    assert_eq!(reason(&made("full.bundle", &["--fetch"]), &[]), "token_algorithm");
}

#[test]
fn jwks_goes_by_issuer_or_by_uri() {
    let rule = "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: { name: t, namespace: ns1 }\n\
                spec: { jwtRules: [{ issuer: iss, jwksUri: 'https://keys.invalid/a?b=c' }] }\n";
    let (folder, path) = file("p.yaml", rule);
    let keys = folder.path().join("jwks.json");
    std::fs::write(&keys, published(([127, 0, 0, 1], 0).into())).unwrap();
    let line = request("/a", json!({"headers": bearer(&json!({"iss": "iss", "exp": NOW}))})).to_string();
    for name in ["iss", "https://keys.invalid/a?b=c"] {
        let output = run(&[&path], &["--jwks", &format!("{name}={}", keys.display())], &line);
        assert_eq!(answers(&output)[0]["reason"], "token_algorithm", "{name}: {}", stderr(&output));
    }
    let output = run(&[&path], &["--jwks", &format!("misspelt={}", keys.display())], &line);
    assert!(stderr(&output).contains("warning") && stderr(&output).contains("misspelt"), "{}", stderr(&output));
    let output = run(&[&path], &["--jwks", "iss=/nonexistent"], &line);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn answers_are_written_line_by_line() {
    let (_folder, path) = file("policies.yaml", &policies());
    let mut child = start(&[&path], &[]);
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    for n in 0..3 {
        writeln!(input, "{}", request("/open", json!({"id": n}))).unwrap();
        let mut line = String::new();
        // The input is still open: the answer must not wait for its end.
        output.read_line(&mut line).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["id"], n);
    }
    drop(input);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_reader_who_has_seen_enough_ends_it_quietly() {
    let (_folder, path) = file("policies.yaml", &policies());
    let mut child = start(&[&path], &[]);
    drop(child.stdout.take());
    let mut input = child.stdin.take().unwrap();
    let line = format!("{}\n", request("/open", json!({})));
    while input.write_all(line.as_bytes()).is_ok() {}
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}

#[test]
fn a_bound_token_needs_the_certificate_of_the_line() {
    let shown = [7_u8; 32];
    let hex = "07".repeat(32);
    let claims =
        json!({"iss": "iss", "sub": "s", "exp": 4_102_444_800_u64, "cnf": {"x5t#S256": BASE64URL.encode(shown)}});
    for (source, reason) in [
        (json!({"client_certificate_sha256": hex}), "allowed_by_policy"),
        (json!({"client_certificate_sha256": "08".repeat(32)}), "token_binding"),
        (json!({}), "token_binding"),
    ] {
        let answer = decide_one(request("/a", json!({"headers": bearer(&claims), "source": source})));
        assert_eq!(answer["reason"], reason, "{source}: {answer}");
    }
    let istio = decide(&policies(), &["--mode", "istio"], &[request("/a", json!({"headers": bearer(&claims)}))]);
    assert_eq!(istio[0]["reason"], "allowed_by_policy");
    for wrong in [&hex[1..], &format!("{}zz", &hex[2..]), ""] {
        let line = request("/a", json!({"source": {"client_certificate_sha256": wrong}})).to_string();
        let (_folder, config) = file("policies.yaml", &policies());
        let output = run(&[&config], &[], &line);
        let said = answers(&output);
        assert!(said[0]["error"].as_str().unwrap().contains("expected 64 hexadecimal digits"), "{said:?}");
    }
}

#[test]
fn the_example_of_the_readme_denies_one_and_allows_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let start = "causeway evaluate --config examples/bookinfo --requests - <<'END'\n";
    let requests = readme.split_once(start).and_then(|(_, rest)| rest.split_once("END\n")).unwrap().0;
    let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
    command.args(["evaluate", "--config", "examples/bookinfo", "--requests", "-"]).current_dir(root);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(requests.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let said: Vec<(&Value, &Value)> = answers.iter().map(|answer| (&answer["allowed"], &answer["reason"])).collect();
    assert_eq!(said, [(&json!(false), &json!("no_credential")), (&json!(true), &json!("allowed_by_policy"))]);
}
