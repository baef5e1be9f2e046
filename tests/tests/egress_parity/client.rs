//! The application: one request on one connection.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::wire::{self, Message};

/// How long an answer may take: no row waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    /// Instead of the row's own host, for which `HOST` stands; `CAPITALS` is that in upper case.
    pub(crate) host: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) framing: Framing,
    pub(crate) http2: bool,
}

/// How a body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// No body.
    None,
    /// With a Content-Length.
    Length,
    /// In chunks of this many bytes, with a trailer or without.
    Chunks(usize, Option<(&'static str, &'static str)>),
    /// With a Content-Length, after 100 (Continue).
    Expect,
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// Statuses before the last one.
    pub(crate) interim: Vec<String>,
    pub(crate) message: Message,
}

impl Call {
    pub(crate) fn new(method: &'static str, path: &str) -> Call {
        let (path, headers, body) = (path.to_owned(), Vec::new(), Vec::new());
        Call { method, path, host: None, headers, body, framing: Framing::None, http2: false }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Call {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn host(mut self, host: &str) -> Call {
        self.host = Some(host.to_owned());
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>, framing: Framing) -> Call {
        (self.body, self.framing) = (body.into(), framing);
        self
    }

    pub(crate) fn http2(mut self) -> Call {
        self.http2 = true;
        self
    }

    /// Sends it to a proxy.
    pub(crate) async fn send(&self, proxy: SocketAddr, host: &str) -> Result<Answer, String> {
        let path = self.path.replace("HOST", host);
        let host = match self.host.as_deref() {
            None => host.to_owned(),
            Some("CAPITALS") => host.to_ascii_uppercase(),
            Some(own) => own.replace("HOST", host),
        };
        let sent = async {
            match self.http2 {
                true => self.send_http2(proxy, &host).await,
                false => self.send_http1(proxy, &host, &path).await.map_err(|error| error.kind().to_string()),
            }
        };
        tokio::time::timeout(PATIENCE, sent).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
    }

    async fn send_http1(&self, proxy: SocketAddr, host: &str, path: &str) -> std::io::Result<Answer> {
        let mut stream = TcpStream::connect(proxy).await?;
        stream.set_nodelay(true)?;
        let mut head = format!("{} {path} HTTP/1.1\r\nHost: {host}\r\n", self.method);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match self.framing {
            Framing::None => {}
            Framing::Length => head.push_str(&format!("Content-Length: {}\r\n", self.body.len())),
            Framing::Expect => {
                head.push_str(&format!("Content-Length: {}\r\nExpect: 100-continue\r\n", self.body.len()));
            }
            Framing::Chunks(..) => head.push_str("Transfer-Encoding: chunked\r\n"),
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).await?;
        let (mut reader, mut writer) = stream.into_split();
        let mut buffer = Vec::new();
        let mut interim = Vec::new();
        let mut begun = None;
        if self.framing == Framing::Expect {
            let first = wire::read_head(&mut reader, &mut buffer).await?.ok_or(std::io::ErrorKind::UnexpectedEof)?;
            match first.second_word() {
                "100" => interim.push("100".to_owned()),
                _ => begun = Some(first),
            }
        }
        let (framing, body) = (self.framing, self.body.clone());
        // Beside the answer, which may come before the end of the body. Nobody need read all of it.
        let is_wanted = begun.is_none();
        let writing = tokio::spawn(async move {
            match framing {
                Framing::None => {}
                Framing::Expect if !is_wanted => {}
                Framing::Length | Framing::Expect => {
                    let _ = writer.write_all(&body).await;
                }
                Framing::Chunks(size, trailer) => {
                    for chunk in body.chunks(size) {
                        let mut bytes = format!("{:x}\r\n", chunk.len()).into_bytes();
                        bytes.extend_from_slice(chunk);
                        bytes.extend_from_slice(b"\r\n");
                        if writer.write_all(&bytes).await.is_err() {
                            break;
                        }
                    }
                    let trailer = trailer.map(|(name, value)| format!("{name}: {value}\r\n")).unwrap_or_default();
                    let _ = writer.write_all(format!("0\r\n{trailer}\r\n").as_bytes()).await;
                }
            }
            writer
        });
        let mut message = match begun {
            Some(message) => message,
            None => loop {
                let head = wire::read_head(&mut reader, &mut buffer).await?;
                let head = head.ok_or(std::io::ErrorKind::UnexpectedEof)?;
                // What comes after 101 is of another protocol, to the end of the connection.
                match head.second_word().starts_with('1') && head.second_word() != "101" {
                    true => interim.push(head.second_word().to_owned()),
                    false => break head,
                }
            },
        };
        if self.method == "HEAD" || matches!(message.second_word(), "204" | "304") {
            message.complete = true;
        } else {
            // A reset in the middle of a body is an end of it.
            let _ = wire::read_body(&mut reader, &mut buffer, &mut message, true).await;
        }
        writing.abort();
        Ok(Answer { interim, message })
    }

    async fn send_http2(&self, proxy: SocketAddr, host: &str) -> Result<Answer, String> {
        let stream = TcpStream::connect(proxy).await.map_err(|error| error.to_string())?;
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (mut sender, driver) = handshake.map_err(|error| error.to_string())?;
        let driving = tokio::spawn(driver);
        let mut request = Request::builder().method(self.method).uri(format!("http://{host}{}", self.path));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let body = Full::new(Bytes::from(self.body.clone()));
        let request = request.body(body).map_err(|error| error.to_string())?;
        // What is reset looks the same, whatever code the reset has.
        let response = sender.send_request(request).await.map_err(|_| "no answer".to_owned())?;
        let (head, body) = response.into_parts();
        let mut message = Message {
            start: format!("HTTP/2 {}", head.status.as_u16()),
            headers: wire::fields(&head.headers),
            ..Message::default()
        };
        if let Ok(whole) = body.collect().await {
            message.trailers = whole.trailers().map(wire::fields).unwrap_or_default();
            message.body = whole.to_bytes().to_vec();
            message.complete = true;
        }
        driving.abort();
        Ok(Answer { interim: Vec::new(), message })
    }
}
