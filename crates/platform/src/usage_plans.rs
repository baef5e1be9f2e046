//! Usage plans of API Gateway: the keys there that stand for our API keys, so that a plan can count their requests.

use identity::secret::Secret;

use crate::BoxFuture;

/// A key as API Gateway should have it.
#[derive(Clone, Copy, Debug)]
pub struct PlanKey<'a> {
    /// Its name there, which is the public id of our API key.
    pub name: &'a str,
    /// What the authorizer answers as `usageIdentifierKey`, see [`authz::api_key::usage_plan_key`].
    pub value: &'a Secret<String>,
    /// Whether it may be used.
    pub enabled: bool,
    /// The id of the one plan that it belongs to.
    pub plan: &'a str,
}

/// Why API Gateway does not have it so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsagePlanError {
    /// Too many calls. CreateApiKey takes 5 a second for the whole account, and no more can be had.
    #[error("API Gateway asks to slow down")]
    Throttled {
        /// What it said about when to come back, in seconds.
        retry_after: Option<u64>,
    },
    /// Anything else.
    #[error("API Gateway cannot be brought up to date: {0}")]
    Failed(String),
}

/// The usage plans.
pub trait UsagePlans: Send + Sync {
    /// Makes API Gateway have the key like this. Doing it again changes nothing.
    fn ensure<'a>(&'a self, key: PlanKey<'a>) -> BoxFuture<'a, Result<(), UsagePlanError>>;

    /// Makes API Gateway not have the key of this name.
    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), UsagePlanError>>;
}

#[cfg(feature = "apigateway")]
pub use apigateway::ApiGateway;

#[cfg(feature = "apigateway")]
mod apigateway {
    use std::sync::OnceLock;

    use aws_sdk_apigateway::config::{BehaviorVersion, Region};
    use aws_sdk_apigateway::error::{ProvideErrorMetadata, SdkError};
    use aws_sdk_apigateway::types::{ApiKey, Op, PatchOperation};
    use aws_sdk_apigateway::{Client, Config};
    use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

    use super::{BoxFuture, PlanKey, UsagePlanError, UsagePlans};
    use crate::aws::AwsConfig;

    /// The largest page that API Gateway gives.
    const PAGE: i32 = 500;
    /// An account has 10,000 keys at most.
    const MAX_PAGES: usize = 20;

    /// API Gateway. The client is built at the first call, not at the start.
    pub struct ApiGateway {
        aws: AwsConfig,
        endpoint: Option<String>,
        client: OnceLock<Client>,
    }

    impl ApiGateway {
        /// The usage plans of the account and Region of `aws`; `endpoint` is for a local stand-in of the service.
        pub fn new(aws: AwsConfig, endpoint: Option<String>) -> Self {
            Self { aws, endpoint, client: OnceLock::new() }
        }

        fn client(&self) -> &Client {
            self.client.get_or_init(|| {
                let mut config = Config::builder()
                    .behavior_version(BehaviorVersion::latest())
                    .region(Region::new(self.aws.region.clone()))
                    .credentials_provider(self.aws.credentials.clone())
                    .timeout_config(crate::aws::timeouts())
                    .retry_config(crate::aws::retries());
                if let Some(endpoint) = &self.endpoint {
                    config = config.endpoint_url(endpoint);
                }
                Client::from_conf(config.build())
            })
        }

        /// The key of this name. Names are not unique to API Gateway; ours are, since the value is made out of them and no
        /// two keys have one value.
        async fn find(&self, name: &str) -> Result<Option<ApiKey>, UsagePlanError> {
            let mut position = None;
            for _ in 0..MAX_PAGES {
                // The query finds names that begin like this, so that the whole name is compared again.
                let request = self.client().get_api_keys().name_query(name).limit(PAGE).include_values(false);
                let page = request.set_position(position).send().await.map_err(|error| describe(&error))?;
                let found = page.items().iter().find(|key| key.name() == Some(name));
                if let Some(found) = found {
                    return Ok(Some(found.clone()));
                }
                position = page.position().map(str::to_owned);
                if position.is_none() {
                    return Ok(None);
                }
            }
            Err(UsagePlanError::Failed(format!("more than {MAX_PAGES} pages of keys")))
        }

