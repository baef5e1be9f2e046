//! Who acts for whom (RFC 8693 §4): the claims `act` and `may_act`, and the rule that connects them.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::claims::subject_of;

/// The most actors of a token, the current one and those before it.
pub(crate) const MAX_ACTORS: usize = 4;

/// The claim `act`: the current actor, and in it the ones before. RFC 8693 §4.1: "For the purpose of applying access
/// control policy, the consumer of a token MUST only consider the token's top-level claims and the party identified as the
/// current actor by the act claim."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Act {
    sub: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    act: Option<Box<Act>>,
}

impl Act {
    /// How many actors there are.
    pub(crate) fn actors(&self) -> usize {
        self.subjects().count()
    }

    /// Their subjects, the present one first.
    pub(crate) fn subjects(&self) -> impl Iterator<Item = &str> {
        std::iter::successors(Some(self), |act| act.act.as_deref()).map(|act| act.sub.as_str())
    }
}

/// The claim `may_act`: the subjects that may become the actor. For one it has the form of RFC 8693 §4.4,
/// `{"sub":"client:a"}`. The standard has no form for several, and a `sub` has to be a single string (RFC 7519 §4.1.2),
/// so several are `{"subs":["client:a","client:b"]}`: a reader that does not know `subs` finds nobody named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Value", try_from = "Value")]
pub(crate) struct MayAct(Vec<String>);

impl MayAct {
    /// These clients may; `None` if there are none, for then nobody may.
    pub(crate) fn of_clients(client_ids: &[String]) -> Option<Self> {
        (!client_ids.is_empty()).then(|| Self(client_ids.iter().map(|id| subject_of(id)).collect()))
    }

    /// Whether it names this subject.
    fn names(&self, subject: &str) -> bool {
        self.0.iter().any(|named| named == subject)
    }
}

impl From<MayAct> for Value {
    fn from(may_act: MayAct) -> Self {
        match may_act.0.as_slice() {
            [one] => json!({"sub": one}),
            several => json!({"subs": several}),
        }
    }
}

impl TryFrom<Value> for MayAct {
    type Error = &'static str;

    /// RFC 8693 §4.4 lets further members narrow down who is meant; we write none, and what we do not know names nobody.
    fn try_from(value: Value) -> Result<Self, Self::Error> {
        let Value::Object(members) = value else { return Err("may_act is not an object") };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let named = match (members.len(), members.get("sub"), members.get("subs")) {
            (1, Some(sub), None) => text(sub).map(|sub| vec![sub]),
            (1, None, Some(Value::Array(subs))) => subs.iter().map(text).collect(),
            _ => None,
        };
        named.map(Self).ok_or("may_act has neither the form {\"sub\":TEXT} nor {\"subs\":[TEXT]}")
    }
}

/// Why a client may not have a token out of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotAllowed {
    /// RFC 8693 §4.4.
    #[error("the subject token does not name the client in may_act")]
    NotNamed,
    /// RFC 8693 §1.1: an actor acts for somebody else.
    #[error("the subject token is the client's own, so there is nobody to act for: leave actor_token out")]
    OwnToken,
    /// See [`MAX_ACTORS`].
    #[error("the token would have more than 4 actors")]
    TooManyActors,
}

/// What a subject token says about actors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing<'a> {
    /// The client that got the token.
    pub(super) client_id: &'a str,
    pub(super) act: Option<&'a Act>,
    pub(super) may_act: Option<&'a MayAct>,
}

