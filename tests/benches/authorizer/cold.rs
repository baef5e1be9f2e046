//! From the start of a process to its first answer.

use std::process::Command;

use crate::emulator::Emulated;
use crate::figures::{Figures, milliseconds, ratio, spread, table};
use crate::runtime_api::{self, Sandbox};
use crate::world::{Algorithm, POLICIES, World};

/// Starts of each function.
const STARTS: usize = 30;

const NAMES: [&str; 2] = ["bare `lambda_runtime`", "authorizer"];

/// What the design asks for.
const GOAL: f64 = 1.25;

pub(crate) async fn under_emulator(world: &World) -> Result<(), String> {
    let event = world.event_with_token(&world.token(Algorithm::Rs256, 0));
    let functions = world.functions()?;
    let (mut inits, mut answers) = ([const { Vec::new() }; 2], [const { Vec::new() }; 2]);
    for _ in 0..STARTS {
        for (i, (program, environment)) in functions.iter().enumerate() {
            let mut function = Emulated::start(program, environment).await?;
            let (answer, took) = function.invoke(&event)?;
            if !answer.contains("\"isAuthorized\":true") {
                let (name, log) = (program.display(), function.log());
                return Err(format!("{name}: expected to be allowed, found {answer}\n{log}"));
            }
            inits[i].push(function.init_report().await?);
            answers[i].push(milliseconds(took));
            function.stop().await?;
        }
    }
    println!("\nCold start under the emulator, {POLICIES} policies, embedded JWKS, {STARTS} starts each in turns");
    report("`INIT REPORT`, ms", inits, Some(GOAL));
    report("invocation → first answer (RS256 verified), ms", answers, None);
    Ok(())
}

/// The same with a runtime API that does nothing: the emulator's own time is not in it.
pub(crate) fn without_emulator(world: &World) -> Result<(), String> {
    let event = world.event_with_token(&world.token(Algorithm::Rs256, 0));
    let functions = world.functions()?;
    let [mut starts, mut processor, mut answers] = [const { [const { Vec::new() }; 2] }; 3];
    for _ in 0..STARTS {
        for (i, (program, environment)) in functions.iter().enumerate() {
            let mut sandbox = Sandbox::start(&mut Command::new(program), environment)?;
            starts[i].push(milliseconds(sandbox.start));
            processor[i].push(milliseconds(runtime_api::cpu(sandbox.process())));
            answers[i].push(milliseconds(sandbox.invoke(&event)?.1));
        }
    }
    println!("\nCold start without the emulator, {POLICIES} policies, embedded JWKS, {STARTS} starts each in turns");
    report("start of the process → first poll, ms", starts, None);
    report("processor time until then, ms", processor, None);
    report("first event → answer (RS256 verified), ms", answers, None);
    Ok(())
}

fn report(what: &str, values: [Vec<f64>; 2], goal: Option<f64>) {
    let figures = values.map(Figures::new);
    let mut rows: Vec<Vec<String>> = NAMES.iter().zip(&figures).map(|(name, figures)| spread(name, figures)).collect();
    let value = figures[1].median() / figures[0].median();
    let value = goal.map_or_else(|| format!("{value:.2} ×"), |goal| ratio(value, goal));
    rows.push(vec!["ratio of the medians".to_owned(), String::new(), value, String::new()]);
    table(&[what, "min", "median", "max"], &rows);
}
