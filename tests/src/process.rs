//! A child process whose output is kept, and which ends with the test.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Notify;

/// How long a part may take to come up. Generous: the machine may be building something else.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running part.
pub struct Process {
    name: String,
    child: Child,
    output: Output,
}

#[derive(Clone, Default)]
struct Output {
    lines: Arc<Mutex<Vec<String>>>,
    grown: Arc<Notify>,
    /// How many streams are.
    open: Arc<AtomicUsize>,
}

impl Process {
    /// Starts `command`. Both of its output streams are kept, line by line.
    pub fn start(name: &str, command: &mut Command) -> Result<Self, String> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("cannot start {name}: {error}"))?;
        let output = Output::default();
        if let Some(stdout) = child.stdout.take() {
            output.follow(stdout);
        }
        if let Some(stderr) = child.stderr.take() {
            output.follow(stderr);
        }
        Ok(Self { name: name.to_owned(), child, output })
    }

    /// Starts `command`, whose standard output is its own business; the other stream is kept.
    pub fn start_silent(name: &str, command: &mut Command) -> Result<Self, String> {
        let mut child = command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("cannot start {name}: {error}"))?;
        let output = Output::default();
        if let Some(stderr) = child.stderr.take() {
            output.follow(stderr);
        }
        Ok(Self { name: name.to_owned(), child, output })
    }

    /// Its number, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// What it has printed so far.
    pub fn lines(&self) -> Vec<String> {
        self.output.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a line that `wanted` accepts, from the beginning of the output on.
    pub async fn line(&self, wanted: impl Fn(&str) -> bool) -> Result<String, String> {
        let search = async {
            loop {
                let grown = self.output.grown.notified();
                if let Some(line) = self.lines().into_iter().find(|line| wanted(line)) {
                    return line;
                }
                grown.await;
            }
        };
        tokio::time::timeout(PATIENCE, search).await.map_err(|_| {
            format!("{} did not print the line waited for; its output:\n{}", self.name, self.lines().join("\n"))
        })
    }

    /// Waits until something listens at `address`.
    pub async fn listening(&mut self, address: SocketAddr) -> Result<(), String> {
        let connect = async {
            while tokio::net::TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            up = tokio::time::timeout(PATIENCE, connect) => {
                up.map_err(|_| format!("{} does not listen at {address}; its output:\n{}", self.name, self.lines().join("\n")))
            }
            ended = self.child.wait() => {
                Err(format!("{} ended at the start ({ended:?}); its output:\n{}", self.name, self.lines().join("\n")))
            }
        }
    }

    /// Asks it to end (SIGTERM), waits, and returns its exit status.
    pub async fn stop(mut self) -> Result<std::process::ExitStatus, String> {
        if let Some(id) = self.child.id() {
            let kill = Command::new("kill").args(["-TERM", &id.to_string()]).status().await;
            kill.map_err(|error| format!("cannot signal {}: {error}", self.name))?;
        }
        self.ended().await
    }

    /// The same, and all that it has printed until its end.
    pub async fn stopped(self) -> Result<Vec<String>, String> {
        let output = self.output.clone();
        self.stop().await?;
        let ended = async {
            loop {
                let grown = output.grown.notified();
                if output.open.load(Ordering::SeqCst) == 0 {
                    return;
                }
                grown.await;
            }
        };
        tokio::time::timeout(PATIENCE, ended).await.map_err(|_| "its output does not end".to_owned())?;
        Ok(output.lines.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Waits for it to end by itself.
    pub async fn ended(&mut self) -> Result<std::process::ExitStatus, String> {
        tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .map_err(|_| format!("{} does not end; its output:\n{}", self.name, self.lines().join("\n")))?
            .map_err(|error| format!("cannot wait for {}: {error}", self.name))
    }
}

impl Output {
    fn follow(&self, stream: impl AsyncRead + Unpin + Send + 'static) {
        let output = self.clone();
        output.open.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            let mut lines = BufReader::new(stream).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                output.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                output.grown.notify_waiters();
            }
            output.open.fetch_sub(1, Ordering::SeqCst);
            output.grown.notify_waiters();
        });
    }
}
