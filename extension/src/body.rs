//! The bodies on both ways: streamed, and kept only as far as a request may have to be sent again.

mod upload;

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::upstream::Lease;

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

    /// One that holds nothing.
    #[cfg(test)]
    pub(crate) fn free(body: Incoming) -> Download {
        Download { body, received: 0, lease: None }
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
