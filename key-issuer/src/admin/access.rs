//! Who may administrate: the policies of the bundle, asked about the issuer as a workload.

use std::sync::{Arc, OnceLock};

use authz::{Decision, Given, KeySets, Peer, Policies, Reason, Revocations, Target, Trace};
use platform::env::EnvError;

use super::Administrator;
use crate::audit::Facts;
use crate::client_auth::iam_role;
use crate::config::Config;
use crate::event::Request;
use crate::iam::Door;
use crate::refusal::Refusal;
use crate::token::{API_KEY, client_of};
use crate::usage_plans::UsagePlans;
use crate::{Inner, client_auth, revocations};

/// What the administration stands on.
#[derive(Clone, Default)]
pub struct Administration {
    /// The policies that say who may; without them nobody may.
    pub policies: Option<Arc<Policies>>,
    /// The usage plans of API Gateway; without them keys have none.
    pub usage_plans: Option<Arc<dyn UsagePlans>>,
}

impl Administration {
    /// Opens the bundle that the configuration names.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn open(config: &Config) -> Result<Option<Arc<Policies>>, EnvError> {
        let Some(path) = &config.bundle else { return Ok(None) };
        let wrong = |why: String| EnvError::Invalid { name: "CAUSEWAY_BUNDLE".to_owned(), value: path.clone(), why };
        let bundle = platform::bundle::Bundle::open(std::path::Path::new(path)).map_err(|e| wrong(e.to_string()))?;
        let section = bundle.section(platform::bundle::Section::Access).map_err(|e| wrong(e.to_string()))?;
        let policies = Policies::open(section).map_err(|e| wrong(e.to_string()))?;
        // What cannot be verified with is found now, and not by the first administrator.
        KeySets::embedded(&policies).map_err(|e| wrong(e.to_string()))?;
        Ok(Some(Arc::new(policies)))
    }
}

/// The gate in front of the administration.
pub(crate) struct Access {
    policies: Option<Arc<Policies>>,
    /// The key sets that the policies bring along, parsed at the first request.
    embedded: OnceLock<KeySets>,
    /// Issuer of this very program, whose keys need not be fetched.
    issuer: String,
    host: String,
    /// Of the workload that the issuer is.
    namespace: String,
    target: Target,
}

/// What a caller without a token is told. RFC 6750 §3: "the resource server MUST include the HTTP 'WWW-Authenticate'
/// response header field".
const CHALLENGE: &str = "Bearer realm=\"causeway administration\"";

impl Access {
    /// The gate by these policies.
    pub(crate) fn new(config: &Config, policies: Option<Arc<Policies>>) -> Self {
        let host = config.issuer.split_once("://").map(|(_, host)| host.to_owned()).unwrap_or_default();
        let (namespace, labels) = config.admin_workload.clone();
        Self {
            policies,
            embedded: OnceLock::new(),
            issuer: config.issuer.clone(),
            host,
            namespace: namespace.clone(),
            // Without an environment, so that no API key opens the administration: a key that leaks must not make others.
            target: Target::Workload { namespace, labels, environment: None },
        }
    }

    /// Lets an administrator pass. Only a request that an ALLOW rule of the issuer's own namespace names passes: Istio's "no
    /// policy, so everybody may" would open a fresh deployment to all, and a policy for the whole mesh is not about this.
    ///
    /// # Errors
    /// 401 and 403 by RFC 6750 §3; 503 when a key or a table cannot be had.
    pub(crate) async fn check(
        &self,
        issuer: &Inner,
        request: &Request,
        door: &Door,
        facts: &mut Facts,
    ) -> Result<Administrator, Refusal> {
        let Some(policies) = &self.policies else {
            return Err(Refusal::new(403, "access_denied", "administration is not configured")
                .with_detail("CAUSEWAY_BUNDLE is not set"));
        };
        let peer = match door {
            Door::Public => None,
            Door::Iam(role) => {
                let registration = issuer
                    .config
                    .registry
                    .get(role)
                    .ok_or_else(|| Refusal::new(403, "access_denied", "the IAM role is not in the registry"))?;
                iam_role::check_usable(issuer, &registration.client_id).await?;
                Some(registration.spiffe_id.as_str().trim_start_matches("spiffe://").to_owned())
            }
            Door::Mtls(_) => return Err(Refusal::internal("the mTLS door has no administration")),
        };
        let asked = self.request(request, peer.clone());
        let keys = self.keys(issuer, policies).await?;
        let given = Given {
            keys: &keys,
            api_key: None,
            pepper: None,
            // Looked up below, by the table itself.
            revocations: Revocations::NotKept,
            providers: None,
            verified: None,
            now: issuer.deps.clock.unix(),
        };
        let presented =
            request.headers.lines().iter().any(|(name, _)| name == "authorization") && !matches!(door, Door::Iam(_));
        let allow = match authz::decide(policies, &asked, &self.target, &given) {
            Decision::Allow(allow) => allow,
            Decision::Deny(deny) => {
                facts.principal = deny.principal.clone().or(peer);
                facts.policy = deny.policy.clone();
                return Err(
                    refused(deny.reason, door, presented).with_detail(format!("{}: {}", deny.reason, deny.detail))
                );
            }
        };
        facts.principal = allow.principal().map(str::to_owned).or_else(|| peer.clone());
        if allow.reason() != Reason::AllowedByPolicy {
            return Err(refused(Reason::DeniedNoMatch, door, presented)
                .with_detail("no ALLOW policy selects the issuer's workload, so nobody may administrate"));
        }
        facts.policy = allow.policy().map(str::to_owned);
        if !facts.policy.as_ref().is_some_and(|policy| policy.starts_with(&rule_id_prefix(&self.namespace))) {
            // Policies of the root namespace come first, so that one of our own may stand behind it.
            let (_, trace) = authz::explain(policies, &asked, &self.target, &given);
            let own = self.own_rule(&trace).ok_or_else(|| {
                refused(Reason::DeniedNoMatch, door, presented)
                    .with_detail(format!("no ALLOW policy in the namespace {} allows this", self.namespace))
            })?;
            facts.policy = Some(own);
        }
        // What an API key does not open, what was made of it does not open either.
        if allow.claims().is_some_and(|claims| claims.get(API_KEY).is_some()) {
            return Err(refused(Reason::DeniedNoMatch, door, true).with_detail("the token comes from an API key"));
        }
        // RFC 9449 §7.1 and RFC 8705 §3: who merely has a bound token has nothing. No proof is taken here, and policies
        // of the mode `istio` do not ask for one.
        if allow.claims().is_some_and(|claims| claims.get("cnf").is_some()) {
            return Err(refused(Reason::TokenBinding, door, true).with_detail("the token is bound to a key"));
        }
        if let Some(claims) = allow.claims()
            && claims.issuer() == Some(self.issuer.as_str())
        {
            if issuer.deps.tables.revocations.is_configured() && revocations::is_revoked(issuer, claims).await? {
                return Err(refused(Reason::TokenRevoked, door, true).with_detail("token_revoked"));
            }
            let about = claims.subject().and_then(client_of);
            for client in claims.client_id().into_iter().chain(about) {
                if client_auth::is_disabled(issuer, client).await? {
                    let refusal = refused(Reason::TokenRevoked, door, true);
                    return Err(refusal.with_detail(format!("the client {client} is disabled")));
                }
            }
        }
        // A rule may admit callers that have proven nothing; a change by nobody is not made.
        match facts.principal.clone() {
            Some(principal) => Ok(Administrator { principal }),
            None => Err(refused(Reason::NoCredential, door, presented)
                .with_detail("the policy admits callers who have not proven who they are")),
        }
    }

