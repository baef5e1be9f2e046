//! The buckets in a DynamoDB table: one `UpdateItem` with a condition takes tokens.
//!
//! A record has the string `id`, the number `full_at` (nanoseconds since 1970), the number `expires` (seconds since 1970,
//! the table's TTL attribute) and, where an operator has given the client a limit of its own, the string `rate_limit`.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use aws_sdk_dynamodb::config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};
use aws_sdk_dynamodb::{Client, Config};

use super::table::{Bucket, Change, RateTable, RateTableError, Update, Updated};
use crate::BoxFuture;
use crate::aws::AwsConfig;

/// What DynamoDB says when a key, or the table, is written too often.
const THROTTLED: [&str; 2] = ["ProvisionedThroughputExceededException", "ThrottlingException"];

/// A DynamoDB table whose partition key is the string `id`.
#[derive(Clone)]
pub struct DynamoDbTable {
    table: String,
    aws: AwsConfig,
    // Built at the first call, not at the start.
    client: Arc<OnceLock<Client>>,
}

impl DynamoDbTable {
    /// The table `table` in the account and Region of `aws`. Connects to nobody yet.
    pub fn new(table: impl Into<String>, aws: AwsConfig) -> Self {
        Self { table: table.into(), aws, client: Arc::default() }
    }

    fn client(&self) -> &Client {
        self.client.get_or_init(|| {
            let mut config = Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::new(self.aws.region.clone()))
                .credentials_provider(self.aws.sdk_credentials())
                .timeout_config(crate::aws::timeouts())
                .retry_config(crate::aws::retries());
            if let Some(endpoint) = &self.aws.dynamodb_endpoint {
                config = config.endpoint_url(endpoint);
            }
            Client::from_conf(config.build())
        })
    }

    async fn change(&self, update: &Update<'_>) -> Result<Updated, RateTableError> {
        let Expressions { set, condition, values } = expressions(update);
        let sent = self
            .client()
            .update_item()
            .table_name(&self.table)
            .key("id", AttributeValue::S(update.id.to_owned()))
            .update_expression(set)
            .condition_expression(condition)
            .set_expression_attribute_values(Some(values))
            .return_values(ReturnValue::UpdatedNew)
            // Why it did not happen, without another request.
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match sent {
            Ok(output) => {
                let bucket = self.bucket(update.id, output.attributes.as_ref())?;
                let missing = || self.of_record(update.id, "an answer without full_at");
                bucket.full_at.map(|full_at| Updated::Done { full_at }).ok_or_else(missing)
            }
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(refused)) => {
                    Ok(Updated::Refused(self.bucket(update.id, refused.item())?))
                }
                // A key takes 1,000 writes a second. Who asks that much is no reason to give up on the others.
                Some(other) if other.code().is_some_and(|code| THROTTLED.contains(&code)) => {
                    Err(self.of_record(update.id, &crate::aws::describe(&error)))
                }
                _ => Err(RateTableError::Table { table: self.table.clone(), why: crate::aws::describe(&error) }),
            },
        }
    }

    /// What an item says; there may be none.
    fn bucket(&self, id: &str, item: Option<&HashMap<String, AttributeValue>>) -> Result<Bucket, RateTableError> {
        let attribute = |name: &str| item.and_then(|item| item.get(name));
        let full_at = match attribute("full_at") {
            None => None,
            Some(AttributeValue::N(number)) => match number.parse() {
                Ok(full_at) => Some(full_at),
                Err(_) => return Err(self.of_record(id, "expected full_at to be nanoseconds since 1970")),
            },
            Some(_) => return Err(self.of_record(id, "expected full_at to be a number")),
        };
        let own_limit = match attribute("rate_limit") {
            None => None,
            Some(AttributeValue::S(limit)) => Some(limit.clone()),
            Some(_) => return Err(self.of_record(id, "expected rate_limit to be a string")),
        };
        Ok(Bucket { full_at, own_limit })
    }

    fn of_record(&self, id: &str, why: &str) -> RateTableError {
        RateTableError::Record { table: self.table.clone(), id: id.to_owned(), why: why.to_owned() }
    }
}

struct Expressions {
    set: &'static str,
    condition: String,
    values: HashMap<String, AttributeValue>,
}

fn expressions(update: &Update<'_>) -> Expressions {
    let number = |number: u64| AttributeValue::N(number.to_string());
    let is_kept = update.own_limit.is_some();
    // A record with a limit of its own must not be deleted with the bucket.
    let (to, later) = if is_kept {
        ("SET full_at = :to REMOVE expires", "SET full_at = full_at + :cost REMOVE expires")
    } else {
        ("SET full_at = :to, expires = :expires", "SET full_at = full_at + :cost, expires = :expires")
    };
    let (set, on_bucket, mut values) = match update.change {
        Change::Start { now, to: moment } => (
            to,
            "(attribute_not_exists(full_at) OR full_at < :now)",
            vec![(":now", number(now)), (":to", number(moment))],
        ),
        Change::Add { cost, not_before, not_after } => (
            later,
            "full_at BETWEEN :not_before AND :not_after",
            vec![(":cost", number(cost)), (":not_before", number(not_before)), (":not_after", number(not_after))],
        ),
        Change::Replace { seen, to: moment } => {
            (to, "full_at = :seen", vec![(":seen", number(seen)), (":to", number(moment))])
        }
    };
    let on_limit = match update.own_limit {
        Some(limit) => {
            values.push((":rate_limit", AttributeValue::S(limit.to_owned())));
            "rate_limit = :rate_limit"
        }
        None => {
            values.push((":expires", number(update.expires)));
            "attribute_not_exists(rate_limit)"
        }
    };
    Expressions {
        set,
        condition: format!("{on_limit} AND {on_bucket}"),
        values: values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    }
}

impl RateTable for DynamoDbTable {
    fn update<'a>(&'a self, update: &'a Update<'a>) -> BoxFuture<'a, Result<Updated, RateTableError>> {
        Box::pin(self.change(update))
    }
}
