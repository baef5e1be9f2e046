//! Why a request was not proxied: one closed set of words, which is header value, log field and metric label.

use http::StatusCode;

/// The header of every answer that the extension makes itself; its value is the reason's word.
pub const HEADER: &str = "x-causeway-reason";

/// Why a request was answered by the extension and not by the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The extension's configuration cannot be used; the operator's fault.
    ConfigurationInvalid,
    /// The request cannot be understood; the application's fault.
    RequestInvalid,
    /// The application left the body of its request unfinished for too long.
    RequestTimeout,
    /// CONNECT is not answered here: in HTTP/2, in a tunnel, or at the port of a service.
    ConnectUnsupported,
    /// `https://` in a request line, or TLS in a tunnel to a service of HTTP, is not supported.
    HttpsUnsupported,
    /// The service is spoken to in HTTP/2, where there is no switch to another protocol.
    WebsocketUnsupported,
    /// A switch to another protocol than WebSocket, which is passed on to ports of TCP alone.
    UpgradeUnsupported,
    /// The host and port are not in the configuration (REGISTRY_ONLY).
    UnknownHost,
    /// The host is forwarded as it is (ALLOW_ANY), but is of the mesh or leads to this machine or to its link; or the
    /// application's TLS ends here, and the destination has none.
    DestinationForbidden,
    /// No route of the host's VirtualService matches.
    NoRoute,
    /// The route answers with a redirect.
    Redirect,
    /// The route answers itself (`directResponse`).
    DirectResponse,
    /// The route injects a failure (`fault.abort`).
    FaultInjected,
    /// There is no valid SVID, and none came in time.
    IdentityUnavailable,
    /// The sidecar's own SVID is of another namespace than the policies by which calls to its application are judged.
    IdentityOfAnotherNamespace,
    /// There is no valid access token, and none came in time.
    TokenUnavailable,
    /// The destination's token is exchanged for the caller's, and there is none, or the issuer refuses it.
    TokenRefused,
    /// The server proved to be somebody else.
    PeerIdentityMismatch,
    /// The TLS handshake failed.
    TlsFailed,
    /// No connection to any endpoint.
    UpstreamConnectFailed,
    /// There is no endpoint, or all of them are left out by outlier detection.
    NoHealthyUpstream,
    /// A limit of the DestinationRule's `connectionPool` is reached.
    UpstreamOverflow,
    /// The connection ended before the head of an answer.
    UpstreamReset,
    /// No answer in time.
    UpstreamTimeout,
    /// The answer is not HTTP.
    UpstreamProtocolError,
    /// Too many connections from the application.
    TooManyConnections,
}

