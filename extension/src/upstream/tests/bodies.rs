//! Bodies both ways: whole, in step, and with trailers.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::super::*;
use super::world::*;
use crate::body::{BoxError, Upload};

const BOTH: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];
const PART: u64 = 16 * 1_024;
const PARTS: u64 = 2_048;

/// `PARTS` parts of `PART` bytes, and how many of these have been asked for.
struct Long(u64, Arc<AtomicU64>);

impl http_body::Body for Long {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.0 == PARTS {
            return Poll::Ready(None);
        }
        self.0 += 1;
        self.1.fetch_add(PART, Ordering::SeqCst);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![b'a'; PART as usize])))))
    }
}

#[tokio::test]
async fn a_long_body_goes_up_and_comes_back_in_step() {
    for protocol in BOTH {
        let world = World::new();
        let server = Server::start(Some(world.mesh.server(RATINGS)), protocol == Protocol::Http2).await;
        let hop = world.hop(server.address, protocol);
        let asked = Arc::<AtomicU64>::default();
        let upload = Upload::replayable(Long(0, Arc::clone(&asked))).0;
        let exchange = world.send_once(&hop, post("/echo", upload)).await.unwrap();
        let mut body = exchange.response.into_body();
        let (mut received, mut most) = (0, 0);
        while let Some(frame) = body.frame().await {
            received += frame.unwrap().into_data().unwrap().len() as u64;
            most = most.max(asked.load(Ordering::SeqCst) - received);
        }
        assert_eq!((received, body.received()), (PART * PARTS, PART * PARTS), "{protocol:?}");
        // What lies between is in windows and the operating system's buffers, and not the whole of it.
        assert!(most < PART * PARTS / 2, "{protocol:?}: {most}");
        drop(body);
        world.get(&hop, "/").await.unwrap();
        assert_eq!(server.used(), [1, 1], "{protocol:?}");
    }
}

#[tokio::test]
async fn trailers_come_down() {
    let world = World::new();
    let answer =
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n";
    let address = says(&world, answer, true).await;
    let answer = world.get(&world.hop(address, Protocol::Http1), "/").await.unwrap();
    assert_eq!((answer.body.as_str(), &answer.trailers.unwrap()["x-sum"]), ("ok", &"7".parse().unwrap()));
}

fn with_trailers() -> Upload {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "7".parse().unwrap());
    let frames = [Frame::data(Bytes::from_static(b"ok")), Frame::trailers(trailers)];
    Upload::replayable(Frames(frames.into())).0
}

struct Frames(std::collections::VecDeque<Frame<Bytes>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

#[tokio::test]
async fn trailers_go_up_and_come_back_in_http2() {
    let world = World::new();
    let server = Server::start(Some(world.mesh.server(RATINGS)), true).await;
    let hop = world.hop(server.address, Protocol::Http2);
    let mut request = post("/echo", with_trailers());
    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    request.headers_mut().insert("connection", "keep-alive".parse().unwrap());
    request.headers_mut().insert("transfer-encoding", "chunked".parse().unwrap());
    let answer = world.call(&hop, request).await.unwrap();
    assert_eq!((answer.body.as_str(), &answer.trailers.unwrap()["x-sum"]), ("ok", &"7".parse().unwrap()));
    let headers = &server.seen()[0].headers;
    assert_eq!(headers["te"], "trailers");
    assert!(!headers.contains_key("connection") && !headers.contains_key("transfer-encoding"));
}

#[tokio::test]
async fn trailers_go_up_in_chunks() {
    let world = World::new();
    let (tell, told) = tokio::sync::oneshot::channel();
    let tell = std::sync::Mutex::new(Some(tell));
    let play = move |mut stream: TlsStream<TcpStream>, _| {
        let tell = tell.lock().unwrap().take();
        async move {
            let mut received = Vec::new();
            while !received.ends_with(b"\r\n0\r\nx-sum: 7\r\n\r\n") {
                let mut part = [0; 1_024];
                let read = stream.read(&mut part).await.unwrap();
                assert_ne!(read, 0, "{}", String::from_utf8_lossy(&received));
                received.extend_from_slice(&part[..read]);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            let _ = tell.unwrap().send(String::from_utf8(received).unwrap());
            std::future::pending().await
        }
    };
    let (address, _task) = script(world.mesh.server(RATINGS), play).await;
    let mut request = post("/", with_trailers());
    request.headers_mut().insert("trailer", "x-sum".parse().unwrap());
    assert_eq!(world.call(&world.hop(address, Protocol::Http1), request).await.unwrap().status, 200);
    let received = told.await.unwrap();
    assert!(received.contains("transfer-encoding: chunked\r\n"), "{received}");
}

#[tokio::test]
async fn a_body_can_be_sent_again_from_its_start() {
    for protocol in BOTH {
        let world = World::new();
        let server = Server::start(Some(world.mesh.server(RATINGS)), protocol == Protocol::Http2).await;
        let hop = world.hop(server.address, protocol);
        let (first, replay) = Upload::replayable(text("hello"));
        assert_eq!(world.call(&hop, post("/echo", first)).await.unwrap().body, "hello");
        let again = replay.again().unwrap();
        assert_eq!(world.call(&hop, post("/echo", again)).await.unwrap().body, "hello");
        let copy = replay.whole().unwrap();
        drop(replay);
        assert_eq!(world.call(&hop, post("/echo", copy)).await.unwrap().body, "hello");
    }
}

#[tokio::test]
async fn an_applications_body_that_breaks_off_is_not_sent_as_a_whole_one() {
    for protocol in BOTH {
        let world = World::new();
        let server = Server::start(Some(world.mesh.server(RATINGS)), protocol == Protocol::Http2).await;
        let parts = [Ok(Bytes::from_static(b"part")), Err("gone".into())];
        let (upload, replay) = Upload::replayable(futures(parts, false));
        let exchange = world.send_once(&world.hop(server.address, protocol), post("/echo", upload)).await;
        if let Ok(exchange) = exchange {
            assert!(exchange.response.into_body().collect().await.is_err(), "{protocol:?}");
        }
        assert!(replay.again().is_none());
    }
}
