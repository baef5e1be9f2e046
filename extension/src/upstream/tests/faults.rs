//! Each thing that can fail on the way.

use super::super::*;
use super::world::*;
use crate::body::BoxError;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;

#[tokio::test]
async fn a_dead_pooled_connection_is_replaced_once_for_what_can_be_repeated() {
    let world = World::new();
    let server = Server::start(Some(world.mesh.server(RATINGS)), false).await;
    let hop = world.hop(server.address, Protocol::Http1);
    world.get(&hop, "/once").await.unwrap();
    assert!(!world.get(&hop, "/once").await.unwrap().reused);
    assert_eq!(server.used(), [1, 1, 2]);
    let failed = world.call(&hop, post("/once", Upload::Empty)).await.unwrap_err();
    assert_eq!(failed.kind, FailedKind::Reset { sent: true });
    assert!(failed.unsent.is_none());
    assert_eq!(server.used(), [1, 1, 2, 2]);
}

#[tokio::test]
async fn a_connection_that_was_reset_while_idle_is_not_used_even_by_what_cannot_be_repeated() {
    let world = World::new();
    let gone = Arc::new(tokio::sync::Semaphore::new(0));
    let tell = Arc::clone(&gone);
    // Answers one request on each connection, and resets it then.
    let play = move |mut stream: TlsStream<TcpStream>, _| {
        let tell = Arc::clone(&tell);
        async move {
            let _ = stream.read(&mut [0; 4_096]).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            stream.flush().await.unwrap();
            socket2::SockRef::from(stream.get_ref().0).set_linger(Some(Duration::ZERO)).unwrap();
            drop(stream);
            tell.add_permits(1);
        }
    };
    let (address, _task) = script(world.mesh.server(RATINGS), play).await;
    let hop = world.hop(address, Protocol::Http1);
    for _ in 0..3 {
        world.call(&hop, post("/", Upload::Empty)).await.unwrap();
        gone.acquire().await.unwrap().forget();
        world.clock.advance(Duration::from_secs(1));
    }
}

#[tokio::test]
async fn a_look_at_a_connection_sees_what_the_runtime_has_not_read() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut theirs, _) = listener.accept().await.unwrap();
    let socket = wire::Socket::new(ours);
    let probe = socket.probe();
    assert_eq!(probe.look(), wire::Sight::Quiet);
    theirs.write_all(b"x").await.unwrap();
    until(|| probe.look() == wire::Sight::Bytes).await;
    let mut socket = socket;
    socket.read_exact(&mut [0; 1]).await.unwrap();
    assert_eq!(probe.look(), wire::Sight::Quiet);
    drop(theirs);
    until(|| probe.look() == wire::Sight::Dead).await;
    let gone = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let probe = wire::Socket::new(gone).probe();
    assert_eq!(probe.look(), wire::Sight::Dead, "nobody holds it");
}

#[tokio::test]
async fn nobody_at_the_address() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let world = World::new();
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let failed = world.get(&world.hop(gone, protocol), "/").await.unwrap_err();
        assert_eq!(failed.kind, FailedKind::Connect);
        assert_eq!(failed.refusal.reason, Reason::UpstreamConnectFailed);
        let unsent = failed.unsent.unwrap();
        assert_eq!(unsent.uri().path(), "/");
    }
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_no_connection() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let pool = Pool { connect_timeout_ms: 50, ..Pool::default() };
    let hop = world.limited(listener.local_addr().unwrap(), Protocol::Http1, pool);
    let failed = world.get(&hop, "/").await.unwrap_err();
    assert_eq!((failed.kind, failed.refusal.reason), (FailedKind::Connect, Reason::UpstreamTimeout));
    assert!(failed.unsent.is_some());
}

