//! The ways in: a JSON request as for `evaluate`, an event of API Gateway, or a curl command line.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use authz::{Decision, PathHandling, Peer, Request};
use clap::Args;
use istio::Resources;

use super::{curl, event};
use crate::files::{Content, open};
use crate::request_line::{Id, MAX_LINE_BYTES, NamedWorkload, RequestLine, StoredKey, StoredKeyState};
use crate::session::{Case, Session};

/// The most bytes of all requests of one run.
const MAX_INPUT: usize = 16 * MAX_LINE_BYTES;

/// Where the request comes from.
#[derive(Args, Debug)]
pub(crate) struct InputArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Explain only the request with this id
    #[arg(long, value_name = "ID", conflicts_with_all = ["event", "curl"])]
    id: Option<String>,
    /// With --curl: the workload that is called, such as `bookinfo/app=reviews,version=v1`; without it the request comes
    /// by the ApiGateway document of its host
    #[arg(long, value_name = "NAMESPACE/LABEL=VALUE,…", requires = "curl", conflicts_with_all = ["event", "request", "requests"])]
    workload: Option<String>,
    /// With --curl: the peer's identity, TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT; without it the connection is plaintext
    #[arg(long, value_name = "PRINCIPAL", requires = "curl", conflicts_with_all = ["event", "request", "requests"])]
    peer: Option<String>,
    /// With --curl: the client's address
    #[arg(long, value_name = "IP", requires = "curl", conflicts_with_all = ["event", "request", "requests"])]
    source_ip: Option<IpAddr>,
    /// With --curl or --event: the client that a presented API key belongs to; without it the key store does not answer
    #[arg(long, value_name = "CLIENT_ID", conflicts_with_all = ["request", "requests"])]
    key_client: Option<String>,
    /// The scope of that API key
    #[arg(long, value_name = "WORDS", requires = "key_client", default_value = "")]
    key_scope: String,
    /// An audience of that API key; may be given several times
    #[arg(long, value_name = "AUDIENCE", requires = "key_client")]
    key_audience: Vec<String>,
}

/// One of these.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct SourceArgs {
    /// The requests, one JSON object a line as for `evaluate`, or a single object over several lines; `-` is standard input
    #[arg(long, value_name = "FILE")]
    requests: Option<PathBuf>,
    /// One request itself, a JSON object
    #[arg(long, value_name = "JSON")]
    request: Option<String>,
    /// The event that API Gateway sent to its authorizer, as JSON; `-` is standard input
    #[arg(long, value_name = "FILE")]
    event: Option<PathBuf>,
    /// A curl command line, in quotes
    #[arg(long, value_name = "LINE")]
    curl: Option<String>,
}

/// What is to be explained.
#[derive(Debug)]
pub(crate) enum Asked {
    /// A request for the gate; `front` when it came by an event of API Gateway.
    Request { case: Box<Case>, front: bool },
    /// An event that the authorizer denies without asking the gate.
    RefusedByFront { id: String, decision: Box<Decision> },
}

/// Why there is nothing to explain.
#[derive(Debug, PartialEq)]
pub(crate) enum Refused {
    /// An option is wrong.
    Usage(String),
    /// The input cannot be read.
    Unreadable(String),
}

/// Everything that is asked; a line that is no request is an error of its own.
pub(crate) fn read(arguments: &InputArgs, session: &Session) -> Result<Vec<Result<Asked, String>>, Refused> {
    let key = arguments.key_client.as_ref().map(|client_id| StoredKey {
        client_id: client_id.clone(),
        scope: arguments.key_scope.clone(),
        aud: arguments.key_audience.clone(),
        state: StoredKeyState::Active,
    });
    let SourceArgs { requests, request, event, curl } = &arguments.source;
    if let Some(line) = curl {
        let line = curl_request(line, arguments).map_err(Refused::Usage)?;
        let case = session.case_with(line, key.as_ref()).map_err(Refused::Usage)?;
        return Ok(vec![Ok(Asked::Request { case: Box::new(case), front: false })]);
    }
    if let Some(path) = event {
        let json = input(path)?;
        is_meant("--event", &json, Content::Event, "the event of an authorizer")?;
        return Ok(vec![Ok(event::read(&json, session, key.as_ref()))]);
    }
    let text = match (requests, request) {
        (Some(path), _) => {
            let text = input(path)?;
            is_meant("--requests", &text, Content::Requests, "one JSON object a line")?;
            text
        }
        (None, Some(json)) if !json.trim_start().starts_with('{') && Path::new(json).is_file() => {
            let why = format!("--request {json}: expected a JSON object, found a file; use --requests {json}");
            return Err(Refused::Usage(why));
        }
        (None, Some(json)) => json.clone(),
        (None, None) => return Err(Refused::Usage("there is no request to explain".to_owned())),
    };
    let mut asked: Vec<Result<Asked, String>> = Vec::new();
    for line in requests_of(&text) {
        let case = RequestLine::parse(line.as_bytes()).and_then(|line| {
            let id = line.id.clone();
            session.case(line).map_err(|message| crate::request_line::LineError { id: Some(id), message })
        });
        let wanted =
            |id: Option<&Id>| arguments.id.as_ref().is_none_or(|wanted| id.is_some_and(|id| is_id(id, wanted)));
        match case {
            Ok(case) if wanted(Some(&case.id)) => asked.push(Ok(Asked::Request { case: Box::new(case), front: false })),
            Err(error) if wanted(error.id.as_ref()) => {
                let id = error.id.map_or_else(String::new, |id| format!(" {}", serde_json::json!(id)));
                asked.push(Err(format!("the request{id} cannot be read: {}", error.message)));
            }
            _ => {}
        }
    }
    if asked.is_empty() {
        return Err(Refused::Unreadable(match &arguments.id {
            Some(id) => format!("there is no request with the id {id}"),
            None => "there is no request in the input".to_owned(),
        }));
    }
    Ok(asked)
}

