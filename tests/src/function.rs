//! A Lambda function under AWS' own Runtime Interface Emulator.

use std::path::Path;

use tokio::process::Command;

use crate::process::Process;
use crate::{path, ports, root};

/// A running emulator with one function, and the extensions of its layer.
pub struct Function {
    process: Process,
    invoke_port: u16,
}

impl Function {
    /// Starts `command` as a function in `folder`. `layer` is what the function sees as `/opt`. Extension and runtime
    /// come up at the first invocation; until then only the emulator runs.
    pub async fn start(
        name: &str,
        command: &[&str],
        folder: &Path,
        layer: Option<&Path>,
        environment: &[(String, String)],
    ) -> Result<Self, String> {
        let free = || ports::free().map_err(|error| format!("no free port: {error}"));
        let (invoke_port, api_port) = (free()?, free()?);
        let mut rie = Command::new(root().join("tests/tools/rie"));
        rie.args(["--invoke-port", &invoke_port.to_string(), "--api-port", &api_port.to_string()]);
        if let Some(layer) = layer {
            rie.arg("--layer").arg(layer);
        }
        rie.arg("--").args(command).current_dir(folder);
        // Function and extension get the emulator's whole environment, and nothing of this machine's belongs there.
        rie.env_clear().env("PATH", path()).env("PYTHONDONTWRITEBYTECODE", "1");
        rie.env("AWS_LAMBDA_FUNCTION_NAME", name).env("AWS_LAMBDA_FUNCTION_TIMEOUT", "30");
        rie.envs(environment.iter().map(|(name, value)| (name, value)));
        let mut process = Process::start(name, &mut rie)?;
        process.listening(ports::loopback(invoke_port)).await?;
        Ok(Self { process, invoke_port })
    }

    /// Where the emulator takes invocations.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.invoke_port)
    }

    /// The emulator with its output: the function's log is in it.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Shuts the emulator down, as Lambda does with an environment.
    pub async fn stop(self) -> Result<(), String> {
        self.process.stop().await.map(|_| ())
    }
}
