//! A request as both sides get it.

use std::net::{IpAddr, Ipv4Addr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::token::{Keys, Token};

/// Where a token is put.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// A header line: its name, and the text in front of the token.
    Header(String, String),
    Parameter(String),
    Cookie(String),
}

/// The filter that conditions on dynamic metadata name.
pub const PROBE: &str = "envoy.filters.http.probe";

/// Its keys.
pub const PROBE_KEYS: [&str; 2] = ["k", "a.b"];

/// The header that holds the metadata under a key.
pub fn probe_header(key: &str) -> String {
    format!("x-metadata-{}", key.replace('.', "-"))
}

/// A request, before its tokens are made.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub method: String,
    pub host: String,
    /// With query, without tokens.
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub tokens: Vec<(Place, Token)>,
    /// Dynamic metadata of the filter [`PROBE`], each key in a header of its own that Envoy reads it from.
    pub metadata: Vec<(String, Value)>,
    /// Peer identity without `spiffe://`: mutual TLS. `None` is plaintext.
    pub principal: Option<String>,
    /// Server name of the TLS connection; without effect in plaintext.
    pub sni: Option<String>,
    /// Of 127.0.0.0/8: the client binds to it.
    pub source_ip: Ipv4Addr,
    /// What the PROXY protocol says of the client, and of the workload.
    pub remote_ip: IpAddr,
    pub destination_ip: IpAddr,
    pub destination_port: u16,
}

/// A request on the wire.
#[derive(Clone, Debug, PartialEq)]
pub struct Wire {
    pub path: String,
    /// Names as they are sent. Without `host`.
    pub headers: Vec<(String, String)>,
}

impl Call {
    pub fn wire(&self, keys: &Keys) -> Wire {
        let (mut path, mut headers) = (self.path.clone(), self.headers.clone());
        for (key, value) in &self.metadata {
            headers.push((probe_header(key), STANDARD.encode(protobuf(value))));
        }
        let mut cookies = Vec::new();
        for (place, token) in &self.tokens {
            let text = keys.text(token);
            match place {
                Place::Header(name, prefix) => headers.push((name.clone(), format!("{prefix}{text}"))),
                Place::Parameter(name) => {
                    let separator = if path.contains('?') { '&' } else { '?' };
                    path.push(separator);
                    path.push_str(&format!("{name}={text}"));
                }
                Place::Cookie(name) => cookies.push(format!("{name}={text}")),
            }
        }
        if !cookies.is_empty() {
            headers.push(("cookie".to_owned(), cookies.join("; ")));
        }
        Wire { path, headers }
    }

    /// The server name that is really sent: none in plaintext.
    pub fn sent_sni(&self) -> &str {
        match &self.principal {
            Some(_) => self.sni.as_deref().unwrap_or_default(),
            None => "",
        }
    }
}

/// `google.protobuf.Value` on the wire; numbers and nulls are not used.
fn protobuf(value: &Value) -> Vec<u8> {
    let field = |number: u8, bytes: Vec<u8>| -> Vec<u8> {
        let length = bytes.len();
        let mut field = vec![number << 3 | 2];
        if length >= 128 {
            field.push(u8::try_from(length & 127).unwrap() | 128);
        }
        field.push(u8::try_from(if length >= 128 { length >> 7 } else { length }).unwrap());
        field.extend(bytes);
        field
    };
    match value {
        Value::Bool(bool) => vec![4 << 3, u8::from(*bool)],
        Value::String(text) => field(3, text.clone().into_bytes()),
        Value::Array(list) => field(6, list.iter().flat_map(|value| field(1, protobuf(value))).collect()),
        Value::Object(members) => {
            let entry = |(name, value): (&String, &Value)| {
                let mut entry = field(1, name.clone().into_bytes());
                entry.extend(field(2, protobuf(value)));
                field(1, entry)
            };
            field(5, members.iter().flat_map(entry).collect())
        }
        _ => panic!("not used: {value}"),
    }
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    /// What the upstream saw, if it was reached.
    pub seen: Option<Seen>,
    /// For the report: the rule, the reason or the body.
    pub why: String,
}

/// What the upstream got.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Absent where `authz` does not tell.
    pub path: Option<String>,
    /// Sorted by name; lines of one name joined with `,`, which Envoy may do as well.
    pub headers: Vec<(String, String)>,
}

impl Seen {
    pub fn new(path: Option<String>, headers: impl IntoIterator<Item = (String, String)>) -> Self {
        /// What Envoy and the connection add; no policy and no token has to do with them.
        const IGNORED: [&str; 9] = [
            "host",
            "content-length",
            "connection",
            "transfer-encoding",
            "x-forwarded-proto",
            "x-forwarded-for",
            "x-forwarded-client-cert",
            "x-request-id",
            "x-envoy-expected-rq-timeout-ms",
        ];
        let mut sorted: Vec<(String, String)> = Vec::new();
        for (name, value) in headers {
            // White space around a value is not part of it.
            let (name, value) = (name.to_ascii_lowercase(), value.trim().to_owned());
            if IGNORED.contains(&name.as_str()) {
                continue;
            }
            match sorted.iter_mut().find(|(known, _)| *known == name) {
                Some((_, joined)) => {
                    joined.push(',');
                    joined.push_str(&value);
                }
                None => sorted.push((name, value)),
            }
        }
        sorted.sort();
        Self { path, headers: sorted }
    }

    /// What the upstream wrote into its answer's header.
    pub fn read(header: &str) -> Option<Self> {
        let value: Value = serde_json::from_slice(&STANDARD.decode(header).ok()?).ok()?;
        let headers = value["headers"].as_array()?.iter().map(|line| {
            let text = |index: usize| line[index].as_str().unwrap_or_default().to_owned();
            (text(0), text(1))
        });
        Some(Self::new(Some(value["path"].as_str()?.to_owned()), headers))
    }
}
