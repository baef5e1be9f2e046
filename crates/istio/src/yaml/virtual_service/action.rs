//! What becomes of the requests of a route, apart from its destinations.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::check::is_host;
use super::super::nearest::{one_of, quoted};
use super::super::read::{At, Mapping};
use super::super::regex::regex;
use crate::{HttpDirectResponse, HttpRedirect, HttpRewrite, RedirectPort, RegexRewrite};

/// Longest body of an answer, in bytes: where Istio begins to warn.
const MAX_BODY: usize = 100 * 1024;
/// What older releases of Istio took at the beginning of `uri`, from their own documents alone.
const OLD_PREFIX: &str = "%PREFIX()%";
/// The redirects that Istio makes; it drops routes with others.
const CODES: &[u16] = &[301, 302, 303, 307, 308];
const DERIVED: &[(&str, RedirectPort)] = &[
    ("FROM_PROTOCOL_DEFAULT", RedirectPort::FromProtocolDefault),
    ("FROM_REQUEST_PORT", RedirectPort::FromRequestPort),
];
const SCHEMES: &[(&str, &str)] = &[("http", "http"), ("https", "https")];

pub(super) fn redirect(at: &At<'_>) -> Option<HttpRedirect> {
    at.mapping(&[], |fields| {
        let uri = fields.field("uri").and_then(|at| path(&at));
        let prefix_rewrite = fields.field("prefixRewrite").and_then(|at| line(&at));
        // Istio: "redirect may only specify one of uri or prefix_rewrite".
        if fields.has("uri") && fields.has("prefixRewrite") {
            fields.at.error("`uri` and `prefixRewrite` exclude each other; keep one");
        }
        let authority = fields.field("authority").and_then(|at| authority(&at));
        let number = fields.field("port").map(|at| at.port().map(RedirectPort::Number));
        let derived = fields.field("derivePort").map(|at| at.word(DERIVED, &[]));
        if number.is_some() && derived.is_some() {
            fields.at.error("`port` and `derivePort` exclude each other; keep one");
        }
        let scheme = fields.field("scheme").and_then(|at| at.word(SCHEMES, &[])).map(str::to_owned);
        let code = match fields.field("redirectCode") {
            None => Some(301),
            Some(at) => code(&at),
        };
        // Istio: "redirect must specify URI, authority, scheme, or port".
        let parts = ["uri", "prefixRewrite", "authority", "scheme", "port", "derivePort"];
        if !parts.iter().any(|name| fields.has(name)) {
            fields.at.error(format!("expected one of the fields {}", one_of(parts)));
        }
        let port = number.or(derived).flatten();
        Some(HttpRedirect { uri, prefix_rewrite, authority, port, scheme, code: code? })
    })
}

fn code(at: &At<'_>) -> Option<u16> {
    let number = at.number()?;
    let code = CODES.iter().copied().find(|code| u32::from(*code) == number);
    if code.is_none() {
        at.error(format!("expected 301, 302, 303, 307 or 308, found {number}"));
    }
    code
}

pub(super) fn direct_response(at: &At<'_>) -> Option<HttpDirectResponse> {
    at.mapping(&[], |fields| {
        let status = fields.required("status").and_then(|at| status(&at));
        let body = match fields.field("body") {
            None => Some(Vec::new()),
            Some(at) => body(&at),
        };
        Some(HttpDirectResponse { status: status?, body: body? })
    })
}

/// Istio: "HTTP status is not in range 200-599".
pub(super) fn status(at: &At<'_>) -> Option<u16> {
    let number = at.number()?;
    let status = u16::try_from(number).ok().filter(|status| (200..=599).contains(status));
    if status.is_none() {
        at.error(format!("expected a status from 200 to 599, found {number}"));
    }
    status
}

fn body(at: &At<'_>) -> Option<Vec<u8>> {
    let body = at.mapping(&[], |fields| {
        let text = fields.field("string").map(|at| at.string().map(String::into_bytes));
        let bytes = fields.field("bytes").map(|at| bytes(&at));
        if text.is_some() && bytes.is_some() {
            fields.at.error("`string` and `bytes` exclude each other; keep one");
        }
        text.or(bytes).unwrap_or(Some(Vec::new()))
    })?;
    if body.len() > MAX_BODY {
        at.error(format!("expected a body of at most {MAX_BODY} bytes, found {}", body.len()));
        return None;
    }
    Some(body)
}

