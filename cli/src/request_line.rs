//! The JSON request line: one request a line, as `evaluate` and `explain` read it.
//!
//! Strict: an unknown field, a member twice and a value of the wrong type are errors. `expect`, `tags` and `note` belong
//! to whoever wrote the line, and are ignored.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;

use authz::claims::JsonLimits;
use authz::{Json, PathHandling, Peer, ProviderAnswer, Request};
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The longest line, in bytes.
pub(crate) const MAX_LINE_BYTES: usize = 1024 * 1024;

/// How much dynamic metadata of one filter is read.
const METADATA_LIMITS: JsonLimits = JsonLimits { depth: 16, members: 10_000 };

/// A request and what the outside world says about it.
#[derive(Debug)]
pub(crate) struct RequestLine {
    /// What the answer is known by.
    pub(crate) id: Id,
    /// The request itself.
    pub(crate) request: Request,
    /// The workload that it is for; without one it takes the way of a request at API Gateway.
    pub(crate) workload: Option<NamedWorkload>,
    /// What the extension providers of CUSTOM policies say, by their names.
    pub(crate) providers: BTreeMap<String, ProviderAnswer>,
    /// The key store: what it knows, by the presented key.
    pub(crate) api_keys: BTreeMap<String, StoredKey>,
}

/// The `id` of a line: a string or a whole number, given back as it came.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Id {
    Text(String),
    Number(i64),
}

/// `workload`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct NamedWorkload {
    pub(crate) namespace: String,
    #[serde(default, deserialize_with = "distinct")]
    pub(crate) labels: BTreeMap<String, String>,
}

/// A value of `api_keys`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoredKey {
    pub(crate) client_id: String,
    #[serde(default)]
    pub(crate) scope: String,
    #[serde(default)]
    pub(crate) aud: Vec<String>,
    #[serde(default)]
    pub(crate) state: StoredKeyState,
}

/// `state` of a value of `api_keys`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StoredKeyState {
    #[default]
    Active,
    Revoked,
    Expired,
    /// The store does not answer for it.
    Unavailable,
}

/// A line that is no request.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(crate) struct LineError {
    /// The line's id, if that much of it can be read.
    pub(crate) id: Option<Id>,
    /// What is wrong with it; quotes no value of the line, which may be a credential.
    #[serde(rename = "error")]
    pub(crate) message: String,
}

impl RequestLine {
    /// Reads one line.
    ///
    /// # Errors
    /// [`LineError`] says what is wrong, and with which line as far as its `id` can be told.
    pub(crate) fn parse(line: &[u8]) -> Result<Self, LineError> {
        let refused = |message: String| LineError { id: id_of(line), message };
        if line.len() > MAX_LINE_BYTES {
            return Err(LineError { id: None, message: too_long() });
        }
        let wire: Wire<'_> = serde_json::from_slice(line).map_err(|error| refused(said(&error)))?;
        wire.read().map_err(refused)
    }
}

/// What is said of a line that is not even looked at.
pub(crate) fn too_long() -> String {
    format!("line is longer than {MAX_LINE_BYTES} bytes")
}

/// serde's message without the text that it may quote: `invalid type: string "cwk_…", expected u16`, and "unknown variant
/// `cwk_…`". The names of unknown fields stay.
fn said(error: &serde_json::Error) -> String {
    if error.is_syntax() || error.is_eof() {
        return format!("expected a JSON object, found what is no JSON: {error}");
    }
    let text = error.to_string();
    let quote = if text.starts_with("unknown variant") { '`' } else { '"' };
    let Some((before, rest)) = text.split_once(quote) else { return text };
    // A quoted text may hold quotes itself; what serde expects instead follows the last of them.
    let (end, expected) = (format!("{quote}, expected"), ", expected");
    match rest.rsplit_once(&end) {
        Some((_, after)) => format!("{before}{quote}…{quote}{expected}{after}"),
        None => format!("{before}{quote}…{quote}"),
    }
}

fn id_of(line: &[u8]) -> Option<Id> {
    #[derive(Deserialize)]
    struct WithId {
        id: Option<Id>,
    }
    if let Ok(with) = serde_json::from_slice::<WithId>(line) {
        return with.id;
    }
    // A line that is broken behind its id still says whose it is.
    let mut reader = serde_json::Deserializer::from_slice(line);
    FirstId::deserialize(&mut reader).ok()?.0
}

/// The first member `id` of an object whose rest may be broken.
struct FirstId(Option<Id>);

