//! The list as its issuer signs and publishes it: a compact JWS (RFC 7515) of the type `revocations+jwt`.
//!
//! ```text
//! header   {"alg": …, "kid": …, "typ": "revocations+jwt"}
//! payload  {"iss": issuer, "iat": signed at, "exp": not to be used from here on,
//!           "ids": base64url of the ids, 8 bytes each, ascending,
//!           "clients_before": {client: every token of it that was issued before this second}}
//! ```

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::id::{ID_BYTES, IdSet};
use super::{RevocationList, RevokedId};
use crate::claims::{Json, JsonLimits};
use crate::compiled::Mode;
use crate::jwk::Jwks;
use crate::jwt::{LEEWAY_SECONDS, UnverifiedJws};
use crate::reason::Reason;

/// The `typ` of a list, which tells it from a token of the same issuer.
pub const LIST_TYPE: &str = "revocations+jwt";

/// The most ids of a list: 8 MB, which are 10.7 MB in base64url.
pub const MAX_IDS: usize = 1_000_000;

/// The most clients of `clients_before`.
pub const MAX_CLIENTS_BEFORE: usize = 10_000;

/// The longest signed list in bytes. A full one has 14.2 MB, since a JWS encodes its payload once more; what is left is
/// for `clients_before`.
pub const MAX_LIST_BYTES: usize = 16 * 1024 * 1024;

/// Room for the header and the signature of a list, in bytes.
const MAX_ENVELOPE_BYTES: usize = 4 * 1024;

/// `clients_before` is one level below the payload, which has five members.
const LIMITS: JsonLimits = JsonLimits { depth: 2, members: MAX_CLIENTS_BEFORE + 5 };

/// A list that is refused. Nothing of it is quoted but numbers.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RevocationListError {
    /// More than [`MAX_LIST_BYTES`].
    #[error("the revocation list has more than {MAX_LIST_BYTES} bytes")]
    TooLarge,
    /// More than [`MAX_IDS`].
    #[error("the revocation list has {0} ids, expected at most {MAX_IDS}")]
    TooManyIds(usize),
    /// More than [`MAX_CLIENTS_BEFORE`].
    #[error("the revocation list has {0} members in \"clients_before\", expected at most {MAX_CLIENTS_BEFORE}")]
    TooManyClients(usize),
    /// Not a list of the right form.
    #[error("the revocation list is malformed: {0}")]
    Malformed(String),
    /// Another `typ`: a token is no list.
    #[error("the \"typ\" of the revocation list is not {LIST_TYPE:?}")]
    Type,
    /// The issuer has no single key for it.
    #[error("the issuer's key set has no single key for the revocation list")]
    KeyUnknown,
    /// The key is not for the algorithm of the list.
    #[error("the key of the revocation list is not for its algorithm")]
    Algorithm,
    /// Somebody else signed it, or it was changed.
    #[error("the signature of the revocation list is wrong")]
    Signature,
    /// It is another issuer's.
    #[error("the revocation list is not from the issuer {0}")]
    Issuer(String),
    /// Its time is over.
    #[error("the revocation list was valid until {expires_at}, it is {now}")]
    Expired {
        /// `exp`.
        expires_at: u64,
        /// The time.
        now: u64,
    },
    /// It is from the future: were it kept, no right one could follow it.
    #[error("the revocation list is of {issued_at}, it is {now}")]
    NotYetIssued {
        /// `iat`.
        issued_at: u64,
        /// The time.
        now: u64,
    },
    /// It is older than the one that is held, which may know of more.
    #[error("the revocation list is of {found}, older than the one held, of {held}")]
    Rollback {
        /// `iat` of the list that is held.
        held: u64,
        /// `iat` of the list that was offered.
        found: u64,
    },
}

fn malformed(why: impl Into<String>) -> RevocationListError {
    RevocationListError::Malformed(why.into())
}

