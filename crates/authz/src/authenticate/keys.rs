//! API keys of a workload.

use identity::Secret;

use super::Visible;
use crate::api_key::{self, ApiKey, ApiKeyRecord, KeyRecordLookup, Refusal};
use crate::claims::Claims;
use crate::compiled::{ArchivedApiKeyAuthentication, ArchivedJwtRule};
use crate::jwt::{TokenRefusal, audience_fits};
use crate::policies::Applicable;
use crate::reason::Reason;
use crate::request::lines;
use crate::revocation::Revocations;
use crate::verified::VerifiedTokens;

/// What the checks of credentials need from outside, beside the key sets.
#[derive(Clone, Copy)]
pub(crate) struct KeyContext<'a> {
    /// The store's answer, when it was asked.
    pub(crate) lookup: Option<&'a KeyRecordLookup>,
    /// The secret that keys are hashed with.
    pub(crate) pepper: Option<&'a Secret<Vec<u8>>>,
    /// The environment that the gateway or the workload belongs to.
    pub(crate) environment: Option<&'a str>,
    /// What is known of revoked credentials.
    pub(crate) revocations: Revocations<'a>,
    /// SHA-256 of the client's certificate.
    pub(crate) certificate: Option<&'a [u8; 32]>,
    /// Tokens whose signature was verified before.
    pub(crate) verified: Option<&'a VerifiedTokens>,
}

/// A well-formed API key and the issuer that its claims name.
pub(crate) struct Presented<'a> {
    pub(crate) key: ApiKey,
    issuer: &'a str,
}

/// What a valid API key stands for.
pub(super) struct ByKey<'a> {
    pub(super) claims: Claims,
    pub(super) issuer: &'a str,
}

/// The API key of a request, if the workload accepts keys and there is one.
pub(crate) fn presented_key<'a>(
    applicable: Applicable<'a>,
    headers: &[(String, String)],
) -> Result<Option<Presented<'a>>, TokenRefusal> {
    let mut presented: Option<(&'a ArchivedApiKeyAuthentication, &str)> = None;
    for authentication in applicable.api_key_authentications() {
        for line in lines(headers, authentication.header_name.as_str()) {
            match presented {
                None => presented = Some((authentication, line)),
                Some((_, other)) if other != line => {
                    return Err(refused(Reason::ApiKeyMalformed, "request has several api keys"));
                }
                Some((other, _)) if other.issuer != authentication.issuer => {
                    return Err(refused(
                        Reason::ConfigurationInvalid,
                        format!(
                            "ApiKeyAuthentication {} and {} give one key two issuers",
                            other.name, authentication.name
                        ),
                    ));
                }
                Some(_) => {}
            }
        }
    }
    let Some((authentication, text)) = presented else { return Ok(None) };
    let key = ApiKey::parse(text).map_err(|error| refused(Reason::ApiKeyMalformed, error.to_string()))?;
    Ok(Some(Presented { key, issuer: authentication.issuer.as_str() }))
}

pub(super) fn authenticate_key<'a>(
    applicable: Applicable<'a>,
    visible: &mut Visible,
    context: &KeyContext<'_>,
    now: u64,
) -> Result<Option<ByKey<'a>>, TokenRefusal> {
    let Some(presented) = presented_key(applicable, &visible.headers)? else { return Ok(None) };
    let record = checked_record(&presented.key, context, now)?;
    match context.revocations {
        Revocations::NotKept => {}
        Revocations::List(list) if !list.has_key(record) => {}
        Revocations::Unavailable => return Err(no_revocations()),
        Revocations::List(_) => {
            let detail = format!("the api key or its client is on the list of revoked ids (id {})", presented.key.id());
            return Err(refused(Reason::ApiKeyRevoked, detail));
        }
    }
    for authentication in applicable.api_key_authentications() {
        if !authentication.forward_original_key {
            visible.remove_header(authentication.header_name.as_str());
        }
    }
    Ok(Some(ByKey { claims: Claims::from_api_key(record, presented.issuer), issuer: presented.issuer }))
}

