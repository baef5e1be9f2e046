//! Envoy's question, turned into the request that `authz` judges.
//!
//! Everything in a `CheckRequest` is said by Envoy, which has terminated the TLS and parsed the HTTP; only the header
//! values, the path and the host are the client's. What cannot be read is refused as a whole: a request that is judged
//! on half of what Envoy said is judged wrongly.

use std::net::IpAddr;

use authz::request::{MAX_HEADER_BYTES, MAX_HEADERS};
use authz::{Deny, Hop, PathHandling, Peer, Reason, Request, Target, Unknown};
use envoy_types::ext_authz::v3::pb::{Address, CheckRequest};
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::service::auth::v3::AttributeContext;
use envoy_types::pb::envoy::service::auth::v3::attribute_context;

use crate::Place;
use crate::config::labels;

/// The most bytes of a text that is neither header nor path.
const MAX_TEXT: usize = 2_048;

/// What Envoy asks.
#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) request: Request,
    pub(crate) target: Target,
    /// The id that the access logs of all sidecars have, or, without one, Envoy's own number; for the log.
    pub(crate) request_id: String,
}

impl Check {
    /// Reads Envoy's question.
    pub(crate) fn parse(check: CheckRequest, place: &Place) -> Result<Self, Deny> {
        let attributes = check.attributes.ok_or_else(|| invalid("no attributes"))?;
        let target = target(&attributes, place)?;
        let (source, unknown) = peer(attributes.source.as_ref())?;
        let destination_port = attributes.destination.as_ref().and_then(port);
        let http = attributes.request.and_then(|request| request.http);
        let http = http.ok_or_else(|| invalid("no HTTP request: the filter is attached to a TCP listener"))?;
        if http.host.len() > MAX_TEXT
            || http.scheme.len() > MAX_TEXT
            || http.method.len() > MAX_TEXT
            || http.id.len() > MAX_TEXT
        {
            return Err(Deny::new(Reason::RequestTooLarge, Hop::Request, "method, scheme, host or id is overlong"));
        }
        if http.method.is_empty() || http.host.is_empty() {
            return Err(invalid("the method or the host is missing"));
        }
        // "*" of OPTIONS and the empty path of CONNECT are not paths that a policy can be about.
        if !http.path.starts_with('/') {
            return Err(Deny::new(Reason::PathInvalid, Hop::Request, "the path does not begin with /"));
        }
        let headers = headers(&http)?;
        // An empty one says nothing, and must not hide Envoy's own.
        let known = headers.iter().find(|(name, id)| name == "x-request-id" && !id.trim().is_empty());
        let known = known.map(|(_, id)| id.clone());
        Ok(Self {
            request: Request {
                method: http.method,
                scheme: http.scheme,
                host: http.host,
                path: http.path,
                path_handling: PathHandling::AsSent,
                // "Multiple headers with the same name are joined with commas" (attribute_context.proto), unless Envoy
                // was told to send them raw.
                headers_joined: http.header_map.is_none(),
                headers,
                source,
                destination_ip: None,
                destination_port,
                sni: None,
                client_certificate: None,
                dynamic_metadata: None,
                unknown,
            },
            target,
            request_id: known.unwrap_or(http.id),
        })
    }
}

/// The workload that is asked about.
///
/// `context_extensions` come from Envoy's own configuration (the route's `ext_authz` settings), which only the mesh's
/// operator writes; no client can reach them. They may therefore name the workload, as a pair and with all its labels:
/// a label that is left out would leave out the policies that select by it, and one of them may be a DENY.
fn target(attributes: &AttributeContext, place: &Place) -> Result<Target, Deny> {
    let extensions = &attributes.context_extensions;
    if let Some(name) = extensions.keys().find(|name| !matches!(name.as_str(), "namespace" | "labels")) {
        let name: String = name.chars().take(64).collect();
        return Err(misconfigured(format!("context_extensions has {name:?}, expected namespace and labels only")));
    }
    let environment = place.environment.clone();
    match (extensions.get("namespace"), extensions.get("labels"), &place.workload) {
        (Some(namespace), Some(text), _) => {
            if namespace.is_empty() || namespace.len() > MAX_TEXT || text.len() > MAX_TEXT {
                return Err(misconfigured("namespace or labels of context_extensions are empty or overlong"));
            }
            let labels = labels(text).map_err(|why| misconfigured(format!("labels of context_extensions: {why}")))?;
            Ok(Target::Workload { namespace: namespace.clone(), labels, environment })
        }
        (None, None, Some(workload)) => {
            let (namespace, labels) = (workload.namespace.clone(), workload.labels.clone());
            Ok(Target::Workload { namespace, labels, environment })
        }
        (None, None, None) => Err(misconfigured(
            "no workload: set CAUSEWAY_WORKLOAD_NAMESPACE and CAUSEWAY_WORKLOAD_LABELS, or context_extensions in Envoy",
        )),
        _ => Err(misconfigured("context_extensions has one of namespace and labels, expected both or neither")),
    }
}

