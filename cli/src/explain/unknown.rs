//! Attributes of a request that are not known.

use authz::Hop;
use authz::trace::HopTrace;

/// What no request that comes this way tells.
pub(super) const NOT_KNOWN: &str = "cannot be known here";

/// Why an attribute is not known: a front cannot know it, or a request that was written down does not tell it.
pub(super) fn unknown(hop: &HopTrace, field: &str) -> &'static str {
    let never = |attribute| {
        authz::UNAVAILABLE_AT_API_GATEWAY.iter().any(|(at, never)| *at == hop.hop && never.contains(&attribute))
    };
    let attribute = match field {
        "ipBlocks" | "notIpBlocks" | "source.ip" => authz::Attribute::SourceIp,
        "remoteIpBlocks" | "notRemoteIpBlocks" | "remote.ip" => authz::Attribute::RemoteIp,
        "destination.ip" => authz::Attribute::DestinationIp,
        "ports" | "notPorts" | "destination.port" => authz::Attribute::DestinationPort,
        "connection.sni" => authz::Attribute::Sni,
        _ => authz::Attribute::DynamicMetadata,
    };
    if hop.hop == Hop::Destination || never(attribute) { NOT_KNOWN } else { "is not given in the request" }
}
