//! Strict JSON, and the verified claims of a caller.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::api_key::ApiKeyRecord;

/// How much JSON is accepted.
#[derive(Clone, Copy, Debug)]
pub struct JsonLimits {
    /// Levels of nesting; the outermost object is the first.
    pub depth: usize,
    /// Members of objects and elements of lists, in all.
    pub members: usize,
}

/// The limits for the header and the claims of a token in the strict mode.
pub const TOKEN_LIMITS: JsonLimits = JsonLimits { depth: 16, members: 256 };

/// The limits in the `istio` mode: the nesting that Envoy's JSON reader allows, and as many members as fit into a token.
pub const ISTIO_TOKEN_LIMITS: JsonLimits = JsonLimits { depth: 100, members: 32_768 };

/// From this many members on an object's names are looked up in a set.
const MANY_MEMBERS: usize = 32;

/// A JSON value that was read strictly: no member name twice, no trailing bytes, bounded.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number without fraction and exponent from 0 to 2^64-1.
    Unsigned(u64),
    /// Any other number.
    Float(f64),
    /// A string.
    String(String),
    /// A list.
    List(Vec<Json>),
    /// An object; the members in their order.
    Object(Vec<(String, Json)>),
}

/// The bytes are not JSON as we accept it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct JsonError(String);

impl Json {
    /// Reads one JSON text.
    ///
    /// # Errors
    /// When it is not JSON (RFC 8259), not UTF-8, has a member name twice (RFC 7519 §4 lets us reject
    /// that), goes past `limits`, or is followed by anything but white space.
    pub fn parse(text: &[u8], limits: JsonLimits) -> Result<Self, JsonError> {
        let mut members = limits.members;
        let seed = Seed { depth: limits.depth, members: &mut members };
        let mut reader = serde_json::Deserializer::from_slice(text);
        let value = seed.deserialize(&mut reader).map_err(JsonError::from)?;
        reader.end().map_err(JsonError::from)?;
        Ok(value)
    }

    /// The member `name`, when this is an object that has it.
    pub fn get(&self, name: &str) -> Option<&Json> {
        match self {
            Self::Object(members) => members.iter().find(|(member, _)| member == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The text, when this is a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }
}

impl From<serde_json::Error> for JsonError {
    fn from(error: serde_json::Error) -> Self {
        // The text of serde_json's own errors may quote input; the class and the place do not.
        use serde_json::error::Category;
        let text = match error.classify() {
            Category::Data => error.to_string(),
            Category::Eof => "text ends too early".to_owned(),
            Category::Io | Category::Syntax => format!("not JSON at column {}", error.column()),
        };
        Self(text)
    }
}

struct Seed<'m> {
    depth: usize,
    members: &'m mut usize,
}

impl Seed<'_> {
    fn deeper<E: de::Error>(&self) -> Result<usize, E> {
        self.depth.checked_sub(1).ok_or_else(|| E::custom("nested too deeply"))
    }

