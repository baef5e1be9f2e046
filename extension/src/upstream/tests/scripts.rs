//! Servers that send what they are told to, byte by byte.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::world::{RATINGS, World};

/// A server that plays a script on each connection; the number of the connection is from 0.
pub(super) async fn script<F, A>(config: Arc<ServerConfig>, play: F) -> (SocketAddr, JoinHandle<Infallible>)
where
    F: Fn(TlsStream<TcpStream>, usize) -> A + Send + Sync + 'static,
    A: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut number = 0;
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(stream) = TlsAcceptor::from(Arc::clone(&config)).accept(stream).await else { continue };
            tokio::spawn(play(stream, number));
            number += 1;
        }
    });
    (address, task)
}

/// Sends these bytes for the first request on each connection, and then ends it unless it is told to hang.
pub(super) async fn says(world: &World, answer: &'static [u8], hangs: bool) -> SocketAddr {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let play = move |mut stream: TlsStream<TcpStream>, _| async move {
        let _ = stream.read(&mut [0; 4_096]).await;
        let _ = stream.write_all(answer).await;
        if hangs {
            return std::future::pending().await;
        }
        let _ = stream.shutdown().await;
    };
    script(world.mesh.server(RATINGS), play).await.0
}
