//! What a person reads who gives a broken configuration or a broken request: where, what, and what to do.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const POLICY: &str = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: shop}
spec:
  rules:
  - to: [{operation: {methods: [GET]}}]
";

const REQUEST: &str = r#"{"id":"1","method":"GET","host":"a","path":"/","workload":{"namespace":"shop"}}"#;

fn run(folder: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
    command.current_dir(folder).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that refuses its configuration reads nothing.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What evaluate, lint and bundle say about the folder `c`, each with its exit status.
fn said(folder: &Path) -> [(Option<i32>, String); 3] {
    let evaluate = run(folder, &["evaluate", "--config", "c", "--requests", "-"], REQUEST);
    let lint = run(folder, &["lint", "--config", "c"], "");
    let bundle = run(folder, &["bundle", "c", "-o", "out"], "");
    [&evaluate, &lint, &bundle].map(|output| (output.status.code(), err(output)))
}

#[test]
fn a_broken_configuration_is_refused_alike_by_every_command() {
    let policy = |from: &str, to: &str| POLICY.replace(from, to).into_bytes();
    let rows: Vec<(Vec<u8>, &str)> = vec![
        (policy("  rules", "   rules:\n  rules"), "c/p.yaml:6:3: not valid YAML: "),
        (policy("  rules", "\trules"), "c/p.yaml:5:1: not valid YAML: a tab; indent with spaces"),
        (
            policy("methods", "metods"),
            "c/p.yaml:6:23: spec.rules[0].to[0].operation.metods: unknown field `metods`; did you mean `methods`?",
        ),
        (
            policy("zation", "sation"),
            "c/p.yaml:2:7: kind: unknown kind `AuthorisationPolicy`; did you mean `AuthorizationPolicy`?",
        ),
        (
            policy("io/v1", "io/v2"),
            "c/p.yaml:1:13: apiVersion: expected version `v1` or `v1beta1` of `security.istio.io`, found `v2`",
        ),
        (
            policy("spec:", "spec:\n  action: DENY\n  action: ALLOW"),
            "c/p.yaml:6:3: the key `action` is already on line 5",
        ),
        (
            policy("[GET]", "GET"),
            "c/p.yaml:6:32: spec.rules[0].to[0].operation.methods: expected a list, found a string",
        ),
        (b"- a\n".to_vec(), "c/p.yaml:1:1: expected a mapping with `apiVersion` and `kind`, found a list"),
        (b"\x7fELF\0\xff\0".to_vec(), "c/p.yaml:1:6: a byte that is not UTF-8; it is no text file"),
        (b"# a\n# caf\xe9\n".to_vec(), "c/p.yaml:2:6: a byte that is not UTF-8; save the file as UTF-8"),
        (
            [POLICY.as_bytes(), &vec![b'#'; 5 << 20]].concat(),
            "c/p.yaml: more than 4194304 bytes, the most of one file; split it",
        ),
    ];
    for (text, words) in rows {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("c")).unwrap();
        std::fs::write(folder.path().join("c/p.yaml"), text).unwrap();
        for (status, err) in said(folder.path()) {
            assert_eq!(status, Some(2), "{err}");
            assert!(err.starts_with(&format!("causeway: {words}")), "wanted {words}: {err}");
        }
        assert!(!folder.path().join("out").exists());
    }
}

#[test]
fn what_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for (status, err) in said(folder.path()) {
        assert_eq!(status, Some(2));
        assert!(err.starts_with("causeway: cannot read c: it is not there"), "{err}");
    }
    std::fs::create_dir(folder.path().join("c")).unwrap();
    std::fs::write(folder.path().join("c/readme.txt"), "").unwrap();
    for (status, err) in said(folder.path()) {
        assert_eq!(status, Some(2));
        assert!(err.starts_with("causeway: no .yaml or .yml file in c; "), "{err}");
    }
}

