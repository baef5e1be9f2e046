//! A Lambda function under AWS' own Runtime Interface Emulator.

use std::path::Path;

use causeway::dev::http::send;
use serde_json::Value;
use tokio::process::Command;

use crate::process::Process;
use crate::sandbox::Sandbox;
use crate::{path, ports, root};

/// The path of the Invoke API; the function's name is always `function`.
const INVOCATIONS: &str = "/2015-03-31/functions/function/invocations";

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
        Self::run(name, command, (folder, None), layer, environment).await
    }

    /// A managed instance that takes so many invocations at a time. It starts `bootstrap` in `task`, which the function
    /// sees as `/var/task`; all of it, and the extensions, run as a user who may read little else.
    ///
    /// # Errors
    /// As [`Function::start`].
    pub async fn managed(
        name: &str,
        task: &Path,
        layer: &Path,
        at_a_time: usize,
        environment: &[(String, String)],
    ) -> Result<Self, String> {
        let most = ("AWS_LAMBDA_MAX_CONCURRENCY".to_owned(), at_a_time.to_string());
        let environment = [environment, &[most]].concat();
        Self::run(name, &["/var/task/bootstrap"], (Path::new("/"), Some(task)), Some(layer), &environment).await
    }

    async fn run(
        name: &str,
        command: &[&str],
        (folder, task): (&Path, Option<&Path>),
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
        if let Some(task) = task {
            rie.arg("--task").arg(task);
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

    /// One invocation with this event and these headers of the Invoke API, and the function's answer. The emulator has
    /// no queue: one at a time, but for a managed instance.
    ///
    /// # Errors
    /// When there is no answer, or one that is not JSON.
    pub async fn invoke(&self, event: &Value, headers: &[(&str, &str)]) -> Result<Value, String> {
        let headers = [&[("host", "127.0.0.1")], headers].concat();
        let answer = send(ports::loopback(self.invoke_port), "POST", INVOCATIONS, &headers, event.to_string()).await?;
        serde_json::from_str(&answer.body).map_err(|error| {
            format!("{error}: {} {:?}; its output:\n{}", answer.status, answer.body, self.process.lines().join("\n"))
        })
    }

    /// The processes of its sandbox, which is there from the first invocation on.
    ///
    /// # Errors
    /// When there are none.
    pub fn sandbox(&self) -> Result<Sandbox, String> {
        Sandbox::below(self.process.id().ok_or("the emulator has ended")?)
    }

    /// The emulator with its output: the function's log is in it.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Shuts the emulator down, as Lambda does with an environment.
    pub async fn stop(self) -> Result<(), String> {
        self.process.stop().await.map(|_| ())
    }

    /// The same, and then all that it has said: what comes after SHUTDOWN is in it too.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stopped(self) -> Result<Vec<String>, String> {
        self.process.stopped().await
    }
}
