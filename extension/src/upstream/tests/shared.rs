//! What HTTP/2 servers say about requests that they did not process. Frames are written by hand: a server library
//! decides itself what it has seen.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::super::*;
use super::world::*;

const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;

fn go_away(last_stream: u32, reason: u32) -> Vec<u8> {
    let mut frame = vec![0, 0, 8, 7, 0, 0, 0, 0, 0];
    frame.extend(last_stream.to_be_bytes());
    frame.extend(reason.to_be_bytes());
    frame
}

fn reset(stream: u32, reason: u32) -> Vec<u8> {
    let mut frame = vec![0, 0, 4, 3, 0];
    frame.extend(stream.to_be_bytes());
    frame.extend(reason.to_be_bytes());
    frame
}

/// A head with status 200 (index 8 of HPACK's static table) that is the whole answer.
fn answer(stream: u32) -> Vec<u8> {
    let mut frame = vec![0, 0, 1, 1, 5];
    frame.extend(stream.to_be_bytes());
    frame.push(0x88);
    frame
}

/// Reads up to the head of the next request; its stream.
async fn request(stream: &mut TlsStream<TcpStream>) -> Option<u32> {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.ok()?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        stream.read_exact(&mut vec![0; length]).await.ok()?;
        if head[3] == 1 {
            return Some(u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
        }
    }
}

async fn greet(stream: &mut TlsStream<TcpStream>) {
    stream.read_exact(&mut [0; 24]).await.unwrap();
    stream.write_all(SETTINGS).await.unwrap();
}

/// What becomes of a request that is answered with these frames, on a connection that stays or ends.
async fn after(frames: Vec<u8>, hangs: bool) -> Result<Answer, Failed> {
    let world = World::new();
    let play = move |mut stream: TlsStream<TcpStream>, _| {
        let frames = frames.clone();
        async move {
            greet(&mut stream).await;
            request(&mut stream).await;
            stream.write_all(&frames).await.unwrap();
            stream.flush().await.unwrap();
            if hangs {
                return std::future::pending().await;
            }
            let _ = stream.shutdown().await;
        }
    };
    let (address, _task) = script(world.mesh.server(RATINGS), play).await;
    world.get(&world.hop(address, Protocol::Http2), "/").await
}

#[tokio::test]
async fn what_the_service_did_not_process_is_told_apart() {
    let ours = 1;
    for (frames, hangs, expected) in [
        (reset(ours, REFUSED_STREAM), true, FailedKind::RefusedStream),
        (reset(ours, CANCEL), true, FailedKind::Reset { sent: true }),
        (go_away(0, 0), true, FailedKind::RefusedStream),
        (go_away(0, 11), true, FailedKind::RefusedStream),
        // It may have been processed: the GOAWAY is for what comes after it, and then the connection ends.
        (go_away(ours, 0), false, FailedKind::Reset { sent: true }),
        (go_away(ours, 2), false, FailedKind::Reset { sent: true }),
        (vec![], false, FailedKind::Reset { sent: true }),
        // HEADERS with a block that is not HPACK.
        (vec![0, 0, 1, 1, 5, 0, 0, 0, 1, 0xff], true, FailedKind::Protocol),
    ] {
        let failed = after(frames.clone(), hangs).await.unwrap_err();
        assert_eq!(failed.kind, expected, "{frames:?} {}", failed.refusal.detail);
        assert!(failed.unsent.is_none(), "{frames:?}");
    }
    let processed = [go_away(ours, 0), answer(ours)].concat();
    assert_eq!(after(processed, true).await.unwrap().status, 200);
}

#[tokio::test]
async fn after_a_goaway_requests_go_over_a_new_connection() {
    let world = World::new();
    let play = |mut stream: TlsStream<TcpStream>, _| async move {
        greet(&mut stream).await;
        let first = request(&mut stream).await.unwrap();
        stream.write_all(&[answer(first), go_away(first, 0)].concat()).await.unwrap();
        // What comes now is not answered.
        while request(&mut stream).await.is_some() {}
    };
    let (address, _task) = script(world.mesh.server(RATINGS), play).await;
    let hop = world.hop(address, Protocol::Http2);
    for _ in 0..3 {
        // One that cannot be repeated must not meet the old connection.
        let answer = world.call(&hop, post("/", Upload::Empty)).await.unwrap();
        assert_eq!((answer.status, answer.reused), (200, false));
    }
}

