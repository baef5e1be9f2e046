//! What the gate is asked about.

use std::fmt;
use std::net::IpAddr;

use crate::claims::Json;
use crate::decision::Hop;

/// One request, as its front saw it.
///
/// A front makes it from an event or from Envoy's attributes, once, at the edge. Names of headers are in
/// lower case; pseudo-headers are not among them, and a `host` line is ignored in favour of
/// [`host`](Self::host).
///
/// An attribute that is `None` cannot be known, which is not the same as empty. Istio's rule for it is: an ALLOW rule
/// that looks at it never matches, and a DENY, AUDIT or CUSTOM rule loses the condition, and so matches more.
#[derive(Clone, Default, PartialEq)]
pub struct Request {
    /// `GET` and so on, with case.
    pub method: String,
    /// `http` or `https`.
    pub scheme: String,
    /// `Host` or `:authority`, as sent, with its port if it had one.
    pub host: String,
    /// Path with query, as sent. An API Gateway front takes stage and base path off first.
    pub path: String,
    /// What the backend gets to see of the path.
    pub path_handling: PathHandling,
    /// Header lines in order; names in lower case. A name may come twice unless
    /// [`headers_joined`](Self::headers_joined).
    pub headers: Vec<(String, String)>,
    /// Whether the front only has the comma-joined form of repeated headers, as events of API Gateway
    /// and Envoy's `ext_authz` map have. Negative tests and DENY rules then look at the parts too.
    pub headers_joined: bool,
    /// The direct peer.
    pub source: Peer,
    /// Address of the workload that the request arrived at.
    pub destination_ip: Option<IpAddr>,
    /// Port of the workload that the request arrived at.
    pub destination_port: Option<u16>,
    /// Server name of the client's TLS connection; empty for none.
    pub sni: Option<String>,
    /// SHA-256 of the certificate that the client showed, in DER: what RFC 8705 binds tokens to. `None` when it showed
    /// none, or when the front cannot know.
    pub client_certificate: Option<[u8; 32]>,
    /// Dynamic metadata of Envoy's filters: name of the filter, and an object. Empty when there are filters and none
    /// has any.
    pub dynamic_metadata: Option<Vec<(String, Json)>>,
    /// What cannot be known although its field above has no `None` for it.
    pub unknown: Unknown,
}

/// Attributes that the front could not see, and whose fields in a [`Request`] cannot say so.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Unknown {
    /// [`Request::host`], whatever it says. The request is routed as one to the domains of its `ApiGateway` document.
    pub host: bool,
    /// All headers, and the query: the front sees none, or perhaps not every line. Credentials are still read from those
    /// that [`Request::headers`] and the path hold.
    pub headers: bool,
    /// [`Peer::principal`]: the peer has proven a certificate that says nothing which policies could be asked about, or
    /// nobody says whether it has proven one.
    pub principal: bool,
}

/// What the backend gets to see of a request's path, which is what the policies must judge.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum PathHandling {
    /// The front sends on the normal form that the mesh configuration asks for, as Envoy does.
    #[default]
    Rewritten,
    /// The backend sees the path as it was sent: it must already be in the normal form.
    AsSent,
}

/// Who is at the other end of the connection.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Peer {
    /// Address of the direct peer.
    pub ip: Option<IpAddr>,
    /// Address of the client as told by trusted proxies.
    pub remote_ip: Option<IpAddr>,
    /// Peer identity of mutual TLS without `spiffe://`; `None` is plaintext, never an empty string.
    pub principal: Option<String>,
}

/// The workload that a request is for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// A workload of the mesh: one hop.
    Workload {
        /// Its namespace.
        namespace: String,
        /// Its labels, which selectors are matched against.
        labels: Vec<(String, String)>,
        /// The environment that it belongs to. Without one no API key opens it: a key is good for one environment.
        environment: Option<String>,
    },
    /// An API of API Gateway: two hops, the gateway workload that it plays and the destination behind
    /// it. All three fields come from API Gateway's request context, never from the client's headers.
    ApiGateway {
        /// Id of the API.
        api_id: String,
        /// Stage of the API, such as `$default`.
        stage: String,
        /// `domainName` of the request context.
        domain: String,
    },
}

