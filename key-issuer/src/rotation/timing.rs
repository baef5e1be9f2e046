//! When a new key begins to sign and an old one may go, so that no token is ever unverifiable.
//!
//! Secrets Manager's value is read by many environments of the function, and what they publish is read by many
//! verifiers. Both keep what they have read. With
//!
//! * `H`, the longest that an environment uses a value of the secret after it has read it (`secret_age`),
//! * `V`, the longest that a verifier uses the JWKS document after the issuer's answer, all HTTP caches on the way
//!   counted in (`verifier_cache`, declared by the operator),
//! * `T`, the longest life of a token (`token_life`),
//! * `M`, a margin for what is not exact (`margin`): clocks that differ by up to a minute, a verifier's leeway of a
//!   minute, a request or call under way for a minute,
//!
//! and a rotation that makes its value the current one at `f`:
//!
//! 1. *Publish before use.* Until `f + H` an environment may answer with a document that lacks the new key, and until
//!    `f + H + V` a verifier may use that answer. So the new key signs from `A ≥ f + H + V + M` on.
//!    `M` covers: the rotator's clock is slow and the signing environment's is fast (2 min), the label moves after the
//!    rotator has looked at its clock (1 min).
//! 2. *Sign with what all know.* From `f + H < A` on every environment has the new value. So the old key, which is the
//!    newest active one until `A` and not after, signs last at `A`, wherever.
//! 3. *Keep after use.* The last token of the old key ends at `A + T`. The old key is published until `R ≥ A + T + M`.
//!    `M` covers: the environment that signs has a slow clock, as has the verifier, and the one that publishes a fast
//!    one (3 min), the request was under way (1 min), the verifier has a leeway (1 min). `V` is not part of `R`: a
//!    document from a cache is older than a fresh one, and an older document, with 1., has the old key just as well.
//!
//! The value is made by createSecret, some time before it becomes current by finishSecret, and Secrets Manager repeats
//! steps that fail. So createSecret takes `A = now + W + H + V + M` with a time `W` for the steps (`finish_within`),
//! and finishSecret looks at its clock again and refuses when 1. does not hold any more.

use crate::config::Config;
use crate::secret_cache::HARD_AGE_SECONDS;
use crate::signing_key::MAX_TOKEN_LIFE_SECONDS;

/// The `M` above, in seconds: five minutes.
const MARGIN_SECONDS: u64 = 300;
/// The `W` above, in seconds. With the default of two hours for verifiers the whole is below Secrets Manager's shortest
/// time between two rotations, which is four hours.
const FINISH_WITHIN_SECONDS: u64 = 1800;

/// The durations of a rotation, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timing {
    pub(crate) verifier_cache: u64,
    pub(crate) secret_age: u64,
    pub(crate) token_life: u64,
    pub(crate) margin: u64,
    pub(crate) finish_within: u64,
}

impl Timing {
    /// The durations that the configuration and the caches of this program come to.
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            verifier_cache: config.verifier_cache_seconds,
            secret_age: HARD_AGE_SECONDS,
            token_life: MAX_TOKEN_LIFE_SECONDS,
            margin: MARGIN_SECONDS,
            finish_within: FINISH_WITHIN_SECONDS,
        }
    }

    /// When a key signs that is made `now`.
    pub(crate) fn activate_at(&self, now: u64) -> u64 {
        now.saturating_add(self.finish_within).saturating_add(self.lead())
    }

    /// Whether a key that signs from `activate_at` on may be published first `now`.
    pub(crate) fn in_time(&self, now: u64, activate_at: u64) -> bool {
        now.saturating_add(self.lead()) <= activate_at
    }

    /// When a key may go whose successor signs from `activate_at` on.
    pub(crate) fn retire_at(&self, activate_at: u64) -> u64 {
        activate_at.saturating_add(self.token_life).saturating_add(self.margin)
    }

    fn lead(&self) -> u64 {
        self.secret_age.saturating_add(self.verifier_cache).saturating_add(self.margin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inequalities_hold_at_their_bounds() {
        let timing =
            Timing { verifier_cache: 7200, secret_age: 3600, token_life: 3600, margin: 300, finish_within: 1800 };
        let activate_at = timing.activate_at(1_000_000);
        assert_eq!(activate_at, 1_000_000 + 12_900);
        assert!(activate_at - 1_000_000 < 4 * 3600, "every four hours is not too often");
        assert!(timing.in_time(1_000_000 + 1800, activate_at));
        assert!(!timing.in_time(1_000_000 + 1801, activate_at));
        assert_eq!(timing.retire_at(activate_at), activate_at + 3900);
        assert!(!timing.in_time(u64::MAX, activate_at));
    }
}
