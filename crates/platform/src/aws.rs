//! Region, credentials and endpoints from the environment that Lambda, ECS and EKS set.
//!
//! The SDK's configuration chain (profiles, SSO, IMDS) is not used: on a Lambda's start path it costs more than the
//! program itself, and a function's credentials are always in its environment. Where they are not, as in a task or a
//! pod, [`CredentialSource`] fetches them when they are first needed, with the feature `fetched-credentials`.

#[cfg(feature = "fetched-credentials")]
mod container;
mod credentials;
#[cfg(feature = "fetched-credentials")]
mod fetched;
#[cfg(feature = "fetched-credentials")]
mod web_identity;

use identity::secret::Secret;

use crate::env::{EnvError, Reader};

pub use credentials::{CredentialError, CredentialSource};

/// What is needed to call or to sign for AWS.
#[derive(Clone, Debug)]
pub struct AwsConfig {
    /// `AWS_REGION`.
    pub region: String,
    /// Where the access key comes from.
    pub credentials: CredentialSource,
    /// `AWS_ENDPOINT_URL_DYNAMODB`, else `AWS_ENDPOINT_URL`: for a local stand-in of the service.
    pub dynamodb_endpoint: Option<String>,
    /// `AWS_ENDPOINT_URL_SECRETS_MANAGER`, else `AWS_ENDPOINT_URL`.
    pub secretsmanager_endpoint: Option<String>,
}

/// An access key.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The public half.
    pub access_key_id: String,
    /// The secret half.
    pub secret_access_key: Secret<String>,
    /// Present with temporary credentials, as a role's always are.
    pub session_token: Option<Secret<String>>,
}

impl AwsConfig {
    /// Reads the variables; each one that is missing is named.
    pub fn from_env(env: &Reader<'_>) -> Result<Self, EnvError> {
        let hint = "Lambda, ECS and EKS set it; elsewhere, export it";
        let common = env.optional("AWS_ENDPOINT_URL")?;
        let region = env.required("AWS_REGION", hint)?;
        Ok(Self {
            credentials: CredentialSource::from_env(env, &region)?,
            region,
            dynamodb_endpoint: env.optional("AWS_ENDPOINT_URL_DYNAMODB")?.or_else(|| common.clone()),
            secretsmanager_endpoint: env.optional("AWS_ENDPOINT_URL_SECRETS_MANAGER")?.or(common),
        })
    }
}

/// The endpoint of a service in `region`. The domains are those of the SDK's table of partitions.
///
/// # Errors
/// `region` is not the name of a Region.
pub(crate) fn endpoint(service: &str, region: &str) -> Result<String, String> {
    let is_label = region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if region.is_empty() || !is_label {
        return Err(format!("AWS_REGION={region:?} is not the name of a Region"));
    }
    const DOMAINS: [(&str, &str); 6] = [
        ("cn-", "amazonaws.com.cn"),
        ("eusc-", "amazonaws.eu"),
        ("us-iso-", "c2s.ic.gov"),
        ("us-isob-", "sc2s.sgov.gov"),
        ("eu-isoe-", "cloud.adc-e.uk"),
        ("us-isof-", "csp.hci.ic.gov"),
    ];
    let domain = DOMAINS.iter().find(|(prefix, _)| region.starts_with(prefix)).map_or("amazonaws.com", |found| found.1);
    Ok(format!("https://{service}.{region}.{domain}/"))
}

/// The time limits of every AWS call: an authorizer has 10 s in all, and a caller is waiting. What the SDK sets by
/// itself is no limit at all for an answer that does not come.
#[cfg(any(feature = "apigateway", feature = "dynamodb", feature = "secrets"))]
pub(crate) fn timeouts() -> aws_smithy_types::timeout::TimeoutConfig {
    use std::time::Duration;
    aws_smithy_types::timeout::TimeoutConfig::builder()
        .connect_timeout(Duration::from_millis(500))
        .operation_attempt_timeout(Duration::from_millis(1_000))
        .operation_timeout(Duration::from_millis(1_500))
        .build()
}

/// One more attempt, soon: a connection that was kept over a freeze is often dead.
#[cfg(any(feature = "apigateway", feature = "dynamodb", feature = "secrets"))]
pub(crate) fn retries() -> aws_smithy_types::retry::RetryConfig {
    aws_smithy_types::retry::RetryConfig::standard()
        .with_max_attempts(2)
        .with_initial_backoff(std::time::Duration::from_millis(50))
}

/// An SDK error in words, without the request that it belongs to.
#[cfg(any(feature = "apigateway", feature = "dynamodb", feature = "secrets"))]
pub(crate) fn describe<E, R>(error: &aws_smithy_runtime_api::client::result::SdkError<E, R>) -> String
where
    E: aws_smithy_types::error::metadata::ProvideErrorMetadata,
{
    use aws_smithy_runtime_api::client::result::SdkError;
    match error {
        SdkError::ServiceError(service) => {
            let service = service.err();
            format!("{}: {}", service.code().unwrap_or("unknown error"), service.message().unwrap_or("no message"))
        }
        SdkError::TimeoutError(_) => "no answer in time".to_owned(),
        SdkError::DispatchFailure(_) => "cannot connect".to_owned(),
        SdkError::ResponseError(_) => "the answer cannot be read".to_owned(),
        _ => "the request cannot be built".to_owned(),
    }
}
