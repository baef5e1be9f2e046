//! The application's side: a loopback server of HTTP/1.1 and, for clients that begin with it, HTTP/2.
//!
//! HTTP/2 without TLS is spoken by prior knowledge alone (RFC 9113 3.3), told by the connection's first bytes. An
//! `Upgrade: h2c` is ignored, so that no connection changes its meaning behind a request.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use platform::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::answer::Answer;
use crate::door::{Door, Link};
use crate::keepalive::{Busy, Timed};
use crate::proxy::Proxy;
use crate::reason::{self, Reason};
use crate::sniff::{self, Spoken};
use crate::tunnel;

/// The most connections at a time, where the process may have file descriptors enough.
pub const MAX_CONNECTIONS: u32 = 1_024;

/// File descriptors that are not for the application's requests: the idle connections to services, and those to the
/// issuer, to Lambda and to name servers.
const OTHER_DESCRIPTORS: u32 = 192;

/// The most header fields of a request; more are answered 431.
pub const MAX_HEADERS: usize = 100;

/// The longest head of a request, in bytes; longer ones are answered 431.
pub const MAX_HEAD_BYTES: usize = 64 * 1_024;

/// The pause after a connection could not be accepted, as when there is no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The most requests at a time on a connection of HTTP/2.
const MAX_STREAMS: u32 = 256;

/// What one request may have on its way to us in HTTP/2, and all of a connection.
const STREAM_WINDOW: u32 = 256 * 1_024;
const CONNECTION_WINDOW: u32 = 1_024 * 1_024;

/// What of an answer waits to be sent in HTTP/2.
const SEND_BUFFER: usize = 64 * 1_024;

/// A connection of any kind.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Serves until `stop` becomes true; returns when every connection has ended. Requests in hand are finished, idle
/// connections closed.
pub(crate) async fn serve(listeners: Vec<(TcpListener, Door)>, proxy: Arc<Proxy>, stop: watch::Receiver<bool>) {
    // Unreadable where there is no /proc: then the limit is not the one of Lambda.
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let most = connections_within(&limits);
    let places = Arc::new(Semaphore::new(most as usize));
    let mut accepting = JoinSet::new();
    for (listener, door) in listeners {
        accepting.spawn(accept(listener, door, Arc::clone(&proxy), stop.clone(), Arc::clone(&places)));
    }
    while accepting.join_next().await.is_some() {}
    // All places free: all connections ended.
    let _ = places.acquire_many(most).await;
}

/// The connections for which this process has the file descriptors: each may need a second one, to the service. Lambda
/// gives 1,024, and with all of them taken by connections nothing could be answered any more.
pub(crate) fn connections_within(limits: &str) -> u32 {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let descriptors = line.and_then(|line| line.split_whitespace().next()?.parse::<u32>().ok());
    let room = descriptors.map(|descriptors| descriptors.saturating_sub(OTHER_DESCRIPTORS) / 2);
    room.unwrap_or(MAX_CONNECTIONS).clamp(1, MAX_CONNECTIONS)
}

async fn accept(
    listener: TcpListener,
    door: Door,
    proxy: Arc<Proxy>,
    mut stop: watch::Receiver<bool>,
    places: Arc<Semaphore>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = told_to(&mut stop) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                proxy.log.write(&serde_json::json!({ "event": "accept_failed", "error": error.to_string() }));
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => {
                let _ = stream.set_nodelay(true);
                let place = Some(Arc::new(place));
                let link = Link { door: door.clone(), busy: Busy::default(), stop: stop.clone(), _place: place };
                tokio::spawn(serve_one(stream, Arc::clone(&proxy), link));
            }
            // Whoever speaks no HTTP would take the answer for the service's.
            Err(_) if tunnel::bytes_of(&proxy, &door).is_some() => drop(stream),
            Err(_) => turn_away(stream).await,
        }
    }
}

async fn serve_one(stream: TcpStream, proxy: Arc<Proxy>, link: Link) {
    match tunnel::bytes_of(&proxy, &link.door) {
        Some(bytes) => bytes.serve(stream, &proxy, &link).await,
        None => {
            let cut = proxy.cut.clone();
            cut.bounds(connection(stream, proxy, link)).await;
        }
    }
}

/// Serves HTTP in a tunnel. (The type is spelt out, as a connection may hold another one.)
pub(crate) fn inside(stream: Box<dyn Duplex>, proxy: Arc<Proxy>, link: Link) -> BoxFuture<'static, ()> {
    Box::pin(connection(stream, proxy, Link { busy: Busy::default(), ..link }))
}

