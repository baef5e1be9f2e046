//! The list of revoked credentials over time, against a real server on a real socket.
#![cfg(feature = "jwks")]
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../../../tests/fixtures/issuer.rs"]
mod issuer;
#[allow(dead_code, unreachable_pub, reason = "only its server is used here")]
#[path = "jwks/issuer.rs"]
mod tls;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use authz::revocation::{LIST_TYPE, MAX_LIST_BYTES, encode_payload};
use authz::{Decision, Policies, Reason, Request, RevokedId, Target};
use platform::bundle::SharedBytes;
use platform::clock::FixedClock;
use platform::front::{Deps, Front, FrontError};
use platform::jwks::{JwksSettings, JwksSource};
use platform::key_sets::KeySetSource;
use platform::log::{Lines, Log};
use platform::revocations::{Held, RevocationSource, RevocationsConfig, RevocationsSetup};
use serde_json::{Value, json};

use issuer::{ISSUER, Issuer, NOW, reader};

const LONG: Duration = Duration::from_secs(60);

fn shared(list: String) -> SharedBytes {
    Arc::new(list)
}

/// Serves one body and counts its visitors; without a body it fails, and it may leave them waiting.
#[derive(Clone)]
struct Server {
    address: SocketAddr,
    visits: Arc<AtomicUsize>,
    body: Arc<Mutex<Option<Vec<u8>>>>,
    /// Whether nobody is answered for now.
    silent: Arc<(Mutex<bool>, Condvar)>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Self { address, visits: Arc::default(), body: Arc::default(), silent: Arc::default() };
        let serving = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]);
                serving.visits.fetch_add(1, Ordering::SeqCst);
                let (silent, changed) = &*serving.silent;
                drop(changed.wait_while(silent.lock().unwrap(), |silent| *silent).unwrap());
                let body = serving.body.lock().unwrap().clone();
                let (status, body) = body.map_or(("503 Service Unavailable", Vec::new()), |body| ("200 OK", body));
                let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
            }
        });
        server
    }

    fn serve(&self, body: impl Into<Vec<u8>>) {
        *self.body.lock().unwrap() = Some(body.into());
    }

    fn fail(&self) {
        *self.body.lock().unwrap() = None;
    }

    fn be_silent(&self, silent: bool) {
        *self.silent.0.lock().unwrap() = silent;
        self.silent.1.notify_all();
    }

    fn visits(&self) -> usize {
        self.visits.load(Ordering::SeqCst)
    }
}

/// A list of `issued_at` that ends an hour later.
fn list(by: &Issuer, issued_at: u64, jtis: &[&str]) -> String {
    let ids = jtis.iter().map(|jti| RevokedId::token(jti));
    let payload = encode_payload(ISSUER, issued_at, issued_at + 3_600, ids, &BTreeMap::new()).unwrap();
    by.jws(&json!({"alg": "ES256", "kid": "k1", "typ": LIST_TYPE}), &payload)
}

fn policies(issuer: &Issuer) -> Policies {
    let text = format!(
        "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: a, namespace: ns1}}
spec: {{jwtRules: [{{issuer: '{ISSUER}', jwks: '{}'}}]}}
",
        issuer.jwks()
    );
    let resources = istio::parse(&[istio::SourceFile { name: "policies.yaml".to_owned(), text }]).unwrap();
    Policies::open(&authz::compile(&resources, &authz::CompileOptions::default()).unwrap().section).unwrap()
}

struct World {
    issuer: Issuer,
    server: Server,
    clock: Arc<FixedClock>,
    source: Arc<RevocationSource>,
    lines: Lines,
}

impl World {
    /// A source that fetches from the server, with a list of the bundle where one is given.
    fn new(embedded: Option<&dyn Fn(&Issuer) -> String>) -> Self {
        Self::waiting(embedded, LONG)
    }

