//! `RequestAuthentication` and `ApiKeyAuthentication`, compiled.

use istio::Meta;

use super::{Compiler, labels, target_refs};
use crate::compiled::{ApiKeyAuthentication, ClaimToHeader, JwtRule, Mode, RequestAuthentication, TokenHeader};
use crate::jwt::normal_audience;

impl<'a> Compiler<'a> {
    pub(super) fn request_authentication(
        &mut self,
        authentication: &'a istio::RequestAuthentication,
    ) -> RequestAuthentication {
        let meta = &authentication.meta;
        self.check_attachment(meta, authentication.selector.as_ref(), &authentication.target_refs);
        RequestAuthentication {
            name: meta.name.clone(),
            selector: labels(authentication.selector.as_ref()),
            target_refs: target_refs(&authentication.target_refs),
            rules: authentication.jwt_rules.iter().map(|rule| self.jwt_rule(meta, rule)).collect(),
        }
    }

    fn jwt_rule(&mut self, meta: &Meta, rule: &'a istio::JwtRule) -> JwtRule {
        let given = |header: &istio::JwtHeader| TokenHeader {
            name: header.name.to_ascii_lowercase(),
            prefix: header.prefix.clone(),
        };
        let mut headers: Vec<TokenHeader> = rule.from_headers.iter().map(given).collect();
        let mut parameters = rule.from_params.clone();
        let mut cookies = rule.from_cookies.clone();
        // "Default locations when none set: header Authorization with prefix "Bearer " and query
        // access_token. Any explicit location replaces both."
        if headers.is_empty() && parameters.is_empty() && cookies.is_empty() {
            headers.push(TokenHeader { name: "authorization".to_owned(), prefix: "Bearer ".to_owned() });
            parameters.push("access_token".to_owned());
        }
        // Envoy keeps locations in sorted maps: headers by name and prefix in one text.
        headers.sort_by_key(|header| format!("{}{}", header.name, header.prefix));
        headers.dedup_by(|a, b| a.name == b.name && a.prefix == b.prefix);
        for names in [&mut parameters, &mut cookies] {
            names.sort_unstable();
            names.dedup();
        }
        let outputs = rule.output_claim_to_headers.iter().map(|output| ClaimToHeader {
            header: output.header.to_ascii_lowercase(),
            path: output.claim.split('.').map(str::to_owned).collect(),
        });
        // "No effect and a warning in `istio` mode, in `strict` REQUIRED makes a missing token 401".
        let required = rule.presence == istio::Presence::Required;
        if required && self.options.mode == Mode::Istio {
            let issuer = &rule.issuer;
            self.warn(meta, format!("presence REQUIRED of issuer {issuer:?} has no effect in Istio; only an AuthorizationPolicy demands a token"));
        }
        JwtRule {
            issuer: rule.issuer.clone(),
            audiences: rule.audiences.iter().map(|audience| normal_audience(audience).to_owned()).collect(),
            keys: self.key_source(meta, rule),
            forward_original_token: rule.forward_original_token,
            headers,
            parameters,
            cookies,
            payload_header: rule.output_payload_to_header.as_ref().map(|name| name.to_ascii_lowercase()),
            outputs: outputs.collect(),
            space_delimited_claims: rule.space_delimited_claims.clone(),
            required: required && self.options.mode == Mode::Strict,
        }
    }

    pub(super) fn api_key_authentication(
        &mut self,
        authentication: &istio::ApiKeyAuthentication,
    ) -> ApiKeyAuthentication {
        let meta = &authentication.meta;
        self.check_attachment(meta, authentication.selector.as_ref(), &[]);
        if authentication.issuer.is_empty() || authentication.header_name.is_empty() {
            self.error(meta, "issuer and headerName must not be empty");
        }
        ApiKeyAuthentication {
            name: meta.name.clone(),
            selector: labels(authentication.selector.as_ref()),
            issuer: authentication.issuer.clone(),
            header_name: authentication.header_name.to_ascii_lowercase(),
            forward_original_key: authentication.forward_original_key,
        }
    }
}
