//! Which token a request to a service gets: a rule for each destination, and the tokens that are at hand.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::header::{AUTHORIZATION, HeaderMap};
use platform::clock::Clock;
use platform::log::Log;

use crate::config::{Egress, Grant, TokenMode, TokenRule};
use crate::exchange::{Exchanger, NoToken};
use crate::issuer::Issuer;
use crate::reason::{Reason, Refusal};
use crate::refresh::Refresh;
use crate::token::TokenSource;

/// What becomes of a request's `Authorization`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Bearer {
    /// It stays as the application wrote it.
    Keep,
    /// It becomes this.
    Set(HeaderValue),
    /// It is taken out.
    Remove,
}

impl Bearer {
    /// Changes the headers so.
    pub(crate) fn apply(self, headers: &mut HeaderMap) {
        match self {
            Bearer::Keep => {}
            Bearer::Set(value) => {
                headers.insert(AUTHORIZATION, value);
            }
            Bearer::Remove => {
                headers.remove(AUTHORIZATION);
            }
        }
    }
}

/// The tokens of all destinations.
pub(crate) struct Tokens {
    rules: Vec<TokenRule>,
    /// For destinations without a rule.
    default: Option<Grant>,
    /// This workload's own, by what they are asked for: no more than there are rules.
    own: HashMap<Grant, Arc<Refresh<TokenSource>>>,
    exchanger: Arc<Exchanger>,
}

impl Tokens {
    pub(crate) fn new(egress: &Egress, issuer: &Arc<Issuer>, clock: &Arc<dyn Clock>, log: &Log) -> Tokens {
        let default = egress.audience.clone().map(|audience| Grant { audience, scope: egress.scope.clone() });
        let granted = egress.tokens.iter().filter_map(|rule| match &rule.mode {
            TokenMode::Own(grant) => Some(grant.clone()),
            TokenMode::Exchange(grant) => Some(actor(grant)),
            TokenMode::Forward | TokenMode::None => None,
        });
        let source = |grant: Grant| {
            let source = TokenSource::new(Arc::clone(issuer), grant.clone(), Arc::clone(clock), log.clone());
            (grant, Refresh::new(source, Arc::clone(clock)))
        };
        let own = granted.chain(default.clone()).map(source).collect();
        let exchanger = Exchanger::new(Arc::clone(issuer), Arc::clone(clock), log.clone());
        Tokens { rules: egress.tokens.clone(), default, own, exchanger }
    }

    /// Starts the fetches that are due: of the usual token, and of those that have been used.
    pub(crate) fn start_if_due(&self) {
        for (grant, token) in &self.own {
            match Some(grant) == self.default.as_ref() {
                true => token.start_if_due(),
                false => token.start_if_used(),
            }
        }
    }

    /// How many fetches of own tokens brought one, and how many did not.
    pub(crate) fn counts(&self) -> (u64, u64) {
        self.own.values().map(|token| token.counts()).fold((0, 0), |sum, more| (sum.0 + more.0, sum.1 + more.1))
    }

    /// The same as [`Tokens::bearer`], if it is known without waiting.
    pub(crate) fn at_hand(&self, host: &str, headers: &HeaderMap) -> Option<Bearer> {
        let own = |token: Option<&Arc<Refresh<TokenSource>>>| match headers.contains_key(AUTHORIZATION) {
            true => Some(Bearer::Keep),
            false => token?.at_hand().map(Bearer::Set),
        };
        match self.rule(host) {
            Some(TokenMode::Own(grant)) => own(self.own.get(grant)),
            None => match &self.default {
                Some(grant) => own(self.own.get(grant)),
                None => Some(Bearer::Keep),
            },
            Some(TokenMode::Forward) => Some(Bearer::Keep),
            Some(TokenMode::None) => Some(Bearer::Remove),
            Some(TokenMode::Exchange(_)) => None,
        }
    }

