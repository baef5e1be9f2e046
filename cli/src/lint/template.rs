//! `causeway lint --template`: what deployment templates make of the policies.
//!
//! A template names its APIs by logical ids, and an `ApiGateway` document names its API by the id that AWS gives it. So an
//! authorizer is judged by every document whose stage it can have.

mod around;
pub(super) mod cache;
mod cache_codes;
pub(super) mod headers;
pub(super) mod routes;
mod shadow_mode;
mod unseen;

use authz::api::{Access, Api, ApiKind, Authorizer, AuthorizerKind, Route, Text};
use authz::{ApiGatewayInfo, Policies};
use istio::Resources;

use super::finding::{Code, Finding, Findings};
use crate::template::{Function, Templates, is_published_alias, words};

/// What is looked at.
pub(super) struct Deployment<'a> {
    pub(super) policies: &'a Policies,
    pub(super) resources: &'a Resources,
    pub(super) templates: &'a Templates,
}

pub(super) type Check = fn(&Deployment<'_>, &mut Findings);

/// Each topic: what it can find, and how.
pub(super) const TOPICS: &[(&[&Code], Check)] = &[
    (around::CODES, around::check),
    (cache::CODES, cache::check),
    (headers::CODES, headers::check),
    (routes::CODES, routes::check),
    (shadow_mode::CODES, shadow_mode::check),
    (unseen::CODES, unseen::check),
];

impl<'a> Deployment<'a> {
    /// Our authorizers, each with its API and its place in it.
    pub(super) fn authorizers(&self) -> impl Iterator<Item = (&'a Api, u32, &'a Authorizer)> {
        self.templates.apis().iter().flat_map(|api| {
            let own = api.authorizers.iter().enumerate().filter(|(_, authorizer)| self.is_ours(authorizer));
            own.filter_map(move |(index, authorizer)| Some((api, u32::try_from(index).ok()?, authorizer)))
        })
    }

    /// Whether an authorizer asks our function: one that the templates do not have, or one with a variable of ours, as
    /// far as they show its variables.
    pub(super) fn is_ours(&self, authorizer: &Authorizer) -> bool {
        let may_be = |function: &Function| function.is_causeway || function.hides_variables;
        authorizer.kind != AuthorizerKind::Jwt && self.function(authorizer).is_none_or(may_be)
    }

    /// Whether an API asks our authorizer. One of another stack is taken for the central API.
    pub(super) fn has_ours(&self, api: &Api) -> bool {
        api.kind.is_none() || api.authorizers.iter().any(|one| self.is_ours(one))
    }

    /// The function of an authorizer, if it is in the templates.
    pub(super) fn function(&self, authorizer: &Authorizer) -> Option<&'a Function> {
        let reference = authorizer.function.as_ref()?.as_str();
        let words: Vec<&str> = words(reference).collect();
        let is_named = |function: &&Function| words.contains(&function.name.as_str());
        // After all names: the logical id of an alias may be any word of another function's reference, as `live` is.
        let is_aliased = |function: &&Function| function.aliases.iter().any(|one| words.contains(&one.as_str()));
        let is_published = |function: &&Function| {
            words.iter().any(|word| is_published_alias(word, &function.name)) && function.is_published
        };
        let functions = self.templates.functions();
        let by_name = functions.iter().find(is_named);
        by_name.or_else(|| functions.iter().find(is_aliased)).or_else(|| functions.iter().find(is_published))
    }

    /// The `ApiGateway` documents that can be for this API.
    pub(super) fn gateways(&self, api: &'a Api) -> impl Iterator<Item = ApiGatewayInfo<'a>> + use<'a> {
        let policies: &'a Policies = self.policies;
        policies.api_gateways().filter(|gateway| {
            api.stages.is_empty()
                || api.stages.iter().any(|stage| match stage {
                    Text::Known(stage) => stage == gateway.stage,
                    Text::Opaque(_) => true,
                })
        })
    }
}

/// The routes that ask the authorizer with this index.
pub(super) fn routes_of(api: &Api, index: u32) -> impl Iterator<Item = &Route> {
    api.routes.iter().filter(move |route| route.access == Access::Authorizer(index))
}

pub(super) fn is_http(api: &Api) -> bool {
    api.kind.is_none_or(|kind| kind == ApiKind::Http)
}

/// `METHOD PATH`.
pub(super) fn route_key(route: &Route) -> String {
    format!("{} {}", route.method, route.path).trim_start().to_owned()
}

impl Findings {
    /// A finding in a template.
    pub(super) fn in_template(
        &mut self,
        code: &'static Code,
        place: (&str, u32),
        resource: impl Into<String>,
        message: impl Into<String>,
        instead: impl Into<String>,
    ) {
        let (file, line) = place;
        self.push(Finding {
            code: code.name,
            severity: code.severity,
            file: file.to_owned(),
            line,
            resource: resource.into(),
            path: String::new(),
            message: message.into(),
            instead: instead.into(),
        });
    }
}
