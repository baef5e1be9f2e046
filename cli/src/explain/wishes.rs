//! What would have to be true for a leaf to match, in words.

use authz::Hop;
use authz::trace::LeafTrace;

use super::nearest::MAX_VALUES;
use super::text;

/// Whether a field is about the token or the key, which nobody but its issuer can change.
pub(super) fn is_of_credential(field: &str) -> bool {
    field.starts_with("request.auth.") || matches!(field, "requestPrincipals" | "notRequestPrincipals")
}

/// What would have to be true for a leaf to match.
pub(super) fn wish(leaf: &LeafTrace, hop: Hop) -> String {
    let subject = subject(&leaf.field, hop);
    if leaf.wanted.iter().any(|wanted| wanted.contains(text::VEIL)) {
        let what = if leaf.negated { "none of the values" } else { "a value" };
        return format!("{subject} had {what} that the rule names, which are not shown");
    }
    // A claim may be a list.
    let has = leaf.field.starts_with("request.auth.claims") && leaf.wanted != ["*"];
    let is_address = subject.ends_with("address");
    let among = if leaf.negated {
        match leaf.wanted.as_slice() {
            [one] if !has && !is_address => format!("not {}", text::value(one)),
            all => format!("none of {}", text::values(all, MAX_VALUES)),
        }
    } else if leaf.wanted == ["*"] {
        "there at all".to_owned()
    } else {
        text::one_of(&leaf.wanted, MAX_VALUES)
    };
    let verb = match (has, is_address) {
        (true, _) => "had",
        (_, true) => "were in",
        _ => "were",
    };
    format!("{subject} {verb} {among}")
}

fn subject(field: &str, hop: Hop) -> String {
    let inner = |prefix: &str| field.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(']'));
    let peer = if hop == Hop::Destination { "the gateway's identity" } else { "the peer" };
    let words = match field {
        "methods" | "notMethods" => "the method",
        "paths" | "notPaths" => "the path",
        "hosts" | "notHosts" => "the host",
        "ports" | "notPorts" | "destination.port" => "the destination's port",
        "principals" | "notPrincipals" | "source.principal" => peer,
        "namespaces" | "notNamespaces" | "source.namespace" => return format!("the namespace of {peer}"),
        "serviceAccounts" | "notServiceAccounts" | "source.serviceAccount" => {
            return format!("the service account of {peer}");
        }
        "trustDomains" | "notTrustDomains" | "source.trustDomain" => return format!("the trust domain of {peer}"),
        "requestPrincipals" | "notRequestPrincipals" | "request.auth.principal" => {
            "the caller (issuer/subject of a valid token or key)"
        }
        "request.auth.audiences" => "the token's aud",
        "request.auth.presenter" => "the token's azp",
        "ipBlocks" | "notIpBlocks" | "source.ip" => "the direct peer's address",
        "remoteIpBlocks" | "notRemoteIpBlocks" | "remote.ip" => "the client's address",
        "destination.ip" => "the destination's address",
        "connection.sni" => "the server name of the TLS connection",
        _ => "",
    };
    if !words.is_empty() {
        return words.to_owned();
    }
    if let Some(name) = inner("request.headers[") {
        return format!("the header {}", text::plain(name));
    }
    if let Some(name) = inner("request.auth.claims[") {
        return format!("the token's claim {}", text::plain(&name.replace("][", ".")));
    }
    text::plain(field)
}
