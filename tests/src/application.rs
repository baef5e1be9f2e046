//! An application behind a sidecar: it says what it has seen, and keeps `/held` back until it is told to let go.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::ports;
use crate::process::PATIENCE;

/// A running application.
pub struct Application {
    /// Where it listens.
    pub address: SocketAddr,
    /// How many requests it is keeping.
    held: watch::Receiver<usize>,
    /// Every request so far.
    seen: Arc<Mutex<Vec<Value>>>,
    released: watch::Sender<bool>,
}

impl Application {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start() -> Result<Self, String> {
        let listener = TcpListener::bind(ports::loopback(0)).await.map_err(|error| error.to_string())?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let (holding, held) = watch::channel(0);
        let seen = Arc::<Mutex<Vec<Value>>>::default();
        let notes = Arc::clone(&seen);
        let released = watch::Sender::new(false);
        let let_go = released.subscribe();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (holding, notes, let_go) = (holding.clone(), Arc::clone(&notes), let_go.clone());
                let service = service_fn(move |request| {
                    let note = note(&request);
                    notes.lock().unwrap_or_else(PoisonError::into_inner).push(note.clone());
                    answer(note, holding.clone(), let_go.clone())
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Ok(Self { address, held, seen, released })
    }

    /// How many requests have come.
    pub fn requests(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The first request for this path: `path` and `headers`, names in lower case.
    pub fn seen(&self, path: &str) -> Option<Value> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().find(|seen| seen["path"] == path).cloned()
    }

    /// Waits until it keeps so many requests.
    ///
    /// # Errors
    /// When they do not come.
    pub async fn holds(&self, number: usize) -> Result<(), String> {
        let mut held = self.held.clone();
        let come = tokio::time::timeout(PATIENCE, held.wait_for(|held| *held >= number)).await;
        come.map_err(|_| format!("fewer than {number} requests were held"))?.map(|_| ()).map_err(|e| e.to_string())
    }

    /// Answers what it has kept.
    pub fn release(&self) {
        self.released.send_replace(true);
    }
}

fn note(request: &Request<Incoming>) -> Value {
    let headers = request.headers().iter();
    let headers = headers.map(|(name, value)| (name.to_string(), json!(String::from_utf8_lossy(value.as_bytes()))));
    json!({"path": request.uri().to_string(), "headers": Value::Object(headers.collect()), "ratings": {}})
}

async fn answer(
    note: Value,
    holding: watch::Sender<usize>,
    mut let_go: watch::Receiver<bool>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if note["path"].as_str().is_some_and(|path| path.ends_with("/held")) {
        holding.send_modify(|held| *held += 1);
        // The test that would let go is over.
        let _ = let_go.wait_for(|released| *released).await;
    }
    Ok(Response::new(Full::new(Bytes::from(note.to_string()))))
}
