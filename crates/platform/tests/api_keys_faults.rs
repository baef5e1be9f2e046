//! API keys as a front reads them in AWS, from services on a real socket, and all that can go wrong with them.
#![cfg(all(feature = "aws", feature = "jwks"))]
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use authz::{ApiKeyRecord, KeyRecordLookup, KeyState, PresentedKey};
use identity::Secret;
use platform::api_keys::{ApiKeySource, ApiKeyStore, ApiKeysConfig, FRESH_FOR, RETRY_AFTER};
use platform::aws::{AwsConfig, Credentials};
use platform::clock::FixedClock;
use platform::log::{Lines, Log};
use serde_json::{Value, json};

/// What a service does with a request.
#[derive(Clone)]
enum Act {
    Answer(u16, String),
    /// Answers as if the connection were kept, and hangs up.
    Deceive(String),
    /// Takes the request and says nothing.
    Silence,
    /// Hangs up in the middle of the answer.
    Cut,
}

/// Both services, with the requests that each has got.
struct Aws {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    table: Act,
    secret: Act,
    table_visits: usize,
    secret_visits: usize,
    /// Connections that wait for an answer; they end with the test.
    silent: Vec<TcpStream>,
}

impl Aws {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            table: Act::Answer(200, item(&json!({"S": text(&record("live"))}))),
            secret: Act::Answer(200, json!({"SecretString": "a pepper of the tests"}).to_string()),
            table_visits: 0,
            secret_visits: 0,
            silent: Vec::new(),
        }));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &shared);
            }
        });
        Self { address, state }
    }

    fn set(&self, table: Act) {
        self.state.lock().unwrap().table = table;
    }

    fn set_secret(&self, secret: Act) {
        self.state.lock().unwrap().secret = secret;
    }

    fn table_visits(&self) -> usize {
        self.state.lock().unwrap().table_visits
    }
}

/// One request a connection. The client may have left already; that is its own business.
fn serve(mut stream: TcpStream, state: &Mutex<State>) {
    let Some(target) = target(&stream) else { return };
    let mut state = state.lock().unwrap();
    let act = if target == "secretsmanager.GetSecretValue" {
        state.secret_visits += 1;
        state.secret.clone()
    } else {
        assert_eq!(target, "DynamoDB_20120810.GetItem");
        state.table_visits += 1;
        state.table.clone()
    };
    let connection = if matches!(act, Act::Deceive(_)) { "keep-alive" } else { "close" };
    let (status, body, missing) = match act {
        Act::Silence => {
            state.silent.push(stream);
            return;
        }
        Act::Cut => (200, "{\"Item\":".to_owned(), 100),
        Act::Deceive(body) => (200, body, 0),
        Act::Answer(status, body) => (status, body, 0),
    };
    let length = body.len() + missing;
    let head = format!("HTTP/1.1 {status} Status\r\ncontent-type: application/x-amz-json-1.0\r\n");
    let _ = write!(stream, "{head}content-length: {length}\r\nconnection: {connection}\r\n\r\n{body}");
}

/// Reads a request to its end, so that closing the connection does not reset it.
fn target(stream: &TcpStream) -> Option<String> {
    let mut reader = BufReader::new(stream);
    let (mut length, mut target) = (0, String::new());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let Some((name, value)) = line.split_once(':') else {
            if line == "\r\n" {
                break;
            }
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap(),
            "x-amz-target" => target = value.trim().to_owned(),
            _ => {}
        }
    }
    reader.read_exact(&mut vec![0; length]).ok()?;
    Some(target)
}

fn item(record: &Value) -> String {
    json!({"Item": {"id": {"S": "live"}, "record": record}}).to_string()
}

fn text(record: &ApiKeyRecord) -> String {
    serde_json::to_string(record).unwrap()
}

fn record(id: &str) -> ApiKeyRecord {
    ApiKeyRecord {
        id: id.to_owned(),
        client_id: "reader".to_owned(),
        environment: "dev".to_owned(),
        hashes: vec!["00".repeat(32)],
        scope: String::new(),
        audiences: Vec::new(),
        state: KeyState::Active,
        not_before: None,
        expires_at: None,
        ..ApiKeyRecord::default()
    }
}

fn source(address: SocketAddr) -> (ApiKeySource, Arc<FixedClock>, Lines) {
    let endpoint = Some(format!("http://{address}"));
    let aws = AwsConfig {
        region: "eu-central-1".to_owned(),
        credentials: Credentials {
            access_key_id: "AKIDLOCAL".to_owned(),
            secret_access_key: Secret::new("local-secret".to_owned()),
            session_token: None,
        }
        .into(),
        dynamodb_endpoint: endpoint.clone(),
        secretsmanager_endpoint: endpoint,
    };
    let config = ApiKeysConfig { table: "api-keys".to_owned(), pepper_secret: "pepper".to_owned(), aws };
    let (clock, (log, lines)) = (Arc::new(FixedClock::at(1_000_000)), Log::memory());
    (ApiKeySource::new(Some(ApiKeyStore::in_aws(&config)), clock.clone(), log), clock, lines)
}

/// Without bounds of our own a silent server would be waited for without end; this is far above them.
async fn ask(source: &ApiKeySource, id: &str) -> KeyRecordLookup {
    let presented = PresentedKey { id: id.to_owned(), environment: "dev".to_owned(), fingerprint: String::new() };
    tokio::time::timeout(Duration::from_secs(30), source.look_up(&presented)).await.unwrap().lookup
}

