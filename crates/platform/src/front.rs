//! What every front does around the gate: fetch what the gate needs, ask it, and write the decision down.
//!
//! `authorizer` and `adapter` differ in what they read and what they answer. What lies between is security-critical and
//! the same, so it is here, once. Nothing is fetched that a request does not need, and what cannot be fetched denies.

use std::sync::Arc;

use authz::{
    Allow, Decision, Deny, Given, Hop, JwksError, KeySets, Policies, Reason, Request, Revocations, Target,
    VerifiedTokens,
};

use crate::api_keys::{ApiKeySource, ApiKeyStore, KeyAnswer};
use crate::clock::Clock;
use crate::decision_line::{Line, Seen};
use crate::jwks::{JwksCounters, JwksSource};
use crate::key_sets::KeySetSource;
use crate::log::Log;
use crate::metrics::{StateMetrics, Totals};
use crate::panics::{Panicked, unpanicked};
use crate::rate_limit::{RateLimiter, RateLimits, client_id};
use crate::revocations::{Held, RevocationSource, RevocationsError, RevocationsSetup};
use crate::shadow_mode::Latched;

/// The parts of the outside world that a front uses.
#[derive(Clone)]
pub struct Deps {
    /// Where API keys are looked up; without it, every API key is refused as `api_key_unavailable`.
    pub api_keys: Option<ApiKeyStore>,
    /// Where key sets come from that the policies do not bring along.
    pub jwks: Arc<JwksSource>,
    /// Where the list of revoked credentials comes from, if one is kept.
    pub revocations: RevocationsSetup,
    /// How clients are limited; without it, they are not.
    pub rate_limits: Option<RateLimits>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where decisions are written down.
    pub log: Log,
}

#[cfg(feature = "aws")]
impl Deps {
    /// The surroundings of a program in AWS. Connects to nobody yet.
    pub fn in_aws(
        api_keys: Option<&crate::api_keys::ApiKeysConfig>,
        jwks: crate::jwks::JwksSettings,
        log: Log,
    ) -> Self {
        let clock = Arc::new(crate::clock::SystemClock);
        let api_keys = api_keys.map(ApiKeyStore::in_aws);
        let jwks = Arc::new(JwksSource::with_settings(jwks, clock.clone()));
        Self { api_keys, jwks, revocations: RevocationsSetup::default(), rate_limits: None, clock, log }
    }
}

/// Numbers of a front.
#[derive(Clone, Copy, Debug)]
pub struct Gauges<'a> {
    /// How often each state of a key set was met.
    pub jwks: &'a JwksCounters,
    /// What was counted since the start, or since the policies were replaced.
    pub totals: Totals,
    /// API keys whose record, or that there is none, is held now.
    pub api_keys: usize,
    /// Tokens that are known to be good now.
    pub verified_tokens: usize,
}