#[tokio::test]
async fn after_a_refused_stream_requests_go_over_another_connection_if_there_may_be_one() {
    for (max_connections, expected) in [(0, vec![0, 1]), (1, vec![0, 0])] {
        let world = Arc::new(World::new());
        let used: Arc<std::sync::Mutex<Vec<usize>>> = Arc::default();
        let note = Arc::clone(&used);
        // The first request is in hand for ever, the second one is refused, and the third one answered.
        let play = move |mut stream: TlsStream<TcpStream>, number| {
            let note = Arc::clone(&note);
            async move {
                greet(&mut stream).await;
                while let Some(id) = request(&mut stream).await {
                    let before = {
                        let mut used = note.lock().unwrap();
                        used.push(number);
                        used.len()
                    };
                    let frames = [vec![], reset(id, REFUSED_STREAM), answer(id)];
                    stream.write_all(&frames[before.min(3) - 1]).await.unwrap();
                }
            }
        };
        let (address, _task) = script(world.mesh.server(RATINGS), play).await;
        let pool = Pool { max_connections, ..Pool::default() };
        let hop = world.limited(address, Protocol::Http2, pool);
        let first = tokio::spawn({
            let (world, hop) = (Arc::clone(&world), hop.clone());
            async move { world.send_once(&hop, get("/")).await.is_ok() }
        });
        until(|| used.lock().unwrap().len() == 1).await;
        let failed = world.call(&hop, post("/", Upload::Empty)).await.unwrap_err();
        assert_eq!(failed.kind, FailedKind::RefusedStream);
        assert_eq!(world.call(&hop, post("/", Upload::Empty)).await.unwrap().status, 200);
        assert_eq!(used.lock().unwrap()[1..], expected, "{max_connections}");
        first.abort();
    }
}

/// Answers the first request on each connection and ends it at the second, without a word.
async fn mute(mut stream: TlsStream<TcpStream>, _: usize) {
    greet(&mut stream).await;
    let first = request(&mut stream).await.unwrap();
    stream.write_all(&answer(first)).await.unwrap();
    request(&mut stream).await;
}

#[tokio::test]
async fn a_dead_connection_is_replaced_once_for_what_can_be_repeated() {
    let world = World::new();
    let (address, _task) = script(world.mesh.server(RATINGS), mute).await;
    let hop = world.hop(address, Protocol::Http2);
    for reused in [false, false, false] {
        assert_eq!(world.get(&hop, "/").await.unwrap().reused, reused);
    }
    let failed = world.call(&hop, post("/", Upload::Empty)).await.unwrap_err();
    assert_eq!(failed.kind, FailedKind::Reset { sent: true });
}

#[tokio::test]
async fn those_who_wait_for_a_connection_share_its_failure() {
    let world = Arc::new(World::new());
    // It accepts, and hangs up in the handshake, as often as it is asked.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    let server = tokio::spawn(async move {
        loop {
            let _ = listener.accept().await;
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    });
    let hop = world.hop(address, Protocol::Http2);
    let calls: Vec<_> = (0..5)
        .map(|_| {
            let (world, hop) = (Arc::clone(&world), hop.clone());
            tokio::spawn(async move { world.get(&hop, "/").await })
        })
        .collect();
    for call in calls {
        let failed = call.await.unwrap().unwrap_err();
        assert_eq!((failed.kind, failed.unsent.is_some()), (FailedKind::Tls, true));
    }
    assert_eq!(accepted.load(std::sync::atomic::Ordering::SeqCst), 1);
    server.abort();
}

#[tokio::test]
async fn a_head_without_an_end_is_cut_off() {
    let world = World::new();
    let play = |mut stream: TlsStream<TcpStream>, _| async move {
        greet(&mut stream).await;
        request(&mut stream).await;
        // HEADERS, and then CONTINUATION after CONTINUATION: of one long field that HPACK cannot shorten.
        let mut frame = vec![0, 0x40, 0, 1, 0, 0, 0, 0, 1];
        frame.extend([0x88, 0, 1, b'x', 0x7f, 0xff, 0xff, 0x7f]);
        frame.resize(9 + 0x4000, b'a');
        while stream.write_all(&frame).await.is_ok() {
            frame[3] = 9;
        }
    };
    let (address, _task) = script(world.mesh.server(RATINGS), play).await;
    let failed = world.get(&world.hop(address, Protocol::Http2), "/").await.unwrap_err();
    assert_eq!(failed.kind, FailedKind::Protocol, "{}", failed.refusal.detail);
}

#[tokio::test]
async fn a_connection_that_does_not_answer_a_ping_is_dead() {
    let world = World::with(Duration::from_secs(600));
    let play = |mut stream: TlsStream<TcpStream>, _| async move {
        greet(&mut stream).await;
        let first = request(&mut stream).await.unwrap();
        stream.write_all(&answer(first)).await.unwrap();
        // It reads, and says nothing any more.
        while request(&mut stream).await.is_some() {}
    };
    let (address, _task) = script(world.mesh.server(RATINGS), play).await;
    let hop = world.hop(address, Protocol::Http2);
    world.get(&hop, "/").await.unwrap();
    // From here on only timers pass the time.
    tokio::time::pause();
    let begin = tokio::time::Instant::now();
    let failed = world.send_once(&hop, post("/", Upload::Empty)).await.err().unwrap();
    assert_eq!(failed.kind, FailedKind::Reset { sent: true }, "{}", failed.refusal.detail);
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
}
