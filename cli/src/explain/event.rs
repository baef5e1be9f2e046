//! A real event of API Gateway, read by the authorizer's own reader: what is explained is what it would judge.

use authorizer::event::{Event, Refused, ResponseKind};
use authz::{Deny, Hop, Policies};

use super::input::Asked;
use crate::request_line::{Id, StoredKey};
use crate::session::Session;

/// The request that an event asks about, or the authorizer's own refusal.
pub(crate) fn read(json: &str, session: &Session, key: Option<&StoredKey>) -> Asked {
    let policies: &Policies = &session.loaded.policies;
    let base_path = |api_id: &str, stage: &str, domain: &str| {
        policies.api_gateway(api_id, stage, domain).and_then(|gateway| gateway.base_path)
    };
    // The form of the answer changes nothing about the verdict.
    match Event::parse(json, ResponseKind::Simple, base_path) {
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
