//! What moto keeps for the programs: secrets, tables, and the variables that name them.

use aws_sdk_dynamodb::types::{AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType};
use identity::Secret;
use platform::aws::{AwsConfig, Credentials};

use crate::moto::Moto;

/// The Region of everything.
pub const REGION: &str = "eu-central-1";

/// The issuer's tables.
pub const TABLES: [&str; 4] = ["clients", "api-keys", "state", "revocations"];

/// How our programs reach moto.
pub fn aws(moto: &Moto) -> AwsConfig {
    AwsConfig {
        region: REGION.to_owned(),
        credentials: Credentials {
            access_key_id: "AKIDLOCAL".to_owned(),
            secret_access_key: Secret::new("local-secret".to_owned()),
            session_token: None,
        }
        .into(),
        dynamodb_endpoint: Some(moto.url()),
        secretsmanager_endpoint: Some(moto.url()),
    }
}

/// Makes a secret.
pub async fn create_secret(moto: &Moto, id: &str, secret: &Secret<String>) -> Result<(), String> {
    use aws_sdk_secretsmanager::config::{BehaviorVersion, Credentials, Region};
    let config = aws_sdk_secretsmanager::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .credentials_provider(Credentials::new("AKIDLOCAL", "local-secret", None, None, "test"))
        .endpoint_url(moto.url())
        .build();
    let client = aws_sdk_secretsmanager::Client::from_conf(config);
    let made = client.create_secret().name(id).secret_string(secret.expose()).send().await;
    made.map(|_| ()).map_err(|error| format!("cannot create the secret {id}: {error:?}"))
}

/// Makes a table as the programs expect it: the string `id` is its key.
pub async fn create_table(moto: &Moto, name: &str) -> Result<(), String> {
    use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .credentials_provider(Credentials::new("AKIDLOCAL", "local-secret", None, None, "test"))
        .endpoint_url(moto.url())
        .build();
    let client = aws_sdk_dynamodb::Client::from_conf(config);
    let attribute = AttributeDefinition::builder().attribute_name("id").attribute_type(ScalarAttributeType::S).build();
    let key = KeySchemaElement::builder().attribute_name("id").key_type(KeyType::Hash).build();
    let made = client
        .create_table()
        .table_name(name)
        .attribute_definitions(attribute.map_err(|error| error.to_string())?)
        .key_schema(key.map_err(|error| error.to_string())?)
        .billing_mode(BillingMode::PayPerRequest)
        .send()
        .await;
    made.map(|_| ()).map_err(|error| format!("cannot create the table {name}: {error:?}"))
}

/// The variables that name [`TABLES`], and what the API keys among them need.
pub fn issuer_tables() -> Vec<(String, String)> {
    texts([
        ("CAUSEWAY_CLIENTS_TABLE", "clients"),
        ("CAUSEWAY_API_KEYS_TABLE", "api-keys"),
        ("CAUSEWAY_PEPPER_SECRET", "pepper"),
        ("CAUSEWAY_ENVIRONMENT", "dev"),
        ("CAUSEWAY_STATE_TABLE", "state"),
        ("CAUSEWAY_REVOCATIONS_TABLE", "revocations"),
    ])
}

/// Pairs of a name and a value, as environments have them.
pub fn texts<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}
