//! Calls of AWS services that take and give JSON: one signed POST.
//!
//! The fronts ask three things of AWS, a record of a key, the pepper and a client's tokens, and each is one call of one operation. They do
//! without the SDK: linking its clients of DynamoDB and Secrets Manager made the authorizer's zip 4.15 MB instead of 3.02 MB
//! (`make bench` prints its size), which Lambda has to fetch and unpack at each cold start. The key-issuer, which writes and
//! does more, has the SDK. Time limits and retries are those that `aws` gives to the SDK's clients, and signing is the
//! SDK's own library.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use identity::Secret;
use serde::Deserialize;

use crate::aws::{AwsConfig, CredentialError, endpoint};
use crate::clock::Clock;
use crate::https::{Client, ClientOptions, Exchange, FetchError, Header};
use crate::sigv4;

/// How long one attempt may take, and half of it for the connection.
const ATTEMPT: Duration = Duration::from_millis(1_000);

/// How long a call may take: an authorizer has 10 s in all, and a caller is waiting.
const TOTAL: Duration = Duration::from_millis(1_500);

/// The pause before the second attempt, which is the last.
const PAUSE: Duration = Duration::from_millis(50);

/// The largest answer. An item of DynamoDB has at most 400 KB and a secret 64 KB; escapes in JSON make them longer.
const MAX_ANSWER: usize = 1024 * 1024;

/// The most characters of a service's message that are repeated.
const MAX_MESSAGE: usize = 300;

/// A service, as its documentation of the API names it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Service {
    /// The first label of its host, and what is signed for.
    pub(crate) name: &'static str,
    /// What stands before the operation in `X-Amz-Target`.
    pub(crate) target: &'static str,
    /// Its version of the protocol.
    pub(crate) content_type: &'static str,
}

/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.LowLevelAPI.html>
pub(crate) const DYNAMODB: Service =
    Service { name: "dynamodb", target: "DynamoDB_20120810", content_type: "application/x-amz-json-1.0" };

/// <https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html>
pub(crate) const SECRETS_MANAGER: Service =
    Service { name: "secretsmanager", target: "secretsmanager", content_type: "application/x-amz-json-1.1" };

/// Why a call failed. No credential and no part of a successful answer is in the text.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum CallError {
    #[error("{code}: {message}")]
    Refused { status: u16, code: String, message: String },
    /// A write whose condition did not hold, and the item as it is, where the write asked for it.
    #[error("the condition of a write did not hold")]
    Condition { item: Option<serde_json::Value> },
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("no answer in time")]
    Late,
    #[error("the request cannot be built: {0}")]
    Request(String),
    #[error(transparent)]
    Credentials(#[from] CredentialError),
}

impl CallError {
    /// Whether the service may do better the next time: what the SDK's retry classifiers retry.
    fn may_pass(&self) -> bool {
        match self {
            Self::Refused { status, code, .. } => {
                matches!(status, 500 | 502 | 503 | 504) || MAY_PASS.contains(&code.as_str())
            }
            // A connection that was kept over a freeze is often dead.
            Self::Fetch(FetchError::Unreachable { .. }) => true,
            Self::Fetch(_) | Self::Late | Self::Request(_) | Self::Credentials(_) | Self::Condition { .. } => false,
        }
    }
}

/// Throttling and time limits: `THROTTLING_ERRORS` and `TRANSIENT_ERRORS` of `aws_runtime::retries::classifiers`, as far
/// as these services have them.
const MAY_PASS: [&str; 8] = [
    "LimitExceededException",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestTimeout",
    "RequestTimeoutException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
];

/// Calls services with the credentials of the environment. Its one HTTPS client is made by the first call.
pub(crate) struct AwsJson {
    aws: AwsConfig,
    client: OnceLock<Client>,
    clock: Arc<dyn Clock>,
}

impl AwsJson {
    pub(crate) fn new(aws: AwsConfig, clock: Arc<dyn Clock>) -> Self {
        Self { aws, client: OnceLock::new(), clock }
    }

    /// The answer to `operation` with these members, as its JSON text. It may hold a secret.
    pub(crate) async fn call(
        &self,
        service: Service,
        operation: &str,
        input: &serde_json::Value,
    ) -> Result<Secret<Vec<u8>>, CallError> {
        let body = input.to_string().into_bytes();
        let attempts = async {
            match self.attempt(service, operation, &body).await {
                Err(error) if error.may_pass() => {
                    tokio::time::sleep(PAUSE).await;
                    self.attempt(service, operation, &body).await
                }
                ended => ended,
            }
        };
        tokio::time::timeout(TOTAL, attempts).await.unwrap_or(Err(CallError::Late))
    }

    async fn attempt(&self, service: Service, operation: &str, body: &[u8]) -> Result<Secret<Vec<u8>>, CallError> {
        let url = self.endpoint(service)?;
        let mut headers = vec![
            ("content-type".to_owned(), service.content_type.to_owned()),
            ("x-amz-target".to_owned(), format!("{}.{operation}", service.target)),
        ];
        let request = sigv4::Request { method: "POST", url: url.as_str(), headers: &headers, body };
        let credentials = self.aws.credentials.get().await?;
        let signed = sigv4::sign(request, &credentials, &self.aws.region, service.name, self.clock.now())
            .map_err(|error| CallError::Request(error.to_string()))?;
        headers.extend(signed);
        let headers: Vec<Header> = headers.into_iter().map(|(name, value)| (name, value.into())).collect();
        let Exchange { status, body } = self.client()?.exchange("POST", &url, &headers, body.to_vec()).await?;
        let answer = Secret::new(body);
        if status == 200 { Ok(answer) } else { Err(refusal(status, answer.expose())) }
    }

