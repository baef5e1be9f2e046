//! Destinations that the gateway would speak plaintext to.
//!
//! "It sees what it would see in the mesh": the destination of an API is asked about the gateway's SPIFFE ID. Where the
//! documents turn mutual TLS off, or never turn it on, there is none in the mesh, and rules on peers would say something
//! else there.

use std::collections::BTreeMap;

use istio::{
    ApiGateway, ClientTlsMode, Endpoint, Location, Meta, MtlsMode, PeerAuthentication, ServiceEntry, TrafficPolicy,
};

use super::Compiler;
use super::client_rules::{in_force, possible};
use super::destination::Found;
use crate::compiled::Destination;

/// Label of a workload: `istio` where it takes mutual TLS. Istio's injection sets it.
const TLS_MODE: &str = "security.istio.io/tlsMode";

/// What the gateway speaks plaintext to although no document turns mutual TLS off.
pub(super) struct Plain<'a> {
    /// Document that describes it.
    meta: &'a Meta,
    /// Path in the document.
    path: String,
    /// What to do.
    instead: &'static str,
}

const NAME_ACCOUNTS: &str = "give each endpoint its `serviceAccount`";
const NAME_LOCATION: &str = "write `location: MESH_INTERNAL`";
const LEAVE_LABEL: &str = "leave the label out";

/// Whether nobody enforces policies at `host` of `entry`. The default of `location` is MESH_EXTERNAL, so that a name of the
/// mesh is not believed to be outside of it.
pub(super) fn is_external(entry: &ServiceEntry, host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    entry.location == Location::MeshExternal && !host.trim_end_matches('.').ends_with(".svc.cluster.local")
}

/// Istio (`getTLSModeFromWorkloadEntry`): "Use security.istio.io/tlsMode if its present", "If not, set TLS mode if
/// ServiceAccount is specified". The hosts themselves, with DNS and without endpoints, are never spoken to by mutual TLS.
pub(super) fn of_service_entry(entry: &ServiceEntry) -> Option<Plain<'_>> {
    let is_plain = |endpoint: &Endpoint| match endpoint.labels.get(TLS_MODE) {
        Some(mode) => mode != "istio",
        None => endpoint.service_account.as_ref().is_none_or(String::is_empty),
    };
    let (path, instead) = match entry.endpoints.iter().position(is_plain) {
        // Istio (`buildUpstreamTLSSettings`): to what is `meshExternal` it begins no mutual TLS by itself.
        _ if entry.location == Location::MeshExternal => ("spec.location".to_owned(), NAME_LOCATION),
        Some(index) => (format!("spec.endpoints[{index}]"), NAME_ACCOUNTS),
        None if entry.endpoints.is_empty() => ("spec.endpoints".to_owned(), NAME_ACCOUNTS),
        None => return None,
    };
    Some(Plain { meta: &entry.meta, path, instead })
}

/// Istio (`GetTLSModeFromEndpointLabels`): the label of a pod says it.
pub(super) fn of_service(service: &istio::Service) -> Option<Plain<'_>> {
    let mode = service.selector.get(TLS_MODE)?;
    (mode != "istio").then(|| Plain { meta: &service.meta, path: "spec.selector".to_owned(), instead: LEAVE_LABEL })
}

/// Whether labels of an endpoint say nothing but whether it takes mutual TLS.
pub(super) fn is_tls_mode_alone(labels: &BTreeMap<String, String>) -> bool {
    labels.keys().all(|name| name == TLS_MODE)
}

impl<'a> Compiler<'a> {
    /// Complains of the documents by which `found`, which `api` sends requests to, is or may be spoken to without mutual
    /// TLS; tells whether there are any.
    pub(super) fn check_mutual_tls(&mut self, api: &ApiGateway, found: &Found<'a>) -> bool {
        let Found { destination, port, .. } = found;
        let key =
            format!("{}/{} to {}:{port}, {:?}", api.meta.namespace, api.meta.name, destination.host, destination.port);
        if let Some(known) = self.without_mutual_tls.get(&key) {
            return *known;
        }
        let by_rule = self.mutual_by_rule(api, destination, *port);
        let documents =
            [self.plaintext_by_rule(api, destination, *port), self.plaintext_by_policy(destination, by_rule)];
        let turned_off = format!(
            "it turns mutual TLS to {} off, which an API has as its destination: in the mesh its policies would see no peer \
             identity, and here they see the gateway's; use ISTIO_MUTUAL or PERMISSIVE",
            destination.host
        );
        let is_off = documents.iter().any(Option::is_some);
        for meta in documents.into_iter().flatten() {
            self.complain_once(meta, &turned_off);
        }
        let plain = found.plain.as_ref().filter(|_| !by_rule);
        if let Some(Plain { meta, path, instead }) = plain {
            let message = format!(
                "{path}: Istio does not know that {} takes mutual TLS, and its gateway speaks plaintext to it: in the mesh \
                 its policies would see no peer identity, and here they see the gateway's; {instead}, or write a \
                 DestinationRule with ISTIO_MUTUAL for the host",
                destination.host
            );
            self.complain_once(meta, &message);
        }
        let found = is_off || plain.is_some();
        self.without_mutual_tls.insert(key, found);
        found
    }

