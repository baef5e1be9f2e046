//! `causeway keys`: API keys at an issuer, and where its signing keys stand.

use std::io::Read as _;
use std::process::ExitCode;

use authz::ApiKey;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::issuer::{Issuer, encoded, print_secret, shown};
use crate::terminal;

pub(crate) const EXAMPLES: &str = "Examples:
  echo cwk_dev_exampleREADM000000000000000000000000000000004PYycp | causeway keys check

Examples with an issuer:
  export CAUSEWAY_ISSUER_URL=https://issuer.example CAUSEWAY_TOKEN=…
  causeway keys create --environment prod --client partner --scope orders.read --audience orders
  causeway keys list --client partner
  causeway keys rotate ID --overlap-seconds 86400
  causeway keys revoke ID
  causeway keys status

A new value goes to standard output, once, and nowhere else; what is said about it goes to standard error. `check` asks
nobody: it says whether a text has the form and the checksum of a key.

Exit status: 0 done; 1 the issuer refused or did not answer, or the text is no key; 2 wrong usage.";

const CREATE: &str = "Examples with an issuer:
  causeway keys create --environment prod --client partner --scope orders.read --audience orders
  KEY=$(causeway keys create --environment dev --client partner --expires-at 1795176000)";

const LIST: &str = "Examples with an issuer:
  causeway keys list
  causeway keys list --client partner --json";

const ROTATE: &str = "Examples with an issuer:
  causeway keys rotate ID --overlap-seconds 86400
  causeway keys rotate ID --overlap-seconds 0    # the old value ends at once";

const REVOKE: &str = "Examples with an issuer:
  causeway keys revoke ID
  causeway keys revoke ID --iam https://abc.lambda-url.eu-central-1.on.aws";

const CHECK: &str = "Examples:
  echo cwk_dev_exampleREADM000000000000000000000000000000004PYycp | causeway keys check
  echo cwk_dev_mistyped | causeway keys check --json    # exit 1

Exit status: 0 the text has the form and the checksum of a key; 1 it has not; 2 wrong usage.";

const STATUS: &str = "Examples with an issuer:
  causeway keys status
  causeway keys status --issuer https://issuer.example --token-file token.txt --json";

/// The options of `causeway keys`.
#[derive(Args, Debug)]
pub(crate) struct Keys {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an API key, and print its value once
    #[command(after_help = CREATE)]
    Create(Create),
    /// List API keys, without their values
    #[command(after_help = LIST)]
    List(List),
    /// Give an API key a new value, and print it once; the old one ends after the overlap
    #[command(after_help = ROTATE)]
    Rotate(Rotate),
    /// Revoke an API key for good
    #[command(after_help = REVOKE)]
    Revoke(One),
    /// Say whether a text has the form and the checksum of an API key; asks nobody
    #[command(after_help = CHECK)]
    Check(Check),
    /// Show where the rotation of the signing keys stands
    #[command(after_help = STATUS)]
    Status(Status),
}

