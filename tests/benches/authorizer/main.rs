//! What the authorizer costs, beside the least that a Lambda function can be (`tests/bare`) and beside aws-lc-rs alone.
//!
//! `make bench` builds what it needs and runs it. It prints tables that can be copied, measures in turns so that what
//! else the machine does meets both sides alike, and fails on no number. What it cannot run it skips, and says so.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_types, reason = "a stopwatch inside one process is what the type is for")]

mod cold;
mod decisions;
mod emulator;
mod figures;
mod http;
mod memory;
mod quota;
mod runtime_api;
mod size;
mod steps;
mod warm;
mod world;

use world::World;

/// Prints its tables, or says why it cannot.
type Section<'a> = &'a dyn Fn() -> Result<(), String>;

fn main() {
    // `cargo test --benches` asks for a list of tests.
    if std::env::args().any(|argument| argument == "--list") {
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
    // `cargo bench -p e2e --bench authorizer -- memory` runs the sections whose names begin so.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    for (name, section) in sections {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| name.starts_with(wanted.as_str())) {
            continue;
        }
        if let Err(why) = section() {
            println!("\nskipped: {name}: {why}");
        }
    }
}