    /// Two routes, and two APIs, may lead to the same document.
    pub(super) fn complain_once(&mut self, meta: &Meta, message: &str) {
        let said = super::at(meta, message);
        if !self.errors.contains(&said) && !self.warnings.contains(&said) {
            self.complain(meta, message);
        }
    }

    /// A `DestinationRule` with DISABLE or SIMPLE, by which the destination sees no certificate. Of several that Istio
    /// could take any counts.
    fn plaintext_by_rule(&self, api: &ApiGateway, destination: &Destination, port: u16) -> Option<&'a Meta> {
        let without = |policy: &TrafficPolicy| {
            // Istio (`trafficPolicyTLSModeForPort`): a port counts when it has `tls`, or else what stands above it:
            // endpoints lose their mutual TLS by that.
            let of_port = policy.port_level_settings.get(&port).and_then(|of_port| of_port.tls.as_ref());
            of_port.or(policy.tls.as_ref()).is_some_and(|tls| tls.mode != ClientTlsMode::IstioMutual)
        };
        let rules = possible(self.resources, destination, &api.workload).into_iter();
        let mut without = rules.filter(|rule| rule.traffic_policy.as_ref().is_some_and(without));
        without.next().map(|rule| &rule.meta)
    }

    /// Whether the `DestinationRule` that Istio takes says ISTIO_MUTUAL, with no doubt about which one that is: then
    /// neither the endpoints nor the namespace are asked.
    fn mutual_by_rule(&self, api: &ApiGateway, destination: &Destination, port: u16) -> bool {
        let mutual = |policy: &TrafficPolicy| {
            // Istio (`GetPortLevelTrafficPolicy`): "Traffic settings specified at the destination-level will not be
            // inherited when overridden by port-level settings".
            let policy = policy.port_level_settings.get(&port).unwrap_or(policy);
            policy.tls.as_ref().is_some_and(|tls| tls.mode == ClientTlsMode::IstioMutual)
        };
        let rules = in_force(self.resources, destination, &api.workload);
        let is_sure = rules
            .iter()
            .any(|rule| rule.workload_selector.as_ref().is_none_or(|selector| selector.selects(&api.workload.labels)));
        is_sure && rules.iter().all(|rule| rule.traffic_policy.as_ref().is_some_and(mutual))
    }

    /// A `PeerAuthentication` with DISABLE that may be in force at the destination or at its clients. "The narrowest scope
    /// wins", and UNSET inherits; of several of one scope the oldest counts, which files do not tell.
    fn plaintext_by_policy(&self, destination: &Destination, mutual_by_rule: bool) -> Option<&'a Meta> {
        let resources = self.resources;
        let in_namespace = |namespace: &str, wide: bool| -> Vec<&'a PeerAuthentication> {
            let all = resources.peer_authentications.iter();
            all.filter(|policy| policy.meta.namespace == namespace && is_wide(policy) == wide).collect()
        };
        let own = destination.namespace.as_str();
        let mut narrow = in_namespace(own, false);
        narrow.retain(|policy| may_select(policy, destination));
        let modes = |policy: &PeerAuthentication| modes_at(policy, destination.port);
        if let Some(found) = narrow.iter().find(|policy| modes(policy).contains(&MtlsMode::Disable)) {
            return Some(&found.meta);
        }
        let mut wide = in_namespace(own, true);
        if wide.iter().all(|policy| policy.mode == MtlsMode::Unset) {
            wide = in_namespace(resources.mesh.root_namespace.as_str(), true);
        }
        let found = wide.into_iter().find(|policy| policy.mode == MtlsMode::Disable)?;
        // Istio (`BestEffortInferServiceMTLSMode`): clients "ignore workload & port level policies". So they speak
        // plaintext to workloads that would take mutual TLS, unless a rule says otherwise.
        let takes = |policy: &&PeerAuthentication| !modes(policy).contains(&MtlsMode::Unset);
        let taken = narrow.iter().any(|policy| selects(policy, destination)) && narrow.iter().all(takes);
        (!(mutual_by_rule && taken)).then_some(&found.meta)
    }
}

fn is_wide(policy: &PeerAuthentication) -> bool {
    policy.selector.as_ref().is_none_or(|selector| selector.match_labels.is_empty())
}

/// The modes that `policy` may have at `port`: at one that no document says, those of all ports.
fn modes_at(policy: &PeerAuthentication, port: Option<u16>) -> Vec<MtlsMode> {
    let or_wider = |mode: MtlsMode| if mode == MtlsMode::Unset { policy.mode } else { mode };
    match port {
        Some(port) => vec![or_wider(policy.port_level.get(&port).copied().unwrap_or_default())],
        None => policy.port_level.values().copied().map(or_wider).chain([policy.mode]).collect(),
    }
}

/// Whether its labels contradict none that the documents of the destination say. Workloads may have more than those.
fn may_select(policy: &PeerAuthentication, destination: &Destination) -> bool {
    let mut wanted = policy.selector.iter().flat_map(|selector| &selector.match_labels);
    wanted.all(|(name, value)| destination.labels.iter().all(|label| label.name != *name || label.value == *value))
}

fn selects(policy: &PeerAuthentication, destination: &Destination) -> bool {
    let mut wanted = policy.selector.iter().flat_map(|selector| &selector.match_labels);
    wanted.all(|(name, value)| destination.labels.iter().any(|label| label.name == *name && label.value == *value))
}
