//! The port that Prometheus asks at.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Scrapes at a time.
const MAX_SCRAPES: usize = 4;

/// How long a scrape may take.
const SCRAPE: Duration = Duration::from_secs(5);

/// The longest head of a scrape, in bytes.
const MAX_HEAD: usize = 8 * 1024;

/// Binds the port that Prometheus asks at; loopback, so that who asks is in the same task.
///
/// # Errors
/// The port cannot be had.
pub async fn bind(port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await
}

/// Answers scrapes, until it is dropped.
pub async fn serve(listener: TcpListener, text: impl Fn() -> String + Clone + Send + 'static) {
    let places = Arc::new(Semaphore::new(MAX_SCRAPES));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let text = text.clone();
                tokio::spawn(async move {
                    // Who does not listen has left.
                    let _ = tokio::time::timeout(SCRAPE, answer(stream, text)).await;
                    drop(place);
                });
            }
            // Most likely no file descriptor is left: some will be soon.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// One answer a connection.
async fn answer(mut stream: TcpStream, text: impl Fn() -> String) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() >= MAX_HEAD || stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let (status, body) = match line {
        b"GET /metrics HTTP/1.1" | b"GET /metrics HTTP/1.0" => ("200 OK", text()),
        _ => ("404 Not Found", "expected GET /metrics\n".to_owned()),
    };
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_scrape_gets_the_text_and_nothing_else_does() {
        let listener = bind(0).await.unwrap();
        let address = listener.local_addr().unwrap();
        assert!(address.ip().is_loopback());
        tokio::spawn(serve(listener, || "causeway_thaw_total 1\n".to_owned()));
        for (request, status, body) in [
            ("GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n", "HTTP/1.1 200 ", "causeway_thaw_total 1\n"),
            ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", "HTTP/1.1 404 ", "expected GET /metrics\n"),
            ("POST /metrics HTTP/1.1\r\nhost: a\r\n\r\n", "HTTP/1.1 404 ", "expected GET /metrics\n"),
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with(status) && answer.ends_with(body), "{answer}");
        }
    }
}
