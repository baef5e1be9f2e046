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
