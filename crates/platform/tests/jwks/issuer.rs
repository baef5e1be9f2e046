//! An issuer over HTTPS on a port of its own, which can be told to misbehave, and the front's key sets over it.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use authz::{CompileOptions, KeySets, KeysNeeded, Mode, Policies};
use platform::clock::FixedClock;
use platform::https::Reach;
use platform::jwks::{JwksSettings, JwksSource};
use platform::key_sets::KeySetSource;
use platform::log::{Lines, Log};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;

/// When the tests take place.
pub const NOW: u64 = 1_795_176_000;

/// The P-256 key of RFC 7515, appendix A.3, under some `kid`s.
pub fn keys(kids: &[&str]) -> String {
    let keys: Vec<String> = kids
        .iter()
        .map(|kid| {
            format!(
                r#"{{"kty":"EC","crv":"P-256","kid":"{kid}","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}}"#
            )
        })
        .collect();
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}

/// What the issuer does with the next requests.
#[derive(Clone)]
pub enum Behaviour {
    /// Answers with this status, these further header lines and this body.
    Answer(u16, String, String),
    /// Reads the request and never answers.
    Silence,
    /// Begins an answer, and never ends it.
    Drip,
    /// Answers by path.
    Paths(Vec<(&'static str, String)>),
}

/// The issuer.
pub struct Issuer {
    pub port: u16,
    pub root: CertificateDer<'static>,
    pub behaviour: Arc<Mutex<Behaviour>>,
    visits: Arc<AtomicUsize>,
}

impl Issuer {
    /// Publishes the key `a`.
    pub fn start() -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        let root = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![root.clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let issuer = Self {
            port: listener.local_addr().unwrap().port(),
            root,
            behaviour: Arc::new(Mutex::new(Behaviour::Answer(200, String::new(), keys(&["a"])))),
            visits: Arc::default(),
        };
        let (behaviour, visits, tls) = (issuer.behaviour.clone(), issuer.visits.clone(), Arc::new(tls));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (behaviour, visits, tls) = (behaviour.clone(), visits.clone(), tls.clone());
                std::thread::spawn(move || {
                    let connection = rustls::ServerConnection::new(tls).unwrap();
                    let mut stream = rustls::StreamOwned::new(connection, stream.unwrap());
                    let mut request = [0; 4096];
                    let Ok(read @ 1..) = stream.read(&mut request) else { return };
                    visits.fetch_add(1, Ordering::SeqCst);
                    let behaviour = behaviour.lock().unwrap().clone();
                    serve(&mut stream, &behaviour, &String::from_utf8_lossy(&request[..read]));
                    if matches!(behaviour, Behaviour::Silence | Behaviour::Drip) {
                        // Until the client gives up.
                        let _ = stream.read(&mut request);
                    }
                });
            }
        });
        issuer
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.port)
    }

    pub fn publish(&self, document: impl Into<String>) {
        self.behave(Behaviour::Answer(200, String::new(), document.into()));
    }

    pub fn behave(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    pub fn visits(&self) -> usize {
        self.visits.load(Ordering::SeqCst)
    }
}

