//! AWS Secrets Manager.

use std::sync::OnceLock;

use aws_sdk_secretsmanager::config::{BehaviorVersion, Region};
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_secretsmanager::{Client, Config};
use identity::secret::Secret;

use super::{CURRENT, Put, SecretDescription, SecretError, SecretVersions, Secrets};
use crate::BoxFuture;
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
                .credentials_provider(self.aws.credentials.clone())
                .timeout_config(crate::aws::timeouts())
                .retry_config(crate::aws::retries());
            if let Some(endpoint) = &self.aws.secretsmanager_endpoint {
                config = config.endpoint_url(endpoint);
            }
            Client::from_conf(config.build())
        })
    }
}

fn unavailable<E: ProvideErrorMetadata, R>(id: &str, error: &SdkError<E, R>) -> SecretError {
    SecretError::Unavailable { id: id.to_owned(), why: crate::aws::describe(error) }
}

fn refused<E: ProvideErrorMetadata, R>(id: &str, error: &SdkError<E, R>) -> SecretError {
    SecretError::NotChanged { id: id.to_owned(), why: crate::aws::describe(error) }
}

impl Secrets for SecretsManager {
    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Secret<String>, SecretError>> {
        Box::pin(async move { Ok(self.get_dated(id).await?.0) })
    }

    fn get_dated<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(Secret<String>, u64), SecretError>> {
        Box::pin(async move {
            // GetSecretValue without a label means AWSCURRENT, too; a policy may want it said, and moto needs it.
            match self.client().get_secret_value().secret_id(id).version_stage(CURRENT).send().await {
                Ok(output) => {
                    let made_at = output.created_date.map_or(0, |date| u64::try_from(date.secs()).unwrap_or(0));
                    let value = output.secret_string.ok_or_else(|| SecretError::NotFound(id.to_owned()))?;
                    Ok((Secret::new(value), made_at))
                }
                Err(error) if error.as_service_error().is_some_and(|e| e.is_resource_not_found_exception()) => {
                    Err(SecretError::NotFound(id.to_owned()))
                }
                Err(error) => Err(unavailable(id, &error)),
            }
        })
    }
}

impl SecretVersions for SecretsManager {
    fn describe<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<SecretDescription, SecretError>> {
        Box::pin(async move {
            match self.client().describe_secret().secret_id(id).send().await {
                Ok(output) => Ok(SecretDescription {
                    rotation_enabled: output.rotation_enabled.unwrap_or(false),
                    versions: output.version_ids_to_stages.unwrap_or_default().into_iter().collect(),
                }),
                Err(error) if error.as_service_error().is_some_and(|e| e.is_resource_not_found_exception()) => {
                    Err(SecretError::NotFound(id.to_owned()))
                }
                Err(error) => Err(unavailable(id, &error)),
            }
        })
    }

    fn get_version<'a>(
        &'a self,
        id: &'a str,
        version: &'a str,
        stage: &'a str,
    ) -> BoxFuture<'a, Result<Option<Secret<String>>, SecretError>> {
        Box::pin(async move {
            let get = self.client().get_secret_value().secret_id(id).version_id(version).version_stage(stage);
            match get.send().await {
                Ok(output) => Ok(output.secret_string.map(Secret::new)),
                // A version that RotateSecret has made and nobody has filled yet has no value to be found.
                Err(error) if error.as_service_error().is_some_and(|e| e.is_resource_not_found_exception()) => Ok(None),
                Err(error) => Err(unavailable(id, &error)),
            }
        })
    }

    fn put_version<'a>(
        &'a self,
        id: &'a str,
        version: &'a str,
        value: &'a Secret<String>,
        stage: &'a str,
        rotation_token: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Put, SecretError>> {
        Box::pin(async move {
            let put = self.client().put_secret_value().secret_id(id).client_request_token(version);
            let put = put.secret_string(value.expose()).version_stages(stage);
            match put.set_rotation_token(rotation_token.map(str::to_owned)).send().await {
                Ok(_) => Ok(Put::Done),
                Err(error) if error.as_service_error().is_some_and(|e| e.is_resource_exists_exception()) => {
                    Ok(Put::OtherValue)
                }
                Err(error) => Err(refused(id, &error)),
            }
        })
    }

    fn move_stage<'a>(
        &'a self,
        id: &'a str,
        stage: &'a str,
        to: Option<&'a str>,
        from: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(), SecretError>> {
        Box::pin(async move {
            let update = self.client().update_secret_version_stage().secret_id(id).version_stage(stage);
            let update = update.set_move_to_version_id(to.map(str::to_owned));
            let update = update.set_remove_from_version_id(from.map(str::to_owned));
            update.send().await.map(|_| ()).map_err(|error| refused(id, &error))
        })
    }
}
