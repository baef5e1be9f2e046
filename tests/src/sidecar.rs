//! The extension as the sidecar of a task in ECS: the program, started by its environment alone.

use std::net::SocketAddr;
use std::path::Path;

use causeway::dev::http::{Answer, send};
use tokio::process::Command;

use crate::doors::Doors;
use crate::process::Process;
use crate::{ports, program};

/// A running sidecar.
pub struct Sidecar {
    /// Its log.
    pub process: Process,
    /// Where the application sends its calls.
    pub proxy: SocketAddr,
    /// Where others call the application.
    pub inbound: SocketAddr,
    /// Where its health is asked.
    pub health: SocketAddr,
}

/// What a task definition says of a sidecar.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    /// The task's role, which is its service account, and its label `app`.
    pub role: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// The bundle in its image.
    pub bundle: &'a Path,
    /// The port that others call.
    pub inbound: u16,
    /// Where the application listens, on loopback.
    pub application: SocketAddr,
    /// Further variables.
    pub more: &'a [(&'a str, &'a str)],
}

impl Sidecar {
    /// Starts it with the variables of `infra/ecs/service.yaml`, and waits until its health check is good.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(doors: &Doors, task: Task<'_>) -> Result<Self, String> {
        let sidecar = Self::begin(doors, task).await?;
        sidecar.until_health(200).await?;
        Ok(sidecar)
    }

    /// The same, and waits for no more than its ports.
    ///
    /// # Errors
    /// When they do not open.
    pub async fn begin(doors: &Doors, task: Task<'_>) -> Result<Self, String> {
        let free = || ports::free().map_err(|error| error.to_string());
        let (proxy, health) = (free()?, free()?);
        let (bundle, labels) = (task.bundle.display().to_string(), format!("app={}", task.role));
        let inbound = format!("{}={}", task.inbound, task.application);
        let mut command = Command::new(program("extension"));
        command.env_clear().envs(doors.variables(task.role)).envs([
            ("CAUSEWAY_BUNDLE", bundle.as_str()),
            ("CAUSEWAY_NAMESPACE", task.namespace),
            ("CAUSEWAY_LABELS", &labels),
            ("CAUSEWAY_METRICS", "emf"),
            ("CAUSEWAY_INBOUND", &inbound),
            // One machine has one of each of these.
            ("CAUSEWAY_PROXY_PORT", &proxy.to_string()),
            ("CAUSEWAY_HEALTH_PORT", &health.to_string()),
            ("CAUSEWAY_IDENTITY_WAIT_MS", "10000"),
        ]);
        command.envs(task.more.iter().copied());
        let mut process = Process::start(task.role, &mut command)?;
        let [proxy, inbound, health] = [proxy, task.inbound, health].map(ports::loopback);
        process.listening(health).await?;
        Ok(Self { process, proxy, inbound, health })
    }

    /// A call of the application, through the proxy as `http_proxy` has it.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn call(&self, url: &str, headers: &[(&str, &str)]) -> Result<Answer, String> {
        let host = url.strip_prefix("http://").and_then(|rest| rest.split('/').next()).unwrap_or_default();
        let headers = [&[("host", host)], headers].concat();
        send(self.proxy, "GET", url, &headers, "").await
    }

    /// Waits until the health check answers with `status`.
    ///
    /// # Errors
    /// When it does not.
    pub async fn until_health(&self, status: u16) -> Result<(), String> {
        let asking = async {
            while health(self.health).await != Some(status) {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let asked = tokio::time::timeout(crate::process::PATIENCE, asking).await;
        asked.map_err(|_| format!("the health check does not say {status}:\n{}", self.process.lines().join("\n")))
    }
}

async fn health(address: SocketAddr) -> Option<u16> {
    send(address, "GET", "/healthz/ready", &[("host", "health")], "").await.ok().map(|answer| answer.status)
}
