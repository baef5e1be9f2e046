//! What else a caller may do: the least that a cached answer can allow without denying everything but one request.
//!
//! API Gateway caches an authorizer's IAM policy under the identity sources and evaluates it again for the ARN of every
//! request that follows. [`grants`] finds the known routes on which the gate allows *every* request that is like this one
//! but for method and path. It asks the gate itself, about all paths of a route at once: see [`Area`].
//!
//! Four things make an ARN wider than a route:
//! * `*` of IAM crosses slashes. So a method is always named: `*/a` would be `GET/x/a` as well. And a route with
//!   parameters is judged by what stands in front of its first parameter, and by everything that may follow, since
//!   `/a/{id}/b`, which is `/a/*/b`, covers paths of other routes;
//! * `*` takes an empty text: `/a/*` is `/a/` as well;
//! * the ARN of an HTTP API may hold the path percent-decoded, and IAM has no way to write a literal `?` or `*`. A backend
//!   may cut `/a/x?y` off to `/a/x`; a beginning of a path that is judged is judged, too;
//! * what a backend could read in yet another way (`..`, `%`, `;`, `//` …) is no request that the gate would allow:
//!   [`UNREADABLE`] denies it explicitly. In IAM an explicit deny always wins.

mod area;
mod resources;

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::api::{Apis, ArchivedAccess, ArchivedApi, ArchivedApiKind, ArchivedAuthorizerKind};
use crate::claims::Claims;
use crate::decision::{Allow, AllowParts, Decision};
use crate::gate::{self, Given};
use crate::policies::Policies;
use crate::request::{MAX_HEADER_BYTES, Request, Target, Unknown, path_only};
pub(crate) use area::{Area, Reach};
pub use resources::{MAX_ARN, Resources};

/// Known routes that are looked at for one answer, at most, each method counted; with more, an
/// answer is for its request alone.
pub const MAX_ROUTES: usize = 512;

/// The longest path that API Gateway lets through, with room to spare: it caps the request line at 10,240 bytes.
const MAX_PATH: usize = 16 * 1024;

/// The methods of an `ANY` route.
const METHODS: [&str; 7] = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"];

/// What stands behind the stage in the ARNs of requests that no `*` may let through: what a backend may read in another
/// way than the policies, and characters that a path template takes none of. `*/.*` is wider than the dot segments: IAM
/// cannot tell `/a/.` before a decoded `?` from `/a/.b`.
pub const UNREADABLE: [&str; 16] = [
    "*%*", "*;*", "*\\*", "*#*", "*//*", "*/.*", "*\"*", "*<*", "*>*", "*[*", "*]*", "*^*", "*`*", "*{*", "*|*", "*}*",
];

/// What an IAM answer may say beside the request that was asked about. All are `METHOD/PATH` with IAM's `*`: what stands
/// behind the stage in an ARN. [`resources`](Self::resources) makes ARNs of them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Grants {
    /// Exact paths that are allowed.
    exact: Vec<String>,
    /// Patterns, of which everything is allowed that `deny` and [`UNREADABLE`] do not match.
    patterns: Vec<String>,
    /// What must be denied explicitly where one of `patterns` is allowed. It matches neither the request itself nor
    /// anything in `exact`.
    deny: Vec<String>,
}

/// A route to grant, for one method.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Candidate {
    /// Length of `start`: the longest come first.
    length: Reverse<usize>,
    /// What its path begins with, or all of it.
    start: String,
    method: String,
    /// Its path with `*` for each parameter; absent when it has none.
    pattern: Option<String>,
}

impl Candidate {
    /// A route of the template, once for each method. None for what cannot be named in an ARN exactly.
    fn of(method: &str, path: &str) -> Vec<Self> {
        // `$default` takes what no other route takes.
        let (method, path) = if (method, path) == ("", "$default") { ("ANY", "/{proxy+}") } else { (method, path) };
        let methods = if method == "ANY" { &METHODS[..] } else { &[method] };
        methods.iter().filter_map(|method| Self::new(method, path)).collect()
    }