fn throttled() -> Act {
    let kind = "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException";
    Act::Answer(400, json!({"__type": kind, "message": "slow down"}).to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_fails_denies_unknown_keys_and_leaves_known_ones_for_a_while() {
    // A server that could do better the next time is asked once more, and one that talks nonsense is not.
    let cases: [(&str, Act, usize, &str); 5] = [
        ("throttled", throttled(), 2, "ProvisionedThroughputExceededException: slow down"),
        ("500", Act::Answer(500, json!({"__type": "InternalServerError"}).to_string()), 2, "InternalServerError"),
        ("garbage", Act::Answer(200, "<html>it works</html>".to_owned()), 1, "api-keys"),
        ("cut", Act::Cut, 2, "api-keys"),
        ("silence", Act::Silence, 2, "no answer in time"),
    ];
    for (name, act, attempts, expected) in cases {
        let aws = Aws::start();
        let (source, clock, lines) = source(aws.address);
        assert_eq!(ask(&source, "live").await, KeyRecordLookup::Found(record("live")), "{name}");
        assert_eq!(lines.all(), [""; 0], "{name}");
        aws.set(act);
        clock.advance(FRESH_FOR);
        let before = aws.table_visits();
        assert_eq!(ask(&source, "live").await, KeyRecordLookup::Found(record("live")), "{name}");
        assert_eq!(aws.table_visits() - before, attempts, "{name}");
        assert_eq!(ask(&source, "other").await, KeyRecordLookup::Unavailable, "{name}");
        let said = lines.drain();
        assert_eq!(said.len(), 1, "{name}: {said:?}");
        assert!(said[0].contains("api_keys_unavailable") && said[0].contains(expected), "{name}: {said:?}");
        assert_eq!((source.counters().stale_hits(), source.counters().unavailable()), (1, 1), "{name}");

        aws.set(Act::Answer(200, "{}".to_owned()));
        clock.advance(RETRY_AFTER);
        assert_eq!(ask(&source, "live").await, KeyRecordLookup::NotFound, "{name}: deleted meanwhile");
        assert!(lines.drain()[0].contains("api_keys_available"), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_that_is_dead_costs_no_answer() {
    let aws = Aws::start();
    let (source, clock, lines) = source(aws.address);
    aws.set(Act::Deceive(item(&json!({"S": text(&record("live"))}))));
    for visits in 1..=3 {
        assert_eq!(ask(&source, "live").await, KeyRecordLookup::Found(record("live")), "{visits}");
        assert_eq!(aws.table_visits(), visits);
        clock.advance(FRESH_FOR);
    }
    assert_eq!(lines.all(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listens() {
    let aws = Aws::start();
    let (good, clock, lines) = source(aws.address);
    ask(&good, "live").await;
    assert_eq!(lines.all(), [""; 0]);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (source, _, lines) = source(closed);
    assert_eq!(ask(&source, "live").await, KeyRecordLookup::Unavailable);
    assert!(lines.all()[0].contains("cannot reach 127.0.0.1"), "{:?}", lines.all());
    assert!(source.pepper().is_none() && good.pepper().is_some());
    drop(clock);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_denies_and_is_not_quoted() {
    let other_type = text(&record("live")).replace("\"active\"", "\"cwk_dev_leaked\"");
    for (name, damaged) in [
        ("no JSON", json!({"S": "cwk_dev_leaked"})),
        ("unknown member", json!({"S": text(&record("live")).replacen('{', "{\"cwk_dev_leaked\":1,", 1)})),
        ("another state", json!({"S": other_type})),
        ("a number", json!({"N": "5"})),
        ("empty", json!({"S": ""})),
    ] {
        let aws = Aws::start();
        let (source, clock, lines) = source(aws.address);
        ask(&source, "live").await;
        aws.set(Act::Answer(200, item(&damaged)));
        clock.advance(FRESH_FOR);
        assert_eq!(ask(&source, "live").await, KeyRecordLookup::Unavailable, "{name}: no older record is used");
        let said = lines.drain();
        assert_eq!(said.len(), 1, "{name}: {said:?}");
        assert!(said[0].contains("api_key_damaged") && !said[0].contains("leaked"), "{name}: {said:?}");
    }
    // No record attribute at all.
    let aws = Aws::start();
    aws.set(Act::Answer(200, json!({"Item": {"id": {"S": "live"}}}).to_string()));
    let (source, _, _) = source(aws.address);
    assert_eq!(ask(&source, "live").await, KeyRecordLookup::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pepper_that_cannot_be_had_denies() {
    let missing = json!({"__type": "ResourceNotFoundException", "Message": "no such secret"}).to_string();
    for (name, act, expected) in [
        ("missing", Act::Answer(400, missing), "does not exist"),
        ("500", Act::Answer(500, json!({"__type": "InternalServiceError"}).to_string()), "InternalServiceError"),
        ("garbage", Act::Answer(200, "<html>".to_owned()), "cannot read the secret pepper"),
        ("binary", Act::Answer(200, json!({"SecretBinary": "AAAA"}).to_string()), "no text value"),
        ("short", Act::Answer(200, json!({"SecretString": "fifteen bytes.."}).to_string()), "15 bytes"),
        ("silence", Act::Silence, "no answer in time"),
    ] {
        let aws = Aws::start();
        aws.set_secret(act);
        let (source, clock, lines) = source(aws.address);
        assert_eq!(ask(&source, "live").await, KeyRecordLookup::Unavailable, "{name}");
        let said = lines.drain();
        assert!(said.len() == 1 && said[0].contains(expected) && !said[0].contains("fifteen"), "{name}: {said:?}");
        aws.set_secret(Act::Answer(200, json!({"SecretString": "a pepper of the tests"}).to_string()));
        clock.advance(RETRY_AFTER);
        assert_eq!(ask(&source, "live").await, KeyRecordLookup::Found(record("live")), "{name}");
        assert_eq!(aws.table_visits(), 1, "{name}: the record was kept");
    }
}
