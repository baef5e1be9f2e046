//! What API Gateway sends, turned into the request that `authz` judges.
//!
//! The structures are our own and not those of `aws_lambda_events`: there a header that `http::HeaderMap` refuses fails
//! the whole event (API Gateway then answers 500), and its authorizer types could not read AWS' own sample
//! (awslabs/aws-lambda-rust-runtime#853, #863). Here every value is a plain string with a limit, what is not needed is
//! skipped, and what is odd becomes a [`Refused`] with a word for it: never a crash, never an allow.

use std::fmt;
use std::net::IpAddr;

use authz::request::{MAX_HEADER_BYTES, MAX_HEADERS};
use authz::{PathHandling, Peer, Reason, Request, Target};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

/// The largest event that is read, in bytes. API Gateway caps request line and headers at 10,240 bytes, which an event
/// repeats a few times; a client certificate adds some kilobytes.
const MAX_EVENT: usize = 256 * 1024;
/// The most bytes of a path with its query.
const MAX_PATH: usize = 16 * 1024;
/// The most bytes of any other text that is taken from an event.
const MAX_TEXT: usize = 1024;
/// The longest ARN that a policy document may name.
const MAX_ARN: usize = 512;

/// An event that asks for a decision.
#[derive(Debug)]
pub struct Event {
    /// What the client sent, with the stage taken off the path.
    pub request: Request,
    /// The API that was called.
    pub target: Target,
    /// How the answer has to look.
    pub form: Form,
    /// What the log line says about the event.
    pub seen: Seen,
}

/// How an answer has to look; the event decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// `{"isAuthorized": …}`, for payload format 2.0.
    Simple,
    /// An IAM policy that names this request only.
    Policy {
        /// The `routeArn` or `methodArn` of the event.
        arn: String,
    },
}

/// The answer form that an authorizer with payload format 2.0 is configured for (`enableSimpleResponses`); the event
/// does not say. Format 1.0 always takes a policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResponseKind {
    /// Simple responses.
    #[default]
    Simple,
    /// IAM policies.
    Iam,
}

/// What is known of an event for its log line, also when it is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// `requestContext.requestId`.
    pub request_id: String,
    /// `requestContext.apiId`.
    pub api_id: String,
    /// `requestContext.stage`.
    pub stage: String,
}

/// An event that is denied without asking the gate.
#[derive(Debug)]
pub struct Refused {
    /// The word for the log.
    pub reason: Reason,
    /// What was found and what was expected.
    pub detail: String,
    /// How the answer has to look, as far as the event lets us tell.
    pub form: Form,
    /// What the log line says about the event.
    pub seen: Seen,
}

impl Event {
    /// Reads an event. `base_path` says, for API id, stage and domain, what a custom domain puts in front of the API's
    /// own paths.
    ///
    /// # Errors
    /// [`Refused`] for anything but a complete HTTP API authorizer event.
    pub fn parse<'p>(
        json: &str,
        kind: ResponseKind,
        base_path: impl Fn(&str, &str, &str) -> Option<&'p str>,
    ) -> Result<Self, Box<Refused>> {
        if json.len() > MAX_EVENT {
            // Too large to look into, so the form is a guess; a wrong one makes API Gateway answer 500, not 200.
            let why = Why::too_large(format!("an event of {} bytes, expected at most {MAX_EVENT}", json.len()));
            return Err(why.into_refused(Form::Simple, Seen::default()));
        }
        match serde_json::from_str::<Wire>(json) {
            Ok(wire) => wire.into_event(kind, &base_path),
            Err(error) => {
                let (form, seen) = probe(json, kind);
                Err(Why::event(format!("not an authorizer event of API Gateway: {}", position(&error)))
                    .into_refused(form, seen))
            }
        }
    }
}

/// Where a JSON error is, without the words of `serde_json`: those may quote a value, and values are credentials.
fn position(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Data => "a field that is doubled or of another type than expected",
        serde_json::error::Category::Eof => "the JSON text ends early",
        serde_json::error::Category::Io | serde_json::error::Category::Syntax => "not JSON",
    };
    format!("{what}, line {} column {}", error.line(), error.column())
}

/// The answer form for an event that could not be read because of a fault of ours.
pub fn form_of_unread(json: &str, kind: ResponseKind) -> Form {
    probe(json, kind).0
}

