//! Where the time of a start goes: the authorizer's own steps, each alone and repeated in this process.

use std::time::Instant;

use authorizer::{Authorizer, Config};
use authz::{KeySets, Policies};
use platform::bundle::{Bundle, Section};
use platform::env::MapEnv;
use platform::log::Log;

use crate::common::figures::{Figures, microseconds, table};
use crate::common::policies::POLICIES;
use crate::world::World;

const TIMES: usize = 51;

pub(crate) fn print(world: &World) -> Result<(), String> {
    let environment = || MapEnv::from([("CAUSEWAY_BUNDLE", world.bundle.to_str().unwrap_or_default())]);
    let read = || std::fs::read(&world.bundle).unwrap();
    let bytes = read();
    let section = Bundle::from_bytes(read()).unwrap().shared_section(Section::Access).unwrap();
    let policies = Policies::open_shared(section.clone()).unwrap();
    let config = Config::from_env(&environment()).unwrap();
    let log = Log::to(|_| ());
    let whole = median(|| (), |()| Authorizer::from_config(config.clone(), log.clone()).unwrap());
    let rows = [
        ("read the environment", median(|| (), |()| Config::from_env(&environment()).unwrap())),
        ("read the file", median(|| (), |()| read())),
        ("check its sum", median(|| bytes.clone(), |bytes| Bundle::from_bytes(bytes).unwrap())),
        ("check the policies", median(|| section.clone(), |section| Policies::open_shared(section).unwrap())),
        ("read the key set", median(|| (), |()| KeySets::embedded(&policies).unwrap())),
        ("all of `Authorizer::from_config`", whole),
    ];
    println!("\nThe authorizer's own steps of a start: {POLICIES} policies, a bundle of {} KB", bytes.len() / 1_000);
    let rows: Vec<Vec<String>> =
        rows.iter().map(|(name, time)| vec![(*name).to_owned(), format!("{time:.0}")]).collect();
    table(&["step", "µs"], &rows);
    Ok(())
}

/// Microseconds of `step`, without what it is given and without dropping what it makes.
fn median<T, U>(given: impl Fn() -> T, step: impl Fn(T) -> U) -> f64 {
    let time = || {
        let given = given();
        let started = Instant::now();
        let made = step(given);
        let took = started.elapsed();
        drop(made);
        microseconds(took)
    };
    Figures::new((0..TIMES).map(|_| time()).collect()).median()
}
