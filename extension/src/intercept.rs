//! TLS of the application to services of HTTP, which ends here (`CAUSEWAY_HTTPS=intercept`).
//!
//! A client that calls `https://` opens a tunnel and speaks TLS in it. Where routes, identity and token are to be those
//! of a request, somebody must read the request: here, under a certificate authority that only this process has and
//! that only this function trusts. Hosts that nobody has named are never read.

mod authority;
mod publish;
mod truststore;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use platform::clock::Clock;
use platform::log::Log;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{Acceptor, NoServerSessionStorage};
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use traffic::open::View;

use crate::keepalive::HEAD;
use crate::reason::{Reason, Refusal};
use authority::Authority;
use publish::Files;

/// How long the authority is good in Lambda, where no environment lives as long.
const LAMBDA_LIFE: Duration = Duration::from_secs(30 * 24 * 3_600);

/// The same for a plain process: the application reads it once, at its own start.
const PROCESS_LIFE: Duration = Duration::from_secs(365 * 24 * 3_600);

/// The most hosts whose certificates are kept.
const MAX_KEPT: usize = 256;

/// A fatal alert `access_denied` (RFC 8446 6.2), in a record that every version of TLS reads.
const ACCESS_DENIED: [u8; 7] = [0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x31];

/// Ends the application's TLS.
pub(crate) struct Intercept {
    authority: Authority,
    files: Files,
    provider: Arc<CryptoProvider>,
    clock: Arc<dyn Clock>,
    kept: Mutex<HashMap<String, Kept>>,
}

/// What is shown for a host.
#[derive(Clone)]
struct Kept {
    config: Arc<ServerConfig>,
    /// From here on another one is made, in Unix seconds.
    renew_at: u64,
}

impl Intercept {
    /// One for the hosts of `view`, whose authority's certificate is to be at `ca_file`.
    ///
    /// # Errors
    /// When there is no authority for them.
    pub(crate) fn new(
        view: &View,
        namespace: Option<&str>,
        ca_file: PathBuf,
        lambda: bool,
        clock: Arc<dyn Clock>,
    ) -> Result<Intercept, String> {
        let life = if lambda { LAMBDA_LIFE } else { PROCESS_LIFE };
        let authority = Authority::new(authority::names_of(view, namespace), clock.unix(), life)?;
        Ok(Intercept {
            authority,
            files: Files::new(ca_file),
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            clock,
            kept: Mutex::default(),
        })
    }

    /// Writes the files that the application reads at its start.
    ///
    /// # Errors
    /// When one cannot be written.
    pub(crate) fn publish(&self, log: &Log) -> Result<(), String> {
        let roots = self.files.write(self.authority.certificate(), self.authority.pem())?;
        log.write(&serde_json::json!({
            "event": "https",
            "state": "intercept",
            "ca_file": self.files.ca.display().to_string(),
            "system_roots": roots,
            "names": self.authority.len(),
            "not_after": self.authority.not_after(),
        }));
        Ok(())
    }