/// The answer form and the ids of an event that is otherwise not readable.
fn probe(json: &str, kind: ResponseKind) -> (Form, Seen) {
    let Ok(value) = serde_json::from_str::<Value>(json) else {
        return (Form::Simple, Seen::default());
    };
    let text = |pointer: &str| {
        let found = value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        if found.len() > MAX_TEXT { String::new() } else { found.to_owned() }
    };
    let seen = Seen {
        request_id: text("/requestContext/requestId"),
        api_id: text("/requestContext/apiId"),
        stage: text("/requestContext/stage"),
    };
    (form_for_refusal(value.get("methodArn").is_some(), value.get("version").and_then(Value::as_str), kind), seen)
}

/// A refusal needs no more than a policy that denies everything, where a policy is what API Gateway reads.
fn form_for_refusal(has_method_arn: bool, version: Option<&str>, kind: ResponseKind) -> Form {
    if has_method_arn || (version == Some("2.0") && kind == ResponseKind::Iam) {
        Form::Policy { arn: "*".to_owned() }
    } else {
        Form::Simple
    }
}

/// Why an event is refused.
#[derive(Debug)]
struct Why {
    reason: Reason,
    detail: String,
}

impl Why {
    fn event(detail: impl Into<String>) -> Self {
        Self { reason: Reason::RequestInvalid, detail: detail.into() }
    }

    fn missing(field: &str) -> Self {
        Self::event(format!("{field} is missing or empty; API Gateway sends it in every HTTP API authorizer event"))
    }

    fn unsupported(what: &str) -> Self {
        Self::event(format!(
            "{what} are not supported yet; use a REQUEST authorizer of an HTTP API, payload format 1.0 or 2.0"
        ))
    }

    fn too_large(detail: impl Into<String>) -> Self {
        Self { reason: Reason::RequestTooLarge, detail: detail.into() }
    }

    fn into_refused(self, form: Form, seen: Seen) -> Box<Refused> {
        Box::new(Refused { reason: self.reason, detail: self.detail, form, seen })
    }
}

// === the events as API Gateway writes them ===

/// Both payload formats in one: a field that the other format has is simply absent.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Wire {
    version: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    cookies: Option<Vec<String>>,
    headers: Option<Pairs<String>>,
    http_method: Option<String>,
    method_arn: Option<String>,
    multi_value_headers: Option<Pairs<Vec<String>>>,
    multi_value_query_string_parameters: Option<Pairs<Vec<String>>>,
    path: Option<String>,
    path_parameters: Option<Pairs<String>>,
    query_string_parameters: Option<Pairs<String>>,
    raw_path: Option<String>,
    raw_query_string: Option<String>,
    request_context: Option<WireContext>,
    resource: Option<String>,
    route_arn: Option<String>,
    route_key: Option<String>,
}

#[derive(serde::Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireContext {
    api_id: Option<String>,
    authentication: Option<WireCertificate>,
    connection_id: Option<IgnoredAny>,
    domain_name: Option<String>,
    http: Option<WireHttp>,
    identity: Option<WireIdentity>,
    request_id: Option<String>,
    stage: Option<String>,
}

#[derive(serde::Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireHttp {
    method: Option<String>,
    path: Option<String>,
    source_ip: Option<String>,
}

#[derive(serde::Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireIdentity {
    client_cert: Option<IgnoredAny>,
    source_ip: Option<String>,
}

#[derive(serde::Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireCertificate {
    client_cert: Option<IgnoredAny>,
}

/// A JSON object in the order it was written. A name that comes twice is an error: which one counts would be a guess.
#[derive(Debug)]
struct Pairs<T>(Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Pairs<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Pairs<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs: Vec<(String, T)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, T>()? {
                    if pairs.len() > MAX_HEADERS || pairs.iter().any(|(seen, _)| *seen == name) {
                        return Err(serde::de::Error::custom("too many members, or one of them twice"));
                    }
                    pairs.push((name, value));
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(Members(std::marker::PhantomData))
    }
}

impl Wire {
    fn into_event(mut self, kind: ResponseKind, base_path: BasePath<'_, '_>) -> Result<Event, Box<Refused>> {
        let context = self.request_context.take().unwrap_or_default();
        let seen = Seen {
            request_id: bounded(context.request_id.as_deref()),
            api_id: bounded(context.api_id.as_deref()),
            stage: bounded(context.stage.as_deref()),
        };
        let form = form_for_refusal(self.method_arn.is_some(), self.version.as_deref(), kind);
        let event = self.into_parts(context, kind, seen.clone()).and_then(|parts| parts.into_event(base_path));
        event.map_err(|why| why.into_refused(form, seen))
    }

