//! The issuer's administration over HTTP, with a token, as a client, or as an IAM role.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::Args;
use identity::Secret;
use platform::aws::AwsConfig;
use platform::env::{Env, ProcessEnv, Reader};
use platform::https::{Client, checked_url};
use platform::sigv4;
use serde_json::Value;

use crate::dev::basic_credentials;
use crate::terminal::{self, Progress};

const TIMEOUT: Duration = Duration::from_secs(30);
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;
const MAX_SECRET_BYTES: u64 = 16 * 1024;

/// Where the issuer is and who asks.
#[derive(Args, Debug)]
pub(crate) struct Issuer {
    /// The issuer's public address, such as https://issuer.example; CAUSEWAY_ISSUER_URL if it is not given
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// A file with an access token; without it and the two below, the token of CAUSEWAY_TOKEN
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The client to get a token as
    #[arg(long, value_name = "ID", requires = "client_secret_file", conflicts_with = "token_file")]
    client_id: Option<String>,
    /// A file with that client's secret
    #[arg(long, value_name = "FILE", requires = "client_id")]
    client_secret_file: Option<PathBuf>,
    /// The scope of that token
    #[arg(long, value_name = "SCOPE", requires = "client_id")]
    token_scope: Option<String>,
    /// The audience of that token
    #[arg(long, value_name = "AUDIENCE", requires = "client_id")]
    token_audience: Option<String>,
    /// The issuer's IAM door instead, asked with the AWS credentials of the environment
    #[arg(long, value_name = "URL", conflicts_with_all = ["issuer", "token_file", "client_id"])]
    iam: Option<String>,
}

/// A way to ask.
pub(crate) struct Session {
    http: Client,
    base: String,
    proof: Proof,
}

enum Proof {
    Token(Secret<String>),
    Iam(Box<AwsConfig>),
}

impl Issuer {
    /// Gets ready to ask.
    ///
    /// # Errors
    /// One line about what is missing or does not answer.
    pub(crate) async fn session(&self) -> Result<Session, String> {
        let http = Client::new(TIMEOUT, MAX_ANSWER_BYTES).map_err(|error| error.to_string())?;
        if let Some(url) = &self.iam {
            let aws = AwsConfig::from_env(&Reader::new(&ProcessEnv)).map_err(|error| error.to_string())?;
            return Ok(Session { http, base: base(url)?, proof: Proof::Iam(Box::new(aws)) });
        }
        let url = match &self.issuer {
            Some(url) => url.clone(),
            None => variable("CAUSEWAY_ISSUER_URL")?.ok_or("no issuer; give --issuer or set CAUSEWAY_ISSUER_URL")?,
        };
        let base = base(&url)?;
        let token = match (&self.token_file, &self.client_id, &self.client_secret_file) {
            (Some(file), _, _) => secret(file)?,
            (None, Some(id), Some(file)) => self.token(&http, &base, id, &secret(file)?).await?,
            _ => Secret::new(variable("CAUSEWAY_TOKEN")?.ok_or(
                "no credentials; give --token-file, or --client-id and --client-secret-file, or set CAUSEWAY_TOKEN",
            )?),
        };
        Ok(Session { http, base, proof: Proof::Token(token) })
    }

    async fn token(
        &self,
        http: &Client,
        base: &str,
        id: &str,
        secret: &Secret<String>,
    ) -> Result<Secret<String>, String> {
        let encode =
            |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        let mut form = "grant_type=client_credentials".to_owned();
        for (name, value) in [("scope", &self.token_scope), ("audience", &self.token_audience)] {
            if let Some(value) = value {
                form.push_str(&format!("&{name}={}", encode(value)));
            }
        }
        let url = checked_url(&format!("{base}/oauth2/token")).map_err(|error| error.to_string())?;
        let headers = [
            ("authorization".to_owned(), Secret::new(basic_credentials(id, secret.expose()))),
            ("content-type".to_owned(), Secret::new("application/x-www-form-urlencoded".to_owned())),
        ];
        let _progress = Progress::of("asking the issuer for a token");
        let exchange = http.exchange("POST", &url, &headers, form.into_bytes()).await;
        let exchange = exchange.map_err(|error| error.to_string())?;
        let body: Value = serde_json::from_slice(&exchange.body).unwrap_or_default();
        match body.get("access_token").and_then(Value::as_str) {
            Some(token) => Ok(Secret::new(token.to_owned())),
            None => Err(format!("no token: {}", refusal(exchange.status, &body))),
        }
    }
}

