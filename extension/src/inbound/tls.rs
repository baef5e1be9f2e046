//! TLS of callers: the workload's SVID, and a client certificate of the mesh.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use identity::{Credentials, Leaf, SpiffeId, TrustDomain, tls};
use platform::log::Log;
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::refresh::Refresh;
use crate::renewal::SvidSource;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What a mesh's clients offer. Istio's sidecars choose of `h2` and `http/1.1`, and older clients offer their own names
/// alone. The choice says nothing about what is spoken then: the first bytes do.
const ALPN: [&str; 7] =
    ["h2", "http/1.1", "istio-h2", "istio-http/1.1", "istio-http/1.0", "istio", "istio-peer-exchange"];

/// Who has proven what in a handshake.
#[derive(Debug)]
pub(crate) struct Proven {
    /// The caller.
    pub(crate) id: SpiffeId,
    /// SHA-256 of its certificate in DER.
    pub(crate) hash: [u8; 32],
    /// The last second in which its certificate proves anything, Unix time.
    pub(crate) until: u64,
    /// Who it was proven to: ourselves.
    pub(crate) own: SpiffeId,
    /// The server name that was asked for; empty for none.
    pub(crate) sni: String,
}

/// Makes the server's side of handshakes.
pub(crate) struct Tls {
    identity: Arc<Refresh<SvidSource>>,
    wait: Duration,
    /// The workload's, whose policies apply.
    namespace: String,
    aliases: Vec<TrustDomain>,
    /// Of the newest credentials: a new SVID has a configuration of its own, and connections live on with theirs.
    made: Mutex<Option<(u64, Arc<ServerConfig>)>>,
    /// Of the newest credentials: what is wrong with their namespace.
    wrong: Mutex<(u64, Option<String>)>,
    log: Log,
}

impl Tls {
    pub(crate) fn new(
        identity: Arc<Refresh<SvidSource>>,
        wait: Duration,
        namespace: String,
        aliases: Vec<TrustDomain>,
        log: Log,
    ) -> Tls {
        Tls { identity, wait, namespace, aliases, made: Mutex::default(), wrong: Mutex::default(), log }
    }

    /// Whether there is an identity that can be shown; the word for why not. Renews it where that is due.
    pub(crate) async fn ready(&self) -> Result<(), &'static str> {
        let credentials = self.identity.get(Duration::ZERO).await.map_err(|_| "identity_unavailable\n")?;
        self.check(&credentials).map_err(|_| "identity_of_another_namespace\n")
    }

    /// Whether calls may be judged, in plaintext as well and on connections of before: not while the SVID is of another
    /// namespace. One that has ended still counts, as it makes the policies no better.
    pub(crate) fn judges(&self) -> Result<(), String> {
        match self.identity.at_hand() {
            Some(credentials) => self.check(&credentials),
            None => self.wrong().1.clone().map_or(Ok(()), Err),
        }
    }

    /// The SVID must be of the workload's namespace: otherwise one of the two is a mistake, and the policies that apply
    /// may be somebody else's. An identity of another form says none. Each SVID that is not has a line in the log, since
    /// a task that is never healthy gets no call that could have one.
    fn check(&self, credentials: &Credentials) -> Result<(), String> {
        let mut wrong = self.wrong();
        if wrong.0 < credentials.generation() {
            let expected = &self.namespace;
            let found = credentials.svid().id().workload().map(|(namespace, _)| namespace);
            let found = found.filter(|found| found != expected);
            let error = found.map(|found| {
                format!("found an SVID of the namespace {found}, expected {expected} (CAUSEWAY_NAMESPACE)")
            });
            if let Some(error) = &error {
                self.log.write(&serde_json::json!({ "event": "identity", "state": "refused", "error": error }));
            }
            *wrong = (credentials.generation(), error);
        }
        wrong.1.clone().map_or(Ok(()), Err)
    }

    fn wrong(&self) -> MutexGuard<'_, (u64, Option<String>)> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shakes hands: without an identity of ours, and without a certificate of the mesh, there is no connection.
    pub(crate) async fn accept(&self, stream: TcpStream) -> Result<(TlsStream<TcpStream>, Proven), String> {
        let credentials =
            self.identity.get(self.wait).await.map_err(|why| format!("there is no valid SVID to show: {why}"))?;
        self.check(&credentials)?;
        let config = self.config(&credentials)?;
        let handshake = tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream)).await;
        let stream = handshake.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(|error| {
            // The library's own words for it would be "invalid peer certificate".
            tls::peer_error(&error).map_or_else(|| error.to_string(), ToString::to_string)
        })?;
        let session = stream.get_ref().1;
        let certificates = session.peer_certificates();
        let leaf =
            certificates.and_then(<[_]>::first).ok_or("found no client certificate, expected one of the mesh")?;
        // The handshake's verifier has read it the same way, and found it good.
        let Leaf { id, not_after: until, .. } =
            Leaf::parse(leaf).map_err(|error| format!("the client certificate: {error}"))?;
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, leaf).as_ref());
        let sni = session.server_name().unwrap_or_default().to_owned();
        let own = credentials.svid().id().clone();
        Ok((stream, Proven { id, hash, until, own, sni }))
    }

    fn config(&self, credentials: &Credentials) -> Result<Arc<ServerConfig>, String> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        match made.as_ref() {
            Some((generation, config)) if *generation == credentials.generation() => Ok(Arc::clone(config)),
            _ => {
                let (svid, bundle) = (credentials.svid(), credentials.bundle());
                let config = tls::server_config_with_aliases(svid, bundle, &self.aliases, &ALPN)
                    .map_err(|error| error.to_string())?;
                *made = Some((credentials.generation(), Arc::clone(&config)));
                Ok(config)
            }
        }
    }
}
