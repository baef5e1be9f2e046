//! Credentials of ECS and EKS from endpoints on real sockets, and all that can go wrong with them.
#![cfg(feature = "fetched-credentials")]
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use platform::aws::CredentialSource;
use platform::clock::{Clock, FixedClock, rfc3339};
use platform::env::{MapEnv, Reader};
use serde_json::json;

const NOW: u64 = 1_795_176_000;

type Script = Arc<Mutex<(u16, String, Vec<String>)>>;

/// Answers every request with what the script says, and keeps the requests.
fn endpoint(status: u16, body: String) -> (String, Script) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/credentials", listener.local_addr().unwrap());
    let script: Script = Arc::new(Mutex::new((status, body, Vec::new())));
    let shared = script.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut request, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                    break;
                }
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                request.push_str(&line);
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            request.push_str(&String::from_utf8(body).unwrap());
            let (status, body) = {
                let mut state = shared.lock().unwrap();
                state.2.push(request);
                (state.0, state.1.clone())
            };
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = stream.write_all((head + &body).as_bytes());
        }
    });
    (url, script)
}

fn at(unix: u64) -> String {
    rfc3339(FixedClock::at(unix).now())
}

fn given(id: &str, ends: u64) -> String {
    json!({"RoleArn": "arn", "AccessKeyId": id, "SecretAccessKey": "secret", "Token": "token", "Expiration": at(ends)})
        .to_string()
}

fn sts(id: &str, ends: u64) -> String {
    format!(
        "<R><Credentials><AccessKeyId>{id}</AccessKeyId><SecretAccessKey>secret</SecretAccessKey>\
         <SessionToken>token</SessionToken><Expiration>{}</Expiration></Credentials></R>",
        at(ends)
    )
}

fn source(pairs: &[(&str, &str)], clock: Arc<FixedClock>) -> CredentialSource {
    let env = pairs.iter().fold(MapEnv::default(), |env, (name, value)| env.with(name, *value));
    CredentialSource::from_env_with(&Reader::new(&env), "eu-central-1", clock).unwrap()
}

async fn id(source: &CredentialSource) -> Result<String, String> {
    let credentials = tokio::time::timeout(Duration::from_secs(30), source.get()).await.unwrap();
    credentials.map(|credentials| credentials.access_key_id).map_err(|error| error.to_string())
}

