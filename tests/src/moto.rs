//! Secrets Manager and DynamoDB by moto.

use std::net::SocketAddr;

use tokio::process::Command;

use crate::process::Process;
use crate::{path, ports, tool};

/// A running moto server.
pub struct Moto {
    /// Where it listens.
    pub address: SocketAddr,
    process: Process,
}

impl Moto {
    /// Starts moto on a free port.
    pub async fn start() -> Result<Self, String> {
        Self::with(&[]).await
    }

    /// Starts moto so that it verifies the signature of every request after the first `unchecked` ones.
    pub async fn start_verifying(unchecked: u32) -> Result<Self, String> {
        Self::with(&[("INITIAL_NO_AUTH_ACTION_COUNT", &unchecked.to_string())]).await
    }

    async fn with(environment: &[(&str, &str)]) -> Result<Self, String> {
        let port = ports::free().map_err(|error| format!("no free port: {error}"))?;
        let address = ports::loopback(port);
        let mut command = Command::new(tool("moto_server"));
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]).env_clear().env("PATH", path());
        command.envs(environment.iter().copied());
        let mut process = Process::start("moto", &mut command)?;
        process.listening(address).await?;
        Ok(Self { address, process })
    }

    /// The endpoint URL for AWS clients.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What every program of ours needs in order to use it.
    pub fn environment(&self) -> Vec<(String, String)> {
        [
            ("AWS_REGION", "eu-central-1"),
            ("AWS_ACCESS_KEY_ID", "AKIDLOCAL"),
            ("AWS_SECRET_ACCESS_KEY", "local-secret"),
            ("AWS_ENDPOINT_URL", &self.url()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// Its output.
    pub fn process(&self) -> &Process {
        &self.process
    }
}
