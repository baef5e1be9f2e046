use crate::meta::Meta;

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
}

/// `http[]`: requests of one kind and where they go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HttpRoute {
    /// `name`; empty when absent.
    pub name: String,
    /// `match`, one of which must match; empty matches every request.
    pub matches: Vec<HttpMatch>,
    /// `route[0].destination`: the only destination (weighted routes are not supported yet).
    pub destination: Destination,
}

/// `match[]`: all fields that are present must match.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HttpMatch {
    /// `uri`, compared with the path without the query, with case; absent matches every path.
    pub uri: Option<StringMatch>,
}

/// How a string is compared.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StringMatch {
    /// `exact`: equal.
    Exact(String),
    /// `prefix`: begins with this text, not with this path segment: `/a` matches `/abc`.
    Prefix(String),
}

/// `destination`: a service of the registry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Destination {
    /// `host`, as written: resolve a short one with [`full_host`](crate::full_host).
    pub host: String,
    /// `port.number`; absent means the service's only port.
    pub port: Option<u16>,
}
