//! Where a program's access key comes from.

#[cfg(feature = "fetched-credentials")]
use std::sync::Arc;

#[cfg(feature = "fetched-credentials")]
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future::ProvideCredentials as Provided;
use aws_credential_types::provider::{ProvideCredentials, Result as SdkResult};
use identity::secret::Secret;

use super::Credentials;
#[cfg(feature = "fetched-credentials")]
use super::{container::Container, fetched::Fetched, web_identity::WebIdentity};
#[cfg(feature = "fetched-credentials")]
use crate::clock::{Clock, SystemClock};
use crate::env::{EnvError, Reader};

/// Credentials cannot be had. The text has no credential.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no AWS credentials: {0}")]
pub struct CredentialError(pub(super) String);

/// Where an access key comes from: fixed, or fetched when it is first needed and again before it ends. Cheap to clone;
/// the clones share what they have fetched.
#[derive(Clone, Debug)]
pub struct CredentialSource(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Fixed(Credentials),
    #[cfg(feature = "fetched-credentials")]
    Fetched(Arc<Fetched>),
}

impl From<Credentials> for CredentialSource {
    fn from(credentials: Credentials) -> Self {
        Self(Kind::Fixed(credentials))
    }
}

impl CredentialSource {
    /// Reads the variables in the order of AWS' own programs: an access key, then, with the feature
    /// `fetched-credentials`, a web identity (IRSA on EKS) and a container's endpoint (ECS, EKS Pod Identity). Reads no
    /// file and asks nobody.
    ///
    /// # Errors
    /// Nothing is configured, or half of something is.
    #[cfg(feature = "fetched-credentials")]
    pub fn from_env(env: &Reader<'_>, region: &str) -> Result<Self, EnvError> {
        Self::from_env_with(env, region, Arc::new(SystemClock))
    }

    /// Reads the variables of an access key.
    ///
    /// # Errors
    /// There is none, or half of one.
    #[cfg(not(feature = "fetched-credentials"))]
    pub fn from_env(env: &Reader<'_>, _region: &str) -> Result<Self, EnvError> {
        Self::fixed(env)?.ok_or_else(|| EnvError::Missing {
            name: "AWS_ACCESS_KEY_ID".to_owned(),
            hint: "Lambda sets it; elsewhere, export it".to_owned(),
        })
    }

    fn fixed(env: &Reader<'_>) -> Result<Option<Self>, EnvError> {
        let pair = env.pair("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY");
        let session_token = env.secret("AWS_SESSION_TOKEN");
        let Some((access_key_id, secret)) = pair? else { return Ok(None) };
        let secret_access_key = Secret::new(secret);
        Ok(Some(Credentials { access_key_id, secret_access_key, session_token: session_token? }.into()))
    }

    /// As [`from_env`](Self::from_env), by another clock.
    ///
    /// # Errors
    /// As [`from_env`](Self::from_env).
    #[cfg(feature = "fetched-credentials")]
    pub fn from_env_with(env: &Reader<'_>, region: &str, clock: Arc<dyn Clock>) -> Result<Self, EnvError> {
        // All are asked for, so that a misspelt one among them is found whichever counts.
        let fixed = Self::fixed(env);
        let web_identity = WebIdentity::from_env(env, region);
        let container = Container::from_env(env);
        if let Some(fixed) = fixed? {
            return Ok(fixed);
        }
        if let Some(place) = web_identity? {
            return Ok(Self(Kind::Fetched(Fetched::new(place.into(), clock))));
        }
        if let Some(place) = container? {
            return Ok(Self(Kind::Fetched(Fetched::new(place.into(), clock))));
        }
        Err(EnvError::Missing {
            name: "AWS_ACCESS_KEY_ID".to_owned(),
            hint: "Lambda sets it; ECS sets AWS_CONTAINER_CREDENTIALS_RELATIVE_URI for a task with a role, EKS sets \
                   AWS_CONTAINER_CREDENTIALS_FULL_URI (Pod Identity) or AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE \
                   (IRSA) for a service account with one; elsewhere, export it"
                .to_owned(),
        })
    }

    /// The access key to sign with now.
    ///
    /// # Errors
    /// It has to be fetched, and cannot be.
    pub async fn get(&self) -> Result<Credentials, CredentialError> {
        match &self.0 {
            Kind::Fixed(credentials) => Ok(credentials.clone()),
            #[cfg(feature = "fetched-credentials")]
            Kind::Fetched(fetched) => Ok(fetched.get().await?.credentials.clone()),
        }
    }

    async fn for_sdk(&self) -> SdkResult {
        let (credentials, expires_at) = match &self.0 {
            Kind::Fixed(credentials) => (credentials.clone(), None),
            #[cfg(feature = "fetched-credentials")]
            Kind::Fetched(fetched) => {
                let held = fetched.get().await.map_err(CredentialsError::provider_error)?;
                // The SDK keeps them until shortly before this: what is renewed earlier here, it asks for in time.
                (
                    held.credentials.clone(),
                    Some(std::time::UNIX_EPOCH + std::time::Duration::from_secs(held.expires_at)),
                )
            }
        };
        Ok(aws_credential_types::Credentials::new(
            credentials.access_key_id,
            credentials.secret_access_key.expose().clone(),
            credentials.session_token.map(|token| token.expose().clone()),
            expires_at,
            "causeway",
        ))
    }
}

impl ProvideCredentials for CredentialSource {
    fn provide_credentials<'a>(&'a self) -> Provided<'a>
    where
        Self: 'a,
    {
        Provided::new(self.for_sdk())
    }
}