    fn endpoint(&self, service: Service) -> Result<reqwest::Url, CallError> {
        let configured = match service.name {
            "dynamodb" => &self.aws.dynamodb_endpoint,
            _ => &self.aws.secretsmanager_endpoint,
        };
        let text = match configured {
            Some(endpoint) => endpoint.clone(),
            None => endpoint(service.name, &self.aws.region).map_err(CallError::Request)?,
        };
        reqwest::Url::parse(&text).map_err(|error| CallError::Request(format!("the endpoint {text:?}: {error}")))
    }

    fn client(&self) -> Result<&Client, FetchError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = Client::with(ClientOptions { keep_alive: true, ..ClientOptions::new(ATTEMPT, MAX_ANSWER) })?;
        Ok(self.client.get_or_init(|| client))
    }
}

/// `{"__type": "com.amazonaws.dynamodb.v20120810#ResourceNotFoundException", "message": "…"}`
#[derive(Default, Deserialize)]
struct Refusal {
    #[serde(rename = "__type")]
    kind: Option<String>,
    #[serde(alias = "Message")]
    message: Option<String>,
    #[serde(rename = "Item")]
    item: Option<serde_json::Value>,
}

fn refusal(status: u16, body: &[u8]) -> CallError {
    let Refusal { kind, message, item } = serde_json::from_slice(body).unwrap_or_default();
    let kind = kind.unwrap_or_default();
    let code = kind.rsplit('#').next().and_then(|code| code.split(':').next()).unwrap_or_default();
    if code == "ConditionalCheckFailedException" {
        return CallError::Condition { item };
    }
    let is_word = !code.is_empty() && code.len() <= 100 && code.bytes().all(|b| b.is_ascii_alphanumeric());
    let code = if is_word { code.to_owned() } else { format!("status {status}") };
    // What AWS says of a signature repeats the request that it was expected for, with its session token.
    let message = match message {
        Some(message) if !code.contains("Signature") => message.chars().take(MAX_MESSAGE).collect(),
        _ => "no message".to_owned(),
    };
    CallError::Refused { status, code, message }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_region_has_its_partition_s_domain() {
        for (region, expected) in [
            ("eu-central-1", "https://dynamodb.eu-central-1.amazonaws.com/"),
            ("us-gov-west-1", "https://dynamodb.us-gov-west-1.amazonaws.com/"),
            ("cn-north-1", "https://dynamodb.cn-north-1.amazonaws.com.cn/"),
            ("eusc-de-east-1", "https://dynamodb.eusc-de-east-1.amazonaws.eu/"),
            ("us-iso-east-1", "https://dynamodb.us-iso-east-1.c2s.ic.gov/"),
            ("us-isob-east-1", "https://dynamodb.us-isob-east-1.sc2s.sgov.gov/"),
            ("eu-isoe-west-1", "https://dynamodb.eu-isoe-west-1.cloud.adc-e.uk/"),
            ("us-isof-south-1", "https://dynamodb.us-isof-south-1.csp.hci.ic.gov/"),
        ] {
            assert_eq!(endpoint("dynamodb", region).as_deref(), Ok(expected));
        }
        for region in ["", "a.evil.example/", "EU-CENTRAL-1", "eu central 1"] {
            assert!(endpoint("dynamodb", region).is_err(), "{region}");
        }
    }

    #[test]
    fn a_refusal_is_named() {
        for (body, expected) in [
            (
                r#"{"__type":"com.amazonaws.dynamodb.v20120810#ThrottlingException","message":"slow down"}"#,
                "ThrottlingException: slow down",
            ),
            (
                r#"{"__type":"AccessDeniedException:http://x/","Message":"not yours"}"#,
                "AccessDeniedException: not yours",
            ),
            (
                r#"{"__type":"InvalidSignatureException","message":"x-amz-security-token:abc"}"#,
                "InvalidSignatureException: no message",
            ),
            (r#"{"__type":"two words","message":"m"}"#, "status 400: m"),
            ("<html>", "status 400: no message"),
        ] {
            assert_eq!(refusal(400, body.as_bytes()).to_string(), expected);
        }
        let long = format!(r#"{{"__type":"E","message":"{}"}}"#, "x".repeat(MAX_MESSAGE + 1));
        assert_eq!(refusal(400, long.as_bytes()).to_string().len(), "E: ".len() + MAX_MESSAGE);
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        let refused = |status, code: &str| CallError::Refused { status, code: code.to_owned(), message: String::new() };
        for status in [500, 502, 503, 504] {
            assert!(refused(status, "x").may_pass());
        }
        for code in MAY_PASS {
            assert!(refused(400, code).may_pass());
        }
        assert!(!refused(400, "AccessDeniedException").may_pass());
        assert!(!refused(501, "x").may_pass());
        assert!(!CallError::Late.may_pass());
        let host = || "h".to_owned();
        assert!(CallError::from(FetchError::Unreachable { host: host(), why: String::new() }).may_pass());
        assert!(!CallError::from(FetchError::TooLarge { host: host(), limit: 1 }).may_pass());
    }
}