    fn count<E: de::Error>(&mut self) -> Result<(), E> {
        *self.members = self.members.checked_sub(1).ok_or_else(|| E::custom("too many members"))?;
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        // Only negative numbers come here, and none of them is used as anything but a number.
        #[allow(clippy::cast_precision_loss)]
        Ok(Json::Float(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(Json::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Json, A::Error> {
        let depth = self.deeper()?;
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(Seed { depth, members: &mut *self.members })? {
            self.count()?;
            values.push(value);
        }
        Ok(Json::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Json, A::Error> {
        let depth = self.deeper()?;
        let mut members: Vec<(String, Json)> = Vec::new();
        // The names, once they are too many to be compared one by one.
        let mut names: HashSet<String> = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            self.count()?;
            let twice = if members.len() < MANY_MEMBERS {
                members.iter().any(|(member, _)| *member == name)
            } else {
                if names.is_empty() {
                    names.extend(members.iter().map(|(member, _)| member.clone()));
                }
                !names.insert(name.clone())
            };
            if twice {
                return Err(de::Error::custom("a member name occurs twice"));
            }
            let value = map.next_value_seed(Seed { depth, members: &mut *self.members })?;
            members.push((name, value));
        }
        Ok(Json::Object(members))
    }
}

/// The verified claims of a caller: of a token whose signature was checked, or those that a valid API key
/// stands for.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims {
    /// Shared with the cache of verified tokens.
    json: Arc<Json>,
    /// `spaceDelimitedClaims` of the rule that accepted the token.
    space_delimited: Vec<String>,
}

impl Claims {
    /// Takes over the claims of a verified token; `None` when they are not an object.
    pub(crate) fn from_verified(json: impl Into<Arc<Json>>) -> Option<Self> {
        let json = json.into();
        matches!(*json, Json::Object(_)).then_some(Self { json, space_delimited: Vec::new() })
    }

    /// The claims that exchanging a valid API key for a token would yield.
    pub(crate) fn from_api_key(record: &ApiKeyRecord, issuer: &str) -> Self {
        let text = |text: &str| Json::String(text.to_owned());
        let json = Json::Object(vec![
            ("iss".to_owned(), text(issuer)),
            ("sub".to_owned(), Json::String(format!("client:{}", record.client_id))),
            ("client_id".to_owned(), text(&record.client_id)),
            ("azp".to_owned(), text(&record.client_id)),
            ("aud".to_owned(), Json::List(record.audiences.iter().map(|aud| text(aud)).collect())),
            ("scope".to_owned(), text(&record.scope)),
        ]);
        Self { json: Arc::new(json), space_delimited: Vec::new() }
    }

    /// These claims, with `spaceDelimitedClaims` of the rule that accepted them.
    pub(crate) fn with_space_delimited<'n>(mut self, names: impl Iterator<Item = &'n str>) -> Self {
        self.space_delimited.extend(names.map(str::to_owned));
        self
    }

    /// Whether the claim `name` is a list of words with spaces between them: "`scope`, `permission` and any
    /// `spaceDelimitedClaims`". Envoy splits claims of the outermost object alone, and a name with dots is one name;
    /// what it copies into headers is never split.
    pub(crate) fn is_space_delimited(&self, name: &str) -> bool {
        ["scope", "permission"].contains(&name) || self.space_delimited.iter().any(|claim| claim == name)
    }

    /// The claim `name`.
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.json.get(name)
    }

    /// The claims as one object.
    pub fn as_json(&self) -> &Json {
        &self.json
    }

    /// The text of the claim `name`, when it is a string.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Json::as_str)
    }

    /// `iss`.
    pub fn issuer(&self) -> Option<&str> {
        self.text("iss")
    }

    /// `sub`.
    pub fn subject(&self) -> Option<&str> {
        self.text("sub")
    }

    /// The OAuth client: `client_id` (RFC 9068), or else `azp`.
    pub fn client_id(&self) -> Option<&str> {
        self.text("client_id").or_else(|| self.text("azp"))
    }

    /// `iat` in whole seconds since 1970; absent when it is not there or not a moment.
    pub fn issued_at(&self) -> Option<u64> {
        crate::jwt::read_time(&self.json, "iat").ok().flatten()
    }

    /// `scope`, as written.
    pub fn scope(&self) -> Option<&str> {
        self.text("scope")
    }

    /// `aud`, whether it is one string or a list of them.
    pub fn audiences(&self) -> Vec<&str> {
        audiences(&self.json)
    }

    /// Istio's request principal `ISSUER/SUBJECT`; absent without an issuer or a subject.
    pub fn principal(&self) -> Option<String> {
        match (self.issuer()?, self.subject()?) {
            ("", _) | (_, "") => None,
            (issuer, subject) => Some(format!("{issuer}/{subject}")),
        }
    }
}

/// `aud` of an object of claims, whether it is one string or a list of them.
pub(crate) fn audiences(claims: &Json) -> Vec<&str> {
    match claims.get("aud") {
        Some(Json::String(one)) => vec![one],
        Some(Json::List(list)) => list.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Json, JsonError> {
        Json::parse(text.as_bytes(), TOKEN_LIMITS)
    }

    #[test]
    fn reads_each_kind() {
        let json = parse(r#"{"a":null,"b":true,"c":7,"d":-7,"e":1.5,"f":"x","g":[1,"y"],"h":{}}"#);
        assert_eq!(
            json.unwrap(),
            Json::Object(vec![
                ("a".to_owned(), Json::Null),
                ("b".to_owned(), Json::Bool(true)),
                ("c".to_owned(), Json::Unsigned(7)),
                ("d".to_owned(), Json::Float(-7.0)),
                ("e".to_owned(), Json::Float(1.5)),
                ("f".to_owned(), Json::String("x".to_owned())),
                ("g".to_owned(), Json::List(vec![Json::Unsigned(1), Json::String("y".to_owned())])),
                ("h".to_owned(), Json::Object(Vec::new())),
            ])
        );
    }

    #[test]
    fn refuses_what_parsers_disagree_about() {
        for text in [
            "",
            "{",
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":{"a":1,"b":2,"a":3}}"#,
            r#"{"a":1}x"#,
            r#"{"a":1}{"a":1}"#,
            r#"{"a":1e400}"#,
            r#"{"a":NaN}"#,
            r#"{"a":01}"#,
            r#"{"a":"\ud800"}"#,
            r#"{'a':1}"#,
            r#"{"a":1,}"#,
            "{\"a\":\"\n\"}",
            "\u{feff}{}",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(Json::parse(b"{\"a\":\"\xff\"}", TOKEN_LIMITS).is_err());
    }

    #[test]
    fn depth_and_members_are_bounded() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse(&nested(16)).is_ok());
        let too_deep = parse(&nested(17)).unwrap_err().to_string();
        assert!(too_deep.starts_with("nested too deeply"), "{too_deep}");
        assert!(parse(&"[".repeat(100_000)).is_err());
        let list = |count: usize| format!("[{}]", vec!["1"; count].join(","));
        assert!(parse(&list(256)).is_ok());
        assert!(parse(&list(257)).is_err());
        let object = |count: usize| {
            let members: Vec<_> = (0..count).map(|i| format!("\"k{i}\":[]")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert!(parse(&object(256)).is_ok());
        assert!(parse(&object(257)).is_err());
    }

    #[test]
    fn errors_do_not_quote_the_input() {
        for text in [r#"{"s3cret": s3cret}"#, r#"{"s3cret":1,"s3cret":2}"#] {
            let error = parse(text).unwrap_err().to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_principal_needs_both_halves() {
        let cases = [
            (r#"{"iss":"i","sub":"s"}"#, Some("i/s")),
            (r#"{"iss":"i"}"#, None),
            (r#"{"sub":"s"}"#, None),
            (r#"{"iss":"i","sub":""}"#, None),
            (r#"{"iss":["i"],"sub":"s"}"#, None),
        ];
        for (text, expected) in cases {
            let claims = Claims::from_verified(parse(text).unwrap()).unwrap();
            assert_eq!(claims.principal().as_deref(), expected, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Json::parse(&bytes, TOKEN_LIMITS);
        }
    }
}
