//! The same policies and the same requests, given to real Envoy and to `authz`: they must agree.
//!
//! `translate` says Istio's policies in Envoy's words, `generate` makes policies and requests, `world` is the Envoy with
//! everything around it, `compare` asks both. `CAUSEWAY_DIFFERENTIAL_CASES` (sets of policies), `…_SEED` and `…_ONLY` (the
//! number of one set) steer it: `make differential` runs many, and every report says how to see it again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, missing_docs, unreachable_pub)]
#![allow(clippy::disallowed_methods, reason = "the tests' own environment")]

mod call;
mod compare;
mod generate;
mod recorded;
mod token;
mod translate;
mod world;

use std::time::{SystemTime, UNIX_EPOCH};

use e2e::{tier, tool};

use crate::call::Call;
use crate::compare::{Ours, difference, is_deliberate};
use crate::generate::{FIELDS, Generated, IDENTITIES, Rng, calls, workload};
use crate::token::Keys;
use crate::translate::Setup;
use crate::world::{Names, World};

/// Sets of policies in `make test`, and requests to each.
const CASES: u64 = 80;
const REQUESTS: usize = 36;
/// Listeners of one Envoy.
const BATCH: usize = 100;
/// Disagreements that are printed.
const SHOWN: usize = 12;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn identities() -> Vec<(String, Names)> {
    let uri = |id: &str| Names::Alternative(vec![format!("spiffe://{id}")], Vec::new());
    IDENTITIES.iter().map(|id| ((*id).to_owned(), uri(id))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_and_authz_agree() -> Result<(), String> {
    if !tier::available(&[&tool("envoy")]) {
        return Ok(());
    }
    let seed = number("CAUSEWAY_DIFFERENTIAL_SEED").unwrap_or(1);
    let numbers: Vec<u64> = match number("CAUSEWAY_DIFFERENTIAL_ONLY") {
        Some(only) => vec![only],
        None => (0..number("CAUSEWAY_DIFFERENTIAL_CASES").unwrap_or(CASES)).collect(),
    };
    let keys = Keys::new();
    let mut tally = Tally::default();
    for batch in numbers.chunks(BATCH) {
        let cases: Vec<(u64, Rng, Generated)> = batch
            .iter()
            .map(|number| {
                let mut rng = Rng::new(seed.wrapping_mul(1_000_003).wrapping_add(*number));
                let generated = generate::setup(&mut rng, FIELDS, &keys);
                (*number, rng, generated)
            })
            .collect();
        let setups: Vec<(String, Setup)> =
            cases.iter().map(|(number, _, generated)| (number.to_string(), generated.setup.clone())).collect();
        let world = World::start(&setups, &workload(), &identities()).await?;
        for (number, mut rng, generated) in cases {
            let ours = Ours::new(&generated.setup, &workload())
                .map_err(|error| format!("seed {seed}, set {number}: authz refuses {:#?}\n{error}", generated.setup))?;
            let calls = calls(&mut rng, FIELDS, &generated, REQUESTS, now());
            for call in &calls {
                let found = ask(&world, &number.to_string(), &generated.setup, &ours, call, &keys, &mut tally).await;
                let found = found.map_err(|error| format!("seed {seed}, set {number}: {error}\n{call:#?}"))?;
                if let Some(difference) = found {
                    tally.report(seed, number, &generated.setup, call, &difference);
                }
            }
        }
        if let Some(line) = world.output().iter().find(|line| line.contains("[critical]") || line.contains("[error]")) {
            return Err(format!("Envoy complains: {line}"));
        }
    }
    eprintln!(
        "seed {seed}: {} sets of policies, {} requests, statuses {:?}, deliberately different {}",
        numbers.len(),
        tally.requests,
        tally.statuses,
        tally.deliberate
    );
    if tally.differences > 0 {
        // The error of a test is printed with its line feeds escaped.
        eprintln!("{}", tally.reports.join("\n"));
        return Err(format!("{} disagreements", tally.differences));
    }
    Ok(())
}

#[derive(Default)]
struct Tally {
    requests: usize,
    statuses: std::collections::BTreeMap<u16, usize>,
    deliberate: usize,
    differences: usize,
    reports: Vec<String>,
}

impl Tally {
    fn report(&mut self, seed: u64, number: u64, setup: &Setup, call: &Call, difference: &str) {
        self.differences += 1;
        if self.reports.len() < SHOWN {
            self.reports.push(format!(
                "CAUSEWAY_DIFFERENTIAL_SEED={seed} CAUSEWAY_DIFFERENTIAL_ONLY={number}: {difference}\n{call:?}\n{}\n",
                shown(setup)
            ));
        }
    }
}

/// Asks both. `Some` is a disagreement that is not meant.
async fn ask(
    world: &World,
    listener: &str,
    setup: &Setup,
    ours: &Ours,
    call: &Call,
    keys: &Keys,
    tally: &mut Tally,
) -> Result<Option<String>, String> {
    let wire = call.wire(keys);
    let envoy = world.ask(listener, call, &wire).await?;
    let own = ours.ask(call, &wire, now());
    tally.requests += 1;
    *tally.statuses.entry(envoy.status).or_default() += 1;
    let Some(difference) = difference(&envoy, &own) else { return Ok(None) };
    if is_deliberate(setup, &wire, &envoy, &own).is_some() {
        tally.deliberate += 1;
        return Ok(None);
    }
    Ok(Some(format!("{difference}\n  Envoy: {}\n  authz: {}\n  on the wire: {wire:?}", envoy.why, own.why)))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_recorded_is_still_so() -> Result<(), String> {
    if !tier::available(&[&tool("envoy")]) {
        return Ok(());
    }
    let keys = Keys::new();
    let rows = recorded::rows(&keys, now());
    let setups: Vec<(String, Setup)> =
        rows.iter().enumerate().map(|(index, row)| (index.to_string(), row.setup.clone())).collect();
    let clients: Vec<_> = identities().into_iter().chain(recorded::clients()).collect();
    let world = World::start(&setups, &workload(), &clients).await?;
    let mut wrong = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let wire = row.call.wire(&keys);
        let envoy = world
            .ask(&index.to_string(), &row.call, &wire)
            .await
            .map_err(|error| format!("b11.{} ({index}): {error}\n{:?}", row.item, row.call))?;
        let mut say = |what: String| wrong.push(format!("b11.{} ({index}): {what}\n{:?}", row.item, row.call));
        if envoy.status != row.status {
            say(format!("Envoy answers {} ({}), {} was recorded", envoy.status, envoy.why, row.status));
        }
        let path = envoy.seen.as_ref().and_then(|seen| seen.path.as_deref());
        if row.path.is_some_and(|recorded| path != Some(recorded)) {
            say(format!("Envoy sends the path {path:?} on, {:?} was recorded", row.path));
        }
        if row.body.is_some_and(|recorded| envoy.why != recorded) {
            say(format!("Envoy's body is {:?}, {:?} was recorded", envoy.why, row.body));
        }
        let ours = match Ours::new(&row.setup, &workload()) {
            Ok(ours) => ours,
            Err(error) => {
                say(format!("authz refuses the policies: {error}"));
                continue;
            }
        };
        let mut call = row.call.clone();
        if let Some(peer) = row.peer {
            call.principal = Some(peer.to_owned());
        }
        let own = ours.ask(&call, &wire, now());
        if own.status != row.ours {
            say(format!("authz answers {} ({}), {} was expected", own.status, own.why, row.ours));
        } else if row.ours == row.status
            && let Some(difference) = difference(&envoy, &own)
        {
            say(difference);
        }
    }
    for line in &wrong {
        eprintln!("{line}");
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("{} of {} rows", wrong.len(), rows.len())) }
}

/// b11.11: an OR of one value.
#[tokio::test(flavor = "multi_thread")]
async fn envoy_refuses_an_or_of_one_value() -> Result<(), String> {
    if !tier::available(&[&tool("envoy")]) {
        return Ok(());
    }
    let keys = Keys::new();
    let with_claim = recorded::rows(&keys, now()).into_iter().find(|row| row.item == "8").unwrap().setup;
    for (one, accepted) in [(true, true), (false, false)] {
        let setups = [("0".to_owned(), with_claim.clone())];
        let said = world::validate(&setups, &workload(), |text| match one {
            true => text,
            // What `OrMatcher` avoids.
            false => text.replace(
                r#""value":{"or_match":{"value_matchers":["#,
                r#""value":{"or_match":{"value_matchers":[{"or_match":{"value_matchers":[{"null_match":{}}]}},"#,
            ),
        })
        .await?;
        assert_eq!(said.is_ok(), accepted, "{said:?}");
    }
    Ok(())
}

/// The policies without their empty fields.
fn shown(setup: &Setup) -> String {
    let text = format!("{setup:#?}");
    let lines = text.lines().filter(|line| {
        let line = line.trim();
        !(line.ends_with(": [],") || line.ends_with(": None,") || line.ends_with(": {},") || line.starts_with("origin"))
    });
    lines.collect::<Vec<_>>().join("\n")
}
