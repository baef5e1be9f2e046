//! `causeway lint`, from the shell's side.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::process::{Command, Output};

fn lint(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_causeway")).arg("lint").args(arguments).output().unwrap()
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const POLICIES: &str = "apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{port: 80}], selector: {app: web}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: closed, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  action: DENY
  rules:
  - to: [{operation: {paths: [\"/admin\"]}}]
";

#[test]
fn the_examples_have_no_findings() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/bookinfo");
    let output = lint(&["--config", examples.to_str().unwrap(), "--json"]);
    assert_eq!(printed(&output), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn the_exit_status_follows_the_severity_and_the_options() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.yaml");
    std::fs::write(&file, POLICIES).unwrap();
    let file = file.to_str().unwrap();
    let rows: [(&[&str], i32, bool); 5] = [
        (&[], 0, true),
        (&["--deny", "path-without-twins"], 1, true),
        (&["--deny", "all"], 1, true),
        (&["--deny", "all", "--allow", "path-without-twins"], 0, false),
        (&["--deny", "path-without-twin"], 2, false),
    ];
    for (options, status, found) in rows {
        let output = lint(&[&["--config", file][..], options].concat());
        assert_eq!(output.status.code(), Some(status), "{options:?}: {output:?}");
        assert_eq!(printed(&output).contains("[path-without-twins]"), found, "{options:?}");
    }
}

#[test]
fn json_has_one_object_a_finding() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.yaml");
    std::fs::write(&file, POLICIES).unwrap();
    let output = lint(&["--config", file.to_str().unwrap(), "--json"]);
    let printed = printed(&output);
    let findings: Vec<serde_json::Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [finding] = findings.as_slice() else { panic!("{findings:?}") };
    let expected = serde_json::json!({
        "code": "path-without-twins",
        "severity": "warning",
        "file": file.to_str().unwrap(),
        "line": 6,
        "resource": "AuthorizationPolicy shop/closed",
        "path": "spec.rules[0].to[0].operation.paths[0]",
        "message": "`/admin` is denied, and `/admin/` is not",
        "instead": "write `/admin/*` beside it",
    });
    assert_eq!(*finding, expected);
}

#[test]
fn a_refused_configuration_is_no_finding() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.yaml");
    std::fs::write(&file, POLICIES.replace("operation", "operatoin")).unwrap();
    for arguments in [&["--config", file.to_str().unwrap()][..], &[], &["--explain", "no-such-code"]] {
        let output = lint(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(printed(&output), "", "{arguments:?}");
    }
}

#[test]
fn every_listed_code_is_explained() {
    let list = printed(&lint(&["--list"]));
    assert!(list.lines().count() > 60, "{list}");
    let code = list.lines().next().unwrap().split(' ').next().unwrap();
    let explained = lint(&["--explain", code]);
    assert_eq!(explained.status.code(), Some(0));
    for word in [code, "What:", "Why:", "Instead:", "kind: "] {
        assert!(printed(&explained).contains(word), "{word}");
    }
}

#[test]
fn paths_are_taken_as_bundle_takes_them() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (folder.path().join("p.yaml"), folder.path().join("q.yaml"));
    std::fs::write(&one, POLICIES).unwrap();
    std::fs::write(&other, POLICIES.replace("web", "shop").replace("closed", "other")).unwrap();
    let (one, other) = (one.to_str().unwrap(), other.to_str().unwrap());
    let expected = printed(&lint(&["--config", one, other]));
    assert!(expected.contains("p.yaml") && expected.contains("q.yaml"), "{expected}");
    for arguments in [&[one, other][..], &[folder.path().to_str().unwrap()], &[other, "--config", one]] {
        assert_eq!(printed(&lint(arguments)), expected, "{arguments:?}");
    }
    for arguments in [&["--list", one][..], &["--explain", "literal-star", one]] {
        assert_eq!(lint(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn errors_come_first() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.yaml"), POLICIES).unwrap();
    let wrong = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: ns1}\n\
                 spec: {action: DENY, rules: [{from: [{source: {principals: ['spiffe://td/ns/a/sa/b']}}]}]}\n";
    std::fs::write(folder.path().join("b.yaml"), wrong).unwrap();
    let printed = printed(&lint(&[folder.path().to_str().unwrap()]));
    let severities: Vec<&str> =
        printed.lines().filter_map(|line| line.split_once(": ")?.1.split_once('[')).map(|(word, _)| word).collect();
    let rank = |word: &&str| ["error", "warning", "info"].iter().position(|known| known == word).unwrap();
    assert!(severities.contains(&"error") && severities.contains(&"warning"), "{printed}");
    assert!(severities.is_sorted_by_key(rank), "{printed}");
}

#[test]
fn a_template_that_was_not_rendered_is_named_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.yaml");
    for (text, found) in [
        ("{{- if .Values.on }}\napiVersion: security.istio.io/v1\n{{- end }}\n", true),
        ("apiVersion: security.istio.io/v1\n- a\n", false),
    ] {
        std::fs::write(&file, text).unwrap();
        let output = lint(&[file.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert_eq!(said.contains("p.yaml:1: `{{` looks like a template that was not rendered"), found, "{said}");
    }
}
