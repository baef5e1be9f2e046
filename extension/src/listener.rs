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
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::body::Answer;
use crate::keepalive::{Busy, Timed};
use crate::proxy::Proxy;
use crate::reason::{self, Reason};

/// The most connections at a time.
pub const MAX_CONNECTIONS: usize = 1_024;

/// The most header fields of a request; more are answered 431.
pub const MAX_HEADERS: usize = 100;

/// The longest head of a request, in bytes; longer ones are answered 431.
pub const MAX_HEAD_BYTES: usize = 64 * 1_024;

/// The pause after a connection could not be accepted, as when there is no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `stop` becomes true; returns when every connection has ended. Requests in hand are finished, idle
/// connections closed.
pub(crate) async fn serve(listener: TcpListener, proxy: Arc<Proxy>, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
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
    let _ = places.acquire_many(MAX_CONNECTIONS as u32).await;
}

async fn connection(stream: TcpStream, proxy: Arc<Proxy>, mut stop: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
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
