//! One attempt to get the keys of an issuer: from their URL, or by way of its discovery document.

use std::time::Duration;

use authz::Mode;
use authz::jwk::{Jwks, JwksError as DocumentError, KeyOrigin};

use crate::https::{Answer, Client, FetchError, UrlError, checked_url};

/// Where the keys of an issuer are published.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The issuer of the rule; may be empty where a rule accepts any.
    pub(crate) issuer: String,
    /// The key set, or the discovery document.
    pub(crate) uri: String,
    /// Which of the two.
    pub(crate) discovery: bool,
    /// How the key set is read.
    pub(crate) mode: Mode,
    /// How long one attempt may take.
    pub(crate) timeout: Duration,
}

/// Why there are no newer keys. The text holds no part of what was fetched but names and numbers.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{0}")]
    Url(#[from] UrlError),
    #[error("{0}")]
    Fetch(#[from] FetchError),
    #[error("no complete answer within {} ms", .0.as_millis())]
    Late(Duration),
    #[error("the key set is refused: {0}")]
    Document(#[from] DocumentError),
    #[error("the key set is refused: it is not UTF-8")]
    Text,
    #[error("the discovery document is refused: {0}")]
    Metadata(String),
}

impl Failure {
    /// Whether there was an answer, and it cannot be used.
    pub(super) fn is_poison(&self) -> bool {
        match self {
            Self::Document(_) | Self::Text | Self::Metadata(_) | Self::Fetch(FetchError::TooLarge { .. }) => true,
            Self::Url(_) | Self::Fetch(_) | Self::Late(_) => false,
        }
    }
}

/// Keys, and for how many seconds they are fresh, if the issuer says so.
pub(super) struct Fetched {
    pub(super) keys: Jwks,
    pub(super) max_age: Option<u64>,
}

/// Fetches once. Nothing else is tried after a failure: an issuer's keys are where it says, or nowhere.
pub(super) async fn fetch(client: &Client, place: &Place) -> Result<Fetched, Failure> {
    let fetched = async {
        let url = checked_url(&place.uri)?;
        let mut answer = client.fetch(&url).await?;
        if place.discovery {
            let url = checked_url(&jwks_uri(&place.issuer, &answer.body)?)?;
            answer = client.fetch(&url).await?;
        }
        let Answer { body, max_age } = answer;
        let text = std::str::from_utf8(&body).map_err(|_| Failure::Text)?;
        Ok(Fetched { keys: Jwks::parse_as(text, KeyOrigin::Fetched, place.mode)?, max_age })
    };
    tokio::time::timeout(place.timeout, fetched).await.unwrap_or(Err(Failure::Late(place.timeout)))
}

/// The `jwks_uri` of a discovery document. "The issuer value returned MUST be identical to the Issuer URL that was used
/// as the prefix" (OpenID Connect Discovery 1.0, section 4.3).
fn jwks_uri(issuer: &str, document: &[u8]) -> Result<String, Failure> {
    #[derive(serde::Deserialize)]
    struct Metadata {
        issuer: String,
        jwks_uri: String,
    }
    let metadata: Metadata = serde_json::from_slice(document)
        .map_err(|_| Failure::Metadata("expected JSON with the strings issuer and jwks_uri, each once".to_owned()))?;
    if metadata.issuer != issuer {
        let found: String = metadata.issuer.chars().take(200).collect();
        return Err(Failure::Metadata(format!("it is that of another issuer, {found:?}")));
    }
    Ok(metadata.jwks_uri)
}
