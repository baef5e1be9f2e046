//! Whether what API Gateway caches of our answers is what we would answer again.
//!
//! "A simple response is one boolean for everything under the key; a policy is evaluated again for each request's ARN." So
//! an IAM answer covers method and path by itself, and everything else that verdicts depend on must be in the key.

use authz::api::{Api, ApiKind, Authorizer, AuthorizerKind, Text};
use authz::read_set::{Read, ReadSet, Reader};

use super::cache_codes::{
    CERTIFICATE, DEFAULT_TTL, KEY, LIMITED, LONG, NEVER, NO_CREDENTIAL, PREFLIGHT, REPEATED, RESPONSE,
};
use super::{Deployment, is_http, routes_of};
use crate::lint::finding::{Code, Findings};

pub(in crate::lint) const CODES: &[&Code] =
    &[&KEY, &NEVER, &NO_CREDENTIAL, &CERTIFICATE, &REPEATED, &DEFAULT_TTL, &LIMITED, &LONG, &PREFLIGHT, &RESPONSE];

/// Longer than this an answer should not live, in seconds.
const LONG_TTL: u32 = 300;

/// What API Gateway takes where the template does not say, in seconds.
const REST_DEFAULT_TTL: u32 = 300;

pub(in crate::lint) fn check(deployment: &Deployment<'_>, findings: &mut Findings) {
    for (api, index, authorizer) in deployment.authorizers() {
        let one = One { deployment, api, index, authorizer };
        one.response(findings);
        one.cache(findings);
    }
}

/// One authorizer.
struct One<'a> {
    deployment: &'a Deployment<'a>,
    api: &'a Api,
    index: u32,
    authorizer: &'a Authorizer,
}

/// How something can become a part of the key.
enum Source {
    /// These identity sources, all of them.
    All(Vec<String>),
    /// It cannot.
    None,
}