    fn new(method: &str, path: &str) -> Option<Self> {
        // A route of a WebSocket API has no method.
        if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return None;
        }
        let mut start = String::new();
        let mut pattern: Option<String> = None;
        for segment in path.strip_prefix('/')?.split('/') {
            let is_parameter = segment.starts_with('{') && segment.ends_with('}');
            match &mut pattern {
                Some(pattern) => {
                    pattern.push('/');
                    pattern.push_str(if is_parameter { "*" } else { segment });
                }
                None => {
                    start.push('/');
                    if is_parameter {
                        pattern = Some(format!("{start}*"));
                    } else {
                        start.push_str(segment);
                    }
                }
            }
        }
        let mut pieces = pattern.iter().flat_map(|pattern| pattern.split('*'));
        let plain = area::is_plain(&start) && pieces.all(|piece| area::is_plain(&format!("/x{piece}")));
        plain.then(|| Self { length: Reverse(start.len()), start, method: method.to_owned(), pattern })
    }

    /// `METHOD/PATH` of its ARNs.
    fn resource(&self) -> String {
        format!("{}{}", self.method, self.pattern.as_deref().unwrap_or(&self.start))
    }

    /// Whether a denial of what begins with `except` would deny something of it.
    fn meets(&self, method: &str, except: &str) -> bool {
        self.method == method
            && (self.start.starts_with(except) || (self.pattern.is_some() && except.starts_with(&self.start)))
    }
}

/// Everything that `allow`, the gate's answer to `request`, can be extended to: the known routes on which every request
/// with the same credentials, headers, query, host and addresses is allowed, and on which it is the same caller with the
/// same output headers. Nothing where that cannot be told.
///
/// It does not matter which API of `apis` is the one that was called: a route of another one is judged by the same gate,
/// and no request for it comes.
pub fn grants(
    policies: &Policies,
    apis: &Apis,
    request: &Request,
    target: &Target,
    given: &Given<'_>,
    allow: &Allow,
) -> Grants {
    let Target::ApiGateway { stage, .. } = target else { return Grants::default() };
    // Shadow mode overlooks the denial of this request, and says nothing of another one.
    if allow.would_deny().is_some() {
        return Grants::default();
    }
    // What is not known here may be known for the next request.
    if request.unknown != Unknown::default() {
        return Grants::default();
    }
    let path = path_only(&request.path);
    let lines: usize = request.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    let longest = lines + request.host.len() + request.path.len() + MAX_PATH;
    if !area::is_plain(path) || longest > MAX_HEADER_BYTES {
        return Grants::default();
    }
    let mut known: BTreeSet<Candidate> = BTreeSet::new();
    for api in apis.iter().filter(|api| may_be(api, stage)) {
        let routes = api.routes.iter().filter(|route| is_asked_about(api, &route.access));
        known.extend(routes.flat_map(|route| Candidate::of(&route.method, &route.path)));
        // One that is left out could be one that has to be denied.
        if known.len() > MAX_ROUTES {
            return Grants::default();
        }
    }
    let asked = Asked { policies, request, target, allow, given: Given { providers: None, ..*given } };
    let mut found = Found::default();
    // Exact paths first, then the longest: what stands in a pattern is judged before it.
    let (patterns, exact): (Vec<&Candidate>, Vec<&Candidate>) =
        known.iter().partition(|candidate| candidate.pattern.is_some());
    for candidate in exact.into_iter().chain(patterns) {
        found.judge(candidate, &asked);
    }
    found.into_grants()
}

/// Whether an API of the templates can be the one with this stage.
fn may_be(api: &ArchivedApi, stage: &str) -> bool {
    let stages = &api.stages;
    api.kind.as_ref() != Some(&ArchivedApiKind::WebSocket)
        && (stages.is_empty() || stages.iter().any(|own| own.known().is_none_or(|own| own == stage)))
}

/// Whether an authorizer function is asked about a route.
fn is_asked_about(api: &ArchivedApi, access: &ArchivedAccess) -> bool {
    match access {
        ArchivedAccess::Open | ArchivedAccess::Iam => false,
        ArchivedAccess::Elsewhere(_) => true,
        ArchivedAccess::Authorizer(index) => {
            let one = usize::try_from(index.to_native()).ok().and_then(|index| api.authorizers.get(index));
            one.is_some_and(|one| one.kind != ArchivedAuthorizerKind::Jwt)
        }
    }
}

