//! The authorizer as a library: an event's text in, an answer out, on one thread and without a Lambda around.

use authorizer::Authorizer;

use crate::common::figures::{Figures, each, table};
use crate::common::policies::POLICIES;
use crate::world::{Algorithm, Token, World};

/// Batches of each measurement, and events of each batch.
const BATCHES: usize = 31;
const EVENTS: usize = 200;

pub(crate) fn print(world: &World) -> Result<(), String> {
    let mut rows = Vec::new();
    for (name, algorithm) in [("ES256", Algorithm::Es256), ("RS256", Algorithm::Rs256)] {
        let tokens: Vec<Token> = (0..EVENTS).map(|serial| world.token(algorithm, serial)).collect();
        let events: Vec<String> = tokens.iter().map(|token| world.event_with_token(token)).collect();
        let verify = world.verifier(algorithm);
        let alone = || tokens.iter().for_each(&verify);
        // One that has seen another token only: the key is parsed, and each token is new to it.
        let other = [world.event_with_token(&world.token(algorithm, EVENTS))];
        let fresh = || {
            let authorizer = world.in_process();
            world.authorize(&authorizer, &other);
            authorizer
        };
        rows.push(row(world, &format!("{name}, token not seen before"), &events, fresh, Some(&alone)));
        let warm = world.in_process();
        world.authorize(&warm, &events);
        rows.push(row(world, &format!("{name}, token cached"), &events, || warm.clone(), Some(&alone)));
    }
    let authorizer = world.in_process();
    let events = vec![world.event_with_key(); EVENTS];
    world.authorize(&authorizer, &events);
    rows.push(row(world, "API key, record cached", &events, || authorizer.clone(), None));
    println!("\nDecisions in process, {POLICIES} policies, event to answer with its log line, one thread");
    table(&["credential", "decision, µs", "decisions/s", "aws-lc-rs' own verification, µs", "ratio"], &rows);
    Ok(())
}

/// Measures the authorizer that `make` gives, beside `alone`, in turns.
fn row(
    world: &World,
    name: &str,
    events: &[String],
    make: impl Fn() -> Authorizer,
    alone: Option<&dyn Fn()>,
) -> Vec<String> {
    let (mut times, mut others) = (Vec::new(), Vec::new());
    for _ in 0..BATCHES {
        let authorizer = make();
        times.push(each(EVENTS, || world.authorize_unseen(&authorizer, events)));
        others.extend(alone.map(|alone| each(EVENTS, alone)));
    }
    let time = Figures::new(times).median();
    let mut row = vec![name.to_owned(), format!("{time:.1}"), format!("{:.0}", 1e6 / time)];
    if others.is_empty() {
        row.extend(["".to_owned(), "".to_owned()]);
    } else {
        let other = Figures::new(others).median();
        row.extend([format!("{other:.1}"), format!("{:.2} ×", time / other)]);
    }
    row
}
