use std::collections::BTreeMap;
use std::time::Duration;

use crate::export_to::ExportTo;
use crate::meta::Meta;
use crate::percent::Percent;

/// `VirtualService`: where requests for some hosts go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VirtualService {
    /// Name, namespace and origin.
    pub meta: Meta,
    /// `hosts`, at least one, as written: resolve a short one with [`full_host`](crate::full_host).
    pub hosts: Vec<String>,
    /// `gateways`, each `NAMESPACE/NAME`, the namespace filled in where the document leaves it out,
    /// or the word `mesh`. Never empty: an absent list is `["mesh"]`, which is what it means.
    pub gateways: Vec<String>,
    /// `http`: the first route that matches is taken.
    pub http: Vec<HttpRoute>,
    /// `exportTo`: who sees it; empty means everybody.
    pub export_to: Vec<ExportTo>,
}

/// `http[]`: requests of one kind and what becomes of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HttpRoute {
    /// `name`; empty when absent.
    pub name: String,
    /// `match`, one of which must match; empty matches every request.
    pub matches: Vec<HttpMatch>,
    /// `route`, `redirect` or `directResponse`: exactly one of them.
    pub action: HttpAction,
    /// `rewrite`; only with `route`.
    pub rewrite: Option<HttpRewrite>,
    /// `timeout` of the whole request; absent means none.
    pub timeout: Option<Duration>,
    /// `retries`; absent means Istio's default policy.
    pub retries: Option<HttpRetry>,
    /// `fault`.
    pub fault: Option<HttpFault>,
    /// `mirrors`, and `mirror` with `mirrorPercentage` (or the older `mirrorPercent`) as one of them.
    pub mirrors: Vec<HttpMirror>,
    /// `headers` of the whole route.
    pub headers: HeaderOperations,
    /// Whether there is a `corsPolicy`, which is of browsers and of servers alone.
    pub has_cors_policy: bool,
}

impl HttpRoute {
    /// The destinations of `route`; none for a redirect and a direct response. Mirrors are not among them.
    pub fn destinations(&self) -> impl Iterator<Item = &Destination> {
        let routes: &[HttpRouteDestination] = match &self.action {
            HttpAction::Route(routes) => routes,
            HttpAction::Redirect(_) | HttpAction::DirectResponse(_) => &[],
        };
        routes.iter().map(|route| &route.destination)
    }
}

/// What becomes of the requests of an [`HttpRoute`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HttpAction {
    /// `route`: at least one destination; the weights of several sum to more than 0.
    Route(Vec<HttpRouteDestination>),
    /// `redirect`.
    Redirect(HttpRedirect),
    /// `directResponse`.
    DirectResponse(HttpDirectResponse),
}

/// `match[]`: all fields that are present must match.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HttpMatch {
    /// `name`, for logs.
    pub name: String,
    /// `uri`, compared with the path without the query, with case; absent matches every path.
    pub uri: Option<StringMatch>,
    /// `ignoreUriCase`: an exact or prefix `uri` is compared without case.
    pub ignore_uri_case: bool,
    /// `scheme`.
    pub scheme: Option<StringMatch>,
    /// `method`.
    pub method: Option<StringMatch>,
    /// `authority`: the Host with its port, if it has one.
    pub authority: Option<StringMatch>,
    /// `headers`, names in lower case; among them `:path` with the query, `:method`, `:scheme`, `:authority` and
    /// `:status`.
    pub headers: BTreeMap<String, StringMatch>,
    /// `withoutHeaders`: none of them may match. An absent header is compared as the empty text, and is not
    /// [`Present`](StringMatch::Present).
    pub without_headers: BTreeMap<String, StringMatch>,
    /// `queryParams`, names with case.
    pub query_params: BTreeMap<String, StringMatch>,
    /// `port` that the client addressed.
    pub port: Option<u16>,
    /// `sourceLabels` of the calling workload.
    pub source_labels: BTreeMap<String, String>,
    /// `sourceNamespace` of the calling workload.
    pub source_namespace: Option<String>,
    /// `gateways`, in the form of [`VirtualService::gateways`]; empty means those of the document.
    pub gateways: Vec<String>,
}

/// How a string is compared.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StringMatch {
    /// `exact`: equal.
    Exact(String),
    /// `prefix`: begins with this text, not with this path segment: `/a` matches `/abc`.
    Prefix(String),
    /// `regex`: RE2 syntax, matching the whole string.
    Regex(String),
    /// `{}`, in `headers`, `withoutHeaders` and `queryParams`: there, with whatever value.
    Present,
}

/// `route[]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HttpRouteDestination {
    /// `destination`.
    pub destination: Destination,
    /// `weight`: its share is `weight` of the sum of all; a single destination gets everything. Absent means 0 beside
    /// others.
    pub weight: u32,
    /// `headers` of this destination alone.
    pub headers: HeaderOperations,
}

