//! `causeway evaluate`: requests in, decisions out, one JSON object a line. Other people's scripts depend on it.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use authz::{Decision, DryRunAllow};
use clap::Args;
use serde::Serialize;

use crate::files::{self, Content};
use crate::request_line::{LineError, MAX_LINE_BYTES, RequestLine, too_long};
use crate::session::{Session, SessionArgs};
use crate::terminal::{self, Progress};

pub(crate) const EXAMPLES: &str = r#"Examples:
  causeway init orders --service orders --namespace shop --host api.shop.example
  causeway evaluate --config orders --requests orders/requests.jsonl
  causeway evaluate --mode istio --config orders examples/bookinfo/mesh.yaml --requests - < orders/requests.jsonl
  causeway bundle orders -o orders.bundle
  causeway evaluate --config orders.bundle --requests - --now 1795176000 < orders/requests.jsonl

Examples with files of yours:
  causeway evaluate --config mesh.bundle --requests requests.jsonl --revocations revoked.txt

A request is one line:
  {"id":"1","method":"GET","scheme":"http","host":"b.ns1.svc.cluster.local","path":"/a?x=1",
   "headers":[["authorization","Bearer …"]],
   "source":{"ip":"10.0.0.1","remote_ip":"203.0.113.7","principal":"cluster.local/ns/ns1/sa/a",
             "client_certificate_sha256":"<hex>"},
   "destination":{"ip":"10.0.0.2","port":8080},"sni":"","workload":{"namespace":"ns1","labels":{"app":"b"}},
   "custom":{"PROVIDER":"allow|deny|error"},"dynamic_metadata":{"FILTER":{…}},
   "api_keys":{"<presented key>":{"client_id":"…","scope":"…","aud":["…"],"state":"active"}}}
Required are id, method, host and path. Without scheme it is http, without source.ip the address is unknown, without
source.remote_ip it is source.ip, without source.principal the connection is plaintext, without sni there is none, and
without dynamic_metadata no filter has any. A token with cnf needs client_certificate_sha256. expect, tags and note are ignored, any other unknown field is an error.
custom plays the extension providers of CUSTOM policies. api_keys plays the key store: a well-formed key that is not in
it is unknown, and state is one of active (the default), revoked, expired and unavailable.

A request without workload goes through API Gateway, two hops: to the ApiGateway document whose domains have the host
(without its port) and whose basePath the path begins with, the longest one if there are several. The base path is taken
off, as API Gateway does. Where domain and basePath leave a choice, since documents differ in apiId or stage alone, the
line is an error until --api-gateway names one; where no document fits, the answer is gateway_unknown.

The answer is one line, in the order of the requests and written at once:
  {"id":"1","allowed":true,"status":200,"reason":"allowed_by_policy","policy":"ns[ns1]-policy[b]-rule[0]",
   "principal":"iss/sub","upstream_headers":{"x-jwt-iss":"…"}}
status is what Envoy would answer. policy and principal may be null. upstream_headers is everything that the upstream
would receive, names in lower case, lines of one name joined with `,` as in Envoy's own map; {} for a denial. It holds
tokens and keys in full: keep it out of logs. A workload that no policy applies to allows (allowed_no_policy), and so
does one whose namespace or label is misspelt. Where policies that do not decide have something to say, there is also: audit and dry_run_deny, the rule that matched, and
dry_run_allow, {"allowed":…,"policy":…}.

A line that is no request is answered with {"id":…,"error":"…"}. Empty lines are passed over.
Exit status: 0 every line was a request, whatever the verdicts; 1 one was not; 2 the configuration is refused, before the first answer."#;

/// The options of `causeway evaluate`.
#[derive(Args, Debug)]
pub(crate) struct Evaluate {
    #[command(flatten)]
    session: SessionArgs,
    /// The requests, one JSON object a line; `-` is standard input
    #[arg(long, value_name = "FILE")]
    requests: PathBuf,
}

/// One line of the output.
#[derive(Serialize)]
pub(crate) struct Answer<'a, I> {
    id: &'a I,
    allowed: bool,
    status: u16,
    reason: &'a str,
    policy: Option<&'a str>,
    principal: Option<&'a str>,
    upstream_headers: BTreeMap<&'a str, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dry_run_deny: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dry_run_allow: Option<DryRun<'a>>,
}

/// What the dry-run ALLOW policies would say.
#[derive(Serialize)]
struct DryRun<'a> {
    allowed: bool,
    policy: Option<&'a str>,
}

