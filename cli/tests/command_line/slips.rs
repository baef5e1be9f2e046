//! Common slips: for each what was found, what was expected and what to do.

use std::path::Path;

use super::{causeway_in, checkout};

const POLICY: &str = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: shop}
spec:
  rules:
  - from: [{source: {namespaces: [web]}}]
    to: [{operation: {methods: [GET]}}]
";
const REQUEST: &str = r#"{"id":"1","method":"GET","host":"a","path":"/","workload":{"namespace":"shop"}}"#;
const EVENT: &str = r#"{"version":"2.0","type":"REQUEST","requestContext":{"apiId":"a"}}"#;

/// A folder with one file of each kind.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &[u8]| std::fs::write(folder.path().join(name), text).unwrap();
    write("policies.yaml", POLICY.as_bytes());
    write("requests.jsonl", format!("{REQUEST}\n{REQUEST}\n").as_bytes());
    write("event.json", EVENT.as_bytes());
    write("jwks.json", b"{\"keys\":[]}");
    write("sam.yaml", b"AWSTemplateFormatVersion: 2010-09-09\nResources:\n  A: {Type: AWS::S3::Bucket}\n");
    write(
        "chart.yaml",
        b"apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{ .Values.meta }}\nspec: {}\n",
    );
    write("values.yaml", b"replicas: 1\n");
    write("beta.yaml", POLICY.replace("io/v1", "io/v1beta2").as_bytes());
    write("bare.yaml", POLICY.replace("security.istio.io/v1", "v1").as_bytes());
    write("none.yaml", POLICY.replace("apiVersion: security.istio.io/v1\n", "").as_bytes());
    write("tab.yaml", POLICY.replace("  rules", "\trules").as_bytes());
    let utf16: Vec<u8> = POLICY.encode_utf16().flat_map(u16::to_le_bytes).collect();
    write("utf16.yaml", &[b"\xff\xfe".as_slice(), &utf16].concat());
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    let made = causeway_in(folder.path(), &["bundle", "policies.yaml", "-o", "mesh.bundle"], "");
    assert_eq!(made.code, 0, "{}", made.err);
    folder
}

