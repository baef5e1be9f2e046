//! Which route a request takes.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};

use crate::headers::RouteChanges;
use crate::rewrite::{self, PathRegex};
use crate::string_match::Matcher;
use crate::table::{Action, Match, Protocol, Route, StringMatch, VirtualHost};

/// What a route can look at.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a Method,
    /// `http`, or `https` where the client's TLS was ended here.
    pub scheme: &'a str,
    /// The Host as the client wrote it, with its port if it has one.
    pub authority: &'a str,
    /// Path and query.
    pub path_and_query: &'a str,
    /// The headers.
    pub headers: &'a HeaderMap,
}

/// A [`Head`] without the headers: what `%REQ(:path)%` and the like stand for.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// As [`Head::method`].
    pub method: &'a Method,
    /// As [`Head::scheme`].
    pub scheme: &'a str,
    /// As [`Head::authority`].
    pub authority: &'a str,
    /// As [`Head::path_and_query`].
    pub path_and_query: &'a str,
}

impl<'a> Head<'a> {
    /// All but the headers.
    pub fn line(&self) -> Line<'a> {
        Line {
            method: self.method,
            scheme: self.scheme,
            authority: self.authority,
            path_and_query: self.path_and_query,
        }
    }

    /// The path: Envoy's PathUtil::removeQueryAndFragment.
    pub(crate) fn path(&self) -> &'a str {
        self.path_and_query.split(['?', '#']).next().unwrap_or_default()
    }
}

/// The routes of a virtual host, ready to use.
#[derive(Clone, Debug)]
pub struct Routes {
    routes: Vec<PreparedRoute>,
    protocol: Protocol,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct PreparedRoute {
    /// As compiled.
    pub route: Route,
    /// Those that this workload can match; `None` when the route has none, which matches everything.
    matches: Option<Vec<PreparedMatch>>,
    /// One for each destination; the route's alone where it has none.
    changes: Vec<RouteChanges>,
    pub(crate) path_regex: Option<PathRegex>,
    /// Of the virtual host.
    pub(crate) port: u16,
}

/// A route, and which of its matches matched: a rewrite of the prefix needs it.
#[derive(Clone, Copy, Debug)]
pub struct Picked<'a> {
    /// The route.
    pub route: &'a PreparedRoute,
    /// The index in [`Route::matches`]; absent when there are none.
    pub matched: Option<usize>,
}

impl Picked<'_> {
    /// What the match says about the path.
    pub(crate) fn uri(&self) -> Option<&StringMatch> {
        self.matched.and_then(|index| self.route.route.matches.get(index)).and_then(|found| found.uri.as_ref())
    }
}

impl Routes {
    /// Prepares the routes of a host for a workload with `labels`: what belongs to other workloads is left out, and
    /// regular expressions, changes of headers and rewrites are checked.
    ///
    /// # Errors
    /// When a part of a route cannot be used; the message names the route.
    pub fn new(host: VirtualHost, labels: &[(String, String)]) -> Result<Routes, String> {
        let (port, protocol) = (host.port, host.protocol);
        let mut routes = Vec::with_capacity(host.routes.len());
        for route in host.routes {
            let name = route.name.clone();
            let prepared =
                PreparedRoute::new(route, port, labels).map_err(|found| format!("route `{name}`: {found}"))?;
            // Matches of other workloads alone: Istio's TranslateRoute returns nothing.
            if prepared.matches.as_ref().is_none_or(|matches| !matches.is_empty()) {
                routes.push(prepared);
            }
        }
        Ok(Routes { routes, protocol })
    }

    /// The first route that matches; `None` is Envoy's 404.
    pub fn pick(&self, head: &Head<'_>) -> Option<Picked<'_>> {
        let path = head.path();
        // Envoy has no route for `OPTIONS *`, whatever the matches are. Without a path (`CONNECT`, TCP) there is nothing
        // to compare.
        if !path.is_empty() && !path.starts_with('/') {
            return None;
        }
        self.routes.iter().find_map(|route| {
            let matched = match &route.matches {
                None => None,
                Some(matches) => Some(matches.iter().find(|found| found.matches(head, path))?.index),
            };
            Some(Picked { route, matched })
        })
    }

    /// How many routes there are for this workload.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// True when every request is answered 404.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = &PreparedRoute> {
        self.routes.iter()
    }

    /// What the port is declared to speak.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }
}

