//! Which route a request takes.

use std::collections::BTreeMap;

use super::config::{self, ConfigError};
use super::event::decode;

/// The routes in API Gateway's order of priority.
pub(super) struct Routes(Vec<Route>);

struct Route {
    key: String,
    resource: String,
    /// None is `ANY`.
    method: Option<String>,
    pattern: Pattern,
    authorizer: Option<usize>,
    integration: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum Pattern {
    /// `$default`
    Default,
    /// A path, segment by segment.
    Path { segments: Vec<Segment>, greedy: Option<String> },
}

#[derive(Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Variable(String),
}

/// The route that a request takes.
pub(super) struct Matched<'a> {
    pub(super) key: &'a str,
    /// The route's path, `$default` for that one.
    pub(super) resource: &'a str,
    pub(super) path_parameters: BTreeMap<String, String>,
    /// Index of the authorizer in the configuration.
    pub(super) authorizer: Option<usize>,
    /// Index of the integration in the configuration.
    pub(super) integration: usize,
}

/// "Routes per API | 300 | Yes" (Quotas for configuring and running an HTTP API)
const MAX_ROUTES: usize = 300;

impl Routes {
    /// The routes `all`, with the names of what they may be guarded and answered by.
    pub(super) fn new(all: &[config::Route], authorizers: &[&str], integrations: &[&str]) -> Result<Self, ConfigError> {
        if all.len() > MAX_ROUTES {
            return Err(ConfigError::new("number of routes", &all.len().to_string(), "at most 300"));
        }
        let mut routes: Vec<Route> = Vec::with_capacity(all.len());
        for route in all {
            let (method, resource, pattern) = parse(&route.key)?;
            let authorizer = match &route.authorizer {
                None => None,
                // A guard that does not exist must never mean an open route.
                Some(name) => Some(authorizers.iter().position(|own| own == name).ok_or_else(|| {
                    ConfigError::new(
                        &format!("authorizer of the route {:?}", route.key),
                        name,
                        "the name of one of its authorizers",
                    )
                })?),
            };
            let integration = integrations.iter().position(|own| *own == route.integration).ok_or_else(|| {
                ConfigError::new(
                    &format!("integration of the route {:?}", route.key),
                    &route.integration,
                    "the name of one of its integrations",
                )
            })?;
            if routes.iter().any(|other| other.method == method && other.pattern.same(&pattern)) {
                return Err(ConfigError::new("route key", &route.key, "one that no other route has"));
            }
            routes.push(Route { key: route.key.clone(), resource, method, pattern, authorizer, integration });
        }
        routes.sort_by_key(Route::rank);
        Ok(Self(routes))
    }

    /// The first route, by priority, that `method` and `path` (as sent, below the stage) match.
    pub(super) fn find(&self, method: &str, path: &str) -> Option<Matched<'_>> {
        self.0.iter().find_map(|route| {
            if route.method.as_deref().is_some_and(|own| own != method) {
                return None;
            }
            Some(Matched {
                path_parameters: route.pattern.matches(path)?,
                key: &route.key,
                resource: &route.resource,
                authorizer: route.authorizer,
                integration: route.integration,
            })
        })
    }
}

impl Route {
    /// "API Gateway selects the route with the most-specific match, using the following priorities: 1. Full match for a
    /// route and method. 2. Match for a route and method with a greedy path variable ({proxy+}). 3. The $default route."
    /// (Create routes for HTTP APIs). Among full matches that page prefers static segments to variables, and among greedy
    /// ones the longer prefix; a method goes before ANY, which "match\[es\] all methods that you haven't defined".
    fn rank(&self) -> (u8, Vec<u8>, bool) {
        let any = self.method.is_none();
        match &self.pattern {
            Pattern::Default => (2, Vec::new(), any),
            Pattern::Path { segments, greedy } => {
                let mut kinds: Vec<u8> =
                    segments.iter().map(|segment| u8::from(matches!(segment, Segment::Variable(_)))).collect();
                kinds.extend(greedy.as_ref().map(|_| 2));
                (u8::from(greedy.is_some()), kinds, any)
            }
        }
    }
}

