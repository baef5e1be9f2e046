//! One line of JSON for each request, with the fields of Istio's default access log.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::USER_AGENT;
use http::{HeaderValue, Method, Request, Uri, Version};
use identity::SpiffeId;
use platform::clock::{Clock, rfc3339};
use platform::log::Log;
use traffic::table::{Cluster, Resolution};

use crate::json::Json;
use crate::metrics::{Ended, Metrics};
use crate::reason::{Flags, Refusal};
use crate::trace::Span;

/// What is known of a request. No query, no other header than those named here and no body is in it, so no credential
/// is.
#[derive(Debug)]
pub(crate) struct Entry {
    method: Method,
    uri: Uri,
    protocol: Version,
    user_agent: Option<HeaderValue>,
    /// Host and port as the application named them, after a rewrite the rewritten ones.
    pub(crate) authority: String,
    pub(crate) request_id: Option<HeaderValue>,
    /// The status that the application got; 0 when it went away before there was one.
    pub(crate) response_code: u16,
    pub(crate) flags: Flags,
    /// The trace that the request belongs to, and this hop of it.
    pub(crate) span: Option<Span>,
    /// Of the request's body.
    pub(crate) received: Arc<AtomicU64>,
    /// Of the answer's body.
    pub(crate) sent: u64,
    /// From the first try to the head of the answer.
    pub(crate) service_time: Option<Duration>,
    /// The endpoint that the last try went to.
    pub(crate) upstream_host: Option<Arc<str>>,
    pub(crate) upstream_cluster: Option<Arc<Cluster>>,
    pub(crate) route_name: Option<Arc<str>>,
    pub(crate) attempts: u32,
    /// The identity that answered.
    pub(crate) peer: Option<SpiffeId>,
    /// Why the extension answered itself.
    pub(crate) reason: Option<&'static str>,
    /// The same for a person.
    pub(crate) detail: Option<String>,
}

impl Entry {
    /// Whether the request is HEAD, whose answer has no body.
    pub(crate) fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }

    /// Notes why the extension answers itself.
    pub(crate) fn refused(&mut self, refusal: &Refusal) {
        self.reason = Some(refusal.reason.as_str());
        self.detail = Some(refusal.detail.clone());
        self.flags = self.flags.with(refusal.reason.flags());
    }
}

/// Writes its entry when it is dropped, so that a request whose application went away has its line too.
pub(crate) struct Line {
    pub(crate) entry: Entry,
    log: Log,
    clock: Arc<dyn Clock>,
    started: SystemTime,
    /// Counts the request when it has ended, too.
    pub(crate) metrics: Option<Arc<Metrics>>,
    /// How long it took until a connection was there for bytes: what metrics count of it.
    opened: Option<Duration>,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").field("entry", &self.entry).finish_non_exhaustive()
    }
}

impl Line {
    pub(crate) fn begin<B>(log: &Log, clock: &Arc<dyn Clock>, request: &Request<B>) -> Line {
        let entry = Entry {
            method: request.method().clone(),
            uri: request.uri().clone(),
            protocol: request.version(),
            user_agent: request.headers().get(USER_AGENT).cloned(),
            authority: String::new(),
            request_id: None,
            span: None,
            response_code: 0,
            flags: Flags::NONE,
            received: Arc::default(),
            sent: 0,
            service_time: None,
            upstream_host: None,
            upstream_cluster: None,
            route_name: None,
            attempts: 0,
            peer: None,
            reason: None,
            detail: None,
        };
        Line { entry, log: log.clone(), clock: Arc::clone(clock), started: clock.now(), metrics: None, opened: None }
    }

    /// The connection is there, and what follows is no request: how long it lasts says nothing about the service.
    pub(crate) fn opened(&mut self) {
        self.opened = self.clock.now().duration_since(self.started).ok();
    }
}

