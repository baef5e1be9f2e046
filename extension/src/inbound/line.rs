//! One line of JSON for each call to the application, with the fields of Istio's default access log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use http::header::USER_AGENT;
use http::{HeaderValue, Method, Request, Version};
use platform::clock::{Clock, rfc3339};
use platform::log::Log;
use platform::trace_id::Traces;
use serde::Serialize;

use crate::metrics::{Answered, Metrics};

/// Writes itself when it is dropped, so that a call whose caller went away has its line too. No query, no other header
/// than those named here and no body is in it, so no credential is.
pub(crate) struct Line {
    log: Log,
    clock: Arc<dyn Clock>,
    started: SystemTime,
    method: Method,
    path: String,
    protocol: Version,
    user_agent: Option<HeaderValue>,
    pub(crate) authority: String,
    pub(crate) request_id: String,
    /// Which traces the call belongs to.
    pub(crate) traces: Traces<'static>,
    /// The status that the caller got; 0 when it went away before there was one.
    pub(crate) status: u16,
    /// Of the request's body.
    pub(crate) received: Arc<AtomicU64>,
    /// Of the answer's body.
    pub(crate) sent: u64,
    /// Whether the answer has ended as it should.
    pub(crate) ended: bool,
    /// Who has proven itself by its certificate.
    pub(crate) peer: Option<String>,
    pub(crate) source: String,
    /// The application's address, where it was asked.
    pub(crate) upstream_host: Option<String>,
    /// Why the sidecar answered itself.
    pub(crate) reason: Option<&'static str>,
    /// The same for a person.
    pub(crate) detail: Option<String>,
    /// Counts the call when it has ended, too.
    pub(crate) metrics: Option<Arc<Metrics>>,
    /// The application's port.
    pub(crate) port: u16,
}

impl Line {
    pub(crate) fn begin<B>(log: &Log, clock: &Arc<dyn Clock>, request: &Request<B>) -> Line {
        Line {
            log: log.clone(),
            clock: Arc::clone(clock),
            started: clock.now(),
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            protocol: request.version(),
            user_agent: request.headers().get(USER_AGENT).cloned(),
            authority: String::new(),
            request_id: String::new(),
            traces: Traces::default(),
            status: 0,
            received: Arc::default(),
            sent: 0,
            ended: false,
            peer: None,
            source: String::new(),
            upstream_host: None,
            reason: None,
            detail: None,
            metrics: None,
            port: 0,
        }
    }

    /// Whether the request is HEAD, whose answer has no body.
    pub(crate) fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }
}

#[derive(Serialize)]
struct Written<'a> {
    event: &'static str,
    direction: &'static str,
    start_time: String,
    method: &'a str,
    /// As it was sent, without the query.
    path: &'a str,
    protocol: &'static str,
    response_code: u16,
    response_flags: &'static str,
    bytes_received: u64,
    bytes_sent: u64,
    /// Milliseconds until the end of the answer.
    duration: u128,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    xray_trace_id: Option<&'a str>,
    authority: &'a str,
    source: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_host: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

impl Drop for Line {
    fn drop(&mut self) {
        let duration = self.clock.now().duration_since(self.started).unwrap_or_default();
        if let Some(metrics) = &self.metrics {
            let (port, status, reason) = (self.port, self.status, self.reason);
            metrics.answered(&Answered { port, status, reason, duration });
        }
        self.log.write(&Written {
            event: "inbound",
            direction: "inbound",
            start_time: rfc3339(self.started),
            method: self.method.as_str(),
            path: &self.path,
            protocol: match self.protocol {
                Version::HTTP_10 => "HTTP/1.0",
                Version::HTTP_2 => "HTTP/2",
                _ => "HTTP/1.1",
            },
            response_code: self.status,
            // Envoy's letters for a caller that went away.
            response_flags: if self.ended { "-" } else { "DC" },
            bytes_received: self.received.load(Ordering::Relaxed),
            bytes_sent: self.sent,
            duration: duration.as_millis(),
            user_agent: self.user_agent.as_ref().and_then(|value| value.to_str().ok()),
            request_id: &self.request_id,
            trace_id: self.traces.id.as_deref(),
            xray_trace_id: self.traces.x_ray.as_deref(),
            authority: &self.authority,
            source: &self.source,
            peer: self.peer.as_deref(),
            upstream_host: self.upstream_host.as_deref(),
            reason: self.reason,
            detail: self.detail.as_deref(),
        });
    }
}
