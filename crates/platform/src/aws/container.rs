//! The endpoint that gives a container its role's credentials: ECS, and EKS Pod Identity.
//!
//! <https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>

use std::net::IpAddr;
use std::path::PathBuf;

use identity::secret::Secret;
use serde::Deserialize;

use super::fetched::{Held, token_file};
use crate::env::{EnvError, Reader};
use crate::https::{Client, Header};

const RELATIVE: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const FULL: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
const TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";

/// Where ECS answers.
const ECS: &str = "http://169.254.170.2";

/// The hosts that may be asked in the clear: this one, ECS, and EKS' agent. A credential goes to nobody else
/// unprotected.
const PLAIN: [&str; 3] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];

/// A container's endpoint.
#[derive(Clone, Debug)]
pub(super) struct Container {
    url: reqwest::Url,
    token: Token,
}

#[derive(Clone, Debug)]
enum Token {
    None,
    Fixed(Secret<String>),
    File(PathBuf),
}

impl Container {
    /// Reads the variables; `None` when there is no endpoint.
    pub(super) fn from_env(env: &Reader<'_>) -> Result<Option<Self>, EnvError> {
        let relative = env.checked(RELATIVE, |path| url(&format!("{ECS}{path}"), path.starts_with('/')))?;
        let full = env.checked(FULL, |text| url(text, true))?;
        let (fixed, file) = (env.secret(TOKEN)?, env.optional(TOKEN_FILE)?);
        // "The SDK uses the relative URI, if both are there." The file is looked at before the token.
        let Some(url) = relative.or(full) else { return Ok(None) };
        let token = match (file, fixed) {
            (Some(path), _) => Token::File(path.into()),
            (None, Some(token)) if token.expose().bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') => {
                Token::Fixed(token)
            }
            (None, Some(_)) => {
                let why = "expected the value of a header".to_owned();
                return Err(EnvError::Invalid { name: TOKEN.to_owned(), value: "***".to_owned(), why });
            }
            (None, None) => Token::None,
        };
        Ok(Some(Self { url, token }))
    }

    /// Asks for credentials.
    pub(super) async fn ask(&self, client: &Client) -> Result<Held, String> {
        let token = match &self.token {
            Token::None => None,
            Token::Fixed(token) => Some(token.clone()),
            Token::File(path) => Some(token_file(TOKEN_FILE, path).await?),
        };
        let headers: Vec<Header> = token.into_iter().map(|token| ("authorization".to_owned(), token)).collect();
        let answer =
            client.exchange("GET", &self.url, &headers, Vec::new()).await.map_err(|error| error.to_string())?;
        if answer.status != 200 {
            return Err(format!("the container's endpoint answered with status {}", answer.status));
        }
        // Not what serde says: it quotes the answer.
        let given: Given = serde_json::from_slice(&answer.body)
            .map_err(|_| "the answer of the container's endpoint cannot be read".to_owned())?;
        Held::new(given.access_key_id, given.secret_access_key, given.token, &given.expiration)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Given {
    access_key_id: String,
    secret_access_key: String,
    token: String,
    expiration: String,
}

fn url(text: &str, begins_well: bool) -> Result<reqwest::Url, String> {
    let rule = "expected a path that begins with /, or an absolute https URL; http is for this host, 169.254.170.2, \
                169.254.170.23 and fd00:ec2::23 alone";
    let url = reqwest::Url::parse(text).ok().filter(|_| begins_well).ok_or(rule)?;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let plain = host == "localhost"
        || PLAIN.contains(&host)
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    let has_user = !url.username().is_empty() || url.password().is_some();
    match url.scheme() {
        "https" if !has_user && !host.is_empty() => Ok(url),
        "http" if plain && !has_user => Ok(url),
        _ => Err(rule.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::env::MapEnv;

    fn read(pairs: &[(&str, &str)]) -> Result<Option<Container>, String> {
        let env = pairs.iter().fold(MapEnv::default(), |env, (name, value)| env.with(name, *value));
        Container::from_env(&Reader::new(&env)).map_err(|error| error.to_string())
    }

    #[test]
    fn hosts_that_may_be_asked() {
        for (name, value, expected) in [
            (RELATIVE, "/v2/credentials/1", Some("http://169.254.170.2/v2/credentials/1")),
            (RELATIVE, "@evil.example/", None),
            (RELATIVE, ".evil.example/", None),
            (FULL, "http://169.254.170.23/v1/credentials", Some("http://169.254.170.23/v1/credentials")),
            (FULL, "http://[fd00:ec2::23]/v1/credentials", Some("http://[fd00:ec2::23]/v1/credentials")),
            (
                FULL,
                "http://127.0.0.1:9001/2018-06-01/credentials",
                Some("http://127.0.0.1:9001/2018-06-01/credentials"),
            ),
            (FULL, "http://localhost:9001/c", Some("http://localhost:9001/c")),
            (FULL, "http://[::1]/c", Some("http://[::1]/c")),
            (FULL, "https://credentials.example/c", Some("https://credentials.example/c")),
            (FULL, "http://169.254.169.254/latest", None),
            (FULL, "http://10.0.0.1/c", None),
            (FULL, "http://credentials.example/c", None),
            (FULL, "http://127.0.0.1.evil.example/c", None),
            (FULL, "https://user:password@credentials.example/c", None),
            (FULL, "file:///etc/passwd", None),
            (FULL, "/v2", None),
        ] {
            let found = read(&[(name, value)]);
            match expected {
                Some(url) => assert_eq!(found.unwrap().unwrap().url.as_str(), url),
                None => assert!(found.unwrap_err().contains(name), "{value}"),
            }
        }
        assert!(read(&[(TOKEN, "t")]).unwrap().is_none());
        let both = read(&[(RELATIVE, "/r"), (FULL, "http://127.0.0.1/f")]).unwrap().unwrap();
        assert_eq!(both.url.as_str(), "http://169.254.170.2/r");
    }

    #[test]
    fn a_token_is_not_shown() {
        let full = (FULL, "http://127.0.0.1/f");
        let container = read(&[full, (TOKEN, "hunter2")]).unwrap().unwrap();
        assert!(matches!(container.token, Token::Fixed(_)) && !format!("{container:?}").contains("hunter2"));
        let error = read(&[full, (TOKEN, "hunter2\r\nx: y")]).unwrap_err();
        assert!(error.contains(TOKEN) && !error.contains("hunter2"), "{error}");
        let file = read(&[full, (TOKEN, "hunter2"), (TOKEN_FILE, "/token")]).unwrap().unwrap();
        assert!(matches!(file.token, Token::File(_)));
    }
}
