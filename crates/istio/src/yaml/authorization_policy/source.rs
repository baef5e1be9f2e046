//! `from[].source`.

use crate::yaml::nearest::quoted;
use crate::yaml::read::{At, Mapping};
use crate::{Action, IpBlock, Source};

/// Most service accounts of a field, and the length of one in bytes. Istio: "arbitrary limit to avoid unbounded
/// configuration sizes".
const MAX_SERVICE_ACCOUNTS: usize = 16;
const MAX_SERVICE_ACCOUNT: usize = 320;
/// Fields about the peer's certificate or the token. Istio: "… is currently not supported with CUSTOM action"; its
/// provider is asked before any token is looked at.
const NOT_WITH_CUSTOM: &[&str] = &[
    "namespaces",
    "notNamespaces",
    "notPrincipals",
    "notRequestPrincipals",
    "notServiceAccounts",
    "notTrustDomains",
    "principals",
    "requestPrincipals",
    "serviceAccounts",
    "trustDomains",
];

pub(super) fn from_entry(at: &At<'_>, action: Action) -> Option<Source> {
    let source =
        at.mapping(&[], |fields| fields.required("source")?.mapping(&[], |fields| Some(source(fields, action))))?;
    // Istio: "`from.source` must not be empty".
    if source == Source::default() {
        at.error("expected a source with at least one field that is not empty");
        return None;
    }
    Some(source)
}

fn source(fields: &mut Mapping<'_>, action: Action) -> Source {
    // Istio's schema: "Cannot set serviceAccounts with namespaces or principals". It counts fields, even empty ones.
    let accounts = ["serviceAccounts", "notServiceAccounts"].iter().any(|name| fields.has(name));
    let others = ["principals", "notPrincipals", "namespaces", "notNamespaces"];
    if accounts && others.iter().any(|name| fields.has(name)) {
        fields.at.error("`serviceAccounts` excludes `principals` and `namespaces`; keep one, or use two sources");
    }
    if action == Action::Custom {
        for name in NOT_WITH_CUSTOM {
            if let Some(field) = fields.at.child(name).filter(At::has_elements) {
                field.error(format!("the field `{name}` is not supported by Istio with the action CUSTOM"));
            }
        }
    }
    Source {
        principals: fields.strings("principals"),
        not_principals: fields.strings("notPrincipals"),
        request_principals: fields.strings("requestPrincipals"),
        not_request_principals: fields.strings("notRequestPrincipals"),
        namespaces: fields.strings("namespaces"),
        not_namespaces: fields.strings("notNamespaces"),
        service_accounts: service_accounts(fields, "serviceAccounts"),
        not_service_accounts: service_accounts(fields, "notServiceAccounts"),
        trust_domains: fields.list("trustDomains", trust_domain).unwrap_or_default(),
        not_trust_domains: fields.list("notTrustDomains", trust_domain).unwrap_or_default(),
        ip_blocks: fields.list("ipBlocks", ip_block).unwrap_or_default(),
        not_ip_blocks: fields.list("notIpBlocks", ip_block).unwrap_or_default(),
        remote_ip_blocks: fields.list("remoteIpBlocks", ip_block).unwrap_or_default(),
        not_remote_ip_blocks: fields.list("notRemoteIpBlocks", ip_block).unwrap_or_default(),
    }
}

/// A field of service accounts; also the values of the key `source.serviceAccount`.
pub(super) fn service_accounts(fields: &mut Mapping<'_>, name: &'static str) -> Vec<String> {
    fields.bounded_list(name, MAX_SERVICE_ACCOUNTS, service_account).unwrap_or_default()
}

/// Istio (`CheckServiceAccount`): "expected format 'serviceAccount' or 'namespace/serviceAccount'", "wildcard not
/// allowed", "value cannot exceed 320 characters".
fn service_account(at: &At<'_>) -> Option<String> {
    let text = at.non_empty_string()?;
    let shown = quoted(&text);
    if text.contains('*') {
        at.error(format!("wildcards are not supported in service accounts, found {shown}"));
    } else if text.len() > MAX_SERVICE_ACCOUNT {
        let length = text.len();
        at.error(format!("expected a service account of at most {MAX_SERVICE_ACCOUNT} bytes, found {length}"));
    } else if text.split('/').count() > 2 || text.split('/').any(str::is_empty) {
        at.error(format!("expected `SERVICE_ACCOUNT` or `NAMESPACE/SERVICE_ACCOUNT`, found {shown}"));
    } else {
        return Some(text);
    }
    None
}

/// Istio (`CheckTrustDomainValues`): "trust domain must not contain '/'".
fn trust_domain(at: &At<'_>) -> Option<String> {
    let text = with_wildcard(at)?;
    if text.contains('/') {
        at.error(format!("expected a trust domain without `/`, found {}", quoted(&text)));
        return None;
    }
    Some(text)
}

/// Istio (`CheckWildcardValues`): "at most one wildcard is allowed", "wildcard is only allowed at the start or end".
pub(super) fn with_wildcard(at: &At<'_>) -> Option<String> {
    let text = at.non_empty_string()?;
    let inside = text.strip_prefix('*').or_else(|| text.strip_suffix('*')).unwrap_or(&text);
    if inside.contains('*') {
        at.error(format!("expected at most one `*`, at the start or the end, found {}", quoted(&text)));
        return None;
    }
    Some(text)
}

/// Istio (`ValidateIPs`): "bad CIDR range", "bad IP address". An address with a zone (`fe80::1%eth0`), which Go reads,
/// names an interface of one machine and is refused.
pub(super) fn ip_block(at: &At<'_>) -> Option<IpBlock> {
    let text = at.non_empty_string()?;
    let block = text.parse().ok();
    if block.is_none() {
        at.error(format!("expected an IP address or a block such as `10.0.0.0/8`, found {}", quoted(&text)));
    }
    block
}