/// `destination`: a service of the registry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Destination {
    /// `host`, as written: resolve a short one with [`full_host`](crate::full_host).
    pub host: String,
    /// `subset`, one of a `DestinationRule` of the host.
    pub subset: Option<String>,
    /// `port.number`; absent means the service's only port.
    pub port: Option<u16>,
}

/// `headers`: what is done to the headers of requests and answers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HeaderOperations {
    /// `request`.
    pub request: HeaderChanges,
    /// `response`.
    pub response: HeaderChanges,
}

/// `request` or `response` of [`HeaderOperations`]; names in lower case, values in Envoy's form, where commands such as
/// `%REQ(x-a)%` stand between percent signs, and `%%` is one. Of a request, `set` may have `host`: the Host, also where
/// the document says `:authority` or `add`. `remove` goes first in Istio's configuration of Envoy, then `set` and `add`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HeaderChanges {
    /// `set`: replaces.
    pub set: BTreeMap<String, String>,
    /// `add`: appends.
    pub add: BTreeMap<String, String>,
    /// `remove`.
    pub remove: Vec<String>,
}

/// `rewrite`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HttpRewrite {
    /// `uri`: replaces what a `prefix` match matched, or the whole path of another match.
    pub uri: Option<String>,
    /// `uriRegexRewrite`: RE2 `match` and `rewrite`, in which `\1` stands for a group. Excludes `uri`.
    pub uri_regex: Option<RegexRewrite>,
    /// `authority`: replaces the Host.
    pub authority: Option<String>,
}

/// `uriRegexRewrite`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RegexRewrite {
    /// `match`.
    pub pattern: String,
    /// `rewrite`.
    pub substitution: String,
}

/// `redirect`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HttpRedirect {
    /// `uri`: the path. Excludes `prefixRewrite`.
    pub uri: Option<String>,
    /// `prefixRewrite`: replaces the prefix that matched.
    pub prefix_rewrite: Option<String>,
    /// `authority`.
    pub authority: Option<String>,
    /// `port` or `derivePort`.
    pub port: Option<RedirectPort>,
    /// `scheme`.
    pub scheme: Option<String>,
    /// `redirectCode`: 301, 302, 303, 307 or 308; 301 when absent.
    pub code: u16,
}

/// The port of an [`HttpRedirect`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RedirectPort {
    /// `port`.
    Number(u16),
    /// `derivePort: FROM_PROTOCOL_DEFAULT`: that of the scheme.
    FromProtocolDefault,
    /// `derivePort: FROM_REQUEST_PORT`: the request's.
    FromRequestPort,
}

/// `directResponse`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HttpDirectResponse {
    /// `status`, 200 to 599.
    pub status: u16,
    /// `body.string` or `body.bytes`, at most 100 KiB; empty when absent.
    pub body: Vec<u8>,
}

/// `retries`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HttpRetry {
    /// `attempts`: how often at most the request is sent again; 0 turns retries off.
    pub attempts: u32,
    /// `perTryTimeout`, at least 1 ms; absent means the route's timeout.
    pub per_try_timeout: Option<Duration>,
    /// `retryOn`, as written, trimmed parts of the comma-separated list; empty when absent, which means Istio's default.
    pub retry_on: Vec<String>,
    /// `retryRemoteLocalities`; absent means false.
    pub retry_remote_localities: Option<bool>,
    /// `retryIgnorePreviousHosts`; absent means true.
    pub retry_ignore_previous_hosts: Option<bool>,
    /// `backoff`: the base interval; absent means 25 ms.
    pub backoff: Option<Duration>,
}

/// `fault`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HttpFault {
    /// `delay`.
    pub delay: Option<FaultDelay>,
    /// `abort`.
    pub abort: Option<FaultAbort>,
}

/// `fault.delay`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FaultDelay {
    /// `percentage` (or the older `percent`) of the requests; absent means none of them.
    pub percentage: Percent,
    /// `fixedDelay`, at least 1 ms.
    pub fixed_delay: Duration,
}

/// `fault.abort`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FaultAbort {
    /// `percentage` of the requests; absent means none of them.
    pub percentage: Percent,
    /// `httpStatus` or `grpcStatus`.
    pub status: AbortStatus,
}

/// What an abort answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AbortStatus {
    /// `httpStatus`, 200 to 599.
    Http(u16),
    /// `grpcStatus`: the number of the code that the document names, 0 to 16.
    Grpc(u16),
}

/// `mirrors[]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HttpMirror {
    /// `destination`.
    pub destination: Destination,
    /// `percentage`; absent means every request.
    pub percentage: Percent,
}