    fn into_parts(self, context: WireContext, kind: ResponseKind, seen: Seen) -> Result<Parts, Why> {
        self.check_source(&context)?;
        // A certificate that is left out of the judgement would count as "plaintext", and a DENY rule on principals
        // would then miss the caller that it names.
        if context.authentication.as_ref().is_some_and(|a| a.client_cert.is_some())
            || context.identity.as_ref().is_some_and(|i| i.client_cert.is_some())
        {
            return Err(Why::unsupported("client certificates"));
        }
        if self.version.as_deref() == Some("2.0") { self.v2(context, kind, seen) } else { self.v1(context, seen) }
    }

    /// Only HTTP APIs state a version. The others are recognised to be refused by their names.
    fn check_source(&self, context: &WireContext) -> Result<(), Why> {
        match (self.version.as_deref(), self.kind.as_deref()) {
            (Some("1.0" | "2.0"), Some("REQUEST")) => Ok(()),
            (Some("1.0" | "2.0"), _) => Err(Why::event(
                "type is not REQUEST: this looks like the event of an integration; attach the function as an authorizer",
            )),
            (Some(_), _) => Err(Why::unsupported("payload formats other than 1.0 and 2.0")),
            (None, Some("TOKEN")) => Err(Why::unsupported("REST API TOKEN events")),
            (None, Some("REQUEST")) if context.connection_id.is_some() => Err(Why::unsupported("WebSocket API events")),
            (None, Some("REQUEST")) => Err(Why::unsupported("REST API REQUEST events")),
            (None, _) => Err(Why::event("not an authorizer event of API Gateway: neither version nor type")),
        }
    }

    fn v2(self, context: WireContext, kind: ResponseKind, seen: Seen) -> Result<Parts, Why> {
        let http = context.http.unwrap_or_default();
        let raw_path = required(self.raw_path, "rawPath", MAX_PATH)?;
        // Both are the same text; a policy must not be asked about one while the backend routes by the other.
        if http.path.is_some_and(|path| path != raw_path) {
            return Err(not_canonical("rawPath and requestContext.http.path differ"));
        }
        let mut headers = Headers::default();
        for (name, value) in self.headers.map_or_else(Vec::new, |h| h.0) {
            headers.push(name, value)?;
        }
        // Payload format 2.0 moves the cookie header into a list of its own.
        let cookies = self.cookies.unwrap_or_default();
        if !cookies.is_empty() && headers.first("cookie").is_none() {
            headers.push("cookie".to_owned(), cookies.join("; "))?;
        }
        let route = match self.route_key.as_deref() {
            // "GET /reviews/{id}"; `$default` has no pattern.
            Some(key) => key.split_once(' ').map(|(_, pattern)| pattern.to_owned()),
            None => None,
        };
        let arn = required(self.route_arn, "routeArn", MAX_TEXT)?;
        Ok(Parts {
            arn,
            domain: context.domain_name,
            headers,
            // "Duplicate headers are combined with commas" (AWS, payload format 2.0).
            headers_joined: true,
            kind,
            method: http.method,
            parameters: self.path_parameters.map_or_else(Vec::new, |p| p.0),
            path: raw_path,
            query: self.raw_query_string.unwrap_or_default(),
            route,
            seen,
            source_ip: http.source_ip,
        })
    }

    fn v1(self, context: WireContext, seen: Seen) -> Result<Parts, Why> {
        let mut headers = Headers::default();
        let mut headers_joined = false;
        let multi = self.multi_value_headers.map_or_else(Vec::new, |h| h.0);
        // `headers` holds the last line of each name only; it counts where the complete list has nothing.
        for (name, value) in self.headers.map_or_else(Vec::new, |h| h.0) {
            if !multi.iter().any(|(listed, values)| listed.eq_ignore_ascii_case(&name) && !values.is_empty()) {
                headers_joined = true;
                headers.push(name, value)?;
            }
        }
        for (name, values) in multi {
            for value in values {
                headers.push(name.clone(), value)?;
            }
        }
        let single = self.query_string_parameters.map_or_else(Vec::new, |q| q.0);
        let multi = self.multi_value_query_string_parameters.map_or_else(Vec::new, |q| q.0);
        let query = query(single, multi);
        Ok(Parts {
            arn: required(self.method_arn, "methodArn", MAX_TEXT)?,
            domain: context.domain_name,
            headers,
            headers_joined,
            kind: ResponseKind::Iam,
            method: self.http_method,
            parameters: self.path_parameters.map_or_else(Vec::new, |p| p.0),
            path: required(self.path, "path", MAX_PATH)?,
            query,
            route: self.resource.filter(|resource| resource.starts_with('/')),
            seen,
            source_ip: context.identity.unwrap_or_default().source_ip,
        })
    }
}

