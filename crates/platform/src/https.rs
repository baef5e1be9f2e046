//! The one way in which Causeway's programs fetch from the outside.

mod reach;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use identity::secret::Secret;
use rustls::pki_types::CertificateDer;

use reach::{Guarded, Lookup, SystemLookup};
pub use reach::{Reach, canonical_address};

/// Why a URL may not be fetched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It is no absolute URL.
    #[error("{0:?} is not an absolute URL with a host")]
    Malformed(String),
    /// It would go over the network in the clear.
    #[error("{0:?} is not https; plain http is for loopback hosts only")]
    NotHttps(String),
    /// It carries credentials, which would end up in logs.
    #[error("a URL must not carry a user name or password")]
    Credentials,
}

/// Checks a URL that comes from the configuration: https, or http to this very machine.
pub fn checked_url(text: &str) -> Result<reqwest::Url, UrlError> {
    let url = reqwest::Url::parse(text).map_err(|_| UrlError::Malformed(text.to_owned()))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlError::Credentials);
    }
    let host = url.host_str().ok_or_else(|| UrlError::Malformed(text.to_owned()))?;
    let loopback = matches!(host, "127.0.0.1" | "[::1]" | "localhost");
    match url.scheme() {
        "https" => Ok(url),
        "http" if loopback => Ok(url),
        _ => Err(UrlError::NotHttps(text.to_owned())),
    }
}

/// Why a fetch failed. No body and no credential is part of the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// No answer: refused, unresolved, TLS failure or time out.
    #[error("cannot reach {host}: {why}")]
    Unreachable {
        /// The host.
        host: String,
        /// What failed.
        why: String,
    },
    /// The host's address may not be dialled.
    #[error("{why}")]
    Refused {
        /// The address, what it is, and the setting.
        why: String,
    },
    /// An answer other than success.
    #[error("{host} answered with status {status}")]
    Status {
        /// The host.
        host: String,
        /// The HTTP status.
        status: u16,
    },
    /// An answer that is too large.
    #[error("the answer of {host} is larger than {limit} bytes")]
    TooLarge {
        /// The host.
        host: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// The client itself could not be made, which is a fault of ours.
    #[error("cannot set up TLS: {0}")]
    Setup(String),
}

/// A root certificate to trust.
pub type Root = CertificateDer<'static>;

/// A client with bounds: no redirects, no proxy, a time limit for the whole exchange and a size limit for the answer.
#[derive(Clone, Debug)]
pub struct Client {
    inner: reqwest::Client,
    max_bytes: usize,
    reach: Reach,
}

/// How a [`Client`] is made.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// How long an exchange may take.
    pub timeout: Duration,
    /// The largest answer.
    pub max_bytes: usize,
    /// What it may dial.
    pub reach: Reach,
    /// Root certificates to trust beside Mozilla's, such as those of a private PKI.
    pub roots: Vec<CertificateDer<'static>>,
    /// Whether one connection is kept for the next exchange. A frozen environment leaves it behind dead while it looks
    /// alive, so whoever sets this tries twice.
    pub keep_alive: bool,
}

impl ClientOptions {
    /// Every address, and Mozilla's roots.
    pub fn new(timeout: Duration, max_bytes: usize) -> Self {
        Self { timeout, max_bytes, reach: Reach::Any, roots: Vec::new(), keep_alive: false }
    }
}

/// A successful answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// Its body.
    pub body: Vec<u8>,
    /// For how many seconds more it is fresh, by `Cache-Control: max-age` and `Age` (RFC 9111 §4.2); 0 for `no-cache`
    /// and `no-store`; absent when it does not say.
    pub max_age: Option<u64>,
}

/// An answer, whatever its status.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Exchange {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Vec<u8>,
}

/// A request header whose value may be a credential.
pub type Header = (String, Secret<String>);

impl Client {
    /// A client whose exchanges end after `timeout` and whose answers have at most `max_bytes`.
    pub fn new(timeout: Duration, max_bytes: usize) -> Result<Self, FetchError> {
        Self::with(ClientOptions::new(timeout, max_bytes))
    }