#[derive(Args, Debug)]
struct Create {
    #[command(flatten)]
    issuer: Issuer,
    /// The environment that the key opens
    #[arg(long)]
    environment: String,
    /// The OAuth client that the key belongs to
    #[arg(long, value_name = "ID")]
    client: String,
    /// A scope of the client; may be given several times
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// An audience of the client; may be given several times
    #[arg(long = "audience", value_name = "AUDIENCE")]
    audiences: Vec<String>,
    /// What people call it
    #[arg(long)]
    name: Option<String>,
    /// When it ends, in seconds since 1970
    #[arg(long, value_name = "UNIX")]
    expires_at: Option<u64>,
    /// The usage plan of API Gateway that counts its requests
    #[arg(long, value_name = "ID")]
    usage_plan: Option<String>,
    /// Print the whole answer as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct List {
    #[command(flatten)]
    issuer: Issuer,
    /// Keys of this client alone
    #[arg(long, value_name = "ID")]
    client: Option<String>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct Rotate {
    #[command(flatten)]
    one: One,
    /// How long the old value is accepted; a day if it is not given
    #[arg(long, value_name = "SECONDS")]
    overlap_seconds: Option<u64>,
}

#[derive(Args, Debug)]
struct One {
    #[command(flatten)]
    issuer: Issuer,
    /// The public id of the key
    id: String,
    /// Print the whole answer as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct Check {
    /// The key; `-`, or nothing, reads it from standard input
    #[arg(value_name = "KEY", default_value = "-", hide_default_value = true)]
    key: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct Status {
    #[command(flatten)]
    issuer: Issuer,
    /// Print the whole answer as one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs `causeway keys`.
pub(crate) fn run(command: Keys) -> ExitCode {
    crate::asynchronously(async {
        let outcome = match command.command {
            Command::Create(command) => create(command).await,
            Command::List(command) => list(command).await,
            Command::Rotate(command) => rotate(command).await,
            Command::Revoke(command) => revoke(command).await,
            Command::Check(command) => check(&command),
            Command::Status(command) => status(command).await,
        };
        outcome.map_or_else(|why| terminal::failed(&why), |()| ExitCode::SUCCESS)
    })
}

async fn create(command: Create) -> Result<(), String> {
    let mut body = Map::new();
    body.insert("environment".to_owned(), json!(command.environment));
    body.insert("client_id".to_owned(), json!(command.client));
    body.insert("scopes".to_owned(), json!(command.scopes));
    body.insert("audiences".to_owned(), json!(command.audiences));
    for (name, value) in [
        ("name", command.name.map(Value::from)),
        ("expires_at", command.expires_at.map(Value::from)),
        ("usage_plan", command.usage_plan.map(Value::from)),
    ] {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    }
    let session = command.issuer.session().await?;
    let answer = session.ask("POST", "/v1/api-keys", Some(&Value::Object(body))).await?;
    print_secret(
        &answer,
        "api_key",
        command.json,
        &format!("made the key {}; its value is shown this once", shown(&answer, "id")),
    );
    Ok(())
}

async fn list(command: List) -> Result<(), String> {
    let query = command.client.as_deref().map(|id| format!("&client_id={}", encoded(id))).unwrap_or_default();
    let keys = command.issuer.session().await?.list("/v1/api-keys", &query, "api_keys").await?;
    for key in &keys {
        if command.json {
            terminal::line(&key.to_string());
        } else {
            let columns = ["id", "state", "environment", "client_id", "expires_at", "name"];
            terminal::line(&columns.map(|name| shown(key, name)).join("  "));
        }
    }
    Ok(())
}

async fn rotate(command: Rotate) -> Result<(), String> {
    let One { issuer, id, json: whole } = command.one;
    let body = command.overlap_seconds.map_or_else(|| json!({}), |seconds| json!({"overlap_seconds": seconds}));
    let path = format!("/v1/api-keys/{}/rotate", encoded(&id));
    let answer = issuer.session().await?.ask("POST", &path, Some(&body)).await?;
    let ends = match shown(&answer, "previous_value_ends_at").as_str() {
        "-" => "the old value has ended".to_owned(),
        at => format!("the old value ends at {at}"),
    };
    print_secret(&answer, "api_key", whole, &format!("{ends}; the new one is shown this once"));
    Ok(())
}

async fn revoke(command: One) -> Result<(), String> {
    let path = format!("/v1/api-keys/{}/revoke", encoded(&command.id));
    let answer = command.issuer.session().await?.ask("POST", &path, None).await?;
    match command.json {
        true => terminal::line(&answer.to_string()),
        false => terminal::note(&format!("revoked the key {}", shown(&answer, "id"))),
    }
    Ok(())
}

/// More than a key has, so that "too long" is said of what is.
const MAX_CHECKED_BYTES: u64 = 4096;

fn check(command: &Check) -> Result<(), String> {
    let mut text = command.key.clone();
    if text == "-" {
        let mut bytes = Vec::new();
        let read = std::io::stdin().lock().take(MAX_CHECKED_BYTES).read_to_end(&mut bytes);
        read.map_err(|error| format!("cannot read the key: {error}"))?;
        text = String::from_utf8_lossy(&bytes).into_owned();
    }
    let key = ApiKey::parse(text.trim()).map_err(|error| error.to_string());
    if command.json {
        let said = match &key {
            Ok(key) => json!({"well_formed": true, "id": key.id(), "environment": key.environment()}),
            Err(why) => json!({"well_formed": false, "error": why}),
        };
        terminal::line(&said.to_string());
    }
    let key = key?;
    if !command.json {
        terminal::line(&format!("well-formed: id {}, environment {}", key.id(), key.environment()));
    }
    Ok(())
}

async fn status(command: Status) -> Result<(), String> {
    let answer = command.issuer.session().await?.ask("GET", "/v1/signing-keys", None).await?;
    let text = match command.json {
        true => answer.to_string(),
        false => key_issuer::signing_keys_text(&answer).ok_or("the issuer's answer says nothing of signing keys")?,
    };
    terminal::line(text.trim_end());
    Ok(())
}
