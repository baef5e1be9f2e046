mod action;
mod fault;
mod http_match;
mod route;

use super::check::{host, is_host};
use super::export_to::{Exported, export_to};
use super::nearest::quoted;
use super::read::{At, Mapping};
use crate::{Meta, VirtualService};

const SPEC_NOT_YET: &[&str] = &["tcp", "tls"];

pub(super) fn virtual_service(meta: Meta, spec: &At<'_>) -> Option<VirtualService> {
    spec.mapping(SPEC_NOT_YET, |fields| {
        let gateways = fields.list("gateways", |at| gateway_name(at, &meta.namespace));
        // "If no gateways are specified, the rule applies to the reserved word `mesh`."
        let gateways = match gateways {
            Some(gateways) if !gateways.is_empty() => gateways,
            _ => vec!["mesh".to_owned()],
        };
        let mesh = gateways.iter().any(|gateway| gateway == "mesh");
        let hosts = fields.required_list("hosts", |at| {
            let host = host(at, true)?;
            if host == "*" && mesh {
                // Istio: "wildcard host * is not allowed for virtual services bound to the mesh
                // gateway".
                at.error("the host `*` needs `gateways` without `mesh`");
            }
            Some(host)
        });
        // With routes of another kind there is an error about those.
        let others = SPEC_NOT_YET.iter().any(|name| fields.has(name));
        let http = match fields.field("http") {
            None if others => Vec::new(),
            None => {
                fields.at.error("the field `http` is missing");
                Vec::new()
            }
            Some(at) => at.elements().iter().filter_map(|at| route::http_route(at, &meta.namespace)).collect(),
        };
        let export_to = export_to(fields, &meta.namespace, Exported::Rule);
        if fields.clean() {
            overlapping(&hosts, fields);
        }
        Some(VirtualService { meta, hosts, gateways, http, export_to })
    })
}

/// Istio: "duplicate hosts in virtual service"; `*.example.com` and `a.example.com` are.
fn overlapping(hosts: &[String], fields: &Mapping<'_>) {
    let covers = |outer: &str, inner: &str| {
        outer == inner || outer.strip_prefix('*').is_some_and(|suffix| inner.ends_with(suffix) && inner != suffix)
    };
    for (index, host) in hosts.iter().enumerate() {
        let lower = host.to_ascii_lowercase();
        let earlier = hosts.iter().take(index).find(|earlier| {
            let earlier = earlier.to_ascii_lowercase();
            covers(&earlier, &lower) || covers(&lower, &earlier)
        });
        if let Some(earlier) = earlier {
            fields.at.error(format!("the hosts {} and {} overlap; keep one", quoted(earlier), quoted(host)));
        }
    }
}

/// A gateway as `NAMESPACE/NAME`, or the word `mesh`.
fn gateway_name(at: &At<'_>, namespace: &str) -> Option<String> {
    let text = at.non_empty_string()?;
    if text == "mesh" {
        return Some(text);
    }
    let (gateway_namespace, name) = text.split_once('/').unwrap_or((".", &text));
    let gateway_namespace = if gateway_namespace == "." { namespace } else { gateway_namespace };
    if text.contains('.') && !text.contains('/') {
        at.error(format!(
            "a gateway with a dot in its name is not supported yet, found {}; write \
             `NAMESPACE/NAME`",
            quoted(&text)
        ));
        return None;
    }
    if !is_host(gateway_namespace, false) || !is_host(name, false) {
        at.error(format!("expected the name of a gateway, `NAMESPACE/NAME` or `mesh`, found {}", quoted(&text)));
        return None;
    }
    Some(format!("{gateway_namespace}/{name}"))
}
