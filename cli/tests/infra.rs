//! The manifests of `infra/istio` as `causeway` reads them: without a finding, and with the verdicts that they are for.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

fn istio() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/istio")
}

fn causeway(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
    command.args(arguments).arg("--config").arg(istio());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn lint_finds_nothing_but_what_is_meant() {
    let allowed = [
        // What no policy allows is closed, also in a service that is new.
        "allow-nothing",
        // Every request is put to the adapter: one that were not could show a revoked token.
        "audit-or-custom-everything",
        // Of ratings only the metrics port takes plaintext, and the rule is about the other one.
        "peer-over-plaintext",
    ];
    let mut arguments = vec!["lint", "--json", "--deny", "all"];
    arguments.extend(allowed.iter().flat_map(|code| ["--allow", code]));
    let output = causeway(&arguments, "");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    // Each of them is still found.
    let found = String::from_utf8(causeway(&["lint", "--json"], "").stdout).unwrap();
    assert!(allowed.iter().all(|code| found.contains(code)), "{found}");
}

#[test]
fn they_make_a_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("mesh.bundle");
    let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
    let output = command.args(["bundle", "--output"]).arg(&bundle).arg(istio()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && bundle.exists(), "{said}");
    // What is left out is what says nothing about access or routes.
    let skipped: Vec<&str> = said.lines().filter(|line| line.contains(": skipped ")).collect();
    assert!(skipped.iter().all(|line| line.contains("ServiceAccount") || line.contains("Kustomization")), "{said}");
    assert!(!said.contains("warning"), "{said}");
}

#[test]
fn peers_and_ports_are_told_apart() {
    let ratings = json!({"namespace": "bookinfo", "labels": {"app": "ratings"}});
    let adapter = json!({"namespace": "causeway", "labels": {"app.kubernetes.io/name": "causeway-adapter"}});
    let gateway = "cluster.local/ns/istio-system/sa/istio-ingressgateway-service-account";
    let reviews = "cluster.local/ns/bookinfo/sa/bookinfo-reviews";
    let alias = "old.bookinfo.example/ns/istio-system/sa/istio-ingressgateway-service-account";
    let scraper = "cluster.local/ns/monitoring/sa/prometheus";
    let (prometheus, other) = ("10.0.48.7", "10.0.49.7");
    /// Workload, port, path, address, peer, and whether it passes.
    type Row<'a> = (&'a Value, u16, &'a str, &'a str, Option<&'a str>, bool);
    let rows: [Row<'_>; 17] = [
        (&ratings, 9091, "/metrics", prometheus, None, true),
        (&ratings, 9091, "/metrics", other, None, false),
        (&ratings, 9091, "/ratings/0", prometheus, None, false),
        (&ratings, 9080, "/metrics", prometheus, None, false),
        (&ratings, 9080, "/ratings/0", other, Some(reviews), false), // without the token of reviews
        (&adapter, 9191, "/envoy.service.auth.v3.Authorization/Check", other, Some(gateway), true),
        (&adapter, 9191, "/envoy.service.auth.v3.Authorization/Check", other, Some(alias), true),
        (&adapter, 9191, "/envoy.service.auth.v3.Authorization/Check", other, Some(reviews), false),
        (&adapter, 9191, "/envoy.service.auth.v3.Authorization/Check", other, None, false),
        (&adapter, 9191, "/envoy.service.auth.v3.Authorization/Check", other, Some(scraper), false),
        (&adapter, 9191, "/metrics", other, Some(scraper), false),
        (&adapter, 9192, "/metrics", other, Some(scraper), true),
        (&adapter, 9192, "/", other, Some(scraper), false),
        (&adapter, 9192, "/metrics", other, Some(gateway), false),
        (&adapter, 9192, "/metrics", other, Some(reviews), false),
        (&adapter, 9192, "/metrics", prometheus, None, false),
        (&adapter, 9090, "/", other, Some(gateway), false),
    ];
    let mut lines = String::new();
    for (number, (workload, port, path, ip, principal, _)) in rows.iter().enumerate() {
        let mut source = json!({"ip": ip});
        if let Some(principal) = principal {
            source["principal"] = json!(principal);
        }
        let request = json!({
            "id": number.to_string(), "method": if path.contains("Check") { "POST" } else { "GET" }, "scheme": "http",
            "host": "x", "path": path, "headers": [], "source": source, "destination": {"port": port},
            "workload": workload,
        });
        lines += &format!("{request}\n");
    }
    let output = causeway(&["evaluate", "--requests", "-"], &lines);
    let answers: Vec<Value> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), rows.len(), "{}", String::from_utf8_lossy(&output.stderr));
    for (answer, row) in answers.iter().zip(&rows) {
        assert_eq!(answer["allowed"], row.5, "{row:?}: {answer}");
    }
}

/// The ECS service's route has the authorizer, and nothing that the authorizer says can be said by a client.
#[test]
fn lint_finds_nothing_in_the_ecs_template() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
    command.args(["lint", "--deny", "all", "--json"]).arg(root.join("examples/bookinfo"));
    let output = command.arg("--template").arg(root.join("infra/ecs/service.yaml")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What infra/istio says of the service in ECS, by the labels that its template gives it: plaintext at its one port, which
/// the VPC link needs, and to nobody who has no token. The pods of the same service stay as they are.
#[test]
fn the_service_in_ecs_can_be_called_and_its_pods_take_no_plaintext() {
    let template = std::fs::read_to_string(istio().join("../ecs/service.yaml")).unwrap();
    let labels = template.split("CAUSEWAY_LABELS, Value: \"").nth(1).unwrap().split('"').next().unwrap();
    let port = template.split("Value: \"15006=127.0.0.1:").nth(1).unwrap().split('"').next().unwrap();
    let labels: Vec<(String, String)> =
        labels.split(',').map(|one| one.split_once('=').unwrap()).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    let files = std::fs::read_dir(istio()).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        istio::SourceFile { name: path.display().to_string(), text: std::fs::read_to_string(path).unwrap() }
    });
    let resources = istio::parse(&files.collect::<Vec<_>>()).unwrap();
    let compiled = authz::compile(&resources, &authz::CompileOptions::default()).unwrap();
    let policies = authz::Policies::open(&compiled.section).unwrap();
    let port: u16 = port.parse().unwrap();
    assert_eq!(policies.peer_mode("bookinfo", &labels, port), authz::PeerMode::Permissive);
    assert_eq!(policies.peer_mode("bookinfo", &labels, port + 1), authz::PeerMode::Strict);
    let pod = vec![("app".to_owned(), "reviews".to_owned())];
    assert_eq!(policies.peer_mode("bookinfo", &pod, port), authz::PeerMode::Strict);
    assert!(policies.is_closed("bookinfo", &labels));

    // Who has no token passes nowhere.
    let named: serde_json::Map<String, Value> = labels.iter().map(|(n, v)| (n.clone(), json!(v))).collect();
    let request = json!({
        "id": "1", "method": "GET", "scheme": "http", "host": "x", "path": "/reviews/1", "headers": [],
        "source": {"ip": "10.0.0.9"}, "destination": {"port": port},
        "workload": {"namespace": "bookinfo", "labels": named},
    });
    let output = causeway(&["evaluate", "--requests", "-"], &format!("{request}\n"));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&answer["allowed"], &answer["status"]), (&false.into(), &403.into()), "{answer}");
}
