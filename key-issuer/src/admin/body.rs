//! JSON bodies of administrators, read strictly: what is unknown, twice there or of another type is refused and named.
//! A value is never quoted, for it may be a secret in the wrong place.

use authz::Json;
use authz::claims::JsonLimits;
use serde_json::Value;

use crate::event::{BodyError, Request};
use crate::refusal::Refusal;

const LIMITS: JsonLimits = JsonLimits { depth: 8, members: 512 };
/// The longest name of a member that is quoted.
const MAX_QUOTED: usize = 40;

/// The members of a JSON object.
#[derive(Default)]
pub(crate) struct Body(Vec<(String, Json)>);

impl Body {
    /// Reads the request's body. An empty one is an empty object.
    ///
    /// # Errors
    /// 400, 413 and 415.
    pub(crate) fn read(request: &Request, known: &[&str]) -> Result<Self, Refusal> {
        let bytes = match &request.body {
            Ok(bytes) => bytes,
            Err(BodyError::TooLarge) => {
                return Err(Refusal::new(413, "invalid_request", "the body has more than 65536 bytes"));
            }
            Err(BodyError::NotBase64) => return Err(Refusal::invalid_request("the body is not base64")),
        };
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let content_type = request.headers.only("content-type").ok().flatten().unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/json") {
            return Err(Refusal::new(415, "invalid_request", "expected the content type application/json"));
        }
        let json = Json::parse(bytes, LIMITS).map_err(|_| {
            Refusal::invalid_request("the body is not JSON, has a member twice, or is too deep or large")
        })?;
        let Json::Object(members) = json else {
            return Err(Refusal::invalid_request("the body is not a JSON object"));
        };
        match members.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            Some((name, _)) if is_plain(name) => Err(Refusal::invalid_request(format!(
                "{name}: unknown here, expected {}",
                if known.is_empty() { "no member".to_owned() } else { known.join(", ") }
            ))),
            Some(_) => Err(Refusal::invalid_request("the body has an unknown member")),
            None => Ok(Self(members)),
        }
    }

    /// A member; `None` when it is not there. `null` is there.
    pub(crate) fn get(&self, name: &str) -> Option<&Json> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    /// Whether there is none at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A text that has to be there.
    pub(crate) fn required(&self, name: &str) -> Result<&str, Refusal> {
        self.text(name)?.ok_or_else(|| wrong(name, "is missing"))
    }

    /// A text, if it is there and not null.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Refusal> {
        match self.get(name) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::String(text)) => Ok(Some(text)),
            Some(_) => Err(wrong(name, "expected a text")),
        }
    }

    /// A whole number, if it is there and not null.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        match self.get(name) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::Unsigned(number)) => Ok(Some(*number)),
            Some(_) => Err(wrong(name, "expected a whole number")),
        }
    }

    /// A truth value.
    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.get(name) {
            None => Ok(None),
            Some(Json::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(wrong(name, "expected true or false")),
        }
    }

    /// A list of texts.
    pub(crate) fn list(&self, name: &str) -> Result<Option<Vec<String>>, Refusal> {
        let wrong = || wrong(name, "expected a list of texts");
        match self.get(name) {
            None => Ok(None),
            Some(Json::List(list)) => list
                .iter()
                .map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong))
                .collect::<Result<_, _>>()
                .map(Some),
            Some(_) => Err(wrong()),
        }
    }

    /// Whether the member is there and null.
    pub(crate) fn is_null(&self, name: &str) -> bool {
        matches!(self.get(name), Some(Json::Null))
    }
}

/// What is wrong with a member.
pub(crate) fn wrong(name: &str, what: impl std::fmt::Display) -> Refusal {
    Refusal::invalid_request(format!("{name}: {what}"))
}

/// A word that may be said back: a name of a member and nothing that a secret looks like.
fn is_plain(name: &str) -> bool {
    (1..=MAX_QUOTED).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

/// A parsed value as one that can be written again.
pub(crate) fn to_value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Unsigned(number) => Value::from(*number),
        Json::Float(number) => Value::from(*number),
        Json::String(text) => Value::String(text.clone()),
        Json::List(list) => Value::Array(list.iter().map(to_value).collect()),
        Json::Object(members) => {
            Value::Object(members.iter().map(|(name, value)| (name.clone(), to_value(value))).collect())
        }
    }
}