    /// What becomes of `Authorization` in a request to `host`, the destination's host.
    ///
    /// # Errors
    /// When there has to be a token and there is none.
    pub(crate) async fn bearer(&self, host: &str, headers: &HeaderMap, wait: Duration) -> Result<Bearer, Refusal> {
        let brought = headers.contains_key(AUTHORIZATION);
        match self.rule(host) {
            Some(TokenMode::Own(grant)) => self.own_unless(brought, grant, wait).await,
            None => match &self.default {
                Some(grant) => self.own_unless(brought, grant, wait).await,
                None => Ok(Bearer::Keep),
            },
            // Never an own one: the service is to see who called, or nobody.
            Some(TokenMode::Forward) => Ok(Bearer::Keep),
            Some(TokenMode::None) => Ok(Bearer::Remove),
            Some(TokenMode::Exchange(grant)) => {
                let subject = subject(headers)?;
                let actor = self.own.get(&actor(grant)).cloned().ok_or_else(|| unavailable(&no_source(grant)))?;
                let found = self.exchanger.get(subject, grant, actor, wait).await;
                found.map(Bearer::Set).map_err(|why| match why {
                    NoToken::Refused(why) => {
                        refused(&format!("the token of this request cannot be exchanged for {}: {why}", grant.audience))
                    }
                    NoToken::Unavailable(why) => unavailable(&why),
                })
            }
        }
    }

    /// Whether `Authorization` is looked at or taken out on the way to `host`: then somebody has to read the requests.
    pub(crate) fn change(&self, host: &str) -> bool {
        matches!(self.rule(host), Some(TokenMode::Exchange(_) | TokenMode::None))
    }

    async fn own_unless(&self, brought: bool, grant: &Grant, wait: Duration) -> Result<Bearer, Refusal> {
        if brought {
            return Ok(Bearer::Keep);
        }
        self.own(grant, wait).await.map(Bearer::Set).map_err(|why| unavailable(&why))
    }

    async fn own(&self, grant: &Grant, wait: Duration) -> Result<HeaderValue, String> {
        match self.own.get(grant) {
            Some(token) => token.get(wait).await,
            None => Err(no_source(grant)),
        }
    }

    /// The rule for a host: its own, or else that with the longest end of it.
    fn rule(&self, host: &str) -> Option<&TokenMode> {
        if let Some(rule) = self.rules.iter().find(|rule| rule.host.eq_ignore_ascii_case(host)) {
            return Some(&rule.mode);
        }
        let ends = |rule: &&TokenRule| {
            let end = rule.host.strip_prefix('*').map(str::as_bytes);
            end.is_some_and(|end| {
                host.len() > end.len() && host.as_bytes()[host.len() - end.len()..].eq_ignore_ascii_case(end)
            })
        };
        self.rules.iter().filter(ends).max_by_key(|rule| rule.host.len()).map(|rule| &rule.mode)
    }
}

/// The own token that proves who acts. The issuer's default scope is enough: it is for the issuer to read.
fn actor(grant: &Grant) -> Grant {
    Grant { audience: grant.audience.clone(), scope: None }
}

/// The caller's token. Without one there is nobody to act for, and acting as oneself would be more than was asked.
fn subject(headers: &HeaderMap) -> Result<&str, Refusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or_else(|| {
        refused(
            "found no Authorization, expected the caller's token: the token of this destination is exchanged for it",
        )
    })?;
    let more = values.next().is_some();
    let token = value.to_str().ok().and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        // RFC 9110 11.1: the scheme's case does not matter.
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    match token.filter(|token| !token.is_empty() && !more) {
        Some(token) => Ok(token),
        None => Err(refused("found another Authorization, expected one bearer token to exchange")),
    }
}

fn no_source(grant: &Grant) -> String {
    format!("found no source of tokens for {}", grant.audience)
}

fn refused(detail: &str) -> Refusal {
    Refusal::new(Reason::TokenRefused, detail)
}

