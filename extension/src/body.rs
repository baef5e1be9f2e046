//! The bodies on both ways: streamed, and kept only as far as a request may have to be sent again.

mod upload;

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;

use crate::keepalive::BusyGuard;
use crate::upstream::Lease;

#[allow(unused_imports)]
pub(crate) use upload::{Replay, Upload};

/// Why a body ended early.
pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// The body of an answer on its way from the service. Its connection is free as soon as it has been read to its end.
#[derive(Debug)]
pub(crate) struct Download {
    body: Incoming,
    received: u64,
    lease: Option<Box<Lease>>,
}

impl Download {
    /// `lease` is what the answer holds until it has been read.
    pub(crate) fn new(body: Incoming, lease: Lease) -> Download {
        let mut download = Download { body, received: 0, lease: Some(Box::new(lease)) };
        download.finish_at_end();
        download
    }

    /// The bytes that have come, without trailers.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    fn finish_at_end(&mut self) {
        if self.body.is_end_stream()
            && let Some(lease) = self.lease.take()
        {
            lease.finish();
        }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let polled = ready!(Pin::new(&mut this.body).poll_frame(cx));
        match &polled {
            Some(Ok(frame)) => {
                this.received += frame.data_ref().map_or(0, |part| part.len() as u64);
                this.finish_at_end();
            }
            // Cut off: the connection is of no more use.
            Some(Err(_)) => this.lease = None,
            None => {
                if let Some(lease) = this.lease.take() {
                    lease.finish();
                }
            }
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
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
    Upstream(Download),
}

impl Answer {
    /// A text of ours.
    pub(crate) fn text(text: String) -> Answer {
        Answer { content: Content::Text(Full::new(text.into())), busy: None }
    }

    /// The service's body.
    pub(crate) fn upstream(body: Download) -> Answer {
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
