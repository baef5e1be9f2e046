//! A Lambda function URL: the IAM door, or an open one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Response;
use hyper::body::Incoming;
use identity::secret::Secret;
use platform::BoxFuture;
use platform::clock::{Clock, SystemClock};
use platform::log::Log;
use platform::sigv4;
use serde_json::{Value, json};

use super::config::{ConfigError, INTEGRATION_TIMEOUT};
use super::event::{self, ContextV2};
use super::invoke::{self, Invoker};
use super::request::{self, Ids, Request};
use super::response::{self, Answer, Refusal};
use super::server::{self, BindError, Bound, Handler};

/// One function URL.
#[derive(Clone)]
pub struct FunctionUrlConfig {
    /// The URL's id, `requestContext.apiId` of its events; its domain name is `URL_ID.lambda-url.REGION.on.aws`.
    pub url_id: String,
    /// The region, which signatures must name.
    pub region: String,
    /// The account id of the function's owner.
    pub account_id: String,
    /// Who may call.
    pub auth: UrlAuth,
    /// The function.
    pub invoker: Arc<dyn Invoker>,
    /// How long it may take.
    pub timeout: Duration,
    /// The time, for events and signatures.
    pub clock: Arc<dyn Clock>,
    /// Takes one line a request.
    pub log: Option<Log>,
}

impl FunctionUrlConfig {
    /// A URL in `eu-central-1` of account 123456789012, with 30 s for the function and the machine's clock.
    pub fn new(url_id: impl Into<String>, auth: UrlAuth, invoker: Arc<dyn Invoker>) -> Self {
        Self {
            url_id: url_id.into(),
            region: "eu-central-1".to_owned(),
            account_id: "123456789012".to_owned(),
            auth,
            invoker,
            timeout: INTEGRATION_TIMEOUT,
            clock: Arc::new(SystemClock),
            log: None,
        }
    }
}

/// The URL's auth type.
#[derive(Clone, Debug)]
pub enum UrlAuth {
    /// `AWS_IAM`: requests signed with SigV4 by one of these access keys.
    AwsIam(BTreeMap<String, Caller>),
    /// `NONE`: everybody.
    None,
}

/// Whose an access key is.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The key's secret half.
    pub secret_access_key: Secret<String>,
    /// The session token that a role's key comes with; the request must carry exactly this one, or none.
    pub session_token: Option<Secret<String>>,
    /// The caller's account id.
    pub account_id: String,
    /// `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION` for a role, `arn:aws:iam::ACCOUNT:user/NAME` for a user.
    pub user_arn: String,
    /// `AROA…:SESSION` for a role, `AIDA…` for a user: both `callerId` and `userId` of events.
    pub caller_id: String,
    /// The caller's organisation.
    pub principal_org_id: Option<String>,
}

/// A Lambda function URL, played on a local socket.
pub struct FunctionUrl {
    config: FunctionUrlConfig,
    domain: String,
    ids: Ids,
}