/// An attribute of a request that not every front can know. The words are Istio's keys.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Attribute {
    /// `source.ip`, also `ipBlocks`: [`Peer::ip`].
    SourceIp,
    /// `remote.ip`, also `remoteIpBlocks`: [`Peer::remote_ip`].
    RemoteIp,
    /// `destination.ip`: [`Request::destination_ip`].
    DestinationIp,
    /// `destination.port`, also `ports`: [`Request::destination_port`].
    DestinationPort,
    /// `connection.sni`: [`Request::sni`].
    Sni,
    /// `experimental.envoy.filters.*`: [`Request::dynamic_metadata`].
    DynamicMetadata,
    /// `hosts`, also `request.headers[:authority]`: [`Unknown::host`].
    Host,
    /// `request.headers`: [`Unknown::headers`].
    Headers,
    /// `source.principal`, also every other field about the peer's identity: [`Unknown::principal`].
    SourcePrincipal,
}

impl Attribute {
    /// Every attribute that may be unknown.
    pub const ALL: &[Attribute] = &[
        Self::SourceIp,
        Self::RemoteIp,
        Self::DestinationIp,
        Self::DestinationPort,
        Self::Sni,
        Self::DynamicMetadata,
        Self::Host,
        Self::Headers,
        Self::SourcePrincipal,
    ];

    /// Istio's key of a condition on it; for dynamic metadata, what the keys begin with.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SourceIp => "source.ip",
            Self::RemoteIp => "remote.ip",
            Self::DestinationIp => "destination.ip",
            Self::DestinationPort => "destination.port",
            Self::Sni => "connection.sni",
            Self::DynamicMetadata => "experimental.envoy.filters",
            Self::Host => "hosts",
            Self::Headers => "request.headers",
            Self::SourcePrincipal => "source.principal",
        }
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What can never be known of a request that API Gateway asks about, at each of its two hops. The port is known unless
/// the documents leave it open: several servers of the gateway, or a named target port of the destination's Service.
pub const UNAVAILABLE_AT_API_GATEWAY: [(Hop, &[Attribute]); 2] = [
    (Hop::Gateway, &[Attribute::DestinationIp, Attribute::Sni, Attribute::DynamicMetadata]),
    (Hop::Destination, &[Attribute::SourceIp, Attribute::DestinationIp, Attribute::Sni, Attribute::DynamicMetadata]),
];

/// Header names of one request, at most.
pub const MAX_HEADERS: usize = 100;

/// Bytes of method, host, path, header names and values of one request, at most.
pub const MAX_HEADER_BYTES: usize = 64 * 1024;

impl Request {
    /// The values of the header `name` (lower case), in order. `host` is [`host`](Self::host).
    pub fn header_lines<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        lines(&self.headers, name)
    }

    /// Whether the request keeps the limits on headers.
    pub(crate) fn is_within_limits(&self) -> bool {
        let fixed = self.method.len() + self.host.len() + self.path.len();
        let lines: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.headers.len() <= MAX_HEADERS && fixed + lines <= MAX_HEADER_BYTES
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            method,
            scheme,
            host,
            path,
            path_handling,
            headers,
            headers_joined,
            source,
            destination_ip,
            destination_port,
            sni,
            client_certificate,
            dynamic_metadata,
            unknown,
        } = self;
        f.debug_struct("Request")
            .field("method", method)
            .field("scheme", scheme)
            .field("host", host)
            // The query may hold a token.
            .field("path", &path_only(path))
            .field("path_handling", path_handling)
            .field("headers", &Veiled(headers))
            .field("headers_joined", headers_joined)
            .field("source", source)
            .field("destination_ip", destination_ip)
            .field("destination_port", destination_port)
            .field("sni", sni)
            .field("client_certificate", &client_certificate.is_some())
            // A filter may have put claims or a token there.
            .field("dynamic_metadata", &dynamic_metadata.as_ref().map(|filters| filters.len()))
            .field("unknown", unknown)
            .finish()
    }
}

/// Header lines, to be shown by their names: any value may be a credential.
pub(crate) struct Veiled<'a>(pub(crate) &'a [(String, String)]);

impl fmt::Debug for Veiled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| (name, "***"))).finish()
    }
}

/// The values of the header `name` (lower case) in `headers`, in order.
pub(crate) fn lines<'a>(headers: &'a [(String, String)], name: &'a str) -> impl Iterator<Item = &'a str> {
    headers.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
}

/// A header's name with `-` for `_`: CGI and what came of it show both to the application under one name (RFC 3875 section
/// 4.1.18).
pub fn plain_name(name: &str) -> String {
    name.replace('_', "-")
}

/// The path of `target` without query and fragment: cut at the first `?` or `#`, as Envoy's
/// `removeQueryAndFragment` does.
pub(crate) fn path_only(target: &str) -> &str {
    target.split(['?', '#']).next().unwrap_or_default()
}
