//! The bodies on both ways, streamed, and what lives as long as they do.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;

use super::line::Line;
use crate::body::BoxError;
use crate::keepalive::BusyGuard;

/// The body of a request on its way to the application.
pub(crate) enum Upload {
    /// There is none, so that the request can be sent again.
    Empty,
    /// As it comes.
    Streamed {
        /// From the caller.
        body: Incoming,
        /// The bytes that have come.
        received: Arc<AtomicU64>,
    },
}

impl Upload {
    pub(crate) fn new(body: Incoming, received: Arc<AtomicU64>) -> Upload {
        match body.is_end_stream() {
            true => Upload::Empty,
            false => Upload::Streamed { body, received },
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Upload::Empty)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Upload::Streamed { body, received } = self.get_mut() else { return Poll::Ready(None) };
        let mut polled = ready!(Pin::new(body).poll_frame(cx));
        if let Some(Ok(frame)) = &mut polled {
            received.fetch_add(frame.data_ref().map_or(0, |part| part.len() as u64), Ordering::Relaxed);
            // RFC 9110 6.5.1: "intermediary ... might discard" them, and no policy has seen them.
            if frame.is_trailers() {
                return Poll::Ready(None);
            }
        }
        Poll::Ready(polled.map(|frame| frame.map_err(BoxError::from)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Upload::Empty => true,
            Upload::Streamed { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Upload::Empty => SizeHint::with_exact(0),
            Upload::Streamed { body, .. } => body.size_hint(),
        }
    }
}

/// The body of an answer on its way to the caller.
pub(crate) struct Answer {
    content: Content,
    line: Line,
    /// The request's place among all of them, and in its connection.
    _held: (Option<OwnedSemaphorePermit>, BusyGuard),
}

/// Where an answer comes from.
pub(crate) enum Content {
    /// A text of ours.
    Own(Full<Bytes>),
    /// The application.
    Application(Incoming),
}

impl Content {
    fn is_end_stream(&self) -> bool {
        match self {
            Content::Own(body) => body.is_end_stream(),
            Content::Application(body) => body.is_end_stream(),
        }
    }
}

impl Answer {
    pub(crate) fn new(content: Content, line: Line, held: (Option<OwnedSemaphorePermit>, BusyGuard)) -> Answer {
        Answer { content, line, _held: held }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let polled = match &mut this.content {
            Content::Own(body) => {
                ready!(Pin::new(body).poll_frame(cx)).map(|frame| frame.map_err(|never| match never {}))
            }
            Content::Application(body) => {
                ready!(Pin::new(body).poll_frame(cx)).map(|frame| frame.map_err(BoxError::from))
            }
        };
        match &polled {
            Some(Ok(frame)) => this.line.sent += frame.data_ref().map_or(0, |part| part.len() as u64),
            Some(Err(error)) => {
                this.line.reason = Some(crate::reason::Reason::UpstreamReset.as_str());
                this.line.detail = Some(error.to_string());
            }
            None => this.line.ended = true,
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Own(body) => body.size_hint(),
            Content::Application(body) => body.size_hint(),
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // A body that says that it is over is not asked again, and that of an answer to HEAD is nobody's to read.
        self.line.ended |= self.content.is_end_stream() || self.line.is_head();
    }
}
