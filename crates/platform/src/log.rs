//! One JSON object a line, to standard output or to a listener.

use std::io::Write;
use std::sync::{Arc, Mutex};

use serde::Serialize;

use crate::metrics::Emf;

/// What a log line has room for before it has to grow. A decision line with metrics has 800 bytes.
const USUAL_LINE: usize = 1000;

/// Takes log lines. Cheap to clone; every clone writes to the same place.
#[derive(Clone)]
pub struct Log {
    sink: Arc<dyn Fn(Vec<u8>) + Send + Sync>,
    metrics: Option<Emf>,
}

impl Log {
    /// Writes each line to standard output, where Lambda, ECS and Kubernetes collect it.
    pub fn stdout() -> Self {
        Self::into(|mut line| {
            let mut out = std::io::stdout().lock();
            // In one piece: standard output holds a kilobyte at most, and a longer line would go out in two writes.
            line.push(b'\n');
            // A closed pipe must not take a decision down; there is nowhere left to say it.
            let _ = out.write_all(&line).and_then(|()| out.flush());
        })
    }

    /// Hands each line, without its line end, to `sink`.
    pub fn to(sink: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self::into(move |line| sink(&String::from_utf8_lossy(&line)))
    }

    fn into(sink: impl Fn(Vec<u8>) + Send + Sync + 'static) -> Self {
        Self { sink: Arc::new(sink), metrics: None }
    }

    /// The same log, read by CloudWatch, which takes metrics out of its lines.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Option<Emf>) -> Self {
        self.metrics = metrics;
        self
    }

    /// What metrics are written with; `None` when none are.
    pub fn metrics(&self) -> Option<&Emf> {
        self.metrics.as_ref()
    }

    /// Keeps the lines in memory, for tests and the demo.
    pub fn memory() -> (Self, Lines) {
        let lines = Lines::default();
        let sink = lines.clone();
        (Self::to(move |line| sink.push(line)), lines)
    }

    /// Writes `entry` as one line of JSON. What cannot be serialised is reported as such: it is a bug of ours.
    pub fn write(&self, entry: &impl Serialize) {
        let mut line = Vec::with_capacity(USUAL_LINE);
        if let Err(error) = serde_json::to_writer(&mut line, entry) {
            let lost = serde_json::json!({"event": "log_entry_lost", "error": error.to_string()});
            line = lost.to_string().into_bytes();
        }
        (self.sink)(line);
    }

    /// Writes a line that is JSON already, without its end.
    pub fn line(&self, line: Vec<u8>) {
        (self.sink)(line);
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Log")
    }
}

/// The most lines that [`Lines`] holds; the oldest go first.
const MAX_LINES: usize = 10_000;

/// What a [`Log::memory`] has taken so far.
#[derive(Clone, Debug, Default)]
pub struct Lines(Arc<Mutex<std::collections::VecDeque<String>>>);

impl Lines {
    /// A copy of the lines held.
    pub fn all(&self) -> Vec<String> {
        self.with(|lines| lines.iter().cloned().collect())
    }

    /// Takes the lines out.
    pub fn drain(&self) -> Vec<String> {
        self.with(|lines| lines.drain(..).collect())
    }

    fn push(&self, line: &str) {
        self.with(|lines| {
            if lines.len() == MAX_LINES {
                lines.pop_front();
            }
            lines.push_back(line.to_owned());
        });
    }

    fn with<T>(&self, f: impl FnOnce(&mut std::collections::VecDeque<String>) -> T) -> T {
        let mut lines = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        f(&mut lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_keeps_one_json_object_a_line() {
        let (log, lines) = Log::memory();
        log.write(&serde_json::json!({"event": "decision", "text": "two\nlines"}));
        assert_eq!(lines.all(), [r#"{"event":"decision","text":"two\nlines"}"#]);
        assert_eq!(lines.drain().len(), 1);
        assert!(lines.all().is_empty());
    }
}