/// A list of the right form. Nothing in it is proven.
#[derive(Clone, Debug)]
pub struct UnverifiedRevocationList<'t> {
    jws: UnverifiedJws<'t>,
    issuer: String,
    list: RevocationList,
}

impl<'t> UnverifiedRevocationList<'t> {
    /// Reads a signed list. It has the form of a strict token: no `crit`, no member twice, exact base64url. A member
    /// that is not known here may revoke something, and is refused.
    ///
    /// # Errors
    /// The size, the form or the `typ`.
    pub fn parse(text: &'t str) -> Result<Self, RevocationListError> {
        if text.len() > MAX_LIST_BYTES {
            return Err(RevocationListError::TooLarge);
        }
        let jws = UnverifiedJws::parse_within(text, Mode::Strict, MAX_LIST_BYTES)
            .map_err(|refusal| malformed(format!("as a token, {}", refusal.detail)))?;
        if jws.unverified_type() != Some(LIST_TYPE) {
            return Err(RevocationListError::Type);
        }
        let payload = Json::parse(jws.unverified_payload(), LIMITS).map_err(|error| malformed(error.to_string()))?;
        let list = read_payload(&payload)?;
        let issuer = list.issuer.clone().unwrap_or_default();
        Ok(Self { jws, issuer, list })
    }

    /// The issuer that the list names, to find its keys by.
    pub fn unverified_issuer(&self) -> &str {
        &self.issuer
    }

    /// The key that the list names.
    pub fn unverified_kid(&self) -> Option<&str> {
        self.jws.unverified_kid()
    }

    /// Verifies that `issuer` signed the list with a key of one of its key sets `keys`, and that its time is not over.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn verify(self, issuer: &str, keys: &[&Jwks], now: u64) -> Result<RevocationList, RevocationListError> {
        if issuer.is_empty() || self.issuer != issuer {
            return Err(RevocationListError::Issuer(issuer.to_owned()));
        }
        let RevocationList { issued_at, expires_at, .. } = self.list;
        // Without leeway: a list is replaced long before it ends.
        if now >= expires_at {
            return Err(RevocationListError::Expired { expires_at, now });
        }
        if issued_at > now.saturating_add(LEEWAY_SECONDS) {
            return Err(RevocationListError::NotYetIssued { issued_at, now });
        }
        let mut refusal = RevocationListError::KeyUnknown;
        for keys in keys {
            match self.jws.verify(keys).map_err(|refused| refused.reason) {
                Ok(_) => return Ok(self.list),
                Err(Reason::TokenKeyUnknown) => {}
                Err(Reason::TokenAlgorithm) => refusal = RevocationListError::Algorithm,
                Err(_) => refusal = RevocationListError::Signature,
            }
        }
        Err(refusal)
    }
}

impl RevocationList {
    /// Whether this list may take the place of `held`.
    ///
    /// # Errors
    /// It is older ([`RevocationListError::Rollback`]): whoever can replay an old list could bring back what was
    /// revoked since. Two lists of one second may follow each other.
    pub fn check_follows(&self, held: &RevocationList) -> Result<(), RevocationListError> {
        match self.issued_at < held.issued_at {
            true => Err(RevocationListError::Rollback { held: held.issued_at, found: self.issued_at }),
            false => Ok(()),
        }
    }
}

/// The payload of a list, for its issuer to sign with the `typ` [`LIST_TYPE`]. Times are in seconds since 1970.
///
/// `clients_before` revokes what was issued in an earlier second than it names: whoever means "up to now" names the
/// next second.
///
/// # Errors
/// More than [`MAX_IDS`] or [`MAX_CLIENTS_BEFORE`], a list that would be longer than [`MAX_LIST_BYTES`], an empty
/// issuer, or an end before the beginning. Such a list must not be published, and not be cut either.
pub fn encode_payload(
    issuer: &str,
    issued_at: u64,
    expires_at: u64,
    ids: impl IntoIterator<Item = RevokedId>,
    clients_before: &BTreeMap<String, u64>,
) -> Result<String, RevocationListError> {
    let ids = IdSet::of(ids);
    let list = RevocationList {
        issuer: Some(issuer.to_owned()),
        issued_at,
        expires_at,
        ids,
        clients_before: clients_before.clone(),
    };
    check(&list)?;
    let payload = serde_json::json!({
        "iss": issuer,
        "iat": issued_at,
        "exp": expires_at,
        "ids": URL_SAFE_NO_PAD.encode(list.ids.as_bytes()),
        "clients_before": clients_before,
    });
    let text = payload.to_string();
    // Three bytes of the payload are four in a JWS.
    let room = (MAX_LIST_BYTES - MAX_ENVELOPE_BYTES) / 4 * 3;
    if text.len() > room { Err(RevocationListError::TooLarge) } else { Ok(text) }
}

