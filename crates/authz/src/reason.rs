//! The closed set of words that say why a request was allowed or denied.

use std::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident => $word:literal,)*) => {
        /// Why a request was allowed or denied. The words are stable: they are the `reason` of the
        /// decision log and the label of the metric.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// Every reason, for metrics that start at zero and for tests.
            pub const ALL: &[Reason] = &[$(Reason::$name,)*];

            /// The word itself, in snake case.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Reason::$name => $word,)*
                }
            }
        }
    };
}

reasons! {
    /// An ALLOW rule matched.
    AllowedByPolicy => "allowed_by_policy",
    /// No ALLOW policy applies to the workload and no DENY rule matched.
    AllowedNoPolicy => "allowed_no_policy",
    /// A policy denied a request that carried no credential at all.
    NoCredential => "no_credential",
    /// The token is not a well-formed signed token, or breaks a rule of the strict mode.
    TokenMalformed => "token_malformed",
    /// The token was revoked.
    TokenRevoked => "token_revoked",
    /// The token is bound to a client certificate (`cnf`), and another one or none was shown.
    TokenBinding => "token_binding",
    /// A rule with `presence: REQUIRED` found no token (strict mode).
    TokenRequired => "token_required",
    /// The token is longer than the limit.
    TokenTooLarge => "token_too_large",
    /// The token's `exp` has passed.
    TokenExpired => "token_expired",
    /// The token's `nbf` has not come yet.
    TokenNotYetValid => "token_not_yet_valid",
    /// No rule of the workload accepts the token's issuer.
    TokenIssuerUnknown => "token_issuer_unknown",
    /// The token (or the API key) is for another audience.
    TokenAudience => "token_audience",
    /// The signature does not verify.
    TokenSignature => "token_signature",
    /// The issuer's key set has no key for the token.
    TokenKeyUnknown => "token_key_unknown",
    /// The token's algorithm is not accepted, or not the one of the key.
    TokenAlgorithm => "token_algorithm",
    /// The issuer's key set could not be had.
    JwksUnavailable => "jwks_unavailable",
    /// The API key has the wrong shape or checksum, or there are several.
    ApiKeyMalformed => "api_key_malformed",
    /// No such API key.
    ApiKeyUnknown => "api_key_unknown",
    /// The API key was revoked or disabled.
    ApiKeyRevoked => "api_key_revoked",
    /// The API key has expired, or is not valid yet.
    ApiKeyExpired => "api_key_expired",
    /// The API key belongs to another environment.
    ApiKeyEnvironment => "api_key_environment",
    /// The store of API keys, or the pepper, could not be had.
    ApiKeyUnavailable => "api_key_unavailable",
    /// The issuer could not be asked for a token in exchange for the API key.
    ExchangeUnavailable => "exchange_unavailable",
    /// The issuer gives no token in exchange for the API key, or not one of its client.
    ExchangeRefused => "exchange_refused",
    /// The list of revoked credentials could not be had, or is older than it may be.
    RevocationsUnavailable => "revocations_unavailable",
    /// An API key and a token were presented and do not name the same client.
    CredentialMismatch => "credential_mismatch",
    /// A CUSTOM rule matched, and its provider denied.
    DeniedByProvider => "denied_by_provider",
    /// A CUSTOM rule matched, and its provider cannot be asked or is not one.
    CustomProviderUnavailable => "custom_provider_unavailable",
    /// A DENY rule matched.
    DeniedByPolicy => "denied_by_policy",
    /// ALLOW policies apply to the workload, and none of their rules matched.
    DeniedNoMatch => "denied_no_match",
    /// The client has used up its rate.
    RateLimited => "rate_limited",
    /// No `VirtualService` of the gateway routes the request.
    DestinationUnknown => "destination_unknown",
    /// No `ApiGateway` document covers this API, stage and domain.
    GatewayUnknown => "gateway_unknown",
    /// The backend could read the path in another way than the policy.
    PathNotCanonical => "path_not_canonical",
    /// The front cannot read the request, or it is of a kind that is not supported.
    RequestInvalid => "request_invalid",
    /// The path is not one that a request may have.
    PathInvalid => "path_invalid",
    /// The request has too many or too large headers.
    RequestTooLarge => "request_too_large",
    /// The configuration contradicts itself for this request.
    ConfigurationInvalid => "configuration_invalid",
    /// A fault of ours.
    Internal => "internal",
}

impl Reason {
    /// The status that Envoy would answer with: 200, 400, 401, 403, 429 or 431.
    ///
    /// "audience failure 403, every other failure 401" (Envoy's `jwt_authn`); a policy's denial is
    /// 403. A front may say something else to its client (API Gateway turns `no_credential` into
    /// 401); this is what the mesh would say.
    pub const fn status(self) -> u16 {
        match self {
            Self::AllowedByPolicy | Self::AllowedNoPolicy => 200,
            Self::PathInvalid | Self::RequestInvalid => 400,
            Self::TokenMalformed
            | Self::TokenRevoked
            | Self::TokenRequired
            | Self::TokenBinding
            | Self::RevocationsUnavailable
            | Self::TokenTooLarge
            | Self::TokenExpired
            | Self::TokenNotYetValid
            | Self::TokenIssuerUnknown
            | Self::TokenSignature
            | Self::TokenKeyUnknown
            | Self::TokenAlgorithm
            | Self::JwksUnavailable
            | Self::ApiKeyMalformed
            | Self::ApiKeyUnknown
            | Self::ApiKeyRevoked
            | Self::ApiKeyExpired
            | Self::ApiKeyEnvironment
            | Self::ApiKeyUnavailable
            | Self::ExchangeUnavailable
            | Self::ExchangeRefused
            | Self::CredentialMismatch => 401,
            Self::NoCredential
            | Self::TokenAudience
            | Self::DeniedByProvider
            | Self::CustomProviderUnavailable
            | Self::DeniedByPolicy
            | Self::DeniedNoMatch
            // Envoy would rewrite the path and let its policies judge the result.
            | Self::PathNotCanonical
            | Self::DestinationUnknown
            | Self::GatewayUnknown
            | Self::ConfigurationInvalid
            | Self::Internal => 403,
            // RFC 6585 §4.
            Self::RateLimited => 429,
            Self::RequestTooLarge => 431,
        }
    }
}

impl serde::Serialize for Reason {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Reason;

    #[test]
    fn words_are_distinct_labels() {
        let words: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
        for word in words {
            assert!(word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{word}");
        }
    }

    #[test]
    fn only_an_allowance_is_200() {
        for reason in Reason::ALL {
            let allowance = matches!(reason, Reason::AllowedByPolicy | Reason::AllowedNoPolicy);
            assert_eq!(reason.status() == 200, allowance, "{reason}");
        }
    }
}
