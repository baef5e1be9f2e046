//! The caller's token, exchanged for one in which this workload acts for the caller (RFC 8693).
//!
//! The subject is the token that the application sends, the actor this workload, so that the service behind learns both
//! (`act`). What was exchanged is kept by a digest of what was asked, and not by the token itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use http::HeaderValue;
use platform::clock::Clock;
use platform::log::Log;
use serde::Deserialize;

use crate::config::Grant;
use crate::issuer::Issuer;
use crate::refresh::{Held, Refresh};
use crate::token::{ENDPOINT, FORM, TokenSource, encoded, read};

/// The most exchanges that are remembered.
const MAX_KEPT: usize = 512;

/// How long this workload's own token is waited for.
const LIMIT: Duration = Duration::from_secs(10);

/// How long a failed exchange is not tried again, in seconds: a caller that repeats itself must not flood the issuer.
const PAUSE: u64 = 2;

const GRANT: &str = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange";
const ACCESS_TOKEN: &str = "urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token";

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoToken {
    /// The issuer does not give one for this caller.
    Refused(String),
    /// The issuer could not be asked, or did not accept this workload.
    Unavailable(String),
}

/// What was asked: SHA-256 over audience, scope and subject token.
type Key = [u8; 32];

/// Exchanges tokens, and remembers them until shortly before their end.
pub(crate) struct Exchanger {
    issuer: Arc<Issuer>,
    clock: Arc<dyn Clock>,
    log: Log,
    kept: Kept,
}

#[derive(Default)]
struct Kept(Mutex<HashMap<Key, Arc<Slot>>>);

#[derive(Default)]
struct Slot {
    /// Who holds it asks; the others wait, and then look at what came.
    turn: tokio::sync::Mutex<()>,
    state: Mutex<Option<State>>,
}

enum State {
    Token(Held<HeaderValue>),
    Failed { until: u64, why: NoToken },
}

/// RFC 6749 5.2.
#[derive(Deserialize)]
struct OAuthError {
    error: String,
}

impl Exchanger {
    pub(crate) fn new(issuer: Arc<Issuer>, clock: Arc<dyn Clock>, log: Log) -> Arc<Exchanger> {
        Arc::new(Exchanger { issuer, clock, log, kept: Kept::default() })
    }

    /// The token for `grant` on behalf of whoever `subject` is of, within `wait`. `actor` is this workload's own token;
    /// it is asked for only when there is something to exchange.
    pub(crate) async fn get(
        self: &Arc<Self>,
        subject: &str,
        grant: &Grant,
        actor: Arc<Refresh<TokenSource>>,
        wait: Duration,
    ) -> Result<HeaderValue, NoToken> {
        let key = key(subject, grant);
        let slot = self.kept.slot(key, self.clock.unix());
        if let Some(known) = slot.known(self.clock.unix()) {
            return known;
        }
        let (exchanger, subject, grant) = (Arc::clone(self), subject.to_owned(), grant.clone());
        // It goes on when the request that waits has gone: the next one finds what came, or the pause after a failure.
        let asked = tokio::spawn(async move {
            let fetch = exchanger.fetch(&subject, &grant, actor.get(LIMIT));
            slot.get(&exchanger.clock, fetch).await
        });
        match tokio::time::timeout(wait, asked).await {
            Ok(Ok(found)) => found,
            Ok(Err(_)) => Err(NoToken::Unavailable("the exchange ended early".to_owned())),
            Err(_) => Err(NoToken::Unavailable("no answer from the issuer yet".to_owned())),
        }
    }

    async fn fetch(
        &self,
        subject: &str,
        grant: &Grant,
        actor: impl Future<Output = Result<HeaderValue, String>>,
    ) -> Result<Held<HeaderValue>, NoToken> {
        let outcome = self.ask(subject, grant, actor).await;
        self.log.write(&match &outcome {
            Ok(held) => serde_json::json!({
                "event": "token_exchange", "state": "exchanged", "audience": grant.audience, "dead_at": held.dead_at,
            }),
            Err(NoToken::Refused(why)) => serde_json::json!({
                "event": "token_exchange", "state": "refused", "audience": grant.audience, "error": why,
            }),
            Err(NoToken::Unavailable(why)) => serde_json::json!({
                "event": "token_exchange", "state": "failed", "audience": grant.audience, "error": why,
            }),
        });
        outcome
    }