    fn waiting(embedded: Option<&dyn Fn(&Issuer) -> String>, max_wait: Duration) -> Self {
        let (issuer, server) = (Issuer::new(), Server::start());
        let config = RevocationsConfig {
            url: format!("http://{}/revocations", server.address),
            issuer: ISSUER.to_owned(),
            max_age: Duration::from_secs(900),
        };
        let embedded = embedded.map(|make| shared(make(&issuer)));
        let (source, clock, lines) = source(&issuer, RevocationsSetup { config: Some(config), embedded }, max_wait);
        Self { issuer, server, clock, source, lines }
    }

    /// Whether the id `t1` is revoked for a request of now; `None` when no list may be relied on.
    async fn ask(&self) -> Option<usize> {
        let held = self.source.for_request().await;
        self.source.settled().await;
        match held {
            Held::List(list) => Some(list.len()),
            Held::Unavailable => None,
            Held::NotKept => panic!("there is a list"),
        }
    }

    /// Event and kind of each line since the last time.
    fn said(&self) -> Vec<(String, String)> {
        let lines = self.lines.drain();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let lines = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|line| (text(&line["event"]), text(&line["kind"]))).collect()
    }

    fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

fn source(
    issuer: &Issuer,
    setup: RevocationsSetup,
    max_wait: Duration,
) -> (Arc<RevocationSource>, Arc<FixedClock>, Lines) {
    source_with(policies(issuer), JwksSettings::default(), setup, max_wait)
}

fn source_with(
    policies: Policies,
    settings: JwksSettings,
    setup: RevocationsSetup,
    max_wait: Duration,
) -> (Arc<RevocationSource>, Arc<FixedClock>, Lines) {
    let (log, lines) = Log::memory();
    let clock = Arc::new(FixedClock::at(NOW));
    let policies = Arc::new(policies);
    let jwks = Arc::new(JwksSource::with_settings(settings, clock.clone()));
    let keys = KeySetSource::new(&policies, jwks, clock.clone(), log.clone()).unwrap();
    let source = RevocationSource::new(setup, policies, Arc::new(keys), clock.clone(), log).unwrap().unwrap();
    (Arc::new(source.with_max_wait(max_wait)), clock, lines)
}

fn line(event: &str, kind: &str) -> (String, String) {
    (event.to_owned(), kind.to_owned())
}

#[tokio::test]
async fn a_list_is_fetched_once_and_again_when_it_is_old() {
    let world = World::new(None);
    world.server.serve(list(&world.issuer, NOW, &["a"]));
    assert_eq!(world.ask().await, Some(1));
    assert_eq!(world.said(), [line("revocations_current", "")]);
    world.server.serve(list(&world.issuer, NOW + 60, &["a", "b"]));
    world.pass(59);
    assert_eq!((world.ask().await, world.server.visits()), (Some(1), 1));
    world.pass(1);
    // Past the soft age: this request does not wait, the next one has the new list.
    assert_eq!((world.ask().await, world.server.visits()), (Some(1), 2));
    assert_eq!((world.ask().await, world.server.visits()), (Some(2), 2));
    assert_eq!(world.said(), []);
}

/// The list is fetched with the roots that key sets are fetched with.
#[tokio::test]
async fn a_private_root_is_trusted_for_the_list_too() {
    let (issuer, server) = (Issuer::new(), tls::Issuer::start());
    server.publish(list(&issuer, NOW, &["a"]));
    for (roots, trusted) in [(vec![server.root.clone()], true), (Vec::new(), false)] {
        let config = RevocationsConfig {
            url: server.url("/revocations"),
            issuer: ISSUER.to_owned(),
            max_age: Duration::from_secs(900),
        };
        let settings = JwksSettings { roots, ..JwksSettings::default() };
        let setup = RevocationsSetup { config: Some(config), embedded: None };
        let (source, _, lines) = source_with(policies(&issuer), settings, setup, LONG);
        assert_eq!(matches!(source.for_request().await, Held::List(_)), trusted);
        assert_eq!(lines.all()[0].contains("certificate"), !trusted, "{:?}", lines.all());
    }
}

