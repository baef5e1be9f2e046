//! Output headers of tokens: each needs a context key of its own where an API hands it to an integration.

use std::collections::BTreeMap;

use istio::{JwtRule, RequestAuthentication};

use super::Compiler;
use crate::context_key::{CONTEXT_KEYS, context_key};

impl Compiler<'_> {
    /// Two headers with one context key would be one to the integration, and the last of them would win. Envoy knows no
    /// such keys: the `istio` mode takes them.
    pub(super) fn check_context_keys(&mut self) {
        let resources = self.resources;
        if resources.api_gateways.is_empty() {
            return;
        }
        // Key → the first header that has it, and where that one stands.
        let mut taken: BTreeMap<String, (String, String)> = BTreeMap::new();
        let mut refused = Vec::new();
        for authentication in &resources.request_authentications {
            for (path, header) in outputs(authentication) {
                let key = context_key(&header);
                if CONTEXT_KEYS.contains(&key.as_str()) {
                    let message = format!(
                        "{path}: the header {header} becomes the context key {key} at API Gateway, which is the \
                         authorizer's own; name it otherwise, such as x-jwt-{header}"
                    );
                    refused.push((&authentication.meta, message));
                    continue;
                }
                let here = || (header.clone(), format!("{path} at {}", authentication.meta.origin));
                let (other, place) = taken.entry(key.clone()).or_insert_with(here);
                if *other != header {
                    let message = format!(
                        "{path}: the header {header} becomes the context key {key} at API Gateway, and so does {other} \
                         ({place}); name one of them otherwise"
                    );
                    refused.push((&authentication.meta, message));
                }
            }
        }
        for (meta, message) in refused {
            self.complain(meta, message);
        }
    }
}

/// Path and name, in lower case, of the headers that are made out of tokens.
fn outputs(authentication: &RequestAuthentication) -> impl Iterator<Item = (String, String)> {
    let of_rule = |(index, rule): (usize, &JwtRule)| {
        let at = format!("spec.jwtRules[{index}]");
        let payload = rule.output_payload_to_header.iter();
        let payload = payload.map(|header| (format!("{at}.outputPayloadToHeader"), header.to_ascii_lowercase()));
        let claims = rule.output_claim_to_headers.iter().enumerate().map(|(index, output)| {
            (format!("{at}.outputClaimToHeaders[{index}].header"), output.header.to_ascii_lowercase())
        });
        payload.chain(claims).collect::<Vec<_>>()
    };
    authentication.jwt_rules.iter().enumerate().flat_map(of_rule)
}