fn serve(stream: &mut impl Write, behaviour: &Behaviour, request: &str) {
    let answer = |status: u16, head: &str, body: &str| {
        format!("HTTP/1.1 {status} X\r\n{head}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
    };
    let text = match behaviour {
        Behaviour::Answer(status, head, body) => answer(*status, head, body),
        Behaviour::Silence => return,
        Behaviour::Drip => "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"ke".to_owned(),
        Behaviour::Paths(paths) => {
            let path = request.split(' ').nth(1).unwrap_or_default();
            match paths.iter().find(|(own, _)| *own == path) {
                Some((_, body)) => answer(200, "", body),
                None => answer(404, "", ""),
            }
        }
    };
    let _ = stream.write_all(text.as_bytes());
    let _ = stream.flush();
}

/// Key sets over an issuer.
pub struct World {
    pub clock: Arc<FixedClock>,
    pub jwks: Arc<JwksSource>,
    pub lines: Lines,
    pub sets: Arc<KeySetSource>,
    pub uri: String,
    policies: Policies,
    log: Log,
}

/// What a test may want otherwise.
pub struct Setup {
    pub uri: String,
    /// The `jwksUri` of the rule; `None` leaves it to discovery.
    pub jwks_uri: bool,
    pub issuer: String,
    pub embedded: Option<(String, Option<u64>)>,
    pub settings: JwksSettings,
}

impl Setup {
    pub fn of(issuer: &Issuer) -> Self {
        // The wait is generous: where a test is about waiting in vain, it says so.
        let roots = vec![issuer.root.clone()];
        let settings = JwksSettings { reach: Reach::Private, roots, wait: Duration::from_secs(30) };
        let (uri, name) = (issuer.url("/jwks.json"), "https://issuer.example".to_owned());
        Self { uri, jwks_uri: true, issuer: name, embedded: None, settings }
    }

    pub fn world(self) -> World {
        let jwks_uri = if self.jwks_uri { format!("jwksUri: \"{}\"", self.uri) } else { String::new() };
        let text = format!(
            "apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{ name: a, namespace: istio-system }}
spec:
  jwtRules:
  - issuer: \"{}\"
    {jwks_uri}
",
            self.issuer
        );
        let file = istio::SourceFile { name: "a.yaml".to_owned(), text };
        let jwks = self.embedded.iter().map(|(document, _)| (self.issuer.clone(), document.clone())).collect();
        let compiled = authz::compile(
            &istio::parse(&[file]).unwrap(),
            &CompileOptions { jwks, mode: Mode::Strict, allow_waypoint_policies: false },
        )
        .unwrap();
        let policies = Policies::open(&compiled.section).unwrap();
        let policies = policies.with_keys_fetched_at(self.embedded.and_then(|(_, at)| at));
        let clock = Arc::new(FixedClock::at(NOW));
        let jwks = Arc::new(JwksSource::with_settings(self.settings, clock.clone()));
        let (log, lines) = Log::memory();
        let sets = Arc::new(KeySetSource::new(&policies, jwks.clone(), clock.clone(), log.clone()).unwrap());
        let uri = match self.jwks_uri {
            true => self.uri,
            false => format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/')),
        };
        World { clock, jwks, lines, sets, uri, policies, log }
    }
}

impl World {
    pub fn needed(&self, kid: &str) -> KeysNeeded {
        let (issuer, uri) = (String::new(), self.uri.clone());
        KeysNeeded { issuer, uri, discovery: false, kid: Some(kid.to_owned()) }
    }

    pub async fn ask(&self, kid: &str) -> KeySets {
        self.sets.for_request(&[self.needed(kid)]).await
    }

    /// Whether a request with this `kid` gets a set with it; `None` when it gets no set at all.
    pub async fn has(&self, kid: &str) -> Option<bool> {
        self.ask(kid).await.fetched(&self.uri).map(|set| set.has_kid(kid))
    }

    /// Asks until the keys are as expected: a refresh that nobody waits for needs requests to go on.
    pub async fn until(&self, kid: &str, expected: Option<bool>) {
        for _ in 0..100_000 {
            if self.has(kid).await == expected {
                return;
            }
            std::thread::yield_now();
        }
        panic!("{kid} never became {expected:?}: {:?}", self.lines.all());
    }

    /// Asks until the first request has come to the issuer.
    pub async fn until_visited(&self, issuer: &Issuer) {
        for _ in 0..100_000 {
            if issuer.visits() > 0 {
                return;
            }
            self.ask("a").await;
        }
        panic!("nobody came: {:?}", self.lines.all());
    }

    /// Asks until this state has been said.
    pub async fn until_said(&self, kid: &str, state: &str) {
        for _ in 0..100_000 {
            if self.states().iter().any(|said| said == state) {
                return;
            }
            self.ask(kid).await;
            std::thread::yield_now();
        }
        panic!("{state} was never said: {:?}", self.lines.all());
    }

    pub fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// The states that were said.
    pub fn states(&self) -> Vec<String> {
        self.said().iter().map(|line| line["state"].as_str().unwrap().to_owned()).collect()
    }

    pub fn said(&self) -> Vec<Value> {
        self.lines.all().iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The same policies once more, as after a reload.
    pub fn reloaded(&self) -> KeySetSource {
        KeySetSource::new(&self.policies, self.jwks.clone(), self.clock.clone(), self.log.clone()).unwrap()
    }
}
