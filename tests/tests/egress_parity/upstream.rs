//! Services on real sockets that do what a script says, request by request, and note what they were asked.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::wire::{self, Message};

/// What a service does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// 200 with its own name as body.
    Fine,
    /// This status with its own name as body.
    Status(u16),
    /// This status with these header fields.
    Says(u16, &'static [(&'static str, &'static str)]),
    /// 200 with the request's own body.
    Echo,
    /// These bytes as they are. HTTP/1.1 alone.
    Raw(&'static str),
    /// These bytes, and the end of the connection. HTTP/1.1 alone.
    RawEnd(&'static str),
    /// A body of so many bytes.
    Large(usize),
    /// A body, and these trailers.
    Trailers(&'static [(&'static str, &'static str)]),
    /// Header fields without an end. HTTP/1.1 alone.
    Endless,
    /// The end of the connection instead of an answer.
    Cut,
    /// A reset of the connection instead of an answer.
    Reset,
    /// RST_STREAM with this code. HTTP/2 alone.
    ResetStream(h2::Reason),
    /// Nothing, for as long as the connection is there.
    Silent,
    /// Fine, once the gate is open.
    Gated,
    /// Fine, after so many milliseconds.
    After(u64),
    /// Answers with this status before the body has come, and does not read it.
    Early(u16),
}

/// What a service was asked.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) upstream: String,
    pub(crate) message: Message,
}

/// What the services of a row share.
#[derive(Debug)]
pub(crate) struct Notes {
    seen: Mutex<Vec<Seen>>,
    gate: watch::Sender<bool>,
}

impl Notes {
    pub(crate) fn new() -> Arc<Notes> {
        Arc::new(Notes { seen: Mutex::default(), gate: watch::Sender::new(false) })
    }

    /// How many requests have come.
    pub(crate) fn count(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Opens or closes the gate.
    pub(crate) fn open(&self, open: bool) {
        self.gate.send_replace(open);
    }

    /// What has come, and a new page.
    pub(crate) fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn begin(&self, upstream: &str, message: Message) -> usize {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push(Seen { upstream: upstream.to_owned(), message });
        seen.len() - 1
    }

    fn end(&self, place: usize, message: Message) {
        if let Some(seen) = self.seen.lock().unwrap_or_else(PoisonError::into_inner).get_mut(place) {
            seen.message = message;
        }
    }

    async fn gate(&self) {
        let _ = self.gate.subscribe().wait_for(|open| *open).await;
    }
}

/// What a service speaks.
#[derive(Clone)]
pub(crate) enum Speaks {
    Http1,
    Http2,
    /// HTTP/1.1 in TLS.
    Tls(TlsAcceptor),
    /// Nobody listens.
    Nobody,
}

/// A service.
pub(crate) struct Upstream {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    script: Arc<Script>,
    _closed: Option<TcpSocket>,
}

struct Inner {
    name: String,
    notes: Arc<Notes>,
    script: Arc<Script>,
}

/// What is done, request by request.
#[derive(Debug)]
pub(crate) struct Script {
    all: Vec<Step>,
    left: Mutex<VecDeque<Step>>,
}

impl Script {
    pub(crate) fn new(steps: &[Step]) -> Arc<Script> {
        Arc::new(Script { all: steps.to_vec(), left: Mutex::new(steps.to_vec().into()) })
    }

    /// The next step. The last one is for all further requests as well.
    fn step(&self) -> Step {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        match left.len() {
            0 => Step::Fine,
            1 => left[0].clone(),
            _ => left.pop_front().unwrap_or(Step::Fine),
        }
    }
}

impl Upstream {
    /// One on a free port.
    pub(crate) async fn start(
        name: &str,
        speaks: Speaks,
        script: Arc<Script>,
        notes: &Arc<Notes>,
    ) -> std::io::Result<Upstream> {
        let inner = Arc::new(Inner { name: name.to_owned(), notes: Arc::clone(notes), script: Arc::clone(&script) });
        let made =
            |address, closed| Upstream { name: name.to_owned(), address, script: Arc::clone(&script), _closed: closed };
        if matches!(speaks, Speaks::Nobody) {
            // Bound, so that nobody else gets the port, and not listening.
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
            return Ok(made(socket.local_addr()?, Some(socket)));
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let upstream = made(listener.local_addr()?, None);
        tokio::spawn(serve(listener, speaks, inner));
        Ok(upstream)
    }

    /// Begins its script again.
    pub(crate) fn rewind(&self) {
        let mut left = self.script.left.lock().unwrap_or_else(PoisonError::into_inner);
        *left = self.script.all.clone().into();
    }
}

async fn serve(listener: TcpListener, speaks: Speaks, inner: Arc<Inner>) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let (inner, speaks) = (Arc::clone(&inner), speaks.clone());
        tokio::spawn(async move {
            match speaks {
                Speaks::Http1 => {
                    let _ = http1(stream, &inner).await;
                }
                Speaks::Http2 => http2(stream, inner).await,
                Speaks::Tls(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let _ = http1(stream, &inner).await;
                    }
                }
                Speaks::Nobody => {}
            }
        });
    }
}

trait Peer: AsyncRead + AsyncWrite + Send + Unpin {
    fn reset(&self);
}

impl Peer for TcpStream {
    fn reset(&self) {
        let _ = self.set_zero_linger();
    }
}

impl Peer for tokio_rustls::server::TlsStream<TcpStream> {
    fn reset(&self) {
        self.get_ref().0.reset();
    }
}

async fn http1(mut stream: impl Peer, inner: &Inner) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    while let Some(mut message) = wire::read_head(&mut stream, &mut buffer).await? {
        let place = inner.notes.begin(&inner.name, message.clone());
        let step = inner.script.step();
        if !matches!(step, Step::Early(_)) {
            if message.header("expect").is_some() {
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
            }
            wire::read_body(&mut stream, &mut buffer, &mut message, false).await?;
            inner.notes.end(place, message.clone());
        }
        let name = &inner.name;
        let has_body = message.first_word() != "HEAD";
        let simple = |status: u16, fields: &[(&str, &str)], body: &[u8]| {
            let mut head = format!("HTTP/1.1 {status} Because\r\nx-upstream: {name}\r\n");
            for (field, value) in fields {
                head.push_str(&format!("{field}: {value}\r\n"));
            }
            if !matches!(status, 204 | 304) {
                head.push_str(&format!("content-length: {}\r\n", body.len()));
            }
            let mut bytes = format!("{head}\r\n").into_bytes();
            if has_body && !matches!(status, 204 | 304) {
                bytes.extend_from_slice(body);
            }
            bytes
        };
        let bytes = match step {
            Step::Fine => simple(200, &[], name.as_bytes()),
            Step::Status(status) | Step::Early(status) => simple(status, &[], name.as_bytes()),
            Step::Says(status, fields) => simple(status, fields, name.as_bytes()),
            Step::Echo => simple(200, &[], &message.body),
            Step::Large(length) => simple(200, &[], &vec![b'x'; length]),
            Step::Raw(text) => text.as_bytes().to_vec(),
            Step::RawEnd(text) => {
                stream.write_all(text.as_bytes()).await?;
                stream.shutdown().await?;
                return Ok(());
            }
            Step::Trailers(fields) => {
                let mut text = format!(
                    "HTTP/1.1 200 OK\r\nx-upstream: {name}\r\ntransfer-encoding: chunked\r\n\r\n\
                     {:x}\r\n{name}\r\n0\r\n",
                    name.len()
                );
                fields.iter().for_each(|(field, value)| text.push_str(&format!("{field}: {value}\r\n")));
                text.push_str("\r\n");
                text.into_bytes()
            }
            Step::Endless => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n").await?;
                for number in 0..200_000 {
                    stream.write_all(format!("x-{number}: {}\r\n", "y".repeat(60)).as_bytes()).await?;
                }
                return Ok(());
            }
            Step::Cut => return Ok(()),
            Step::Reset | Step::ResetStream(_) => {
                stream.reset();
                return Ok(());
            }
            Step::Silent => {
                // Until the other side has enough.
                let _ = wire::read_head(&mut stream, &mut buffer).await;
                return Ok(());
            }
            Step::Gated => {
                inner.notes.gate().await;
                simple(200, &[], name.as_bytes())
            }
            Step::After(milliseconds) => {
                tokio::time::sleep(Duration::from_millis(milliseconds)).await;
                simple(200, &[], name.as_bytes())
            }
        };
        stream.write_all(&bytes).await?;
        stream.flush().await?;
    }
    Ok(())
}

