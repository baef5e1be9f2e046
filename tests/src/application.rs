//! An application behind a sidecar: it says what it has seen, and keeps `/held` back until it is told to let go.

use std::convert::Infallible;
use std::net::SocketAddr;

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
    /// Requests so far.
    count: watch::Receiver<usize>,
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
        let (counting, count) = watch::channel(0);
        let released = watch::Sender::new(false);
        let let_go = released.subscribe();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (holding, counting, let_go) = (holding.clone(), counting.clone(), let_go.clone());
                let service = service_fn(move |request| {
                    counting.send_modify(|count| *count += 1);
                    answer(request, holding.clone(), let_go.clone())
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Ok(Self { address, held, count, released })
    }

    /// How many requests have come.
    pub fn requests(&self) -> usize {
        *self.count.borrow()
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

async fn answer(
    request: Request<Incoming>,
    holding: watch::Sender<usize>,
    mut let_go: watch::Receiver<bool>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path().ends_with("/held") {
        holding.send_modify(|held| *held += 1);
        // The test that would let go is over.
        let _ = let_go.wait_for(|released| *released).await;
    }
    let headers = request.headers().iter();
    let headers = headers.map(|(name, value)| (name.to_string(), json!(String::from_utf8_lossy(value.as_bytes()))));
    let seen = json!({"path": request.uri().to_string(), "headers": Value::Object(headers.collect())});
    Ok(Response::new(Full::new(Bytes::from(seen.to_string()))))
}