impl Session {
    /// The answer to a request, if it is a good one.
    ///
    /// # Errors
    /// What the issuer says, in one line.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let text = format!("{}{path}", self.base);
        let url = checked_url(&text).map_err(|error| error.to_string())?;
        let bytes = body.map(Value::to_string).unwrap_or_default().into_bytes();
        let mut headers = Vec::new();
        if body.is_some() {
            headers.push(("content-type".to_owned(), "application/json".to_owned()));
        }
        let mut secret_headers: Vec<(String, Secret<String>)> = Vec::new();
        match &self.proof {
            Proof::Token(token) => {
                secret_headers.push(("authorization".to_owned(), Secret::new(format!("Bearer {}", token.expose()))));
            }
            Proof::Iam(aws) => {
                let host = url.host_str().unwrap_or_default();
                let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
                let mut signed = headers.clone();
                signed.push(("host".to_owned(), host));
                let request = sigv4::Request { method, url: url.as_str(), headers: &signed, body: &bytes };
                let credentials = aws.credentials.get().await.map_err(|error| error.to_string())?;
                let added = sigv4::sign(request, &credentials, &aws.region, "lambda", SystemTime::now());
                let added = added.map_err(|error| error.to_string())?;
                secret_headers.extend(added.into_iter().map(|(name, value)| (name, Secret::new(value))));
            }
        }
        secret_headers.extend(headers.into_iter().map(|(name, value)| (name, Secret::new(value))));
        let _progress = Progress::of("asking the issuer");
        let exchange = self.http.exchange(method, &url, &secret_headers, bytes).await.map_err(|e| e.to_string())?;
        let answer: Value = serde_json::from_slice(&exchange.body).unwrap_or_default();
        match exchange.status {
            200..=299 => Ok(answer),
            status => Err(refusal(status, &answer)),
        }
    }

    /// All entries of a list, page by page.
    ///
    /// # Errors
    /// What the issuer says, in one line.
    pub(crate) async fn list(&self, path: &str, query: &str, name: &str) -> Result<Vec<Value>, String> {
        let mut entries = Vec::new();
        let mut after = String::new();
        loop {
            let mut page = self.ask("GET", &format!("{path}?limit=100{query}{after}"), None).await?;
            if let Some(Value::Array(found)) = page.get_mut(name).map(Value::take) {
                entries.extend(found);
            }
            match page.get("next").and_then(Value::as_str) {
                Some(next) => after = format!("&after={}", encoded(next)),
                None => return Ok(entries),
            }
        }
    }
}

/// A part of a path or a query.
pub(crate) fn encoded(text: &str) -> String {
    const UNRESERVED: &percent_encoding::AsciiSet =
        &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    percent_encoding::utf8_percent_encode(text, UNRESERVED).to_string()
}

/// A member as text for people; what is no plain text, is shown as JSON.
pub(crate) fn shown(entry: &Value, name: &str) -> String {
    match entry.get(name) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.chars().map(|c| if c.is_control() { '?' } else { c }).collect(),
        Some(other) => other.to_string(),
    }
}

/// Prints what a person asked for: the whole answer, or the secret in it alone, for it is shown this once.
pub(crate) fn print_secret(answer: &Value, name: &str, json: bool, note: &str) {
    if json {
        terminal::line(&answer.to_string());
        return;
    }
    terminal::note(note);
    if let Some(secret) = answer.get(name).and_then(Value::as_str) {
        terminal::line(secret);
    }
}

fn refusal(status: u16, body: &Value) -> String {
    match (shown(body, "error").as_str(), shown(body, "error_description").as_str()) {
        ("-", _) => format!("the issuer answered {status}"),
        (error, "-") => format!("the issuer answered {status}: {error}"),
        (error, description) => format!("the issuer answered {status} {error}: {description}"),
    }
}

fn base(url: &str) -> Result<String, String> {
    checked_url(url).map_err(|error| error.to_string())?;
    Ok(url.trim_end_matches('/').to_owned())
}

fn variable(name: &str) -> Result<Option<String>, String> {
    ProcessEnv.get(name).map_err(|error| error.to_string()).map(|value| value.filter(|value| !value.is_empty()))
}

fn secret(file: &Path) -> Result<Secret<String>, String> {
    use std::io::Read;
    let wrong = |why: &dyn std::fmt::Display| format!("cannot read {}: {why}", file.display());
    let mut text = String::new();
    let opened = crate::files::open(file)?;
    opened.take(MAX_SECRET_BYTES + 1).read_to_string(&mut text).map_err(|error| wrong(&error))?;
    if text.len() as u64 > MAX_SECRET_BYTES {
        return Err(wrong(&"it is too long for a secret"));
    }
    match text.trim() {
        "" => Err(wrong(&"it is empty")),
        secret => Ok(Secret::new(secret.to_owned())),
    }
}
