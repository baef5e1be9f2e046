//! `extensionProviders` of the mesh configuration.

use super::check::{host, is_host, kubernetes_name};
use super::go::parse_duration;
use super::nearest::{one_of, quoted};
use super::read::{At, Mapping};
use crate::{ExtensionProvider, ExternalAuthorizer};

/// Kinds of provider that no CUSTOM policy can use: they trace, count and log, or hand out certificates. What they say
/// is not looked at.
const OTHERS: &[&str] = &[
    "datadog",
    "envoyFileAccessLog",
    "envoyHttpAls",
    "envoyOtelAls",
    "envoyTcpAls",
    "lightstep",
    "opencensus",
    "opentelemetry",
    "prometheus",
    "sds",
    "skywalking",
    "stackdriver",
    "zipkin",
];
const AUTHORIZERS: &[&str] = &["envoyExtAuthzGrpc", "envoyExtAuthzHttp"];
/// Which headers the authorizer sees and sets. Whether it allows a request is its own answer, which the gate is told.
const HEADER_LISTS: &[&str] = &[
    "headersToDownstreamOnAllow",
    "headersToDownstreamOnDeny",
    "headersToUpstreamOnAllow",
    "includeHeadersInCheck",
    "includeRequestHeadersInCheck",
];
/// What Envoy knows as `type.v3.StatusCode`, without its 0, with which it starts nowhere.
const STATUSES: &[std::ops::RangeInclusive<u16>] = &[
    100..=100,
    200..=208,
    226..=226,
    300..=305,
    307..=308,
    400..=417,
    421..=424,
    426..=426,
    428..=429,
    431..=431,
    500..=508,
    510..=511,
];
const DEFAULT_STATUS: u16 = 403;

pub(super) fn extension_provider(at: &At<'_>) -> Option<ExtensionProvider> {
    at.mapping(&[], |fields| {
        let known = OTHERS.iter().chain(AUTHORIZERS).copied();
        let kinds: Vec<_> = known.clone().filter(|kind| fields.has(kind)).collect();
        let name = fields.required("name");
        let name = match kinds.as_slice() {
            // Istio (`validateProviderName`), for authorizers.
            [kind] if AUTHORIZERS.contains(kind) => name.and_then(|name| kubernetes_name(&name, 63, false)),
            _ => name.and_then(|name| name.non_empty_string()),
        };
        fields.ignore(OTHERS);
        let http = fields.field("envoyExtAuthzHttp").map(|at| authorizer(&at, true));
        let grpc = fields.field("envoyExtAuthzGrpc").map(|at| authorizer(&at, false));
        match kinds.as_slice() {
            [] if fields.clean() => fields.at.error(format!("expected one of the fields {}", one_of(known))),
            [first, second, ..] => {
                fields.at.error(format!("`{first}` and `{second}` exclude each other; keep one"));
            }
            _ => {}
        }
        // An authorizer that is wrong is in the report.
        let authorizer = http.or(grpc).flatten();
        Some(ExtensionProvider { name: name?, authorizer, is_adapter: false })
    })
}

fn authorizer(at: &At<'_>, http: bool) -> Option<ExternalAuthorizer> {
    at.mapping(&[], |fields| {
        let fail_open = fields.boolean("failOpen");
        let status_on_error = match fields.field("statusOnError") {
            Some(at) => status(&at),
            None => Some(DEFAULT_STATUS),
        };
        if let Some(clear) = fields.field("clearRouteCache")
            && clear.boolean() == Some(true)
        {
            clear.error("an authorizer that changes the route is not supported yet; expected false, found true");
        }
        how_it_is_asked(fields, http);
        Some(ExternalAuthorizer { fail_open, status_on_error: status_on_error? })
    })
}

/// Where the authorizer is and what it is told: checked as Istio does, which denies what matches when this is wrong,
/// and not kept.
fn how_it_is_asked(fields: &mut Mapping<'_>, http: bool) {
    if let Some(at) = fields.required("service") {
        service(&at);
    }
    if let Some(at) = fields.required("port") {
        at.quoted_port();
    }
    if let Some(at) = fields.field("timeout") {
        timeout(&at);
    }
    if let Some(at) = fields.field("includeRequestBodyInCheck") {
        at.mapping(&[], |fields| {
            fields.boolean("allowPartialMessage");
            fields.boolean("packAsBytes");
            if let Some(bytes) = fields.field("maxRequestBytes") {
                bytes.quoted_number();
            }
            Some(())
        });
    }
    if !http {
        return;
    }
    if let Some(at) = fields.field("pathPrefix")
        && let Some(prefix) = at.string()
        && !prefix.is_empty()
        && !prefix.starts_with('/')
    {
        // Istio: "pathPrefix must begin with `/`".
        at.error(format!("expected a path that begins with `/`, found {}", quoted(&prefix)));
    }
    fields.string_map("includeAdditionalHeadersInCheck");
    for list in HEADER_LISTS {
        fields.list(list, header_pattern);
    }
}

/// Istio: "a single wildcard (\"*\") is not supported".
fn header_pattern(at: &At<'_>) -> Option<String> {
    let text = at.non_empty_string()?;
    if text == "*" {
        at.error("expected the name of a header, perhaps with `*` at the start or the end, found `*`");
    }
    Some(text)
}

/// `HOST` or `NAMESPACE/HOST`.
fn service(at: &At<'_>) -> Option<()> {
    let text = at.non_empty_string()?;
    match text.split_once('/') {
        None => host(at, false).map(|_| ()),
        Some((namespace, host)) if is_host(host, false) && !namespace.contains('.') && is_host(namespace, false) => {
            Some(())
        }
        Some(_) => {
            at.error(format!("expected a host name or `NAMESPACE/HOST`, found {}", quoted(&text)));
            None
        }
    }
}

fn timeout(at: &At<'_>) {
    if let Some(text) = at.non_empty_string()
        && parse_duration(&text).is_none()
    {
        at.error(format!("expected a duration such as `5s` or `500ms`, found {}", quoted(&text)));
    }
}

/// Istio (`parseStatusOnError`): a number in quotes, one of Envoy's; the empty text is the default.
fn status(at: &At<'_>) -> Option<u16> {
    let text = at.string()?;
    if text.is_empty() {
        return Some(DEFAULT_STATUS);
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let status = text.parse().ok().filter(|status| digits && STATUSES.iter().any(|known| known.contains(status)));
    if status.is_none() {
        at.error(format!("expected an HTTP status that Envoy knows, found {}", quoted(&text)));
    }
    status
}