impl PreparedRoute {
    fn new(route: Route, port: u16, labels: &[(String, String)]) -> Result<PreparedRoute, String> {
        let matches = if route.matches.is_empty() {
            None
        } else {
            let own = |found: &&Match| found.source_labels.iter().all(|label| labels.contains(label));
            let numbered = (0..).zip(&route.matches).filter(|(_, found)| own(found));
            let prepared = numbered.map(|(index, found)| {
                PreparedMatch::new(index, found).map_err(|error| format!("match {index}: {error}"))
            });
            Some(prepared.collect::<Result<_, _>>()?)
        };
        let destinations = match &route.action {
            Action::Forward(forward) => forward.destinations.as_slice(),
            Action::Redirect(redirect) => {
                if !matches!(redirect.code, 301 | 302 | 303 | 307 | 308) {
                    return Err(format!("a redirect with status {}", redirect.code));
                }
                &[]
            }
            Action::Direct(direct) => {
                if StatusCode::from_u16(direct.status).is_err() {
                    return Err(format!("a direct response with status {}", direct.status));
                }
                &[]
            }
        };
        let changes = if destinations.is_empty() {
            vec![RouteChanges::new(&route, None)?]
        } else {
            destinations.iter().map(|to| RouteChanges::new(&route, Some(to))).collect::<Result<_, _>>()?
        };
        let path_regex = match &route.action {
            Action::Forward(forward) => rewrite::prepare(&forward.rewrite)?,
            Action::Redirect(_) | Action::Direct(_) => None,
        };
        Ok(PreparedRoute { route, matches, changes, path_regex, port })
    }

    /// What is done to headers on the way to a destination, by its index (of [`crate::weighted::pick_index`]); for a
    /// redirect or a direct response, and for an index that is none, that of the first.
    pub fn changes(&self, destination: usize) -> &RouteChanges {
        static NONE: RouteChanges = RouteChanges::NONE;
        self.changes.get(destination).or(self.changes.first()).unwrap_or(&NONE)
    }
}

/// A [`Match`] that is ready to use.
#[derive(Clone, Debug)]
struct PreparedMatch {
    /// In [`Route::matches`].
    index: usize,
    uri: Option<Matcher>,
    headers: Vec<HeaderMatch>,
    query: Vec<(String, Matcher)>,
}

#[derive(Clone, Debug)]
struct HeaderMatch {
    name: Name,
    matcher: Matcher,
    /// Of `withoutHeaders`.
    is_inverted: bool,
}

/// Where a value comes from.
#[derive(Clone, Debug)]
enum Name {
    Method,
    Scheme,
    Authority,
    Path,
    Header {
        name: HeaderName,
        /// What stands between several values of a header that Envoy keeps as one.
        between: Option<&'static str>,
    },
    /// Of an answer; no request has it.
    Status,
}

/// Headers whose values Envoy keeps as one, with commas between; measured with Envoy 1.40.
const JOINED: [&str; 31] = [
    "accept",
    "accept-encoding",
    "access-control-request-headers",
    "access-control-request-method",
    "access-control-request-private-network",
    "authorization",
    "cache-control",
    "content-encoding",
    "content-type",
    "expect",
    "grpc-accept-encoding",
    "grpc-timeout",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "origin",
    "pragma",
    "referer",
    "user-agent",
    "via",
    "x-envoy-attempt-count",
    "x-envoy-downstream-service-cluster",
    "x-envoy-external-address",
    "x-envoy-original-path",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-request-id",
];

impl PreparedMatch {
    fn new(index: usize, from: &Match) -> Result<PreparedMatch, String> {
        let uri = match &from.uri {
            Some(uri) => Some(Matcher::new(uri, from.ignore_uri_case).map_err(|error| format!("uri: {error}"))?),
            None => None,
        };
        let mut headers = Vec::new();
        let of_line = [(Name::Method, &from.method), (Name::Scheme, &from.scheme), (Name::Authority, &from.authority)];
        for (name, matcher) in of_line {
            if let Some(matcher) = matcher {
                headers.push(HeaderMatch { name, matcher: value_matcher(matcher)?, is_inverted: false });
            }
        }
        for (list, is_inverted) in [(&from.headers, false), (&from.without_headers, true)] {
            for (name, matcher) in list {
                let matcher = value_matcher(matcher).map_err(|error| format!("header `{name}`: {error}"))?;
                headers.push(HeaderMatch { name: Name::new(name)?, matcher, is_inverted });
            }
        }
        let query = from.query.iter().map(|(name, matcher)| {
            let matcher = value_matcher(matcher).map_err(|error| format!("query parameter `{name}`: {error}"))?;
            Ok((name.clone(), matcher))
        });
        let query = query.collect::<Result<_, String>>()?;
        Ok(PreparedMatch { index, uri, headers, query })
    }

