//! A mesh server that speaks HTTP/2 frame by frame: a server library decides itself what it has seen.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use identity::tls;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{Mesh, Task};

const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// What it does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// 200, without a body.
    Answer,
    /// RST_STREAM with REFUSED_STREAM (RFC 9113 8.7).
    Refuse,
    /// RST_STREAM with CANCEL: it may have been processed.
    Cancel,
    /// GOAWAY whose last stream is the one before this (RFC 9113 6.8).
    GoAwayBelow,
}

/// The server.
pub struct FrameServer {
    pub address: SocketAddr,
    acts: Arc<Mutex<VecDeque<Act>>>,
    seen: Arc<Mutex<Vec<usize>>>,
    _task: Task,
}

impl FrameServer {
    /// One that shows `id`, does `acts` with the first requests and answers those after them.
    pub async fn start(mesh: &Mesh, id: &str, acts: &[Act]) -> FrameServer {
        let config = tls::server_config(&mesh.svid(id), &mesh.bundle(), &["istio-h2"]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (acts, seen) = (Arc::new(Mutex::new(acts.iter().copied().collect())), Arc::<Mutex<Vec<usize>>>::default());
        let parts = (Arc::clone(&acts), Arc::clone(&seen));
        let task = Task::spawn(async move {
            let mut number = 0;
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                number += 1;
                let (acceptor, (acts, seen)) = (TlsAcceptor::from(Arc::clone(&config)), parts.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let _ = serve(stream, number, &acts, &seen).await;
                    }
                });
            }
        });
        FrameServer { address, acts, seen, _task: task }
    }

    /// Does these with the next requests.
    pub fn does(&self, acts: &[Act]) {
        *self.acts.lock().unwrap() = acts.iter().copied().collect();
    }

    /// Which connection each request came on, from 1.
    pub fn seen(&self) -> Vec<usize> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: TlsStream<TcpStream>,
    number: usize,
    acts: &Mutex<VecDeque<Act>>,
    seen: &Mutex<Vec<usize>>,
) -> std::io::Result<()> {
    stream.read_exact(&mut [0; 24]).await?;
    stream.write_all(SETTINGS).await?;
    loop {
        let id = request(&mut stream).await?;
        seen.lock().unwrap().push(number);
        let act = acts.lock().unwrap().pop_front().unwrap_or(Act::Answer);
        let frame = match act {
            Act::Answer => answer(id),
            Act::Refuse => reset(id, 7),
            Act::Cancel => reset(id, 8),
            Act::GoAwayBelow => go_away(id.saturating_sub(2)),
        };
        stream.write_all(&frame).await?;
        stream.flush().await?;
    }
}

/// Reads up to the end of the next request; its stream.
async fn request(stream: &mut TlsStream<TcpStream>) -> std::io::Result<u32> {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        stream.read_exact(&mut vec![0; length]).await?;
        // HEADERS or DATA with END_STREAM.
        if matches!(head[3], 0 | 1) && head[4] & 1 == 1 {
            return Ok(u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
        }
    }
}

/// A head with status 200 (index 8 of HPACK's static table) that is the whole answer.
fn answer(stream: u32) -> Vec<u8> {
    let mut frame = vec![0, 0, 1, 1, 5];
    frame.extend(stream.to_be_bytes());
    frame.push(0x88);
    frame
}

fn reset(stream: u32, reason: u32) -> Vec<u8> {
    let mut frame = vec![0, 0, 4, 3, 0];
    frame.extend(stream.to_be_bytes());
    frame.extend(reason.to_be_bytes());
    frame
}

fn go_away(last_stream: u32) -> Vec<u8> {
    let mut frame = vec![0, 0, 8, 7, 0, 0, 0, 0, 0];
    frame.extend(last_stream.to_be_bytes());
    frame.extend(0u32.to_be_bytes());
    frame
}