impl Reason {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::ConfigurationInvalid => "configuration_invalid",
            Reason::RequestInvalid => "request_invalid",
            Reason::RequestTimeout => "request_timeout",
            Reason::ConnectUnsupported => "connect_unsupported",
            Reason::HttpsUnsupported => "https_unsupported",
            Reason::WebsocketUnsupported => "websocket_unsupported",
            Reason::UpgradeUnsupported => "upgrade_unsupported",
            Reason::UnknownHost => "unknown_host",
            Reason::DestinationForbidden => "destination_forbidden",
            Reason::NoRoute => "no_route",
            Reason::Redirect => "redirect",
            Reason::DirectResponse => "direct_response",
            Reason::FaultInjected => "fault_injected",
            Reason::IdentityUnavailable => "identity_unavailable",
            Reason::IdentityOfAnotherNamespace => "identity_of_another_namespace",
            Reason::TokenUnavailable => "token_unavailable",
            Reason::TokenRefused => "token_refused",
            Reason::PeerIdentityMismatch => "peer_identity_mismatch",
            Reason::TlsFailed => "tls_failed",
            Reason::UpstreamConnectFailed => "upstream_connect_failed",
            Reason::NoHealthyUpstream => "no_healthy_upstream",
            Reason::UpstreamOverflow => "upstream_overflow",
            Reason::UpstreamReset => "upstream_reset",
            Reason::UpstreamTimeout => "upstream_timeout",
            Reason::UpstreamProtocolError => "upstream_protocol_error",
            Reason::TooManyConnections => "too_many_connections",
        }
    }

    /// The status that the application gets; the route's own for a redirect, a direct response or an injected failure.
    pub fn status(self) -> StatusCode {
        match self {
            Reason::RequestInvalid => StatusCode::BAD_REQUEST,
            Reason::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Reason::ConnectUnsupported | Reason::HttpsUnsupported | Reason::WebsocketUnsupported => {
                StatusCode::NOT_IMPLEMENTED
            }
            Reason::TokenRefused => StatusCode::UNAUTHORIZED,
            Reason::DestinationForbidden | Reason::UpgradeUnsupported => StatusCode::FORBIDDEN,
            Reason::NoRoute => StatusCode::NOT_FOUND,
            Reason::Redirect => StatusCode::MOVED_PERMANENTLY,
            Reason::DirectResponse => StatusCode::OK,
            Reason::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
            // Istio's `BlackHoleCluster` answers a host that it does not know in this way (istiod, buildCatchAllVirtualHost).
            Reason::UnknownHost | Reason::UpstreamProtocolError => StatusCode::BAD_GATEWAY,
            Reason::ConfigurationInvalid
            | Reason::FaultInjected
            | Reason::NoHealthyUpstream
            | Reason::UpstreamOverflow
            | Reason::UpstreamReset
            | Reason::IdentityUnavailable
            | Reason::IdentityOfAnotherNamespace
            | Reason::TokenUnavailable
            | Reason::PeerIdentityMismatch
            | Reason::TlsFailed
            | Reason::UpstreamConnectFailed
            | Reason::TooManyConnections => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Envoy's response flags for it, as Istio's access log has them; 0 is none.
    pub(crate) fn flags(self) -> Flags {
        match self {
            Reason::UnknownHost | Reason::NoRoute | Reason::DestinationForbidden => Flags::NR,
            Reason::FaultInjected => Flags::FI,
            Reason::RequestTimeout => Flags::SI,
            Reason::NoHealthyUpstream => Flags::UH,
            Reason::UpstreamOverflow => Flags::UO,
            Reason::UpstreamReset => Flags::UC,
            Reason::PeerIdentityMismatch | Reason::TlsFailed | Reason::UpstreamConnectFailed => Flags::UF,
            Reason::UpstreamTimeout => Flags::UT,
            Reason::UpstreamProtocolError => Flags::UPE,
            _ => Flags::NONE,
        }
    }

    /// True when the same request may well succeed a second later: the answer carries `Retry-After: 1`.
    pub fn is_passing(self) -> bool {
        matches!(self, Reason::IdentityUnavailable | Reason::TokenUnavailable | Reason::TooManyConnections)
    }
}

/// Response flags in Envoy's letters, a set.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Flags(u16);

impl Flags {
    pub(crate) const NONE: Flags = Flags(0);
    /// Downstream connection termination: the application went away.
    pub(crate) const DC: Flags = Flags(1);
    /// Delay injected.
    pub(crate) const DI: Flags = Flags(1 << 1);
    /// Fault injected.
    pub(crate) const FI: Flags = Flags(1 << 2);
    /// No route.
    pub(crate) const NR: Flags = Flags(1 << 3);
    /// Upstream connection termination.
    pub(crate) const UC: Flags = Flags(1 << 4);
    /// Upstream connection failure.
    pub(crate) const UF: Flags = Flags(1 << 5);
    /// No healthy upstream.
    pub(crate) const UH: Flags = Flags(1 << 6);
    /// Upstream overflow: a circuit breaker's limit.
    pub(crate) const UO: Flags = Flags(1 << 7);
    /// Upstream protocol error.
    pub(crate) const UPE: Flags = Flags(1 << 8);
    /// Upstream retry limit exceeded.
    pub(crate) const URX: Flags = Flags(1 << 9);
    /// Upstream request timeout.
    pub(crate) const UT: Flags = Flags(1 << 10);

    /// Stream idle timeout: the application left its request unfinished.
    pub(crate) const SI: Flags = Flags(1 << 11);

    const LETTERS: [(Flags, &'static str); 12] = [
        (Flags::DC, "DC"),
        (Flags::DI, "DI"),
        (Flags::FI, "FI"),
        (Flags::NR, "NR"),
        (Flags::SI, "SI"),
        (Flags::UC, "UC"),
        (Flags::UF, "UF"),
        (Flags::UH, "UH"),
        (Flags::UO, "UO"),
        (Flags::UPE, "UPE"),
        (Flags::URX, "URX"),
        (Flags::UT, "UT"),
    ];

    /// Whether all of `some` are in it.
    pub(crate) fn has(self, some: Flags) -> bool {
        self.0 & some.0 == some.0
    }

    /// The union of both.
    pub(crate) fn with(self, more: Flags) -> Flags {
        Flags(self.0 | more.0)
    }
}

impl std::fmt::Display for Flags {
    /// The letters with commas between them, or `-`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut left = Flags::LETTERS.iter().filter(|(flag, _)| self.0 & flag.0 != 0).map(|(_, letters)| *letters);
        f.write_str(left.next().unwrap_or("-"))?;
        left.try_for_each(|letters| write!(f, ",{letters}"))
    }
}

/// A request that was not proxied: the word and one line for a person, without any credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The word.
    pub reason: Reason,
    /// What was found, what was expected and whose fault it is.
    pub detail: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Refusal {
        Refusal { reason, detail: detail.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_written_as_envoy_does() {
        assert_eq!(Flags::NONE.to_string(), "-");
        assert_eq!(Flags::UF.with(Flags::URX).with(Flags::UF).to_string(), "UF,URX");
    }
}
