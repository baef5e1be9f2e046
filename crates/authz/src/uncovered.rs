//! Why no `ApiGateway` document covers an API.

use std::fmt;

use crate::Policies;
use crate::policies::ApiGatewayInfo;

/// Documents that are named, at most.
const MOST: usize = 3;

/// An API that no `ApiGateway` document covers, and why not.
#[derive(Debug)]
pub(crate) struct Uncovered<'a> {
    pub(crate) policies: &'a Policies,
    pub(crate) api_id: &'a str,
    pub(crate) stage: &'a str,
    pub(crate) domain: &'a str,
}

impl fmt::Display for Uncovered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { policies, api_id, stage, domain } = *self;
        write!(f, "no ApiGateway document covers the API {api_id}, stage {stage}, domain {domain}: ")?;
        let of_api: Vec<ApiGatewayInfo<'_>> = policies.api_gateways().filter(|one| one.api_id == api_id).collect();
        if !of_api.is_empty() {
            return match of_api.iter().any(|one| one.stage == stage) {
                true => f.write_str("those that name this apiId and stage have other domains"),
                false => write!(f, "{} this apiId for another stage", named(&of_api, "names", "name")),
            };
        }
        let of_domain: Vec<ApiGatewayInfo<'_>> = policies.api_gateways_at(domain).collect();
        match of_domain.as_slice() {
            [] => f.write_str("none names this apiId or has this domain"),
            [one] => write!(f, "{} has this domain, and is for the API {}, stage {}", one.name, one.api_id, one.stage),
            several => write!(f, "{} documents have this domain and none names this apiId", several.len()),
        }
    }
}

fn named(documents: &[ApiGatewayInfo<'_>], one: &str, several: &str) -> String {
    let names: Vec<&str> = documents.iter().take(MOST).map(|document| document.name).collect();
    let more = if documents.len() > MOST { ", …" } else { "" };
    format!("{}{more} {}", names.join(", "), if documents.len() == 1 { one } else { several })
}
