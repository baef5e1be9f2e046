//! The extension's start, beside that of the least that an extension can be (`tests/bare-extension`).

use std::process::Command;

use e2e::world::World;
use e2e::{ports, program};

use crate::common::figures::{Figures, milliseconds, ratio, spread, table};
use crate::common::runtime_api::{self, Sandbox};

/// Starts of each.
const STARTS: usize = 30;

/// What the design asks of a start under Lambda.
const GOAL: f64 = 1.25;

/// From the start of the process until it registers at the Extensions API: before that Lambda waits for it, and with it
/// the function. The real one has read its bundle and listens by then.
pub(crate) fn report(world: &World) -> Result<(), String> {
    let bare = program("bare-extension");
    if !bare.exists() {
        return Err(format!("{} is not there; `make bench` builds it", bare.display()));
    }
    let programs = [("bare `lambda-extension`", bare), ("extension", program("extension"))];
    let [mut starts, mut processor] = [const { [const { Vec::new() }; 2] }; 2];
    for _ in 0..STARTS {
        for (i, (_, program)) in programs.iter().enumerate() {
            let port = ports::free().map_err(|error| error.to_string())?;
            // The bare one needs none of it.
            let environment = world.extension_environment("bookinfo-reviews", port, ports::loopback(port))?;
            let sandbox = Sandbox::register(&mut Command::new(program), &environment)?;
            starts[i].push(milliseconds(sandbox.start));
            processor[i].push(milliseconds(runtime_api::cpu(sandbox.process())));
        }
    }
    println!("\nStart of the process → registration at the Extensions API, {STARTS} starts each in turns");
    for (what, values, goal) in [("time, ms", starts, Some(GOAL)), ("processor time until then, ms", processor, None)] {
        let figures = values.map(Figures::new);
        let rows: Vec<Vec<String>> =
            programs.iter().zip(&figures).map(|((name, _), figures)| spread(name, figures)).collect();
        table(&[what, "min", "median", "max"], &rows);
        let value = figures[1].median() / figures[0].median();
        let said = goal.map_or_else(|| format!("{value:.2} ×"), |goal| ratio(value, goal));
        println!("\nthe extension beside the bare one: {said}");
    }
    Ok(())
}
