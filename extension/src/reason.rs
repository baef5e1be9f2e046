//! Why a request was not proxied: one closed set of words, which is header value, log field and metric label.

use http::StatusCode;

/// The header of every answer that the extension makes itself; its value is the reason's word.
pub const HEADER: &str = "x-causeway-error";

/// Why a request was answered by the extension and not by the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The extension's configuration cannot be used; the operator's fault.
    ConfigurationInvalid,
    /// The request cannot be understood; the application's fault.
    RequestInvalid,
    /// CONNECT is not supported.
    ConnectUnsupported,
    /// `https://` in a request line is not supported.
    HttpsUnsupported,
    /// WebSocket is not supported.
    WebsocketUnsupported,
    /// The host and port are not in the configuration (REGISTRY_ONLY).
    UnknownHost,
    /// There is no valid SVID, and none came in time.
    IdentityUnavailable,
    /// There is no valid access token, and none came in time.
    TokenUnavailable,
    /// The server proved to be somebody else.
    PeerIdentityMismatch,
    /// The TLS handshake failed.
    TlsFailed,
    /// No connection to any endpoint.
    UpstreamConnectFailed,
    /// No answer in time.
    UpstreamTimeout,
    /// The answer was cut off or is not HTTP.
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
            Reason::ConnectUnsupported => "connect_unsupported",
            Reason::HttpsUnsupported => "https_unsupported",
            Reason::WebsocketUnsupported => "websocket_unsupported",
            Reason::UnknownHost => "unknown_host",
            Reason::IdentityUnavailable => "identity_unavailable",
            Reason::TokenUnavailable => "token_unavailable",
            Reason::PeerIdentityMismatch => "peer_identity_mismatch",
            Reason::TlsFailed => "tls_failed",
            Reason::UpstreamConnectFailed => "upstream_connect_failed",
            Reason::UpstreamTimeout => "upstream_timeout",
            Reason::UpstreamProtocolError => "upstream_protocol_error",
            Reason::TooManyConnections => "too_many_connections",
        }
    }

    /// The status that the application gets.
    pub fn status(self) -> StatusCode {
        match self {
            Reason::RequestInvalid => StatusCode::BAD_REQUEST,
            Reason::ConnectUnsupported | Reason::HttpsUnsupported | Reason::WebsocketUnsupported => {
                StatusCode::NOT_IMPLEMENTED
            }
            Reason::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
            Reason::UpstreamProtocolError => StatusCode::BAD_GATEWAY,
            Reason::ConfigurationInvalid
            | Reason::UnknownHost
            | Reason::IdentityUnavailable
            | Reason::TokenUnavailable
            | Reason::PeerIdentityMismatch
            | Reason::TlsFailed
            | Reason::UpstreamConnectFailed
            | Reason::TooManyConnections => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// True when the same request may well succeed a second later: the answer carries `Retry-After: 1`.
    pub fn is_passing(self) -> bool {
        matches!(self, Reason::IdentityUnavailable | Reason::TokenUnavailable | Reason::TooManyConnections)
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
