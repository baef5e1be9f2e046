//! The gate, asked once more with something changed.

use std::collections::BTreeMap;

use authz::trace::CredentialTrace;
use authz::{CompileOptions, Decision, Given, KeySets, Policies, Request, Target};
use istio::Resources;

use super::nearest::{Again, Retry};
use super::reissue::{self, ClaimEdit};
use crate::configuration;
use crate::session::{Case, Session};

/// The configuration and the request that were judged.
pub(crate) struct Rerun<'a> {
    pub(crate) session: &'a Session,
    pub(crate) case: &'a Case,
    pub(crate) given: Given<'a>,
}

impl Retry for Rerun<'_> {
    fn request(&self, request: &Request) -> Option<Again> {
        // Another host may be another API.
        if request.host != self.case.request.host && matches!(self.case.target, Target::ApiGateway { .. }) {
            return None;
        }
        // A credential that stands elsewhere now is looked up anew.
        let case = self.session.with_request(self.case, request.clone());
        let given = Given { now: self.given.now, ..self.session.given(&case) };
        Some(again(&authz::decide(&self.session.loaded.policies, &case.request, &case.target, &given)))
    }

    fn resources(&self, edit: &dyn Fn(&mut Resources) -> bool) -> Option<Again> {
        let mut resources = self.session.loaded.resources.clone()?;
        if !edit(&mut resources) {
            return None;
        }
        let changed = self.compiled(&resources)?;
        Some(again(&authz::decide(&changed, &self.case.request, &self.case.target, &self.given)))
    }

    fn token(&self, request: &Request, edits: &[ClaimEdit], fresh: Option<&CredentialTrace>) -> Option<Again> {
        let loaded = &self.session.loaded;
        let (request, resources) =
            reissue::reissued(loaded.resources.as_ref()?, request, edits, fresh, self.given.now)?;
        let changed = self.compiled(&resources)?;
        let keys = KeySets::embedded(&changed).ok()?;
        let case = self.session.with_request(self.case, request);
        let given = Given { now: self.given.now, keys: &keys, ..self.session.given(&case) };
        Some(again(&authz::decide(&changed, &case.request, &case.target, &given)))
    }

    fn keys(&self, issuer: &str) -> Vec<String> {
        let sources = self.session.loaded.policies.key_sources().filter(|source| source.issuer == issuer);
        let mut names: Vec<String> = sources.filter_map(|source| source.document).flat_map(key_names).collect();
        names.dedup();
        names
    }

    fn at(&self, now: u64) -> Option<Again> {
        let given = Given { now, ..self.given };
        Some(again(&authz::decide(&self.session.loaded.policies, &self.case.request, &self.case.target, &given)))
    }
}

impl Rerun<'_> {
    /// Another configuration with the key sets of this one.
    fn compiled(&self, resources: &Resources) -> Option<Policies> {
        let policies = &self.session.loaded.policies;
        let mut jwks = BTreeMap::new();
        for source in policies.key_sources() {
            if let (Some(document), name) = (source.document, source.jwks_uri.unwrap_or(source.issuer)) {
                jwks.insert(name.to_owned(), document.to_owned());
            }
        }
        // Whatever the configuration may hold was allowed when it was loaded.
        let options = CompileOptions { jwks, mode: policies.mode(), allow_waypoint_policies: true };
        let compiled = configuration::compile(resources, &options).ok()?;
        Policies::open(&compiled.section).ok()
    }
}

fn again(decision: &Decision) -> Again {
    let by = decision.policy().map_or_else(String::new, |policy| format!(" by {policy}"));
    let (status, reason) = (decision.status(), decision.reason());
    let at = match decision.hop() {
        authz::Hop::Request => String::new(),
        hop => format!(" at the {hop}"),
    };
    Again {
        allowed: decision.is_allowed(),
        words: format!("then {status} {reason}{by}{at}"),
        reason,
        policy: decision.policy().map(str::to_owned),
    }
}

/// The keys of a key set by what a token names them by: `KID (ALG)`.
fn key_names(document: &str) -> Vec<String> {
    let set: serde_json::Value = serde_json::from_str(document).unwrap_or_default();
    let keys = set.get("keys").and_then(serde_json::Value::as_array);
    let name = |key: &serde_json::Value| {
        let text = |member: &str| key.get(member).and_then(serde_json::Value::as_str);
        let kind = text("alg").or_else(|| text("crv")).or_else(|| text("kty")).unwrap_or("of no known type");
        format!("{} ({kind})", text("kid").unwrap_or("one without kid"))
    };
    keys.into_iter().flatten().map(name).collect()
}