async fn http2(stream: TcpStream, inner: Arc<Inner>) {
    let service = hyper::service::service_fn(move |request| answer(request, Arc::clone(&inner)));
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    // Nothing that a script does is a flood.
    builder.max_pending_accept_reset_streams(1_024);
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

type Frames = StreamBody<futures_util::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

/// Names and values.
type Fields = &'static [(&'static str, &'static str)];

async fn answer(request: Request<Incoming>, inner: Arc<Inner>) -> Result<Response<Frames>, h2::Error> {
    let (head, body) = request.into_parts();
    let mut message = Message::of_request(&head);
    let place = inner.notes.begin(&inner.name, message.clone());
    let step = inner.script.step();
    if let Ok(whole) = body.collect().await {
        message.trailers = whole.trailers().map(wire::fields).unwrap_or_default();
        message.body = whole.to_bytes().to_vec();
        message.complete = true;
        inner.notes.end(place, message.clone());
    }
    let name = inner.name.clone().into_bytes();
    let (status, fields, body, trailers): (u16, Fields, Vec<u8>, Fields) = match step {
        Step::Status(status) | Step::Early(status) => (status, &[], name, &[]),
        Step::Says(status, fields) => (status, fields, Vec::new(), &[]),
        Step::Echo => (200, &[], message.body, &[]),
        Step::Large(length) => (200, &[], vec![b'x'; length], &[]),
        Step::Trailers(trailers) => (200, &[("content-type", "application/grpc")], name, trailers),
        Step::ResetStream(reason) => return Err(reason.into()),
        Step::Silent => std::future::pending().await,
        Step::Gated => {
            inner.notes.gate().await;
            (200, &[], name, &[])
        }
        Step::After(milliseconds) => {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            (200, &[], name, &[])
        }
        Step::Cut | Step::Reset => return Err(h2::Reason::INTERNAL_ERROR.into()),
        Step::Fine | Step::Raw(_) | Step::RawEnd(_) | Step::Endless => (200, &[], name, &[]),
    };
    let mut frames = Vec::new();
    if !body.is_empty() {
        frames.push(Ok(Frame::data(Bytes::from(body))));
    }
    if !trailers.is_empty() {
        frames.push(Ok(Frame::trailers(wire::header_map(trailers))));
    }
    let mut response = Response::new(StreamBody::new(futures_util::stream::iter(frames)));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    let mut headers = wire::header_map(fields);
    headers.insert("x-upstream", hyper::header::HeaderValue::from_str(&inner.name).unwrap_or(EMPTY));
    *response.headers_mut() = headers;
    Ok(response)
}

const EMPTY: hyper::header::HeaderValue = hyper::header::HeaderValue::from_static("");