#[test]
fn each_slip_has_its_sentence() {
    let folder = folder();
    let rows: &[(&[&str], i32, &[&str])] = &[
        // Words.
        (&["lnt"], 2, &["unrecognized subcommand 'lnt'", "'lint'"]),
        (&["keys", "rotat", "a"], 2, &["unrecognized subcommand 'rotat'", "'rotate'"]),
        (&["lint", "--dney", "all"], 2, &["unexpected argument '--dney'", "'--deny'"]),
        (
            &["lint", "--mode", "istoi", "policies.yaml"],
            2,
            &["invalid value 'istoi'", "[possible values: istio, strict]"],
        ),
        (&["lint", "--explain", "litral-star"], 2, &["no code `litral-star`; did you mean `literal-star`?"]),
        (
            &["evaluate", "policies.yaml", "--requests", "-"],
            2,
            &["policies.yaml is a file or a folder: say with an option what it is, such as --config policies.yaml"],
        ),
        // What is not there.
        (&["lint", "polices.yaml"], 2, &["cannot read polices.yaml: it is not there; did you mean `policies.yaml`?"]),
        (&["lint", "policies.yml"], 2, &["cannot read policies.yml: it is not there; did you mean `policies.yaml`?"]),
        (&["lint", "nothing-like-it"], 2, &["cannot read nothing-like-it: it is not there\n"]),
        (
            &["evaluate", "--config", "policies.yaml", "--requests", "request.jsonl"],
            2,
            &["cannot read request.jsonl: it is not there; did you mean `requests.jsonl`?"],
        ),
        (&["lint", "empty"], 2, &["no .yaml or .yml file in empty; name the folder", "`causeway init`"]),
        // A folder instead of a file, and the reverse.
        (
            &["evaluate", "--config", "policies.yaml", "--requests", "empty"],
            2,
            &["cannot read empty: it is a folder, expected a file"],
        ),
        (
            &["explain", "--config", "policies.yaml", "--event", "empty"],
            1,
            &["cannot read empty: it is a folder, expected a file"],
        ),
        (
            &["bundle", "policies.yaml", "--jwks", "https://i=empty", "-o", "b"],
            2,
            &["--jwks: cannot read empty: it is a folder"],
        ),
        (
            &["bundle", "policies.yaml", "--template", "empty", "-o", "b"],
            2,
            &["cannot read empty: it is a folder, expected a file"],
        ),
        (&["bundle", "policies.yaml", "-o", "empty"], 2, &["--output empty is a folder, expected a file"]),
        (
            &["bundle", "policies.yaml", "-o", "nofolder/b"],
            1,
            &["cannot write nofolder/b: there is no folder nofolder"],
        ),
        (
            &["init", "policies.yaml", "--service", "a", "--namespace", "b"],
            1,
            &["policies.yaml is a file, and init writes into a folder"],
        ),
        // One kind of file in the place of another.
        (
            &["evaluate", "--config", "requests.jsonl", "--requests", "policies.yaml"],
            2,
            &["requests.jsonl: expected documents of Istio or Kubernetes, found requests, which --requests takes"],
        ),
        (
            &["evaluate", "--config", "policies.yaml", "--requests", "policies.yaml"],
            2,
            &[
                "--requests policies.yaml: expected one JSON object a line, found documents of Kubernetes, which --config takes",
            ],
        ),
        (
            &["evaluate", "--config", "policies.yaml", "--requests", "mesh.bundle"],
            2,
            &["--requests mesh.bundle", "found a bundle"],
        ),
        (
            &["evaluate", "--config", "policies.yaml", "--requests", "event.json"],
            2,
            &["found the event of an authorizer", "explain --event"],
        ),
        (
            &["explain", "--config", "policies.yaml", "--requests", "policies.yaml"],
            2,
            &["--requests: expected one JSON object a line"],
        ),
        (
            &["explain", "--config", "policies.yaml", "--event", "requests.jsonl"],
            2,
            &["--event: expected the event", "found requests"],
        ),
        (
            &["explain", "--config", "policies.yaml", "--request", "requests.jsonl"],
            2,
            &["found a file; use --requests requests.jsonl"],
        ),
        (
            &["explain", "--config", "policies.yaml", "--requests", "mesh.bundle"],
            2,
            &["mesh.bundle: expected JSON, found a bundle"],
        ),
        (
            &["lint", "jwks.json"],
            2,
            &["jwks.json: expected documents", "found a key set, which --jwks ISSUER=FILE takes"],
        ),
        (
            &["lint", "sam.yaml"],
            2,
            &["sam.yaml: expected documents", "found a template of CloudFormation, which --template takes"],
        ),
        (&["lint", "event.json"], 2, &["event.json: expected documents", "found the event of an authorizer"]),
        (
            &["lint", "values.yaml"],
            2,
            &["values.yaml:1:1: no Kubernetes document: `apiVersion` and `kind` are missing"],
        ),
        (
            &["bundle", "mesh.bundle", "-o", "b"],
            2,
            &["mesh.bundle: expected text in UTF-8, found a bundle", "with --config"],
        ),
        (&["lint", "mesh.bundle"], 2, &["lint reads YAML: a bundle holds only what it was compiled to"]),
        (
            &["evaluate", "--config", "mesh.bundle", "policies.yaml", "--requests", "-"],
            2,
            &["mesh.bundle is a bundle, which is read alone; leave out"],
        ),
        // What is inside.
        (
            &["lint", "chart.yaml"],
            2,
            &["chart.yaml:3: `{{` looks like a template that was not rendered; render it first"],
        ),
        (
            &["lint", "beta.yaml"],
            2,
            &["beta.yaml:1:13: apiVersion: expected version `v1` or `v1beta1`", "found `v1beta2`"],
        ),
        (
            &["lint", "bare.yaml"],
            2,
            &[
                "bare.yaml:1:13: apiVersion: the kind `AuthorizationPolicy` belongs to another group; expected `security.istio.io/v1`",
            ],
        ),
        (
            &["lint", "none.yaml"],
            2,
            &[
                "none.yaml:1:1: the field `apiVersion` is missing; expected `security.istio.io/v1` or `security.istio.io/v1beta1`",
            ],
        ),
        (&["lint", "tab.yaml"], 2, &["tab.yaml:5:1: not valid YAML: a tab; indent with spaces"]),
        (&["lint", "utf16.yaml"], 2, &["utf16.yaml: expected text in UTF-8, found text in UTF-16; save it as UTF-8"]),
    ];
    for (arguments, code, words) in rows {
        let said = causeway_in(folder.path(), arguments, REQUEST);
        assert_eq!((said.code, said.out.as_str()), (*code, ""), "{arguments:?}: {}", said.err);
        for word in *words {
            assert!(said.err.contains(word), "{arguments:?} lacks {word:?}: {}", said.err);
        }
        assert!(!said.err.contains("os error"), "{arguments:?}: {}", said.err);
    }
    assert!(!folder.path().join("b").exists());
}

/// A file that is something else altogether is one line, not one for each field of it.
#[test]
fn a_template_as_a_configuration_is_one_line() {
    let said = causeway_in(&checkout(), &["lint", "template.yaml"], "");
    assert_eq!((said.code, said.err.lines().count()), (2, 1), "{}", said.err);
}

/// Ways of writing that are all the same to a person, and none of them a slip.
#[test]
fn what_editors_and_kubectl_make_of_a_file_is_read() {
    let indented = POLICY.lines().map(|line| format!("  {line}\n")).collect::<String>();
    let list = format!("apiVersion: v1\nkind: List\nmetadata: {{resourceVersion: \"\"}}\nitems:\n-{}", &indented[1..]);
    let json = r#"{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy","metadata":{"name":"p","namespace":"shop"},
        "spec":{"rules":[{"from":[{"source":{"namespaces":["web"]}}],"to":[{"operation":{"methods":["GET"]}}]}]}}"#;
    for (name, text) in [
        ("plain.yaml", POLICY.to_owned()),
        ("crlf.yaml", POLICY.replace('\n', "\r\n")),
        ("bom.yaml", format!("\u{feff}{POLICY}")),
        ("list.yaml", list),
        ("policy.json", json.to_owned()),
        ("v1beta1.yaml", POLICY.replace("io/v1", "io/v1beta1")),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), text).unwrap();
        let said = causeway_in(folder.path(), &["evaluate", "--config", name, "--requests", "-"], REQUEST);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{name}");
        assert!(said.out.contains(r#""allowed":false"#), "{name}: {}", said.out);
        assert!(Path::new(name).extension().is_some());
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("p.yaml"), POLICY).unwrap();
    let crlf = format!("\r\n{REQUEST}\r\n{REQUEST}\r\n");
    let said = causeway_in(folder.path(), &["evaluate", "--config", "p.yaml", "--requests", "-"], &crlf);
    assert_eq!((said.code, said.out.lines().count()), (0, 2), "{}{}", said.out, said.err);
}