/// Keys that a rule of some namespace gives an issuer are not good for a list that everybody heeds.
#[tokio::test]
async fn an_issuer_whose_rules_have_different_keys_has_no_list() {
    let (issuer, stranger) = (Issuer::new(), Issuer::new());
    let rule = |namespace: &str, keys: &str| {
        format!(
            "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: a, namespace: {namespace}}}
spec: {{jwtRules: [{{issuer: '{ISSUER}', {keys}}}]}}
---"
        )
    };
    let inline = |issuer: &Issuer| format!("jwks: '{}'", issuer.jwks());
    let uri = |path: &str| format!("jwksUri: 'https://issuer.example/{path}'");
    let start = |rules: [String; 2], signed_by: Option<&Issuer>| {
        let text = format!("{}{}", rule("istio-system", &rules[0]), rule("ns1", &rules[1]));
        let resources = istio::parse(&[istio::SourceFile { name: "policies.yaml".to_owned(), text }]).unwrap();
        let compiled = authz::compile(&resources, &authz::CompileOptions::default()).unwrap();
        let policies = Arc::new(Policies::open(&compiled.section).unwrap());
        let config = signed_by.is_none().then(|| RevocationsConfig {
            url: "https://issuer.example/revocations".to_owned(),
            issuer: ISSUER.to_owned(),
            max_age: Duration::from_secs(900),
        });
        let embedded = signed_by.map(|by| list(by, NOW, &["a"]).into_bytes());
        let (log, lines) = Log::memory();
        let clock = Arc::new(FixedClock::at(NOW));
        let jwks = Arc::new(JwksSource::new(clock.clone()));
        let keys = KeySetSource::new(&policies, jwks, clock.clone(), log.clone()).unwrap();
        let embedded = embedded.map(|list| -> platform::bundle::SharedBytes { Arc::new(list) });
        let setup = RevocationsSetup { config, embedded };
        (RevocationSource::new(setup, policies, Arc::new(keys), clock, log), lines)
    };
    for rules in [
        [inline(&issuer), inline(&stranger)],
        [uri("jwks.json"), inline(&stranger)],
        [uri("jwks.json"), uri("other.json")],
    ] {
        let error = start(rules, None).0.err().unwrap().to_string();
        assert!(error.starts_with("CAUSEWAY_REVOCATIONS_ISSUER=\""), "{error}");
        assert!(error.contains(": rules of RequestAuthentications take the keys of"), "{error}");
    }
    for rules in [[inline(&issuer), inline(&issuer)], [uri("jwks.json"), uri("jwks.json")]] {
        assert!(start(rules, None).0.is_ok());
    }
    // A list that came with the bundle names its issuer itself.
    for (rules, signed_by, expected) in [
        ([inline(&issuer), inline(&issuer)], &issuer, None),
        ([inline(&issuer), inline(&stranger)], &issuer, Some("keys")),
        ([inline(&issuer), inline(&stranger)], &stranger, Some("keys")),
    ] {
        let (source, lines) = start(rules, Some(signed_by));
        let held = Arc::new(source.unwrap().unwrap().with_max_wait(LONG)).for_request().await;
        assert_eq!(matches!(held, Held::List(_)), expected.is_none(), "{held:?}");
        let line: Value = serde_json::from_str(&lines.all()[0]).unwrap();
        assert_eq!(line["kind"].as_str(), expected, "{line}");
    }
}

#[tokio::test]
async fn many_requests_wait_for_one_fetch() {
    let world = World::new(None);
    world.server.serve(list(&world.issuer, NOW, &["a"]));
    world.server.be_silent(true);
    let ask = || {
        let source = world.source.clone();
        tokio::spawn(async move { matches!(source.for_request().await, Held::List(_)) })
    };
    let asked: Vec<_> = (0..50).map(|_| ask()).collect();
    tokio::task::yield_now().await;
    world.server.be_silent(false);
    for asked in asked {
        assert!(asked.await.unwrap());
    }
    assert_eq!(world.server.visits(), 1);
}

