//! The application behind the sidecar: it notes every request, and may keep its answers back.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use causeway::dev::mesh::RATINGS;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::ports;
use crate::process::PATIENCE;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Path and query.
    pub path: String,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Seen {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A running application.
pub struct Recorder {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    count: watch::Receiver<usize>,
    held: watch::Sender<bool>,
}

impl Recorder {
    /// Starts it; every answer is the sample's ratings.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start() -> Result<Self, String> {
        let listener = TcpListener::bind(ports::loopback(0)).await.map_err(|error| error.to_string())?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let (counting, count) = watch::channel(0);
        let (seen, held) = (Arc::<Mutex<Vec<Seen>>>::default(), watch::Sender::new(false));
        let (notes, counting, keep) = (Arc::clone(&seen), Arc::new(counting), held.subscribe());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (notes, counting, keep) = (Arc::clone(&notes), Arc::clone(&counting), keep.clone());
                let answer = service_fn(move |request: Request<Incoming>| {
                    notes.lock().unwrap_or_else(PoisonError::into_inner).push(note(&request));
                    counting.send_modify(|count| *count += 1);
                    let mut keep = keep.clone();
                    async move {
                        let _ = request.into_body().collect().await;
                        let _ = keep.wait_for(|held| !held).await;
                        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(RATINGS.as_bytes()))))
                    }
                });
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
        });
        Ok(Self { address, seen, count, held })
    }

    /// Keeps answers back, or gives them out.
    pub fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until so many requests have come in all.
    ///
    /// # Errors
    /// When they do not come.
    pub async fn have_come(&self, number: usize) -> Result<(), String> {
        let mut count = self.count.clone();
        let come = tokio::time::timeout(PATIENCE, count.wait_for(|count| *count >= number)).await;
        let why = || format!("found {} requests, expected {number}", self.seen().len());
        come.map_err(|_| why())?.map(|_| ()).map_err(|_| why())
    }
}

fn note(request: &Request<Incoming>) -> Seen {
    let text = |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Seen {
        path: request.uri().to_string(),
        headers: request.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
    }
}
