//! What a person sees who waits for more than a second: one line on standard error, which goes away again.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{is_dumb, is_for_machines};

/// How long nothing is said, and how often the line changes then.
const BEAT: Duration = Duration::from_secs(1);

/// A line of progress, until it is dropped.
pub(crate) struct Progress {
    done: Arc<AtomicU64>,
    line: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// While nothing is printed.
    pub(crate) fn of(what: &str) -> Self {
        Self::start(what, io::stderr().is_terminal())
    }

    /// While results are printed, which are progress themselves where a person sees them.
    pub(crate) fn beside_results(what: &str) -> Self {
        Self::start(what, io::stderr().is_terminal() && !io::stdout().is_terminal())
    }

    fn start(what: &str, is_seen: bool) -> Self {
        // A thread that cannot be had is a line that is not seen.
        if is_seen && !is_for_machines() && !is_dumb() { Self::on(what, io::stderr(), BEAT) } else { Self::silent() }
    }

    fn silent() -> Self {
        Self { done: Arc::default(), line: None }
    }

    fn on(what: &str, mut out: impl Write + Send + 'static, beat: Duration) -> Self {
        let done = Arc::new(AtomicU64::new(0));
        let (stop, stopped) = channel();
        let (counted, what) = (Arc::clone(&done), what.to_owned());
        let show = move || {
            let mut beats = 0;
            while stopped.recv_timeout(beat) == Err(RecvTimeoutError::Timeout) {
                beats += 1;
                let seconds = beat.saturating_mul(beats).as_secs();
                let count = match counted.load(Ordering::Relaxed) {
                    0 => String::new(),
                    count => format!(", {count} done"),
                };
                // Whoever does not see it, misses nothing.
                let _ = write!(out, "\r\x1b[Kcauseway: {what}{count} ({seconds} s)");
                let _ = out.flush();
            }
            if beats > 0 {
                let _ = write!(out, "\r\x1b[K");
                let _ = out.flush();
            }
        };
        let thread = std::thread::Builder::new().name("progress".to_owned()).spawn(show);
        Self { done, line: thread.ok().map(|thread| (stop, thread)) }
    }

    /// Counts one more.
    pub(crate) fn one_more(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.line.take() {
            drop(stop);
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Receiver;

    use super::*;

    /// Hands on every text that is written.
    struct Written(Sender<String>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn until(seen: &Receiver<String>, words: &str) -> String {
        let mut all = String::new();
        while !all.contains(words) {
            all.push_str(&seen.recv().unwrap());
        }
        all
    }

    #[test]
    fn a_line_comes_counts_and_goes() {
        let (sender, seen) = channel();
        let progress = Progress::on("asking", Written(sender), Duration::from_millis(1));
        until(&seen, "causeway: asking (");
        progress.one_more();
        until(&seen, "asking, 1 done (");
        drop(progress);
        let rest: String = seen.iter().collect();
        assert!(rest.ends_with("\r\x1b[K"), "{rest:?}");
    }

    #[test]
    fn what_is_done_at_once_says_nothing() {
        let (sender, seen) = channel();
        drop(Progress::on("asking", Written(sender), Duration::from_secs(3600)));
        assert_eq!(seen.iter().collect::<String>(), "");
    }
}
