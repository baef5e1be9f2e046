//! The body of a request, which may be needed more than once.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::sync::Notify;

use super::BoxError;

/// The most bytes of a request's body that are kept for another try. A longer body is sent once.
pub(crate) const MAX_REPLAY: usize = 64 * 1_024;

/// What a part of a body counts at least: a body of many small parts must not cost more than a long one.
const PART: usize = 64;

/// The body of a request on its way to the service.
#[derive(Debug)]
pub(crate) enum Upload {
    /// None: the request can be sent again.
    Empty,
    /// Whatever the application sends, kept for another try; each part is told to whoever watches its [`Pace`].
    Taped(Head),
}

impl Upload {
    /// A body that can be read again from its start, through the second part of the answer.
    pub(crate) fn replayable<B>(body: B) -> (Upload, Replay)
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let hint = body.size_hint();
        // What is known to be too long is not kept at all.
        let kept = hint.lower() <= MAX_REPLAY as u64;
        let tape = Tape { source: Some(body.map_err(Into::into).boxed_unsync()), hint, kept, ..Tape::default() };
        let tape = Arc::new(Mutex::new(tape));
        let upload = Upload::Taped(Head::new(&tape, 0));
        (upload, Replay(tape))
    }

    /// How it goes out; `None` when nothing does.
    pub(crate) fn pace(&self) -> Option<Arc<Pace>> {
        match self {
            Upload::Empty => None,
            Upload::Taped(head) => Some(Arc::clone(&head.pace)),
        }
    }
}

/// Who is waited for while a body goes out.
#[derive(Default)]
pub(crate) struct Pace {
    stalled: AtomicBool,
    changed: Notify,
}

impl Pace {
    /// Whether the next part is asked for and the application has not sent it yet.
    pub(crate) fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Acquire)
    }

    /// Returns when a part has gone out, or the application has become the one to wait for.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn note(&self, stalled: bool) {
        let before = self.stalled.swap(stalled, Ordering::AcqRel);
        if !(stalled && before) {
            self.changed.notify_one();
        }
    }
}

/// A body and as much of it as may be needed again. One [`Head`] reads at a time: the youngest.
#[derive(Default)]
struct Tape {
    source: Option<UnsyncBoxBody<Bytes, BoxError>>,
    /// What is known of the whole length.
    hint: SizeHint,
    parts: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
    /// What `parts` counts.
    size: usize,
    /// All of the body from its start is in `parts`, as far as it has been read.
    kept: bool,
    /// The source has ended, well.
    ended: bool,
    /// The head that may read.
    turn: u64,
}

impl Tape {
    fn keep(&mut self, part: &Bytes) {
        self.size += part.len().max(PART);
        if self.size > MAX_REPLAY {
            self.forget();
        } else {
            self.parts.push_back(part.clone());
        }
    }

    fn forget(&mut self) {
        self.kept = false;
        self.parts = VecDeque::new();
        self.trailers = None;
    }
}

fn lock(tape: &Mutex<Tape>) -> MutexGuard<'_, Tape> {
    tape.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads a [`Tape`] from its start.
pub(crate) struct Head {
    tape: Arc<Mutex<Tape>>,
    turn: u64,
    /// The parts that it has read of those that are kept.
    read: usize,
    /// The bytes that it has given out.
    given: u64,
    done: bool,
    pace: Arc<Pace>,
}

