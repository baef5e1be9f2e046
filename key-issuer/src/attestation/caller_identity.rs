//! The call to STS.

use std::time::Duration;

use identity::secret::Secret;
use platform::BoxFuture;
use platform::https::{Client, FetchError, checked_url};

/// The largest answer, in bytes; a real one has about 500.
const MAX_BYTES: usize = 16 * 1024;
/// How long the call may take.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallerIdentityError {
    /// STS refuses the request, with this status: the signature is not good.
    #[error("STS refuses the request with status {0}")]
    Refused(u16),
    /// STS does not answer, or with something too large; in words for the operator.
    #[error("{0}")]
    Unavailable(String),
}

/// Whoever carries a signed request to STS.
pub trait CallerIdentity: Send + Sync {
    /// Posts `body` with `headers` (names in lower case, each once; `host` is the endpoint's) to the root of
    /// `endpoint` and returns what a successful answer holds. It follows no redirect.
    fn ask<'a>(
        &'a self,
        endpoint: &'a str,
        headers: &'a [(String, Secret<String>)],
        body: &'static str,
    ) -> BoxFuture<'a, Result<Vec<u8>, CallerIdentityError>>;
}

/// AWS STS over HTTPS.
pub struct Sts(Client);

impl Sts {
    /// A client for any endpoint of the configuration.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new() -> Result<Self, FetchError> {
        Client::new(TIMEOUT, MAX_BYTES).map(Self)
    }
}

impl CallerIdentity for Sts {
    fn ask<'a>(
        &'a self,
        endpoint: &'a str,
        headers: &'a [(String, Secret<String>)],
        body: &'static str,
    ) -> BoxFuture<'a, Result<Vec<u8>, CallerIdentityError>> {
        Box::pin(async move {
            let unavailable = |why: String| CallerIdentityError::Unavailable(why);
            let url = checked_url(endpoint).map_err(|error| unavailable(error.to_string()))?;
            self.0.post(&url, headers, body.into()).await.map_err(|error| match error {
                FetchError::Status { status, .. } if (400..500).contains(&status) => {
                    CallerIdentityError::Refused(status)
                }
                error => unavailable(error.to_string()),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{Read, Write};

    use super::*;

    /// Answers one request with `answer` and returns what it was asked.
    fn server(answer: String) -> (String, std::thread::JoinHandle<String>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            while !request.ends_with(b"2011-06-15") {
                let read = stream.read(&mut buffer).unwrap();
                request.extend_from_slice(&buffer[..read]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(request).unwrap()
        });
        (url, asked)
    }

    async fn ask(answer: String) -> (Result<Vec<u8>, CallerIdentityError>, String) {
        let (url, asked) = server(answer);
        let headers = [("x-amz-date".to_owned(), Secret::new("d".to_owned()))];
        let answer = Sts::new().unwrap().ask(&url, &headers, super::super::proof::BODY).await;
        (answer, asked.join().unwrap())
    }

    #[tokio::test]
    async fn the_request_is_our_own() {
        let (answer, asked) = ask("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_owned()).await;
        assert_eq!(answer.unwrap(), b"ok");
        assert!(asked.starts_with("POST / HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("x-amz-date: d\r\n"), "{asked}");
    }

    #[tokio::test]
    async fn refusals_redirects_and_long_answers() {
        let status = |line: &str, more: &str| format!("HTTP/1.1 {line}\r\n{more}content-length: 0\r\n\r\n");
        let (refused, _) = ask(status("403 Forbidden", "")).await;
        assert_eq!(refused, Err(CallerIdentityError::Refused(403)));
        for answer in [
            status("302 Found", "location: http://127.0.0.1:1/\r\n"),
            status("307 Temporary Redirect", "location: /\r\n"),
            status("503 Slow Down", ""),
            format!("HTTP/1.1 200 OK\r\ncontent-length: {0}\r\n\r\n{1}", MAX_BYTES + 1, "x".repeat(MAX_BYTES + 1)),
        ] {
            let (refused, _) = ask(answer).await;
            assert!(matches!(refused, Err(CallerIdentityError::Unavailable(_))), "{refused:?}");
        }
        let (whole, _) =
            ask(format!("HTTP/1.1 200 OK\r\ncontent-length: {0}\r\n\r\n{1}", MAX_BYTES, "x".repeat(MAX_BYTES))).await;
        assert_eq!(whole.unwrap().len(), MAX_BYTES);
    }
}
