//! What is in `infra/` fits the schemas of what reads it, says what it must, and starts our programs.
//!
//! `tools` renders and validates, `adapter` and `ecs` know what the manifests have to say, `trust` tries the commands
//! that make the intermediates.

#![allow(missing_docs, unreachable_pub)]

mod adapter;
mod ecs;
mod mistakes;
mod tools;
mod trust;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::process::Process;
use e2e::{ports, program, root, tier};
use serde_json::Value;

use crate::tools::{documents, helm, kustomize, read, run, schema_findings, tool};

pub(crate) type Outcome = Result<(), String>;

/// The annotation that gives a service account a role of IAM.
const ROLE: &str = "eks.amazonaws.com/role-arn";

fn infra(path: &str) -> PathBuf {
    root().join("infra").join(path)
}

/// BookInfo's overlay with the component for EKS Pod Identity. Kustomize takes relative paths alone.
fn with_pod_identity() -> Result<tempfile::TempDir, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = folder.path().canonicalize().map_err(|error| error.to_string())?;
    let up = "../".repeat(path.components().count() - 1);
    let here = infra("adapter/kustomize").display().to_string();
    let here = format!("{up}{}", here.trim_start_matches('/'));
    let text = format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [{here}/overlays/bookinfo]\n\
         components: [{here}/components/pod-identity]\n"
    );
    std::fs::write(folder.path().join("kustomization.yaml"), text).map_err(|error| error.to_string())?;
    Ok(folder)
}

/// The adapter as Kustomize and as Helm render it, plain and for BookInfo.
fn adapters() -> Result<[(&'static str, Vec<Value>); 6], String> {
    let (chart, example) = (infra("adapter/chart"), infra("adapter/chart/examples/bookinfo.yaml"));
    let example = example.to_str().ok_or("the checkout's path is not UTF-8")?;
    Ok([
        ("base", documents(&kustomize(&infra("adapter/kustomize/base"))?)?),
        ("chart", documents(&helm(&chart, &[])?)?),
        ("overlay", documents(&kustomize(&infra("adapter/kustomize/overlays/bookinfo"))?)?),
        ("chart with values", documents(&helm(&chart, &["--values", example])?)?),
        ("overlay with Pod Identity", documents(&kustomize(with_pod_identity()?.path())?)?),
        (
            "chart with Pod Identity",
            documents(&helm(
                &chart,
                &["--values", example, "--set", "serviceAccount.roleArn=,serviceAccount.podIdentity=true"],
            )?)?,
        ),
    ])
}

/// Documents by kind, without what only Helm or only Kustomize says.
fn comparable(documents: &[Value]) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for document in documents.iter().filter(|document| document["kind"] != "Namespace") {
        let mut document = document.clone();
        if let Some(labels) = document["metadata"]["labels"].as_object_mut() {
            labels.retain(|name, _| !matches!(name.as_str(), "helm.sh/chart" | "app.kubernetes.io/managed-by"));
        }
        // The order of variables means nothing: none refers to another one.
        if let Some(Value::Array(variables)) = document.pointer_mut("/spec/template/spec/containers/0/env") {
            variables.sort_by_key(|variable| variable["name"].as_str().map(str::to_owned));
        }
        all.insert(document["kind"].to_string(), document);
    }
    all
}

