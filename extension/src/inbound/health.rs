//! The health check: the port that asks whether calls can be taken, and the program's own way to ask it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::{Inbound, Phase};

/// Checks at a time.
const MAX_CHECKS: usize = 16;

/// How long a check may take.
const CHECK: Duration = Duration::from_secs(2);

/// The longest head of a check, in bytes.
const MAX_HEAD: usize = 8 * 1024;

/// Istio's own path.
const PATH: &str = "/healthz/ready";

/// Answers checks, until it is dropped.
pub(crate) async fn serve(listener: TcpListener, inbound: Arc<Inbound>) {
    let places = Arc::new(Semaphore::new(MAX_CHECKS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let inbound = Arc::clone(&inbound);
                tokio::spawn(async move {
                    // Who does not listen has left.
                    let _ = tokio::time::timeout(CHECK, answer(stream, &inbound)).await;
                    drop(place);
                });
            }
            // Most likely no file descriptor is left: some will be soon.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Ready is who has an identity and is not about to end. Policies and ports are there before this can be asked.
async fn state(inbound: &Inbound) -> (&'static str, &'static str) {
    if inbound.phase() != Phase::Serving {
        return ("503 Service Unavailable", "draining\n");
    }
    match inbound.tls.ready().await {
        Ok(()) => ("200 OK", "ready\n"),
        Err(why) => ("503 Service Unavailable", why),
    }
}

/// One answer a connection.
async fn answer(mut stream: TcpStream, inbound: &Inbound) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() >= MAX_HEAD || stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = std::str::from_utf8(line).unwrap_or_default();
    let path = line.strip_prefix("GET ").and_then(|line| line.split(' ').next()).unwrap_or_default();
    let (status, body) = match path {
        PATH => state(inbound).await,
        _ => ("404 Not Found", "expected GET /healthz/ready\n"),
    };
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// Asks the health check of this machine: what the argument `--health` does, as an image without a shell has nothing
/// else to ask with. Blocks for some seconds at most.
///
/// # Errors
/// The answer that is not 200, or why there is none.
pub(crate) fn ask(port: u16) -> Result<(), String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut said = String::new();
    let mut asked = || -> std::io::Result<()> {
        let mut stream = std::net::TcpStream::connect_timeout(&address, CHECK)?;
        stream.set_read_timeout(Some(CHECK))?;
        stream.set_write_timeout(Some(CHECK))?;
        let request = format!("GET {PATH} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        stream.take(MAX_HEAD as u64).read_to_string(&mut said)?;
        Ok(())
    };
    let outcome = asked();
    match outcome {
        Err(error) => Err(format!("no answer from {address}: {error}")),
        Ok(()) if said.starts_with("HTTP/1.1 200 ") => Ok(()),
        Ok(()) => Err(format!("not ready: {}", said.rsplit("\r\n").next().unwrap_or_default().trim())),
    }
}
