//! What an issuer can do with the tables and secrets that it was given. What it cannot do, it does not announce, and its
//! endpoint or grant does not exist.

use crate::Tables;
use crate::config::Config;

/// The parts that depend on the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offers {
    /// Token exchange. It needs the table of revocations: a token that was taken back must not become a new one.
    pub(crate) exchange: bool,
    /// The exchange of API keys for tokens.
    pub(crate) api_keys: bool,
    /// Refresh tokens, which come from token exchange alone.
    pub(crate) refresh: bool,
    /// RFC 7662 and RFC 7009. Without the table of revocations the first could not tell the truth, nor the second act.
    pub(crate) introspection_and_revocation: bool,
    /// What is used once: client assertions and DPoP proofs.
    pub(crate) proofs: bool,
    /// The door with client certificates.
    pub(crate) certificates: bool,
}

impl Offers {
    /// What `config` and `tables` are enough for.
    pub(crate) fn of(config: &Config, tables: &Tables) -> Self {
        let revocations = tables.revocations.is_configured();
        let state = tables.state.is_configured();
        let keys = tables.api_keys.is_configured() && config.pepper_secret.is_some() && config.environment.is_some();
        Self {
            exchange: revocations,
            api_keys: revocations && keys,
            refresh: revocations && state,
            introspection_and_revocation: revocations,
            proofs: state,
            certificates: config.mtls_issuer.is_some(),
        }
    }
}