#[test]
fn every_document_fits_its_schema() -> Outcome {
    if !tools::available() {
        return Ok(());
    }
    let mut sources: Vec<(&str, Vec<Value>)> = adapters()?.into();
    sources.push(("istio", documents(&kustomize(&infra("istio"))?)?));
    for file in ["istio/mesh.yaml", "istio/causeway.yaml", "istio/ecs.yaml", "trust/cert-manager.yaml"] {
        sources.push((file, read(&infra(file))?));
    }
    for (source, documents) in &sources {
        assert!(documents.len() > 1 || *source == "istio/mesh.yaml", "{source} has {} documents", documents.len());
        assert_eq!(schema_findings(documents)?, Vec::<String>::new(), "{source}");
    }
    // Everything in the folder is applied.
    let listed = read(&infra("istio/kustomization.yaml"))?;
    let listed: BTreeSet<&str> =
        listed[0]["resources"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let found = std::fs::read_dir(infra("istio")).map_err(|error| error.to_string())?;
    let found: BTreeSet<String> = found.flatten().map(|file| file.file_name().to_string_lossy().into_owned()).collect();
    let apart = ["kustomization.yaml", "mesh.yaml", "causeway.yaml", "ecs.yaml"];
    assert_eq!(listed, found.iter().map(String::as_str).filter(|file| !apart.contains(file)).collect());
    Ok(())
}

/// The validators do find something.
#[test]
fn a_wrong_document_does_not_fit_its_schema() -> Outcome {
    if !tools::available() {
        return Ok(());
    }
    let istio = kustomize(&infra("istio"))?;
    let base = kustomize(&infra("adapter/kustomize/base"))?;
    for (text, from, to, finding) in [
        (&istio, "mode: STRICT", "mode: STRICTEST", "data/spec/mtls/mode"),
        (&istio, "weight: 90", "weight: most", "data/spec/http/0/route/0/weight"),
        (&istio, "kind: PeerAuthentication", "kind: PeerAuthentification", "there is no security.istio.io/v1"),
        (&istio, "targetPort: 9080", "targtPort: 9080", "'targtPort' was unexpected"),
        (&base, "readOnlyRootFilesystem", "readOnlyRootFileSystem", "'readOnlyRootFileSystem' was unexpected"),
        (&base, "minReplicas: 3", "minReplicas: three", "'three' is not"),
        (&base, "apiVersion: policy/v1\n", "apiVersion: policy/v1beta1\n", "PodDisruptionBudget"),
    ] {
        assert!(text.contains(from), "no {from:?} to replace");
        let findings = schema_findings(&documents(&text.replacen(from, to, 1))?)?;
        assert!(findings.iter().any(|line| line.contains(finding)), "{to} should be found: {findings:#?}");
    }
    Ok(())
}

#[test]
fn helm_and_kustomize_say_the_same() -> Outcome {
    if !tools::available() {
        return Ok(());
    }
    let [(_, base), (_, chart), (_, overlay), (_, with_values), (_, component), (_, with_agent)] = adapters()?;
    assert_eq!(comparable(&base), comparable(&chart));
    assert_eq!(comparable(&overlay), comparable(&with_values));
    assert_eq!(comparable(&component), comparable(&with_agent));
    // Nobody has a way to the agent who does not need it.
    let ways = [&base, &overlay, &component].map(|documents| adapter::asks_the_agent(documents));
    assert_eq!(ways, [false, false, true]);
    run(Command::new(tool("helm")).args(["lint", "--strict"]).arg(infra("adapter/chart")), "")?;
    let versions = read(&infra("adapter/chart/Chart.yaml"))?;
    assert_eq!(versions[0]["appVersion"], env!("CARGO_PKG_VERSION"), "the image's tag");
    Ok(())
}

#[test]
fn the_chart_refuses_values_that_it_does_not_have() -> Outcome {
    if !tools::available() {
        return Ok(());
    }
    let chart = infra("adapter/chart");
    for (value, named) in [
        ("image.digst=sha256:1", "digst"),
        ("image.digest=sha256:1", "/image/digest"),
        ("image.tag=latest", "/image/tag"),
        ("network.wayOut={0.0.0.0/0}", "/network/wayOut/0"),
        ("network.callers.labels=null", "/network/callers"),
        ("env.CAUSEWAY_BUNDLE=/elsewhere", "CAUSEWAY_BUNDLE"),
        ("env.AWS_SECRET_ACCESS_KEY=x", "AWS_SECRET_ACCESS_KEY"),
        ("env.causeway_environment=dev", "causeway_environment"),
        ("serviceAccount.roleArn=admin", "/serviceAccount/roleArn"),
        ("serviceAccount.podIdentity=yes", "/serviceAccount/podIdentity"),
        ("port=80", "/port"),
        ("metricsPort=80", "/metricsPort"),
        ("env.CAUSEWAY_METRICS=off", "CAUSEWAY_METRICS"),
        ("env.CAUSEWAY_METRICS_PORT=9193", "CAUSEWAY_METRICS_PORT"),
        ("env.CAUSEWAY_API_KEYS_TABLE=keys", "CAUSEWAY_API_KEYS_TABLE"),
        ("apiKeys.table=keys", "/apiKeys/pepperSecret"),
        ("apiKeys.pepperSecret=pepper", "/apiKeys/pepperSecret"),
        ("apiKeys.issuerUrl=https://issuer.bookinfo.example", "/apiKeys/issuerUrl"),
        ("apiKeys.issuerUrl=http://issuer.bookinfo.example", "/apiKeys/issuerUrl"),
        ("apiKeys.tokenAudience=bookinfo", "/apiKeys/tokenAudience"),
        ("apiKeys.table=keys,apiKeys.pepperSecret=pepper", "AWS_REGION"),
        ("apiKeys.table=keys,apiKeys.pepperSecret=pepper,env.AWS_REGION=eu-central-1", "CAUSEWAY_ENVIRONMENT"),
    ] {
        match helm(&chart, &["--set-string", value]) {
            Ok(_) => return Err(format!("{value} is accepted")),
            Err(said) => assert!(said.contains(named), "{value}: {said}"),
        }
    }
    Ok(())
}

#[test]
fn the_adapter_has_no_privilege_that_it_does_not_need() -> Outcome {
    if !tools::available() {
        return Ok(());
    }
    for (source, documents) in adapters()? {
        assert_eq!(adapter::findings(&documents), Vec::<String>::new(), "{source}");
    }
    let base = infra("adapter/kustomize/base");
    for (file, text, replacement, finding) in mistakes::MISTAKES {
        let copy = tempfile::tempdir().map_err(|error| error.to_string())?;
        for entry in std::fs::read_dir(&base).map_err(|error| error.to_string())?.flatten() {
            let content = std::fs::read_to_string(entry.path()).map_err(|error| error.to_string())?;
            let wrong = entry.file_name().to_str() == Some(format!("{file}.yaml").as_str());
            assert!(!wrong || content.contains(text), "{file} has no {text:?} to replace");
            let content = if wrong { content.replacen(text, replacement, 1) } else { content };
            std::fs::write(copy.path().join(entry.file_name()), content).map_err(|error| error.to_string())?;
        }
        let found = adapter::findings(&documents(&kustomize(copy.path())?)?);
        assert!(found.iter().any(|line| line.contains(finding)), "{replacement:?} in {file}: {found:#?}");
    }
    Ok(())
}

/// istiod's chart and `causeway` are told the same, and both mean the adapter's Service.
#[test]
fn the_mesh_asks_this_adapter_and_fails_closed() -> Outcome {
    if !tools::available() {
        return Ok(());
    }
    let map = read(&infra("istio/mesh.yaml"))?;
    let mesh = documents(map[0]["data"]["mesh"].as_str().unwrap_or_default())?;
    assert_eq!(mesh[0], read(&infra("istiod-values.yaml"))?[0]["meshConfig"]);
    let provider = &mesh[0]["extensionProviders"][0];
    let grpc = &provider["envoyExtAuthzGrpc"];
    assert_eq!(map[0]["metadata"]["annotations"]["causeway.dev/adapter-providers"], provider["name"]);
    assert_eq!((&grpc["failOpen"], &grpc["statusOnError"]), (&Value::Bool(false), &Value::from("403")));
    let base = documents(&kustomize(&infra("adapter/kustomize/base"))?)?;
    let service = base.iter().find(|document| document["kind"] == "Service").ok_or("no Service")?;
    let name = |part: &str| service["metadata"][part].as_str().unwrap_or_default().to_owned();
    assert_eq!(grpc["service"], format!("{}.{}.svc.cluster.local", name("name"), name("namespace")));
    assert_eq!(grpc["port"], service["spec"]["ports"][0]["port"]);
    let policies = read(&infra("istio/access.yaml"))?;
    let asks = policies.iter().find(|policy| policy["spec"]["action"] == "CUSTOM").ok_or("no CUSTOM policy")?;
    assert_eq!(asks["spec"]["provider"]["name"], provider["name"]);
    // What `causeway` is told of the Service is what it is.
    let told = read(&infra("istio/causeway.yaml"))?;
    let told = told.iter().find(|document| document["metadata"] == *metadata(&name("name"), &name("namespace")));
    let told = &told.ok_or("causeway is not told of the adapter")?["spec"];
    assert_eq!(told["selector"], service["spec"]["selector"]);
    let numbers = |spec: &Value| -> Vec<Value> {
        spec["ports"].as_array().into_iter().flatten().map(|port| port["port"].clone()).collect()
    };
    assert_eq!(numbers(told), numbers(&service["spec"]));
    Ok(())
}

fn metadata(name: &str, namespace: &str) -> Box<Value> {
    Box::new(serde_json::json!({"name": name, "namespace": namespace}))
}

/// The bundle of `infra/istio`.
pub(crate) fn bundle(folder: &Path) -> Result<PathBuf, String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(infra("istio")).map_err(|error| error.to_string())?.flatten() {
        let text = std::fs::read_to_string(entry.path()).map_err(|error| error.to_string())?;
        files.push(istio::SourceFile { name: entry.path().display().to_string(), text });
    }
    let resources = istio::parse(&files).map_err(|errors| format!("{errors:?}"))?;
    let bytes = causeway::bundle::build(&resources, BTreeMap::new()).map_err(|errors| errors.join("; "))?;
    let path = folder.join("mesh.bundle");
    std::fs::write(&path, bytes).map_err(|error| error.to_string())?;
    Ok(path)
}

