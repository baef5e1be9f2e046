//! The bodies on both ways: streamed, never collected.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::sync::Notify;

use crate::keepalive::BusyGuard;

/// The body of a request on its way to the service.
#[derive(Debug)]
pub(crate) enum Upload {
    /// None: the request can be sent again.
    Empty,
    /// Whatever the application sends; each part is told to whoever watches for progress.
    Streaming(Incoming, Arc<Notify>),
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Upload::Empty => Poll::Ready(None),
            Upload::Streaming(body, progress) => {
                let polled = Pin::new(body).poll_frame(cx);
                if polled.is_ready() {
                    progress.notify_one();
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Upload::Empty => true,
            Upload::Streaming(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Upload::Empty => SizeHint::with_exact(0),
            Upload::Streaming(body, _) => body.size_hint(),
        }
    }
}

/// The body of an answer on its way to the application.
#[derive(Debug)]
pub(crate) struct Answer {
    content: Content,
    /// While the answer is on its way the application's connection counts as busy.
    busy: Option<BusyGuard>,
}

#[derive(Debug)]
enum Content {
    Text(Full<Bytes>),
    Upstream(Incoming),
}

impl Answer {
    /// A text of ours.
    pub(crate) fn text(text: String) -> Answer {
        Answer { content: Content::Text(Full::new(text.into())), busy: None }
    }

    /// The service's body.
    pub(crate) fn upstream(body: Incoming) -> Answer {
        Answer { content: Content::Upstream(body), busy: None }
    }

    /// Keeps `guard` until the body is sent or dropped.
    pub(crate) fn keeping(mut self, guard: BusyGuard) -> Answer {
        self.busy = Some(guard);
        self
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.get_mut().content {
            // A text in memory cannot fail.
            Content::Text(text) => Pin::new(text).poll_frame(cx).map_err(|never| match never {}),
            Content::Upstream(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Text(text) => text.is_end_stream(),
            Content::Upstream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Text(text) => text.size_hint(),
            Content::Upstream(body) => body.size_hint(),
        }
    }
}