/// A front cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum FrontError {
    /// A key set that came with the policies is not acceptable.
    #[error(transparent)]
    Keys(#[from] JwksError),
    /// The revocation list that is configured could never be verified.
    #[error(transparent)]
    Revocations(#[from] RevocationsError),
}

/// The gate with its surroundings.
pub struct Front {
    api_keys: Arc<ApiKeySource>,
    clock: Arc<dyn Clock>,
    jwks: Arc<JwksSource>,
    key_sets: Arc<KeySetSource>,
    log: Log,
    policies: Arc<Policies>,
    rate_limiter: Option<Arc<RateLimiter>>,
    revocations: Option<Arc<RevocationSource>>,
    states: Arc<StateMetrics>,
    verified: VerifiedTokens,
}

impl Front {
    /// A front for `policies`. Fetches nothing.
    ///
    /// # Errors
    /// A key set that came with the policies is not acceptable, or they have no keys for the revocation list.
    pub fn new(policies: Policies, deps: Deps) -> Result<Self, FrontError> {
        let Deps { api_keys, jwks, revocations, rate_limits, clock, log } = deps;
        let policies = Arc::new(policies);
        let states = Arc::new(StateMetrics::new(jwks.clone()));
        let key_sets = Arc::new(KeySetSource::new(&policies, jwks.clone(), clock.clone(), log.clone())?);
        let revocations =
            RevocationSource::new(revocations, policies.clone(), key_sets.clone(), clock.clone(), log.clone())?;
        Ok(Self {
            states,
            api_keys: Arc::new(ApiKeySource::new(api_keys, clock.clone(), log.clone())),
            jwks,
            key_sets,
            rate_limiter: rate_limits.map(|limits| Arc::new(RateLimiter::new(limits, clock.clone(), log.clone()))),
            clock,
            log,
            policies,
            revocations: revocations.map(Arc::new),
            verified: VerifiedTokens::default(),
        })
    }

    /// A front for other policies in the same surroundings. It has what this one knows of API keys and key sets, and
    /// the revocation list that it holds; what was verified by the policies of this one it verifies anew. This one goes
    /// on for whoever has it.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn successor(&self, policies: Policies, revocations: RevocationsSetup) -> Result<Self, FrontError> {
        let policies = Arc::new(policies);
        let (clock, log) = (self.clock.clone(), self.log.clone());
        let key_sets = Arc::new(KeySetSource::new(&policies, self.jwks.clone(), clock.clone(), log.clone())?);
        let revocations =
            RevocationSource::new(revocations, policies.clone(), key_sets.clone(), clock.clone(), log.clone())?;
        if let (Some(new), Some(old)) = (&revocations, &self.revocations) {
            new.inherit(old);
        }
        Ok(Self {
            api_keys: self.api_keys.clone(),
            clock,
            jwks: self.jwks.clone(),
            key_sets,
            log,
            policies,
            rate_limiter: self.rate_limiter.clone(),
            revocations: revocations.map(Arc::new),
            states: self.states.clone(),
            verified: VerifiedTokens::default(),
        })
    }

    /// The policies that are asked.
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// Where decisions are written down.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Whether clients are limited. An answer is then for its request alone: another one takes a token of its own.
    pub fn limits_rates(&self) -> bool {
        self.rate_limiter.is_some()
    }

    /// Decides about one request. A panic on the way is a denial for this request, and costs the others nothing.
    pub async fn decide(&self, request: &Request, target: &Target) -> Decision {
        self.decide_and(request, target, None, |_, _, _| ()).await.0
    }

    /// As [`decide`](Self::decide), in shadow mode where there is one; then something else is asked of the same policies
    /// with what was fetched for the decision. There is no answer to that after a panic.
    pub async fn decide_and<T>(
        &self,
        request: &Request,
        target: &Target,
        shadow: Option<&Latched>,
        then: impl FnOnce(&Policies, &Given<'_>, &Decision) -> T,
    ) -> (Decision, Option<T>) {
        match unpanicked(self.ask(request, target, shadow, then)).await {
            Ok((decision, found)) => (decision, Some(found)),
            Err(Panicked) => (fault(), None),
        }
    }

    fn given<'a>(
        &'a self,
        keys: &'a KeySets,
        verified: &'a VerifiedTokens,
        api_key: Option<&'a KeyAnswer>,
        held: &'a Held,
    ) -> Given<'a> {
        Given {
            keys,
            api_key: api_key.map(|answer| &answer.lookup),
            pepper: api_key.and_then(|answer| answer.pepper.as_deref()),
            revocations: match held {
                Held::NotKept => Revocations::NotKept,
                Held::List(list) => Revocations::List(list),
                Held::Unavailable => Revocations::Unavailable,
            },
            providers: None,
            verified: Some(verified),
            now: self.clock.unix(),
        }
    }

    /// What shadow mode makes of a denial that was found behind the gate, if it covers it: the request goes on as one of
    /// nobody. A panic on the way is a denial.
    pub async fn overlook(&self, deny: Deny, request: &Request, target: &Target, shadow: &Latched) -> Decision {
        let overlooked = async {
            let now = self.clock.unix();
            match shadow.at(now) {
                Some(mode) => authz::overlook(&self.policies, request, target, mode, None, now, deny),
                None => Decision::Deny(deny),
            }
        };
        unpanicked(overlooked).await.unwrap_or_else(|Panicked| fault())
    }

    async fn ask<T>(
        &self,
        request: &Request,
        target: &Target,
        shadow: Option<&Latched>,
        then: impl FnOnce(&Policies, &Given<'_>, &Decision) -> T,
    ) -> (Decision, T) {
        // Each look at a token hashes it; a request looks at one four times, twice at each hop.
        let verified = self.verified.for_request();
        let wanted = authz::credentials_with(&self.policies, request, target, Some(&verified));
        let api_key = async {
            match &wanted.api_key {
                Some(presented) => Some(self.api_keys.look_up(presented).await),
                None => None,
            }
        };
        let (keys, mut answer, revoked) = tokio::join!(
            self.key_sets.for_request(&wanted.keys_needed),
            api_key,
            self.revocations(wanted.is_presented())
        );
        let given = self.given(&keys, &verified, answer.as_ref(), &revoked);
        let mut decision = authz::decide(&self.policies, request, target, &given);
        if let (Some(presented), Some(held), Reason::ApiKeyUnknown) = (&wanted.api_key, &answer, decision.reason())
            // A key that does not fit may fit what the store has by now.
            && let Some(again) = self.api_keys.look_again(presented, held).await
        {
            let given = self.given(&keys, &verified, Some(&again), &revoked);
            decision = authz::decide(&self.policies, request, target, &given);
            answer = Some(again);
        }
        decision = self.limited(decision, target).await;
        let given = self.given(&keys, &verified, answer.as_ref(), &revoked);
        // Looked at by every request, also an allowed one: the end is met as soon as there is one behind it.
        if let Some(mode) = shadow.and_then(|shadow| shadow.at(given.now)) {
            decision = match decision {
                Decision::Deny(deny) => {
                    authz::overlook(&self.policies, request, target, mode, Some(&given), given.now, deny)
                }
                allow => allow,
            };
        }
        let found = then(&self.policies, &given, &decision);
        (decision, found)
    }

    /// Takes a token for what the policies allow, and denies where there is none. What they deny takes nothing.
    async fn limited(&self, decision: Decision, target: &Target) -> Decision {
        let (Some(limiter), Decision::Allow(allow)) = (&self.rate_limiter, &decision) else { return decision };
        let environment = match target {
            Target::ApiGateway { api_id, stage, domain } => {
                self.policies.api_gateway(api_id, stage, domain).map(|gateway| gateway.environment)
            }
            Target::Workload { environment, .. } => environment.as_deref(),
        };
        let Some(client) = client_id(environment, allow) else { return decision };
        match limiter.take(&client).await {
            Ok(()) => decision,
            Err(refused) => Deny {
                principal: allow.principal().map(str::to_owned),
                client_id: allow.client_id().map(str::to_owned),
                shadow: Box::new(decision.shadow().clone()),
                ..Deny::new(Reason::RateLimited, allow.hop(), refused.to_string())
            }
            .into(),
        }
    }

    /// What is known of revoked credentials. Who presents none needs no list, and should that be a mistake, it denies.
    async fn revocations(&self, is_presented: bool) -> Held {
        match &self.revocations {
            None => Held::NotKept,
            Some(_) if !is_presented => Held::Unavailable,
            Some(source) => source.for_request().await,
        }
    }

    /// What API Gateway's usage plans know the API key of an allowed request by; `None` when no key was proven. Asks
    /// nobody.
    pub fn usage_plan_key(&self, request: &Request, target: &Target, allow: &Allow) -> Option<String> {
        if !allow.by_api_key() {
            return None;
        }
        let presented = authz::credentials(&self.policies, request, target).api_key?;
        let pepper = self.api_keys.pepper()?;
        Some(authz::api_key::usage_plan_key(&presented.environment, &presented.id, &pepper))
    }

    /// Writes the line of a decision, and now and then one with counters.
    // Inlined, it is built as the program is that calls it. This crate is built for size, which makes a line half as long
    // again to write.
    #[inline]
    pub fn record(&self, decision: &Decision, seen: &Seen<'_>) {
        let now = self.clock.now();
        self.log.write(&Line::of(decision, seen, self.policies.mode(), now, self.log.metrics()));
        self.states.write(self.totals(), &self.log, now);
    }

    /// Numbers for a metrics writer.
    pub fn gauges(&self) -> Gauges<'_> {
        Gauges {
            jwks: self.jwks.counters(),
            totals: self.totals(),
            api_keys: self.api_keys.len(),
            verified_tokens: self.verified.len(),
        }
    }

    fn totals(&self) -> Totals {
        let keys = self.api_keys.counters();
        Totals {
            revocations_failed: self.revocations.as_ref().map_or(0, |source| source.failures()),
            api_key_hits: keys.hits(),
            api_key_misses: keys.misses(),
            api_key_stale: keys.stale_hits(),
            api_key_unavailable: keys.unavailable(),
            token_hits: self.verified.hits(),
            token_misses: self.verified.misses(),
            rate_limit_updates: self.rate_limiter.as_ref().map_or(0, |limiter| limiter.updates()),
            rate_limit_unavailable: self.rate_limiter.as_ref().map_or(0, |limiter| limiter.unavailable()),
        }
    }
}

impl std::fmt::Debug for Front {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front").field("policies", &self.policies).finish_non_exhaustive()
    }
}

/// The denial that stands for a fault of ours.
pub fn fault() -> Decision {
    let detail = "a fault in the program; the line with the event \"panic\" says where";
    Deny::new(Reason::Internal, Hop::Request, detail).into()
}
