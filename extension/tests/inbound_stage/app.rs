//! The application behind a sidecar, which notes what it gets to see.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::common::*;

type Headers = Vec<(String, String)>;

/// The application.
#[derive(Clone)]
pub struct App {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<(String, Headers)>>>,
    trailers: Arc<Mutex<Option<Vec<String>>>>,
    busy: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    released: watch::Sender<bool>,
    _task: Arc<Task>,
}

impl App {
    pub async fn start() -> App {
        App::serve(false).await
    }

    /// One that speaks HTTP/2, and echoes.
    pub async fn http2() -> App {
        App::serve(true).await
    }

    async fn serve(http2: bool) -> App {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = App {
            address,
            seen: Arc::default(),
            trailers: Arc::default(),
            busy: Arc::default(),
            connections: Arc::default(),
            released: watch::Sender::new(false),
            _task: Arc::new(Task::spawn(async {})),
        };
        let answering = app.clone();
        let task = Task::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                answering.connections.fetch_add(1, Ordering::SeqCst);
                let (app, before) = (answering.clone(), Arc::new(AtomicUsize::new(0)));
                let service = service_fn(move |request: Request<Incoming>| {
                    app.clone().answer(request, before.fetch_add(1, Ordering::SeqCst))
                });
                tokio::spawn(async move {
                    let io = TokioIo::new(stream);
                    if http2 {
                        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        let _ = builder.serve_connection(io, service).await;
                    } else {
                        let builder = hyper::server::conn::http1::Builder::new();
                        let _ = builder.serve_connection(io, service).with_upgrades().await;
                    }
                });
            }
        });
        App { _task: Arc::new(task), ..app }
    }

    async fn answer(self, mut request: Request<Incoming>, before: usize) -> Result<Response<Body>, Silence> {
        let path = request.uri().path_and_query().unwrap().as_str().to_owned();
        let headers = request.headers().iter();
        let headers = headers.map(|(n, v)| (n.to_string(), String::from_utf8_lossy(v.as_bytes()).into_owned()));
        self.seen.lock().unwrap().push((path.clone(), headers.collect()));
        let _busy = Guard::new(&self.busy);
        match path.as_str() {
            "/once" if before > 0 => Err(Silence),
            "/slow" => {
                self.released.subscribe().wait_for(|released| *released).await.unwrap();
                Ok(Response::new(text("slow")))
            }
            "/echo" => Ok(Response::new(request.into_body().map_err(Into::into).boxed())),
            "/ws" => {
                let on = hyper::upgrade::on(&mut request);
                tokio::spawn(async move {
                    let mut stream = TokioIo::new(on.await.unwrap());
                    let mut said = [0; 5];
                    stream.read_exact(&mut said).await.unwrap();
                    stream.write_all(&said).await.unwrap();
                    let _ = stream.shutdown().await;
                });
                let switching = Response::builder().status(101).header("connection", "upgrade");
                Ok(switching.header("upgrade", "websocket").body(text("")).unwrap())
            }
            "/known" if request.headers().contains_key("te") => {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
                let frames = VecDeque::from([Frame::data(body), Frame::trailers(trailers)]);
                Ok(Response::new(Frames(frames).boxed()))
            }
            "/public" if request.headers().contains_key("transfer-encoding") => {
                let body = request.into_body().collect().await.unwrap();
                let names = body.trailers().into_iter().flatten().map(|(name, _)| name.to_string()).collect();
                *self.trailers.lock().unwrap() = Some(names);
                Ok(Response::new(text(body.to_bytes())))
            }
            _ => Ok(Response::builder().header("x-causeway-reason", "forged").body(text("ok")).unwrap()),
        }
    }

    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub fn last(&self) -> Headers {
        self.seen.lock().unwrap().last().unwrap().1.clone()
    }

    /// The names of the trailers of the last body in chunks.
    pub fn trailers(&self) -> Option<Vec<String>> {
        self.trailers.lock().unwrap().clone()
    }

    pub fn last_path(&self) -> String {
        self.seen.lock().unwrap().last().unwrap().0.clone()
    }

    pub fn last_two(&self) -> [Headers; 2] {
        let seen = self.seen.lock().unwrap();
        [seen[seen.len() - 2].1.clone(), seen[seen.len() - 1].1.clone()]
    }

    pub fn busy(&self) -> usize {
        self.busy.load(Ordering::SeqCst)
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn release(&self) {
        self.released.send_replace(true);
    }
}

struct Guard(Arc<AtomicUsize>);

impl Guard {
    fn new(count: &Arc<AtomicUsize>) -> Guard {
        count.fetch_add(1, Ordering::SeqCst);
        Guard(Arc::clone(count))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Frames(VecDeque<Frame<Bytes>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}
