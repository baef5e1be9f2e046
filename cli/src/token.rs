//! `causeway token inspect`: what a token says, without believing a word of it.

use std::io::Read as _;
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use authz::Json;
use authz::claims::JsonLimits;
use authz::jwt::{LEEWAY_SECONDS, TokenRefusal, UnverifiedToken};
use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use clap::{Args, Subcommand};
use platform::clock::{Clock, SystemClock};
use serde::Serialize;
use serde_json::Value;

use crate::terminal::{self, Style};

pub(crate) const EXAMPLES: &str = "Examples:
  echo eyJhbGciOiJFUzI1NiJ9.eyJleHAiOjE3OTUxNzYwMDB9.c2ln | causeway token inspect
  echo eyJhbGciOiJFUzI1NiJ9.eyJleHAiOjE3OTUxNzYwMDB9.c2ln | causeway token inspect --now 1795176000 --json

Nothing is verified: anybody can write a token that says anything. The signature is never shown, so that the output
cannot be used as the token. A token given as an argument stays in the shell's history; standard input leaves no trace.
Quotes around it, `Authorization:` and `Bearer` in front of it are left away.

Exit status: 0 whatever the token says; 1 there is none to look at; 2 wrong usage. `problems` of --json is what a script
asks for.";

/// The longest text that is looked at, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// How much of a token is shown; more than is accepted.
const SHOWN: JsonLimits = JsonLimits { depth: 64, members: 100_000 };

/// Base64url with and without padding: what is wrong with a token is said, and the token is shown all the same.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The options of `causeway token`.
#[derive(Args, Debug)]
pub(crate) struct Token {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Show a token's header and claims without trusting them
    #[command(after_help = EXAMPLES)]
    Inspect(Inspect),
}

/// The options of `causeway token inspect`.
#[derive(Args, Debug)]
struct Inspect {
    /// The token; `-`, or nothing, reads it from standard input
    #[arg(value_name = "TOKEN", default_value = "-", hide_default_value = true)]
    token: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// The time to compare with, in seconds since 1970; otherwise it is now
    #[arg(long, value_name = "UNIX")]
    now: Option<u64>,
}

/// What can be said about a token.
#[derive(Serialize)]
struct Report {
    /// Always false.
    verified: bool,
    header: Option<Value>,
    claims: Option<Value>,
    times: Vec<Time>,
    problems: Vec<Problem>,
}

/// A claim that is a moment.
#[derive(Serialize)]
struct Time {
    claim: &'static str,
    unix: u64,
    rfc3339: Option<String>,
    relative: String,
}

/// Why the strict mode would refuse the token.
#[derive(Serialize)]
struct Problem {
    reason: &'static str,
    detail: String,
}

/// Runs `causeway token`.
pub(crate) fn run(command: Token) -> ExitCode {
    let TokenCommand::Inspect(Inspect { token, json, now }) = command.command;
    let text = if token == "-" {
        let mut bytes = Vec::new();
        if let Err(error) = std::io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes) {
            return terminal::failed(&format!("cannot read the token: {error}"));
        }
        String::from_utf8_lossy(&bytes).into_owned()
    } else {
        token
    };
    if text.len() as u64 > MAX_BYTES {
        return terminal::failed(&format!("the token is longer than {MAX_BYTES} bytes"));
    }
    let token = bare(&text);
    if token.is_empty() {
        return terminal::failed("found no token; give it on standard input, or as the argument");
    }
    let report = inspect(token, now.unwrap_or_else(|| SystemClock.unix()));
    if json {
        match serde_json::to_string(&report) {
            Ok(line) => terminal::line(&line),
            Err(error) => return terminal::failed(&format!("cannot write the report: {error}")),
        }
    } else {
        print(&report);
    }
    ExitCode::SUCCESS
}

/// The token itself: what people copy is often the whole header, or a string of a program.
fn bare(text: &str) -> &str {
    let quotes = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | ';');
    let text = text.trim_matches(quotes);
    let text = match text.split_once(':') {
        Some((name, value)) if name.trim_matches(quotes).eq_ignore_ascii_case("authorization") => {
            value.trim_matches(quotes)
        }
        _ => text,
    };
    let (scheme, token) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    if scheme.eq_ignore_ascii_case("bearer") { token.trim() } else { text }
}

