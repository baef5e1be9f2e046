//! The programs that render and check `infra/`, as `tests/tools/install-infra` has installed them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use e2e::{root, tier};
use serde_json::Value;

/// Kubernetes as it is in the oldest clusters that the manifests are for, and the newest that the schemas know.
const KUBERNETES: [&str; 2] = ["1.30", "1.37"];

/// A tool of `.tools/infra/bin`.
pub fn tool(name: &str) -> PathBuf {
    root().join(".tools/infra/bin").join(name)
}

/// False where the tools are not installed.
pub fn available() -> bool {
    let tools = ["helm", "kubectl", "hadolint", "node", "python3"].map(tool);
    tier::available(&tools.iter().map(PathBuf::as_path).collect::<Vec<_>>())
}

/// What a program prints; an error has both of its outputs.
pub fn run(command: &mut Command, input: &str) -> Result<String, String> {
    // Helm keeps caches and reads its configuration there.
    let home = tempfile::tempdir().map_err(|error| error.to_string())?;
    command.env("HOME", home.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
    let (mut stdin, input) = (child.stdin.take(), input.to_owned());
    let writer = std::thread::spawn(move || stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    // A program that does not read its input to the end has said why.
    let _ = writer.join();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(format!("{}{}", text(&output.stdout), text(&output.stderr))),
    }
}

/// What `kubectl kustomize` makes of a folder.
pub fn kustomize(folder: &Path) -> Result<String, String> {
    run(Command::new(tool("kubectl")).arg("kustomize").arg(folder), "")
}

/// What `helm template` makes of the adapter's chart.
pub fn helm(chart: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(tool("helm"));
    run(command.args(["template", "causeway-adapter"]).arg(chart).args(["--namespace", "causeway"]).args(arguments), "")
}

/// The documents of a YAML text.
pub fn documents(yaml: &str) -> Result<Vec<Value>, String> {
    let script = root().join("tests/fixtures/infra/documents.py");
    let mut file = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
    file.write_all(yaml.as_bytes()).map_err(|error| error.to_string())?;
    let json = run(Command::new(tool("python3")).arg(script).arg(file.path()), "")?;
    serde_json::from_str(&json).map_err(|error| error.to_string())
}

/// The documents of a YAML file.
pub fn read(path: &Path) -> Result<Vec<Value>, String> {
    documents(&std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?)
}

/// What the schemas have against documents; each is checked by the one of its kind.
pub fn schema_findings(documents: &[Value]) -> Result<Vec<String>, String> {
    let group = |document: &Value| document["apiVersion"].as_str().unwrap_or_default().to_owned();
    let custom =
        |document: &Value| group(document).contains("istio.io/") || group(document).contains("cert-manager.io/");
    // `causeway` alone knows its own kinds.
    let others = documents.iter().filter(|document| !group(document).starts_with("causeway.dev/"));
    let (custom, own): (Vec<&Value>, Vec<&Value>) = others.partition(|document| custom(document));
    let scripts = root().join("tests/fixtures/infra");
    let mut findings = Vec::new();
    let mut python = Command::new(tool("python3"));
    python.arg(scripts.join("kubernetes.py")).args(KUBERNETES);
    let mut node = Command::new(tool("node"));
    node.arg(scripts.join("custom.mjs")).arg(root().join(".tools/infra/node_modules"));
    for (validator, documents) in [(&mut python, own), (&mut node, custom)] {
        let json = serde_json::to_string(&documents).map_err(|error| error.to_string())?;
        if let Err(said) = run(validator, &json) {
            findings.extend(said.lines().map(str::to_owned));
        }
    }
    Ok(findings)
}
