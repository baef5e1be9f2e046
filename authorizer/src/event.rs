//! What API Gateway sends, turned into the request that `authz` judges.
//!
//! The structures are our own and not those of `aws_lambda_events`: there a header that `http::HeaderMap` refuses fails
//! the whole event (API Gateway then answers 500), and its authorizer types could not read AWS' own sample
//! (awslabs/aws-lambda-rust-runtime#853, #863). Here every value is a plain string with a limit, what is not needed is
//! skipped, and what is odd becomes a [`Refused`] with a word for it: never a crash, never an allow.
//!
//! | event | recognised by | module |
//! |---|---|---|
//! | HTTP API, payload format 1.0 | `version` 1.0, `type` REQUEST | `http_v1` |
//! | HTTP API, payload format 2.0 | `version` 2.0, `type` REQUEST | `http_v2` |
//! | REST API, REQUEST | no `version`, `type` REQUEST | `rest` |
//! | REST API, TOKEN | no `version`, `type` TOKEN | `token` |
//! | WebSocket API, `$connect` | as REST, and a connection or an event type in the context | `websocket` |

mod arn;
mod certificate;
mod headers;
mod http_v1;
mod http_v2;
mod parts;
mod path;
mod refused;
mod rest;
mod token;
mod websocket;
mod wire;

use authz::{Policies, Request, Target};

pub use refused::Refused;
use refused::Why;
use wire::{Context, Wire};

/// The largest event that is read, in bytes. API Gateway caps request line and headers at 10,240 bytes, which an event
/// repeats a few times; a client certificate adds some kilobytes.
pub const MAX_EVENT: usize = 256 * 1024;
/// The most bytes of a path with its query.
const MAX_PATH: usize = 16 * 1024;
/// The most bytes of any other text that is taken from an event.
const MAX_TEXT: usize = 1024;

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
    /// An IAM policy.
    Policy {
        /// The `routeArn` or `methodArn` of the event.
        arn: String,
        /// Who reads it.
        api: Api,
    },
}

/// The kinds of APIs whose answers differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// An HTTP API.
    Http,
    /// A REST API, which has usage plans.
    Rest,
    /// A WebSocket API, which takes 8 KB.
    WebSocket,
}

/// The answer form that an authorizer with payload format 2.0 is configured for (`enableSimpleResponses`); the event
/// does not say. All others take a policy.
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
    /// `requestContext.apiId`, or that of the ARN.
    pub api_id: String,
    /// `requestContext.stage`, or that of the ARN.
    pub stage: String,
}

/// What it takes to read an event.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// They say what a custom domain puts in front of the API's own paths.
    pub policies: &'a Policies,
    /// The answer to payload format 2.0.
    pub response: ResponseKind,
    /// The header, in lower case, whose value is the token of a TOKEN event.
    pub token_header: &'a str,
    /// Seconds since 1970.
    pub now: u64,
}

/// The header that a TOKEN authorizer usually reads.
pub const TOKEN_HEADER: &str = "authorization";

impl<'a> Reading<'a> {
    /// With the defaults.
    pub fn new(policies: &'a Policies, now: u64) -> Self {
        Self { policies, response: ResponseKind::default(), token_header: TOKEN_HEADER, now }
    }

    /// What stands in front of the API's own paths. API mappings are a custom domain's; the generated one has none.
    fn base_path(&self, seen: &Seen, domain: &str) -> &'a str {
        if domain.contains(".execute-api.") {
            return "";
        }
        let gateway = self.policies.api_gateway(&seen.api_id, &seen.stage, domain);
        gateway.and_then(|gateway| gateway.base_path).unwrap_or_default().trim_start_matches('/')
    }

    /// Why a path is refused, for whoever runs this: a document that is missing or wrong comes before the client's fault.
    fn blame(&self, why: Why, seen: &Seen, domain: &str) -> Why {
        let gateway = self.policies.api_gateway(&seen.api_id, &seen.stage, domain);
        why.about_path(gateway, self.policies.uncovered(&seen.api_id, &seen.stage, domain))
    }
}

impl Event {
    /// Reads an event.
    ///
    /// # Errors
    /// [`Refused`] for anything but a complete authorizer event of API Gateway.
    pub fn parse(json: &str, reading: &Reading<'_>) -> Result<Self, Box<Refused>> {
        if json.len() > MAX_EVENT {
            // Too large to look into, so the form is a guess; a wrong one makes API Gateway answer 500, not 200.
            let why = Why::too_large(format!("an event of {} bytes, expected at most {MAX_EVENT}", json.len()));
            return Err(why.into_refused(Form::Simple, Seen::default()));
        }
        match serde_json::from_str::<Wire>(json) {
            Ok(wire) => read(wire, reading),
            Err(error) => {
                let (form, seen) = refused::probe(json, reading.response);
                let detail = format!("not an authorizer event of API Gateway: {}", refused::position(&error));
                Err(Why::event(detail).into_refused(form, seen))
            }
        }
    }
}

/// The answer form for an event that could not be read because of a fault of ours.
pub fn form_of_unread(json: &str, kind: ResponseKind) -> Form {
    refused::probe(json, kind).0
}

/// Who sent an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    HttpV1,
    HttpV2,
    Rest,
    Token,
    WebSocket,
}

fn source(wire: &Wire, context: &Context) -> Result<Source, Why> {
    let connects =
        context.connection_id.is_some() || context.event_type.is_some() || context.message_direction.is_some();
    match (wire.version.as_deref(), wire.kind.as_deref()) {
        (Some("1.0"), Some("REQUEST")) => Ok(Source::HttpV1),
        (Some("2.0"), Some("REQUEST")) => Ok(Source::HttpV2),
        (Some("1.0" | "2.0"), _) => Err(Why::event(
            "type is not REQUEST: this looks like the event of an integration; attach the function as an authorizer",
        )),
        (Some(_), _) => Err(Why::event("version is neither 1.0 nor 2.0, the payload formats of HTTP APIs")),
        (None, Some("TOKEN")) => Ok(Source::Token),
        (None, Some("REQUEST")) if connects || context.route_key.is_some() => Ok(Source::WebSocket),
        (None, Some("REQUEST")) => Ok(Source::Rest),
        (None, _) => Err(Why::event("not an authorizer event of API Gateway: no type of REQUEST or TOKEN")),
    }
}

fn read(mut wire: Wire, reading: &Reading<'_>) -> Result<Event, Box<Refused>> {
    let context = wire.request_context.take().unwrap_or_default();
    let mut seen = Seen {
        request_id: bounded(context.request_id.as_deref()),
        api_id: bounded(context.api_id.as_deref()),
        stage: bounded(context.stage.as_deref()),
    };
    let arn = (wire.method_arn.is_some(), wire.method_arn.as_deref().or(wire.route_arn.as_deref()));
    let form = refused::form(arn, wire.version.as_deref(), wire.kind.is_some(), reading.response);
    let parts = source(&wire, &context).and_then(|source| match source {
        Source::HttpV1 => http_v1::parts(wire, context, &seen, reading),
        Source::HttpV2 => http_v2::parts(wire, context, &seen, reading),
        Source::Rest => rest::parts(wire, context, &seen, reading),
        Source::Token => token::parts(wire, &mut seen, reading),
        Source::WebSocket => websocket::parts(wire, context, &seen, reading),
    });
    match parts.and_then(|parts| parts.into_event(&seen)) {
        Ok((request, target, form)) => Ok(Event { request, target, form, seen }),
        Err(why) => Err(why.into_refused(form, seen)),
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