    /// Istio's id of the first ALLOW rule of the issuer's own namespace that matched. One of the root namespace is meant for
    /// every workload of the mesh: "whoever has a token may call" makes nobody an administrator.
    fn own_rule(&self, trace: &Trace) -> Option<String> {
        let policies = trace.hops.iter().flat_map(|hop| &hop.policies);
        let mut own = policies.filter(|policy| {
            policy.action == "ALLOW" && policy.applies && !policy.dry_run && policy.namespace == self.namespace
        });
        own.find_map(|policy| {
            let rule = policy.rules.iter().find(|rule| rule.matched)?;
            Some(format!("{}{}]-rule[{}]", rule_id_prefix(&self.namespace), policy.name, rule.index))
        })
    }

    fn request(&self, request: &Request, principal: Option<String>) -> authz::Request {
        let query = if request.query.is_empty() { String::new() } else { format!("?{}", request.query) };
        let ip = request.source_ip.as_deref().and_then(|ip| ip.parse().ok());
        authz::Request {
            method: request.method.clone(),
            scheme: "https".to_owned(),
            host: self.host.clone(),
            path: format!("{}{query}", request.path),
            // The routes compare paths byte for byte, as they are sent.
            path_handling: authz::PathHandling::AsSent,
            headers: request.headers.lines().to_vec(),
            headers_joined: true,
            source: Peer { ip, remote_ip: ip, principal },
            ..authz::Request::default()
        }
    }

    /// The key sets at hand: our own, inline ones, and no other. Nothing is fetched here, and what was fetched when the
    /// bundle was made may be old.
    async fn keys(&self, issuer: &Inner, policies: &Policies) -> Result<KeySets, Refusal> {
        let mut keys = match self.embedded.get() {
            Some(keys) => keys.clone(),
            None => {
                let keys = KeySets::embedded(policies).map_err(|error| Refusal::internal(error.to_string()))?;
                self.embedded.get_or_init(|| keys).clone()
            }
        };
        let own = issuer.signing_keys().await?.verifying(issuer.deps.clock.unix()).map_err(Refusal::internal)?;
        let sources = || {
            let sources = policies.key_sources();
            sources.filter_map(|source| source.jwks_uri.or(source.discovery).map(|uri| (uri, source.issuer)))
        };
        keys.replace(sources().map(|(uri, _)| (uri, None)));
        keys.replace(sources().filter(|(_, of)| *of == self.issuer).map(|(uri, _)| (uri, Some(own.clone()))));
        Ok(keys)
    }
}

/// How Istio's ids of the rules of a namespace begin.
fn rule_id_prefix(namespace: &str) -> String {
    format!("ns[{namespace}]-policy[")
}

/// RFC 6750 §3.1. A caller whom AWS has authenticated is not asked for a token.
fn refused(reason: Reason, door: &Door, presented: bool) -> Refusal {
    match reason.status() {
        400 | 431 => Refusal::invalid_request("the request is not one that policies can be asked about"),
        // "If the request lacks any authentication information [...], the resource server SHOULD NOT include an error
        // code or other error information."
        _ if !presented && !matches!(door, Door::Iam(_)) => {
            Refusal::new(401, "", "no credentials").with_header("WWW-Authenticate", CHALLENGE)
        }
        401 => Refusal::new(401, "invalid_token", "the access token is not accepted")
            .with_header("WWW-Authenticate", format!("{CHALLENGE}, error=\"invalid_token\"")),
        _ => Refusal::new(403, "insufficient_scope", "the policies do not allow this")
            .with_header("WWW-Authenticate", format!("{CHALLENGE}, error=\"insufficient_scope\"")),
    }
}