fn checked_record<'a>(key: &ApiKey, context: &KeyContext<'a>, now: u64) -> Result<&'a ApiKeyRecord, TokenRefusal> {
    let unavailable = |detail: &str| refused(Reason::ApiKeyUnavailable, detail);
    let pepper = context
        .pepper
        .filter(|pepper| !pepper.expose().is_empty())
        .ok_or_else(|| unavailable("the pepper of the api keys is not at hand"))?;
    let record = match context.lookup {
        Some(KeyRecordLookup::Found(record)) => Some(record),
        Some(KeyRecordLookup::NotFound) => None,
        Some(KeyRecordLookup::Unavailable) => {
            return Err(unavailable("the store of api keys did not answer"));
        }
        None => return Err(unavailable("the store of api keys was not asked")),
    };
    let checked = api_key::check(key, record, pepper, context.environment, now);
    checked.map(|accepted| accepted.record).map_err(|refusal| {
        let (reason, detail) = match refusal {
            Refusal::Unknown => (Reason::ApiKeyUnknown, "there is no such api key"),
            Refusal::Damaged => (Reason::ApiKeyUnavailable, "the record of the api key is damaged"),
            Refusal::Environment => (Reason::ApiKeyEnvironment, "the api key belongs to another environment"),
            Refusal::Disabled => (Reason::ApiKeyRevoked, "the api key is disabled"),
            Refusal::Revoked => (Reason::ApiKeyRevoked, "the api key was revoked"),
            Refusal::NotYetValid => (Reason::ApiKeyExpired, "the api key is not valid yet"),
            Refusal::Expired => (Reason::ApiKeyExpired, "the api key has expired"),
        };
        refused(reason, format!("{detail} (id {})", key.id()))
    })
}

/// "With a key and a token both present, both must be valid and name the same client." A client belongs to
/// its issuer: the same name at another issuer is another client.
pub(crate) fn same_client(by_key: &Claims, token: &Claims) -> Result<(), TokenRefusal> {
    let same = token.issuer() == by_key.issuer() && token.client_id() == by_key.client_id();
    if same && token.client_id().is_some() {
        Ok(())
    } else {
        let detail = "the api key and the token do not name the same client";
        Err(refused(Reason::CredentialMismatch, detail))
    }
}

/// The rule that the token which the key could be exchanged for would have to pass: its audiences bind the
/// key too, and its output headers are set. Where no rule names the issuer, those that accept any are meant; without one
/// of either kind there is nothing to pass.
pub(super) fn rule_for_key<'a>(
    rules: &[&'a ArchivedJwtRule],
    by_key: &ByKey<'_>,
) -> Result<Option<&'a ArchivedJwtRule>, TokenRefusal> {
    let presented = by_key.claims.audiences();
    let of = |issuer: &'_ str| rules.iter().copied().filter(|rule| rule.issuer.as_str() == issuer).collect::<Vec<_>>();
    let mut of_issuer = of(by_key.issuer);
    if of_issuer.is_empty() {
        of_issuer = of("");
    }
    if of_issuer.is_empty() {
        return Ok(None);
    }
    let fits = |rule: &&ArchivedJwtRule| {
        let accepted: Vec<&str> = rule.audiences.iter().map(|audience| audience.as_str()).collect();
        audience_fits(&accepted, &presented)
    };
    match of_issuer.into_iter().find(fits) {
        Some(rule) => Ok(Some(rule)),
        None => {
            Err(refused(Reason::TokenAudience, "the api key is for none of the audiences that the workload accepts"))
        }
    }
}

/// A list that may have grown since cannot clear a credential.
pub(super) fn no_revocations() -> TokenRefusal {
    refused(Reason::RevocationsUnavailable, "the list of revoked credentials is not at hand, or too old")
}

pub(super) fn refused(reason: Reason, detail: impl Into<String>) -> TokenRefusal {
    TokenRefusal { reason, detail: detail.into() }
}
