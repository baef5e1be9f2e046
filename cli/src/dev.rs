//! `causeway dev`: the local stack on fixed ports. Its parts are shared with `demo` and the end-to-end tests.

pub mod gateway;
pub mod http;
pub mod mesh;
pub mod seeds;
pub mod stack;

use std::process::ExitCode;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use platform::env::{ProcessEnv, Reader};
use platform::shadow_mode;

use crate::terminal::{self, Style};
use stack::{API_DOMAIN, Ports, RATINGS_URL, Stack};

pub(crate) const EXAMPLES: &str = "Examples that run until ctrl-c:
  causeway dev              # start the stack, print curl lines, log decisions
  causeway dev --any-port   # the same on free ports, beside another one
  causeway dev --json       # both as JSON, one object a line

CAUSEWAY_SHADOW_WORKLOADS and CAUSEWAY_SHADOW_UNTIL put authorizer and adapter into shadow mode, as they do on AWS: see
docs/migration.md.

Exit status: 0 ended by ctrl-c; 1 a port is taken, or a part has ended; 2 wrong usage.";

/// The options of `causeway dev`.
#[derive(Args, Debug)]
pub struct Dev {
    /// Take any free ports instead of the fixed ones
    #[arg(long)]
    any_port: bool,
    /// Print one JSON object a line: the curl lines, then the decisions
    #[arg(long)]
    json: bool,
}

/// Runs `causeway dev`.
pub(crate) async fn run(command: Dev) -> ExitCode {
    let style = Style::detect();
    let json = command.json;
    let lines: stack::Lines = Arc::new(move |part, line| terminal::line(&logged(part, line, json, style)));
    let ports = if command.any_port { Ports::default() } else { Ports::FIXED };
    let shadow = match shadow_mode::from_env(&Reader::new(&ProcessEnv)) {
        Ok(shadow) => shadow,
        Err(error) => return terminal::refused(&[error.to_string()]),
    };
    let mut stack = match Stack::start_in_shadow_mode(ports, lines, shadow).await {
        Ok(stack) => stack,
        Err(error @ stack::StackError::Bind { .. }) => {
            return terminal::failed(&format!("{error}; end what listens there, or use --any-port"));
        }
        Err(error) => return terminal::failed(&error.to_string()),
    };
    print_curl_lines(&stack, json, style);
    tokio::select! {
        _ = tokio::signal::ctrl_c() => ExitCode::SUCCESS,
        () = stack.ended() => terminal::failed("a part of the stack has ended"),
    }
}

/// A line that a part logs; most are JSON.
fn logged(part: &str, line: &str, json: bool, style: Style) -> String {
    if !json {
        return format!("{} {line}", style.dim(&format!("{part:>15}")));
    }
    let entry: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| line.into());
    serde_json::json!({"part": part, "entry": entry}).to_string()
}

fn print_curl_lines(stack: &Stack, json: bool, style: Style) {
    let Stack { api, issuer, proxy, ingress, .. } = stack;
    let (secret, key, revoked) = (stack.reader_secret.expose(), stack.partner_key.text(), stack.revoked_key.text());
    let sections = [
        (
            "a token (its client secret is new at every start)",
            format!(
                "TOKEN=$(curl -s -u reader:{secret} -d grant_type=client_credentials http://{issuer}/oauth2/token | sed 's/.*\"access_token\":\"\\([^\"]*\\)\".*/\\1/')"
            ),
        ),
        (
            "the page: 200",
            format!("curl -i -H 'host: {API_DOMAIN}' -H \"authorization: Bearer $TOKEN\" http://{api}/productpage"),
        ),
        ("without a token: 401", format!("curl -i -H 'host: {API_DOMAIN}' http://{api}/productpage")),
        (
            "with an API key: 200",
            format!("curl -i -H 'host: {API_DOMAIN}' -H 'x-api-key: {}' http://{api}/productpage", key.expose()),
        ),
        (
            "reviews, whose function calls ratings in the mesh: 200",
            format!("curl -i -H 'host: {API_DOMAIN}' -H \"authorization: Bearer $TOKEN\" http://{api}/reviews/0"),
        ),
        (
            "a path trick: 403",
            format!(
                "curl -i --path-as-is -H 'host: {API_DOMAIN}' -H \"authorization: Bearer $TOKEN\" http://{api}/reviews/../admin"
            ),
        ),
        (
            "what a legacy function does: plain HTTP through the extension",
            format!("curl -i -x http://{proxy} {RATINGS_URL}"),
        ),
        (
            "the mesh with an API key: 200",
            format!("curl -i -H 'x-api-key: {}' http://{ingress}/ratings/0", key.expose()),
        ),
        (
            "the mesh with a revoked key: 401",
            format!("curl -i -H 'x-api-key: {}' http://{ingress}/ratings/0", revoked.expose()),
        ),
        (
            "the clients of the issuer, as its administrator: 200",
            format!(
                "curl -i -H \"authorization: Bearer $(curl -s -u admin:{} -d grant_type=client_credentials http://{issuer}/oauth2/token | sed 's/.*\"access_token\":\"\\([^\"]*\\)\".*/\\1/')\" http://{issuer}/v1/clients",
                stack.admin_secret.expose()
            ),
        ),
        (
            "the issuer's documents",
            format!("curl -s http://{issuer}/.well-known/openid-configuration http://{issuer}/jwks.json"),
        ),
    ];
    for (what, line) in sections {
        if json {
            terminal::line(&serde_json::json!({"shows": what, "command": line}).to_string());
            continue;
        }
        terminal::line(&format!("{}\n  {line}\n", style.bold(&format!("# {what}"))));
    }
    if json {
        return;
    }
    terminal::line(&style.bold("# decisions, as they happen (ctrl-c ends it)"));
}

/// The `authorization` header of client_secret_basic.
///
/// RFC 6749 section 2.3.1: "The client identifier is encoded using the application/x-www-form-urlencoded encoding
/// algorithm", and so is the secret, before both go into HTTP Basic.
pub fn basic_credentials(client_id: &str, secret: &str) -> String {
    let form = |text| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    format!("Basic {}", STANDARD.encode(format!("{}:{}", form(client_id), form(secret))))
}
