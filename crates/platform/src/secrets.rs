//! Secrets by id: AWS Secrets Manager, or a table in memory for the local stack and tests.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use identity::secret::Secret;

use crate::BoxFuture;

/// Why a secret cannot be had. No secret is part of the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// There is no such secret, or it has no text value.
    #[error("the secret {0} does not exist or has no text value")]
    NotFound(String),
    /// The store does not answer, or refuses.
    #[error("cannot read the secret {id}: {why}")]
    Unavailable {
        /// The secret's id.
        id: String,
        /// What the store said.
        why: String,
    },
}

/// Where secrets are kept.
pub trait Secrets: Send + Sync {
    /// The current value of the secret `id` (a name or an ARN).
    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Secret<String>, SecretError>>;
}

/// What is known of a secret without its values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretDescription {
    /// Whether the secret is rotated by a function.
    pub rotation_enabled: bool,
    /// Each version's id with its staging labels (`AWSCURRENT`, `AWSPENDING`, `AWSPREVIOUS`, …).
    pub versions: BTreeMap<String, Vec<String>>,
}

/// What came of putting a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is there, with this value.
    Done,
    /// The version is there with another value; nothing has changed (`ResourceExistsException`).
    OtherValue,
}

/// The versions of secrets, for the function that rotates them.
pub trait SecretVersions: Send + Sync {
    /// The versions of the secret `id` and their labels.
    fn describe<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<SecretDescription, SecretError>>;

    /// The value of the version that has the id `version` and the label `stage`; `None` if there is none, or none with a
    /// value yet.
    fn get_version<'a>(
        &'a self,
        id: &'a str,
        version: &'a str,
        stage: &'a str,
    ) -> BoxFuture<'a, Result<Option<Secret<String>>, SecretError>>;

    /// Puts the value of `version` and gives it the label `stage`. `rotation_token` is that of the rotation's event, if
    /// it had one.
    fn put_version<'a>(
        &'a self,
        id: &'a str,
        version: &'a str,
        value: &'a Secret<String>,
        stage: &'a str,
        rotation_token: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Put, SecretError>>;

    /// Moves the label `stage`: to the version `to`, away from `from`.
    fn move_stage<'a>(
        &'a self,
        id: &'a str,
        stage: &'a str,
        to: Option<&'a str>,
        from: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(), SecretError>>;
}

/// Secrets in memory.
#[derive(Default)]
pub struct Embedded(Mutex<BTreeMap<String, Secret<String>>>);

impl Embedded {
    /// Puts a secret in, or replaces it.
    pub fn put(&self, id: &str, value: impl Into<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), Secret::new(value.into()));
    }
}

impl Secrets for Embedded {
    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Secret<String>, SecretError>> {
        let found =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).map(|s| Secret::new(s.expose().clone()));
        Box::pin(async move { found.ok_or_else(|| SecretError::NotFound(id.to_owned())) })
    }
}

#[cfg(feature = "secrets")]
pub use secretsmanager::SecretsManager;

#[cfg(feature = "secrets")]
mod secretsmanager {
    use std::sync::OnceLock;

    use aws_sdk_secretsmanager::config::{BehaviorVersion, Region};
    use aws_sdk_secretsmanager::{Client, Config};

    use super::{BoxFuture, Secret, SecretError, Secrets};
    use crate::aws::AwsConfig;

    /// AWS Secrets Manager. The client is built at the first call, not at the start.
    pub struct SecretsManager {
        aws: AwsConfig,
        client: OnceLock<Client>,
    }

    impl SecretsManager {
        /// Secrets of the account and Region of `aws`.
        pub fn new(aws: AwsConfig) -> Self {
            Self { aws, client: OnceLock::new() }
        }

        fn client(&self) -> &Client {
            self.client.get_or_init(|| {
                let mut config = Config::builder()
                    .behavior_version(BehaviorVersion::latest())
                    .region(Region::new(self.aws.region.clone()))
                    .credentials_provider(self.aws.sdk_credentials())
                    .timeout_config(crate::aws::timeouts())
                    .retry_config(crate::aws::retries());
                if let Some(endpoint) = &self.aws.secretsmanager_endpoint {
                    config = config.endpoint_url(endpoint);
                }
                Client::from_conf(config.build())
            })
        }
    }

    impl Secrets for SecretsManager {
        fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Secret<String>, SecretError>> {
            Box::pin(async move {
                match self.client().get_secret_value().secret_id(id).send().await {
                    Ok(output) => {
                        output.secret_string.map(Secret::new).ok_or_else(|| SecretError::NotFound(id.to_owned()))
                    }
                    Err(error) => {
                        let missing = error.as_service_error().is_some_and(|e| e.is_resource_not_found_exception());
                        if missing {
                            return Err(SecretError::NotFound(id.to_owned()));
                        }
                        Err(SecretError::Unavailable { id: id.to_owned(), why: crate::aws::describe(&error) })
                    }
                }
            })
        }
    }
}
