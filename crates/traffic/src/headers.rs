//! Changes of headers.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::header_value::{Template, Values};
use crate::route::Line;
use crate::table::{Action, HeaderChanges, Route, Weighted};

/// Headers that are about the connection or about where a message ends (RFC 9110, 7.6.1; RFC 9112, 6). Who changes
/// them changes where one request ends and the next one begins.
const FRAMING: [&str; 9] = [
    "connection",
    "content-length",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A [`HeaderChanges`] that is ready to use.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, Template)>,
    add: Vec<(HeaderName, Template)>,
    authority: Option<String>,
}

/// What is changed.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Side {
    Request,
    Response,
}

impl Changes {
    /// Prepares changes of a request.
    ///
    /// # Errors
    /// When a name or a value is not one of HTTP, a value has a command of Envoy that is not supported, or a header is
    /// one that must not be changed.
    pub fn new(from: &HeaderChanges) -> Result<Changes, String> {
        Changes::prepare(&[from], Side::Request)
    }

    /// Prepares changes of an answer: as [`Changes::new`], but there is no Host to change.
    ///
    /// # Errors
    /// As [`Changes::new`].
    pub fn for_response(from: &HeaderChanges) -> Result<Changes, String> {
        Changes::prepare(&[from], Side::Response)
    }

    /// Several as one: first everything that any of them removes, then what they set, then what they add.
    fn prepare(from: &[&HeaderChanges], side: Side) -> Result<Changes, String> {
        let mut changes = Changes::default();
        let (mut set_authority, mut added_authority) = (None, None);
        for level in from {
            for name in &level.remove {
                if is_authority(name) {
                    // Istio: "cannot set Host header", and `dropInternal` for those that slip through.
                    return Err(format!("header `{name}` must not be removed"));
                }
                changes.remove.push(header_name(name)?);
            }
            for (values, out, authority) in [
                (&level.set, &mut changes.set, &mut set_authority),
                (&level.add, &mut changes.add, &mut added_authority),
            ] {
                for (name, value) in values {
                    if is_authority(name) {
                        if side == Side::Response {
                            return Err(format!("header `{name}` of an answer cannot be set"));
                        }
                        authority.get_or_insert(checked_authority(value)?);
                        continue;
                    }
                    let template = Template::new(value).map_err(|found| format!("header `{name}`: {found}"))?;
                    if side == Side::Request && template.is_about_response() {
                        return Err(format!("header `{name}` of a request: `%RESP%` is of an answer"));
                    }
                    out.push((header_name(name)?, template));
                }
            }
        }
        // Istio: "If authority is set in 'add' and 'set', pick the one from 'set'".
        changes.authority = set_authority.or(added_authority).filter(|authority: &String| !authority.is_empty());
        Ok(changes)
    }

    /// Applies it, where the request line is not known: `%REQ(:path)%` and the like are empty. `Host`, pseudo headers
    /// and what frames the message are left alone.
    pub fn apply(&self, headers: &mut HeaderMap) {
        self.apply_to_request(headers, None);
    }

    /// Applies it to the headers of a request. `line` is as the client wrote it, before any rewrite.
    pub fn apply_to_request(&self, headers: &mut HeaderMap, line: Option<&Line<'_>>) {
        self.apply_as(Side::Request, headers, line, None);
    }

    /// Applies it to the headers of an answer; `line` and `request` are of the request as it was sent on.
    pub fn apply_to_response(&self, headers: &mut HeaderMap, line: Option<&Line<'_>>, request: Option<&HeaderMap>) {
        self.apply_as(Side::Response, headers, line, request);
    }

    fn apply_as(&self, side: Side, headers: &mut HeaderMap, line: Option<&Line<'_>>, request: Option<&HeaderMap>) {
        // Envoy's HeaderParser::evaluateHeaders: "Removing headers in the headers_to_remove_ list first makes
        // remove-before-add the default behavior as expected by users."
        for name in &self.remove {
            headers.remove(name);
        }
        // All values are made before the first is set: "Only after all the formatters produced the new values of the
        // headers, the headers are set."
        let (set, add) = {
            let values = match side {
                Side::Request => Values { line, request: Some(headers), response: None },
                Side::Response => Values { line, request, response: Some(headers) },
            };
            (evaluate(&self.set, &values), evaluate(&self.add, &values))
        };
        // "First overwrite all headers which need to be overwritten. Now add headers which should be added."
        for (name, value) in set {
            headers.insert(name, value);
        }
        for (name, value) in add {
            headers.append(name, value);
        }
    }

    /// The Host that the request gets: Istio makes `host` and `:authority` in `set` and `add` Envoy's
    /// `host_rewrite_literal`.
    pub fn authority(&self) -> Option<&str> {
        self.authority.as_deref()
    }

    fn removes(&self, name: &HeaderName) -> bool {
        self.remove.contains(name)
    }

    /// True when it does nothing.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty() && self.authority.is_none()
    }
}