    /// A client as the options say.
    pub fn with(options: ClientOptions) -> Result<Self, FetchError> {
        Self::with_lookup(options, Arc::new(SystemLookup))
    }

    fn with_lookup(options: ClientOptions, lookup: Arc<dyn Lookup>) -> Result<Self, FetchError> {
        let ClientOptions { timeout, max_bytes, reach, roots, keep_alive } = options;
        let inner = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(&roots)?)
            // Asked at every connection; an address that stands in the URL itself is checked in `send`.
            .dns_resolver(Guarded { reach, lookup })
            // A redirect would lead to a host that nobody has configured.
            .redirect(reqwest::redirect::Policy::none())
            // HTTP_PROXY may name our own egress proxy.
            .no_proxy()
            .connect_timeout((timeout / 2).min(Duration::from_secs(1)))
            .timeout(timeout)
            // Frozen environments leave dead connections behind that look alive.
            .pool_max_idle_per_host(usize::from(keep_alive))
            .build()
            .map_err(|error| FetchError::Setup(error.to_string()))?;
        Ok(Self { inner, max_bytes, reach })
    }

    /// The body of a successful GET.
    pub async fn get(&self, url: &reqwest::Url) -> Result<Vec<u8>, FetchError> {
        Ok(self.fetch(url).await?.body)
    }

    /// The answer to a successful GET.
    pub async fn fetch(&self, url: &reqwest::Url) -> Result<Answer, FetchError> {
        let answer = self.send(self.inner.get(url.clone()), url).await?;
        if !answer.status().is_success() {
            let host = url.host_str().unwrap_or_default().to_owned();
            return Err(FetchError::Status { host, status: answer.status().as_u16() });
        }
        let max_age = max_age(answer.headers());
        Ok(Answer { body: self.body(answer, url).await?, max_age })
    }

    /// The body of a successful POST.
    pub async fn post(&self, url: &reqwest::Url, headers: &[Header], body: Vec<u8>) -> Result<Vec<u8>, FetchError> {
        let Exchange { status, body } = self.exchange("POST", url, headers, body).await?;
        if !(200..300).contains(&status) {
            return Err(FetchError::Status { host: url.host_str().unwrap_or_default().to_owned(), status });
        }
        Ok(body)
    }

    /// Any exchange, whatever the status of its answer.
    pub async fn exchange(
        &self,
        method: &str,
        url: &reqwest::Url,
        headers: &[Header],
        body: Vec<u8>,
    ) -> Result<Exchange, FetchError> {
        let method = reqwest::Method::from_bytes(method.as_bytes()).map_err(|e| FetchError::Setup(e.to_string()))?;
        let mut request = self.inner.request(method, url.clone()).body(body);
        for (name, value) in headers {
            request = request.header(name, value.expose());
        }
        let answer = self.send(request, url).await?;
        Ok(Exchange { status: answer.status().as_u16(), body: self.body(answer, url).await? })
    }

    async fn send(
        &self,
        request: reqwest::RequestBuilder,
        url: &reqwest::Url,
    ) -> Result<reqwest::Response, FetchError> {
        let host = url.host_str().unwrap_or_default().to_owned();
        // No resolver is asked about a literal address.
        if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            self.reach.check(address).map_err(|kind| FetchError::Refused { why: reach::refusal(address, kind) })?;
        }
        request.send().await.map_err(|error| FetchError::Unreachable { host, why: reason(&error) })
    }

    async fn body(&self, mut answer: reqwest::Response, url: &reqwest::Url) -> Result<Vec<u8>, FetchError> {
        let host = || url.host_str().unwrap_or_default().to_owned();
        let unreachable = |error: reqwest::Error| FetchError::Unreachable { host: host(), why: reason(&error) };
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > self.max_bytes {
                return Err(FetchError::TooLarge { host: host(), limit: self.max_bytes });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// What TLS is done with: Mozilla's roots as they were compiled in, and `extra` ones. The roots of the machine are not
/// looked at: reading them costs tens of milliseconds, and a Lambda has none of its own.
fn tls(extra: &[CertificateDer<'static>]) -> Result<rustls::ClientConfig, FetchError> {
    let setup = |error: rustls::Error| FetchError::Setup(error.to_string());
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for root in extra {
        roots.add(root.clone()).map_err(setup)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(setup)?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn max_age(headers: &reqwest::header::HeaderMap) -> Option<u64> {
    let text = |name| headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let directives: Vec<&str> = text("cache-control").flat_map(|line| line.split(',')).map(str::trim).collect();
    if directives.iter().any(|d| d.eq_ignore_ascii_case("no-cache") || d.eq_ignore_ascii_case("no-store")) {
        return Some(0);
    }
    let (_, seconds) = directives
        .iter()
        .filter_map(|directive| directive.split_once('='))
        .find(|(name, _)| name.eq_ignore_ascii_case("max-age"))?;
    // "If the directive's value is invalid, the response is stale" (RFC 9111 §4.2.1, as it encourages).
    let lifetime: u64 = seconds.trim_matches('"').parse().unwrap_or(0);
    let age: u64 = text("age").next().and_then(|age| age.trim().parse().ok()).unwrap_or(0);
    Some(lifetime.saturating_sub(age))
}

/// The innermost cause: the outer ones repeat the URL.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn only_https_or_loopback() {
        for good in
            ["https://issuer.example/jwks.json", "http://127.0.0.1:8080/", "http://localhost/", "http://[::1]:1/"]
        {
            assert!(checked_url(good).is_ok(), "{good}");
        }
        for bad in [
            "http://issuer.example/",
            "http://127.0.0.1.example/",
            "ftp://x/",
            "issuer.example",
            "",
            "file:///etc/passwd",
            "https://u:p@x/",
            "http://10.0.0.1/",
        ] {
            assert!(checked_url(bad).is_err(), "{bad}");
        }
    }

    /// Answers one request with `answer`, whatever it is.
    fn server(answer: String) -> reqwest::Url {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/x", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
        });
        checked_url(&url).unwrap()
    }

    #[tokio::test]
    async fn answers_are_bounded_and_redirects_are_not_followed() {
        let client = Client::new(Duration::from_secs(5), 10).unwrap();
        let ok = |body: &str| format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{body}");
        assert_eq!(client.get(&server(ok("ten bytes!"))).await.unwrap(), b"ten bytes!");
        let error = client.get(&server(ok("eleven bytes"))).await.unwrap_err();
        assert_eq!(error, FetchError::TooLarge { host: "127.0.0.1".to_owned(), limit: 10 });
        let redirect = "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n";
        let error = client.get(&server(redirect.to_owned())).await.unwrap_err();
        assert_eq!(error, FetchError::Status { host: "127.0.0.1".to_owned(), status: 302 });
    }

    #[test]
    fn freshness() {
        for (lines, expected) in [
            (&[][..], None),
            (&[("cache-control", "public")], None),
            (&[("cache-control", "public, Max-Age=600")], Some(600)),
            (&[("cache-control", "public"), ("cache-control", "max-age=\"60\"")], Some(60)),
            (&[("cache-control", "max-age=600"), ("age", "100")], Some(500)),
            (&[("cache-control", "max-age=600"), ("age", "1000")], Some(0)),
            (&[("cache-control", "max-age=600"), ("age", "x")], Some(600)),
            (&[("cache-control", "max-age=600, no-store")], Some(0)),
            (&[("cache-control", "max-age=-1")], Some(0)),
        ] {
            let headers = lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
            assert_eq!(max_age(&headers), expected, "{lines:?}");
        }
    }

    #[tokio::test]
    async fn nobody_there_says_so() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = checked_url(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        drop(listener);
        let error = Client::new(Duration::from_secs(5), 10).unwrap().get(&url).await.unwrap_err().to_string();
        assert!(error.starts_with("cannot reach 127.0.0.1: "), "{error}");
    }
}
