//! One line of JSON for each request.

use std::time::SystemTime;

use platform::clock::Clock;
use platform::log::Log;
use serde::Serialize;

/// What is written. No query, no header and no body is in it, so no credential is.
#[derive(Debug, Serialize)]
pub(crate) struct Entry {
    event: &'static str,
    /// Unix time in milliseconds at which the request came in.
    ts: u128,
    /// Host and port as the application named them.
    pub(crate) host: String,
    pub(crate) method: String,
    /// Without the query.
    pub(crate) path: String,
    /// The status that the application got; 0 when it went away before there was one.
    pub(crate) status: u16,
    /// The identity that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer: Option<String>,
    /// Why the extension answered itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<&'static str>,
    /// The same for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<String>,
    /// Until the head of the answer.
    ms: u128,
}

/// Writes its entry when it is dropped, so that a request whose application went away has its line too.
pub(crate) struct Line<'a> {
    pub(crate) entry: Entry,
    log: &'a Log,
    clock: &'a dyn Clock,
    started: SystemTime,
}

impl<'a> Line<'a> {
    pub(crate) fn begin(log: &'a Log, clock: &'a dyn Clock, method: &str, path: &str) -> Line<'a> {
        let started = clock.now();
        let entry = Entry {
            event: "egress",
            ts: started.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis()),
            host: String::new(),
            method: method.to_owned(),
            path: path.to_owned(),
            status: 0,
            peer: None,
            reason: None,
            detail: None,
            ms: 0,
        };
        Line { entry, log, clock, started }
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        self.entry.ms = self.clock.now().duration_since(self.started).map_or(0, |taken| taken.as_millis());
        self.log.write(&self.entry);
    }
}