/// All that a route does to the headers of the requests for one of its destinations, and to their answers.
#[derive(Clone, Debug, Default)]
pub struct RouteChanges {
    request: Vec<Changes>,
    response: Vec<Changes>,
    authority: Option<String>,
}

impl RouteChanges {
    pub(crate) const NONE: RouteChanges = RouteChanges { request: Vec::new(), response: Vec::new(), authority: None };

    /// Prepares the changes of `route`, with those of a destination where there is one.
    pub(crate) fn new(route: &Route, destination: Option<&Weighted>) -> Result<RouteChanges, String> {
        let alone = HeaderChanges::default();
        let request = [&route.headers.request, destination.map_or(&alone, |weighted| &weighted.headers.request)];
        let response = [&route.headers.response, destination.map_or(&alone, |weighted| &weighted.headers.response)];
        let is_one_of_many = matches!(&route.action, Action::Forward(forward) if forward.destinations.len() > 1)
            && destination.is_some();
        let levels = |from: [&HeaderChanges; 2], side| {
            if is_one_of_many {
                // Envoy's WeightedClusterEntry::finalizeRequestHeaders: the destination's before the route's, so that
                // the route's `set` wins.
                Ok(vec![Changes::prepare(&[from[1]], side)?, Changes::prepare(&[from[0]], side)?])
            } else {
                // Istio's processDestination appends those of the only destination to those of the route, so that the
                // destination's `set` wins.
                Ok::<_, String>(vec![Changes::prepare(&from, side)?])
            }
        };
        let rewrite = match &route.action {
            Action::Forward(forward) => forward.rewrite.authority.as_deref().filter(|authority| !authority.is_empty()),
            Action::Redirect(_) | Action::Direct(_) => None,
        };
        // `rewrite.authority` before the route's headers before the destination's: Istio's applyHTTPRouteDestination
        // and "we only override if the top level rewrite is not set".
        let authority = match rewrite {
            Some(authority) => {
                Some(checked_authority(authority).map_err(|found| format!("rewrite: authority: {found}"))?)
            }
            None => {
                let of_route = Changes::prepare(&[request[0]], Side::Request)?.authority;
                of_route.or(Changes::prepare(&[request[1]], Side::Request)?.authority)
            }
        };
        Ok(RouteChanges {
            request: levels(request, Side::Request)?,
            response: levels(response, Side::Response)?,
            authority,
        })
    }

    /// Whether the route takes this header out of its requests, whoever put it there.
    pub fn removes(&self, name: &HeaderName) -> bool {
        self.request.iter().any(|level| level.removes(name))
    }

    /// Changes the headers of a request; `line` is as the client wrote it, before any rewrite: Envoy changes headers
    /// before authority and path.
    pub fn request(&self, headers: &mut HeaderMap, line: &Line<'_>) {
        let mut line = *line;
        for changes in &self.request {
            changes.apply_to_request(headers, Some(&line));
            // Envoy sets the Host of one of many destinations before it looks at the route's headers.
            line.authority = changes.authority().unwrap_or(line.authority);
        }
    }

    /// Changes the headers of the answer; `line` and `request` are of the request as it was sent on, after all changes.
    pub fn response(&self, headers: &mut HeaderMap, line: &Line<'_>, request: &HeaderMap) {
        for changes in &self.response {
            changes.apply_to_response(headers, Some(line), Some(request));
        }
    }

    /// The Host that the request gets, by `rewrite.authority` or by changes of `host` and `:authority`.
    pub fn authority(&self) -> Option<&str> {
        self.authority.as_deref()
    }

    /// True when the answer stays as it is.
    pub fn keeps_response(&self) -> bool {
        self.response.iter().all(Changes::is_empty)
    }
}

/// The new values; one that is empty changes nothing, since Istio leaves `keep_empty_value` out.
fn evaluate<'a>(templates: &'a [(HeaderName, Template)], values: &Values<'_>) -> Vec<(&'a HeaderName, HeaderValue)> {
    templates.iter().filter_map(|(name, template)| Some((name, template.value(values)?))).collect()
}

fn is_authority(name: &str) -> bool {
    // Istio's isAuthorityHeader.
    name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
}

/// A Host for requests; an empty one is none.
pub(crate) fn checked_authority(value: &str) -> Result<String, String> {
    let is_host = |authority: http::uri::Authority| authority.as_str() == value && !value.contains('@');
    if value.is_empty() || value.parse().is_ok_and(is_host) {
        return Ok(value.to_owned());
    }
    Err(format!("`{value}` is no host with or without a port"))
}

fn header_name(name: &str) -> Result<HeaderName, String> {
    if name.starts_with(':') {
        // Envoy: ":-prefixed or host headers may not be modified".
        return Err(format!("header `{name}` must not be changed"));
    }
    let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is no name of a header"))?;
    if FRAMING.contains(&parsed.as_str()) {
        return Err(format!("header `{name}` must not be changed: it is about the connection or the message's length"));
    }
    Ok(parsed)
}
