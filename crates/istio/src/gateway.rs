use crate::meta::{Meta, WorkloadSelector};

/// `Gateway`: the hosts and ports that a gateway workload serves.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Gateway {
    /// Name, namespace and origin.
    pub meta: Meta,
    /// `selector`: labels of the gateway workload; empty selects every gateway.
    pub selector: WorkloadSelector,
    /// `servers`, at least one.
    pub servers: Vec<Server>,
}

/// `servers[]`: one port with its hosts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Server {
    /// `hosts`, at least one; each `HOST` or `NAMESPACE/HOST`, where `*.` may lead the host.
    pub hosts: Vec<String>,
    /// `port`.
    pub port: Port,
    /// `tls`, as data: it is enforced in the mesh, not by us.
    pub tls: Option<ServerTls>,
}

/// A port of a [`Gateway`] or a [`ServiceEntry`](crate::ServiceEntry).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Port {
    /// `number`, from 1.
    pub number: u16,
    /// `name`, not empty.
    pub name: String,
    /// `protocol` in Istio's spelling: `HTTP`, `HTTPS`, `GRPC`, `GRPC-WEB`, `HTTP2`, `MONGO`,
    /// `MYSQL`, `REDIS`, `TCP` or `TLS`. Read without case.
    pub protocol: String,
}

/// `tls` of a [`Server`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerTls {
    /// `mode`; Istio's default is `PASSTHROUGH`.
    pub mode: ServerTlsMode,
    /// `credentialName`: the Kubernetes secret with the gateway's certificate.
    pub credential_name: Option<String>,
}

/// `tls.mode` of a [`Server`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ServerTlsMode {
    /// `AUTO_PASSTHROUGH`: forwarded by SNI to the mesh service that it names.
    AutoPassthrough,
    /// `MUTUAL`: ended here, with a client certificate.
    Mutual,
    /// `OPTIONAL_MUTUAL`: ended here, with a client certificate if the client has one.
    OptionalMutual,
    /// `PASSTHROUGH`: forwarded by SNI as a `VirtualService` says.
    #[default]
    Passthrough,
    /// `SIMPLE`: ended here, without a client certificate.
    Simple,
}
