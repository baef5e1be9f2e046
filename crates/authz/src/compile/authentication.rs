//! `RequestAuthentication` and `ApiKeyAuthentication`, compiled.

use std::collections::BTreeSet;

use istio::Meta;

use super::{Compiler, labels, target_refs};
use crate::api_key::fingerprint;
use crate::compiled::{
    ApiKeyAuthentication, ClaimToHeader, JwtRule, KeySource, Mode, RequestAuthentication, TokenHeader,
};
use crate::jwk::{Jwks, JwksError, KeyOrigin};
use crate::jwt::normal_audience;

/// Where OpenID Connect Discovery puts the document that names `jwks_uri`.
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// How long fetching a key set may take: Istio's value.
const TIMEOUT_MILLISECONDS: u64 = 5_000;

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
        // DESIGN 3: "no effect and a warning in `istio` mode, in `strict` REQUIRED makes a missing token 401".
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

    fn key_source(&mut self, meta: &Meta, rule: &istio::JwtRule) -> u32 {
        let issuer = &rule.issuer;
        let discovery = format!("{}{DISCOVERY}", issuer.strip_suffix('/').unwrap_or(issuer));
        // Keys that were fetched go by their URL, or by the issuer.
        let jwks = &self.options.jwks;
        let by_issuer = || jwks.get(issuer).filter(|_| !issuer.is_empty());
        let (jwks_uri, discovery, mut document, origin) = match (&rule.jwks, &rule.jwks_uri) {
            (Some(_), Some(_)) => {
                self.error(meta, format!("issuer {issuer} has both jwks and jwksUri"));
                return 0;
            }
            (Some(inline), None) => (None, None, Some(inline), KeyOrigin::Inline),
            (None, Some(uri)) => (Some(uri), None, jwks.get(uri).or_else(by_issuer), KeyOrigin::Fetched),
            (None, None) => {
                let given = jwks.get(&discovery).or_else(by_issuer);
                if issuer.is_empty() {
                    self.error(meta, "a rule without an issuer needs jwksUri");
                } else if given.is_none() {
                    let message = format!("issuer {issuer:?} has neither jwks nor jwksUri");
                    match self.options.mode {
                        Mode::Strict => self.error(
                            meta,
                            format!("{message}; name its jwksUri, or let `--fetch` find its keys by discovery"),
                        ),
                        Mode::Istio => self.warn(
                            meta,
                            format!("{message}; without `--fetch`, which finds its keys by discovery, its tokens are refused"),
                        ),
                    }
                }
                (None, Some(discovery), given, KeyOrigin::Fetched)
            }
        };
        if let Some(text) = document {
            let unusable = match Jwks::parse_as(text, origin, self.options.mode) {
                Ok(jwks) if jwks.is_empty() => {
                    let why: BTreeSet<&str> = jwks.skipped().iter().map(|key| key.why).collect();
                    let why: Vec<&str> = why.into_iter().collect();
                    Some((format!("key set of {issuer} has no usable key: {}", why.join(", ")), true))
                }
                Ok(_) => None,
                // Istio's validation refuses inline text that is no key set at all ("jwks parse error").
                Err(error @ (JwksError::Json(_) | JwksError::Shape)) => {
                    Some((format!("key set of {issuer}: {error}"), origin == KeyOrigin::Fetched))
                }
                Err(error) => Some((format!("key set of {issuer}: {error}"), true)),
            };
            match unusable {
                // Istio puts a key that nobody holds in the place of a set that cannot be had: tokens are 401.
                Some((message, true)) if self.options.mode == Mode::Istio => {
                    self.warn(meta, format!("{message}; its tokens are refused"));
                    document = None;
                }
                Some((message, _)) => self.error(meta, message),
                None => {}
            }
        }
        let source = KeySource {
            issuer: issuer.clone(),
            jwks_uri: jwks_uri.cloned(),
            document: document.cloned(),
            fingerprint: document.map(|document| fingerprint(document)),
            discovery,
            timeout_milliseconds: rule
                .timeout
                .map_or(TIMEOUT_MILLISECONDS, |timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
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
