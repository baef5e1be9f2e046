use super::check::{host, is_host};
use super::nearest::quoted;
use super::read::At;
use crate::{
    Destination, HeaderOperations, HttpAction, HttpMatch, HttpRoute, HttpRouteDestination, Meta, StringMatch,
    VirtualService,
};

const SPEC_NOT_YET: &[&str] = &["exportTo", "tcp", "tls"];
const ROUTE_NOT_YET: &[&str] = &[
    "corsPolicy",
    "delegate",
    "directResponse",
    "fault",
    "headers",
    "mirror",
    "mirrorPercent",
    "mirrorPercentage",
    "mirror_percent",
    "mirrors",
    "redirect",
    "retries",
    "rewrite",
    "timeout",
];
const MATCH_NOT_YET: &[&str] = &[
    "authority",
    "gateways",
    "headers",
    "ignoreUriCase",
    "method",
    "name",
    "port",
    "queryParams",
    "scheme",
    "sourceLabels",
    "sourceNamespace",
    "statPrefix",
    "withoutHeaders",
];
const STRING_MATCH_NOT_YET: &[&str] = &["regex"];
const WEIGHTED_NOT_YET: &[&str] = &["headers"];
const DESTINATION_NOT_YET: &[&str] = &["subset"];

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
        let http = fields.required_list("http", route);
        Some(VirtualService { meta, hosts, gateways, http, export_to: Vec::new() })
    })
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

fn route(at: &At<'_>) -> Option<HttpRoute> {
    at.mapping(ROUTE_NOT_YET, |fields| {
        let name = fields.string("name").unwrap_or_default();
        let matches = fields.list("match", http_match).unwrap_or_default();
        let destination = fields.required("route").and_then(|route| only_destination(&route));
        let destination =
            HttpRouteDestination { destination: destination?, weight: 0, headers: HeaderOperations::default() };
        Some(HttpRoute {
            name,
            matches,
            action: HttpAction::Route(vec![destination]),
            rewrite: None,
            timeout: None,
            retries: None,
            fault: None,
            mirrors: Vec::new(),
            headers: HeaderOperations::default(),
            has_cors_policy: false,
        })
    })
}

fn http_match(at: &At<'_>) -> Option<HttpMatch> {
    at.mapping(MATCH_NOT_YET, |fields| {
        let uri = fields.field("uri").and_then(|uri| string_match(&uri));
        Some(HttpMatch { uri, ..HttpMatch::default() })
    })
}

fn string_match(at: &At<'_>) -> Option<StringMatch> {
    at.mapping(STRING_MATCH_NOT_YET, |fields| {
        let exact = fields.non_empty_string("exact").map(StringMatch::Exact);
        let prefix = fields.non_empty_string("prefix").map(StringMatch::Prefix);
        match (exact, prefix) {
            (Some(only), None) | (None, Some(only)) => Some(only),
            (Some(_), Some(_)) => {
                fields.at.error("`exact` and `prefix` exclude each other; keep one");
                None
            }
            (None, None) => {
                if fields.clean() && !fields.has("regex") {
                    fields.at.error("expected `exact` or `prefix`");
                }
                None
            }
        }
    })
}

fn only_destination(at: &At<'_>) -> Option<Destination> {
    let routes = at.elements();
    if routes.len() > 1 {
        at.error(format!("weighted routes are not supported yet: expected one destination, found {}", routes.len()));
        return None;
    }
    routes.first()?.mapping(WEIGHTED_NOT_YET, |fields| {
        if let Some(weight) = fields.field("weight")
            && let Some(number) = weight.number()
            && number != 100
        {
            weight.error(format!("weighted routes are not supported yet: expected 100 or no weight, found {number}"));
        }
        fields.required("destination")?.mapping(DESTINATION_NOT_YET, |fields| {
            let host = fields.required("host").and_then(|at| host(&at, false));
            let port =
                fields.field("port").and_then(|port| port.mapping(&[], |fields| fields.required("number")?.port()));
            Some(Destination { host: host?, subset: None, port })
        })
    })
}
