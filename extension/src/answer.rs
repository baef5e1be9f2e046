//! The body of an answer on its way to the application, and what lives as long as it does.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use tokio::time::Sleep;

use crate::access_log::Line;
use crate::body::Download;
use crate::cluster::Held;
use crate::keepalive::BusyGuard;
use crate::reason::{Flags, Reason};
use crate::tunnel::Switched;

/// How long a service may be silent within its answer: Envoy's `stream_idle_timeout`, whose default Istio leaves.
pub(crate) const SILENCE: Duration = Duration::from_secs(300);

/// Ready when the route's timeout is over.
type Limit = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The body of an answer on its way to the application.
pub(crate) struct Answer {
    content: Content,
    /// When the route's timeout is over: it counts until the end of the answer.
    limit: Option<Limit>,
    /// Runs while the service is waited for.
    silence: Option<Pin<Box<Sleep>>>,
    /// Written when the answer has ended.
    line: Option<Box<Line>>,
    /// The request's places under the limits of its cluster.
    held: Option<Held>,
    /// While the answer is on its way the application's connection counts as busy.
    busy: Option<BusyGuard>,
    /// What the connection goes on with.
    switched: Option<Box<Switched>>,
}

#[derive(Debug)]
enum Content {
    Local(Full<Bytes>),
    Upstream(Download),
}

/// Why an answer ends before its end.
#[derive(Debug, thiserror::Error)]
#[error("the timeout of the route, or the time of the invocation, passed before the end of the answer")]
struct TimedOut;

/// Why an answer ends that nothing comes of any more.
#[derive(Debug, thiserror::Error)]
#[error("the service sent nothing of its answer for {} s", SILENCE.as_secs())]
struct Silent;

impl Answer {
    /// A text of ours.
    pub(crate) fn text(text: String) -> Answer {
        Answer::bytes(text.into())
    }

    /// Bytes of ours.
    pub(crate) fn bytes(bytes: Bytes) -> Answer {
        Answer::of(Content::Local(Full::new(bytes)))
    }

    /// The service's body, with the request's places under limits.
    pub(crate) fn upstream<L>(body: Download, held: Held, limit: Option<L>) -> Answer
    where
        L: Future<Output = ()> + Send + 'static,
    {
        let limit = limit.map(|limit| Box::pin(limit) as Limit);
        let mut answer = Answer::of(Content::Upstream(body));
        (answer.held, answer.limit) = (Some(held), limit);
        answer
    }

    /// No body: after the head the connection belongs to something else.
    pub(crate) fn switched(switched: Switched) -> Answer {
        let mut answer = Answer::text(String::new());
        answer.switched = Some(Box::new(switched));
        answer
    }

    /// What that is, for whoever starts it.
    pub(crate) fn take_switched(&mut self) -> Option<Box<Switched>> {
        self.switched.take()
    }

    fn of(content: Content) -> Answer {
        Answer { content, limit: None, silence: None, line: None, held: None, busy: None, switched: None }
    }

    /// Keeps `line` until the body has ended.
    pub(crate) fn logging(mut self, line: Box<Line>) -> Answer {
        self.line = Some(line);
        self
    }

    /// Keeps `guard` until the body is sent or dropped.
    pub(crate) fn keeping(mut self, guard: BusyGuard) -> Answer {
        self.busy = Some(guard);
        self
    }

    /// The answer has ended: places become free, and the line is written before the application sees the end, as it
    /// may be frozen right after.
    fn end(&mut self) {
        self.held = None;
        self.line = None;
    }

    fn fail(&mut self, reason: Reason, detail: String) {
        if let Some(line) = &mut self.line {
            line.entry.reason = Some(reason.as_str());
            line.entry.detail = Some(detail);
            line.entry.flags = line.entry.flags.with(reason.flags());
        }
        self.end();
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let ended = self.content.is_end_stream();
        // The body of an answer to HEAD is nobody's to read.
        if let Some(line) = self.line.as_mut().filter(|line| !ended && !line.entry.is_head()) {
            line.entry.flags = line.entry.flags.with(Flags::DC);
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        // Nothing of it counts once it has ended.
        if let Some(limit) = &mut this.limit
            && limit.as_mut().poll(cx).is_ready()
        {
            this.fail(Reason::UpstreamTimeout, TimedOut.to_string());
            return Poll::Ready(Some(Err(TimedOut.into())));
        }
        let polled = match &mut this.content {
            // Bytes in memory cannot fail.
            Content::Local(bytes) => Pin::new(bytes).poll_frame(cx).map_err(|never| match never {}),
            Content::Upstream(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
        };
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(line) = &mut this.line {
                    line.entry.sent = match &this.content {
                        Content::Local(_) => line.entry.sent + frame.data_ref().map_or(0, |data| data.len() as u64),
                        Content::Upstream(body) => body.received(),
                    };
                }
                if this.content.is_end_stream() {
                    this.end();
                }
            }
            Poll::Ready(Some(Err(error))) => {
                let error: &Self::Error = error;
                let detail = format!("the answer was cut off: {error}");
                this.fail(Reason::UpstreamReset, detail);
            }
            Poll::Ready(None) => this.end(),
            Poll::Pending => {
                let silence = this.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep(SILENCE)));
                if silence.as_mut().poll(cx).is_ready() {
                    this.fail(Reason::UpstreamTimeout, Silent.to_string());
                    return Poll::Ready(Some(Err(Silent.into())));
                }
                return Poll::Pending;
            }
        }
        this.silence = None;
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }
}

impl Content {
    fn is_end_stream(&self) -> bool {
        match self {
            Content::Local(bytes) => bytes.is_end_stream(),
            Content::Upstream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Content::Local(bytes) => bytes.size_hint(),
            Content::Upstream(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Ready;

    use http::Request;
    use http_body_util::{BodyExt, Empty};
    use hyper::client::conn::http1;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::Instant;

    use super::*;

    /// An answer of 100 bytes, and where its service writes them.
    async fn answer() -> (Answer, DuplexStream) {
        let (near, mut service) = duplex(1_024);
        let (mut sender, driver) = http1::handshake(TokioIo::new(near)).await.unwrap();
        tokio::spawn(driver);
        let (response, ()) = tokio::join!(sender.send_request(Request::new(Empty::<Bytes>::new())), async {
            // An answer to nothing is an error.
            let _ = service.read(&mut [0; 256]).await.unwrap();
            service.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n").await.unwrap();
        });
        let body = Download::free(response.unwrap().into_body());
        // Nothing else ends it.
        (Answer::upstream(body, Held::default(), None::<Ready<()>>), service)
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_is_silent_within_its_answer_is_given_up() {
        let (mut answer, mut service) = answer().await;
        let begin = Instant::now();
        let second = Duration::from_secs(1);
        // Each part begins the time again, and nothing counts while the application does not read.
        for part in 1..=3 {
            let (frame, ()) = tokio::join!(answer.frame(), async {
                tokio::time::sleep(SILENCE - second).await;
                service.write_all(b"part").await.unwrap();
            });
            assert!(frame.unwrap().is_ok(), "part {part}");
            tokio::time::sleep(2 * SILENCE).await;
        }
        let (begun, silent) = (begin.elapsed(), Instant::now());
        assert_eq!(begun, 3 * (3 * SILENCE - second));
        let ended = tokio::time::timeout(10 * SILENCE, answer.frame()).await.expect("it is given up");
        let error = ended.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "the service sent nothing of its answer for 300 s");
        assert_eq!(silent.elapsed(), SILENCE);
    }
}
