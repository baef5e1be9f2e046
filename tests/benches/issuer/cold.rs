//! The key issuer's starts, set up in full. The first request is for the discovery document: it needs nothing of AWS, whose
//! answers would be most of the time that it takes.

use crate::common::cold::Starts;
use crate::common::policies::POLICIES;
use crate::world::World;

pub(crate) async fn under_emulator(world: &World) -> Result<(), String> {
    starts(world, &world.discovery(), &reads())?.under_emulator().await
}

pub(crate) fn without_emulator(world: &World) -> Result<(), String> {
    starts(world, &world.discovery(), &reads())?.without_emulator()
}

fn reads() -> String {
    format!("all tables and doors, the bundle of {POLICIES} policies")
}

fn starts<'a>(world: &'a World, event: &'a str, reads: &'a str) -> Result<Starts<'a>, String> {
    Ok(Starts {
        name: "key-issuer",
        functions: world.functions()?,
        reads,
        event,
        work: "discovery document",
        expected: ["\"isAuthorized\":true", "\"statusCode\":200"],
        goal: None,
    })
}