        /// The id of the key, made if there is none.
        async fn key(&self, key: PlanKey<'_>) -> Result<String, UsagePlanError> {
            if let Some(found) = self.find(key.name).await? {
                let id = found.id().ok_or_else(no_id)?.to_owned();
                if found.enabled() != key.enabled {
                    let enabled = PatchOperation::builder().op(Op::Replace).path("/enabled");
                    let enabled = enabled.value(key.enabled.to_string()).build();
                    let update = self.client().update_api_key().api_key(&id).patch_operations(enabled);
                    update.send().await.map_err(|error| describe(&error))?;
                }
                return Ok(id);
            }
            let create = self.client().create_api_key().name(key.name).value(key.value.expose()).enabled(key.enabled);
            match create.send().await {
                Ok(made) => made.id().map(str::to_owned).ok_or_else(no_id),
                // Somebody else has made it just now, or it has another name, which is nothing that we can put right.
                Err(error) if error.code() == Some("ConflictException") => match self.find(key.name).await? {
                    Some(found) if found.enabled() == key.enabled => found.id().map(str::to_owned).ok_or_else(no_id),
                    Some(_) => Err(UsagePlanError::Failed("the key is changed by somebody else too".to_owned())),
                    None => Err(UsagePlanError::Failed("another key has the same value".to_owned())),
                },
                Err(error) => Err(describe(&error)),
            }
        }

        /// The plans that the key belongs to.
        async fn plans(&self, id: &str) -> Result<Vec<String>, UsagePlanError> {
            let mut plans = Vec::new();
            let mut position = None;
            for _ in 0..MAX_PAGES {
                let request = self.client().get_usage_plans().key_id(id).limit(PAGE);
                let page = request.set_position(position).send().await.map_err(|error| describe(&error))?;
                plans.extend(page.items().iter().filter_map(|plan| plan.id().map(str::to_owned)));
                position = page.position().map(str::to_owned);
                if position.is_none() {
                    return Ok(plans);
                }
            }
            Err(UsagePlanError::Failed(format!("more than {MAX_PAGES} pages of usage plans")))
        }
    }

    impl UsagePlans for ApiGateway {
        fn ensure<'a>(&'a self, key: PlanKey<'a>) -> BoxFuture<'a, Result<(), UsagePlanError>> {
            Box::pin(async move {
                let id = self.key(key).await?;
                let plans = self.plans(&id).await?;
                for other in plans.iter().filter(|plan| *plan != key.plan) {
                    let delete = self.client().delete_usage_plan_key().usage_plan_id(other).key_id(&id).send().await;
                    absent_is_fine(delete)?;
                }
                if !plans.iter().any(|plan| plan == key.plan) {
                    let attach = self.client().create_usage_plan_key().usage_plan_id(key.plan).key_id(&id);
                    match attach.key_type("API_KEY").send().await {
                        Ok(_) => {}
                        Err(error) if error.code() == Some("ConflictException") => {}
                        Err(error) => return Err(describe(&error)),
                    }
                }
                Ok(())
            })
        }

        fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), UsagePlanError>> {
            Box::pin(async move {
                let Some(found) = self.find(name).await? else { return Ok(()) };
                let id = found.id().ok_or_else(no_id)?;
                absent_is_fine(self.client().delete_api_key().api_key(id).send().await)
            })
        }
    }

    fn absent_is_fine<T, E: ProvideErrorMetadata>(
        outcome: Result<T, SdkError<E, HttpResponse>>,
    ) -> Result<(), UsagePlanError> {
        match outcome {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("NotFoundException") => Ok(()),
            Err(error) => Err(describe(&error)),
        }
    }

    fn no_id() -> UsagePlanError {
        UsagePlanError::Failed("the answer has a key without an id".to_owned())
    }

    fn describe<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> UsagePlanError {
        if error.code() == Some("TooManyRequestsException") {
            let header = error.raw_response().and_then(|response| response.headers().get("retry-after"));
            return UsagePlanError::Throttled { retry_after: header.and_then(|seconds| seconds.parse().ok()) };
        }
        UsagePlanError::Failed(crate::aws::describe(error))
    }
}
