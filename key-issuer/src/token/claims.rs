//! What a token says, and the one place that makes access tokens.

use authz::jwt::MAX_BYTES;
pub(crate) use authz::revocation::lineage::{ANCESTORS, API_KEY, REFRESH_FAMILY};
use platform::random::Random;
use serde::Serialize;

use super::delegation::{Act, MayAct};
use super::scope;
use crate::client::ClientRecord;
use crate::confirmation::Confirmation;
use crate::refusal::Refusal;
use crate::{Inner, hex};

/// How long before its issue a token is valid, in seconds: clocks of gateways differ.
const BACKDATE_SECONDS: u64 = 5;

/// The subject of a client's own tokens. RFC 9068 §5: no client may choose an id that is another kind of subject, so ids
/// have their own prefix.
pub(crate) fn subject_of(client_id: &str) -> String {
    format!("{CLIENT_PREFIX}{client_id}")
}

/// The client whose subject this is.
pub(crate) fn client_of(subject: &str) -> Option<&str> {
    subject.strip_prefix(CLIENT_PREFIX)
}

const CLIENT_PREFIX: &str = "client:";

/// The most tokens that a token may come from: each is in its [`ANCESTORS`], and looked up whenever it is shown here.
pub(crate) const MAX_ANCESTORS: usize = 8;

/// All that a token grants.
#[derive(Debug)]
pub(crate) struct Grant<'a> {
    /// `sub`.
    pub(crate) subject: String,
    /// Who gets the token: `client_id`, `azp`, algorithm and life come from here.
    pub(crate) client: &'a ClientRecord,
    /// `scope`; empty for none.
    pub(crate) scope: Vec<String>,
    /// `aud`.
    pub(crate) audience: Vec<String>,
    /// The latest `exp`, in seconds since 1970.
    pub(crate) not_after: Option<u64>,
    /// `cnf`.
    pub(crate) confirmation: Option<Confirmation>,
    /// `act`.
    pub(crate) act: Option<Act>,
    /// `may_act`.
    pub(crate) may_act: Option<MayAct>,
    /// [`ANCESTORS`].
    pub(crate) ancestors: Vec<String>,
    /// [`API_KEY`]. It stays with whatever comes out of the token, so that what is closed to API keys can be closed to
    /// it.
    pub(crate) api_key: Option<String>,
    /// [`REFRESH_FAMILY`]. No other family may come out of the token, or the end of a family would mean nothing.
    pub(crate) refresh_family: Option<String>,
}

/// A token, ready to be handed over. No `Debug`: it is a credential.
pub(crate) struct AccessToken {
    pub(crate) text: String,
    pub(crate) token_type: &'static str,
    pub(crate) jti: String,
    pub(crate) kid: String,
    pub(crate) expires_at: u64,
    /// In how many seconds that is.
    pub(crate) expires_in: u64,
}

/// The claims of RFC 9068 §2.2, and `azp`, which an API key's claims have too. Times are JSON integers.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: Audience<'a>,
    exp: u64,
    iat: u64,
    nbf: u64,
    jti: &'a str,
    client_id: &'a str,
    azp: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cnf: Option<&'a Confirmation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<&'a Act>,
    #[serde(skip_serializing_if = "Option::is_none")]
    may_act: Option<&'a MayAct>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    ancestors: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_family: Option<&'a str>,
}

/// RFC 7519 §4.1.3: one audience may be a plain string, and every verifier reads that.
#[derive(Serialize)]
#[serde(untagged)]
enum Audience<'a> {
    One(&'a str),
    Several(&'a [String]),
}

/// Makes an access token (RFC 9068), signed with the client's algorithm.
///
/// # Errors
/// 400 `invalid_request` when the token would be longer than verifiers read; 500 when there is no key of the algorithm or
/// what is granted has ended; 503 when the keys cannot be had.
pub(crate) async fn mint(issuer: &Inner, grant: &Grant<'_>) -> Result<AccessToken, Refusal> {
    let keys = issuer.signing_keys().await?;
    let now = issuer.deps.clock.unix();
    let algorithm = grant.client.token_algorithm;
    let key = keys.signer(algorithm, now).ok_or_else(|| {
        let name = algorithm.map_or("any algorithm", crate::Algorithm::name);
        Refusal::internal(format!("there is no signing key for {name}"))
    })?;
    let limit = issuer.config.token_ttl_seconds;
    let ttl = grant.client.token_ttl_seconds.map_or(limit, |ttl| ttl.min(limit));
    let exp = now.saturating_add(ttl).min(grant.not_after.unwrap_or(u64::MAX));
    if exp <= now {
        return Err(Refusal::internal("what is granted has ended already"));
    }
    let jti = token_id(issuer.deps.random.as_ref())?;
    let claims = Claims {
        iss: &issuer.config.issuer,
        sub: &grant.subject,
        aud: match grant.audience.as_slice() {
            [one] => Audience::One(one),
            several => Audience::Several(several),
        },
        exp,
        iat: now,
        nbf: now.saturating_sub(BACKDATE_SECONDS),
        jti: &jti,
        client_id: &grant.client.client_id,
        azp: &grant.client.client_id,
        scope: scope::text(&grant.scope),
        cnf: grant.confirmation.as_ref(),
        act: grant.act.as_ref(),
        may_act: grant.may_act.as_ref(),
        ancestors: &grant.ancestors,
        api_key: grant.api_key.as_deref(),
        refresh_family: grant.refresh_family.as_deref(),
    };
    // RFC 9068 §2.1: "The 'typ' value used SHOULD be 'at+jwt'".
    let text = key.sign_jws("at+jwt", &claims).map_err(Refusal::internal)?;
    if text.len() > MAX_BYTES {
        return Err(Refusal::invalid_request(format!(
            "the token would have {} bytes, and verifiers read {MAX_BYTES}: ask for fewer scopes or targets",
            text.len()
        )));
    }
    let token_type = Confirmation::token_type(grant.confirmation.as_ref());
    Ok(AccessToken { text, token_type, jti, kid: key.jwk.kid.clone(), expires_at: exp, expires_in: exp - now })
}

fn token_id(random: &dyn Random) -> Result<String, Refusal> {
    let mut bytes = [0; 16];
    random.fill(&mut bytes).map_err(|error| Refusal::internal(error.to_string()))?;
    Ok(hex(&bytes))
}
