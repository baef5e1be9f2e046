use super::check::{distinct, is_dns_label};
use super::meta::{annotation, workload_labels};
use super::nearest::quoted;
use super::read::{At, Mapping};
use crate::service::EXPORT_TO;
use crate::{Meta, Service, ServicePort, TargetPort};

/// How Kubernetes exposes a service and balances inside the cluster: no part of the verdict, nor of
/// the name that it has.
const IGNORED: &[&str] = &[
    "allocateLoadBalancerNodePorts",
    "clusterIP",
    "clusterIPs",
    "externalIPs",
    "externalTrafficPolicy",
    "healthCheckNodePort",
    "internalTrafficPolicy",
    "ipFamilies",
    "ipFamilyPolicy",
    "loadBalancerClass",
    "loadBalancerIP",
    "loadBalancerSourceRanges",
    "publishNotReadyAddresses",
    "sessionAffinity",
    "sessionAffinityConfig",
    "trafficDistribution",
];
const SPEC_NOT_YET: &[&str] = &["externalName"];
const TYPES: &[(&str, ())] = &[("ClusterIP", ()), ("LoadBalancer", ()), ("NodePort", ())];
const TYPES_NOT_YET: &[&str] = &["ExternalName"];
const PROTOCOLS: &[(&str, &str)] = &[("TCP", "TCP")];
const PROTOCOLS_NOT_YET: &[&str] = &["SCTP", "UDP"];

pub(super) fn service(document: &At<'_>, meta: Meta, spec: &At<'_>) -> Option<Service> {
    check_export_to(document, &meta);
    spec.mapping(SPEC_NOT_YET, |fields| {
        if let Some(kind) = fields.field("type") {
            kind.word(TYPES, TYPES_NOT_YET);
        }
        let ports = fields.required_list("ports", service_port);
        // Without a selector the workloads are unknown, and policies that select them would be
        // passed over.
        let labels = fields.field("selector");
        let selector = labels.as_ref().map(workload_labels).unwrap_or_default();
        fields.ignore(IGNORED);
        if fields.clean() {
            if selector.is_empty() {
                fields.at.error("a service without `selector` is not supported yet");
            }
            check_ports(&ports, fields);
        }
        Some(Service { meta, ports, selector })
    })
}

/// Istio does not check it, and a word that it does not know is a namespace that nobody is in.
fn check_export_to(document: &At<'_>, meta: &Meta) {
    let (Some(words), Some(at)) = (meta.annotations.get(EXPORT_TO), annotation(document, EXPORT_TO)) else {
        return;
    };
    for word in words.split(',').map(str::trim) {
        if !words.is_empty() && !matches!(word, "*" | "." | "~") && !is_dns_label(word) {
            at.error(format!("expected `*`, `.`, `~` or names of namespaces with commas, found {}", quoted(word)));
        }
    }
}

fn check_ports(ports: &[ServicePort], fields: &Mapping<'_>) {
    let at = &fields.at;
    if ports.len() > 1 && ports.iter().any(|port| port.name.is_empty()) {
        at.error("a service with several ports needs a name for each of them");
    }
    distinct(ports.iter().map(|port| port.port), |port| at.error(format!("the port {port} is given twice")));
    distinct(ports.iter().map(|port| port.name.as_str()), |name| {
        if !name.is_empty() {
            at.error(format!("the port name {} is given twice", quoted(name)));
        }
    });
}

fn service_port(at: &At<'_>) -> Option<ServicePort> {
    at.mapping(&[], |fields| {
        let name = fields.string("name").unwrap_or_default();
        let port = fields.required("port").and_then(|port| port.port());
        let protocol = fields.field("protocol");
        let protocol = protocol.and_then(|word| word.word(PROTOCOLS, PROTOCOLS_NOT_YET));
        let target_port = fields.field("targetPort").and_then(|target| {
            if target.is_string() {
                target.non_empty_string().map(TargetPort::Name)
            } else {
                target.port().map(TargetPort::Number)
            }
        });
        let app_protocol = fields.string("appProtocol");
        fields.ignore(&["nodePort"]);
        let protocol = protocol.unwrap_or("TCP").to_owned();
        Some(ServicePort { name, port: port?, protocol, target_port, app_protocol })
    })
}
