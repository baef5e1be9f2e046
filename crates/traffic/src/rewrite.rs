//! Changes of path and authority, and redirects.

use http::Uri;
use http::uri::PathAndQuery;
use regex_lite::{Captures, Regex};

use crate::headers;
use crate::re2;
use crate::route::{Head, Picked};
use crate::table::{Action, Redirect, RedirectPort, Rewrite, StringMatch};

/// Of a path and of a Location, in bytes: the `http` crate's own limit of a URI.
const MAX_LENGTH: usize = 65_534;

/// Of `uriRegexRewrite.rewrite`, in bytes.
const MAX_SUBSTITUTION: usize = 1024;

/// At the beginning of [`Redirect::uri`]: the rest replaces the prefix that matched.
const PREFIX: &str = "%PREFIX()%";

/// The path and query after the rewrite of the picked route; `None` when it stays as it is.
///
/// # Errors
/// When what comes out is no path of HTTP.
pub fn path_and_query(picked: &Picked<'_>, head: &Head<'_>) -> Result<Option<String>, String> {
    let Action::Forward(forward) = &picked.route.route.action else {
        return Ok(None);
    };
    let rewritten = if let Some(regex) = &picked.route.path_regex {
        let path = head.path();
        // Envoy: "Replace the entire path, but preserve the query parameters".
        regex.replace_all(path)? + &head.path_and_query[path.len()..]
    } else if let Some(uri) = forward.rewrite.uri.as_deref().filter(|uri| !uri.is_empty()) {
        replace_matched(picked, head, uri)?
    } else {
        return Ok(None);
    };
    if rewritten == head.path_and_query {
        return Ok(None);
    }
    check_path(&rewritten)?;
    Ok(Some(rewritten))
}

/// Envoy's prefix_rewrite: what the route matched of the path is replaced, and the rest stays. That is all of the path
/// for `exact` and `regex`; for a match without `uri`, which is Istio's `prefix: /`, it is the first slash.
fn replace_matched(picked: &Picked<'_>, head: &Head<'_>, with: &str) -> Result<String, String> {
    let path = head.path();
    let length = match picked.uri() {
        Some(StringMatch::Exact(text) | StringMatch::Prefix(text)) => text.len(),
        Some(StringMatch::Regex(_) | StringMatch::Present) => path.len(),
        None => usize::from(path.starts_with('/')),
    };
    let rest = head.path_and_query.get(length..).ok_or("the path is not the one that matched")?;
    Ok(format!("{with}{rest}"))
}

fn check_path(path: &str) -> Result<(), String> {
    let visible = path.bytes().all(|byte| byte > b' ' && byte != 0x7f && byte != b'#');
    if !path.starts_with('/') || !visible || path.len() > MAX_LENGTH || path.parse::<PathAndQuery>().is_err() {
        let shown = without_query(path);
        return Err(format!("the rewrite gives {shown:?}, which is no path of HTTP"));
    }
    Ok(())
}

/// `uriRegexRewrite`, ready to use.
#[derive(Clone, Debug)]
pub(crate) struct PathRegex {
    pattern: Regex,
    substitution: Vec<Piece>,
}

#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    Group(usize),
}

/// Whether a rewrite can be used, for who compiles routes: what its result looks like depends on the request.
///
/// # Errors
/// When its authority is no host, its regular expression none of RE2, or its substitution not one for it.
pub fn check(rewrite: &Rewrite) -> Result<(), String> {
    prepare(rewrite)?;
    headers::checked_authority(rewrite.authority.as_deref().unwrap_or_default())
        .map_err(|found| format!("rewrite: authority: {found}"))?;
    Ok(())
}

/// Prepares the regular expression of a rewrite.
pub(crate) fn prepare(rewrite: &Rewrite) -> Result<Option<PathRegex>, String> {
    let Some((pattern, substitution)) = &rewrite.uri_regex else {
        return Ok(None);
    };
    let pattern = re2::search(pattern).map_err(|error| format!("rewrite: {error}"))?;
    let substitution = parse_substitution(substitution, pattern.captures_len())
        .map_err(|found| format!("rewrite: substitution `{substitution}`: {found}"))?;
    Ok(Some(PathRegex { pattern, substitution }))
}

/// RE2's rewrite strings: `\0` to `\9` are groups, `\\` is a backslash. `groups` counts the whole match.
fn parse_substitution(text: &str, groups: usize) -> Result<Vec<Piece>, String> {
    if text.len() > MAX_SUBSTITUTION {
        return Err(format!("{} bytes: at most {MAX_SUBSTITUTION} are supported", text.len()));
    }
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let text = re2::as_chars(text.as_bytes());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        if char != '\\' {
            literal.push(char);
            continue;
        }
        match chars.next().and_then(|next| if next == '\\' { Some(None) } else { next.to_digit(10).map(Some) }) {
            Some(None) => literal.push('\\'),
            Some(Some(digit)) => {
                let group = usize::try_from(digit).map_err(|_| "a group of one digit")?;
                if group >= groups {
                    return Err(format!("`\\{group}`, but the pattern has {} groups", groups.saturating_sub(1)));
                }
                if !literal.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut literal)));
                }
                pieces.push(Piece::Group(group));
            }
            // RE2: "Rewrite schema error: '\' must be followed by a digit or '\'".
            None => return Err("after `\\` a digit or another `\\` is expected".to_owned()),
        }
    }
    if !literal.is_empty() {
        pieces.push(Piece::Text(literal));
    }
    Ok(pieces)
}

