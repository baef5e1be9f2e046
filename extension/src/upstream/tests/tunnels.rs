//! Bytes both ways.

use super::super::*;
use super::world::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

#[tokio::test]
async fn each_direction_ends_by_itself() {
    let world = World::new();
    // It reads to the end, and only then says what it has read.
    let play = |mut stream: TlsStream<TcpStream>, _| async move {
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"istio-peer-exchange"[..]));
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await.unwrap();
        received.reverse();
        stream.write_all(&received).await.unwrap();
        stream.shutdown().await.unwrap();
    };
    let (address, _task) = script(world.mesh.server(RATINGS), play).await;
    let mut tunnel = world.upstream.tunnel(&world.hop(address, Protocol::Tcp)).await.unwrap();
    assert_eq!(tunnel.peer.as_ref().unwrap().as_str(), RATINGS);
    tunnel.write_all(b"abc").await.unwrap();
    tunnel.shutdown().await.unwrap();
    let mut answer = Vec::new();
    tunnel.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"cba");
}

#[tokio::test]
async fn a_server_that_ends_first_can_still_be_written_to() {
    let world = World::new();
    let (tell, told) = tokio::sync::oneshot::channel();
    let tell = std::sync::Mutex::new(Some(tell));
    let play = move |mut stream: TlsStream<TcpStream>, _| {
        let tell = tell.lock().unwrap().take();
        async move {
            stream.write_all(b"bye").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut received = Vec::new();
            stream.read_to_end(&mut received).await.unwrap();
            let _ = tell.unwrap().send(received);
        }
    };
    let (address, _task) = script(world.mesh.server(RATINGS), play).await;
    let mut tunnel = world.upstream.tunnel(&world.hop(address, Protocol::Tcp)).await.unwrap();
    let mut answer = Vec::new();
    tunnel.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"bye");
    tunnel.write_all(b"late").await.unwrap();
    tunnel.shutdown().await.unwrap();
    assert_eq!(told.await.unwrap(), b"late");
}

#[tokio::test]
async fn tunnels_count_as_connections() {
    let world = World::new();
    let play = |mut stream: TlsStream<TcpStream>, _| async move {
        let _ = stream.read(&mut [0; 1]).await;
    };
    let (address, _task) = script(world.mesh.server(RATINGS), play).await;
    let pool = Pool { max_connections: 1, ..Pool::default() };
    let hop = world.limited(address, Protocol::Tcp, pool);
    let first = world.upstream.tunnel(&hop).await.unwrap();
    let failed = world.upstream.tunnel(&hop).await.err().unwrap();
    assert_eq!(failed.kind, FailedKind::Overflow);
    drop(first);
    assert!(world.upstream.tunnel(&hop).await.is_ok());
}

fn websocket() -> Request<Upload> {
    let request = Request::get("/chat").header("host", "ratings").header("connection", "upgrade");
    request.header("upgrade", "websocket").body(Upload::Empty).unwrap()
}

#[tokio::test]
async fn a_switch_of_protocols_gives_both_directions() {
    let world = World::new();
    let play = |mut stream: TlsStream<TcpStream>, _| async move {
        let mut head = vec![0; 4_096];
        let read = stream.read(&mut head).await.unwrap();
        let head = String::from_utf8_lossy(&head[..read]).to_ascii_lowercase();
        assert!(head.contains("connection: upgrade\r\n") && head.contains("upgrade: websocket\r\n"), "{head}");
        // The first bytes of the new protocol come with the answer.
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello";
        stream.write_all(answer).await.unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await.unwrap();
        stream.write_all(&received).await.unwrap();
        stream.shutdown().await.unwrap();
    };
    let (address, _task) = script(world.mesh.server(RATINGS), play).await;
    let hop = world.hop(address, Protocol::Http1);
    let Upgrade::Switched(head, mut tunnel) = world.upstream.upgrade(&hop, websocket()).await.ok().unwrap() else {
        panic!("refused");
    };
    assert_eq!((head.status().as_u16(), head.headers()["upgrade"].to_str().unwrap()), (101, "websocket"));
    assert_eq!(tunnel.peer.as_ref().unwrap().as_str(), RATINGS);
    tunnel.write_all(b" world").await.unwrap();
    tunnel.shutdown().await.unwrap();
    let mut received = Vec::new();
    tunnel.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, b"hello world");
}

#[tokio::test]
async fn a_service_may_refuse_to_switch() {
    let world = World::new();
    let server = Server::start(Some(world.mesh.server(RATINGS)), false).await;
    let hop = world.hop(server.address, Protocol::Http1);
    let Upgrade::Refused(exchange) = world.upstream.upgrade(&hop, websocket()).await.ok().unwrap() else {
        panic!("switched");
    };
    assert_eq!(Answer::read(exchange).await.body, "ratings");
    world.get(&hop, "/").await.unwrap();
    assert_eq!(server.used(), [1, 2], "its connection is nobody else's");

    let failed = world.upstream.upgrade(&world.hop(server.address, Protocol::Http2), websocket()).await.err().unwrap();
    assert_eq!((failed.kind, failed.unsent.is_some()), (FailedKind::Local, true));
}
