//! What every front does around the gate: fetch what the gate needs, ask it, and write the decision down.
//!
//! `authorizer` and `adapter` differ in what they read and what they answer. What lies between is security-critical and
//! the same, so it is here, once. Nothing is fetched that a request does not need, and what cannot be fetched denies.

use std::sync::Arc;

use authz::{
    Allow, Decision, Deny, Given, Hop, JwksError, Policies, Reason, Request, Revocations, Target, VerifiedTokens,
};

use crate::api_keys::{ApiKeySource, ApiKeyStore};
use crate::clock::Clock;
use crate::decision_line::{Line, Seen};
use crate::jwks::JwksSource;
use crate::key_sets::KeySetSource;
use crate::log::Log;
use crate::panics::{Panicked, unpanicked};
use crate::revocations::{Held, RevocationSource, RevocationsError, RevocationsSetup};

/// The parts of the outside world that a front uses.
#[derive(Clone)]
pub struct Deps {
    /// Where API keys are looked up; without it, every API key is refused as `api_key_unavailable`.
    pub api_keys: Option<ApiKeyStore>,
    /// Where key sets come from that the policies do not bring along.
    pub jwks: Arc<JwksSource>,
    /// Where the list of revoked credentials comes from, if one is kept.
    pub revocations: RevocationsSetup,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where decisions are written down.
    pub log: Log,
}

#[cfg(all(feature = "dynamodb", feature = "secrets"))]
impl Deps {
    /// The surroundings of a program in AWS. Connects to nobody yet.
    pub fn in_aws(api_keys: Option<&crate::api_keys::ApiKeysConfig>, log: Log) -> Self {
        let clock = Arc::new(crate::clock::SystemClock);
        let api_keys = api_keys.map(ApiKeyStore::in_aws);
        let jwks = Arc::new(JwksSource::new(clock.clone()));
        Self { api_keys, jwks, revocations: RevocationsSetup::default(), clock, log }
    }
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
    api_keys: ApiKeySource,
    clock: Arc<dyn Clock>,
    key_sets: Arc<KeySetSource>,
    log: Log,
    policies: Arc<Policies>,
    revocations: Option<Arc<RevocationSource>>,
    verified: VerifiedTokens,
}

impl Front {
    /// A front for `policies`. Fetches nothing.
    ///
    /// # Errors
    /// A key set that came with the policies is not acceptable, or they have no keys for the revocation list.
    pub fn new(policies: Policies, deps: Deps) -> Result<Self, FrontError> {
        let Deps { api_keys, jwks, revocations, clock, log } = deps;
        let policies = Arc::new(policies);
        let key_sets = Arc::new(KeySetSource::new(&policies, jwks, clock.clone(), log.clone())?);
        let revocations =
            RevocationSource::new(revocations, policies.clone(), key_sets.clone(), clock.clone(), log.clone())?;
        Ok(Self {
            api_keys: ApiKeySource::new(api_keys, clock.clone(), log.clone()),
            key_sets,
            clock,
            log,
            policies,
            revocations: revocations.map(Arc::new),
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

    /// Decides about one request. A panic on the way is a denial for this request, and costs the others nothing.
    pub async fn decide(&self, request: &Request, target: &Target) -> Decision {
        unpanicked(self.ask(request, target)).await.unwrap_or_else(|Panicked| fault())
    }

    async fn ask(&self, request: &Request, target: &Target) -> Decision {
        let wanted = authz::credentials(&self.policies, request, target);
        let api_key = async {
            match &wanted.api_key {
                Some(presented) => Some(self.api_keys.look_up(presented).await),
                None => None,
            }
        };
        let (keys, api_key, held) = tokio::join!(
            self.key_sets.for_request(&wanted.keys_needed),
            api_key,
            self.revocations(wanted.is_presented())
        );
        let given = Given {
            keys: &keys,
            api_key: api_key.as_ref(),
            pepper: self.api_keys.pepper(),
            revocations: match &held {
                Held::NotKept => Revocations::NotKept,
                Held::List(list) => Revocations::List(list),
                Held::Unavailable => Revocations::Unavailable,
            },
            providers: None,
            verified: Some(&self.verified),
            now: self.clock.unix(),
        };
        authz::decide(&self.policies, request, target, &given)
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
        Some(authz::api_key::usage_plan_key(&presented.environment, &presented.id, pepper))
    }

    /// Writes the line of a decision.
    pub fn record(&self, decision: &Decision, seen: &Seen<'_>) {
        self.log.write(&Line::of(decision, seen, self.policies.mode(), self.clock.now()));
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
