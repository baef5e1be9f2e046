//! `causeway clients`: OAuth clients at an issuer.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::issuer::{Issuer, encoded, print_secret, shown};
use crate::terminal;

pub(crate) const EXAMPLES: &str = "Examples with an issuer:
  export CAUSEWAY_ISSUER_URL=https://issuer.example CAUSEWAY_TOKEN=…
  causeway clients create partner --scope orders.read --audience orders
  causeway clients create batch --body client.json
  causeway clients list
  causeway clients set partner --body change.json
  causeway clients add-secret partner
  causeway clients delete partner

A new secret goes to standard output, once, and nowhere else. What a body may hold is in docs/issuer.md.

Exit status: 0 done; 1 the issuer refused or did not answer; 2 wrong usage.";

const CREATE: &str = "Examples with an issuer:
  causeway clients create partner --scope orders.read --audience orders
  causeway clients create batch --body client.json --json";

const LIST: &str = "Examples with an issuer:
  causeway clients list
  causeway clients list --json";

const SHOW: &str = "Examples with an issuer:
  causeway clients show partner";

const SET: &str = "Examples with an issuer:
  causeway clients set partner --body change.json";

const ADD_SECRET: &str = "Examples with an issuer:
  causeway clients add-secret partner
  causeway clients add-secret partner --revoke-others --json";

const DELETE: &str = "Examples with an issuer:
  causeway clients delete partner";

/// The largest body that the issuer takes, in bytes.
const MAX_BODY_BYTES: u64 = 64 * 1024;

/// The options of `causeway clients`.
#[derive(Args, Debug)]
pub(crate) struct Clients {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a client, and print its secret once, if it has one
    #[command(after_help = CREATE)]
    Create(Create),
    /// List clients, without their secrets
    #[command(after_help = LIST)]
    List(List),
    /// Show one client, as JSON
    #[command(after_help = SHOW)]
    Show(One),
    /// Change a client, and show it as JSON
    #[command(after_help = SET)]
    Set(Set),
    /// Give a client a second secret, and print it once; of two, the older one goes
    #[command(after_help = ADD_SECRET)]
    AddSecret(AddSecret),
    /// Delete a client, and revoke its API keys and tokens
    #[command(after_help = DELETE)]
    Delete(One),
}

#[derive(Args, Debug)]
struct Create {
    #[command(flatten)]
    issuer: Issuer,
    /// The client's id; the issuer makes one if it is not given
    id: Option<String>,
    /// A scope that it may have; may be given several times
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// An audience that it may ask for; may be given several times, and the first is the default
    #[arg(long = "audience", value_name = "AUDIENCE")]
    audiences: Vec<String>,
    /// A file with everything else, a JSON object
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// Print the whole answer as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct List {
    #[command(flatten)]
    issuer: Issuer,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct One {
    #[command(flatten)]
    issuer: Issuer,
    /// The client's id
    id: String,
    /// Print one JSON object, as `show` and `set` always do
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct Set {
    #[command(flatten)]
    one: One,
    /// A file with the members to change, a JSON object
    #[arg(long, value_name = "FILE")]
    body: PathBuf,
}

#[derive(Args, Debug)]
struct AddSecret {
    #[command(flatten)]
    one: One,
    /// End all other secrets at once
    #[arg(long)]
    revoke_others: bool,
}

/// Runs `causeway clients`.
pub(crate) fn run(command: Clients) -> ExitCode {
    crate::asynchronously(async {
        let outcome = match command.command {
            Command::Create(command) => create(command).await,
            Command::List(command) => list(command).await,
            Command::Show(One { issuer, id, .. }) => ask(&issuer, "GET", &id, None).await,
            Command::Set(Set { one, body }) => match object(&body) {
                Ok(body) => ask(&one.issuer, "PATCH", &one.id, Some(&body)).await,
                Err(why) => Err(why),
            },
            Command::AddSecret(command) => add_secret(command).await,
            Command::Delete(command) => delete(&command).await,
        };
        outcome.map_or_else(|why| terminal::failed(&why), |()| ExitCode::SUCCESS)
    })
}

async fn create(command: Create) -> Result<(), String> {
    let mut body = command.body.as_deref().map_or_else(|| Ok(json!({})), object)?;
    if let Some(id) = command.id {
        body["client_id"] = json!(id);
    }
    for (name, list) in [("scopes", command.scopes), ("audiences", command.audiences)] {
        if !list.is_empty() {
            body[name] = json!(list);
        }
    }
    let answer = command.issuer.session().await?.ask("POST", "/v1/clients", Some(&body)).await?;
    let note = match answer.get("client_secret") {
        Some(_) => format!("made the client {}; its secret is shown this once", shown(&answer, "client_id")),
        None => format!("made the client {}", shown(&answer, "client_id")),
    };
    print_secret(&answer, "client_secret", command.json, &note);
    Ok(())
}

async fn list(command: List) -> Result<(), String> {
    for client in command.issuer.session().await?.list("/v1/clients", "", "clients").await? {
        if command.json {
            terminal::line(&client.to_string());
        } else {
            let columns = ["client_id", "state", "authentication", "scopes", "audiences"];
            terminal::line(&columns.map(|name| shown(&client, name)).join("  "));
        }
    }
    Ok(())
}

async fn add_secret(command: AddSecret) -> Result<(), String> {
    let One { issuer, id, json: whole } = command.one;
    let path = format!("/v1/clients/{}/secrets", encoded(&id));
    let body = json!({"revoke_others": command.revoke_others});
    let answer = issuer.session().await?.ask("POST", &path, Some(&body)).await?;
    let note = format!("the client {id} has {} secrets; the new one is shown this once", shown(&answer, "secrets"));
    print_secret(&answer, "client_secret", whole, &note);
    Ok(())
}

async fn delete(One { issuer, id, json: whole }: &One) -> Result<(), String> {
    issuer.session().await?.ask("DELETE", &format!("/v1/clients/{}", encoded(id)), None).await?;
    if *whole {
        terminal::line(&json!({"client_id": id, "deleted": true}).to_string());
    }
    terminal::note(&format!("deleted the client {id}, and revoked its API keys and tokens"));
    Ok(())
}

async fn ask(issuer: &Issuer, method: &str, id: &str, body: Option<&Value>) -> Result<(), String> {
    let answer = issuer.session().await?.ask(method, &format!("/v1/clients/{}", encoded(id)), body).await?;
    terminal::line(&answer.to_string());
    Ok(())
}

fn object(file: &std::path::Path) -> Result<Value, String> {
    use std::io::Read;
    let wrong = |why: &dyn std::fmt::Display| format!("cannot read {}: {why}", file.display());
    let mut text = Vec::new();
    let opened = crate::files::open(file)?;
    opened.take(MAX_BODY_BYTES + 1).read_to_end(&mut text).map_err(|error| wrong(&error))?;
    if text.len() as u64 > MAX_BODY_BYTES {
        return Err(wrong(&"it has more than 65536 bytes"));
    }
    match serde_json::from_slice(&text) {
        Ok(body @ Value::Object(_)) => Ok(body),
        Ok(_) => Err(wrong(&"it is not a JSON object")),
        Err(error) => Err(wrong(&format!("it is not JSON (line {} column {})", error.line(), error.column()))),
    }
}