/// What a reader and a writer both demand.
fn check(list: &RevocationList) -> Result<(), RevocationListError> {
    if list.ids.len() > MAX_IDS {
        return Err(RevocationListError::TooManyIds(list.ids.len()));
    }
    if list.clients_before.len() > MAX_CLIENTS_BEFORE {
        return Err(RevocationListError::TooManyClients(list.clients_before.len()));
    }
    if list.issuer.as_deref().unwrap_or_default().is_empty() {
        return Err(malformed("\"iss\" is empty"));
    }
    if list.expires_at <= list.issued_at {
        return Err(malformed("\"exp\" is not after \"iat\""));
    }
    Ok(())
}

fn read_payload(payload: &Json) -> Result<RevocationList, RevocationListError> {
    let Json::Object(members) = payload else { return Err(malformed("payload is not a JSON object")) };
    let (mut issuer, mut issued_at, mut expires_at, mut ids) = (None, None, None, None);
    let mut clients_before = BTreeMap::new();
    for (name, value) in members {
        match (name.as_str(), value) {
            ("iss", Json::String(text)) => issuer = Some(text.clone()),
            ("iat", Json::Unsigned(seconds)) => issued_at = Some(*seconds),
            ("exp", Json::Unsigned(seconds)) => expires_at = Some(*seconds),
            ("ids", Json::String(text)) => ids = Some(read_ids(text)?),
            ("clients_before", Json::Object(clients)) => {
                for (client, before) in clients {
                    let Json::Unsigned(before) = before else {
                        return Err(malformed("a value in \"clients_before\" is not a whole number"));
                    };
                    clients_before.insert(client.clone(), *before);
                }
            }
            ("iss" | "iat" | "exp" | "ids" | "clients_before", _) => {
                return Err(malformed(format!("{name:?} is not of its type")));
            }
            _ => return Err(malformed("payload has a member that is not known here")),
        }
    }
    let missing = |name: &str| malformed(format!("{name:?} is missing"));
    let list = RevocationList {
        issuer: Some(issuer.ok_or_else(|| missing("iss"))?),
        issued_at: issued_at.ok_or_else(|| missing("iat"))?,
        expires_at: expires_at.ok_or_else(|| missing("exp"))?,
        ids: ids.ok_or_else(|| missing("ids"))?,
        clients_before,
    };
    check(&list)?;
    Ok(list)
}

fn read_ids(text: &str) -> Result<IdSet, RevocationListError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| malformed("\"ids\" is not base64url"))?;
    if bytes.len() > MAX_IDS * ID_BYTES {
        return Err(RevocationListError::TooManyIds(bytes.len() / ID_BYTES));
    }
    IdSet::from_bytes(bytes)
        .ok_or_else(|| malformed(format!("\"ids\" are not whole ids of {ID_BYTES} bytes, ascending and each once")))
}

/// Whether a `typ` names a list. Media types have no case, and `application/` may be left out (RFC 7515 §4.1.9): a
/// token is refused by every way to write it.
pub(crate) fn is_list_type(typ: &str) -> bool {
    let typ = typ.to_ascii_lowercase();
    typ.strip_prefix("application/").unwrap_or(&typ) == LIST_TYPE
}