impl One<'_> {
    fn place(&self) -> (&str, u32) {
        (&self.api.file, self.authorizer.line)
    }

    fn name(&self) -> String {
        format!("authorizer {} of the API {}", self.authorizer.name, self.api.reference.as_str())
    }

    fn response(&self, findings: &mut Findings) {
        let format = self.authorizer.payload_format.as_ref().map(Text::as_str);
        if !is_http(self.api) || !format.is_some_and(|format| format.starts_with('2')) {
            return;
        }
        let Some(function) = self.deployment.function(self.authorizer) else { return };
        let gives = match &function.response {
            None => "simple",
            Some(Text::Known(form)) => form,
            Some(Text::Opaque(_)) => return,
        };
        let wants = if self.authorizer.simple_responses { "simple" } else { "iam" };
        if gives != wants {
            let message = format!(
                "API Gateway waits for a response of the form `{wants}`, and {} gives `{gives}`",
                function.name
            );
            let instead = if wants == "iam" {
                "write `EnableSimpleResponses: true`, or set CAUSEWAY_RESPONSE to `iam`"
            } else {
                "take CAUSEWAY_RESPONSE away, or write `EnableSimpleResponses: false`"
            };
            findings.in_template(&RESPONSE, self.place(), self.name(), message, instead);
        }
    }

    /// Seconds that answers live.
    fn ttl(&self) -> u32 {
        match (self.authorizer.ttl_seconds, self.api.kind) {
            // It is asked when a client connects, and its answers are not kept.
            (_, Some(ApiKind::WebSocket)) => 0,
            (Some(ttl), _) => ttl,
            (None, Some(ApiKind::Rest)) => REST_DEFAULT_TTL,
            (None, _) => 0,
        }
    }

    fn cache(&self, findings: &mut Findings) {
        let (place, name) = (self.place(), self.name());
        if self.authorizer.ttl_seconds.is_none() && self.api.kind == Some(ApiKind::Rest) {
            let message = format!("the template does not say how long answers are cached: {REST_DEFAULT_TTL} seconds");
            findings.in_template(&DEFAULT_TTL, place, name.clone(), message, DEFAULT_TTL.instead);
        }
        let ttl = self.ttl();
        if ttl == 0 {
            return;
        }
        if let Some(function) = self.deployment.function(self.authorizer).filter(|function| function.limits_rates) {
            let message = format!(
                "answers are cached for {ttl} seconds, and {} limits rates: a cached answer takes no token, so that its \
                 client is not limited",
                function.name
            );
            findings.in_template(&LIMITED, place, name.clone(), message, LIMITED.instead);
        }
        if ttl > LONG_TTL {
            let message = format!("answers are cached for {ttl} seconds, whatever expires or is revoked in between");
            findings.in_template(&LONG, place, name.clone(), message, LONG.instead);
        }
        let mut set = ReadSet::default();
        for gateway in self.deployment.gateways(self.api) {
            if let Some(one) = authz::read_set(self.deployment.policies, gateway.name) {
                set.merge(&one);
            }
        }
        self.credentials(&set, findings);
        let (mut missing, mut why, mut impossible) = (Vec::new(), Vec::new(), Vec::new());
        for source in &self.authorizer.identity_sources {
            if let Text::Opaque(function) = source {
                impossible.push(format!("the identity source {function} is not known before deployment"));
            }
        }
        for (read, readers) in set.iter() {
            // Of a credential that comes twice, no answer is an allow that others could meet.
            let may_repeat = matches!(read, Read::Header(_)) && !set.credentials().contains(read);
            if may_repeat && self.api.kind == Some(ApiKind::Rest) && self.is_in_key(read) {
                let message = format!(
                    "{} is read ({}), and it is not known whether the key has all lines of it where it is repeated",
                    shown(read),
                    self.because(readers)
                );
                findings.in_template(&REPEATED, place, name.clone(), message, REPEATED.instead);
            }
            if self.is_covered(read) {
                continue;
            }
            let because = self.because(readers);
            match self.source(read) {
                Source::All(_) if *read == Read::ClientCertificate && !self.asks_for_certificates() => {
                    let message = format!(
                        "answers are cached for {ttl} seconds, the client's certificate is read ({because}), and it is not \
                         known whether the domain of the API has mutual TLS"
                    );
                    findings.in_template(&CERTIFICATE, place, name.clone(), message, CERTIFICATE.instead);
                }
                Source::None => impossible.push(format!("{} is read ({because})", shown(read))),
                Source::All(_) if *read == Read::Preflight => {
                    let message = format!(
                        "it is asked about OPTIONS requests, and tokens of preflights are not looked at ({because})"
                    );
                    findings.in_template(&PREFLIGHT, place, name.clone(), message, PREFLIGHT.instead);
                }
                Source::All(sources) => {
                    why.push(format!("{} is read ({because})", shown(read)));
                    missing.extend(sources);
                }
            }
        }
        if !impossible.is_empty() {
            let message = format!("answers are cached for {ttl} seconds, and {}", impossible.join(", "));
            findings.in_template(&NEVER, place, name.clone(), message, "the TTL must be 0");
        }
        if !missing.is_empty() {
            let message =
                format!("answers are cached for {ttl} seconds, and the key has too little: {}", why.join(", "));
            let instead = format!(
                "set the TTL to 0, or see docs/caching.md and add the identity sources {}, each of which every request must \
                 then have",
                missing.join(", ")
            );
            findings.in_template(&KEY, place, name, message, instead);
        }
    }

    /// "Never configure only non-token identity sources."
    fn credentials(&self, set: &ReadSet, findings: &mut Findings) {
        let places = set.credentials();
        if places.is_empty() || places.iter().any(|place| self.is_in_key(place)) {
            return;
        }
        let sources = places.first().map_or_else(Vec::new, |place| match self.source(place) {
            Source::All(sources) => sources,
            Source::None => Vec::new(),
        });
        let message = "nothing in the key says who calls: the first caller's answer serves everyone";
        let instead = format!("add {}, or set the TTL to 0", sources.join(", "));
        findings.in_template(&NO_CREDENTIAL, self.place(), self.name(), message, instead);
    }

    fn has(&self, wanted: &str) -> bool {
        let wanted = wanted.trim_start_matches('$').replace("method.request.", "request.");
        self.authorizer.identity_sources.iter().any(|source| {
            let Text::Known(source) = source else { return false };
            let source = source.trim_start_matches('$').replace("method.request.", "request.");
            // Names of headers have no case, those of query parameters do.
            let is_header = wanted.starts_with("request.header.");
            source == wanted || (is_header && source.eq_ignore_ascii_case(&wanted))
        })
    }

    fn is_in_key(&self, read: &Read) -> bool {
        matches!(self.source(read), Source::All(sources) if sources.iter().all(|source| self.has(source)))
    }

    /// The domains that the documents for the API name.
    fn domains(&self) -> impl Iterator<Item = &str> {
        let names: Vec<&str> = self.deployment.gateways(self.api).map(|gateway| gateway.name).collect();
        let documents = self.deployment.resources.api_gateways.iter();
        let own = documents.filter(move |one| {
            names.iter().any(|name| name.split_once('/') == Some((&one.meta.namespace, &one.meta.name)))
        });
        own.flat_map(|document| document.domains.iter().map(String::as_str))
    }

    /// Whether a domain of the API has mutual TLS; one whose name only the deployment knows may be of the API.
    fn asks_for_certificates(&self) -> bool {
        let mut asking = self.deployment.templates.domains().iter().filter(|domain| domain.mutual_tls);
        asking.any(|domain| match &domain.name {
            Text::Opaque(_) => true,
            Text::Known(name) => self.domains().any(|own| own.eq_ignore_ascii_case(name)),
        })
    }

    /// Whether the templates show every domain of the API, and none of them with mutual TLS. "Mutual TLS needs a custom
    /// domain": the one that API Gateway gives an API never asks for a certificate.
    fn shows_no_certificates(&self) -> bool {
        let shown = |own: &str| {
            let mut domains = self.deployment.templates.domains().iter();
            domains.any(|domain| matches!(&domain.name, Text::Known(name) if own.eq_ignore_ascii_case(name)))
        };
        let given = |own: &str| own.contains(".execute-api.") && own.contains(".amazonaws.com");
        let mut own = self.domains().peekable();
        own.peek().is_some() && own.all(|own| given(own) || shown(own)) && !self.asks_for_certificates()
    }

    fn is_iam(&self) -> bool {
        !self.authorizer.simple_responses
    }

    /// Whether every route of it has one path and one method, so that the route says both.
    fn routes_are_exact(&self, what: &Read) -> bool {
        let mut routes = routes_of(self.api, self.index).peekable();
        routes.peek().is_some()
            && routes.all(|route| match what {
                Read::Method => !route.method.is_empty() && route.method != "ANY",
                _ => !route.path.contains(['{', '$']),
            })
    }

    fn is_covered(&self, read: &Read) -> bool {
        // The event of a TOKEN authorizer has neither headers nor addresses: rules on them are settled without.
        let is_token = self.authorizer.kind == AuthorizerKind::Token;
        match read {
            Read::Time => true,
            Read::Path | Read::Method if self.is_iam() => true,
            Read::Path | Read::Method => {
                let by_route = self.has("$context.routeKey") && self.routes_are_exact(read);
                by_route || self.is_in_key(read)
            }
            Read::Preflight => {
                let mut routes = routes_of(self.api, self.index).peekable();
                let asked = routes.peek().is_none()
                    || routes.any(|route| matches!(route.method.as_str(), "" | "ANY" | "OPTIONS"));
                is_token || !asked || self.is_in_key(read)
            }
            Read::Header(name) if is_token => name != "authorization" || self.is_in_key(read),
            Read::Provider(_) => false,
            Read::ClientCertificate if self.shows_no_certificates() => true,
            _ if is_token => true,
            _ => self.is_in_key(read),
        }
    }

    fn source(&self, read: &Read) -> Source {
        let (request, context) =
            if is_http(self.api) { ("$request", "$context") } else { ("method.request", "context") };
        let one = |source: String| Source::All(vec![source]);
        match read {
            Read::Header(name) => one(format!("{request}.header.{}", capitalised(name))),
            Read::Cookie(_) => one(format!("{request}.header.Cookie")),
            Read::Parameter(name) => one(format!("{request}.querystring.{name}")),
            Read::Path => one(format!("{context}.path")),
            Read::Method => one(format!("{context}.httpMethod")),
            Read::Host => one(format!("{context}.domainName")),
            Read::Stage => one(format!("{context}.stage")),
            Read::ClientAddress => one(format!("{context}.identity.sourceIp")),
            Read::ClientCertificate => one(format!("{context}.identity.clientCert.clientCertPem")),
            Read::Preflight => Source::All(vec![
                format!("{request}.header.Origin"),
                format!("{request}.header.Access-Control-Request-Method"),
            ]),
            Read::Query | Read::Provider(_) | Read::Time => Source::None,
        }
    }

    /// The first reader, by its document where it has one.
    fn because(&self, readers: &[Reader]) -> String {
        let Some(first) = readers.iter().find(|reader| !reader.resource.is_empty()).or(readers.first()) else {
            return String::new();
        };
        if first.resource.is_empty() {
            return first.field.clone();
        }
        let origin = self.origin(&first.resource).map(|origin| format!(" at {}:{}", origin.file, origin.line));
        format!("{}{}, {}", first.resource, origin.unwrap_or_default(), first.field)
    }

    /// Where a document `KIND NAMESPACE/NAME` stands.
    fn origin(&self, resource: &str) -> Option<&istio::Origin> {
        let (kind, name) = resource.split_once(' ')?;
        let (namespace, name) = name.split_once('/')?;
        let all = self.deployment.resources;
        let metas: Vec<&istio::Meta> = match kind {
            "AuthorizationPolicy" => all.authorization_policies.iter().map(|one| &one.meta).collect(),
            "RequestAuthentication" => all.request_authentications.iter().map(|one| &one.meta).collect(),
            "ApiKeyAuthentication" => all.api_key_authentications.iter().map(|one| &one.meta).collect(),
            _ => all.api_gateways.iter().map(|one| &one.meta).collect(),
        };
        metas.into_iter().find(|meta| meta.namespace == namespace && meta.name == name).map(|meta| &meta.origin)
    }
}

/// `x-api-key` as people write it.
fn capitalised(name: &str) -> String {
    let part = |part: &str| {
        let mut letters = part.chars();
        letters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
    };
    name.split('-').map(part).collect::<Vec<_>>().join("-")
}

fn shown(read: &Read) -> String {
    match read {
        Read::Header(name) => format!("the header `{name}`"),
        Read::Parameter(name) => format!("the query parameter `{name}`"),
        Read::Cookie(name) => format!("the cookie `{name}`"),
        Read::Path => "the path".to_owned(),
        Read::Method => "the method".to_owned(),
        Read::Host => "the host".to_owned(),
        Read::Stage => "the stage".to_owned(),
        Read::Query => "the whole query".to_owned(),
        Read::ClientAddress => "the client's address".to_owned(),
        Read::ClientCertificate => "the client's certificate".to_owned(),
        Read::Preflight => "whether it is a preflight".to_owned(),
        Read::Provider(name) => format!("the answer of the provider `{name}`"),
        Read::Time => "the time".to_owned(),
    }
}
