//! The authorizer's starts, with a thousand policies.

use crate::common::cold::Starts;
use crate::common::policies::POLICIES;
use crate::world::{Algorithm, World};

const ALLOWED: &str = "\"isAuthorized\":true";

pub(crate) async fn under_emulator(world: &World) -> Result<(), String> {
    let event = world.event_with_token(&world.token(Algorithm::Rs256, 0));
    starts(world, &event, &reads())?.under_emulator().await
}

pub(crate) fn without_emulator(world: &World) -> Result<(), String> {
    let event = world.event_with_token(&world.token(Algorithm::Rs256, 0));
    starts(world, &event, &reads())?.without_emulator()
}

fn reads() -> String {
    format!("{POLICIES} policies, embedded JWKS")
}

fn starts<'a>(world: &'a World, event: &'a str, reads: &'a str) -> Result<Starts<'a>, String> {
    Ok(Starts {
        name: "authorizer",
        functions: world.functions()?,
        reads,
        event,
        work: "RS256 verified",
        expected: [ALLOWED; 2],
        goal: Some(1.25),
    })
}
