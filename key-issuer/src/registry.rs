//! Who an IAM role is: its workload identity in the mesh and its OAuth client.

use std::collections::BTreeMap;

use identity::{SpiffeId, TrustDomain};
use serde::Deserialize;

use crate::iam::{RoleArn, is_role_unique_id};
use crate::refusal::Refusal;

/// The most entries of a registry.
const MAX_ENTRIES: usize = 10_000;

/// The registry document, checked whole when the program starts.
#[derive(Clone, Debug, Default)]
pub struct Registry(BTreeMap<RoleArn, Registration>);

/// What a role may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Its workload identity. Role names allow characters that SPIFFE IDs do not, so it is mapped, never copied.
    pub spiffe_id: SpiffeId,
    /// The role's unique id (`AROA…`), if it is pinned: a role that was deleted and made again under the same name is
    /// somebody else's and has another one.
    pub role_unique_id: Option<String>,
    /// Its OAuth client id.
    pub client_id: String,
    /// The scopes that it may have.
    pub scopes: Vec<String>,
    /// The audiences that it may ask tokens for; the first one is the default.
    pub audiences: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    role_arn: String,
    #[serde(default)]
    role_unique_id: Option<String>,
    namespace: String,
    service_account: String,
    client_id: String,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    audiences: Vec<String>,
}

impl Registry {
    /// Reads the JSON array of entries.
    ///
    /// # Errors
    /// Names the entry and the rule.
    pub fn parse(text: &str, trust_domain: &TrustDomain) -> Result<Self, String> {
        let entries: Vec<Entry> =
            serde_json::from_str(text).map_err(|error| format!("expected a JSON array of entries: {error}"))?;
        // None at all is a registry too: the IAM door then knows nobody, and the public door works.
        if entries.len() > MAX_ENTRIES {
            return Err(format!("found {} entries, expected at most {MAX_ENTRIES}", entries.len()));
        }
        let mut registry = BTreeMap::new();
        for (place, entry) in entries.into_iter().enumerate() {
            let at = |what: String| format!("[{place}].{what}");
            let role: RoleArn = entry.role_arn.parse().map_err(|error| at(format!("role_arn: {error}")))?;
            let spiffe_id = SpiffeId::for_workload(trust_domain, &entry.namespace, &entry.service_account)
                .map_err(|error| at(format!("namespace and service_account: {error}")))?;
            if entry.role_unique_id.as_deref().is_some_and(|id| !is_role_unique_id(id)) {
                return Err(at("role_unique_id: expected AROA and more upper-case letters and digits".to_owned()));
            }
            if !is_client_id(&entry.client_id) {
                return Err(at("client_id: expected 1 to 128 bytes without control characters".to_owned()));
            }
            if let Some(bad) = entry.scopes.iter().find(|scope| !is_scope_token(scope)) {
                return Err(at(format!("scopes: {bad:?} is not a scope (RFC 6749 §3.3)")));
            }
            if entry.audiences.iter().any(String::is_empty) {
                return Err(at("audiences: expected no empty one".to_owned()));
            }
            let registration = Registration {
                spiffe_id,
                role_unique_id: entry.role_unique_id,
                client_id: entry.client_id,
                scopes: entry.scopes,
                audiences: entry.audiences,
            };
            if registry.insert(role, registration).is_some() {
                return Err(at("role_arn: listed twice".to_owned()));
            }
        }
        Ok(Self(registry))
    }

    /// True if nobody is registered.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The registration of a role.
    pub fn get(&self, role: &RoleArn) -> Option<&Registration> {
        self.0.get(role)
    }

    /// Whether a role has this client id.
    pub fn has_client(&self, client_id: &str) -> bool {
        self.0.values().any(|registration| registration.client_id == client_id)
    }
}

impl Registration {
    /// Refuses a role of the registered name that is not the one that was registered. `shown` is the unique id that
    /// AWS has authenticated.
    ///
    /// # Errors
    /// 403 `access_denied`, with both ids for the log.
    pub(crate) fn check_unique_id(&self, shown: Option<&str>) -> Result<(), Refusal> {
        match &self.role_unique_id {
            Some(registered) if shown != Some(registered) => {
                let refusal = Refusal::new(403, "access_denied", "the IAM role is not the one that was registered");
                let shown = shown.unwrap_or("none");
                let why = format!("the role was re-created: found the unique id {shown}, expected {registered}");
                Err(refusal.with_detail(why))
            }
            _ => Ok(()),
        }
    }
}

