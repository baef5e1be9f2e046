//! `causeway normalize` and `causeway token inspect`, from the shell's side.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::process::{Command, Output, Stdio};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde_json::Value;

fn run(arguments: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn normalize_prints_a_line_for_each_line() {
    let output = run(&["normalize", "--mode", "BASE"], b"/a\n\n/%00\n/\xff\n/b?x=//\n/last");
    assert_eq!((stdout(&output).as_str(), output.status.code()), ("/a\n400\n400\n400\n/b?x=//\n/last\n", Some(0)));
}

#[test]
fn a_carriage_return_is_refused_with_a_word_about_it() {
    let output = run(&["normalize", "--mode", "BASE"], b"/a\r\n/b\r\n/c\n");
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!((stdout(&output).as_str(), output.status.code()), ("400\n400\n/c\n", Some(0)));
    assert_eq!(said.matches("carriage return").count(), 1, "{said}");
    assert_eq!(run(&["normalize", "--mode", "BASE"], b"/a\n/b").stderr, b"");
}

#[test]
fn normalize_knows_istios_modes_alone() {
    for mode in ["NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"] {
        assert_eq!(stdout(&run(&["normalize", "--mode", mode], b"/a/b\n")), "/a/b\n", "{mode}");
    }
    for wrong in [&["normalize"][..], &["normalize", "--mode", "ALL"]] {
        assert_eq!(run(wrong, b"").status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn the_longest_path_is_64_kib() {
    let longest = format!("/{}", "a".repeat(64 * 1024 - 1));
    let output = run(&["normalize", "--mode", "BASE"], format!("{longest}\n{longest}a\n").as_bytes());
    assert_eq!(stdout(&output), format!("{longest}\n400\n"));
}

#[test]
fn the_longest_text_of_a_token_is_1_mib() {
    let longest = "a".repeat(1024 * 1024);
    assert_eq!(run(&["token", "inspect", "--json"], longest.as_bytes()).status.code(), Some(0));
    assert_eq!(run(&["token", "inspect", "--json"], format!("{longest}a").as_bytes()).status.code(), Some(1));
}

fn token(header: &str, claims: &str) -> String {
    format!("{}.{}.c2lnbmF0dXJl", BASE64URL.encode(header), BASE64URL.encode(claims))
}

/// The JSON report, and the text for a person.
fn inspect(token: &str) -> (Value, String) {
    let now = ["--now", "1795176000"];
    let json = run(&[&["token", "inspect", "--json", "-"], &now[..]].concat(), token.as_bytes());
    let text = run(&[&["token", "inspect", token], &now[..]].concat(), b"");
    assert!(json.status.success() && text.status.success(), "it refuses nothing");
    let (json, text) = (stdout(&json), stdout(&text));
    for out in [&json, &text] {
        assert!(!out.contains("c2lnbmF0dXJl"), "the signature is shown: {out}");
        assert!(!out.contains('\u{1b}'), "standard output is no terminal: {out}");
    }
    assert!(text.contains("not verified"), "{text}");
    (serde_json::from_str(&json).unwrap(), text)
}

#[test]
fn a_token_is_shown_and_not_trusted() {
    let claims = r#"{"iss":"https://i","sub":"s","exp":1795176300,"iat":1795089600,"groups":["a"]}"#;
    let (json, text) = inspect(&token(r#"{"alg":"ES256","kid":"k"}"#, claims));
    assert_eq!(json["verified"], false);
    assert_eq!((&json["header"]["kid"], &json["claims"]["groups"][0]), (&"k".into(), &"a".into()));
    assert_eq!(json["times"][1]["rfc3339"], "2026-11-20T12:05:00Z");
    assert_eq!(json["problems"], Value::Array(Vec::new()));
    assert!(text.contains("2026-11-20T12:05:00Z, in 5 minutes"), "{text}");
    assert!(text.contains("2026-11-19T12:00:00Z, 1 day ago"), "{text}");
    assert!(text.contains(r#""https://i""#), "{text}");
}

#[test]
fn what_is_wrong_is_said() {
    let fine = r#"{"alg":"ES256"}"#;
    let exp = r#"{"exp":1795176000}"#;
    let rows = [
        (token(fine, "{}"), "token_malformed", "exp"),
        (token(fine, r#"{"exp":1795175939}"#), "token_expired", "valid until"),
        (token(fine, r#"{"exp":1795179999,"nbf":1795176061}"#), "token_not_yet_valid", "valid from"),
        (token(r#"{"alg":"ES256","crit":["x"]}"#, exp), "token_malformed", "crit"),
        (token(r#"{"alg":"ES256","b64":false}"#, exp), "token_malformed", "b64"),
        (token(r#"{"alg":"none"}"#, exp), "token_algorithm", "alg"),
        (token(fine, r#"{"exp":1,"exp":1795176000}"#), "token_malformed", "twice"),
        (token(fine, "no json"), "token_malformed", "JSON"),
        (token(fine, exp) + "!", "token_malformed", "signature"),
        ("a.b.c.d.e".to_owned(), "token_malformed", "encrypted"),
        ("cwk_prod_something".to_owned(), "token_malformed", "three parts"),
        (token(fine, &format!(r#"{{"exp":1795176000,"x":"{}"}}"#, "x".repeat(9_000))), "token_too_large", "8192"),
    ];
    for (token, reason, words) in rows {
        let (json, text) = inspect(&token);
        let problems = json["problems"].as_array().unwrap();
        let said = |problem: &&Value| {
            problem["reason"] == reason && problem["detail"].as_str().is_some_and(|detail| detail.contains(words))
        };
        assert!(problems.iter().any(|problem| said(&problem)), "{token}: {json}");
        assert!(text.contains(reason), "{text}");
    }
}

#[test]
fn a_strangers_text_does_not_reach_the_terminal() {
    let (_, text) = inspect(&token(r#"{"alg":"ES256"}"#, "{\"exp\":1795176000,\"\u{9b}x\":\"a\u{202e}b\"}"));
    assert!(text.contains("\\u{9b}x") && text.contains("a\\u{202e}b"), "{text}");
    assert!(!text.contains(['\u{9b}', '\u{202e}']), "{text}");
}

#[test]
fn other_secrets_are_not_shown() {
    let (json, text) = inspect("cwk_prod_s3cr3t");
    assert!(!json.to_string().contains("s3cr3t") && !text.contains("s3cr3t"), "{text}");
}

#[test]
fn a_token_may_come_as_a_whole_header() {
    let token = token(r#"{"alg":"ES256"}"#, r#"{"exp":1795176000}"#);
    for text in [
        format!("Bearer {token}\n"),
        format!("Authorization: Bearer {token}\r\n"),
        format!("authorization: bearer  {token}"),
        format!("\"{token}\",\n"),
        format!("'authorization: Bearer {token}'"),
        format!("\"authorization\": \"Bearer {token}\","),
    ] {
        assert_eq!(inspect(&text).0["problems"], Value::Array(Vec::new()), "{text}");
    }
}

#[test]
fn nothing_is_no_token() {
    for nothing in ["", "\n", "Bearer \n", "\"\"", "Authorization:"] {
        let output = run(&["token", "inspect"], nothing.as_bytes());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && said.contains("found no token"), "{nothing:?}: {said}");
    }
    // A variable of the shell that is not set.
    assert_eq!(run(&["token", "inspect", ""], b"").status.code(), Some(1));
}

/// Standard output that is `target`, and what was said on the side.
fn into(arguments: &[&str], target: Stdio) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
    let output = command.args(arguments).stdout(target).stderr(Stdio::piped()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// A pipe that nobody reads any more.
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
fn a_reader_who_has_seen_enough_changes_nothing() {
    let token = token(r#"{"alg":"ES256"}"#, r#"{"exp":1795176000}"#);
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("wrong.yaml");
    let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: a, namespace: shop }\n\
                  spec: { rules: [{ to: [{ operation: { methods: [get] } }] }] }\n";
    std::fs::write(&wrong, policy).unwrap();
    let wrong = wrong.to_str().unwrap();
    let request = r#"{"id":1,"method":"GET","host":"h","path":"/","workload":{"namespace":"shop"}}"#;
    for (arguments, status) in [
        (&["token", "inspect", &token][..], 0),
        (&["lint", "--list"], 0),
        (&["lint", "--config", wrong], 1),
        (&["explain", "--config", wrong, "--request", request], 0),
    ] {
        let (code, said) = into(arguments, closed_pipe());
        assert!(code == Some(status) && !said.contains("panicked"), "{arguments:?}: {code:?} {said}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_a_failure() {
    for arguments in [&["lint", "--list"][..], &["token", "inspect", "a.b.c"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let (code, said) = into(arguments, full.into());
        assert!(code == Some(1) && said.contains("cannot write the output"), "{arguments:?}: {code:?} {said}");
    }
}
