//! Real Envoy in the parts that Istio gives it: gateway and sidecar.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use causeway::dev::http::send;
use serde_json::Value;
use tokio::process::Command;

use crate::process::{PATIENCE, Process};
use crate::{root, tool};

/// A running Envoy.
pub struct Envoy {
    /// Where its one listener is.
    pub address: SocketAddr,
    process: Process,
}

impl Envoy {
    /// Starts Envoy with the template `tests/envoy/NAME.yaml`, its `{{PLACEHOLDERS}}` replaced by `values`, and waits
    /// until it is ready. Its ports are free ones; what it needs as files goes to `folder`.
    pub async fn start(name: &str, values: &[(&str, &str)], folder: &Path) -> Result<Self, String> {
        let config = configuration(name, values, folder)?;
        let admin_path = folder.join(format!("{name}.admin"));
        let mut command = Command::new(tool("envoy"));
        command.arg("-c").arg(&config).args(["--disable-hot-restart", "--concurrency", "1", "-l", "warning"]);
        // Access logs are flushed every 10 s otherwise.
        command.args(["--file-flush-interval-msec", "20"]).arg("--admin-address-path").arg(&admin_path);
        let process = Process::start(name, command.env_clear())?;
        let ready = async {
            loop {
                if let Some(address) = listener(&admin_path).await {
                    return address;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let address = tokio::time::timeout(PATIENCE, ready)
            .await
            .map_err(|_| format!("{name} does not become ready; its output:\n{}", process.lines().join("\n")))?;
        Ok(Self { address, process })
    }

    /// Its access log and messages.
    pub fn process(&self) -> &Process {
        &self.process
    }
}

fn configuration(name: &str, values: &[(&str, &str)], folder: &Path) -> Result<PathBuf, String> {
    let template = root().join("tests/envoy").join(format!("{name}.yaml"));
    let text =
        std::fs::read_to_string(&template).map_err(|error| format!("cannot read {}: {error}", template.display()))?;
    // The head of a template explains its placeholders, and so names them.
    let mut text = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>().join("\n");
    for (placeholder, value) in [("ADMIN_PORT", "0"), ("LISTEN_PORT", "0")].iter().chain(values) {
        text = text.replace(&format!("{{{{{placeholder}}}}}"), value);
    }
    if let Some(at) = text.find("{{") {
        return Err(format!(
            "{name}: no value for {}",
            text.get(at..).unwrap_or_default().lines().next().unwrap_or_default()
        ));
    }
    let path = folder.join(format!("{name}.yaml"));
    std::fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    Ok(path)
}

/// The address of the first listener, once Envoy is ready.
async fn listener(admin_path: &Path) -> Option<SocketAddr> {
    let admin: SocketAddr = std::fs::read_to_string(admin_path).ok()?.trim().parse().ok()?;
    let ask = |target: &'static str| async move { send(admin, "GET", target, &[("host", "admin")], "").await.ok() };
    if ask("/ready").await?.status != 200 {
        return None;
    }
    let listeners: Value = serde_json::from_str(&ask("/listeners?format=json").await?.body).ok()?;
    let socket = &listeners["listener_statuses"][0]["local_address"]["socket_address"];
    let port = u16::try_from(socket["port_value"].as_u64()?).ok()?;
    Some(SocketAddr::new(socket["address"].as_str()?.parse().ok()?, port))
}