/// The request that was asked about, and what the gate said.
struct Asked<'a> {
    policies: &'a Policies,
    request: &'a Request,
    target: &'a Target,
    allow: &'a Allow,
    /// Without the answers of extension providers, which were about this request alone.
    given: Given<'a>,
}

impl Asked<'_> {
    /// Whether all of `candidate` but what begins with one of `except` is allowed, to the same caller: the context of the
    /// answer is cached with it.
    fn allows(&self, candidate: &Candidate, except: &[String]) -> bool {
        let query = self.request.path.split_once('?').map_or(String::new(), |(_, query)| format!("?{query}"));
        let request = Request {
            method: candidate.method.clone(),
            path: format!("{}{query}", candidate.start),
            ..self.request.clone()
        };
        let own: Vec<(&str, &str)> = self.allow.claim_headers().collect();
        if candidate.pattern.is_none() {
            let decision = gate::decide(self.policies, &request, self.target, &self.given);
            let Decision::Allow(other) = &decision else { return false };
            return self.is_caller(other.claims()) && other.claim_headers().collect::<Vec<_>>() == own;
        }
        let area = Area { start: &candidate.start, except };
        let passed = gate::pass_area(self.policies, &request, self.target, &self.given, &area);
        let Ok(AllowParts { claims, upstream_headers, claim_headers, .. }) = passed else { return false };
        let made = upstream_headers.iter().filter(|(name, _)| claim_headers.contains(name));
        let made: Vec<(&str, &str)> = made.map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.is_caller(claims.as_ref()) && made == own
    }

    fn is_caller(&self, claims: Option<&Claims>) -> bool {
        claims == self.allow.claims()
    }

    /// Whether a denial of what begins with `except` would deny the request itself.
    fn is_denied_by(&self, method: &str, except: &str) -> bool {
        method == self.request.method && path_only(&self.request.path).starts_with(except)
    }
}

/// What was judged so far.
#[derive(Default)]
struct Found<'a> {
    granted: Vec<&'a Candidate>,
    refused: Vec<&'a Candidate>,
    deny: BTreeSet<String>,
}

impl<'a> Found<'a> {
    fn judge(&mut self, candidate: &'a Candidate, asked: &Asked<'_>) {
        if asked.allows(candidate, &[]) || (candidate.pattern.is_some() && self.allows_the_rest(candidate, asked)) {
            self.granted.push(candidate);
        } else {
            self.refused.push(candidate);
        }
    }

    /// A pattern but for the routes in it that are not granted, if those can be denied without denying anything else.
    fn allows_the_rest(&mut self, candidate: &Candidate, asked: &Asked<'_>) -> bool {
        let Candidate { start, method, .. } = candidate;
        let inside = |other: &&&Candidate| {
            other.method == *method && other.start.len() > start.len() && other.start.starts_with(start)
        };
        let except: Vec<String> = self.refused.iter().filter(inside).map(|other| other.start.clone()).collect();
        // Everything that begins alike is denied: behind it may stand a slash, or a `?` that was decoded.
        let denies_more = except.iter().any(|except| {
            asked.is_denied_by(method, except) || self.granted.iter().any(|other| other.meets(method, except))
        });
        if except.is_empty() || denies_more || !asked.allows(candidate, &except) {
            return false;
        }
        self.deny.extend(except.iter().map(|except| format!("{method}{except}*")));
        true
    }

    fn into_grants(self) -> Grants {
        let (patterns, exact): (Vec<&Candidate>, Vec<&Candidate>) =
            self.granted.into_iter().partition(|candidate| candidate.pattern.is_some());
        let resources = |list: Vec<&Candidate>| list.into_iter().map(Candidate::resource).collect();
        Grants { exact: resources(exact), patterns: resources(patterns), deny: self.deny.into_iter().collect() }
    }
}
