//! A real event of API Gateway, read by the authorizer's own reader: what is explained is what it would judge.

use authorizer::event::{Event, Reading, Refused};
use authz::{Deny, Hop};

use super::input::Asked;
use crate::request_line::{Id, StoredKey};
use crate::session::Session;

/// The request that an event asks about, or the authorizer's own refusal.
pub(crate) fn read(json: &str, session: &Session, key: Option<&StoredKey>) -> Asked {
    // The form of the answer changes nothing about the verdict.
    match Event::parse(json, &Reading::new(&session.loaded.policies, session.now())) {
        Ok(Event { request, target, seen, .. }) => {
            let case = session.case_of(Id::Text(seen.request_id), request, target, key);
            Asked::Request { case: Box::new(case), front: true }
        }
        Err(refused) => {
            let Refused { reason, detail, seen, .. } = *refused;
            Asked::RefusedByFront {
                id: seen.request_id,
                decision: Box::new(Deny::new(reason, Hop::Request, detail).into()),
            }
        }
    }
}
