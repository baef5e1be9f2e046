//! A function under AWS' Runtime Interface Emulator, asked over one connection.

use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use e2e::function::Function;

use super::http;

pub(crate) struct Emulated {
    function: Function,
    stream: TcpStream,
    program: std::path::PathBuf,
}

impl Emulated {
    /// Starts the emulator. The function comes up with the first event.
    pub(crate) async fn start(program: &Path, environment: &[(String, String)]) -> Result<Self, String> {
        let command = program.to_str().ok_or("the path of the program is not text")?;
        let function = Function::start("bench", &[command], &std::env::temp_dir(), None, environment).await?;
        let address = function.url();
        let text = |error: std::io::Error| error.to_string();
        let stream = TcpStream::connect(address.trim_start_matches("http://")).map_err(text)?;
        stream.set_nodelay(true).map_err(text)?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).map_err(text)?;
        Ok(Self { function, stream, program: program.to_owned() })
    }

    /// Invokes the function. Its answer, and the time until that was there.
    pub(crate) fn invoke(&mut self, event: &str) -> Result<(String, Duration), String> {
        let message = format!(
            "POST /2015-03-31/functions/function/invocations HTTP/1.1\r\nhost: 127.0.0.1\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{event}",
            event.len()
        );
        let started = Instant::now();
        http::write(&mut self.stream, &message)?;
        let answer = http::read(&mut self.stream)?;
        Ok((answer, started.elapsed()))
    }

    /// What the emulator says of the start of the function, in milliseconds.
    pub(crate) async fn init_report(&self) -> Result<f64, String> {
        let report = "INIT REPORT(durationMs: ";
        let line = self.function.process().line(|line| line.contains(report)).await?;
        let number = line.split_once(report).and_then(|(_, rest)| rest.split(')').next()?.trim().parse().ok());
        number.ok_or_else(|| format!("no number in {line:?}"))
    }

    /// What the emulator says of all invocations so far, in milliseconds.
    pub(crate) fn invocations(&self) -> Vec<f64> {
        let lines = self.function.process().lines();
        let duration = |line: &String| {
            let (_, rest) = line.split_once("INVOKE RTDONE(")?.1.split_once("duration: ")?;
            rest.split("ms").next()?.parse().ok()
        };
        lines.iter().filter_map(duration).collect()
    }

    /// All that the emulator and the function have printed.
    pub(crate) fn log(&self) -> String {
        self.function.process().lines().join("\n")
    }

    /// The process of the function. The emulator gives it a number of its own namespace, so it is found by its program.
    pub(crate) fn process(&self) -> Result<u32, String> {
        let wanted = self.program.canonicalize().map_err(|error| error.to_string())?;
        let processes = std::fs::read_dir("/proc").map_err(|error| error.to_string())?.flatten();
        let mut numbers = processes.filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            (std::fs::read_link(entry.path().join("exe")).ok()? == wanted).then_some(number)
        });
        numbers.next().ok_or_else(|| format!("no process of {}", wanted.display()))
    }

    pub(crate) async fn stop(self) -> Result<(), String> {
        self.function.stop().await
    }
}