impl<'de> Deserialize<'de> for FirstId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct First<'a>(&'a mut Option<Id>);
        impl<'de> Visitor<'de> for First<'_> {
            type Value = ();

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
                while let Some(name) = map.next_key::<String>()? {
                    if name == "id" {
                        *self.0 = Some(map.next_value()?);
                        return Ok(());
                    }
                    map.next_value::<IgnoredAny>()?;
                }
                Ok(())
            }
        }
        let mut id = None;
        // The deserialiser complains about what follows the id; that is known already.
        let _ = deserializer.deserialize_map(First(&mut id));
        Ok(Self(id))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire<'a> {
    id: Id,
    method: String,
    scheme: Option<String>,
    host: String,
    path: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(default)]
    source: Source,
    #[serde(default)]
    destination: Destination,
    sni: Option<String>,
    workload: Option<NamedWorkload>,
    #[serde(default, deserialize_with = "distinct")]
    custom: BTreeMap<String, Answer>,
    #[serde(default, borrow, deserialize_with = "distinct")]
    dynamic_metadata: BTreeMap<String, &'a RawValue>,
    #[serde(default, deserialize_with = "distinct")]
    api_keys: BTreeMap<String, StoredKey>,
    #[serde(rename = "expect")]
    _expect: Option<IgnoredAny>,
    #[serde(rename = "tags")]
    _tags: Option<IgnoredAny>,
    #[serde(rename = "note")]
    _note: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    ip: Option<IpAddr>,
    remote_ip: Option<IpAddr>,
    principal: Option<String>,
    /// SHA-256 of the client's certificate in hex.
    client_certificate_sha256: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Destination {
    ip: Option<IpAddr>,
    port: Option<u16>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Allow,
    Deny,
    Error,
}

impl From<Answer> for ProviderAnswer {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Allow => Self::Allow,
            Answer::Deny => Self::Deny,
            Answer::Error => Self::Error,
        }
    }
}

impl Wire<'_> {
    fn read(self) -> Result<RequestLine, String> {
        let headers = self.headers.into_iter().enumerate().map(header).collect::<Result<_, _>>()?;
        let mut metadata = Vec::with_capacity(self.dynamic_metadata.len());
        for (filter, raw) in self.dynamic_metadata {
            let value = Json::parse(raw.get().as_bytes(), METADATA_LIMITS)
                .map_err(|error| format!("dynamic_metadata: {error}"))?;
            if !matches!(value, Json::Object(_)) {
                return Err("dynamic_metadata: expected an object for each filter".to_owned());
            }
            metadata.push((filter, value));
        }
        if self.method.is_empty() {
            return Err("method: must not be empty".to_owned());
        }
        let principal = self.source.principal;
        match principal.as_deref() {
            Some("") => return Err("source.principal: must not be empty; leave it out for plaintext".to_owned()),
            Some(text) if text.starts_with("spiffe://") => {
                return Err(
                    "source.principal: must not begin with spiffe://; write TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT"
                        .to_owned(),
                );
            }
            _ => {}
        }
        let client_certificate = self.source.client_certificate_sha256.as_deref().map(sha256).transpose()?;
        let scheme = self.scheme.unwrap_or_else(|| "http".to_owned());
        if !matches!(scheme.as_str(), "http" | "https") {
            return Err("scheme: expected http or https".to_owned());
        }
        let request = Request {
            method: self.method,
            scheme,
            host: self.host,
            path: self.path,
            // Envoy sends on what it judged.
            path_handling: PathHandling::Rewritten,
            headers,
            headers_joined: false,
            source: Peer { ip: self.source.ip, remote_ip: self.source.remote_ip.or(self.source.ip), principal },
            destination_ip: self.destination.ip,
            destination_port: self.destination.port,
            sni: Some(self.sni.unwrap_or_default()),
            client_certificate,
            dynamic_metadata: Some(metadata),
            unknown: authz::Unknown::default(),
        };
        let providers = self.custom.into_iter().map(|(name, answer)| (name, answer.into())).collect();
        Ok(RequestLine { id: self.id, request, workload: self.workload, providers, api_keys: self.api_keys })
    }
}

/// 64 digits of hex, of either case.
fn sha256(hex: &str) -> Result<[u8; 32], String> {
    let expected = || "source.client_certificate_sha256: expected 64 hexadecimal digits".to_owned();
    if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(expected());
    }
    let mut hash = [0; 32];
    for (byte, at) in hash.iter_mut().zip((0..64).step_by(2)) {
        let digits = hex.get(at..at + 2).ok_or_else(expected)?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| expected())?;
    }
    Ok(hash)
}

/// A header line as no message can carry it is an error: whoever wrote it meant something else.
fn header((index, (mut name, value)): (usize, (String, String))) -> Result<(String, String), String> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(format!(
            "headers[{index}]: expected the name of a header (pseudo-headers have fields of their own)"
        ));
    }
    if value.bytes().any(|byte| matches!(byte, b'\0' | b'\r' | b'\n')) {
        return Err(format!("headers[{index}]: the value has a control byte"));
    }
    name.make_ascii_lowercase();
    Ok((name, value))
}

/// An object without a member twice.
fn distinct<'de, D, V>(deserializer: D) -> Result<BTreeMap<String, V>, D::Error>
where
    D: Deserializer<'de>,
    V: Deserialize<'de>,
{
    struct Distinct<V>(PhantomData<V>);
    impl<'de, V: Deserialize<'de>> Visitor<'de> for Distinct<V> {
        type Value = BTreeMap<String, V>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = BTreeMap::new();
            while let Some((name, value)) = map.next_entry::<String, V>()? {
                if members.insert(name, value).is_some() {
                    return Err(A::Error::custom("a member is given twice"));
                }
            }
            Ok(members)
        }
    }
    deserializer.deserialize_map(Distinct(PhantomData))
}
