//! The runtime API of Lambda, as small as it can be: what a function costs without the emulator between.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::http;

/// A function that has asked for its first event, or an extension that registers.
pub(crate) struct Sandbox {
    child: Child,
    stream: TcpStream,
    /// From the start of the process to its first question.
    pub(crate) start: Duration,
}

impl Sandbox {
    /// Starts `command`, and waits until it asks for an event.
    pub(crate) fn start(command: &mut Command, environment: &[(String, String)]) -> Result<Self, String> {
        Self::start_by(environment, command, |command| command.spawn().map_err(|error| error.to_string()))
    }

    /// Starts an extension, and waits until it registers itself.
    pub(crate) fn register(command: &mut Command, environment: &[(String, String)]) -> Result<Self, String> {
        let spawn = |command: &mut Command| command.spawn().map_err(|error| error.to_string());
        Self::asking("POST /2020-01-01/extension/register ", environment, command, spawn)
    }

    /// As [`start`](Self::start), with something around the start of the process.
    pub(crate) fn start_by(
        environment: &[(String, String)],
        command: &mut Command,
        spawn: impl FnOnce(&mut Command) -> Result<Child, String>,
    ) -> Result<Self, String> {
        Self::asking("GET /2018-06-01/runtime/invocation/next ", environment, command, spawn)
    }

    fn asking(
        expected: &str,
        environment: &[(String, String)],
        command: &mut Command,
        spawn: impl FnOnce(&mut Command) -> Result<Child, String>,
    ) -> Result<Self, String> {
        let text = |error: std::io::Error| error.to_string();
        let listener = TcpListener::bind("127.0.0.1:0").map_err(text)?;
        let address = listener.local_addr().map_err(text)?.to_string();
        command.env_clear().envs(environment.iter().map(|(name, value)| (name, value)));
        command.env("AWS_LAMBDA_RUNTIME_API", address).env("AWS_LAMBDA_FUNCTION_NAME", "bench");
        command.env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512").env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        let started = Instant::now();
        let mut child = spawn(command)?;
        // A program that refuses to start must not be waited for without end.
        listener.set_nonblocking(true).map_err(text)?;
        let stream = loop {
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return Err(error.to_string()),
                Err(_) if started.elapsed() > Duration::from_secs(30) => return Err("no start in 30 s".to_owned()),
                Err(_) => {
                    if let Some(status) = child.try_wait().map_err(text)? {
                        return Err(format!("the program ended with {status}"));
                    }
                    std::thread::yield_now();
                }
            }
        };
        stream.set_nonblocking(false).and_then(|()| stream.set_nodelay(true)).map_err(text)?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).map_err(text)?;
        let mut sandbox = Self { child, stream, start: Duration::ZERO };
        let question = http::read(&mut sandbox.stream)?;
        sandbox.start = started.elapsed();
        if question.starts_with(expected) {
            return Ok(sandbox);
        }
        Err(format!("expected {expected}first, found {question:?}"))
    }

    /// Gives the function an event. The body of its answer, and the time until that was there.
    pub(crate) fn invoke(&mut self, event: &str) -> Result<(String, Duration), String> {
        let deadline = "4102444800000";
        let message = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nlambda-runtime-aws-request-id: 1\r\n\
             lambda-runtime-deadline-ms: {deadline}\r\nlambda-runtime-invoked-function-arn: arn:aws:lambda:x\r\n\
             lambda-runtime-trace-id: Root=1\r\ncontent-length: {}\r\n\r\n{event}",
            event.len()
        );
        let started = Instant::now();
        http::write(&mut self.stream, &message)?;
        let answer = http::read(&mut self.stream)?;
        let took = started.elapsed();
        http::write(&mut self.stream, "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")?;
        http::read(&mut self.stream)?;
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        body.map(|body| (body, took)).ok_or_else(|| format!("an answer without a body: {answer:?}"))
    }

    /// The number of the function's process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The processor time that all threads of a process have used.
pub(crate) fn cpu(process: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let nanoseconds = threads.filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.sum())
}