#[tokio::test]
async fn a_silent_service_is_a_timeout() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let world = World::with(Duration::from_millis(100));
        let server = Server::start(Some(world.mesh.server(RATINGS)), protocol == Protocol::Http2).await;
        let hop = world.hop(server.address, protocol);
        let failed = world.get(&hop, "/never").await.unwrap_err();
        assert_eq!((failed.kind, failed.refusal.reason), (FailedKind::Timeout, Reason::UpstreamTimeout));
        assert!(failed.unsent.is_none());
        assert_eq!(server.seen().len(), 1, "a GET is not repeated either");
    }
}

/// A part, every 200 s.
struct Slow {
    left: u32,
    timer: Pin<Box<tokio::time::Sleep>>,
}

impl http_body::Body for Slow {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        ready!(self.timer.as_mut().poll(cx));
        self.timer = Box::pin(tokio::time::sleep(Duration::from_secs(200)));
        self.left -= 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"part")))))
    }
}

#[tokio::test]
async fn while_the_body_goes_out_the_service_need_not_answer() {
    let world = World::with(Duration::from_secs(15));
    let server = Server::start(Some(world.mesh.server(RATINGS)), false).await;
    let hop = world.hop(server.address, Protocol::Http1);
    world.get(&hop, "/").await.unwrap();
    // From here on only timers pass the time.
    tokio::time::pause();
    let begin = tokio::time::Instant::now();
    let slow = Slow { left: 4, timer: Box::pin(tokio::time::sleep(Duration::from_secs(200))) };
    let exchange = world.send_once(&hop, post("/read", Upload::replayable(slow).0)).await.unwrap();
    assert_eq!(Answer::read(exchange).await.body, "partpartpartpart");
    assert!(begin.elapsed() >= Duration::from_secs(800), "{:?}", begin.elapsed());
    // A part that never comes is the application's fault, and nobody else's.
    let begin = tokio::time::Instant::now();
    let slow = Slow { left: 1, timer: Box::pin(tokio::time::sleep(Duration::from_secs(301))) };
    let failed = world.send_once(&hop, post("/read", Upload::replayable(slow).0)).await.err().unwrap();
    assert_eq!((failed.kind, failed.refusal.reason), (FailedKind::Local, Reason::RequestTimeout));
    assert!(failed.unsent.is_none() && begin.elapsed() >= Duration::from_secs(300), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_service_that_does_not_take_the_body_is_silent() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let world = World::with(Duration::from_millis(300));
        // It reads nothing of the body, and no more than the system takes in for it.
        let server = Server::start(Some(world.mesh.server(RATINGS)), protocol == Protocol::Http2).await;
        let hop = world.hop(server.address, protocol);
        let parts = std::iter::repeat_with(|| Ok(Bytes::from_static(&[b'a'; 65_536]))).take(1_000);
        let failed = world.send_once(&hop, post("/never", Upload::replayable(futures(parts, false)).0)).await;
        let failed = failed.err().unwrap();
        assert_eq!((failed.kind, failed.refusal.reason), (FailedKind::Timeout, Reason::UpstreamTimeout));
    }
}

#[tokio::test]
async fn the_routes_own_time_counts_where_it_is_the_longer_one() {
    let world = World::with(Duration::from_secs(15));
    let server = Server::start(Some(world.mesh.server(RATINGS)), false).await;
    let mut hop = world.hop(server.address, Protocol::Http1);
    world.get(&hop, "/").await.unwrap();
    // From here on only timers pass the time.
    tokio::time::pause();
    for (patience, expected) in [(None, 15), (Some(60), 60), (Some(1), 15)] {
        hop.patience = patience.map(Duration::from_secs);
        let begin = tokio::time::Instant::now();
        let request = Request::get("/never").header("host", "ratings:9080").body(Upload::Empty).unwrap();
        let failed = world.send_once(&hop, request).await.err().unwrap();
        assert_eq!((failed.kind, begin.elapsed().as_secs()), (FailedKind::Timeout, expected), "{patience:?}");
    }
}