impl Head {
    fn new(tape: &Arc<Mutex<Tape>>, turn: u64) -> Head {
        Head { tape: Arc::clone(tape), turn, read: 0, given: 0, done: false, pace: Arc::default() }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut tape = lock(&self.tape);
        let tape = &mut *tape;
        if self.done {
            return Poll::Ready(None);
        }
        if self.turn != tape.turn {
            return Poll::Ready(Some(Err("the request is being sent again".into())));
        }
        if tape.kept {
            if let Some(part) = tape.parts.get(self.read) {
                self.read += 1;
                self.given += part.len() as u64;
                return Poll::Ready(Some(Ok(Frame::data(part.clone()))));
            }
            if let (true, Some(trailers)) = (tape.ended, &tape.trailers) {
                self.done = true;
                return Poll::Ready(Some(Ok(Frame::trailers(trailers.clone()))));
            }
        }
        let Some(source) = &mut tape.source else {
            self.done = true;
            return Poll::Ready(match tape.ended {
                true => None,
                false => Some(Err("the application's body has ended early".into())),
            });
        };
        let polled = match Pin::new(source).poll_frame(cx) {
            Poll::Ready(polled) => polled,
            Poll::Pending => return Poll::Pending,
        };
        match &polled {
            Some(Ok(frame)) => {
                if let Some(part) = frame.data_ref() {
                    self.given += part.len() as u64;
                    if tape.kept {
                        tape.keep(part);
                        self.read += 1;
                    }
                    // Whoever sends a body of known length does not ask for what comes after its last byte.
                    if tape.source.as_ref().is_some_and(http_body::Body::is_end_stream) {
                        (tape.source, tape.ended) = (None, true);
                    }
                } else if let Some(trailers) = frame.trailers_ref() {
                    tape.trailers = tape.kept.then(|| trailers.clone());
                    (tape.source, tape.ended, self.done) = (None, true, true);
                }
            }
            Some(Err(_)) => {
                tape.forget();
                tape.source = None;
                self.done = true;
            }
            None => (tape.source, tape.ended, self.done) = (None, true, true),
        }
        Poll::Ready(polled)
    }

    fn is_end(&self) -> bool {
        let tape = lock(&self.tape);
        let rest_is_empty = match &tape.source {
            Some(source) => source.is_end_stream(),
            None => tape.ended && tape.trailers.is_none(),
        };
        self.done || (rest_is_empty && (!tape.kept || self.read == tape.parts.len()))
    }

    fn hint(&self) -> SizeHint {
        let tape = lock(&self.tape);
        let mut hint = SizeHint::new();
        if let Some(upper) = tape.hint.upper() {
            hint.set_upper(upper.saturating_sub(self.given));
        }
        hint.set_lower(tape.hint.lower().saturating_sub(self.given));
        hint
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Head").field("turn", &self.turn).field("given", &self.given).finish_non_exhaustive()
    }
}

/// Holds on to the start of a body. Dropped, nothing more is kept.
pub(crate) struct Replay(Arc<Mutex<Tape>>);

impl Replay {
    /// The body from its start, for another try; whoever still reads it for the try before gets an error. `None` when
    /// more than [`MAX_REPLAY`] has gone out, or the application's body broke off.
    pub(crate) fn again(&self) -> Option<Upload> {
        let mut tape = lock(&self.0);
        if !tape.kept {
            return None;
        }
        tape.turn += 1;
        Some(Upload::Taped(Head::new(&self.0, tape.turn)))
    }

    /// A copy for somebody else: of a body that has been read to its end, all of which is kept.
    pub(crate) fn whole(&self) -> Option<Upload> {
        let tape = lock(&self.0);
        if !(tape.kept && tape.ended) {
            return None;
        }
        let copy = Tape {
            hint: tape.hint,
            parts: tape.parts.clone(),
            trailers: tape.trailers.clone(),
            size: tape.size,
            kept: true,
            ended: true,
            ..Tape::default()
        };
        Some(Upload::Taped(Head::new(&Arc::new(Mutex::new(copy)), 0)))
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        let mut tape = lock(&self.0);
        // What the last head has not read yet must stay.
        if tape.source.is_some() && tape.turn == 0 {
            tape.forget();
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Upload::Taped(head) = self.get_mut() else { return Poll::Ready(None) };
        let polled = head.poll(cx);
        head.pace.note(polled.is_pending());
        polled
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Upload::Empty => true,
            Upload::Taped(head) => head.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Upload::Empty => SizeHint::with_exact(0),
            Upload::Taped(head) => head.hint(),
        }
    }
}

#[cfg(test)]
mod tests;