async fn connection<S: Duplex + 'static>(stream: S, proxy: Arc<Proxy>, link: Link) {
    let mut stop = link.stop.clone();
    let looking = sniff::look(Timed::new(stream, link.busy.clone()), sniff::of_http);
    let looked = tokio::select! {
        looked = looking => looked,
        () = told_to(&mut stop) => return,
    };
    // An error is the application's: it went away, or took too long.
    let Ok((spoken, mut stream)) = looked else { return };
    let link = Arc::new(link);
    let service = service_fn(move |request| answer(Arc::clone(&proxy), Arc::clone(&link), request));
    if spoken == Some(Spoken::Http2) {
        stream.get_mut().share();
        let connection = http2::Builder::new(TokioExecutor::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEAD_BYTES as u32)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        tokio::select! {
            _ = &mut connection => {}
            () = told_to(&mut stop) => {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
        return;
    }
    let connection = http1::Builder::new()
        // Instead of the library's own limit, see `keepalive`.
        .header_read_timeout(None)
        // `MAX_HEADERS` is the library's own limit. Said to it, it would take memory for as many with each request.
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    // An error is the application's: it went away or sent no HTTP. It has had its answer, or wants none.
    tokio::select! {
        _ = &mut connection => {}
        () = told_to(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

async fn answer(
    proxy: Arc<Proxy>,
    link: Arc<Link>,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    let guard = link.busy.begin();
    let response = proxy.handle(request, &link).await;
    Ok(response.map(|body| body.keeping(guard)))
}

/// Returns when `stop` is true (or nobody is left to say so).
async fn told_to(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// One connection too many: an answer instead of silence, and no more work than that.
async fn turn_away(mut stream: TcpStream) {
    let reason = Reason::TooManyConnections;
    let head = format!(
        "HTTP/1.1 {} Service Unavailable\r\n{}: {}\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        reason.status().as_u16(),
        reason::HEADER,
        reason.as_str()
    );
    let written: io::Result<()> = async {
        stream.write_all(head.as_bytes()).await?;
        stream.shutdown().await
    }
    .await;
    // Whoever does not read it has left.
    let _ = written;
}

#[cfg(test)]
mod tests {
    use platform::clock::SystemClock;
    use platform::log::Log;
    use tokio::io::{AsyncReadExt, DuplexStream, duplex};
    use tokio::time::Instant;

    use super::*;
    use crate::drain::Cut;
    use crate::keepalive::{GRACE, IDLE};

    fn proxy() -> Arc<Proxy> {
        Arc::new(Proxy {
            parts: Err("no configuration".to_owned()),
            clock: Arc::new(SystemClock),
            log: Log::memory().0,
            cut: Cut::default(),
        })
    }

    fn connect() -> (DuplexStream, watch::Sender<bool>) {
        let (application, ours) = duplex(256 * 1024);
        let (stop, stopped) = watch::channel(false);
        let link = Link { door: Door::Proxy, busy: Busy::default(), stop: stopped, _place: None };
        tokio::spawn(connection(ours, proxy(), link));
        (application, stop)
    }

    /// The status line of the answer to `head`.
    async fn status_of(head: &str) -> String {
        let (mut application, _stop) = connect();
        application.write_all(head.as_bytes()).await.unwrap();
        let mut answer = vec![0; 12];
        application.read_exact(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    fn head(fields: usize, bytes: usize) -> String {
        let mut head = String::from("GET http://a.example/ HTTP/1.1\r\n");
        for field in 1..fields {
            head.push_str(&format!("x-{field}: y\r\n"));
        }
        let left = bytes.saturating_sub(head.len() + "x: \r\n\r\n".len());
        head.push_str(&format!("x: {}\r\n\r\n", "z".repeat(left)));
        head
    }

    #[tokio::test]
    async fn limits_hold_at_the_bound_and_one_past_it() {
        for (fields, bytes, expected) in [
            (MAX_HEADERS, 0, "HTTP/1.1 503"),
            (MAX_HEADERS + 1, 0, "HTTP/1.1 431"),
            (1, MAX_HEAD_BYTES, "HTTP/1.1 503"),
            (1, MAX_HEAD_BYTES + 1, "HTTP/1.1 431"),
        ] {
            let head = head(fields, bytes);
            assert_eq!(status_of(&head).await, expected, "{fields} fields, {} bytes", head.len());
        }
        assert_eq!(status_of("no http at all\r\n\r\n").await, "HTTP/1.1 400");
    }

    #[tokio::test]
    async fn what_two_readers_may_read_differently_is_refused() {
        for head in [
            // RFC 9112 6.3: several lengths that differ; 6.1: a transfer coding whose last is not chunked.
            "POST http://a.example/ HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
            "POST http://a.example/ HTTP/1.1\r\ncontent-length: 1, 2\r\n\r\nab",
            "POST http://a.example/ HTTP/1.1\r\ncontent-length: +1\r\n\r\na",
            "POST http://a.example/ HTTP/1.1\r\ncontent-length: -1\r\n\r\na",
            "POST http://a.example/ HTTP/1.1\r\ntransfer-encoding: chunked, gzip\r\n\r\n",
            "POST http://a.example/ HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            // RFC 9112 5.2: obs-fold; 5.1: whitespace before the colon; 2.2: a bare CR.
            "GET http://a.example/ HTTP/1.1\r\nx: a\r\n b\r\n\r\n",
            "GET http://a.example/ HTTP/1.1\r\nx : a\r\n\r\n",
            "GET http://a.example/ HTTP/1.1\r\nx: a\rb: c\r\n\r\n",
            "GET http://a.example/ HTTP/1.1\r\nx: a\0b\r\n\r\n",
            "GET http://a.example/ x HTTP/1.1\r\n\r\n",
            "GET http://a.example/ HTTP/2.0\r\n\r\n",
        ] {
            assert_eq!(status_of(head).await, "HTTP/1.1 400", "{head:?}");
        }
    }

    #[tokio::test]
    async fn a_client_that_begins_with_http2_is_answered_in_it() {
        let (application, _stop) = connect();
        let executor = TokioExecutor::new();
        let (mut sender, driver) =
            hyper::client::conn::http2::handshake(executor, TokioIo::new(application)).await.unwrap();
        tokio::spawn(driver);
        let request = || Request::get("http://a.example:9080/").version(http::Version::HTTP_2);
        let empty = http_body_util::Empty::<bytes::Bytes>::new;
        let answer = sender.send_request(request().body(empty()).unwrap()).await.unwrap();
        assert_eq!((answer.version(), answer.status().as_u16()), (http::Version::HTTP_2, 503));
        assert_eq!(answer.headers()[reason::HEADER], "configuration_invalid");
        for (fields, expected) in [(MAX_HEADERS, 503), (MAX_HEADERS + 1, 431)] {
            let mut request = request();
            for field in 0..fields {
                request = request.header(format!("x-{field}"), "y");
            }
            let answer = sender.send_request(request.body(empty()).unwrap()).await.unwrap();
            assert_eq!(answer.status().as_u16(), expected, "{fields} fields");
            let reason = if expected == 431 { "request_invalid" } else { "configuration_invalid" };
            assert_eq!(answer.headers()[reason::HEADER], reason, "{fields} fields");
        }
        let long = request().header("x", "y".repeat(MAX_HEAD_BYTES)).body(empty()).unwrap();
        let refused = sender.send_request(long).await;
        assert!(refused.is_err() || refused.unwrap().status().as_u16() == 431);
    }

    #[test]
    fn connections_keep_within_the_file_descriptors() {
        let limits = |most: &str| {
            format!(
                "Limit                     Soft Limit           Hard Limit           Units\n\
                 Max cpu time              unlimited            unlimited            seconds\n\
                 Max open files            {most:<21}524288               files\n"
            )
        };
        for (most, expected) in
            [("1024", 416), ("1048576", MAX_CONNECTIONS), ("unlimited", MAX_CONNECTIONS), ("64", 1), ("2240", 1_024)]
        {
            assert_eq!(connections_within(&limits(most)), expected, "{most}");
        }
        assert_eq!(connections_within(""), MAX_CONNECTIONS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_kept_between_requests_and_closed_when_idle() {
        let (mut application, _stop) = connect();
        for _ in 0..2 {
            application.write_all(b"GET http://a.example/ HTTP/1.1\r\n\r\n").await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"no configuration\n") {
                let mut byte = [0];
                assert_eq!(application.read(&mut byte).await.unwrap(), 1, "{}", String::from_utf8_lossy(&answer));
                answer.push(byte[0]);
            }
            tokio::time::sleep(IDLE / 2).await;
        }
        let start = Instant::now();
        assert_eq!(application.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(start.elapsed(), IDLE / 2 + GRACE);
    }

    #[tokio::test]
    async fn an_idle_connection_ends_when_told_to() {
        let (mut application, stop) = connect();
        stop.send(true).unwrap();
        assert_eq!(application.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn one_connection_too_many_is_turned_away_by_name() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_stop, stopped) = watch::channel(false);
        let places = Arc::new(Semaphore::new(1));
        tokio::spawn(accept(listener, Door::Proxy, proxy(), stopped, Arc::clone(&places)));
        let mut first = TcpStream::connect(address).await.unwrap();
        first.write_all(b"GET http://a.example/ HTTP/1.1\r\n\r\n").await.unwrap();
        first.read_exact(&mut [0; 12]).await.unwrap();

        let mut answer = String::new();
        TcpStream::connect(address).await.unwrap().read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 503 ") && answer.contains("x-causeway-reason: too_many_connections"),
            "{answer}"
        );
        // With the first one gone there is a place again.
        drop(first);
        let _ = places.acquire().await.unwrap();
        let mut third = TcpStream::connect(address).await.unwrap();
        third.write_all(b"GET http://a.example/ HTTP/1.1\r\n\r\n").await.unwrap();
        let mut answer = vec![0; 2_048];
        let read = third.read(&mut answer).await.unwrap();
        assert!(String::from_utf8_lossy(&answer[..read]).contains("configuration_invalid"));
    }
}
