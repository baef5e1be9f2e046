//! A [`Table`] in DynamoDB.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use aws_sdk_dynamodb::config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};
use aws_sdk_dynamodb::{Client, Config};

use crate::BoxFuture;
use crate::aws::AwsConfig;
use crate::random::Random;
use crate::store::StoreError;
use crate::table::{Only, Page, Record, Table, Written};

/// One DynamoDB table. Its partition key is the string `id`; the record is JSON in the string `record`, `version` counts
/// the writes, `expires_at` (seconds since 1970) is the attribute for the table's time to live, and `write` is a random name
/// of the last write.
///
/// A write whose answer is lost is sent again by the SDK, and then meets its own result. By that name it knows it.
#[derive(Clone)]
pub struct DynamoTable {
    table: String,
    aws: AwsConfig,
    // Built at the first call, not at the start.
    client: Arc<OnceLock<Client>>,
}

type Item = HashMap<String, AttributeValue>;

impl DynamoTable {
    /// The table `table` in the account and Region of `aws`.
    pub fn new(table: impl Into<String>, aws: AwsConfig) -> Self {
        Self { table: table.into(), aws, client: Arc::default() }
    }

    fn client(&self) -> &Client {
        self.client.get_or_init(|| {
            let mut config = Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::new(self.aws.region.clone()))
                .credentials_provider(self.aws.credentials.clone())
                .timeout_config(crate::aws::timeouts())
                .retry_config(crate::aws::retries());
            if let Some(endpoint) = &self.aws.dynamodb_endpoint {
                config = config.endpoint_url(endpoint);
            }
            Client::from_conf(config.build())
        })
    }

    fn unavailable(&self, why: String) -> StoreError {
        StoreError::Unavailable { store: self.table.clone(), why }
    }

    /// A name that no other write has.
    fn name_of_write(&self) -> Result<String, StoreError> {
        let mut bytes = [0; 16];
        crate::random::SystemRandom.fill(&mut bytes).map_err(|error| self.unavailable(error.to_string()))?;
        Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn malformed(&self, id: &str, why: &str) -> StoreError {
        StoreError::Malformed { store: self.table.clone(), id: id.to_owned(), why: why.to_owned() }
    }

    fn record(&self, id: &str, item: &Item) -> Result<Record, StoreError> {
        let Some(AttributeValue::S(json)) = item.get("record") else {
            return Err(self.malformed(id, "expected a string attribute named record"));
        };
        let number = |name: &str| match item.get(name) {
            None => Ok(None),
            Some(AttributeValue::N(text)) => {
                text.parse().map(Some).map_err(|_| self.malformed(id, "expected version and expires_at to be integers"))
            }
            Some(_) => Err(self.malformed(id, "expected version and expires_at to be numbers")),
        };
        Ok(Record { json: json.clone(), version: number("version")?.unwrap_or(0), expires_at: number("expires_at")? })
    }
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

impl Table for DynamoTable {
    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Record>, StoreError>> {
        Box::pin(async move {
            let request = self.client().get_item().table_name(&self.table).key("id", text(id));
            // What was revoked or used must not be read from a replica that has not heard of it.
            let output = request.consistent_read(true).send().await;
            let output = output.map_err(|error| self.unavailable(crate::aws::describe(&error)))?;
            output.item.map(|item| self.record(id, &item)).transpose()
        })
    }

    fn put<'a>(
        &'a self,
        id: &'a str,
        json: &'a str,
        expires_at: Option<u64>,
        only: Only,
    ) -> BoxFuture<'a, Result<Written, StoreError>> {
        Box::pin(async move {
            let write = self.name_of_write()?;
            // An update and not a put, so that the version goes on counting over an expired record.
            let mut update = self
                .client()
                .update_item()
                .table_name(&self.table)
                .key("id", text(id))
                .expression_attribute_names("#r", "record")
                .expression_attribute_names("#v", "version")
                .expression_attribute_names("#e", "expires_at")
                .expression_attribute_names("#w", "write")
                .expression_attribute_values(":w", text(&write))
                .expression_attribute_values(":r", text(json))
                .expression_attribute_values(":zero", number(0))
                .expression_attribute_values(":one", number(1));
            update = match expires_at {
                Some(at) => update
                    .update_expression("SET #r = :r, #v = if_not_exists(#v, :zero) + :one, #w = :w, #e = :e")
                    .expression_attribute_values(":e", number(at)),
                None => {
                    update.update_expression("SET #r = :r, #v = if_not_exists(#v, :zero) + :one, #w = :w REMOVE #e")
                }
            };
            update = match only {
                Only::Absent { now } => update
                    .condition_expression("attribute_not_exists(#r) OR #e <= :now")
                    .expression_attribute_values(":now", number(now)),
                // A record that something else wrote has no version.
                Only::Version(0) => update.condition_expression("attribute_exists(#r) AND attribute_not_exists(#v)"),
                Only::Version(version) => {
                    update.condition_expression("#v = :v").expression_attribute_values(":v", number(version))
                }
            };
            let output = update
                .return_values(ReturnValue::UpdatedNew)
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
                .send()
                .await;
            match output {
                Ok(output) => match output.attributes.as_ref().and_then(|item| item.get("version")) {
                    Some(AttributeValue::N(version)) => version
                        .parse()
                        .map(Written::Version)
                        .map_err(|_| self.malformed(id, "expected version to be an integer")),
                    _ => Err(self.unavailable("the answer to an update has no version".to_owned())),
                },
                Err(SdkError::ServiceError(error)) => match error.err() {
                    UpdateItemError::ConditionalCheckFailedException(failed) => {
                        let found = failed.item().filter(|item| item.get("write") == Some(&text(&write)));
                        let version = found.map(|item| self.record(id, item)).transpose()?;
                        Ok(version.map_or(Written::Conflict, |record| Written::Version(record.version)))
                    }
                    _ => Err(self.unavailable(crate::aws::describe(&SdkError::ServiceError(error)))),
                },
                Err(error) => Err(self.unavailable(crate::aws::describe(&error))),
            }
        })
    }

    fn delete<'a>(&'a self, id: &'a str, version: u64) -> BoxFuture<'a, Result<Written, StoreError>> {
        Box::pin(async move {
            let delete = self
                .client()
                .delete_item()
                .table_name(&self.table)
                .key("id", text(id))
                .expression_attribute_names("#v", "version");
            let delete = match version {
                0 => delete
                    .expression_attribute_names("#r", "record")
                    .condition_expression("attribute_exists(#r) AND attribute_not_exists(#v)"),
                version => delete.condition_expression("#v = :v").expression_attribute_values(":v", number(version)),
            };
            match delete.send().await {
                Ok(_) => Ok(Written::Version(version)),
                Err(SdkError::ServiceError(error)) if error.err().is_conditional_check_failed_exception() => {
                    Ok(Written::Conflict)
                }
                Err(error) => Err(self.unavailable(crate::aws::describe(&error))),
            }
        })
    }

    fn page<'a>(&'a self, after: Option<&'a str>, limit: usize) -> BoxFuture<'a, Result<Page, StoreError>> {
        Box::pin(async move {
            let limit = i32::try_from(limit.max(1)).unwrap_or(i32::MAX);
            let mut scan = self.client().scan().table_name(&self.table).consistent_read(true).limit(limit);
            if let Some(after) = after {
                scan = scan.exclusive_start_key("id", text(after));
            }
            let output = scan.send().await.map_err(|error| self.unavailable(crate::aws::describe(&error)))?;
            let mut records = Vec::new();
            for item in output.items() {
                let Some(AttributeValue::S(id)) = item.get("id") else {
                    return Err(self.malformed("(in a page)", "expected a string attribute named id"));
                };
                records.push((id.clone(), self.record(id, item)?));
            }
            let next = output.last_evaluated_key().and_then(|key| key.get("id")).and_then(|id| id.as_s().ok());
            Ok(Page { records, next: next.cloned() })
        })
    }
}