#[tokio::test]
async fn an_outage_is_survived_until_the_limit() {
    let world = World::new(None);
    world.server.serve(list(&world.issuer, NOW, &["a"]));
    assert_eq!(world.ask().await, Some(1));
    world.server.fail();
    world.said();
    for age in [60, 62, 600, 899] {
        world.clock.set(NOW + age);
        assert_eq!(world.ask().await, Some(1), "{age}");
    }
    assert_eq!((world.said(), world.server.visits()), (vec![line("revocations_stale", "fetch")], 5));
    // The limit counts from when the list was signed.
    world.clock.set(NOW + 900);
    assert_eq!((world.ask().await, world.server.visits()), (None, 5), "the last attempt failed a second ago");
    world.pass(1);
    assert_eq!((world.ask().await, world.server.visits()), (None, 6));
    assert_eq!(world.said(), [line("revocations_unavailable", "fetch")]);
    assert_eq!(world.source.failures(), 5);
    world.server.serve(list(&world.issuer, NOW + 901, &["a", "b"]));
    world.pass(2);
    assert_eq!(world.ask().await, Some(2));
    assert_eq!(world.said(), [line("revocations_current", "")]);
    // A clock that was set back makes the age unknown.
    world.server.fail();
    world.clock.set(NOW);
    assert_eq!(world.ask().await, None);
}