    async fn ask(
        &self,
        subject: &str,
        grant: &Grant,
        actor: impl Future<Output = Result<HeaderValue, String>>,
    ) -> Result<Held<HeaderValue>, NoToken> {
        let actor = actor.await.map_err(NoToken::Unavailable)?;
        let Some(actor) = actor.to_str().ok().and_then(|actor| actor.strip_prefix("Bearer ")) else {
            return Err(NoToken::Unavailable("this workload's own token is no bearer token".to_owned()));
        };
        let now = self.clock.unix();
        let mut form = format!(
            "grant_type={GRANT}&subject_token={}&subject_token_type={ACCESS_TOKEN}&actor_token={}&actor_token_type={ACCESS_TOKEN}&audience={}",
            encoded(subject),
            encoded(actor),
            encoded(&grant.audience)
        );
        if let Some(scope) = &grant.scope {
            form.push_str("&scope=");
            form.push_str(&encoded(scope));
        }
        let answer = self.issuer.exchange(ENDPOINT, FORM, form.into_bytes()).await.map_err(NoToken::Unavailable)?;
        match answer.status {
            200..300 => read(&answer.body, now).map_err(NoToken::Unavailable),
            status => Err(refusal(status, &answer.body)),
        }
    }
}

/// What a status of the issuer says. Only what OAuth calls an error is about the caller's token: other answers of 4xx
/// come from the door before the issuer, and are about this workload.
fn refusal(status: u16, body: &[u8]) -> NoToken {
    let word = serde_json::from_slice::<OAuthError>(body).ok().map(|OAuthError { error }| error);
    // RFC 6749 5.2: these characters and no others; the rest of the answer could hold a token.
    let sane = |word: &String| word.len() <= 64 && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    match word.filter(sane) {
        Some(word) if (400..500).contains(&status) && !matches!(status, 408 | 429) => match word.as_str() {
            "invalid_client" | "unauthorized_client" | "unsupported_grant_type" | "slow_down" => {
                NoToken::Unavailable(format!("the issuer answered {word} with status {status}"))
            }
            _ => NoToken::Refused(format!("the issuer answered {word} with status {status}")),
        },
        _ => NoToken::Unavailable(format!("the issuer answered with status {status}")),
    }
}

/// Each part with its length, so that no two questions look the same.
fn key(subject: &str, Grant { audience, scope }: &Grant) -> Key {
    let mut context = Context::new(&SHA256);
    for part in [Some(audience.as_str()), scope.as_deref(), Some(subject)] {
        let length = part.map_or(u64::MAX, |part| part.len() as u64);
        context.update(&length.to_be_bytes());
        context.update(part.unwrap_or_default().as_bytes());
    }
    let mut key = [0; 32];
    key.copy_from_slice(context.finish().as_ref());
    key
}

impl Kept {
    fn slot(&self, key: Key, now: u64) -> Arc<Slot> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = kept.get(&key) {
            return Arc::clone(slot);
        }
        if kept.len() >= MAX_KEPT {
            // What nobody asks for any more and never came has ended, too.
            kept.retain(|_, slot| slot.ends() > now && (Arc::strong_count(slot) > 1 || slot.lock().is_some()));
        }
        if kept.len() >= MAX_KEPT {
            // Those that end first make room. Whoever is at one of them keeps it, and only remembers it for nobody.
            let mut ends: Vec<(u64, Key)> = kept.iter().map(|(key, slot)| (slot.ends(), *key)).collect();
            ends.sort_unstable();
            for (_, key) in ends.iter().take(MAX_KEPT / 8) {
                kept.remove(key);
            }
        }
        let slot = Arc::<Slot>::default();
        kept.insert(key, Arc::clone(&slot));
        slot
    }
}

impl Slot {
    /// What is known, or else what `fetch` brings: one at a time asks.
    async fn get(
        &self,
        clock: &Arc<dyn Clock>,
        fetch: impl Future<Output = Result<Held<HeaderValue>, NoToken>>,
    ) -> Result<HeaderValue, NoToken> {
        let _turn = self.turn.lock().await;
        if let Some(known) = self.known(clock.unix()) {
            return known;
        }
        let fetched = fetch.await;
        let now = clock.unix();
        let mut state = self.lock();
        let (next, answer) = match (fetched, state.take()) {
            (Ok(held), _) if held.dead_at > now => {
                let value = held.value.clone();
                (State::Token(held), Ok(value))
            }
            // The caller is as good as before: what it has serves to its end, as this workload's own token does.
            (Err(NoToken::Unavailable(_)), Some(State::Token(held))) if now < held.dead_at => {
                let value = held.value.clone();
                (State::Token(Held { renew_at: now + PAUSE, ..held }), Ok(value))
            }
            (failed, _) => {
                let why = failed.err();
                let over = || NoToken::Unavailable("what the issuer sent is over already".to_owned());
                let why = why.unwrap_or_else(over);
                (State::Failed { until: now + PAUSE, why: why.clone() }, Err(why))
            }
        };
        *state = Some(next);
        answer
    }