#[test]
fn a_configuration_without_documents_opens_everything_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("c")).unwrap();
    for text in ["", "# nothing yet\n"] {
        std::fs::write(folder.path().join("c/p.yaml"), text).unwrap();
        let [evaluate, lint, bundle] = said(folder.path());
        for (status, err) in [evaluate, lint] {
            assert_eq!(status, Some(0), "{err}");
            assert!(err.contains("no document in c/p.yaml: every workload is open"), "{err}");
        }
        assert_eq!(bundle.0, Some(2));
        assert!(bundle.1.contains("no document in c/p.yaml: a bundle of it would open every workload"), "{}", bundle.1);
        assert!(!folder.path().join("out").exists());
    }
}

#[test]
fn links_are_followed_once() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    // As a ConfigMap is mounted, and a circle.
    std::fs::create_dir_all(at("c/..data")).unwrap();
    std::fs::write(at("c/..data/p.yaml"), POLICY).unwrap();
    std::os::unix::fs::symlink("..data/p.yaml", at("c/p.yaml")).unwrap();
    std::os::unix::fs::symlink("../c", at("c/again")).unwrap();
    for (status, err) in said(folder.path()) {
        assert_eq!(status, Some(0), "{err}");
    }
    std::os::unix::fs::symlink("self.yaml", at("c/self.yaml")).unwrap();
    for (status, err) in said(folder.path()) {
        assert_eq!(status, Some(2));
        assert!(err.starts_with("causeway: cannot read c/self.yaml: "), "{err}");
    }
}

#[test]
fn a_file_without_permission_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("c")).unwrap();
    let file = folder.path().join("c/p.yaml");
    std::fs::write(&file, POLICY).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o000)).unwrap();
    // Root reads everything.
    if std::fs::read(&file).is_ok() {
        return;
    }
    for (status, err) in said(folder.path()) {
        assert_eq!(status, Some(2));
        assert!(err.starts_with("causeway: cannot read c/p.yaml: Permission denied"), "{err}");
    }
}

#[test]
fn a_broken_request_line_says_what_is_wrong_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("p.yaml"), POLICY).unwrap();
    let rows = [
        ("{", "EOF while parsing an object at line 1 column 1"),
        ("nonsense", "line 1 column 2"),
        (r#"{"id":"2","method":"GET"}"#, "missing field `host`"),
        (r#"{"id":"2","method":"GET","host":"a","path":"/","pathh":1}"#, "unknown field `pathh`"),
        (r#"{"id":"2","method":1,"host":"a","path":"/"}"#, "expected a string"),
        (r#"{"id":"2","id":"3","method":"GET","host":"a","path":"/"}"#, "duplicate field `id`"),
        (r#"{"id":"2","method":"","host":"a","path":"/"}"#, "method: must not be empty"),
        (r#"{"id":"2","method":"GET","host":"a","path":"/","source":{"ip":"x"}}"#, "invalid IP address"),
    ];
    for (line, words) in rows {
        let input = format!("{line}\n{REQUEST}\n");
        let output = run(folder.path(), &["evaluate", "--config", "p.yaml", "--requests", "-"], &input);
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!((output.status.code(), lines.len()), (Some(1), 2), "{line}: {out}");
        let said: serde_json::Value = serde_json::from_str(lines[0]).unwrap();
        assert!(said["error"].as_str().unwrap().contains(words), "{line} lacks {words:?}: {said}");
        assert!(lines[1].contains(r#""allowed":true"#), "{out}");
    }
}

#[test]
fn standard_input_is_read_once() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("p.yaml"), POLICY).unwrap();
    let twice = run(folder.path(), &["evaluate", "--config", "p.yaml", "--requests", "-", "--requests", "-"], REQUEST);
    assert_eq!(twice.status.code(), Some(2));
    assert!(err(&twice).contains("--requests"), "{}", err(&twice));
    let dash = run(folder.path(), &["evaluate", "--config", "-", "--requests", "-"], REQUEST);
    assert_eq!(dash.status.code(), Some(2));
    assert!(err(&dash).contains("--config reads files and folders, not standard input"), "{}", err(&dash));
}
