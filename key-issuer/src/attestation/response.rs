//! The answer of STS, read strictly: exactly the document that GetCallerIdentity returns, and nothing that an XML
//! parser would have to interpret.
//!
//! A lenient reader was once enough to take over a login by GetCallerIdentity (CVE-2020-16250). So there are no
//! entities, no comments, no CDATA, no document type, no processing instruction but the declaration, no attribute but
//! the namespace, no element but these, and none twice.

use crate::iam::{RoleArn, role_unique_id};

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";
const ROOT: &str = "GetCallerIdentityResponse";
/// The longest ARN is about 160 characters long.
const MAX_TEXT_BYTES: usize = 256;

/// Whom STS has recognised.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Identity {
    arn: String,
    user_id: String,
    account: String,
}

impl Identity {
    /// The role behind the session, and its unique id.
    ///
    /// # Errors
    /// In words for the caller: users, federated users and the root user have no place in the registry.
    pub(super) fn role(&self) -> Result<(RoleArn, String), &'static str> {
        let role = RoleArn::of_session(&self.arn).ok_or("the caller is no session of an IAM role")?;
        if role.account() != self.account {
            return Err("the caller's account is not that of its role");
        }
        // `AROA…:SESSION`, and the ARN ends in the same session.
        let session = self.arn.rsplit('/').next().unwrap_or_default();
        match (role_unique_id(&self.user_id), self.user_id.split_once(':')) {
            (Some(unique_id), Some((_, named))) if named == session => Ok((role, unique_id.to_owned())),
            _ => Err("the caller's user id is not that of its session"),
        }
    }
}

/// Reads the document.
///
/// # Errors
/// What was expected.
pub(super) fn parse(bytes: &[u8]) -> Result<Identity, &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "expected UTF-8")?;
    let mut reader = Reader(text);
    reader.declaration();
    reader.blank();
    reader.expect(&format!("<{ROOT} xmlns=\"{NAMESPACE}\">"), "expected the root element in its namespace")?;
    let mut identity = None;
    let mut metadata = false;
    while let Some(name) = reader.opens()? {
        match name {
            "GetCallerIdentityResult" if identity.is_none() => identity = Some(result(&mut reader)?),
            "ResponseMetadata" if !metadata => {
                metadata = true;
                reader.only_text_elements(&["RequestId"])?;
            }
            _ => return Err("found an element that is not expected in the root, or there twice"),
        }
        reader.closes(name)?;
    }
    reader.closes(ROOT)?;
    reader.blank();
    if !reader.0.is_empty() {
        return Err("expected nothing after the root element");
    }
    identity.ok_or("expected GetCallerIdentityResult")
}

fn result(reader: &mut Reader<'_>) -> Result<Identity, &'static str> {
    let found = reader.only_text_elements(&["Arn", "UserId", "Account"])?;
    match found.as_slice() {
        [Some(arn), Some(user_id), Some(account)] => {
            let [arn, user_id, account] = [arn, user_id, account].map(|text| (*text).to_owned());
            Ok(Identity { arn, user_id, account })
        }
        _ => Err("expected Arn, UserId and Account"),
    }
}

/// What is left of the document.
struct Reader<'a>(&'a str);

impl<'a> Reader<'a> {
    fn blank(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t', '\r', '\n']);
    }

    fn expect(&mut self, text: &str, wrong: &'static str) -> Result<(), &'static str> {
        self.0 = self.0.strip_prefix(text).ok_or(wrong)?;
        Ok(())
    }

    /// The XML declaration in the spellings that carry no meaning.
    fn declaration(&mut self) {
        for declaration in [
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>",
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>",
            "<?xml version=\"1.0\"?>",
        ] {
            if let Some(rest) = self.0.strip_prefix(declaration) {
                self.0 = rest;
                return;
            }
        }
    }

    /// The name of the element that begins here, unless one ends here. It has no attributes.
    fn opens(&mut self) -> Result<Option<&'a str>, &'static str> {
        self.blank();
        if self.0.starts_with("</") {
            return Ok(None);
        }
        let rest = self.0.strip_prefix('<').ok_or("expected an element")?;
        let (name, rest) = rest.split_once('>').ok_or("expected the end of a tag")?;
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphabetic()) {
            return Err("expected an element without attributes and prefix");
        }
        self.0 = rest;
        Ok(Some(name))
    }

    fn closes(&mut self, name: &str) -> Result<(), &'static str> {
        self.blank();
        self.expect("</", "expected the end of an element")?;
        self.expect(name, "expected the end of the element that is open")?;
        self.expect(">", "expected the end of the element that is open")
    }

    /// Elements that hold text and nothing else, each of `names` at most once, in any order.
    fn only_text_elements(&mut self, names: &[&str]) -> Result<Vec<Option<&'a str>>, &'static str> {
        let mut found = vec![None; names.len()];
        while let Some(name) = self.opens()? {
            let place =
                names.iter().position(|expected| *expected == name).ok_or("found an element that is unknown")?;
            let (text, _) = self.0.split_once('<').ok_or("expected the end of an element")?;
            // No blanks, no `&`, no control characters: nothing that would have to be normalised or replaced.
            let plain = (1..=MAX_TEXT_BYTES).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_graphic() && b != b'&' && b != b'>');
            if !plain {
                return Err("expected plain text in an element");
            }
            self.0 = &self.0[text.len()..];
            self.expect("</", "expected the end of an element")?;
            self.expect(name, "expected the end of the element that is open")?;
            self.expect(">", "expected the end of the element that is open")?;
            if found.get_mut(place).and_then(|slot: &mut Option<&'a str>| slot.replace(text)).is_some() {
                return Err("found an element twice");
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
