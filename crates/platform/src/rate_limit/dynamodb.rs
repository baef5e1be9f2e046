//! The buckets in a DynamoDB table: one `UpdateItem` with a condition takes tokens.
//!
//! A record has the string `id`, the number `full_at` (nanoseconds since 1970), the number `expires` (seconds since 1970,
//! the table's TTL attribute) and, where an operator has given the client a limit of its own, the string `rate_limit`.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::table::{Bucket, Change, RateTable, RateTableError, Update, Updated};
use crate::BoxFuture;
use crate::aws::AwsConfig;
use crate::aws_json::{AwsJson, CallError, DYNAMODB};
use crate::clock::SystemClock;

/// What DynamoDB says when a key, or the table, is written too often.
const THROTTLED: [&str; 2] = ["ProvisionedThroughputExceededException", "ThrottlingException"];

/// A DynamoDB table whose partition key is the string `id`.
#[derive(Clone)]
pub struct DynamoDbTable {
    table: String,
    aws: Arc<AwsJson>,
}

/// An item's attributes, as far as they are ours.
#[derive(Default, Deserialize)]
struct Item {
    full_at: Option<Attribute>,
    rate_limit: Option<Attribute>,
}

/// Of another type, an attribute has another member.
#[derive(Deserialize)]
struct Attribute {
    #[serde(rename = "N")]
    number: Option<String>,
    #[serde(rename = "S")]
    text: Option<String>,
}

#[derive(Deserialize)]
struct UpdateItem {
    #[serde(rename = "Attributes")]
    attributes: Option<Item>,
}

impl DynamoDbTable {
    /// The table `table` in the account and Region of `aws`. Connects to nobody yet.
    pub fn new(table: impl Into<String>, aws: AwsConfig) -> Self {
        Self { table: table.into(), aws: Arc::new(AwsJson::new(aws, Arc::new(SystemClock))) }
    }

    async fn change(&self, update: &Update<'_>) -> Result<Updated, RateTableError> {
        let Expressions { set, condition, values } = expressions(update);
        let input = json!({
            "TableName": self.table,
            "Key": {"id": {"S": update.id}},
            "UpdateExpression": set,
            "ConditionExpression": condition,
            "ExpressionAttributeValues": values,
            "ReturnValues": "UPDATED_NEW",
            // Why it did not happen, without another request.
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        });
        match self.aws.call(DYNAMODB, "UpdateItem", &input).await {
            Ok(answer) => {
                // Not what serde says: it quotes the answer.
                let output: UpdateItem = serde_json::from_slice(answer.expose())
                    .map_err(|_| self.of_table("the answer cannot be read".to_owned()))?;
                let bucket = self.bucket(update.id, output.attributes.unwrap_or_default())?;
                let missing = || self.of_record(update.id, "an answer without full_at");
                bucket.full_at.map(|full_at| Updated::Done { full_at }).ok_or_else(missing)
            }
            Err(CallError::Condition { item }) => {
                let unreadable = |_| self.of_record(update.id, "the record cannot be read");
                let item = item.map(serde_json::from_value).transpose().map_err(unreadable)?;
                Ok(Updated::Refused(self.bucket(update.id, item.unwrap_or_default())?))
            }
            // A key takes 1,000 writes a second. Who asks that much is no reason to give up on the others.
            Err(error @ CallError::Refused { .. }) if is_throttled(&error) => {
                Err(self.of_record(update.id, &error.to_string()))
            }
            Err(error) => Err(self.of_table(error.to_string())),
        }
    }

    /// What an item says; there may be none.
    fn bucket(&self, id: &str, item: Item) -> Result<Bucket, RateTableError> {
        let full_at = match item.full_at {
            None => None,
            Some(Attribute { number: Some(number), .. }) => match number.parse() {
                Ok(full_at) => Some(full_at),
                Err(_) => return Err(self.of_record(id, "expected full_at to be nanoseconds since 1970")),
            },
            Some(_) => return Err(self.of_record(id, "expected full_at to be a number")),
        };
        let own_limit = match item.rate_limit {
            None => None,
            Some(Attribute { text: Some(limit), .. }) => Some(limit),
            Some(_) => return Err(self.of_record(id, "expected rate_limit to be a string")),
        };
        Ok(Bucket { full_at, own_limit })
    }

    fn of_record(&self, id: &str, why: &str) -> RateTableError {
        RateTableError::Record { table: self.table.clone(), id: id.to_owned(), why: why.to_owned() }
    }

    fn of_table(&self, why: String) -> RateTableError {
        RateTableError::Table { table: self.table.clone(), why }
    }
}

fn is_throttled(error: &CallError) -> bool {
    matches!(error, CallError::Refused { code, .. } if THROTTLED.contains(&code.as_str()))
}

struct Expressions {
    set: &'static str,
    condition: String,
    values: Map<String, Value>,
}

fn expressions(update: &Update<'_>) -> Expressions {
    let number = |number: u64| json!({"N": number.to_string()});
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
            values.push((":rate_limit", json!({"S": limit})));
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
