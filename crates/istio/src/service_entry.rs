use std::collections::BTreeMap;

use crate::gateway::Port;
use crate::meta::Meta;

/// `ServiceEntry`: a host that the registry would not know otherwise.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceEntry {
    /// Name, namespace and origin.
    pub meta: Meta,
    /// `hosts`, at least one, fully qualified; `*.` may lead one.
    pub hosts: Vec<String>,
    /// `ports`, at least one, with distinct numbers and names.
    pub ports: Vec<Port>,
    /// `location`; Istio's default is `MESH_EXTERNAL`.
    pub location: Location,
    /// `resolution`.
    pub resolution: Resolution,
    /// `endpoints`: with `STATIC` at least one; with `DNS` none means the hosts themselves.
    pub endpoints: Vec<Endpoint>,
    /// `subjectAltNames`: identities that the server may have, such as
    /// `spiffe://cluster.local/ns/bookinfo/sa/bookinfo-ratings`.
    pub subject_alt_names: Vec<String>,
}

/// `location` of a [`ServiceEntry`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Location {
    /// `MESH_EXTERNAL`: outside the mesh; no mutual TLS by itself.
    #[default]
    MeshExternal,
    /// `MESH_INTERNAL`: part of the mesh.
    MeshInternal,
}

/// `resolution` of a [`ServiceEntry`]. The reader refuses the other ways for now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Resolution {
    /// `DNS`: endpoints are names that are looked up.
    Dns,
    /// `STATIC`: endpoints are addresses.
    Static,
}

/// `endpoints[]`: where the service is reached.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// `address`: an IP address with `STATIC`, an address or a DNS name with `DNS`.
    pub address: String,
    /// `ports`: port name of the service → port of this endpoint; a name that is missing here has
    /// the service's own number.
    pub ports: BTreeMap<String, u16>,
}