impl PathRegex {
    /// As RE2::GlobalReplace: every match in the path, from the left, that does not overlap the one before it.
    fn replace_all(&self, path: &str) -> Result<String, String> {
        let path = re2::as_chars(path.as_bytes());
        let mut out = String::new();
        let mut end = 0;
        for found in self.pattern.captures_iter(&path) {
            let Some(whole) = found.get(0) else { continue };
            out.push_str(&path[end..whole.start()]);
            self.substitute(&found, &mut out);
            end = whole.end();
            if out.len() > MAX_LENGTH {
                return Err(format!("the rewrite gives more than {MAX_LENGTH} bytes"));
            }
        }
        out.push_str(&path[end..]);
        re2::from_chars(out).ok_or_else(|| "the rewrite gives what is no text".to_owned())
    }

    fn substitute(&self, found: &Captures<'_>, out: &mut String) {
        for piece in &self.substitution {
            match piece {
                Piece::Text(text) => out.push_str(text),
                // A group that took no part is empty.
                Piece::Group(group) => out.push_str(found.get(*group).map_or("", |group| group.as_str())),
            }
        }
    }
}

/// The `Location` of a redirect.
///
/// # Errors
/// When what comes out is no URL.
pub fn location(redirect: &Redirect, picked: &Picked<'_>, head: &Head<'_>) -> Result<String, String> {
    let given = |text: &'_ Option<String>| text.clone().filter(|text| !text.is_empty());
    let scheme = given(&redirect.scheme).unwrap_or_else(|| head.scheme.to_owned());
    let (new_port, keeps_port) = match redirect.port {
        RedirectPort::Unchanged => (None, true),
        RedirectPort::Number(port) => (Some(port), false),
        // Istio: "automatically set to 80 for HTTP and 443 for HTTPS redirects": the one that no URL has to name.
        RedirectPort::FromProtocolDefault => (None, false),
        // Istio: "automatically use the port of the request", which to it is the one that the routes are of.
        RedirectPort::FromRequestPort => (Some(picked.route.port), false),
    };
    // Istio: "Do not put explicit :80 or :443 when its http/https".
    let new_port = new_port.filter(|port| Some(*port) != default_port(&scheme));
    let host = match given(&redirect.authority) {
        Some(host) => host,
        None => {
            let (host, port) = split_port(head.authority);
            // Envoy's processRequestHost: the request's port stays, but for a default port of another scheme.
            let is_stale =
                scheme != head.scheme && port == default_port(head.scheme).map(|port| port.to_string()).as_deref();
            if keeps_port && !is_stale { head.authority.to_owned() } else { host.to_owned() }
        }
    };
    let mut path = match given(&redirect.uri) {
        None => head.path_and_query.to_owned(),
        Some(uri) => match uri.strip_prefix(PREFIX) {
            // Envoy: an empty prefix_rewrite is none.
            Some("") => head.path_and_query.to_owned(),
            Some(with) => replace_matched(picked, head, with)?,
            // Envoy: "The path_redirect query string, if any, takes precedence over the request's query string".
            None if uri.contains('?') => uri,
            None => uri + query_with_mark(head.path_and_query),
        },
    };
    // Envoy's newUri: `if (!absl::StartsWith(final_path, "/"))`.
    if !path.starts_with('/') {
        path.insert(0, '/');
    }
    let port = new_port.map(|port| format!(":{port}")).unwrap_or_default();
    let location = format!("{scheme}://{host}{port}{path}");
    // A Location may have a fragment (RFC 9110, 10.2.2).
    check_path(path.split('#').next().unwrap_or_default())?;
    check_location(&location, &scheme, &format!("{host}{port}"))?;
    Ok(location)
}

/// The begin of an address for people: a query may have a credential in it.
fn without_query(address: &str) -> String {
    address.split('?').next().unwrap_or_default().chars().take(200).collect()
}

fn check_location(location: &str, scheme: &str, authority: &str) -> Result<(), String> {
    // A name before the host (`user@host`) is none that a redirect should ever name.
    let is_whole = |uri: Uri| {
        uri.scheme_str() == Some(scheme)
            && uri.authority().is_some_and(|found| found.as_str() == authority && !authority.contains('@'))
            && uri.host().is_some_and(|host| !host.is_empty())
    };
    let is_ascii = location.bytes().all(|byte| byte.is_ascii_graphic());
    if matches!(scheme, "http" | "https") && is_ascii && location.parse().is_ok_and(is_whole) {
        return Ok(());
    }
    let shown = without_query(location);
    Err(format!("the redirect gives {shown:?}, which is no URL of HTTP"))
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// Host and port; the colons of an IPv6 address stand in brackets.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

fn query_with_mark(path_and_query: &str) -> &str {
    path_and_query.find('?').map_or("", |at| &path_and_query[at..])
}