    /// Speaks TLS as `host`.
    ///
    /// # Errors
    /// When the host is none that somebody has named, or the application does not go along; it has been told by then.
    pub(crate) async fn accept<S>(&self, stream: S, host: &str) -> Result<TlsStream<S>, Refusal>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match tokio::time::timeout(HEAD, self.handshake(stream, host)).await {
            Ok(accepted) => accepted.map_err(|why| Refusal::new(Reason::HttpsUnsupported, why)),
            Err(_) => {
                let why = format!("the application did not finish its TLS handshake for {host} in time");
                Err(Refusal::new(Reason::HttpsUnsupported, why))
            }
        }
    }

    async fn handshake<S>(&self, stream: S, host: &str) -> Result<TlsStream<S>, String>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let config = match self.config(&host) {
            Ok(config) => config,
            Err(why) => {
                deny(stream).await;
                return Err(why);
            }
        };
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream)
            .await
            .map_err(|error| format!("found no TLS that could be understood in the tunnel to {host}: {error}"))?;
        // RFC 6066 3: the name that the client wants to talk to. Without one it is the tunnel's.
        let wanted = start.client_hello().server_name().map(str::to_ascii_lowercase);
        if let Some(wanted) = wanted.filter(|wanted| *wanted != host) {
            deny(start.io).await;
            return Err(format!("found TLS for {wanted} in a tunnel to {host}, expected the same host"));
        }
        start.into_stream(config).await.map_err(|error| {
            let file = self.files.ca.display();
            format!(
                "the application's TLS handshake for {host} failed: {error}; does it trust the certificate in {file}?"
            )
        })
    }

    fn config(&self, host: &str) -> Result<Arc<ServerConfig>, String> {
        let now = self.clock.unix();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = kept.get(host)
            && now < found.renew_at
        {
            return Ok(Arc::clone(&found.config));
        }
        let leaf = self.authority.leaf(host, now)?;
        let renew_at = now + leaf.not_after.saturating_sub(now) / 2;
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| error.to_string())?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(leaf.certified)));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // A handshake on the loopback interface costs little, and a session would outlive its certificate.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let config = Arc::new(config);
        if kept.len() >= MAX_KEPT && !kept.contains_key(host) {
            let oldest = kept.iter().min_by_key(|(_, kept)| kept.renew_at).map(|(host, _)| host.clone());
            oldest.and_then(|oldest| kept.remove(&oldest));
        }
        kept.insert(host.to_owned(), Kept { config: Arc::clone(&config), renew_at });
        Ok(config)
    }
}

/// Tells the application that there is no TLS to be had.
pub(crate) async fn deny(mut stream: impl AsyncWrite + Unpin) {
    let _ = stream.write_all(&ACCESS_DENIED).await;
    let _ = stream.shutdown().await;
}

#[cfg(test)]
mod tests {
    use platform::clock::FixedClock;

    use super::*;

    fn intercept(names: &[&str]) -> (Intercept, Arc<FixedClock>) {
        let clock = Arc::new(FixedClock::at(1_800_000_000));
        let names = names.iter().map(ToString::to_string).collect();
        let intercept = Intercept {
            authority: Authority::new(names, clock.unix(), LAMBDA_LIFE).unwrap(),
            files: Files::new("/tmp/not-written.pem".into()),
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            clock: clock.clone() as Arc<dyn Clock>,
            kept: Mutex::default(),
        };
        (intercept, clock)
    }

    #[test]
    fn a_certificate_is_kept_for_half_of_its_life() {
        let (intercept, clock) = intercept(&["a.example"]);
        let get = || intercept.config("a.example").unwrap();
        let first = get();
        clock.advance(Duration::from_secs(12 * 3_600 - 1));
        assert!(Arc::ptr_eq(&first, &get()));
        clock.advance(Duration::from_secs(1));
        let second = get();
        assert!(!Arc::ptr_eq(&first, &second));
        assert_eq!(second.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
        clock.advance(LAMBDA_LIFE);
        assert!(intercept.config("a.example").unwrap_err().contains("expired"));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (intercept, clock) = intercept(&["example"]);
        let first = intercept.config("first.example").unwrap();
        for n in 0..MAX_KEPT - 1 {
            clock.advance(Duration::from_secs(1));
            intercept.config(&format!("a{n}.example")).unwrap();
        }
        let kept = || intercept.kept.lock().unwrap().len();
        assert_eq!(kept(), MAX_KEPT);
        assert!(Arc::ptr_eq(&first, &intercept.config("first.example").unwrap()));
        intercept.config("one-more.example").unwrap();
        assert_eq!(kept(), MAX_KEPT);
        assert!(!intercept.kept.lock().unwrap().contains_key("first.example"), "the oldest goes");
        assert!(intercept.config("other.test").is_err());
    }
}
