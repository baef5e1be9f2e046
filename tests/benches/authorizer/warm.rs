//! Invocations of a function that is up, with a token that it has seen before.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::emulator::Emulated;
use crate::common::figures::{Figures, microseconds, ratio, table};
use crate::common::runtime_api::{self, Sandbox};
use crate::world::{Algorithm, World};

/// Invocations of each function, in batches that take turns.
const INVOCATIONS: usize = 2_000;
const BATCH: usize = 100;

/// What the design asks for.
const GOAL: f64 = 1.10;

#[derive(Default)]
struct Measured {
    times: Vec<f64>,
    processor: Duration,
    elapsed: Duration,
}

pub(crate) async fn under_emulator(world: &World) -> Result<(), String> {
    let event = world.event_with_token(&world.token(Algorithm::Es256, 0));
    let functions = world.functions()?;
    let mut running = Vec::new();
    for (program, environment) in &functions {
        running.push(Emulated::start(program, environment).await?);
    }
    let mut processes = Vec::new();
    for function in &mut running {
        // The first event starts it, the others fill what there is to be filled.
        for _ in 0..BATCH {
            function.invoke(&event)?;
        }
        processes.push(function.process()?);
    }
    let measured = in_turns(&mut running, &processes, |function| function.invoke(&event).map(|(_, took)| took))?;
    println!("\nWarm invocation under the emulator, token cached, one connection, {INVOCATIONS} each in turns");
    report(&measured);
    let own: Vec<Figures> = running
        .iter()
        .map(|function| Figures::new(function.invocations().into_iter().skip(BATCH).map(|ms| ms * 1e3).collect()))
        .collect();
    println!(
        "\nWhat the emulator says of them itself (`INVOKE RTDONE`), median: bare {:.0} µs, authorizer {:.0} µs, {}",
        own[0].median(),
        own[1].median(),
        ratio(own[1].median() / own[0].median(), GOAL)
    );
    for function in running {
        function.stop().await?;
    }
    Ok(())
}

/// The same with a runtime API that does nothing: the emulator's own time, which is most of the above, is not in it.
pub(crate) fn without_emulator(world: &World) -> Result<(), String> {
    let event = world.event_with_token(&world.token(Algorithm::Es256, 0));
    let functions = world.functions()?;
    let mut running = Vec::new();
    for (program, environment) in &functions {
        let mut sandbox = Sandbox::start(&mut Command::new(program), environment)?;
        for _ in 0..BATCH {
            sandbox.invoke(&event)?;
        }
        running.push(sandbox);
    }
    let processes: Vec<u32> = running.iter().map(Sandbox::process).collect();
    let measured = in_turns(&mut running, &processes, |sandbox| sandbox.invoke(&event).map(|(_, took)| took))?;
    println!("\nWarm invocation without the emulator, token cached, {INVOCATIONS} each in turns");
    report(&measured);
    Ok(())
}

fn in_turns<T>(
    running: &mut [T],
    processes: &[u32],
    invoke: impl Fn(&mut T) -> Result<Duration, String>,
) -> Result<[Measured; 2], String> {
    let mut measured = [Measured::default(), Measured::default()];
    for _ in 0..INVOCATIONS / BATCH {
        for ((function, process), measured) in running.iter_mut().zip(processes).zip(&mut measured) {
            let (processor, started) = (runtime_api::cpu(*process), Instant::now());
            for _ in 0..BATCH {
                measured.times.push(microseconds(invoke(function)?));
            }
            measured.elapsed += started.elapsed();
            measured.processor += runtime_api::cpu(*process) - processor;
        }
    }
    Ok(measured)
}

fn report(measured: &[Measured; 2]) {
    let mut columns = Vec::new();
    for Measured { times, processor, elapsed } in measured {
        let figures = Figures::new(times.clone());
        let count = times.len() as f64;
        columns.push([
            figures.median(),
            figures.quantile(0.99),
            microseconds(*processor) / count,
            count / elapsed.as_secs_f64(),
        ]);
    }
    let names = ["median, µs", "p99, µs", "processor time of the function each, µs", "invocations/s, one at a time"];
    let rows: Vec<Vec<String>> = names
        .iter()
        .enumerate()
        .map(|(i, name)| {
            let (bare, ours) = (columns[0][i], columns[1][i]);
            let quotient = if i == 0 { ratio(ours / bare, GOAL) } else { format!("{:.2} ×", ours / bare) };
            vec![(*name).to_owned(), format!("{bare:.0}"), format!("{ours:.0}"), quotient]
        })
        .collect();
    table(&["", "bare", "authorizer", "ratio"], &rows);
}