impl Line {
    fn written(&self, duration: Duration) -> Vec<u8> {
        let entry = &self.entry;
        let gone = if entry.response_code == 0 { Flags::DC } else { Flags::NONE };
        let mut json = Json::new("egress");
        json.plain("start_time", std::str::from_utf8(&start_time(self.started)).unwrap_or_default());
        // RFC 9110 9.1: a method is a token, in which neither a quote nor a backslash may be.
        json.plain("method", entry.method.as_str());
        // Without the query.
        json.text("path", entry.uri.path());
        json.plain("protocol", protocol(entry.protocol));
        json.number("response_code", entry.response_code.into());
        match entry.flags.with(gone) {
            Flags::NONE => json.plain("response_flags", "-"),
            flags => json.plain("response_flags", &flags.to_string()),
        }
        json.number("bytes_received", entry.received.load(Ordering::Relaxed));
        json.number("bytes_sent", entry.sent);
        // Milliseconds until the end of the answer.
        json.number("duration", millis(duration));
        json.number_if("upstream_service_time", entry.service_time.map(millis));
        json.text_if("user_agent", text(entry.user_agent.as_ref()));
        json.text_if("request_id", text(entry.request_id.as_ref()));
        json.text_if("trace_id", entry.span.as_ref().map(|span| span.trace.as_str()));
        json.text_if("span_id", entry.span.as_ref().map(|span| span.span.as_str()));
        json.text("authority", &entry.authority);
        json.text_if("upstream_host", entry.upstream_host.as_deref());
        json.text_if("upstream_cluster", entry.upstream_cluster.as_deref().map(|cluster| cluster.name.as_str()));
        json.text_if("route_name", entry.route_name.as_deref());
        json.number("attempts", entry.attempts.into());
        json.text_if("peer", entry.peer.as_ref().map(SpiffeId::as_str));
        json.plain_if("reason", entry.reason);
        json.text_if("detail", entry.detail.as_deref());
        json.end()
    }
}

/// As [`rfc3339`], whose date and second are those of the line before more often than not.
fn start_time(time: SystemTime) -> [u8; 24] {
    thread_local! {
        static LAST: Cell<Option<(u64, [u8; 24])>> = const { Cell::new(None) };
    }
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut text = match LAST.get() {
        Some((second, text)) if second == since.as_secs() => text,
        _ => {
            let text = rfc3339(time).into_bytes().try_into().unwrap_or(*b"1970-01-01T00:00:00.000Z");
            LAST.set(Some((since.as_secs(), text)));
            text
        }
    };
    let millis = since.subsec_millis();
    for (place, unit) in [(20, 100), (21, 10), (22, 1)] {
        text[place] = b'0' + (millis / unit % 10) as u8;
    }
    text
}

fn text(value: Option<&HeaderValue>) -> Option<&str> {
    value.and_then(|value| value.to_str().ok())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Drop for Line {
    fn drop(&mut self) {
        let entry = &self.entry;
        let duration = self.clock.now().duration_since(self.started).unwrap_or_default();
        if let Some(metrics) = &self.metrics {
            metrics.ended(&Ended {
                service: entry.upstream_cluster.as_deref().map(service),
                status: entry.response_code,
                reason: entry.reason,
                attempts: entry.attempts,
                duration: self.opened.unwrap_or(duration),
                overflow: entry.flags.has(Flags::UO),
            });
        }
        self.log.line(self.written(duration));
    }
}

/// The service that metrics name: hosts that nobody has configured are one.
fn service(cluster: &Cluster) -> &str {
    match cluster.resolution {
        Resolution::Original => &cluster.name,
        _ => &cluster.host,
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_written_once_and_read_often() {
        // In one second, in the next, back again, and before the epoch.
        for millis in [0_u64, 1, 999, 1_000, 1_795_176_000_007, 1_795_176_000_070, 1_795_176_001_700, 7] {
            let time = UNIX_EPOCH + Duration::from_millis(millis);
            assert_eq!(std::str::from_utf8(&start_time(time)).unwrap(), rfc3339(time));
        }
        assert_eq!(&start_time(UNIX_EPOCH - Duration::from_secs(1)), b"1970-01-01T00:00:00.000Z");
    }
}
