//! What the key issuer costs, beside aws-lc-rs' own signing and beside the least that a Lambda function can be
//! (`tests/bare`).
//!
//! `make bench` builds what it needs and runs it, as the authorizer's bench beside it.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_types, reason = "a stopwatch inside one process is what the type is for")]

mod cold;
#[allow(dead_code, reason = "each bench uses its part")]
#[path = "../common/mod.rs"]
mod common;
mod counted;
mod tokens;
mod world;

use common::{Section, figures};
use world::World;

fn main() {
    if common::is_asked_for_tests() {
        return;
    }
    figures::machine();
    let world = World::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let sections: [(&str, Section<'_>); 4] = [
        ("tokens", &|| tokens::print(&world)),
        ("calls of AWS", &|| tokens::calls(&world)),
        ("cold start", &|| cold::without_emulator(&world)),
        ("cold start under the emulator", &|| runtime.block_on(cold::under_emulator(&world))),
    ];
    common::run(&sections);
}
