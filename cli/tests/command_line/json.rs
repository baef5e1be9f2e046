//! The shape of every `--json`, as docs/commands.md has it.

use serde_json::{Value, json};

use super::{causeway_in, checkout, like_checkout};

/// The lines of standard output.
fn lines(arguments: &[&str], input: &str, code: i32) -> Vec<Value> {
    let folder = like_checkout();
    let said = causeway_in(folder.path(), arguments, input);
    assert_eq!(said.code, code, "{arguments:?}: {}", said.err);
    said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn members(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn bundle() {
    let [said] = lines(&["bundle", "examples/bookinfo", "-o", "out", "--json"], "", 0).try_into().unwrap();
    assert!(said["bytes"].as_u64().unwrap() > 1000, "{said}");
    let expected = json!({
        "file": "out", "bytes": said["bytes"], "mode": "strict", "access_policies": 7, "authentications": 2,
        "routes": 3, "egress_hosts": 1, "warnings": [], "skipped": [],
    });
    assert_eq!(said, expected);
    let folder = tempfile::tempdir().unwrap();
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n---\napiVersion: security.istio.io/v1\n\
                kind: AuthorizationPolicy\nmetadata: {name: a, namespace: b}\nspec: {}\n";
    std::fs::write(folder.path().join("p.yaml"), text).unwrap();
    let options =
        ["bundle", "p.yaml", "-o", "out", "--mode", "istio", "--jwks", "https://nobody.example=p.yaml", "--json"];
    let said: Value = serde_json::from_str(&causeway_in(folder.path(), &options, "").out).unwrap();
    assert_eq!(said["skipped"], json!([{"file": "p.yaml", "line": 1, "kind": "Deployment", "name": "a"}]));
    assert_eq!(said["mode"], "istio");
    let warning = "--jwks: no RequestAuthentication needs the keys of https://nobody.example";
    assert!(said["warnings"].as_array().unwrap().contains(&warning.into()), "{said}");
}

#[test]
fn a_refusal_leaves_standard_output_empty() {
    for arguments in [
        &["bundle", "nowhere", "-o", "out", "--json"][..],
        &["lint", "nowhere", "--json"],
        &["explain", "--config", "nowhere", "--curl", "curl http://a", "--json"],
        &["explain-egress", "--config", "nowhere", "--json", "http://a"],
        &["init", "--service", "A", "--namespace", "b", "--json"],
        &["keys", "list", "--json"],
        &["clients", "delete", "a", "--json"],
    ] {
        let said = causeway_in(&checkout(), arguments, "");
        assert!(
            said.code > 0 && said.out.is_empty() && said.err.starts_with("causeway: "),
            "{arguments:?}: {}",
            said.err
        );
    }
}

#[test]
fn normalize() {
    let said = lines(&["normalize", "--mode", "BASE", "--json"], "/a/../b\n/%00\n", 0);
    assert_eq!(said, [json!({"path": "/a/../b", "normal": "/b"}), json!({"path": "/%00", "normal": null})]);
}

#[test]
fn lint() {
    let codes = lines(&["lint", "--list", "--json"], "", 0);
    assert!(codes.len() > 30);
    for code in &codes {
        assert_eq!(members(code), ["code", "instead", "right", "severity", "what", "why", "wrong"]);
    }
    let [one] = lines(&["lint", "--explain", "literal-star", "--json"], "", 0).try_into().unwrap();
    assert!(codes.contains(&one) && one["code"] == "literal-star", "{one}");
    assert_eq!(lines(&["lint", "examples/bookinfo", "--json"], "", 0), Vec::<Value>::new());
}

#[test]
fn explain() {
    let curl = "curl https://api.bookinfo.example/admin";
    let [said] =
        lines(&["explain", "--config", "examples/bookinfo", "--curl", curl, "--json"], "", 0).try_into().unwrap();
    for name in [
        "id",
        "allowed",
        "status",
        "reason",
        "policy",
        "principal",
        "hop",
        "detail",
        "presented",
        "trace",
        "nearest",
        "hints",
    ] {
        assert!(said.get(name).is_some(), "{name}: {said}");
    }
    assert_eq!((&said["allowed"], &said["reason"]), (&json!(false), &json!("no_credential")));
}

#[test]
fn explain_egress() {
    let url = "http://ratings.bookinfo.svc.cluster.local:9080/ratings/1";
    let [said] = lines(&["explain-egress", "--config", "examples/bookinfo", "--json", url], "", 0).try_into().unwrap();
    assert_eq!((&said["outcome"], &said["destinations"][0]["percent"]), (&json!("forward"), &json!(100.0)), "{said}");
}

#[test]
fn token_inspect() {
    let token = "eyJhbGciOiJFUzI1NiJ9.eyJleHAiOjE3OTUxNzYwMDB9.c2ln";
    let [said] = lines(&["token", "inspect", "--now", "1795176000", "--json"], token, 0).try_into().unwrap();
    assert_eq!(members(&said), ["claims", "header", "problems", "times", "verified"]);
}

#[test]
fn keys_check() {
    let key = "cwk_dev_exampleREADM000000000000000000000000000000004PYycp";
    let [said] = lines(&["keys", "check", "--json"], key, 0).try_into().unwrap();
    assert_eq!(said, json!({"well_formed": true, "id": "exampleREADM", "environment": "dev"}));
    let [said] = lines(&["keys", "check", "--json"], "cwk_dev_s3cr3t", 1).try_into().unwrap();
    assert_eq!((&said["well_formed"], said["error"].is_string()), (&json!(false), true), "{said}");
    assert!(!said.to_string().contains("s3cr3t"), "{said}");
}

#[test]
fn init() {
    let options = ["init", "out", "--service", "orders", "--namespace", "shop", "--json"];
    let [said] = lines(&options, "", 0).try_into().unwrap();
    assert_eq!(members(&said), ["folder", "next", "written"]);
    assert_eq!(said["written"], json!(["out/access.yaml", "out/service.yaml", "out/requests.jsonl"]));
    assert_eq!(said["next"][0], "causeway lint out --deny all");
}
