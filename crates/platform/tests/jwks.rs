//! Key sets over time, against a real server on a real socket.
#![cfg(feature = "jwks")]
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use platform::clock::FixedClock;
use platform::jwks::{JwksError, JwksSource, MAX_AGE, MAX_STALE, RETRY_AFTER};

/// The P-256 key of RFC 7515, appendix A.3.
const ONE: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"a","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

/// An issuer that counts its visitors and can be made to fail.
struct Issuer {
    address: SocketAddr,
    visits: Arc<AtomicUsize>,
    failing: Arc<AtomicBool>,
    document: Arc<Mutex<String>>,
}

impl Issuer {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let issuer = Self {
            address: listener.local_addr().unwrap(),
            visits: Arc::default(),
            failing: Arc::default(),
            document: Arc::new(Mutex::new(ONE.to_owned())),
        };
        let (visits, failing, document) = (issuer.visits.clone(), issuer.failing.clone(), issuer.document.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]);
                visits.fetch_add(1, Ordering::SeqCst);
                let (status, body) = match failing.load(Ordering::SeqCst) {
                    true => ("500 Internal Server Error", String::new()),
                    false => ("200 OK", document.lock().unwrap().clone()),
                };
                let length = body.len();
                let _ =
                    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
            }
        });
        issuer
    }

    fn uri(&self) -> String {
        format!("http://{}/jwks.json", self.address)
    }

    fn visits(&self) -> usize {
        self.visits.load(Ordering::SeqCst)
    }
}

fn source(clock: &Arc<FixedClock>) -> JwksSource {
    JwksSource::new(clock.clone())
}

#[tokio::test]
async fn a_key_set_is_fetched_once_and_again_when_it_is_old() {
    let (issuer, clock) = (Issuer::start(), Arc::new(FixedClock::at(1_000_000)));
    let source = source(&clock);
    assert!(source.get(&issuer.uri()).await.unwrap().has_kid("a"));
    clock.advance(MAX_AGE - Duration::from_secs(1));
    source.get(&issuer.uri()).await.unwrap();
    assert_eq!(issuer.visits(), 1);
    *issuer.document.lock().unwrap() = ONE.replace("\"a\"", "\"b\"");
    clock.advance(Duration::from_secs(1));
    assert!(source.get(&issuer.uri()).await.unwrap().has_kid("b"));
    assert_eq!(issuer.visits(), 2);
}

#[tokio::test]
async fn many_requests_wait_for_one_fetch() {
    let (issuer, clock) = (Issuer::start(), Arc::new(FixedClock::at(1_000_000)));
    let source = Arc::new(source(&clock));
    let uri = issuer.uri();
    let asked: Vec<_> = (0..20)
        .map(|_| {
            let (source, uri) = (source.clone(), uri.clone());
            tokio::spawn(async move { source.get(&uri).await.is_ok() })
        })
        .collect();
    for answer in asked {
        assert!(answer.await.unwrap());
    }
    assert_eq!(issuer.visits(), 1);
}

#[tokio::test]
async fn an_outage_is_survived_for_a_bounded_time() {
    let (issuer, clock) = (Issuer::start(), Arc::new(FixedClock::at(1_000_000)));
    let source = source(&clock);
    source.get(&issuer.uri()).await.unwrap();
    issuer.failing.store(true, Ordering::SeqCst);
    clock.advance(MAX_STALE - Duration::from_secs(1));
    assert!(source.get(&issuer.uri()).await.unwrap().has_kid("a"));
    clock.advance(Duration::from_secs(1) + RETRY_AFTER);
    let error = source.get(&issuer.uri()).await.unwrap_err();
    assert!(matches!(error, JwksError::Fetch(_)), "{error}");
    issuer.failing.store(false, Ordering::SeqCst);
    clock.advance(RETRY_AFTER);
    assert!(source.get(&issuer.uri()).await.is_ok());
}

#[tokio::test]
async fn a_failing_issuer_is_not_hammered() {
    let (issuer, clock) = (Issuer::start(), Arc::new(FixedClock::at(1_000_000)));
    issuer.failing.store(true, Ordering::SeqCst);
    let source = source(&clock);
    for _ in 0..10 {
        assert!(source.get(&issuer.uri()).await.is_err());
    }
    assert_eq!(issuer.visits(), 1);
    clock.advance(RETRY_AFTER);
    assert!(source.get(&issuer.uri()).await.is_err());
    assert_eq!(issuer.visits(), 2);
}

#[tokio::test]
async fn a_poisoned_document_does_not_replace_a_good_one() {
    let (issuer, clock) = (Issuer::start(), Arc::new(FixedClock::at(1_000_000)));
    let source = source(&clock);
    source.get(&issuer.uri()).await.unwrap();
    for poison in ["", "<html>", "[]", &format!("{{\"keys\":[{}]}}", "{},".repeat(200)), &" ".repeat(200_000)] {
        *issuer.document.lock().unwrap() = poison.to_owned();
        clock.advance(MAX_AGE);
        assert!(source.get(&issuer.uri()).await.unwrap().has_kid("a"), "{}", &poison[..poison.len().min(20)]);
    }
}

#[tokio::test]
async fn a_clock_that_is_set_back_makes_a_key_set_old() {
    let (issuer, clock) = (Issuer::start(), Arc::new(FixedClock::at(1_000_000)));
    let source = source(&clock);
    source.get(&issuer.uri()).await.unwrap();
    clock.set(1);
    source.get(&issuer.uri()).await.unwrap();
    assert_eq!(issuer.visits(), 2);
}

#[tokio::test]
async fn two_places_never_share_their_keys() {
    let (one, other, clock) = (Issuer::start(), Issuer::start(), Arc::new(FixedClock::at(1_000_000)));
    *other.document.lock().unwrap() = ONE.replace("\"a\"", "\"b\"");
    let source = source(&clock);
    assert!(source.get(&one.uri()).await.unwrap().has_kid("a"));
    assert!(source.get(&other.uri()).await.unwrap().has_kid("b"));
    assert!(source.get(&one.uri()).await.unwrap().has_kid("a"));
}

#[tokio::test]
async fn only_https_and_loopback_are_fetched() {
    let source = source(&Arc::new(FixedClock::at(1)));
    for uri in ["http://issuer.example/jwks.json", "http://169.254.169.254/latest", "file:///etc/passwd", "jwks.json"] {
        let error = source.get(uri).await.unwrap_err();
        assert!(matches!(error, JwksError::Url(_)), "{error}");
    }
}