/// The `act` of a token that `requester` gets for the subject token.
///
/// A client may make its own token narrower: then nobody new acts, and the actors stay who they were. Any other client
/// becomes the current actor, with or without an actor token, and only if `may_act` names it. So a client never gets a
/// token of somebody else that does not say who has it.
///
/// # Errors
/// See [`NotAllowed`].
pub(super) fn act(requester: &str, subject: &Standing<'_>, has_actor_token: bool) -> Result<Option<Act>, NotAllowed> {
    if subject.client_id == requester {
        return if has_actor_token { Err(NotAllowed::OwnToken) } else { Ok(subject.act.cloned()) };
    }
    let actor = subject_of(requester);
    if !subject.may_act.is_some_and(|may_act| may_act.names(&actor)) {
        return Err(NotAllowed::NotNamed);
    }
    let act = Act { sub: actor, act: subject.act.cloned().map(Box::new) };
    if act.actors() > MAX_ACTORS { Err(NotAllowed::TooManyActors) } else { Ok(Some(act)) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn may_act(ids: &[&str]) -> Option<MayAct> {
        MayAct::of_clients(&ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn claims_in_json() {
        assert_eq!(serde_json::to_value(may_act(&["a"]).unwrap()).unwrap(), json!({"sub": "client:a"}));
        let two = may_act(&["a", "b"]).unwrap();
        assert_eq!(serde_json::to_value(&two).unwrap(), json!({"subs": ["client:a", "client:b"]}));
        assert_eq!(serde_json::from_value::<MayAct>(json!({"subs": ["client:a", "client:b"]})).unwrap(), two);
        assert_eq!(may_act(&[]), None);
        for bad in [
            json!({"sub": ["client:a"]}),
            json!({"sub": "client:a", "iss": "https://elsewhere"}),
            json!({"sub": "client:a", "subs": ["client:b"]}),
            json!({"subs": "client:a"}),
            json!({"subs": ["client:a", 1]}),
            json!({}),
            json!("client:a"),
        ] {
            assert!(serde_json::from_value::<MayAct>(bad.clone()).is_err(), "{bad}");
        }
        let act: Act = serde_json::from_value(json!({"sub": "client:b", "act": {"sub": "client:a"}})).unwrap();
        assert_eq!(act.actors(), 2);
        assert!(serde_json::from_value::<Act>(json!({"sub": "client:b", "exp": 1})).is_err());
    }

    #[test]
    fn who_may_act() {
        let both = may_act(&["b", "c"]);
        let subject = Standing { client_id: "a", act: None, may_act: both.as_ref() };
        assert_eq!(act("a", &subject, false), Ok(None));
        assert_eq!(act("a", &subject, true), Err(NotAllowed::OwnToken));
        for with in [false, true] {
            assert_eq!(serde_json::to_value(act("b", &subject, with).unwrap()).unwrap(), json!({"sub": "client:b"}));
            assert_eq!(act("d", &subject, with), Err(NotAllowed::NotNamed));
            // The prefix is not to be had by choosing an odd id.
            assert_eq!(act("client:b", &subject, with), Err(NotAllowed::NotNamed));
            let silent = Standing { may_act: None, ..subject.clone() };
            assert_eq!(act("b", &silent, with), Err(NotAllowed::NotNamed));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

        /// However a token goes from client to client: whoever has it is its client of origin or its current actor, each
        /// actor was named, earlier actors stay, and there are never too many.
        #[test]
        fn chains(named in proptest::collection::vec("[abcd]", 0..4), path in proptest::collection::vec("[abcde]", 1..9)) {
            let may_act = MayAct::of_clients(&named);
            let (mut holder, mut current): (String, Option<Act>) = ("a".to_owned(), None);
            for requester in path {
                let subject = Standing { client_id: &holder, act: current.as_ref(), may_act: may_act.as_ref() };
                match act(&requester, &subject, false) {
                    Ok(next) if requester == holder => prop_assert_eq!(&next, &current),
                    Ok(next) => {
                        let next = next.unwrap();
                        prop_assert!(named.contains(&requester));
                        prop_assert_eq!(&next.sub, &subject_of(&requester));
                        prop_assert_eq!(next.act.as_deref(), current.as_ref());
                        prop_assert!(next.actors() <= MAX_ACTORS);
                        (holder, current) = (requester, Some(next));
                    }
                    Err(NotAllowed::NotNamed) => prop_assert!(!named.contains(&requester)),
                    Err(NotAllowed::TooManyActors) => {
                        prop_assert_eq!(current.as_ref().map(Act::actors), Some(MAX_ACTORS));
                    }
                    Err(NotAllowed::OwnToken) => prop_assert!(false, "there was no actor token"),
                }
            }
        }
    }
}