fn visits(script: &Script) -> usize {
    script.lock().unwrap().2.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn pod_identity_with_a_token_that_is_replaced() {
    let (url, script) = endpoint(200, given("ASIA1", NOW + 3_600));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "first\n").unwrap();
    let clock = Arc::new(FixedClock::at(NOW));
    let file_text = file.to_str().unwrap();
    let source = source(
        &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url), ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file_text)],
        clock.clone(),
    );
    assert_eq!(visits(&script), 0, "nothing is asked before it is needed");
    let first = source.get().await.unwrap();
    assert_eq!((first.access_key_id.as_str(), first.session_token.unwrap().expose().as_str()), ("ASIA1", "token"));
    assert!(script.lock().unwrap().2[0].contains("authorization: first\r\n"));
    clock.set(NOW + 3_299);
    assert_eq!(id(&source.clone()).await.as_deref(), Ok("ASIA1"));
    assert_eq!(visits(&script), 1, "held for all clones until five minutes before the end");

    // Renewed aside, with the token of the day.
    std::fs::write(&file, "second").unwrap();
    script.lock().unwrap().1 = given("ASIA2", NOW + 7_200);
    clock.set(NOW + 3_300);
    assert_eq!(id(&source).await.as_deref(), Ok("ASIA1"), "nobody waits");
    let renewed = async {
        while id(&source).await.as_deref() != Ok("ASIA2") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), renewed).await.unwrap();
    assert_eq!(visits(&script), 2);
    assert!(script.lock().unwrap().2[1].contains("authorization: second\r\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_down_costs_nothing_until_the_end() {
    let (url, script) = endpoint(200, given("ASIA1", NOW + 3_600));
    let clock = Arc::new(FixedClock::at(NOW));
    let source = source(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url)], clock.clone());
    assert_eq!(id(&source).await.as_deref(), Ok("ASIA1"));
    script.lock().unwrap().0 = 500;
    clock.set(NOW + 3_589);
    assert_eq!(id(&source).await.as_deref(), Ok("ASIA1"));
    clock.set(NOW + 3_600);
    for _ in 0..3 {
        assert_eq!(
            id(&source).await,
            Err("no AWS credentials: the container's endpoint answered with status 500".to_owned())
        );
    }
    let asked = visits(&script);
    assert!(asked <= 3, "{asked}: a failure rests for two seconds");
    script.lock().unwrap().0 = 200;
    script.lock().unwrap().1 = given("ASIA2", NOW + 7_200);
    clock.set(NOW + 3_602);
    assert_eq!(id(&source).await.as_deref(), Ok("ASIA2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_need_them_at_once_are_one_request() {
    let (url, script) = endpoint(200, given("ASIA1", NOW + 3_600));
    let source = source(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url)], Arc::new(FixedClock::at(NOW)));
    let all: Vec<_> = (0..50)
        .map(|_| {
            let source = source.clone();
            tokio::spawn(async move { id(&source).await })
        })
        .collect();
    for one in all {
        assert_eq!(one.await.unwrap().as_deref(), Ok("ASIA1"));
    }
    assert_eq!(visits(&script), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_asks_sts() {
    let (url, script) = endpoint(200, sts("ASIA1", NOW + 3_600));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "aaa.bbb.c+c").unwrap();
    let role = "arn:aws:iam::123456789012:role/adapter";
    let source = source(
        &[
            ("AWS_ROLE_ARN", role),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", file.to_str().unwrap()),
            ("AWS_ENDPOINT_URL_STS", &url),
            // A container's endpoint comes after it.
            ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/nobody"),
        ],
        Arc::new(FixedClock::at(NOW)),
    );
    assert_eq!(id(&source).await.as_deref(), Ok("ASIA1"));
    let request = script.lock().unwrap().2[0].clone();
    assert!(request.starts_with("POST /credentials HTTP/1.1\r\n"), "{request}");
    assert!(request.ends_with(
        "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fadapter\
         &RoleSessionName=causeway&WebIdentityToken=aaa.bbb.c%2Bc"
    ), "{request}");
    assert!(!request.to_lowercase().contains("authorization:"), "it is not signed");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_is_named_without_a_credential() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (good, empty, long, two) =
        (path("good", "hunter2"), path("empty", " \n"), path("long", &"x".repeat(16 * 1024 + 1)), path("two", "a\nb"));
    let full = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
    let container = |status, body: &str| {
        let url = endpoint(status, body.to_owned()).0;
        vec![(full.to_owned(), url)]
    };
    let with_token = |file: &str| {
        let mut pairs = container(200, &given("ASIA1", NOW + 3_600));
        pairs.push(("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE".to_owned(), file.to_owned()));
        pairs
    };
    let irsa = |status, body: &str| {
        let (url, _) = endpoint(status, body.to_owned());
        [("AWS_ROLE_ARN", "arn"), ("AWS_WEB_IDENTITY_TOKEN_FILE", &good), ("AWS_ENDPOINT_URL_STS", &url)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec()
    };
    let refusal =
        "<ErrorResponse><Error><Code>InvalidIdentityToken</Code><Message>hunter2</Message></Error></ErrorResponse>";
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (name, pairs, expected) in [
        ("403", container(403, "hunter2"), "status 403"),
        ("garbage", container(200, "hunter2"), "cannot be read"),
        ("no secret", container(200, &given("A", NOW + 60).replace("SecretAccessKey", "Else")), "cannot be read"),
        ("empty", container(200, &given("", NOW + 60)), "is empty"),
        ("no time", container(200, &given("A", NOW).replace("T12", "hunter2")), "the time"),
        ("over", container(200, &given("A", NOW + 10)), "ended already"),
        ("too large", container(200, &"x".repeat(65 * 1024)), "larger than"),
        ("nobody", vec![(full.to_owned(), format!("http://{nobody}/"))], "cannot reach"),
        ("no file", with_token("/nowhere"), "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=/nowhere"),
        ("empty file", with_token(&empty), "expected one token"),
        ("long file", with_token(&long), "expected one token"),
        ("two lines", with_token(&two), "expected one token"),
        ("STS refuses", irsa(400, refusal), "status 400: InvalidIdentityToken"),
        ("STS is something else", irsa(200, "<html>hunter2</html>"), "STS cannot be read"),
    ] {
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let error = id(&source(&pairs, Arc::new(FixedClock::at(NOW)))).await.unwrap_err();
        assert!(error.contains(expected) && !error.contains("hunter2"), "{name}: {error}");
    }
}

#[tokio::test]
async fn an_access_key_of_the_environment_comes_first() {
    let (url, script) = endpoint(500, String::new());
    let clock = Arc::new(FixedClock::at(NOW));
    let pairs = [
        ("AWS_ACCESS_KEY_ID", "AKIA"),
        ("AWS_SECRET_ACCESS_KEY", "s"),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str()),
    ];
    assert_eq!(id(&source(&pairs, clock.clone())).await.as_deref(), Ok("AKIA"));
    assert_eq!(visits(&script), 0);
    let env = MapEnv::default();
    let error = CredentialSource::from_env_with(&Reader::new(&env), "eu-central-1", clock).unwrap_err().to_string();
    assert!(error.starts_with("AWS_ACCESS_KEY_ID is not set") && error.contains("IRSA"), "{error}");
}
