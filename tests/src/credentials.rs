//! The credentials that a test has used, and whether a log holds one of them, or anything that looks like one.

use authz::api_key::ApiKey;

/// Shorter texts are found anywhere by chance.
const SHORTEST: usize = 8;

/// What must not be in a log.
#[derive(Clone, Debug, Default)]
pub struct Credentials(Vec<String>);

impl Credentials {
    /// Remembers a credential: all of it, and the parts that are as good as all of it. Those are claims and signature of
    /// a token, and what follows the public id in an API key.
    pub fn note(&mut self, credential: &str) {
        self.0.push(credential.to_owned());
        if let Some((_, body)) = credential.strip_prefix("cwk_").and_then(|rest| rest.split_once('_')) {
            self.0.extend(body.get(12..44).map(str::to_owned));
        } else if credential.split('.').count() == 3 {
            self.0.extend(credential.split('.').skip(1).map(str::to_owned));
        }
    }

    /// The first line that holds one.
    pub fn line_with_one<'a>(&self, lines: &'a [String]) -> Option<&'a String> {
        let parts = || self.0.iter().filter(|part| part.len() >= SHORTEST);
        lines.iter().find(|line| looks_like_one(line) || parts().any(|part| line.contains(part.as_str())))
    }
}

/// Whether a token, a refresh token or an API key stands in `line`, of whomever: the programs mint and fetch some that no test sees.
fn looks_like_one(line: &str) -> bool {
    let words = line.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '-'));
    words.into_iter().any(|word| {
        // A JOSE header is `{"`, which is eyJ in base64url.
        let is_token = word.split('.').filter(|part| part.len() >= SHORTEST).count() >= 3 && word.contains("eyJ");
        // The issuer's refresh tokens.
        let is_refresh_token = word.starts_with("cwr_") && word.len() >= 64;
        is_token || is_refresh_token || ApiKey::parse(word).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_found_whole_and_in_parts() -> Result<(), String> {
        let key = ApiKey::generate("dev", &[7; 48]).map_err(|error| error.to_string())?;
        let key = key.text().expose();
        let token = "aaaaaaaaaa.bbbbbbbbbb.cccccccccc";
        let mut credentials = Credentials::default();
        [key, token, "hunter2hunter2", "short"].into_iter().for_each(|credential| credentials.note(credential));
        let secret = key.get(20..52).ok_or("a short key")?;
        for (line, holds) in [
            (format!("the key {key} is good"), true),
            (format!("the rest is {secret}"), true),
            (format!("x {}", key.get(8..20).ok_or("a short key")?), false),
            (token.to_owned(), true),
            ("claims bbbbbbbbbb".to_owned(), true),
            ("signature=cccccccccc".to_owned(), true),
            ("header aaaaaaaaaa".to_owned(), false),
            ("hunter2hunter2".to_owned(), true),
            ("in short".to_owned(), false),
            ("Bearer eyJhbGciOiJub25l.eyJzdWIiOiJ4.c2lnbmF0dXJl".to_owned(), true),
            (r#"{"detail":"eyJhbGciOiJub25l"}"#.to_owned(), false),
            (format!("{{\"token\":\"cwr_{}\"}}", "0".repeat(104)), true),
            ("cwr_ is the prefix".to_owned(), false),
        ] {
            assert_eq!(credentials.line_with_one(std::slice::from_ref(&line)).is_some(), holds, "{line}");
        }
        let other = ApiKey::generate("prod", &[8; 48]).map_err(|error| error.to_string())?;
        assert!(looks_like_one(&format!("\"{}\"", other.text().expose())), "a key that nobody noted");
        Ok(())
    }
}
