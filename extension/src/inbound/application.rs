//! The way to the application: connections on the loopback interface, kept for the next request.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Method, Request, Response, Version};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::body::Upload;
use crate::reason::{Reason, Refusal};

/// The most connections that are kept.
const MAX_IDLE: usize = 256;

/// How long a connection may take: it is to this machine.
const CONNECT: Duration = Duration::from_secs(5);

/// The most header fields of an answer, and the longest head.
const MAX_ANSWER_HEADERS: usize = 200;
const MAX_ANSWER_HEAD_BYTES: usize = 64 * 1_024;

/// One port of the application.
pub(crate) struct Application {
    address: SocketAddr,
    h2c: bool,
    idle: Mutex<Vec<http1::SendRequest<Upload>>>,
    /// Of HTTP/2, which all requests share.
    shared: tokio::sync::Mutex<Option<http2::SendRequest<Upload>>>,
}

impl Application {
    pub(crate) fn new(address: SocketAddr, h2c: bool) -> Arc<Application> {
        Arc::new(Application { address, h2c, idle: Mutex::default(), shared: tokio::sync::Mutex::default() })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it is spoken to in HTTP/2.
    pub(crate) fn is_h2c(&self) -> bool {
        self.h2c
    }

    /// Asks the application. A request that met a connection that was just closed is sent once more, if nothing of it
    /// was sent, or if it may be sent twice (RFC 9110 9.2.2) and has no body.
    pub(crate) async fn send(self: &Arc<Self>, mut request: Request<Upload>) -> Result<Response<Incoming>, Refusal> {
        *request.version_mut() = if self.h2c { Version::HTTP_2 } else { Version::HTTP_11 };
        let spare = (request.body().is_empty() && is_idempotent(request.method())).then(|| again(&request));
        let (reused, sent) = self.try_send(request, true).await?;
        let mut error = match sent {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        let unsent = error.take_message();
        let next = match unsent {
            Some(unsent) => Some(unsent),
            // Only what may have been closed while nobody used it.
            None if reused => spare,
            None => None,
        };
        let error = match next {
            Some(request) => match self.try_send(request, false).await?.1 {
                Ok(response) => return Ok(response),
                Err(error) => error,
            },
            None => error,
        };
        let error = error.into_error();
        let reason = match error.is_parse() {
            true => Reason::UpstreamProtocolError,
            false => Reason::UpstreamReset,
        };
        Err(Refusal::new(reason, format!("the application at {}: {error}", self.address)))
    }

    /// Sends on a connection that is there, where `reuse`, or on a new one; says which it was.
    async fn try_send(
        self: &Arc<Self>,
        request: Request<Upload>,
        reuse: bool,
    ) -> Result<(bool, Result<Response<Incoming>, TrySendError<Request<Upload>>>), Refusal> {
        if self.h2c {
            let (reused, mut sender) = self.shared(reuse).await?;
            return Ok((reused, sender.try_send_request(request).await));
        }
        let kept = if reuse { self.take() } else { None };
        let (reused, mut sender) = match kept {
            Some(sender) => (true, sender),
            None => (false, self.open().await?),
        };
        let sent = sender.try_send_request(request).await;
        if sent.is_ok() {
            let application = Arc::clone(self);
            // Ready again when the answer has been read to its end; never, when it was cut off or switched.
            tokio::spawn(async move {
                if sender.ready().await.is_ok() {
                    application.put(sender);
                }
            });
        }
        Ok((reused, sent))
    }

    fn take(&self) -> Option<http1::SendRequest<Upload>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(sender) = idle.pop() {
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    fn put(&self, sender: http1::SendRequest<Upload>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|kept| !kept.is_closed());
        if idle.len() < MAX_IDLE {
            idle.push(sender);
        }
    }

    async fn open(&self) -> Result<http1::SendRequest<Upload>, Refusal> {
        let stream = self.connect().await?;
        let mut builder = http1::Builder::new();
        builder.max_headers(MAX_ANSWER_HEADERS).max_buf_size(MAX_ANSWER_HEAD_BYTES);
        let opened = builder.handshake(TokioIo::new(stream)).await;
        let (sender, driver) = opened.map_err(|error| self.failed(&error))?;
        tokio::spawn(async move {
            // Its end is seen through the sender; the error belongs to the request that it failed.
            let _ = driver.with_upgrades().await;
        });
        Ok(sender)
    }

    async fn shared(&self, reuse: bool) -> Result<(bool, http2::SendRequest<Upload>), Refusal> {
        let mut shared = self.shared.lock().await;
        if let Some(sender) = shared.as_ref().filter(|sender| reuse && !sender.is_closed()) {
            return Ok((true, sender.clone()));
        }
        let stream = self.connect().await?;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.max_header_list_size(MAX_ANSWER_HEAD_BYTES as u32);
        let opened = builder.handshake(TokioIo::new(stream)).await;
        let (sender, driver) = opened.map_err(|error| self.failed(&error))?;
        tokio::spawn(async move {
            let _ = driver.await;
        });
        *shared = Some(sender.clone());
        Ok((false, sender))
    }

    async fn connect(&self) -> Result<TcpStream, Refusal> {
        let connected = tokio::time::timeout(CONNECT, TcpStream::connect(self.address)).await;
        let stream = connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        let stream = stream.map_err(|error| self.failed(&error))?;
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> Refusal {
        let detail = format!("no connection to the application at {}: {error}", self.address);
        Refusal::new(Reason::UpstreamConnectFailed, detail)
    }
}

/// RFC 9110 9.2.2.
fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE].contains(method)
}

/// The same request, which has no body.
fn again(request: &Request<Upload>) -> Request<Upload> {
    let mut copy = Request::new(Upload::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy
}
