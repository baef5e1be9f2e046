//! A service account's role on EKS (IRSA): its token is exchanged at STS. That request is not signed, the token is the
//! proof.
//!
//! <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html>

use std::path::PathBuf;

use super::endpoint;
use super::fetched::{Held, token_file};
use crate::env::{EnvError, Reader};
use crate::https::{Client, checked_url};

const ROLE: &str = "AWS_ROLE_ARN";
const TOKEN_FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
const SESSION: &str = "AWS_ROLE_SESSION_NAME";

/// A role and the file with the token that proves it.
#[derive(Clone, Debug)]
pub(super) struct WebIdentity {
    role: String,
    file: PathBuf,
    session: String,
    sts: reqwest::Url,
}

impl WebIdentity {
    /// Reads the variables; `None` when there is no role.
    pub(super) fn from_env(env: &Reader<'_>, region: &str) -> Result<Option<Self>, EnvError> {
        let pair = env.pair(ROLE, TOKEN_FILE);
        let session = env.checked(SESSION, |name| {
            let fits = |b: u8| b.is_ascii_alphanumeric() || b"_=,.@-".contains(&b);
            let is_name = (2..=64).contains(&name.len()) && name.bytes().all(fits);
            // "The regex used to validate this parameter is a string of characters consisting of upper- and lower-case
            // alphanumeric characters with no spaces. You can also include […]: =,.@-"
            if is_name { Ok(name.to_owned()) } else { Err("expected 2 to 64 letters, digits and _=,.@-".to_owned()) }
        });
        let own = env.checked("AWS_ENDPOINT_URL_STS", |url| checked_url(url).map_err(|error| error.to_string()));
        let common = env.checked("AWS_ENDPOINT_URL", |url| checked_url(url).map_err(|error| error.to_string()));
        let Some((role, file)) = pair? else { return Ok(None) };
        let sts = match own?.or(common?) {
            Some(url) => url,
            None => {
                let invalid = |why| EnvError::Invalid { name: "AWS_REGION".to_owned(), value: region.to_owned(), why };
                let text = endpoint("sts", region).map_err(invalid)?;
                checked_url(&text).map_err(|error| invalid(error.to_string()))?
            }
        };
        Ok(Some(Self { role, file: file.into(), session: session?.unwrap_or_else(|| "causeway".to_owned()), sts }))
    }

    /// Asks STS for credentials.
    pub(super) async fn ask(&self, client: &Client) -> Result<Held, String> {
        let token = token_file(TOKEN_FILE, &self.file).await?;
        let mut form = self.sts.clone();
        form.query_pairs_mut()
            .clear()
            .append_pair("Action", "AssumeRoleWithWebIdentity")
            .append_pair("Version", "2011-06-15")
            .append_pair("RoleArn", &self.role)
            .append_pair("RoleSessionName", &self.session)
            .append_pair("WebIdentityToken", token.expose());
        let body = form.query().unwrap_or_default().as_bytes().to_vec();
        let headers = [("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned().into())];
        let answer = client.exchange("POST", &self.sts, &headers, body).await.map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&answer.body);
        if answer.status != 200 {
            // The code is a word of a closed set; the message repeats what was sent.
            let code = member(&text, "Code").filter(|code| code.bytes().all(|b| b.is_ascii_alphanumeric()));
            let code = code.filter(|code| code.len() <= 100).unwrap_or("no code");
            return Err(format!("STS refuses the role {} with status {}: {code}", self.role, answer.status));
        }
        read(&text).unwrap_or_else(|| Err("the answer of STS cannot be read".to_owned()))
    }
}

fn read(text: &str) -> Option<Result<Held, String>> {
    let credentials = member(text, "Credentials")?;
    let of = |name| member(credentials, name).map(str::to_owned);
    let (id, secret, token) = (of("AccessKeyId")?, of("SecretAccessKey")?, of("SessionToken")?);
    Some(Held::new(id, secret, token, &of("Expiration")?))
}

/// What stands between the tags of the only element with this name. Values of STS need no escapes; one that has some is
/// none that we can read.
fn member<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, behind) = text.split_once(&format!("<{name}>"))?;
    let (value, rest) = behind.split_once(&format!("</{name}>"))?;
    let is_only = !rest.contains(&format!("<{name}>"));
    (is_only && !value.contains('&')).then(|| value.trim_ascii())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::env::MapEnv;

    const ANSWER: &str = "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
        <SessionToken>token/+=</SessionToken><SecretAccessKey>secret</SecretAccessKey>\
        <Expiration>2026-11-20T13:00:00Z</Expiration><AccessKeyId>ASIA1</AccessKeyId>\
        </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>";

    #[test]
    fn the_answer_of_sts() {
        let held = read(ANSWER).unwrap().unwrap();
        assert_eq!((held.credentials.access_key_id.as_str(), held.expires_at), ("ASIA1", 1_795_179_600));
        for (from, to) in [
            ("<AccessKeyId>ASIA1</AccessKeyId>", ""),
            ("<AccessKeyId>ASIA1", "<AccessKeyId>"),
            ("2026-11-20T13:00:00Z", "tomorrow"),
            ("secret", "sec&amp;ret"),
            ("secret", "a</SecretAccessKey><SecretAccessKey>b"),
            ("<Credentials>", "<Else>"),
        ] {
            assert!(!matches!(read(&ANSWER.replace(from, to)), Some(Ok(_))), "{from} -> {to}");
        }
    }

    #[test]
    fn variables() {
        let base = MapEnv::from([(ROLE, "arn:aws:iam::123456789012:role/a"), (TOKEN_FILE, "/token")]);
        let read = |env: MapEnv| WebIdentity::from_env(&Reader::new(&env), "cn-north-1").map_err(|e| e.to_string());
        let found = read(base.clone()).unwrap().unwrap();
        assert_eq!(
            (found.sts.as_str(), found.session.as_str()),
            ("https://sts.cn-north-1.amazonaws.com.cn/", "causeway")
        );
        let other = read(base.clone().with("AWS_ENDPOINT_URL", "http://127.0.0.1:1/")).unwrap().unwrap();
        assert_eq!(other.sts.as_str(), "http://127.0.0.1:1/");
        assert!(read(base.clone().with("AWS_ENDPOINT_URL_STS", "http://sts.example")).unwrap_err().contains("https"));
        assert!(read(base.with(SESSION, "a b")).unwrap_err().contains(SESSION));
        assert!(read(MapEnv::from([(ROLE, "r")])).unwrap_err().contains(TOKEN_FILE));
        assert!(read(MapEnv::default()).unwrap().is_none());
    }
}