/// An annotation of the adapter's pods.
fn annotation<'a>(documents: &'a [Value], name: &str) -> Option<&'a str> {
    let pods = documents.iter().find_map(|document| document.pointer("/spec/template/metadata/annotations"));
    pods.and_then(|annotations| annotations[name].as_str())
}

/// The adapter starts with the manifests' own variables and the manifests' policies, and answers the manifests' probes.
/// A misspelt variable, and a workload without policies, would stop it.
#[tokio::test(flavor = "multi_thread")]
async fn the_adapter_starts_as_the_manifests_say() -> Outcome {
    if !tools::available() || !tier::available(&[&program("adapter"), &e2e::tool("python3")]) {
        return Ok(());
    }
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let bundle = bundle(folder.path())?;
    for (source, documents) in adapters()? {
        let container = documents.iter().find_map(|document| document.pointer("/spec/template/spec/containers/0"));
        let container = container.ok_or("no container")?;
        let port = ports::free().map_err(|error| error.to_string())?;
        let metrics = ports::free().map_err(|error| error.to_string())?;
        let mut command = tokio::process::Command::new(program("adapter"));
        command.env_clear();
        // What EKS sets for an account with a role.
        let role = documents.iter().find_map(|one| one["metadata"]["annotations"][ROLE].as_str());
        if let Some(role) = role {
            let token = folder.path().join("token");
            std::fs::write(&token, "hunter2").map_err(|error| error.to_string())?;
            command.env("AWS_ROLE_ARN", role).env("AWS_WEB_IDENTITY_TOKEN_FILE", token);
        }
        // And for one with an association.
        if adapter::asks_the_agent(&documents) {
            command.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials");
            command.env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", folder.path().join("token"));
        }
        for variable in container["env"].as_array().into_iter().flatten() {
            let text = |field: &str| variable[field].as_str().unwrap_or_default().to_owned();
            command.env(text("name"), text("value"));
        }
        command.env("CAUSEWAY_BUNDLE", &bundle).env("CAUSEWAY_ADAPTER_ADDRESS", format!("127.0.0.1:{port}"));
        command.env("CAUSEWAY_METRICS_PORT", metrics.to_string());
        let mut adapter = Process::start("adapter", &mut command)?;
        adapter.listening(ports::loopback(port)).await.map_err(|error| format!("{source}: {error}"))?;
        for probe in ["readinessProbe", "livenessProbe"] {
            let mut command = Command::new(e2e::tool("python3"));
            command.arg(root().join("tests/fixtures/infra/probe.py")).arg(port.to_string());
            command.args(container[probe]["grpc"]["service"].as_str());
            run(&mut command, "").map_err(|error| format!("{source}: {probe}: {error}"))?;
        }
        let path = annotation(&documents, "prometheus.io/path").ok_or("no path of metrics")?;
        let mut curl = Command::new("curl");
        let read = run(curl.args(["-sSf", "--max-time", "10"]).arg(format!("http://127.0.0.1:{metrics}{path}")), "")?;
        assert!(read.contains("\ncauseway_bundle_generation 1\n"), "{source}: {read}");
        assert!(adapter.stop().await?.success(), "{source}");
    }
    Ok(())
}

#[test]
fn the_image_is_what_hadolint_accepts() -> Outcome {
    if !tools::available() {
        return Ok(());
    }
    let file = infra("image/Dockerfile");
    run(Command::new(tool("hadolint")).args(["--failure-threshold", "style"]).arg(&file), "")?;
    let text = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
    assert!(text.contains("\nUSER 65532:65532\n"), "the manifests' user");
    Ok(())
}