fn bytes(at: &At<'_>) -> Option<Vec<u8>> {
    let text = at.string()?;
    let bytes = STANDARD.decode(text).ok();
    if bytes.is_none() {
        at.error("expected bytes in base64 (RFC 4648 section 4)");
    }
    bytes
}

pub(super) fn rewrite(at: &At<'_>) -> Option<HttpRewrite> {
    at.mapping(&[], |fields| {
        let uri = fields.field("uri").and_then(|at| line(&at));
        let uri_regex = fields.field("uriRegexRewrite").and_then(|at| at.mapping(&[], regex_rewrite));
        let authority = fields.field("authority").and_then(|at| authority(&at));
        // Istio: "rewrite may only contain one of URI or UriRegexRewrite".
        if fields.has("uri") && fields.has("uriRegexRewrite") {
            fields.at.error("`uri` and `uriRegexRewrite` exclude each other; keep one");
        }
        let parts = ["uri", "uriRegexRewrite", "authority"];
        if !parts.iter().any(|name| fields.has(name)) {
            fields.at.error(format!("expected one of the fields {}", one_of(parts)));
        }
        Some(HttpRewrite { uri, uri_regex, authority })
    })
}

/// Istio: "UriRegexRewrite requires both Rewrite and Match fields to be specified". Envoy refuses a substitution that
/// names a group that is not there, and a backslash that stands for nothing.
fn regex_rewrite(fields: &mut Mapping<'_>) -> Option<RegexRewrite> {
    let pattern = fields.required("match").and_then(|at| regex(&at));
    let rewrite = fields.required("rewrite");
    let substitution = rewrite.as_ref().and_then(line);
    let (pattern, substitution) = (pattern?, substitution?);
    let groups = regex_lite::Regex::new(&pattern).map_or(0, |regex| regex.captures_len() - 1);
    if let (Some(at), Err(message)) = (rewrite, check_substitution(&substitution, groups)) {
        at.error(message);
    }
    Some(RegexRewrite { pattern, substitution })
}

/// RE2's form of a substitution: `\0` to `\9` and `\\`.
fn check_substitution(text: &str, groups: usize) -> Result<(), String> {
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        if next != '\\' {
            continue;
        }
        match rest.next() {
            Some('\\') => {}
            Some(digit) if digit.is_ascii_digit() => {
                let group = digit.to_digit(10).and_then(|group| usize::try_from(group).ok()).unwrap_or_default();
                if group > groups {
                    return Err(format!("`\\{group}` names a group that `match` has not; it has {groups}"));
                }
            }
            _ => return Err("expected a digit or a backslash behind each backslash".to_owned()),
        }
    }
    Ok(())
}

/// The path of a redirect.
fn path(at: &At<'_>) -> Option<String> {
    let path = line(at)?;
    if path.starts_with(OLD_PREFIX) {
        at.error(format!("`{OLD_PREFIX}` is taken literally by Istio; write the rest as `prefixRewrite`"));
    }
    Some(path)
}

/// A text that becomes a part of a request's or an answer's head.
fn line(at: &At<'_>) -> Option<String> {
    let text = at.non_empty_string()?;
    if text.chars().any(|c| c.is_control() || c == ' ') {
        at.error("expected a text without spaces and control characters");
        return None;
    }
    Some(text)
}

/// A host, and perhaps a port.
fn authority(at: &At<'_>) -> Option<String> {
    let text = at.non_empty_string()?;
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (text.as_str(), None),
    };
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_fits = literal.map_or(is_host(host, false), |ip| ip.parse::<std::net::Ipv6Addr>().is_ok());
    let port_fits = port.is_none_or(|port| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if !host_fits || !port_fits {
        at.error(format!("expected a host, perhaps with a port, found {}", quoted(&text)));
        return None;
    }
    Some(text)
}
