//! The application's side: a loopback HTTP/1.1 server.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::answer::Answer;
use crate::keepalive::{Busy, Timed};
use crate::proxy::Proxy;
use crate::reason::{self, Reason};

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

/// Serves until `stop` becomes true; returns when every connection has ended. Requests in hand are finished, idle
/// connections closed.
pub(crate) async fn serve(listener: TcpListener, proxy: Arc<Proxy>, stop: watch::Receiver<bool>) {
    // Unreadable where there is no /proc: then the limit is not the one of Lambda.
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let most = connections_within(&limits);
    let places = Arc::new(Semaphore::new(most as usize));
    serve_at_most(listener, proxy, stop, places, most).await;
}

/// The connections for which this process has the file descriptors: each may need a second one, to the service. Lambda
/// gives 1,024, and with all of them taken by connections nothing could be answered any more.
fn connections_within(limits: &str) -> u32 {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let descriptors = line.and_then(|line| line.split_whitespace().next()?.parse::<u32>().ok());
    let room = descriptors.map(|descriptors| descriptors.saturating_sub(OTHER_DESCRIPTORS) / 2);
    room.unwrap_or(MAX_CONNECTIONS).clamp(1, MAX_CONNECTIONS)
}

async fn serve_at_most(
    listener: TcpListener,
    proxy: Arc<Proxy>,
    mut stop: watch::Receiver<bool>,
    places: Arc<Semaphore>,
    most: u32,
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
                let (proxy, stop) = (Arc::clone(&proxy), stop.clone());
                tokio::spawn(async move {
                    connection(stream, proxy, stop).await;
                    drop(place);
                });
            }
            Err(_) => turn_away(stream).await,
        }
    }
    drop(listener);
    // All places free: all connections ended.
    let _ = places.acquire_many(most).await;
}

async fn connection<S>(stream: S, proxy: Arc<Proxy>, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let busy = Busy::default();
    let timed = Timed::new(stream, busy.clone());
    let service = service_fn(move |request| answer(Arc::clone(&proxy), busy.clone(), request));
    let connection = http1::Builder::new()
        // Instead of the library's own limit, see `keepalive`.
        .header_read_timeout(None)
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(timed), service);
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

async fn answer(proxy: Arc<Proxy>, busy: Busy, request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
    let guard = busy.begin();
    let response = proxy.handle(request).await;
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
    use crate::keepalive::{GRACE, IDLE};

    fn proxy() -> Arc<Proxy> {
        Arc::new(Proxy {
            parts: Err("no configuration".to_owned()),
            clock: Arc::new(SystemClock),
            log: Log::memory().0,
        })
    }

    fn connect() -> (DuplexStream, watch::Sender<bool>) {
        let (application, ours) = duplex(256 * 1024);
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(connection(ours, proxy(), stopped));
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
        tokio::spawn(serve_at_most(listener, proxy(), stopped, Arc::clone(&places), 1));
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
