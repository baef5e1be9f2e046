//! What the authorizer costs, beside the least that a Lambda function can be (`tests/bare`) and beside aws-lc-rs alone.
//!
//! `make bench` builds what it needs and runs it. It prints tables that can be copied, measures in turns so that what
//! else the machine does meets both sides alike, and fails on no number. What it cannot run it skips, and says so.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_types, reason = "a stopwatch inside one process is what the type is for")]

mod cold;
#[allow(dead_code, reason = "each bench uses its part")]
#[path = "../common/mod.rs"]
mod common;
mod decisions;
mod memory;
mod quota;
mod size;
mod steps;
mod warm;
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
    let sections: [(&str, Section<'_>); 7] = [
        ("size", &|| size::print(&world)),
        ("decisions", &|| decisions::print(&world)),
        ("steps of a start", &|| steps::print(&world)),
        ("cold start", &|| cold::without_emulator(&world)),
        ("cold start under the emulator", &|| runtime.block_on(cold::under_emulator(&world))),
        ("warm invocation", &|| {
            warm::without_emulator(&world)?;
            runtime.block_on(warm::under_emulator(&world))
        }),
        ("memory", &|| memory::print(&world)),
    ];
    common::run(&sections);
}