#[tokio::test]
async fn a_list_that_is_refused_leaves_the_old_one() {
    let sign = |issuer: &Issuer, typ: &str, payload: &str| {
        issuer.jws(&json!({"alg": "ES256", "kid": "k1", "typ": typ}), payload)
    };
    let payload = |issuer: &str, from: u64, to: u64| encode_payload(issuer, from, to, [], &BTreeMap::new()).unwrap();
    let good = |world: &World| list(&world.issuer, NOW + 60, &["a", "b"]);
    let tampered = |world: &World| {
        let (list, other) = (good(world), list(&world.issuer, NOW + 60, &["c"]));
        let (message, signature) = (other.rsplit_once('.').unwrap().0, list.rsplit_once('.').unwrap().1);
        format!("{message}.{signature}")
    };
    type Make<'a> = &'a dyn Fn(&World) -> String;
    let rows: [(&str, Make<'_>); 11] = [
        ("signature", &|_| list(&Issuer::new(), NOW + 60, &[])),
        ("signature", &tampered),
        ("rollback", &|world| list(&world.issuer, NOW - 1, &[])),
        ("type", &|world| sign(&world.issuer, "at+jwt", &payload(ISSUER, NOW, NOW + 60))),
        ("type", &|world| world.issuer.token(&reader())),
        ("issuer", &|world| sign(&world.issuer, LIST_TYPE, &payload("https://other.example", NOW, NOW + 120))),
        ("expired", &|world| sign(&world.issuer, LIST_TYPE, &payload(ISSUER, NOW, NOW + 60))),
        ("not_yet_issued", &|world| list(&world.issuer, NOW + 121, &[])),
        ("too_old", &|world| list(&world.issuer, NOW - 840, &[])),
        ("malformed", &|_| "<html>".to_owned()),
        ("fetch", &|_| "x".repeat(MAX_LIST_BYTES + 1)),
    ];
    for (kind, make) in rows {
        let world = World::new(None);
        world.server.serve(list(&world.issuer, NOW, &["a"]));
        assert_eq!(world.ask().await, Some(1));
        world.said();
        world.server.serve(make(&world));
        world.pass(60);
        assert_eq!(world.ask().await, Some(1), "{kind}");
        assert_eq!(world.said(), [line("revocations_stale", kind)]);
        assert_eq!(world.ask().await, Some(1), "{kind}");
        world.server.serve(good(&world));
        world.pass(2);
        world.ask().await;
        assert_eq!((world.ask().await, world.said()), (Some(2), vec![line("revocations_current", "")]), "{kind}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_denies_and_a_late_list_serves_the_next() {
    let world = World::waiting(None, Duration::from_millis(1));
    world.server.serve(list(&world.issuer, NOW, &["a"]));
    world.server.be_silent(true);
    assert!(matches!(world.source.for_request().await, Held::Unavailable));
    assert_eq!(world.said(), [line("revocations_unavailable", "late")]);
    world.server.be_silent(false);
    world.source.settled().await;
    assert_eq!((world.ask().await, world.server.visits()), (Some(1), 1));
    assert_eq!(world.said(), [line("revocations_current", "")]);
}

#[tokio::test]
async fn a_refresh_that_was_frozen_is_started_anew() {
    let world = World::waiting(None, Duration::from_millis(1));
    world.server.serve(list(&world.issuer, NOW, &["a"]));
    world.server.be_silent(true);
    assert!(matches!(world.source.for_request().await, Held::Unavailable));
    world.pass(8);
    assert!(matches!(world.source.for_request().await, Held::Unavailable));
    world.server.be_silent(false);
    world.source.settled().await;
    assert_eq!(world.ask().await, Some(1));
}

#[tokio::test]
async fn the_list_of_the_bundle_comes_first_and_is_never_rolled_back() {
    let world = World::new(Some(&|issuer| list(issuer, NOW - 30, &["a"])));
    world.server.serve(list(&world.issuer, NOW - 31, &[]));
    assert_eq!(world.ask().await, Some(1));
    assert_eq!(world.said(), [line("revocations_current", ""), line("revocations_stale", "rollback")]);
    world.server.serve(list(&world.issuer, NOW, &["a", "b"]));
    world.pass(2);
    world.ask().await;
    assert_eq!(world.ask().await, Some(2));
    // One that is too old, or somebody else's, is as good as none.
    for (make, kind) in [
        (&(|issuer: &Issuer| list(issuer, NOW - 900, &["a"])) as &dyn Fn(&Issuer) -> String, "too_old"),
        (&|_| list(&Issuer::new(), NOW, &["a"]), "signature"),
        (&|_| "x".to_owned(), "malformed"),
    ] {
        let world = World::new(Some(make));
        assert_eq!(world.ask().await, None);
        assert_eq!(world.said(), [line("revocations_unavailable", kind), line("revocations_unavailable", "fetch")]);
        world.server.serve(list(&world.issuer, NOW, &["a", "b"]));
        world.pass(2);
        assert_eq!(world.ask().await, Some(2));
    }
}

fn front(issuer: &Issuer, setup: RevocationsSetup) -> (Result<Front, FrontError>, Arc<FixedClock>, Lines) {
    let (log, lines) = Log::memory();
    let clock = Arc::new(FixedClock::at(NOW));
    let jwks = Arc::new(JwksSource::new(clock.clone()));
    let deps = Deps { api_keys: None, jwks, revocations: setup, rate_limits: None, clock: clock.clone(), log };
    (Front::new(policies(issuer), deps), clock, lines)
}

async fn ask(front: &Front, token: Option<&str>) -> Decision {
    let target = Target::Workload { namespace: "ns1".to_owned(), labels: Vec::new(), environment: None };
    let headers = token.map(|token| ("authorization".to_owned(), format!("Bearer {token}")));
    let request = Request {
        method: "GET".to_owned(),
        scheme: "https".to_owned(),
        host: "a.example".to_owned(),
        path: "/".to_owned(),
        headers: headers.into_iter().collect(),
        ..Request::default()
    };
    front.decide(&request, &target).await
}

#[tokio::test]
async fn a_front_refuses_what_the_list_names() {
    let issuer = Issuer::new();
    let token = issuer.token(&issuer::with(reader(), "exp", json!(NOW + 10_000)));
    for (jtis, allowed) in [(vec!["t1"], false), (vec!["t2"], true)] {
        let embedded = Some(shared(list(&issuer, NOW, &jtis)));
        let (front, clock, lines) = front(&issuer, RevocationsSetup { config: None, embedded });
        let front = front.unwrap();
        let decision = ask(&front, Some(&token)).await;
        assert_eq!(decision.is_allowed(), allowed);
        assert!(allowed || decision.reason() == Reason::TokenRevoked);
        // Without a place to fetch it from, the list of the bundle serves until its own end.
        clock.set(NOW + 3_599);
        assert_eq!(ask(&front, Some(&token)).await.is_allowed(), allowed);
        clock.set(NOW + 3_600);
        let decision = ask(&front, Some(&token)).await;
        assert_eq!((decision.reason(), decision.status()), (Reason::RevocationsUnavailable, 401));
        // Who presents nothing needs no list.
        assert!(ask(&front, None).await.is_allowed());
        for line in lines.all() {
            assert!(!line.contains("t1") && !line.contains(&token), "{line}");
        }
    }
}

#[tokio::test]
async fn without_a_credential_nobody_is_asked() {
    let (issuer, server) = (Issuer::new(), Server::start());
    let config = RevocationsConfig {
        url: format!("http://{}/", server.address),
        issuer: ISSUER.to_owned(),
        max_age: Duration::from_secs(900),
    };
    let (made, _, lines) = front(&issuer, RevocationsSetup { config: Some(config.clone()), embedded: None });
    let made = made.unwrap();
    assert!(ask(&made, None).await.is_allowed());
    assert_eq!((server.visits(), lines.all().len()), (0, 0));
    let decision = ask(&made, Some(&issuer.token(&reader()))).await;
    assert_eq!(decision.reason(), Reason::RevocationsUnavailable);
    // An issuer that the policies do not know could never be verified.
    let config = RevocationsConfig { issuer: "https://other.example".to_owned(), ..config };
    let error = front(&issuer, RevocationsSetup { config: Some(config), embedded: None }).0.err().unwrap();
    assert!(error.to_string().starts_with("CAUSEWAY_REVOCATIONS_ISSUER=\"https://other.example\": "), "{error}");
}

/// A front whose policies are replaced must not forget what was revoked, nor take the older list of a bundle for it.
#[tokio::test]
async fn the_list_in_force_outlives_the_policies() {
    let (issuer, server) = (Issuer::new(), Server::start());
    let config = RevocationsConfig {
        url: format!("http://{}/", server.address),
        issuer: ISSUER.to_owned(),
        max_age: Duration::from_secs(900),
    };
    let token = issuer.token(&issuer::with(reader(), "exp", json!(NOW + 10_000)));
    server.serve(list(&issuer, NOW, &["t1"]));
    let (first, clock, _) = front(&issuer, RevocationsSetup { config: Some(config.clone()), embedded: None });
    let first = first.unwrap();
    // The first request may give the fetch up; whoever asks then has the list.
    while ask(&first, Some(&token)).await.reason() != Reason::TokenRevoked {
        clock.advance(Duration::from_secs(2));
    }
    let visits = server.visits();
    *server.body.lock().unwrap() = None;
    let older = Some(shared(list(&issuer, NOW - 60, &["t2"])));
    let setup = RevocationsSetup { config: Some(config), embedded: older };
    let second = first.successor(policies(&issuer), setup).unwrap();
    assert_eq!(ask(&second, Some(&token)).await.reason(), Reason::TokenRevoked);
    assert_eq!(server.visits(), visits);
    clock.set(NOW + 900);
    assert_eq!(ask(&second, Some(&token)).await.reason(), Reason::RevocationsUnavailable);
}