// === what both formats come to ===

struct Parts {
    arn: String,
    domain: Option<String>,
    headers: Headers,
    /// Whether repeated header lines arrived as one, joined with commas.
    headers_joined: bool,
    kind: ResponseKind,
    method: Option<String>,
    parameters: Vec<(String, String)>,
    path: String,
    query: String,
    /// The route's path pattern.
    route: Option<String>,
    seen: Seen,
    source_ip: Option<String>,
}

/// The base path of an API id, stage and domain.
type BasePath<'a, 'p> = &'a dyn Fn(&str, &str, &str) -> Option<&'p str>;

impl Parts {
    fn into_event(self, base_path: BasePath<'_, '_>) -> Result<Event, Why> {
        let method = required(self.method, "the request method", MAX_TEXT)?;
        if !is_token(&method) {
            return Err(Why::event("the request method is not an HTTP token"));
        }
        if self.seen.api_id.is_empty() || self.seen.stage.is_empty() {
            return Err(Why::missing("requestContext.apiId or requestContext.stage"));
        }
        // The client chooses its Host header; API Gateway says which of the API's domains it came in by.
        let domain = required(self.domain, "requestContext.domainName", MAX_TEXT)?;
        let source_ip = match self.source_ip.as_deref() {
            None => None,
            Some(text) => Some(text.parse::<IpAddr>().map_err(|_| Why::event("sourceIp is not an IP address"))?),
        };
        let base_path = base_path(&self.seen.api_id, &self.seen.stage, &domain);
        let path =
            judged_path(&self.path, &self.seen.stage, &domain, base_path, self.route.as_deref(), &self.parameters)?;
        let path = if self.query.is_empty() { path } else { format!("{path}?{}", self.query) };
        if path.len() > MAX_PATH {
            return Err(Why::too_large(format!(
                "a path of {} bytes with its query, expected at most {MAX_PATH}",
                path.len()
            )));
        }
        let form = match self.kind {
            ResponseKind::Simple => Form::Simple,
            ResponseKind::Iam => Form::Policy { arn: nameable(self.arn)? },
        };
        Ok(Event {
            request: Request {
                method,
                // API Gateway offers its APIs over TLS only.
                scheme: "https".to_owned(),
                host: domain.clone(),
                path,
                path_handling: PathHandling::AsSent,
                headers: self.headers.lines.into_iter().filter(|(name, _)| !is_of_a_proxy(name)).collect(),
                headers_joined: self.headers_joined,
                source: Peer { ip: source_ip, remote_ip: source_ip, principal: None },
                destination_ip: None,
                destination_port: Some(443),
                sni: None,
                client_certificate: None,
                dynamic_metadata: None,
            },
            target: Target::ApiGateway { api_id: self.seen.api_id.clone(), stage: self.seen.stage.clone(), domain },
            form,
            seen: self.seen,
        })
    }
}

/// Headers that only a proxy may write, and that a client writes here: Istio's gateways replace
/// `x-forwarded-client-cert` (`SANITIZE_SET`), and Envoy's edge removes its own `x-envoy-` headers from requests of the
/// outside. A policy must not read in them what the client claims.
fn is_of_a_proxy(name: &str) -> bool {
    name == "x-forwarded-client-cert" || name.starts_with("x-envoy-")
}

/// The header lines of a request, names in lower case, within the limits.
#[derive(Default)]
struct Headers {
    lines: Vec<(String, String)>,
    bytes: usize,
}

impl Headers {
    fn push(&mut self, mut name: String, value: String) -> Result<(), Why> {
        name.make_ascii_lowercase();
        if !is_token(&name) {
            return Err(Why::event("a header name is not an HTTP token"));
        }
        // RFC 9110 section 5.5: CR, LF and NUL are invalid and dangerous in a field value.
        if value.bytes().any(|b| b.is_ascii_control() && b != b'\t') {
            return Err(Why::event("a header value has a control character"));
        }
        self.bytes += name.len() + value.len();
        if self.lines.len() == MAX_HEADERS || self.bytes > MAX_HEADER_BYTES {
            return Err(Why::too_large(format!(
                "more than {MAX_HEADERS} header lines or {MAX_HEADER_BYTES} bytes of them"
            )));
        }
        self.lines.push((name, value));
        Ok(())
    }

