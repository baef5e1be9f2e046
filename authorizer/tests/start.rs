//! The program itself: what stops its start, in one line and with exit status 64.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod support;

use std::process::{Command, Output};

use platform::bundle::{Section, write};
use support::issuer::Issuer;

fn start(variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_authorizer")).env_clear().envs(variables.iter().copied()).output().unwrap()
}

const LAMBDA: [(&str, &str); 4] = [
    ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:1"),
    ("AWS_LAMBDA_FUNCTION_NAME", "authorizer"),
    ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
    ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
];

#[test]
fn a_bad_start_is_one_line_that_names_the_cause() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = write(&[(Section::Access, b"not policies".as_slice())]).unwrap();
    let mut version = good.clone();
    version[8] = 99;
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let egress_only = write(&[(Section::Egress, b"".as_slice())]).unwrap();
    for (variables, named) in [
        (vec![("CAUSEWAY_BUNDLE", folder.path().join("none").to_str().unwrap().to_owned())], "none"),
        (vec![("CAUSEWAY_BUNDLE", file("version", &version))], "99"),
        (vec![("CAUSEWAY_BUNDLE", file("damaged", &damaged))], "checksum"),
        (vec![("CAUSEWAY_BUNDLE", file("text", b"hello"))], "CAUSEWAY"),
        (vec![("CAUSEWAY_BUNDLE", file("egress", &egress_only))], "access"),
        (vec![("CAUSEWAY_BUNDLE", file("policies", &good))], "policies are damaged"),
        (vec![("CAUSEWAY_RESPONSE", "json".to_owned())], "CAUSEWAY_RESPONSE"),
        (vec![("CAUSEWAY_BUNDEL", "x".to_owned())], "CAUSEWAY_BUNDLE"),
    ] {
        let variables: Vec<(&str, &str)> =
            LAMBDA.into_iter().chain(variables.iter().map(|(name, value)| (*name, value.as_str()))).collect();
        let output = start(&variables);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{text}");
        assert!(text.contains(named), "expected {named} in {text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

#[test]
fn outside_lambda_it_says_so() {
    let output = start(&[]);
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8(output.stderr).unwrap().contains("AWS_LAMBDA_RUNTIME_API is not set"));
}

/// The smallest runtime API: hands out one event and takes its answer.
#[test]
fn it_serves_events_of_the_runtime_api() {
    use std::io::{BufRead, BufReader, Read, Write};
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("mesh.bundle");
    let issuer = Issuer::new();
    let yaml = include_str!("../../tests/fixtures/events/policies.yaml").replace("JWKS", &issuer.jwks());
    let resources = istio::parse(&[istio::SourceFile { name: "p".to_owned(), text: yaml }]).unwrap();
    let section = authz::compile(&resources, &authz::CompileOptions::default()).unwrap().section;
    std::fs::write(&bundle, write(&[(Section::Access, section.as_slice())]).unwrap()).unwrap();

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut variables = LAMBDA.to_vec();
    variables[0].1 = &address;
    variables.push(("CAUSEWAY_BUNDLE", bundle.to_str().unwrap()));
    let mut program = Command::new(env!("CARGO_BIN_EXE_authorizer"))
        .env_clear()
        .envs(variables)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();

    let mut events = [
        support::fixture("http-2.0").to_string(),
        "[1, 2]".to_owned(),
        support::fixture("http-2.0").to_string().replace("/reviews/0", "/public"),
    ]
    .into_iter();
    let mut answers = Vec::new();
    'serving: for stream in listener.incoming() {
        let mut stream = BufReader::new(stream.unwrap());
        loop {
            let (mut first, mut length) = (String::new(), 0);
            if stream.read_line(&mut first).unwrap() == 0 {
                break;
            }
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let reply = if first.starts_with("GET ") {
                let Some(event) = events.next() else { break 'serving };
                format!(
                    "HTTP/1.1 200 OK\r\nlambda-runtime-aws-request-id: 1\r\nlambda-runtime-deadline-ms: 9999999999999\r\n\
                     content-length: {}\r\n\r\n{event}",
                    event.len()
                )
            } else {
                answers.push((first.split(' ').nth(1).unwrap().to_owned(), String::from_utf8(body).unwrap()));
                "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n".to_owned()
            };
            stream.get_mut().write_all(reply.as_bytes()).unwrap();
        }
    }
    program.kill().unwrap();
    let mut log = String::new();
    program.stdout.take().unwrap().read_to_string(&mut log).unwrap();
    program.wait().unwrap();

    let [unauthorized, odd, open] = answers.try_into().unwrap();
    assert!(unauthorized.0.ends_with("/error"), "{unauthorized:?}");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&unauthorized.1).unwrap()["errorMessage"], "Unauthorized");
    assert!(odd.0.ends_with("/response") && odd.1.contains("\"isAuthorized\":false"), "{odd:?}");
    assert!(open.0.ends_with("/response") && open.1.contains("\"isAuthorized\":true"), "{open:?}");
    let decisions: Vec<&str> = log.lines().filter(|line| line.contains("\"event\":\"decision\"")).collect();
    assert_eq!(decisions.len(), 3, "{log}");
    let metrics = "\"_aws\":{\"Timestamp\":";
    assert!(decisions.iter().all(|line| line.contains(metrics)), "in Lambda they are on by default: {log}");
}
