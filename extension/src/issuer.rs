//! The issuer's IAM door: requests signed with the AWS credentials of the function, the task or the pod.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use platform::aws::AwsConfig;
use platform::clock::Clock;
use platform::https::{Client, Exchange, FetchError, Header, checked_url};
use platform::sigv4;

use crate::config::Egress;

/// How long one exchange with the issuer may take.
const TIMEOUT: Duration = Duration::from_millis(2_500);

/// The largest answer of the issuer, in bytes.
const MAX_ANSWER: usize = 128 * 1024;

/// A client of the issuer. One serves SVIDs and tokens.
pub(crate) struct Issuer {
    base: String,
    service: String,
    aws: AwsConfig,
    clock: Arc<dyn Clock>,
    /// Made on first use: setting up TLS takes time that the start of the function does not have.
    client: OnceLock<Client>,
}

impl Issuer {
    pub(crate) fn new(egress: &Egress, clock: Arc<dyn Clock>) -> Issuer {
        Issuer {
            base: egress.issuer_url.clone(),
            service: egress.issuer_service.clone(),
            aws: egress.aws.clone(),
            clock,
            client: OnceLock::new(),
        }
    }

    /// POSTs `body` to `path` and returns the body of a successful answer. The error is one line without any
    /// credential.
    pub(crate) async fn post(&self, path: &str, content_type: &str, body: Vec<u8>) -> Result<Vec<u8>, String> {
        let Exchange { status, body } = self.exchange(path, content_type, body).await?;
        match status {
            200..300 => Ok(body),
            status => {
                let url = checked_url(&self.base).map_err(|error| error.to_string())?;
                let host = url.host_str().unwrap_or_default().to_owned();
                Err(FetchError::Status { host, status }.to_string())
            }
        }
    }

    /// The same with the answer as it comes, for who reads refusals.
    pub(crate) async fn exchange(&self, path: &str, content_type: &str, body: Vec<u8>) -> Result<Exchange, String> {
        let url = format!("{}{path}", self.base);
        let mut headers = vec![("content-type".to_owned(), content_type.to_owned())];
        let request = sigv4::Request { method: "POST", url: &url, headers: &headers, body: &body };
        let credentials = self.aws.credentials.get().await.map_err(|error| error.to_string())?;
        let signed = sigv4::sign(request, &credentials, &self.aws.region, &self.service, self.clock.now())
            .map_err(|error| error.to_string())?;
        headers.extend(signed);
        let headers: Vec<Header> = headers.into_iter().map(|(name, value)| (name, value.into())).collect();
        let url = checked_url(&url).map_err(|error| error.to_string())?;
        let client = self.client().map_err(|error| error.to_string())?;
        client.exchange("POST", &url, &headers, body).await.map_err(|error| error.to_string())
    }

    fn client(&self) -> Result<&Client, FetchError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = Client::new(TIMEOUT, MAX_ANSWER)?;
        Ok(self.client.get_or_init(|| client))
    }
}