/// RFC 6749 §3.3: `scope-token = 1*( %x21 / %x23-5B / %x5D-7E )`.
pub(crate) fn is_scope_token(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5B | 0x5D..=0x7E))
}

/// RFC 6749 appendix A.1 allows printable ASCII. Other letters are taken too (the form encoding of §2.3.1 carries
/// them); what is bounded is the length, and an empty id would name nobody.
pub(crate) fn is_client_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && !id.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    fn entry() -> Value {
        json!({"role_arn": "arn:aws:iam::123456789012:role/reviews", "namespace": "bookinfo",
            "service_account": "bookinfo-reviews", "client_id": "bookinfo-reviews",
            "scopes": ["ratings.read"], "audiences": ["bookinfo"]})
    }

    fn parse(value: &Value) -> Result<Registry, String> {
        Registry::parse(&value.to_string(), &"cluster.local".parse().unwrap())
    }

    #[test]
    fn a_role_has_a_workload_identity() {
        let registry = parse(&json!([entry()])).unwrap();
        let role = "arn:aws:iam::123456789012:role/reviews".parse().unwrap();
        let registration = registry.get(&role).unwrap();
        assert_eq!(registration.spiffe_id.as_str(), "spiffe://cluster.local/ns/bookinfo/sa/bookinfo-reviews");
        let other = "arn:aws:iam::999999999999:role/reviews".parse().unwrap();
        assert!(registry.get(&other).is_none());
        assert!(parse(&json!([])).unwrap().get(&role).is_none());
    }

    #[test]
    fn a_role_that_was_made_again_is_another_one() {
        let mut pinned = entry();
        pinned["role_unique_id"] = json!("AROAEXAMPLE1");
        let role = "arn:aws:iam::123456789012:role/reviews".parse().unwrap();
        for (registry, shown, good) in [
            (json!([entry()]), None, true),
            (json!([entry()]), Some("AROAEXAMPLE2"), true),
            (json!([pinned]), Some("AROAEXAMPLE1"), true),
            (json!([pinned]), Some("AROAEXAMPLE2"), false),
            (json!([pinned]), Some("AROAEXAMPLE"), false),
            (json!([pinned]), None, false),
        ] {
            let checked = parse(&registry).unwrap().get(&role).unwrap().check_unique_id(shown);
            assert_eq!(checked.is_ok(), good, "{shown:?}");
            let detail = checked.err().and_then(|refusal| refusal.detail).unwrap_or_default();
            assert_eq!(detail.contains("re-created"), !good, "{detail}");
        }
    }

    #[test]
    fn wrong_registries_are_refused_by_entry_and_field() {
        let with = |member: &str, value: Value| {
            let mut changed = entry();
            changed[member] = value;
            changed["role_arn"] = if member == "role_arn" {
                changed["role_arn"].clone()
            } else {
                json!("arn:aws:iam::123456789012:role/second")
            };
            json!([entry(), changed])
        };
        for (registry, named) in [
            (json!({}), "JSON array"),
            (with("role_arn", json!("arn:aws:iam::123456789012:role/path/reviews")), "[1].role_arn: expected arn:"),
            (with("role_arn", json!("arn:aws:iam::123456789012:role/reviews")), "[1].role_arn: listed twice"),
            (with("role_unique_id", json!("AIDAEXAMPLE")), "[1].role_unique_id"),
            (with("role_unique_id", json!("AROA")), "[1].role_unique_id"),
            (with("role_unique_id", json!("AROAx")), "[1].role_unique_id"),
            (with("namespace", json!("a/sa/b")), "[1].namespace"),
            (with("service_account", json!("")), "[1].namespace and service_account"),
            (with("client_id", json!("")), "[1].client_id"),
            (with("scopes", json!(["a b"])), "[1].scopes"),
            (with("audiences", json!([""])), "[1].audiences"),
            (with("rolearn", json!("x")), "unknown field `rolearn`"),
        ] {
            let error = parse(&registry).unwrap_err();
            assert!(error.contains(named), "{named}: {error}");
        }
    }
}
