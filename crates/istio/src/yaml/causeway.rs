use super::check::{distinct, header_name, is_host, kubernetes_name};
use super::meta::{selector, workload_labels};
use super::nearest::quoted;
use super::read::{At, Mapping};
use crate::{ApiGateway, ApiGatewayWorkload, ApiKeyAuthentication, Meta};

/// Environments in `sharesTokensWith`, at most.
const MAX_ENVIRONMENTS: usize = 64;

pub(super) fn api_key_authentication(meta: Meta, spec: &At<'_>) -> Option<ApiKeyAuthentication> {
    spec.mapping(&[], |fields| {
        let selector = selector(fields);
        let issuer = fields.required_string("issuer");
        let header_name = match fields.field("headerName") {
            Some(name) => header_name(&name).map(|name| name.to_ascii_lowercase()),
            None => Some("x-api-key".to_owned()),
        };
        let forward_original_key = fields.boolean("forwardOriginalKey");
        Some(ApiKeyAuthentication { meta, selector, issuer: issuer?, header_name: header_name?, forward_original_key })
    })
}

pub(super) fn api_gateway(meta: Meta, spec: &At<'_>) -> Option<ApiGateway> {
    spec.mapping(&[], |fields| {
        let api_id = fields.required("apiId").and_then(|at| matching(&at, 64, api_id_byte));
        let stage = fields.required("stage").and_then(|at| matching(&at, 128, stage_byte));
        let domains = domains(fields);
        let base_path = fields.field("basePath").and_then(|at| base_path(&at));
        let gateway = fields.required("gateway");
        let gateway = gateway.and_then(|at| gateway_name(&at, &meta.namespace));
        let workload = fields.required("workload").and_then(|at| workload(&at));
        let environment = fields.required("environment");
        let environment = environment.and_then(|at| matching(&at, 32, api_id_byte));
        let shares_tokens_with = shares_tokens_with(fields, environment.as_deref());
        Some(ApiGateway {
            meta,
            api_id: api_id?,
            stage: stage?,
            domains,
            base_path,
            gateway: gateway?,
            workload: workload?,
            environment: environment?,
            shares_tokens_with,
        })
    })
}

/// `domain: HOST` or `domains: [HOST, …]`.
fn domains(fields: &mut Mapping<'_>) -> Vec<String> {
    let one = fields.field("domain");
    let list = fields.field("domains");
    let all = match (&one, &list) {
        (None, None) => {
            fields.at.error("the field `domain` or `domains` is missing");
            Vec::new()
        }
        (Some(_), Some(list)) => {
            list.error("`domain` and `domains` exclude each other; keep one");
            Vec::new()
        }
        (Some(one), None) => domain(one).into_iter().collect(),
        (None, Some(list)) => list.elements().iter().filter_map(domain).collect(),
    };
    distinct(&all, |domain| fields.at.error(format!("the domain {} is given twice", quoted(domain))));
    all
}

/// `sharesTokensWith: [ENVIRONMENT, …]`.
fn shares_tokens_with(fields: &mut Mapping<'_>, own: Option<&str>) -> Vec<String> {
    let one = |at: &At<'_>| {
        let name = matching(at, 32, api_id_byte)?;
        if own == Some(name.as_str()) {
            at.error(format!("expected another environment than its own, found {}", quoted(&name)));
            return None;
        }
        Some(name)
    };
    let all = fields.bounded_list("sharesTokensWith", MAX_ENVIRONMENTS, one).unwrap_or_default();
    distinct(&all, |name| fields.at.error(format!("the environment {} is given twice", quoted(name))));
    all
}

fn domain(at: &At<'_>) -> Option<String> {
    let text = at.non_empty_string()?.to_ascii_lowercase();
    if !is_host(&text, false) {
        at.error(format!("expected a host name without a port, found {}", quoted(&text)));
        return None;
    }
    Some(text)
}

fn base_path(at: &At<'_>) -> Option<String> {
    let text = at.non_empty_string()?;
    let segment = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"$-_.+!*'()".contains(&b))
    };
    if !text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(segment)) {
        at.error(format!("expected a path that begins with `/` and does not end with it, found {}", quoted(&text)));
        return None;
    }
    Some(text)
}

/// `NAME` or `NAMESPACE/NAME`, as `NAMESPACE/NAME`.
fn gateway_name(at: &At<'_>, own: &str) -> Option<String> {
    let text = at.non_empty_string()?;
    let (namespace, name) = text.split_once('/').unwrap_or((own, &text));
    if namespace.contains('.') || !is_host(namespace, false) || !is_host(name, false) {
        at.error(format!("expected the name of a Gateway or `NAMESPACE/NAME`, found {}", quoted(&text)));
        return None;
    }
    Some(format!("{namespace}/{name}"))
}

fn workload(at: &At<'_>) -> Option<ApiGatewayWorkload> {
    at.mapping(&[], |fields| {
        let namespace = fields.required("namespace");
        let namespace = namespace.and_then(|at| kubernetes_name(&at, 63, false));
        let labels = fields.required("labels").map(|at| {
            let labels = workload_labels(&at);
            // Policies that select the gateway would be passed over.
            if labels.is_empty() {
                at.error("expected at least one label");
            }
            labels
        });
        let service_account = fields.required("serviceAccount");
        let service_account = service_account.and_then(|at| kubernetes_name(&at, 253, true));
        Some(ApiGatewayWorkload { namespace: namespace?, labels: labels?, service_account: service_account? })
    })
}

fn matching(at: &At<'_>, longest: usize, byte: fn(u8) -> bool) -> Option<String> {
    let text = at.non_empty_string()?;
    if text.len() > longest || !text.bytes().all(byte) {
        let set: String = (b'!'..=b'~').filter(|b| byte(*b)).map(char::from).collect();
        at.error(format!(
            "expected at most {longest} characters of {}, found {}",
            set.replace("abcdefghijklmnopqrstuvwxyz", "a-z")
                .replace("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "A-Z")
                .replace("0123456789", "0-9"),
            quoted(&text)
        ));
        return None;
    }
    Some(text)
}

/// API ids and environments.
fn api_id_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// Stage names, and `$default`.
fn stage_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'$')
}