/// The text is one object a line, or one object that goes over several lines, as an editor would lay it out.
fn requests_of(text: &str) -> Vec<&str> {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let whole = lines().nth(1).is_some() && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    if whole { vec![text.trim()] } else { lines().collect() }
}

fn is_id(id: &Id, wanted: &str) -> bool {
    match id {
        Id::Text(text) => text == wanted,
        Id::Number(number) => number.to_string() == wanted,
    }
}

fn input(path: &Path) -> Result<String, Refused> {
    let limit = MAX_INPUT as u64 + 1;
    let mut bytes = Vec::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        open(path).map_err(Refused::Unreadable)?.take(limit).read_to_end(&mut bytes)
    };
    let name = if path.as_os_str() == "-" { "standard input".to_owned() } else { path.display().to_string() };
    read.map_err(|error| Refused::Unreadable(format!("cannot read {name}: {error}")))?;
    if let Some(content @ (Content::Bundle | Content::Utf16)) = Content::of(bytes.get(..64).unwrap_or(&bytes)) {
        return Err(Refused::Usage(format!("{name}: expected JSON, found {}", content.said())));
    }
    if bytes.len() > MAX_INPUT {
        return Err(Refused::Unreadable(format!("{name} has more than {MAX_INPUT} bytes; pick its requests first")));
    }
    String::from_utf8(bytes).map_err(|_| Refused::Unreadable(format!("{name} is not UTF-8")))
}

/// Refuses what is plainly something else.
fn is_meant(option: &str, text: &str, wanted: Content, expected: &str) -> Result<(), Refused> {
    match Content::of(text.as_bytes()).filter(|content| *content != wanted) {
        Some(found) => Err(Refused::Usage(format!("{option}: expected {expected}, found {}", found.said()))),
        None => Ok(()),
    }
}

/// Headers in which the configuration looks for credentials.
pub(crate) fn key_headers(resources: &Resources) -> Vec<String> {
    let rules = resources.request_authentications.iter().flat_map(|authentication| &authentication.jwt_rules);
    let mut names: Vec<String> =
        rules.flat_map(|rule| &rule.from_headers).map(|h| h.name.to_ascii_lowercase()).collect();
    names.extend(resources.api_key_authentications.iter().map(|a| a.header_name.to_ascii_lowercase()));
    names.sort_unstable();
    names.dedup();
    names
}

fn curl_request(line: &str, arguments: &InputArgs) -> Result<RequestLine, String> {
    let curl::Curl { method, scheme, host, port, path, headers } = curl::parse(line)?;
    let peer = arguments.peer.as_deref();
    if peer.is_some_and(|peer| peer.is_empty() || peer.starts_with("spiffe://")) {
        return Err("--peer: expected TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT, without spiffe://".to_owned());
    }
    let principal = peer.map(str::to_owned);
    let ip = arguments.source_ip;
    Ok(RequestLine {
        id: Id::Text("curl".to_owned()),
        request: Request {
            method,
            scheme,
            host,
            path,
            path_handling: PathHandling::Rewritten,
            headers,
            headers_joined: false,
            source: Peer { ip, remote_ip: ip, principal },
            destination_ip: None,
            destination_port: Some(port),
            sni: Some(String::new()),
            client_certificate: None,
            dynamic_metadata: Some(Vec::new()),
            unknown: authz::Unknown::default(),
        },
        workload: arguments.workload.as_deref().map(workload).transpose()?,
        providers: BTreeMap::new(),
        api_keys: BTreeMap::new(),
    })
}

/// Reads `NAMESPACE/LABEL=VALUE,…`.
fn workload(text: &str) -> Result<NamedWorkload, String> {
    let expected = "--workload: expected NAMESPACE/LABEL=VALUE,…, such as bookinfo/app=reviews,version=v1";
    let (namespace, labels) = text.split_once('/').unwrap_or((text, ""));
    if namespace.is_empty() {
        return Err(expected.to_owned());
    }
    let mut read = BTreeMap::new();
    for label in labels.split(',').filter(|label| !label.is_empty()) {
        let (name, value) = label.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or(expected)?;
        if read.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(format!("--workload: the label {name} is given twice"));
        }
    }
    Ok(NamedWorkload { namespace: namespace.to_owned(), labels: read })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_come_a_line_each_or_laid_out() {
        assert_eq!(requests_of("{\"id\":1}\n\n {\"id\":2}\n"), ["{\"id\":1}", "{\"id\":2}"]);
        assert_eq!(requests_of("{\n  \"id\": 1\n}\n"), ["{\n  \"id\": 1\n}"]);
        assert_eq!(requests_of("{\n  \"id\": 1\n"), ["{", "\"id\": 1"]);
    }

    #[test]
    fn a_workload_is_a_namespace_and_labels() {
        let read = workload("bookinfo/app=reviews,version=v1").unwrap();
        assert_eq!(read.namespace, "bookinfo");
        assert_eq!(read.labels.get("version").map(String::as_str), Some("v1"));
        assert!(workload("bookinfo").unwrap().labels.is_empty());
        for wrong in ["", "/app=a", "ns/app", "ns/=a", "ns/a=1,a=2"] {
            assert!(workload(wrong).is_err(), "{wrong}");
        }
    }
}
