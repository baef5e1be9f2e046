//! `endpoints[]` of a `ServiceEntry`, and the `spec` of a `WorkloadEntry`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::check::{is_dns_label, is_host, kubernetes_name};
use super::labels::labels;
use super::nearest::quoted;
use super::read::{At, Mapping};
use crate::{Endpoint, Meta, Port, Resolution, WorkloadEntry};

pub(super) fn workload_entry(meta: Meta, spec: &At<'_>) -> Option<WorkloadEntry> {
    spec.mapping(&[], |fields| {
        let mut endpoint = endpoint(fields, None, &[])?;
        // Istio (`ConvertWorkloadEntry`): "we will merge labels from metadata with spec, with precedence to the
        // metadata".
        endpoint.labels.extend(meta.labels.clone());
        Some(WorkloadEntry { meta, endpoint })
    })
}

/// `resolution` and `known` ports of its service entry; a `WorkloadEntry` has neither.
pub(super) fn endpoint(fields: &mut Mapping<'_>, resolution: Option<Resolution>, known: &[Port]) -> Option<Endpoint> {
    let address = fields.required("address").and_then(|at| address(&at, resolution));
    let ports = fields.field("ports").map(|at| ports(&at, known)).unwrap_or_default();
    let labels = fields.field("labels").map(|at| labels(&at)).unwrap_or_default();
    let locality = match fields.field("locality") {
        None => Some(String::new()),
        Some(at) => locality(&at),
    };
    let weight = match fields.field("weight") {
        None => Some(1),
        // Istio: 0 is the same as absent.
        Some(at) => at.number().map(|weight| weight.max(1)),
    };
    let network = fields.string("network").unwrap_or_default();
    let service_account = fields.field("serviceAccount").and_then(|at| kubernetes_name(&at, 253, true));
    Some(Endpoint { address: address?, ports, labels, locality: locality?, weight: weight?, network, service_account })
}

fn address(at: &At<'_>, resolution: Option<Resolution>) -> Option<String> {
    let text = at.non_empty_string()?;
    if text.starts_with("unix://") {
        at.error("Unix sockets are not supported yet; expected an IP address or a host name");
        return None;
    }
    let ip = text.parse::<IpAddr>().is_ok();
    // Letters only in the last label, so that a mistyped IP address is no name.
    let name =
        is_host(&text, false) && text.rsplit('.').next().is_some_and(|top| !top.bytes().all(|b| b.is_ascii_digit()));
    match resolution {
        Some(Resolution::Static) if !ip => {
            at.error(format!(
                "resolution STATIC needs an IP address, found {}; use resolution DNS for a name",
                quoted(&text)
            ));
            None
        }
        _ if !ip && !name => {
            at.error(format!("expected an IP address or a host name, found {}", quoted(&text)));
            None
        }
        _ => Some(text),
    }
}

fn ports(at: &At<'_>, known: &[Port]) -> BTreeMap<String, u16> {
    let mut ports = BTreeMap::new();
    for (name, port) in at.entries() {
        // Istio: "endpoint port is not defined by the service entry". With a wrong `ports` of the
        // entry there is an error already.
        if !known.is_empty() && !known.iter().any(|known| known.name == name) {
            port.error(format!("the service entry has no port named {}", quoted(name)));
        } else if known.is_empty() && !is_dns_label(name) {
            port.error(format!("expected the name of a port, found {}", quoted(name)));
        }
        if let Some(number) = port.port() {
            ports.insert(name.to_owned(), number);
        }
    }
    ports
}

fn locality(at: &At<'_>) -> Option<String> {
    let text = at.string()?;
    let parts = text.split('/').count();
    if parts > 3 || text.contains('*') || text.starts_with('/') {
        at.error(format!("expected `REGION/ZONE/SUBZONE`, found {}", quoted(&text)));
        return None;
    }
    Some(text)
}