    fn matches(&self, head: &Head<'_>, path: &str) -> bool {
        self.uri.as_ref().is_none_or(|uri| uri.matches(path))
            && self.headers.iter().all(|header| header.matches(head))
            && self.query.iter().all(|(name, matcher)| {
                query_parameter(head.path_and_query, name).is_some_and(|value| matcher.matches(value))
            })
    }
}

/// For all but `uri`: "`*` is NOT a RE2 style regex, it's a metacharacter. It will be translated as present_match"
/// (Istio's canBeConvertedToPresentMatch).
fn value_matcher(from: &StringMatch) -> Result<Matcher, String> {
    match from {
        StringMatch::Regex(pattern) if pattern == "*" => Matcher::new(&StringMatch::Present, false),
        other => Matcher::new(other, false),
    }
}

impl Name {
    fn new(name: &str) -> Result<Name, String> {
        Ok(match name {
            ":method" => Name::Method,
            ":scheme" => Name::Scheme,
            // Envoy keeps the Host of HTTP/1.1 as `:authority`.
            ":authority" | "host" => Name::Authority,
            ":path" => Name::Path,
            ":status" => Name::Status,
            other => {
                // `@request.auth.claims…` is of gateways that verify tokens.
                let name = HeaderName::from_bytes(other.as_bytes())
                    .map_err(|_| format!("`{other}` is no name of a header"))?;
                let between = match name.as_str() {
                    // RFC 9113, 8.2.3: the lines of a cookie are one, "using the two-octet delimiter of 0x3b, 0x20".
                    "cookie" => Some("; "),
                    joined if JOINED.contains(&joined) => Some(","),
                    _ => None,
                };
                Name::Header { name, between }
            }
        })
    }

    /// Whether a value of the request fulfils `is_met`; `None` when there is none.
    ///
    /// Envoy 1.39: headers with several values "are now matched individually, so a rule matching `admin` matches, and a
    /// rule matching `user,admin` no longer does".
    fn any(&self, head: &Head<'_>, is_met: impl Fn(&[u8]) -> bool) -> Option<bool> {
        let (name, between) = match self {
            Name::Method => return Some(is_met(head.method.as_str().as_bytes())),
            Name::Scheme => return Some(is_met(head.scheme.as_bytes())),
            Name::Authority => return Some(is_met(head.authority.as_bytes())),
            Name::Path => return Some(is_met(head.path_and_query.as_bytes())),
            Name::Status => return None,
            Name::Header { name, between } => (name, *between),
        };
        let mut values = head.headers.get_all(name).iter().map(HeaderValue::as_bytes);
        let (first, second) = (values.next()?, values.next());
        let Some(second) = second else {
            return Some(is_met(first));
        };
        let all = [first, second].into_iter().chain(values);
        match between {
            None => Some(all.into_iter().any(is_met)),
            Some(between) => Some(is_met(&all.collect::<Vec<_>>().join(between.as_bytes()))),
        }
    }
}

impl HeaderMatch {
    fn matches(&self, head: &Head<'_>) -> bool {
        match (self.name.any(head, |value| self.matcher.matches_bytes(value)), self.is_inverted) {
            (Some(is_met), is_inverted) => is_met != is_inverted,
            (None, false) => false,
            (None, true) if self.matcher.is_present() => true,
            // Istio: TreatMissingHeaderAsEmpty, but for a present match. So `withoutHeaders` with a pattern that an empty
            // value matches (`.*`) is not fulfilled by a header that is absent.
            (None, true) => !self.matcher.matches_bytes(b""),
        }
    }
}

/// The first value of a query parameter, as it is written: Envoy's QueryParamsMulti::parseQueryString does not decode,
/// and "ignoring all but the first value for a given key". Without `=` it is empty.
fn query_parameter<'a>(path_and_query: &'a str, name: &str) -> Option<&'a str> {
    let query = path_and_query.split('#').next()?.split_once('?')?.1;
    let parameters = query.split('&').map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")));
    parameters.into_iter().find(|(found, _)| *found == name).map(|(_, value)| value)
}