fn inspect(token: &str, now: u64) -> Report {
    let mut problems = Vec::new();
    if let Err(TokenRefusal { reason, detail }) = strict(token) {
        problems.push(Problem { reason: reason.as_str(), detail });
    }
    let parts: Vec<&str> = token.split('.').collect();
    // A text without a dot may be a secret of another kind, and the last part of three is the signature.
    let (header, payload) = match parts.as_slice() {
        [header, payload] | [header, payload, _] => (Some(*header), Some(*payload)),
        // The other parts of an encrypted token are no JSON.
        [header, _, _, _, _] => (Some(*header), None),
        _ => (None, None),
    };
    if parts.len() == 5 {
        problems.push(malformed("it has five parts: an encrypted token (JWE), whose claims cannot be shown"));
    }
    let mut shown = |part: Option<&str>, what: &str| {
        part.and_then(|part| read(part).map_err(|why| problems.push(malformed(&format!("{what}: {why}")))).ok())
    };
    let header = shown(header, "header");
    let claims = shown(payload, "payload");
    let mut times = Vec::new();
    for claim in ["iat", "auth_time", "nbf", "exp"] {
        if let Some(unix) = claims.as_ref().and_then(|claims| seconds(claims.get(claim)?)) {
            times.push(Time { claim, unix, rfc3339: rfc3339(unix), relative: relative(unix, now) });
            if claim == "exp" && now > unix.saturating_add(LEEWAY_SECONDS) {
                let detail = format!("token was valid until {unix}, it is {now}");
                problems.push(Problem { reason: authz::Reason::TokenExpired.as_str(), detail });
            }
            if claim == "nbf" && now.saturating_add(LEEWAY_SECONDS) < unix {
                let detail = format!("token is valid from {unix}, it is {now}");
                problems.push(Problem { reason: authz::Reason::TokenNotYetValid.as_str(), detail });
            }
        }
    }
    Report { verified: false, header, claims, times, problems }
}

/// The strict mode's own reader, which stops at the first thing that it refuses.
fn strict(token: &str) -> Result<(), TokenRefusal> {
    UnverifiedToken::parse(token, authz::Mode::Strict).map(drop)
}

fn malformed(detail: &str) -> Problem {
    Problem { reason: authz::Reason::TokenMalformed.as_str(), detail: detail.to_owned() }
}

/// The JSON of one part, in whatever shape it is.
fn read(part: &str) -> Result<Value, String> {
    let bytes = LENIENT.decode(part).map_err(|_| "it is not base64url, and cannot be shown".to_owned())?;
    match Json::parse(&bytes, SHOWN) {
        Ok(json) => Ok(value(&json)),
        // A member twice: the last one is shown, as most readers would have it.
        Err(error) => serde_json::from_slice(&bytes).map_err(|_| format!("{error}, and cannot be shown")),
    }
}

/// [`Json`] as serde_json has it.
fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => (*value).into(),
        Json::Unsigned(value) => (*value).into(),
        Json::Float(value) => (*value).into(),
        Json::String(value) => value.as_str().into(),
        Json::List(values) => values.iter().map(value).collect(),
        Json::Object(members) => members.iter().map(|(name, member)| (name.clone(), value(member))).collect(),
    }
}

/// A moment as the strict mode reads it.
fn seconds(value: &Value) -> Option<u64> {
    // The cast truncates, and what is out of range becomes the end of the range.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let truncated = |seconds: f64| (seconds >= 0.0).then_some(seconds as u64);
    value.as_u64().or_else(|| value.as_f64().and_then(truncated))
}

/// `2026-11-20T12:00:00Z`; nothing beyond the year 9999.
fn rfc3339(unix: u64) -> Option<String> {
    const END: u64 = 253_402_300_800;
    (unix < END).then(|| platform::clock::rfc3339(UNIX_EPOCH + Duration::from_secs(unix)).replace(".000Z", "Z"))
}

/// `in 5 minutes`, `3 days ago`, `now`
fn relative(unix: u64, now: u64) -> String {
    let distance = unix.abs_diff(now);
    let units = [(31_557_600, "year"), (86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")];
    let Some((size, unit)) = units.into_iter().find(|(size, _)| distance >= *size) else { return "now".to_owned() };
    let count = distance / size;
    let plural = if count == 1 { "" } else { "s" };
    if unix > now { format!("in {count} {unit}{plural}") } else { format!("{count} {unit}{plural} ago") }
}

fn print(report: &Report) {
    let style = Style::detect();
    terminal::line(&style.bold("not verified: anybody can write a token that says this"));
    for (title, part) in [("header", &report.header), ("claims", &report.claims)] {
        let Some(part) = part else { continue };
        terminal::line("");
        terminal::line(&style.bold(title));
        match part {
            Value::Object(members) => {
                let width = members.keys().map(|name| visible(name).chars().count()).max().unwrap_or(0).min(24);
                for (name, member) in members {
                    let time = report.times.iter().find(|time| title == "claims" && time.claim == name);
                    let time = time.map_or_else(String::new, |time| {
                        let date = time.rfc3339.as_deref().unwrap_or("beyond the year 9999");
                        style.dim(&format!("  {date}, {}", time.relative))
                    });
                    terminal::line(&format!("  {:width$}  {}{time}", visible(name), visible(&member.to_string())));
                }
            }
            other => terminal::line(&format!("  {}", visible(&other.to_string()))),
        }
    }
    terminal::line("");
    if report.problems.is_empty() {
        terminal::line("strict mode finds nothing wrong with its form and its times");
    } else {
        terminal::line(&style.bold("strict mode refuses it"));
        for Problem { reason, detail } in &report.problems {
            terminal::line(&format!("  {}  {}", style.red(reason), visible(detail)));
        }
    }
}

/// Text of a stranger: nothing in it moves the cursor or turns the writing round.
fn visible(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if hidden(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}