    fn known(&self, now: u64) -> Option<Result<HeaderValue, NoToken>> {
        match &*self.lock() {
            Some(State::Token(held)) if now < held.renew_at.min(held.dead_at) => Some(Ok(held.value.clone())),
            // A pause that is longer than any: the clock was set back.
            Some(State::Failed { until, why }) if now < *until && *until - now <= PAUSE => Some(Err(why.clone())),
            _ => None,
        }
    }

    /// When it is of no more use; one that is being asked for never is.
    fn ends(&self) -> u64 {
        match &*self.lock() {
            Some(State::Token(held)) => held.dead_at,
            Some(State::Failed { until, .. }) => *until,
            None => u64::MAX,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use platform::clock::FixedClock;

    use super::*;

    fn grant(audience: &str, scope: Option<&str>) -> Grant {
        Grant { audience: audience.to_owned(), scope: scope.map(str::to_owned) }
    }

    #[test]
    fn no_two_questions_have_one_key() {
        let questions = [
            ("ab", grant("c", None)),
            ("b", grant("ca", None)),
            ("ab", grant("c", Some(""))),
            ("ab", grant("c", Some("d"))),
            ("dab", grant("c", None)),
            ("a", grant("c", Some("b"))),
        ];
        let keys: std::collections::BTreeSet<Key> =
            questions.iter().map(|(subject, grant)| key(subject, grant)).collect();
        assert_eq!(keys.len(), questions.len());
        assert_eq!(key("ab", &grant("c", None)), key("ab", &grant("c", None)));
    }

    #[test]
    fn refusals_of_the_caller_and_of_this_workload_are_told_apart() {
        let refused = |word: &str, status| NoToken::Refused(format!("the issuer answered {word} with status {status}"));
        for (status, body, expected) in [
            (400, r#"{"error":"invalid_request","error_description":"secret"}"#, Some("invalid_request")),
            (400, r#"{"error":"invalid_target"}"#, Some("invalid_target")),
            (403, r#"{"error":"access_denied"}"#, Some("access_denied")),
            (401, r#"{"error":"invalid_client"}"#, None),
            (400, r#"{"error":"unauthorized_client"}"#, None),
            (429, r#"{"error":"invalid_request"}"#, None),
            (500, r#"{"error":"invalid_request"}"#, None),
            (403, r#"{"Message":"Forbidden secret"}"#, None),
            (400, "secret", None),
            (400, r#"{"error":"SECRET"}"#, None),
        ] {
            let found = refusal(status, body.as_bytes());
            match expected {
                Some(word) => assert_eq!(found, refused(word, status)),
                None => assert!(matches!(found, NoToken::Unavailable(_)), "{status} {body}: {found:?}"),
            }
            assert!(!format!("{found:?}").to_ascii_lowercase().contains("secret"), "{found:?}");
        }
    }

    struct Stage {
        clock: Arc<FixedClock>,
        dyn_clock: Arc<dyn Clock>,
        kept: Kept,
        calls: AtomicU32,
    }

    impl Stage {
        fn new() -> Stage {
            let clock = Arc::new(FixedClock::at(1_000));
            Stage { dyn_clock: clock.clone(), clock, kept: Kept::default(), calls: AtomicU32::new(0) }
        }

        /// A token that is renewed 80 s after it came and dead after 100 s.
        async fn ask(&self, key: Key) -> Result<String, NoToken> {
            self.answered(key, None).await
        }

        async fn answered(&self, key: Key, failure: Option<NoToken>) -> Result<String, NoToken> {
            let fetch = async {
                let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
                tokio::task::yield_now().await;
                let now = self.clock.unix();
                match failure {
                    None => Ok(Held {
                        value: HeaderValue::from_str(&format!("Bearer {call}")).unwrap(),
                        renew_at: now + 80,
                        dead_at: now + 100,
                    }),
                    Some(failure) => Err(failure),
                }
            };
            let slot = self.kept.slot(key, self.clock.unix());
            let found = slot.get(&self.dyn_clock, fetch).await;
            found.map(|value| value.to_str().unwrap().to_owned())
        }
    }

    const A: Key = [1; 32];
    const B: Key = [2; 32];

    #[tokio::test]
    async fn one_asks_for_all_and_each_caller_gets_its_own() {
        let stage = Stage::new();
        let (a, again, b) = tokio::join!(stage.ask(A), stage.ask(A), stage.ask(B));
        assert_eq!((a.clone(), again), (Ok("Bearer 1".to_owned()), Ok("Bearer 1".to_owned())));
        assert_eq!(b, Ok("Bearer 2".to_owned()));
        stage.clock.set(1_079);
        assert_eq!(stage.ask(A).await, a);
        stage.clock.set(1_080);
        assert_eq!(stage.ask(A).await, Ok("Bearer 3".to_owned()));
    }

    #[tokio::test]
    async fn a_failure_is_remembered_for_a_moment() {
        let stage = Stage::new();
        let no = NoToken::Refused("no".to_owned());
        let (failing, no) = (Some(no.clone()), Err(no));
        assert_eq!(stage.answered(A, failing.clone()).await, no);
        assert_eq!(stage.ask(A).await, no);
        stage.clock.set(1_000 + PAUSE);
        assert_eq!(stage.ask(A).await, Ok("Bearer 2".to_owned()));
        assert_eq!(stage.answered(B, failing).await, no);
        stage.clock.set(10);
        assert_eq!(stage.ask(B).await, Ok("Bearer 4".to_owned()), "a clock that is set back prolongs no pause");
    }

    #[tokio::test]
    async fn who_asks_and_goes_away_leaves_the_turn_to_the_next() {
        let stage = Stage::new();
        let slot = stage.kept.slot(A, 1_000);
        let stuck = slot.get(&stage.dyn_clock, std::future::pending());
        assert!(tokio::time::timeout(Duration::from_millis(1), stuck).await.is_err());
        assert_eq!(stage.ask(A).await, Ok("Bearer 1".to_owned()));
    }

    #[tokio::test]
    async fn a_token_that_cannot_be_renewed_serves_to_its_end() {
        let stage = Stage::new();
        let first = Ok("Bearer 1".to_owned());
        assert_eq!(stage.ask(A).await, first);
        let down = NoToken::Unavailable("down".to_owned());
        for now in [1_080, 1_090, 1_099] {
            stage.clock.set(now);
            assert_eq!(stage.answered(A, Some(down.clone())).await, first, "{now}");
        }
        // Within the pause nobody is asked.
        assert_eq!(stage.calls.load(Ordering::SeqCst), 4);
        stage.clock.set(1_100);
        assert_eq!(stage.answered(A, Some(down.clone())).await, Err(down));
        // A caller that the issuer refuses has nothing any more.
        assert_eq!(stage.ask(B).await, Ok("Bearer 6".to_owned()));
        stage.clock.set(1_180);
        let no = NoToken::Refused("no".to_owned());
        assert_eq!(stage.answered(B, Some(no.clone())).await, Err(no));
    }

    #[tokio::test]
    async fn what_nobody_waits_for_makes_room() {
        let stage = Stage::new();
        let key = |n: u16| {
            let mut key = [0; 32];
            key[..2].copy_from_slice(&n.to_be_bytes());
            key
        };
        assert!(stage.ask(A).await.is_ok());
        for n in 0..MAX_KEPT as u16 {
            drop(stage.kept.slot(key(n), 1_000));
        }
        assert_eq!(stage.ask(A).await, Ok("Bearer 1".to_owned()), "it was put away for slots without a token");
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded() {
        let stage = Stage::new();
        let key = |n: usize| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&n.to_be_bytes());
            key
        };
        for n in 0..MAX_KEPT + 1 {
            assert!(stage.ask(key(n)).await.is_ok());
        }
        let kept = || stage.kept.0.lock().unwrap().len();
        assert_eq!(kept(), MAX_KEPT - MAX_KEPT / 8 + 1);
        stage.clock.set(2_000);
        for n in 0..MAX_KEPT {
            assert!(stage.ask(key(10_000 + n)).await.is_ok());
        }
        assert!(kept() <= MAX_KEPT);
    }
}