fn unavailable(why: &str) -> Refusal {
    Refusal::new(Reason::TokenUnavailable, format!("there is no valid access token: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(audience: &str) -> Grant {
        Grant { audience: audience.to_owned(), scope: None }
    }

    fn tokens(rules: &[(&str, TokenMode)], default: Option<Grant>) -> Tokens {
        let env = platform::env::MapEnv::from([
            ("CAUSEWAY_SVID_URL", "http://127.0.0.1:1"),
            ("AWS_REGION", "eu-central-1"),
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
        ]);
        let mut egress = crate::Config::from_env(&env).egress.unwrap();
        egress.tokens =
            rules.iter().map(|(host, mode)| TokenRule { host: (*host).to_owned(), mode: mode.clone() }).collect();
        egress.audience = default.map(|grant| grant.audience);
        let clock: Arc<dyn Clock> = Arc::new(platform::clock::SystemClock);
        let issuer = Arc::new(Issuer::new(&egress, Arc::clone(&clock)));
        Tokens::new(&egress, &issuer, &clock, &Log::memory().0)
    }

    fn headers(values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (AUTHORIZATION, HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn the_rule_of_a_host_is_the_most_precise_one() {
        let own = |audience: &str| TokenMode::Own(grant(audience));
        let rules = [
            ("*.local", own("local")),
            ("*.shop.local", own("shop")),
            ("a.shop.local", own("a")),
            ("shop.local", TokenMode::None),
        ];
        let tokens = tokens(&rules, None);
        for (host, expected) in [
            ("a.shop.local", Some(own("a"))),
            ("A.Shop.Local", Some(own("a"))),
            ("b.shop.local", Some(own("shop"))),
            ("c.b.shop.local", Some(own("shop"))),
            ("shop.local", Some(TokenMode::None)),
            ("xshop.local", Some(own("local"))),
            (".local", None),
            ("local", None),
            ("a.shop.local.example", None),
        ] {
            assert_eq!(tokens.rule(host), expected.as_ref(), "{host}");
        }
        assert_eq!(tokens.own.len(), 3);
    }

    #[tokio::test]
    async fn what_the_application_sends_goes_where_its_rule_says() {
        let rules = [
            ("own", TokenMode::Own(grant("a"))),
            ("forward", TokenMode::Forward),
            ("none", TokenMode::None),
            ("exchange", TokenMode::Exchange(grant("a"))),
        ];
        let tokens = tokens(&rules, Some(grant("default")));
        let bearer = |host: &'static str, values: &'static [&'static str]| {
            let tokens = &tokens;
            async move {
                let found = tokens.bearer(host, &headers(values), Duration::from_millis(10)).await;
                found.map_err(|refusal| refusal.reason)
            }
        };
        for (host, values, expected) in [
            ("own", &["Bearer app"][..], Ok(Bearer::Keep)),
            ("other", &["Basic eDp5"], Ok(Bearer::Keep)),
            ("forward", &["Bearer app"], Ok(Bearer::Keep)),
            ("forward", &[], Ok(Bearer::Keep)),
            ("none", &["Bearer app"], Ok(Bearer::Remove)),
            ("none", &[], Ok(Bearer::Remove)),
            // Nobody listens at the issuer's port.
            ("own", &[], Err(Reason::TokenUnavailable)),
            ("other", &[], Err(Reason::TokenUnavailable)),
            ("exchange", &["Bearer app"], Err(Reason::TokenUnavailable)),
            // Never as itself.
            ("exchange", &[], Err(Reason::TokenRefused)),
            ("exchange", &["Basic eDp5"], Err(Reason::TokenRefused)),
            ("exchange", &["Bearer "], Err(Reason::TokenRefused)),
            ("exchange", &["Bearer a", "Bearer b"], Err(Reason::TokenRefused)),
        ] {
            assert_eq!(bearer(host, values).await, expected, "{host} {values:?}");
        }
    }
}