impl Pattern {
    /// The path parameters, decoded, if `path` matches. Segments are split as sent and compared decoded, so that an encoded
    /// slash divides nothing; which of the two API Gateway does first is not documented.
    fn matches(&self, path: &str) -> Option<BTreeMap<String, String>> {
        let mut parameters = BTreeMap::new();
        let Self::Path { segments, greedy } = self else {
            return Some(parameters);
        };
        let mut rest = path.strip_prefix('/');
        for segment in segments {
            let (head, tail) = match rest?.split_once('/') {
                Some((head, tail)) => (head, Some(tail)),
                None => (rest?, None),
            };
            let head = decode(head)?;
            match segment {
                Segment::Literal(literal) if *literal == head => {}
                Segment::Variable(name) if !head.is_empty() => {
                    parameters.insert(name.clone(), head);
                }
                _ => return None,
            }
            rest = tail;
        }
        match (greedy, rest) {
            // "A greedy path variable catches all child resources of a route."
            (Some(name), Some(rest)) if !rest.is_empty() => {
                parameters.insert(name.clone(), decode(rest)?);
                Some(parameters)
            }
            (None, None) => Some(parameters),
            _ => None,
        }
    }

    /// Whether two patterns differ in the names of their variables only.
    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Default, Self::Default) => true,
            (Self::Path { segments: a, greedy: g }, Self::Path { segments: b, greedy: h }) => {
                g.is_some() == h.is_some()
                    && a.len() == b.len()
                    && a.iter().zip(b).all(|pair| match pair {
                        (Segment::Literal(a), Segment::Literal(b)) => a == b,
                        (Segment::Variable(_), Segment::Variable(_)) => true,
                        _ => false,
                    })
            }
            _ => false,
        }
    }
}

/// A route key: method (none is `ANY`), path and pattern.
fn parse(key: &str) -> Result<(Option<String>, String, Pattern), ConfigError> {
    let wrong = |expected: &str| ConfigError::new("route key", key, expected);
    if key == "$default" {
        return Ok((None, key.to_owned(), Pattern::Default));
    }
    let (method, path) = key.split_once(' ').ok_or_else(|| wrong("$default, or a method, a space and a path"))?;
    if method.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase()) {
        return Err(wrong("a method in upper case, or ANY, before the path"));
    }
    let rest = path.strip_prefix('/').ok_or_else(|| wrong("a path that begins with /"))?;
    let mut segments = Vec::new();
    let mut greedy = None;
    for part in rest.split('/') {
        if greedy.is_some() {
            // "The greedy path variable must be at the end of the resource path."
            return Err(wrong("the greedy path variable at the end of the path"));
        }
        let Some(name) = part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) else {
            if part.contains(['{', '}', '%', ' ']) {
                return Err(wrong("path segments of plain text or one {variable}"));
            }
            segments.push(Segment::Literal(part.to_owned()));
            continue;
        };
        let (name, is_greedy) = name.strip_suffix('+').map_or((name, false), |name| (name, true));
        let used = segments.iter().any(|segment| matches!(segment, Segment::Variable(other) if other == name));
        if name.is_empty()
            || used
            || !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b':'))
        {
            return Err(wrong("path variables with names of letters and digits, each used once"));
        }
        if is_greedy {
            greedy = Some(name.to_owned());
        } else {
            segments.push(Segment::Variable(name.to_owned()));
        }
    }
    let method = (method != "ANY").then(|| method.to_owned());
    Ok((method, path.to_owned(), Pattern::Path { segments, greedy }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_api_gateway_would_refuse_are_refused() {
        for bad in [
            "",
            "/x",
            "GET",
            "get /x",
            "GET x",
            "GET /a/{p+}/b",
            "GET /{a}/{a}",
            "GET /{}",
            "GET /{+}",
            "GET /a{b}",
            "GET /{a b}",
            "GET /%61",
            "$other",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        for good in ["$default", "GET /", "ANY /{proxy+}", "POST /a/{b}/c", "PATCH /a/"] {
            assert!(parse(good).is_ok(), "{good:?}");
        }
    }
}