#[tokio::test]
async fn an_answer_must_be_http() {
    for (answer, expected) in [
        (&b"SSH-2.0-OpenSSH_9.6\r\n\r\n"[..], FailedKind::Protocol),
        (b"HTTP/1.1 2000 OK\r\n\r\n", FailedKind::Protocol),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", FailedKind::Protocol),
        (b"HTTP/1.1 200 OK\r\nbad header: 1\r\n\r\n", FailedKind::Protocol),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", FailedKind::Protocol),
        (b"HTTP/1.1 200 OK\r\ncontent-le", FailedKind::Reset { sent: true }),
        (b"", FailedKind::Reset { sent: true }),
    ] {
        let world = World::new();
        let address = says(&world, answer, false).await;
        let failed = world.get(&world.hop(address, Protocol::Http1), "/").await.unwrap_err();
        let answer = String::from_utf8_lossy(answer);
        assert_eq!(failed.kind, expected, "{answer}: {}", failed.refusal.detail);
        assert_eq!(failed.refusal.reason, Reason::UpstreamProtocolError, "{answer}");
    }
}

#[tokio::test]
async fn informational_answers_are_not_the_answer() {
    let world = World::new();
    let answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n\
                   HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let address = says(&world, answer, true).await;
    let answer = world.get(&world.hop(address, Protocol::Http1), "/").await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
}

#[tokio::test]
async fn a_head_without_an_end_is_cut_off() {
    let world = World::new();
    let play = |mut stream: TlsStream<TcpStream>, _| async move {
        let _ = stream.read(&mut [0; 4_096]).await;
        let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
        while sent.is_ok() {
            // One field: their number is not what ends it.
            sent = stream.write_all(b"x: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa").await;
        }
    };
    let (address, _task) = script(world.mesh.server(RATINGS), play).await;
    let failed = world.get(&world.hop(address, Protocol::Http1), "/").await.unwrap_err();
    assert_eq!(failed.kind, FailedKind::Protocol, "{}", failed.refusal.detail);
}

#[tokio::test]
async fn heads_have_a_most_of_fields_and_bytes() {
    let fields = |count: usize| {
        let fields: String = (0..count).map(|number| format!("x-{number}: 1\r\n")).collect();
        format!("HTTP/1.1 200 OK\r\n{fields}content-length: 0\r\n\r\n")
    };
    let padded = |length: usize| {
        let begin = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx: ";
        format!("{begin}{}\r\n\r\n", "a".repeat(length - begin.len() - 4))
    };
    for (head, good) in [
        (fields(http1::MAX_ANSWER_HEADERS - 1), true),
        (fields(http1::MAX_ANSWER_HEADERS), false),
        (padded(http1::MAX_ANSWER_HEAD_BYTES), true),
        (padded(http1::MAX_ANSWER_HEAD_BYTES + 1), false),
    ] {
        let world = World::new();
        let address = says(&world, head.into_bytes().leak(), true).await;
        let called = world.get(&world.hop(address, Protocol::Http1), "/").await;
        match called {
            Ok(answer) => assert!(good && answer.status == 200),
            Err(failed) => assert!(!good && failed.kind == FailedKind::Protocol, "{}", failed.refusal.detail),
        }
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error_of_its_body() {
    use http_body_util::BodyExt as _;
    let world = World::new();
    let address = says(&world, b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", false).await;
    let exchange = world.send_once(&world.hop(address, Protocol::Http1), get("/")).await.unwrap();
    assert!(exchange.response.into_body().collect().await.is_err());
}

#[tokio::test]
async fn bytes_that_nobody_asked_for_belong_to_no_answer() {
    let world = World::new();
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged";
    let address = says(&world, answer, true).await;
    let hop = world.hop(address, Protocol::Http1);
    for _ in 0..3 {
        let answer = world.get(&hop, "/").await.unwrap();
        assert_eq!((answer.body.as_str(), answer.reused), ("", false));
    }
}