/// Who is at the other end, and whether that could not be known.
fn peer(source: Option<&attribute_context::Peer>) -> Result<(Peer, Unknown), Deny> {
    let Some(source) = source else { return Ok(Default::default()) };
    let ip = match source.address.as_ref().and_then(|address| address.address.as_ref()) {
        Some(Address::SocketAddress(socket)) => {
            Some(socket.address.parse::<IpAddr>().map_err(|_| invalid("source.address is not an IP address"))?)
        }
        // A Unix socket or an internal listener: there is no address.
        Some(_) | None => None,
    };
    // "the principal is the URI SAN, if none the DNS SAN, if none the subject" (attribute_context.proto). Of several only
    // one is told, where Envoy's own policies try each of them. So a certificate with another name than a SPIFFE ID leaves
    // it unknown who the peer is, as at API Gateway: to call it nobody would let DENY rules on principals miss it.
    let (principal, is_unknown) = match source.principal.as_str() {
        "" => (None, false),
        principal if principal.len() > MAX_TEXT => return Err(invalid("source.principal is overlong")),
        principal => match principal.strip_prefix("spiffe://") {
            Some(rest) if !rest.is_empty() => (Some(rest.to_owned()), false),
            _ => (None, true),
        },
    };
    // This address is the connection's. What Envoy makes of x-forwarded-for is not among the attributes.
    Ok((Peer { ip, remote_ip: None, principal }, Unknown { principal: is_unknown, ..Unknown::default() }))
}

fn port(destination: &attribute_context::Peer) -> Option<u16> {
    match destination.address.as_ref()?.address.as_ref()? {
        Address::SocketAddress(socket) => match socket.port_specifier.as_ref()? {
            PortSpecifier::PortValue(port) => u16::try_from(*port).ok(),
            PortSpecifier::NamedPort(_) => None,
        },
        _ => None,
    }
}

fn headers(http: &attribute_context::HttpRequest) -> Result<Vec<(String, String)>, Deny> {
    let mut lines: Vec<(String, String)> = Vec::new();
    match &http.header_map {
        // The filter's `encode_raw_headers`: every line by itself, as bytes.
        Some(map) => {
            for header in &map.headers {
                let value = match (header.value.is_empty(), header.raw_value.is_empty()) {
                    (_, true) => header.value.clone(),
                    (true, false) => String::from_utf8(header.raw_value.clone())
                        .map_err(|_| invalid("a header value is not UTF-8"))?,
                    (false, false) => return Err(invalid("a header has both value and raw_value")),
                };
                lines.push((header.key.clone(), value));
            }
        }
        None => {
            lines.extend(http.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
            // A map has no order; a decision must not depend on one.
            lines.sort_unstable();
        }
    }
    // Pseudo-headers have fields of their own.
    lines.retain(|(name, _)| !name.starts_with(':'));
    let mut bytes = 0;
    for (name, value) in &mut lines {
        name.make_ascii_lowercase();
        bytes += name.len() + value.len();
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)) {
            return Err(invalid("a header name is not an HTTP token"));
        }
    }
    if lines.len() > MAX_HEADERS || bytes > MAX_HEADER_BYTES {
        let detail = format!("more than {MAX_HEADERS} headers or {MAX_HEADER_BYTES} bytes of them");
        return Err(Deny::new(Reason::RequestTooLarge, Hop::Request, detail));
    }
    Ok(lines)
}

fn invalid(detail: &str) -> Deny {
    Deny::new(Reason::RequestInvalid, Hop::Request, format!("Envoy's check request: {detail}"))
}

fn misconfigured(detail: impl Into<String>) -> Deny {
    Deny::new(Reason::ConfigurationInvalid, Hop::Request, detail)
}
