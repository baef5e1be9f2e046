//! The events as API Gateway writes them.

use std::fmt;

use authz::request::MAX_HEADERS;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

/// Every kind of event in one: a field that another kind has is simply absent, and what is not needed is skipped.
#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Wire {
    pub(super) authorization_token: Option<String>,
    pub(super) cookies: Option<Vec<String>>,
    pub(super) headers: Option<Pairs<String>>,
    pub(super) http_method: Option<String>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) method_arn: Option<String>,
    pub(super) multi_value_headers: Option<Pairs<Vec<String>>>,
    pub(super) multi_value_query_string_parameters: Option<Pairs<Vec<String>>>,
    pub(super) path: Option<String>,
    pub(super) path_parameters: Option<Pairs<String>>,
    pub(super) query_string_parameters: Option<Pairs<String>>,
    pub(super) raw_path: Option<String>,
    pub(super) raw_query_string: Option<String>,
    pub(super) request_context: Option<Context>,
    pub(super) resource: Option<String>,
    pub(super) route_arn: Option<String>,
    pub(super) route_key: Option<String>,
    pub(super) version: Option<String>,
}

/// `requestContext`.
#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Context {
    pub(super) api_id: Option<String>,
    pub(super) authentication: Option<Authentication>,
    pub(super) connection_id: Option<String>,
    pub(super) domain_name: Option<String>,
    pub(super) event_type: Option<String>,
    pub(super) http: Option<Http>,
    pub(super) http_method: Option<String>,
    pub(super) identity: Option<Identity>,
    pub(super) message_direction: Option<IgnoredAny>,
    pub(super) path: Option<String>,
    pub(super) request_id: Option<String>,
    pub(super) route_key: Option<String>,
    pub(super) stage: Option<String>,
}

/// `requestContext.http` of payload format 2.0.
#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Http {
    pub(super) method: Option<String>,
    pub(super) path: Option<String>,
    pub(super) source_ip: Option<String>,
}

/// `requestContext.identity` of the others.
#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Identity {
    pub(super) client_cert: Option<ClientCert>,
    pub(super) source_ip: Option<String>,
}

/// `requestContext.authentication` of payload format 2.0.
#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Authentication {
    pub(super) client_cert: Option<ClientCert>,
}

/// The certificate of a custom domain with mutual TLS. Subject, issuer, serial number and validity are in it.
#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ClientCert {
    pub(super) client_cert_pem: Option<String>,
}

/// A JSON object in the order it was written. A name that comes twice is an error: which one counts would be a guess.
#[derive(Debug)]
pub(super) struct Pairs<T>(Vec<(String, T)>);

/// The members of an object that may be absent.
pub(super) fn members<T>(pairs: Option<Pairs<T>>) -> Vec<(String, T)> {
    pairs.map_or_else(Vec::new, |pairs| pairs.0)
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Pairs<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Pairs<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs: Vec<(String, T)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, T>()? {
                    if pairs.len() > MAX_HEADERS || pairs.iter().any(|(seen, _)| *seen == name) {
                        return Err(serde::de::Error::custom("too many members, or one of them twice"));
                    }
                    pairs.push((name, value));
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(Members(std::marker::PhantomData))
    }
}