    fn first(&self, name: &str) -> Option<&str> {
        self.lines.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// The path that the policies are asked about: without stage and base path, readable in one way only, and the one that
/// the API's route was chosen by. Percent-encoded where no request line could have held it otherwise.
fn judged_path(
    path: &str,
    stage: &str,
    domain: &str,
    base_path: Option<&str>,
    route: Option<&str>,
    parameters: &[(String, String)],
) -> Result<String, Why> {
    // An HTTP API shows a named stage in front of the path, and `$default` not at all. AWS' samples show
    // paths without their stage too, so one that is not there is not missed.
    let stage = if stage == "$default" { "" } else { stage };
    let path = without(path, stage);
    // API mappings are a custom domain's; the generated one has none.
    let base_path = base_path.filter(|_| !domain.contains(".execute-api."));
    let path = without(path, base_path.unwrap_or_default().trim_start_matches('/'));
    authz::path::canonical(path).map_err(|error| not_canonical(&error.to_string()))?;
    match route_path(route, parameters)? {
        // What was taken off may have been the API's own; then this is another path than the one that was routed.
        Some(routed) if routed != path => Err(not_canonical("the path is not what route and pathParameters add up to")),
        _ => Ok(authz::path::encode(path).into_owned()),
    }
}

/// `path` without the segments `first` in front; as it is when it does not begin with them.
fn without<'a>(path: &'a str, first: &str) -> &'a str {
    match path.strip_prefix('/').and_then(|rest| rest.strip_prefix(first)) {
        _ if first.is_empty() => path,
        Some("") => "/",
        Some(rest) if rest.starts_with('/') => rest,
        _ => path,
    }
}

/// The path that a route's pattern and the path parameters add up to, which is the path the backend is routed by.
fn route_path(pattern: Option<&str>, parameters: &[(String, String)]) -> Result<Option<String>, Why> {
    let disagree = || not_canonical("pathParameters are not those of the route");
    let Some(pattern) = pattern else {
        return if parameters.is_empty() { Ok(None) } else { Err(disagree()) };
    };
    let mut used = 0;
    let mut path = String::new();
    for segment in pattern.split('/').skip(1) {
        path.push('/');
        match segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')) {
            None => path.push_str(segment),
            Some(name) => {
                let name = name.strip_suffix('+').unwrap_or(name);
                let (_, value) = parameters.iter().find(|(n, _)| n == name).ok_or_else(disagree)?;
                path.push_str(value);
                used += 1;
            }
        }
    }
    if used == parameters.len() { Ok(Some(path)) } else { Err(disagree()) }
}

/// `arn` if a policy can name exactly it: `*` and `?` in a resource match other requests too, and `${` is a variable.
fn nameable(arn: String) -> Result<String, Why> {
    if !arn.starts_with("arn:") || !arn.contains(":execute-api:") {
        return Err(Why::event("methodArn or routeArn is not the ARN of an API Gateway method"));
    }
    if arn.len() > MAX_ARN {
        return Err(Why::too_large(format!("an ARN of {} bytes, expected at most {MAX_ARN} in a policy", arn.len())));
    }
    if arn.contains(['*', '?']) || arn.contains("${") {
        return Err(not_canonical("the path contains *, ? or ${, which an IAM policy would take for a pattern"));
    }
    Ok(arn)
}

/// The query string of a 1.0 event, which has it decoded and taken apart.
fn query(single: Vec<(String, String)>, multi: Vec<(String, Vec<String>)>) -> String {
    let mut query = String::new();
    let mut push = |name: &str, value: &str| {
        if !query.is_empty() {
            query.push('&');
        }
        encode(name, &mut query);
        query.push('=');
        encode(value, &mut query);
    };
    for (name, value) in &single {
        if !multi.iter().any(|(listed, values)| listed == name && !values.is_empty()) {
            push(name, value);
        }
    }
    for (name, values) in &multi {
        values.iter().for_each(|value| push(name, value));
    }
    query
}

/// Percent-encodes everything but the unreserved characters of RFC 3986 section 2.3.
fn encode(text: &str, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

fn required(value: Option<String>, field: &str, max: usize) -> Result<String, Why> {
    match value {
        Some(text) if text.len() > max => {
            Err(Why::too_large(format!("{field} has {} bytes, expected at most {max}", text.len())))
        }
        Some(text) if !text.is_empty() => Ok(text),
        _ => Err(Why::missing(field)),
    }
}

fn bounded(value: Option<&str>) -> String {
    value.filter(|text| text.len() <= MAX_TEXT).unwrap_or_default().to_owned()
}

fn not_canonical(detail: &str) -> Why {
    Why { reason: Reason::PathNotCanonical, detail: detail.to_owned() }
}

/// `token` of RFC 9110 section 5.6.2: what a method or a header name may consist of.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}
