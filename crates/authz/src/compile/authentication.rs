//! `RequestAuthentication` and `ApiKeyAuthentication`, compiled.

use std::collections::BTreeSet;

use istio::Meta;

use super::{Compiler, labels, target_refs};
use crate::api_key::fingerprint;
use crate::compiled::{ApiKeyAuthentication, ClaimToHeader, JwtRule, KeySource, RequestAuthentication, TokenHeader};
use crate::jwk::{Jwks, KeyOrigin};
use crate::jwt::normal_audience;

impl Compiler<'_> {
    pub(super) fn request_authentication(
        &mut self,
        authentication: &istio::RequestAuthentication,
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

    fn jwt_rule(&mut self, meta: &Meta, rule: &istio::JwtRule) -> JwtRule {
        // "Default locations when none set: header Authorization with prefix "Bearer " and query
        // access_token. Any explicit location replaces both."
        let (headers, parameters) = if rule.from_headers.is_empty() {
            let bearer = TokenHeader { name: "authorization".to_owned(), prefix: "Bearer ".to_owned() };
            (vec![bearer], vec!["access_token".to_owned()])
        } else {
            let headers = rule
                .from_headers
                .iter()
                .map(|header| TokenHeader { name: header.name.to_ascii_lowercase(), prefix: header.prefix.clone() });
            (headers.collect(), Vec::new())
        };
        let outputs = rule.output_claim_to_headers.iter().map(|output| ClaimToHeader {
            header: output.header.to_ascii_lowercase(),
            path: output.claim.split('.').map(str::to_owned).collect(),
        });
        JwtRule {
            issuer: rule.issuer.clone(),
            audiences: rule.audiences.iter().map(|audience| normal_audience(audience).to_owned()).collect(),
            keys: self.key_source(meta, rule),
            forward_original_token: rule.forward_original_token,
            headers,
            parameters,
            outputs: outputs.collect(),
        }
    }

    fn key_source(&mut self, meta: &Meta, rule: &istio::JwtRule) -> u32 {
        let by_uri = rule.jwks_uri.as_ref().and_then(|uri| self.options.jwks.get(uri));
        let by_issuer = || self.options.jwks.get(&rule.issuer).filter(|_| !rule.issuer.is_empty());
        let given = by_uri.or_else(by_issuer);
        let (jwks_uri, document, origin) = match (&rule.jwks, &rule.jwks_uri) {
            (Some(_), Some(_)) => {
                self.error(meta, format!("issuer {} has both jwks and jwksUri", rule.issuer));
                return 0;
            }
            (Some(inline), None) => (None, Some(inline), KeyOrigin::Inline),
            (None, Some(uri)) => (Some(uri), given, KeyOrigin::Fetched),
            (None, None) => {
                if given.is_none() {
                    self.error(
                        meta,
                        format!(
                            "issuer {:?} has neither jwks nor jwksUri, and finding its keys by \
                             discovery is not supported yet; name its jwksUri",
                            rule.issuer
                        ),
                    );
                }
                (None, given, KeyOrigin::Fetched)
            }
        };
        if let Some(document) = document {
            match Jwks::parse(document, origin) {
                Ok(jwks) if jwks.is_empty() => {
                    let why: BTreeSet<&str> = jwks.skipped().iter().map(|key| key.why).collect();
                    let why: Vec<&str> = why.into_iter().collect();
                    let issuer = &rule.issuer;
                    let why = why.join(", ");
                    self.error(meta, format!("key set of {issuer} has no usable key: {why}"));
                }
                Ok(_) => {}
                Err(error) => {
                    self.error(meta, format!("key set of {}: {error}", rule.issuer));
                }
            }
        }
        let source = KeySource {
            issuer: rule.issuer.clone(),
            jwks_uri: jwks_uri.cloned(),
            document: document.cloned(),
            fingerprint: document.map(|document| fingerprint(document)),
        };
        // Fetched keys go by their URL alone.
        let other = self.key_sources.iter().any(|known| {
            known.jwks_uri.is_some()
                && known.jwks_uri == source.jwks_uri
                && known.document != source.document
                && known.document.is_some()
                && source.document.is_some()
        });
        if other {
            let uri = source.jwks_uri.as_deref().unwrap_or_default();
            self.error(meta, format!("two different key sets were given for {uri}"));
        }
        let index = self.key_sources.iter().position(|known| *known == source);
        let index = index.unwrap_or_else(|| {
            self.key_sources.push(source);
            self.key_sources.len() - 1
        });
        u32::try_from(index).unwrap_or(u32::MAX)
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
