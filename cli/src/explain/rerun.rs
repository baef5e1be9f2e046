//! The gate, asked once more with something changed.

use std::collections::BTreeMap;

use authz::{CompileOptions, Decision, Given, Policies, Request, Target};
use istio::Resources;

use super::nearest::{Again, Retry};
use crate::configuration::{self, Loaded};
use crate::session::Case;

/// The configuration and the request that were judged.
pub(crate) struct Rerun<'a> {
    pub(crate) loaded: &'a Loaded,
    pub(crate) case: &'a Case,
    pub(crate) given: Given<'a>,
}

impl Retry for Rerun<'_> {
    fn request(&self, request: &Request) -> Option<Again> {
        // Another host may be another API.
        if request.host != self.case.request.host && matches!(self.case.target, Target::ApiGateway { .. }) {
            return None;
        }
        Some(again(&authz::decide(&self.loaded.policies, request, &self.case.target, &self.given)))
    }

    fn resources(&self, edit: &dyn Fn(&mut Resources) -> bool) -> Option<Again> {
        let mut resources = self.loaded.resources.clone()?;
        if !edit(&mut resources) {
            return None;
        }
        let policies = &self.loaded.policies;
        let mut jwks = BTreeMap::new();
        for source in policies.key_sources() {
            if let (Some(document), name) = (source.document, source.jwks_uri.unwrap_or(source.issuer)) {
                jwks.insert(name.to_owned(), document.to_owned());
            }
        }
        // Whatever the configuration may hold was allowed when it was loaded.
        let options = CompileOptions { jwks, mode: policies.mode(), allow_waypoint_policies: true };
        let compiled = configuration::compile(&resources, &options).ok()?;
        let changed = Policies::open(&compiled.section).ok()?;
        Some(again(&authz::decide(&changed, &self.case.request, &self.case.target, &self.given)))
    }

    fn at(&self, now: u64) -> Option<Again> {
        let given = Given { now, ..self.given };
        Some(again(&authz::decide(&self.loaded.policies, &self.case.request, &self.case.target, &given)))
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