impl FunctionUrl {
    /// Checks `config` and binds `address`; port 0 takes a free one. Nothing is answered before [`Bound::run`].
    ///
    /// # Errors
    /// The configuration is refused, with the part at fault named, or the address cannot be bound.
    pub async fn bind(config: FunctionUrlConfig, address: SocketAddr) -> Result<Bound, BindError> {
        for (part, text) in [("function URL's id", &config.url_id), ("function URL's region", &config.region)] {
            if text.is_empty() || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
                return Err(ConfigError::new(part, text, "letters, digits and -").into());
            }
        }
        let domain = format!("{}.lambda-url.{}.on.aws", config.url_id.to_ascii_lowercase(), config.region);
        let url = Self { domain, ids: Ids::new(config.clock.as_ref()), config };
        Bound::bind(Arc::new(url), address).await
    }

    async fn answer(
        &self,
        request: http::Request<Incoming>,
        peer: SocketAddr,
        id: &str,
        error: &mut Option<String>,
    ) -> Result<Answer, Refusal> {
        let request = request::read(request, peer, id, self.config.clock.now()).await?;
        if request.host != self.domain && !request::is_direct(&request.host) {
            return Err(Refusal::ACCESS_DENIED);
        }
        let mut headers = request.event_headers(&self.domain);
        let iam = match &self.config.auth {
            UrlAuth::None => None,
            UrlAuth::AwsIam(callers) => {
                let iam = self.identify(callers, &request).map_err(|wrong| {
                    *error = Some(wrong);
                    Refusal::ACCESS_DENIED
                })?;
                // The function is told who called; the caller's credentials are none of its business.
                headers.retain(|(name, _)| name != "authorization" && name != "x-amz-security-token");
                Some(iam)
            }
        };
        let context = ContextV2 {
            account_id: &self.config.account_id,
            api_id: &self.config.url_id,
            domain: &self.domain,
            route_key: super::DEFAULT_STAGE,
            stage: super::DEFAULT_STAGE,
            path: &request.path,
        };
        let event = event::function_url(&request, &headers, &context, iam);
        let answer = match invoke::call(&self.config.invoker, event, self.config.timeout).await {
            Ok(payload) => response::from_v2(payload, response::Text::Quoted),
            Err(failure) => Err(failure.to_string()),
        };
        answer.map_err(|wrong| {
            *error = Some(wrong);
            Refusal::BAD_GATEWAY
        })
    }

    /// The caller that the signature proves, as `requestContext.authorizer.iam`.
    ///
    /// "When your function URL receives a request, Lambda also calculates the SigV4 signature. Lambda processes the
    /// request only if the signatures match." (Invoking Lambda function URLs)
    fn identify(&self, callers: &BTreeMap<String, Caller>, request: &Request) -> Result<Value, String> {
        let only = |name: &str| {
            let mut values = request.headers.iter().filter(|(own, _)| own == name).map(|(_, value)| value.as_str());
            values.next().filter(|_| values.next().is_none())
        };
        let host = only("host").unwrap_or_default();
        let query = if request.query.is_empty() { String::new() } else { format!("?{}", request.query) };
        let url = format!("http://{host}{}{query}", request.path);
        let signed =
            sigv4::Request { method: &request.method, url: &url, headers: &request.headers, body: &request.body };
        let secret_of = |key: &str| callers.get(key).map(|caller| caller.secret_access_key.clone());
        let key = sigv4::verify(signed, "lambda", secret_of, request.received).map_err(|error| error.to_string())?;
        let caller = callers.get(&key).ok_or("the access key is not known")?;
        // Credential=KEY/DATE/REGION/SERVICE/aws4_request has been verified, but for the region being this one.
        let region = only("authorization")
            .and_then(|value| value.split("Credential=").nth(1))
            .and_then(|scope| scope.split('/').nth(2));
        if region != Some(self.config.region.as_str()) {
            return Err("the signature is for another region".to_owned());
        }
        let tokens_agree = match (&caller.session_token, only("x-amz-security-token")) {
            (None, None) => !request.headers.iter().any(|(name, _)| name == "x-amz-security-token"),
            (Some(own), Some(sent)) => {
                aws_lc_rs::constant_time::verify_slices_are_equal(own.expose().as_bytes(), sent.as_bytes()).is_ok()
            }
            _ => false,
        };
        if !tokens_agree {
            return Err("the session token is not the one of the access key".to_owned());
        }
        Ok(json!({
            "accessKey": key,
            "accountId": caller.account_id,
            "callerId": caller.caller_id,
            "cognitoIdentity": null,
            "principalOrgId": caller.principal_org_id,
            "userArn": caller.user_arn,
            "userId": caller.caller_id,
        }))
    }
}

impl Handler for FunctionUrl {
    fn handle<'a>(
        &'a self,
        request: http::Request<Incoming>,
        peer: SocketAddr,
    ) -> BoxFuture<'a, Response<server::Body>> {
        Box::pin(async move {
            let watch = server::Stopwatch::start();
            let id = self.ids.next();
            let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
            let mut error = None;
            let answer =
                self.answer(request, peer, &id, &mut error).await.unwrap_or_else(|refusal| refusal.answer("Message"));
            if let Some(log) = &self.config.log {
                log.write(&json!({
                    "ts": self.config.clock.unix(), "event": "function_url", "url_id": self.config.url_id, "request_id": id,
                    "method": method, "path": path, "status": answer.status.as_u16(), "error": error,
                    "latency_us": watch.micros(),
                }));
            }
            answer.into_response("x-amzn-requestid", &id)
        })
    }
}

impl std::fmt::Debug for FunctionUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FunctionUrl").field("url_id", &self.config.url_id).finish_non_exhaustive()
    }
}