/// Runs `causeway evaluate`.
pub(crate) fn run(command: Evaluate) -> ExitCode {
    let session = match Session::open(&command.session) {
        Ok(session) => session,
        Err(errors) => return terminal::refused(&errors),
    };
    let input: Box<dyn Read> = if command.requests.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        match files::open(&command.requests) {
            Ok(file) => Box::new(file),
            Err(why) => return terminal::refused(&[why]),
        }
    };
    let mut input = BufReader::with_capacity(64 * 1024, input);
    // What is no list of requests from its first byte on is a slip, and no line of it has an answer.
    match input.fill_buf() {
        Ok(first) => {
            if let Some(content) = Content::of(first).filter(|content| *content != Content::Requests) {
                let (name, found) = (command.requests.display(), content.said());
                return terminal::refused(&[format!(
                    "--requests {name}: expected one JSON object a line, found {found}"
                )]);
            }
        }
        Err(error) => return terminal::failed(&format!("cannot read the requests: {error}")),
    }
    for warning in &session.loaded.warnings {
        terminal::warn(warning);
    }
    let mut output = BufWriter::with_capacity(64 * 1024, io::stdout().lock());
    match answer_all(&session, input, &mut output) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // Whoever read the answers has seen enough.
        Err(Broken::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            // What is left in the buffer has nobody to go to.
            let _ = output.into_parts();
            ExitCode::SUCCESS
        }
        Err(Broken::Output(error)) => terminal::failed(&format!("cannot write the answers: {error}")),
        Err(Broken::Input(error)) => terminal::failed(&format!("cannot read the requests: {error}")),
    }
}

/// Which end broke.
enum Broken {
    Input(io::Error),
    Output(io::Error),
}

/// Answers line by line; whether every line was a request.
fn answer_all(session: &Session, mut input: impl BufRead, output: &mut impl Write) -> Result<bool, Broken> {
    let mut all = true;
    let mut line = Vec::with_capacity(4 * 1024);
    let progress = Progress::beside_results("answering requests");
    while let Some(complete) = next_line(&mut input, &mut line).map_err(Broken::Input)? {
        if complete && line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let answered =
            if complete { answer(session, &line, output) } else { Err(LineError { id: None, message: too_long() }) };
        let written = match answered {
            Ok(written) => written,
            Err(error) => {
                all = false;
                serde_json::to_writer(&mut *output, &error).map_err(io::Error::from)
            }
        };
        written.and_then(|()| output.write_all(b"\n")).and_then(|()| output.flush()).map_err(Broken::Output)?;
        progress.one_more();
    }
    Ok(all)
}

/// Decides about one line and writes the answer.
fn answer(session: &Session, line: &[u8], output: &mut impl Write) -> Result<io::Result<()>, LineError> {
    let line = RequestLine::parse(line)?;
    let id = line.id.clone();
    let case = session.case(line).map_err(|message| LineError { id: Some(id), message })?;
    let decision = authz::decide(&session.loaded.policies, &case.request, &case.target, &session.given(&case));
    Ok(serde_json::to_writer(output, &Answer::new(&case.id, &decision)).map_err(io::Error::from))
}

impl<'a, I> Answer<'a, I> {
    /// What is said of `decision`.
    pub(crate) fn new(id: &'a I, decision: &'a Decision) -> Self {
        let mut upstream_headers: BTreeMap<&str, String> = BTreeMap::new();
        if let Decision::Allow(allow) = decision {
            for (name, value) in allow.upstream_headers() {
                upstream_headers
                    .entry(name)
                    .and_modify(|joined| {
                        joined.push(',');
                        joined.push_str(value);
                    })
                    .or_insert_with(|| value.clone());
            }
        }
        let shadow = decision.shadow();
        Self {
            id,
            allowed: decision.is_allowed(),
            status: decision.status(),
            reason: decision.reason().as_str(),
            policy: decision.policy(),
            principal: decision.principal(),
            upstream_headers,
            audit: shadow.audit.as_deref(),
            dry_run_deny: shadow.dry_run_deny.as_deref(),
            dry_run_allow: shadow.dry_run_allow.as_ref().map(|said| match said {
                DryRunAllow::AllowedBy(policy) => DryRun { allowed: true, policy: Some(policy) },
                DryRunAllow::Denied => DryRun { allowed: false, policy: None },
            }),
        }
    }
}

/// Reads the next line into `line`, without its end. `Some(false)` is a line that is too long, and was skipped.
fn next_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Option<bool>> {
    line.clear();
    let limit = MAX_LINE_BYTES as u64 + 1;
    if input.by_ref().take(limit).read_until(b'\n', line)? == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        return Ok(Some(true));
    }
    if line.len() <= MAX_LINE_BYTES {
        return Ok(Some(true));
    }
    input.skip_until(b'\n')?;
    line.clear();
    Ok(Some(false))
}
