//! How long a start and the first decision take with the processor share of a memory size.

use std::process::Command;

use crate::common::figures::{Figures, milliseconds, table};
use crate::common::runtime_api::Sandbox;
use crate::quota::{Quota, WHOLE_PROCESSOR_MB};
use crate::world::{Algorithm, World};

const SIZES_MB: [u32; 5] = [128, 256, 512, 1_024, WHOLE_PROCESSOR_MB];

/// Starts at each size, in turns.
const STARTS: usize = 15;

/// Nobody notices less, in milliseconds.
const UNNOTICED: f64 = 20.0;

pub(crate) fn print(world: &World) -> Result<(), String> {
    let event = world.event_with_token(&world.token(Algorithm::Rs256, 0));
    let [_, (program, environment)] = world.functions()?;
    let mut measured = SIZES_MB.map(|_| [const { Vec::new() }; 3]);
    let mut largest = 0;
    for _ in 0..STARTS {
        for (size, [starts, answers, warm]) in SIZES_MB.into_iter().zip(&mut measured) {
            let quota = Quota::of(size)?;
            let mut sandbox = Sandbox::start_by(environment.as_slice(), &mut Command::new(program), |command| {
                quota.start(|| command.spawn().map_err(|error| error.to_string()))
            })?;
            starts.push(milliseconds(sandbox.start));
            answers.push(milliseconds(sandbox.invoke(&event)?.1));
            for _ in 0..10 {
                warm.push(milliseconds(sandbox.invoke(&event)?.1));
            }
            largest = largest.max(resident_kb(sandbox.process()));
        }
    }
    let mut rows = Vec::new();
    let mut smallest = None;
    for (size, values) in SIZES_MB.into_iter().zip(measured) {
        let [start, answer, warm] = values.map(Figures::new);
        let sum = start.median() + answer.median();
        if sum <= UNNOTICED {
            smallest = smallest.or(Some(size));
        }
        rows.push(vec![
            size.to_string(),
            format!("{:.0} %", 100.0 * f64::from(size) / f64::from(WHOLE_PROCESSOR_MB)),
            format!("{:.1} (max {:.1})", start.median(), start.max()),
            format!("{:.1} (max {:.1})", answer.median(), answer.max()),
            format!("{sum:.1}"),
            format!("{:.2} (p99 {:.1})", warm.median(), warm.quantile(0.99)),
            format!("{:.1}", sum * f64::from(size) / 1_024.0),
        ]);
    }
    println!("\nStart and first decision by memory size (processor quota; Lambda's own boost of starts is not in it)");
    let header = [
        "memory, MB",
        "of a processor",
        "start, ms",
        "first RS256 decision, ms",
        "both, ms",
        "cached token, ms",
        "price of both, GB·ms",
    ];
    table(&header, &rows);
    println!("\nmost resident memory of the authorizer: {:.1} MB", largest as f64 / 1_024.0);
    match smallest {
        Some(size) => println!("the smallest memory with start and first decision in {UNNOTICED} ms: {size} MB"),
        None => println!("no memory size has start and first decision in {UNNOTICED} ms here"),
    }
    Ok(())
}

/// The most memory that a process has had, in KiB.
fn resident_kb(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}
