//! API keys and their pepper as the fronts read them in AWS: one item of DynamoDB, one secret of Secrets Manager.

use std::sync::Arc;

use authz::ApiKeyRecord;
use identity::Secret;
use serde::Deserialize;
use serde_json::json;

use crate::BoxFuture;
use crate::aws_json::{AwsJson, CallError, DYNAMODB, SECRETS_MANAGER};
use crate::secrets::{SecretError, Secrets};
use crate::store::{ApiKeys, StoreError, parse_record};

/// A service has answered with something else than it should.
const UNREADABLE: &str = "the answer cannot be read";

/// The table of API keys, read only. `store::DynamoDb` says what is in it, and writes it.
pub(crate) struct KeyTable {
    pub(crate) table: String,
    pub(crate) aws: Arc<AwsJson>,
}

#[derive(Deserialize)]
struct GetItem {
    #[serde(rename = "Item")]
    item: Option<Item>,
}

#[derive(Deserialize)]
struct Item {
    record: Option<Attribute>,
}

#[derive(Deserialize)]
struct Attribute {
    /// Of another type, an attribute has another member.
    #[serde(rename = "S")]
    text: Option<String>,
}

impl ApiKeys for KeyTable {
    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<ApiKeyRecord>, StoreError>> {
        Box::pin(async move {
            let unavailable = |why: String| StoreError::Unavailable { store: self.table.clone(), why };
            // A revoked key must not be read from a replica that has not heard of it.
            let input = json!({"TableName": self.table, "Key": {"id": {"S": id}}, "ConsistentRead": true});
            let answer = self.aws.call(DYNAMODB, "GetItem", &input).await;
            let answer = answer.map_err(|error| unavailable(error.to_string()))?;
            // Not what serde says: it quotes the answer.
            let output: GetItem =
                serde_json::from_slice(answer.expose()).map_err(|_| unavailable(UNREADABLE.to_owned()))?;
            let Some(item) = output.item else { return Ok(None) };
            parse_record(&self.table, id, item.record.and_then(|record| record.text).as_deref()).map(Some)
        })
    }
}

/// The secrets of the account, read only.
pub(crate) struct KeySecrets {
    pub(crate) aws: Arc<AwsJson>,
}

#[derive(Deserialize)]
struct GetSecretValue {
    #[serde(rename = "SecretString")]
    text: Option<String>,
}

impl Secrets for KeySecrets {
    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Secret<String>, SecretError>> {
        Box::pin(async move {
            let unavailable = |why: String| SecretError::Unavailable { id: id.to_owned(), why };
            let missing = || SecretError::NotFound(id.to_owned());
            let answer = self.aws.call(SECRETS_MANAGER, "GetSecretValue", &json!({"SecretId": id})).await;
            let answer = answer.map_err(|error| match error {
                CallError::Refused { code, .. } if code == "ResourceNotFoundException" => missing(),
                error => unavailable(error.to_string()),
            })?;
            let output: GetSecretValue =
                serde_json::from_slice(answer.expose()).map_err(|_| unavailable(UNREADABLE.to_owned()))?;
            output.text.map(Secret::new).ok_or_else(missing)
        })
    }
}
