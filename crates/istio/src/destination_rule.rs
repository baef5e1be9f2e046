use crate::meta::Meta;

/// `DestinationRule`: how the client side talks to a host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DestinationRule {
    /// Name, namespace and origin.
    pub meta: Meta,
    /// `host`, as written: resolve a short one with [`full_host`](crate::full_host).
    pub host: String,
    /// `trafficPolicy`.
    pub traffic_policy: Option<TrafficPolicy>,
}

/// `trafficPolicy` of a [`DestinationRule`].
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TrafficPolicy {
    /// `tls`.
    pub tls: Option<ClientTls>,
}

/// `trafficPolicy.tls`: the TLS that the client side originates.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientTls {
    /// `mode`.
    pub mode: ClientTlsMode,
    /// `sni`: server name to present instead of the one that Istio derives.
    pub sni: Option<String>,
    /// `subjectAltNames`: identities that the server may have; they replace those of the
    /// `ServiceEntry`. Empty means that those count.
    pub subject_alt_names: Vec<String>,
}

/// `tls.mode` of a [`ClientTls`]. The reader refuses `SIMPLE` and `MUTUAL` for now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClientTlsMode {
    /// `DISABLE`: plaintext.
    Disable,
    /// `ISTIO_MUTUAL`: mutual TLS with the workload's own SVID.
    IstioMutual,
}
