//! The two proxies: the extension in this process, and Envoy as a sidecar's outbound side.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use causeway::dev::http::send;
use e2e::process::{PATIENCE, Process};
use e2e::tool;
use extension::config::Life;
use extension::{BundleSource, Config, Deps, Egress, Extension, Workload};
use istio::{Resources, SourceFile};
use platform::aws::{AwsConfig, Credentials};
use platform::bundle::{self, Section};
use platform::clock::SystemClock;
use platform::log::Log;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::mesh::{self, Authority};
use crate::translate;

/// Both of them, with the same documents.
pub(crate) struct Proxies {
    pub(crate) extension: SocketAddr,
    pub(crate) envoy: SocketAddr,
    /// Envoy, where it believes its client.
    pub(crate) trusting: SocketAddr,
    admin: SocketAddr,
    process: Process,
    _folder: TempDir,
}

impl Proxies {
    pub(crate) async fn start(documents: String, authority: Arc<Authority>) -> Result<Proxies, String> {
        let file = SourceFile { name: "documents.yaml".to_owned(), text: documents };
        let resources = istio::parse(&[file]).map_err(|errors| format!("{errors:?}"))?;
        let folder = tempfile::tempdir().map_err(text)?;
        authority.write_client(folder.path())?;
        let issuer = mesh::issuer(authority).await.map_err(text)?;
        let extension = start_extension(&resources, issuer).await?;
        let (process, (admin, envoy, trusting)) = start_envoy(&resources, folder.path()).await?;
        Ok(Proxies { extension, envoy, trusting, admin, process, _folder: folder })
    }

    /// How many endpoints of a host Envoy leaves out.
    pub(crate) async fn left_out(&self, host: &str) -> Option<usize> {
        let path = "/stats?filter=ejections_active";
        let stats = send(self.admin, "GET", path, &[("host", "admin")], "").await.ok()?.body;
        let wanted = format!("cluster.outbound|80||{host}.outlier_detection.ejections_active: ");
        stats.lines().find_map(|line| line.strip_prefix(&wanted)?.trim().parse().ok())
    }

    /// What Envoy has said.
    pub(crate) fn envoy_said(&self) -> Vec<String> {
        let lines = self.process.lines();
        // How istiod says the time of gRPC.
        lines.into_iter().filter(|line| !line.contains("max_grpc_timeout")).collect()
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

async fn start_extension(resources: &Resources, issuer: SocketAddr) -> Result<SocketAddr, String> {
    let rules = traffic::compile(resources).map_err(|problems| problems.join("\n"))?;
    let egress = Egress {
        bundle: BundleSource::Bytes(bundle::write(&[(Section::Egress, &rules.section)]).map_err(text)?),
        workload: Workload { namespace: Some("shop".to_owned()), ..Workload::default() },
        trust_domain: None,
        issuer_url: format!("http://{issuer}"),
        issuer_service: "lambda".to_owned(),
        aws: AwsConfig {
            region: "eu-central-1".to_owned(),
            credentials: Credentials {
                access_key_id: "AKIDEXAMPLE".to_owned(),
                secret_access_key: "not-looked-at".to_owned().into(),
                session_token: None,
            }
            .into(),
            dynamodb_endpoint: None,
            secretsmanager_endpoint: None,
        },
        audience: None,
        scope: None,
        tokens: Vec::new(),
        identity_wait: Duration::from_secs(10),
        response_timeout: Duration::from_secs(15),
        connect_to: Vec::new(),
        listeners: Vec::new(),
        https: extension::config::Https::default(),
        inbound: None,
        life: Life::default(),
    };
    let (log, _) = Log::memory();
    let config = Config { port: 0, lambda: None, egress: Ok(egress) };
    let bound = Extension::bind(config, Deps { clock: Arc::new(SystemClock), log }).await.map_err(text)?;
    let address = bound.address();
    tokio::spawn(bound.run(std::future::pending()));
    Ok(address)
}

async fn start_envoy(resources: &Resources, folder: &Path) -> Result<(Process, Listeners), String> {
    let (path, admin) = (folder.join("envoy.json"), folder.join("admin"));
    std::fs::write(&path, translate::configuration(resources, folder).to_string()).map_err(text)?;
    let mut command = Command::new(tool("envoy"));
    // One worker, as limits of connections are each worker's own.
    command.arg("-c").arg(&path).args(["--disable-hot-restart", "--concurrency", "1", "-l", "warning"]);
    command.arg("--admin-address-path").arg(&admin);
    let mut process = Process::start("envoy", command.env_clear())?;
    let ready = async {
        loop {
            if let Some(address) = listeners(&admin).await {
                return address;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let address = tokio::select! {
        ready = tokio::time::timeout(PATIENCE, ready) => ready.ok(),
        _ = process.ended() => None,
    };
    let address = address.ok_or_else(|| format!("Envoy does not become ready:\n{}", process.lines().join("\n")))?;
    Ok((process, address))
}

/// Administration, the listener as it is by default, and the one that believes its client.
type Listeners = (SocketAddr, SocketAddr, SocketAddr);

/// The addresses, once Envoy is ready.
async fn listeners(admin: &Path) -> Option<Listeners> {
    let admin: SocketAddr = std::fs::read_to_string(admin).ok()?.trim().parse().ok()?;
    let ask = |target: &'static str| async move { send(admin, "GET", target, &[("host", "admin")], "").await.ok() };
    if ask("/ready").await?.status != 200 {
        return None;
    }
    let listeners: Value = serde_json::from_str(&ask("/listeners?format=json").await?.body).ok()?;
    let address = |name: &str| {
        let statuses = listeners["listener_statuses"].as_array()?;
        let socket = &statuses.iter().find(|status| status["name"] == name)?["local_address"]["socket_address"];
        let port = u16::try_from(socket["port_value"].as_u64()?).ok()?;
        Some(SocketAddr::new(socket["address"].as_str()?.parse().ok()?, port))
    };
    Some((admin, address("outbound")?, address("trusting")?))
}
