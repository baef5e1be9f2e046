//! HTTP/1.1 as it is on the wire, so that nothing is mended on the way to a test.

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest head that is read.
const MAX_HEAD: usize = 4 * 1_024 * 1_024;

/// A request or an answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    /// Request line or status line.
    pub(crate) start: String,
    /// Names in lower case, in the order of the wire.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    /// Whether all of it came.
    pub(crate) complete: bool,
}

impl Message {
    /// A request of HTTP/2.
    pub(crate) fn of_request(head: &hyper::http::request::Parts) -> Message {
        let path = head.uri.path_and_query().map_or("", |path| path.as_str());
        let mut headers = fields(&head.headers);
        if let Some(authority) = head.uri.authority() {
            headers.push(("host".to_owned(), authority.to_string()));
        }
        Message { start: format!("{} {path} HTTP/2", head.method), headers, ..Message::default() }
    }

    /// The first header field of this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The method of a request.
    pub(crate) fn first_word(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }

    /// The path of a request, or the status of an answer.
    pub(crate) fn second_word(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }
}

/// The fields of a map.
pub(crate) fn fields(map: &HeaderMap) -> Vec<(String, String)> {
    map.iter().map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())).collect()
}

/// A map of fields.
pub(crate) fn header_map(fields: &[(&str, &str)]) -> HeaderMap {
    let pairs = fields.iter().filter_map(|(name, value)| {
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?))
    });
    let mut map = HeaderMap::new();
    pairs.for_each(|(name, value)| {
        map.append(name, value);
    });
    map
}

async fn more(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> std::io::Result<bool> {
    let mut chunk = [0; 16 * 1_024];
    let read = stream.read(&mut chunk).await?;
    buffer.extend_from_slice(&chunk[..read]);
    Ok(read > 0)
}

async fn line(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> std::io::Result<Option<String>> {
    let mut looked_at: usize = 0;
    loop {
        let from = looked_at.saturating_sub(1);
        if let Some(end) = buffer[from..].windows(2).position(|pair| pair == b"\r\n") {
            let line = String::from_utf8_lossy(&buffer[..from + end]).into_owned();
            buffer.drain(..from + end + 2);
            return Ok(Some(line));
        }
        looked_at = buffer.len();
        if looked_at > MAX_HEAD || !more(stream, buffer).await? {
            return Ok(None);
        }
    }
}

async fn field_lines(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
) -> std::io::Result<Option<Vec<(String, String)>>> {
    let mut fields = Vec::new();
    loop {
        match line(stream, buffer).await? {
            None => return Ok(None),
            Some(line) if line.is_empty() => return Ok(Some(fields)),
            Some(line) => {
                let (name, value) = line.split_once(':').unwrap_or((&line, ""));
                fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
    }
}

/// The next head; `None` where the connection ends before it.
pub(crate) async fn read_head(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
) -> std::io::Result<Option<Message>> {
    let Some(start) = line(stream, buffer).await? else { return Ok(None) };
    let Some(headers) = field_lines(stream, buffer).await? else { return Ok(None) };
    Ok(Some(Message { start, headers, ..Message::default() }))
}

/// The body that belongs to a head. With `until_end` one without a length ends with the connection.
pub(crate) async fn read_body(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
    message: &mut Message,
    until_end: bool,
) -> std::io::Result<()> {
    if message.header("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
        return read_chunks(stream, buffer, message).await;
    }
    let length: Option<usize> = message.header("content-length").and_then(|length| length.parse().ok());
    match (length, until_end) {
        (None, false) => message.complete = true,
        (None, true) => {
            while more(stream, buffer).await? {}
            message.body = std::mem::take(buffer);
            message.complete = true;
        }
        (Some(length), _) => {
            while buffer.len() < length && more(stream, buffer).await? {}
            let there = length.min(buffer.len());
            message.body = buffer.drain(..there).collect();
            message.complete = there == length;
        }
    }
    Ok(())
}

async fn read_chunks(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
    message: &mut Message,
) -> std::io::Result<()> {
    loop {
        let Some(size) = line(stream, buffer).await? else { return Ok(()) };
        let Ok(size) = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16) else {
            return Ok(());
        };
        if size == 0 {
            if let Some(trailers) = field_lines(stream, buffer).await? {
                message.trailers = trailers;
                message.complete = true;
            }
            return Ok(());
        }
        while buffer.len() < size + 2 && more(stream, buffer).await? {}
        let there = size.min(buffer.len());
        message.body.extend(buffer.drain(..there));
        if buffer.len() < 2 {
            return Ok(());
        }
        buffer.drain(..2);
    }
}
