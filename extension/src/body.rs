//! The bodies on both ways: streamed, and kept only as far as a request may have to be sent again.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use tokio::sync::Notify;

use crate::upstream::Lease;

/// The most bytes of a request's body that are kept for another try. A longer body is sent once.
pub(crate) const MAX_REPLAY: usize = 64 * 1_024;

/// What a part of a body counts at least: a body of many small parts must not cost more than a long one.
const PART: usize = 64;

/// Why a body ended early.
pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// The body of a request on its way to the service.
#[derive(Debug)]
pub(crate) enum Upload {
    /// None: the request can be sent again.
    Empty,
    /// Whatever the application sends, kept for another try; each part is told to whoever watches for progress.
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

    /// Told of each part that goes out.
    pub(crate) fn progress(&self) -> Option<Arc<Notify>> {
        match self {
            Upload::Empty => None,
            Upload::Taped(head) => Some(Arc::clone(&head.progress)),
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
    progress: Arc<Notify>,
}

impl Head {
    fn new(tape: &Arc<Mutex<Tape>>, turn: u64) -> Head {
        Head { tape: Arc::clone(tape), turn, read: 0, given: 0, done: false, progress: Arc::default() }
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
                    // Nobody asks again after the last byte of a known length.
                    if tape.source.as_ref().is_some_and(Body::is_end_stream) {
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
            hint: tape.hint.clone(),
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
        let (polled, progress) = match self.get_mut() {
            Upload::Empty => return Poll::Ready(None),
            Upload::Taped(head) => (head.poll(cx), &head.progress),
        };
        if polled.is_ready() {
            progress.notify_one();
        }
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

/// The body of an answer on its way from the service. Its connection is free as soon as it has been read to its end.
#[derive(Debug)]
pub(crate) struct Download {
    body: Incoming,
    received: u64,
    lease: Option<Lease>,
}

impl Download {
    pub(crate) fn new(body: Incoming, lease: Option<Lease>) -> Download {
        let mut download = Download { body, received: 0, lease };
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

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use http_body_util::Full;

    use super::*;

    /// Gives out these frames one by one; says nothing about their length.
    struct Frames(VecDeque<Result<Frame<Bytes>, BoxError>>);

    impl Body for Frames {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            Poll::Ready(self.0.pop_front())
        }
    }

    fn parts(parts: &[&[u8]]) -> Frames {
        Frames(parts.iter().map(|part| Ok(Frame::data(Bytes::copy_from_slice(part)))).collect())
    }

    /// The next part, as text; trailers by their number.
    fn next(upload: &mut Upload) -> Option<Result<String, String>> {
        let polled = Pin::new(upload).poll_frame(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(polled) = polled else { return Some(Err("pending".to_owned())) };
        Some(match polled? {
            Ok(frame) if frame.is_trailers() => Ok(format!("{} trailers", frame.trailers_ref().unwrap().len())),
            Ok(frame) => Ok(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()),
            Err(error) => Err(error.to_string()),
        })
    }

    fn rest(upload: &mut Upload) -> Vec<String> {
        std::iter::from_fn(|| next(upload)).map(Result::unwrap).collect()
    }

    #[test]
    fn a_body_is_read_again_from_its_start_and_goes_on_where_nobody_has_been() {
        let (mut first, replay) = Upload::replayable(parts(&[b"a", b"b", b"c"]));
        assert_eq!(next(&mut first).unwrap().unwrap(), "a");
        assert_eq!(next(&mut first).unwrap().unwrap(), "b");
        let mut second = replay.again().unwrap();
        assert_eq!(next(&mut second).unwrap().unwrap(), "a");
        let error = next(&mut first).unwrap().unwrap_err();
        assert!(error.contains("sent again"), "{error}");
        assert_eq!(rest(&mut second), ["b", "c"]);
        assert_eq!(rest(&mut replay.again().unwrap()), ["a", "b", "c"]);
    }

    #[test]
    fn trailers_are_kept_too() {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "7".parse().unwrap());
        let frames = [Frame::data(Bytes::from_static(b"a")), Frame::trailers(trailers)];
        let (mut first, replay) = Upload::replayable(Frames(frames.into_iter().map(Ok).collect()));
        assert!(replay.whole().is_none(), "not read to its end");
        assert_eq!(rest(&mut first), ["a", "1 trailers"]);
        assert_eq!(rest(&mut replay.again().unwrap()), ["a", "1 trailers"]);
        let mut copy = replay.whole().unwrap();
        assert!(!copy.is_end_stream());
        assert_eq!(rest(&mut copy), ["a", "1 trailers"]);
        assert!(copy.is_end_stream());
    }

    #[test]
    fn what_is_kept_has_a_bound() {
        let half = vec![b'a'; MAX_REPLAY / 2];
        for (last, good) in [(&half[..], true), (&[&half[..], b"a"].concat(), false)] {
            let (mut first, replay) = Upload::replayable(parts(&[&half, last]));
            let read: usize = rest(&mut first).iter().map(String::len).sum();
            assert_eq!(read, half.len() + last.len());
            assert_eq!((replay.again().is_some(), replay.whole().is_some()), (good, good));
        }
        // Small parts count for more than they are.
        let small: Vec<&[u8]> = vec![b"a"; MAX_REPLAY / PART + 1];
        let (mut first, replay) = Upload::replayable(parts(&small));
        assert_eq!(rest(&mut first).len(), small.len());
        assert!(replay.again().is_none());
        // Known to be too long: from the start.
        let (_first, replay) = Upload::replayable(Full::new(Bytes::from(vec![b'a'; MAX_REPLAY + 1])));
        assert!(replay.again().is_none());
        let (_first, replay) = Upload::replayable(Full::new(Bytes::from(vec![b'a'; MAX_REPLAY])));
        assert!(replay.again().is_some());
    }

    #[test]
    fn a_body_that_broke_off_is_not_read_again() {
        let frames = [Ok(Frame::data(Bytes::from_static(b"a"))), Err("gone".into())];
        let (mut first, replay) = Upload::replayable(Frames(frames.into()));
        assert_eq!(next(&mut first).unwrap().unwrap(), "a");
        assert_eq!(next(&mut first).unwrap().unwrap_err(), "gone");
        assert!(replay.again().is_none() && replay.whole().is_none());
    }

    #[test]
    fn without_anybody_who_could_want_it_nothing_is_kept() {
        let (mut first, replay) = Upload::replayable(parts(&[b"a", b"b"]));
        assert_eq!(next(&mut first).unwrap().unwrap(), "a");
        drop(replay);
        assert_eq!(rest(&mut first), ["b"]);
        // A later head still reads what it has not seen.
        let (mut first, replay) = Upload::replayable(parts(&[b"a", b"b"]));
        assert_eq!(next(&mut first).unwrap().unwrap(), "a");
        let mut second = replay.again().unwrap();
        drop(replay);
        assert_eq!(rest(&mut second), ["a", "b"]);
    }

    #[test]
    fn lengths_are_those_of_what_is_left() {
        let (mut first, replay) = Upload::replayable(Full::new(Bytes::from_static(b"hello")));
        assert_eq!((first.size_hint().exact(), first.is_end_stream()), (Some(5), false));
        assert_eq!(next(&mut first).unwrap().unwrap(), "hello");
        assert_eq!((first.size_hint().exact(), first.is_end_stream()), (Some(0), true));
        assert_eq!(replay.again().unwrap().size_hint().exact(), Some(5));
        assert!(Upload::Empty.is_end_stream());
    }
}
