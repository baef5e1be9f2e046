//! The extension beside Envoy as Istio's sidecar has it: the same documents, the same requests and the same services
//! with the same faults; the same outcome for the application and for the services is demanded.
//!
//! `rows/` holds the cases, `translate.rs` says the documents in Envoy's words, and `compare.rs` holds the one list of
//! what may differ. `CAUSEWAY_PARITY_ONLY` takes the rows alone whose name contains its value.

mod client;
mod compare;
mod mesh;
mod proxies;
mod row;
mod rows;
mod translate;
mod upstream;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use compare::Outcome;
use mesh::Authority;
use proxies::Proxies;
use row::{Act, Row};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use upstream::{Notes, Upstream};

/// Rows at a time.
const AT_A_TIME: usize = 8;

/// How long a service may take to get a request.
const PATIENCE: Duration = Duration::from_secs(20);

/// A row with its services.
struct Stage {
    row: Row,
    host: String,
    notes: Arc<Notes>,
    upstreams: Vec<Upstream>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_extension_does_what_envoy_does() -> Result<(), String> {
    if !e2e::tier::available(&[&e2e::tool("envoy")]) {
        return Ok(());
    }
    let rows = chosen(rows::all());
    let authority = Arc::new(Authority::new()?);
    let (stages, documents) = stage(rows, &authority).await?;
    let proxies = Arc::new(Proxies::start(documents, authority).await?);
    let (count, mut failures) = (stages.len(), Vec::new());
    let places = Arc::new(Semaphore::new(AT_A_TIME));
    let mut running = JoinSet::new();
    for stage in stages {
        let (places, proxies) = (Arc::clone(&places), Arc::clone(&proxies));
        running.spawn(async move {
            let _place = places.acquire_owned().await;
            let ours = play(&stage, &proxies, Side::Extension).await;
            let theirs = play(&stage, &proxies, Side::Envoy).await;
            (stage.row.name, compare::differences(&stage.row, &stage.host, &ours, &theirs))
        });
    }
    while let Some(found) = running.join_next().await {
        match found {
            Ok((name, found)) if !found.is_empty() => failures.push(format!("{name}\n    {}", found.join("\n    "))),
            Ok(_) => {}
            Err(problem) => failures.push(problem.to_string()),
        }
    }
    failures.sort();
    assert!(
        failures.is_empty(),
        "{} of {count} rows differ:\n\n{}\n\nEnvoy said:\n{}",
        failures.len(),
        failures.join("\n\n"),
        proxies.envoy_said().join("\n")
    );
    Ok(())
}

/// What chance decides, a hundred times each: within six standard deviations of what is wanted, on both sides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shares_are_shares_on_both_sides() -> Result<(), String> {
    if !e2e::tier::available(&[&e2e::tool("envoy")]) {
        return Ok(());
    }
    let authority = Arc::new(Authority::new()?);
    let (stages, documents) = stage(rows::shares(), &authority).await?;
    let proxies = Proxies::start(documents, authority).await?;
    for stage in &stages {
        for side in [Side::Extension, Side::Envoy] {
            let outcome = play(stage, &proxies, side).await;
            let total = outcome.answers.len();
            let counted = match stage.row.name {
                "injected" => outcome.seen.len(),
                _ => outcome.seen.iter().filter(|seen| seen.upstream == "b").count(),
            };
            assert_eq!(total, rows::DRAWS);
            assert!(
                rows::LIKELY.contains(&counted),
                "{}: {counted} of {total} at {side:?}, expected {:?}",
                stage.row.name,
                rows::LIKELY
            );
        }
    }
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "the tests' own environment")]
fn chosen(mut rows: Vec<Row>) -> Vec<Row> {
    if let Ok(only) = std::env::var("CAUSEWAY_PARITY_ONLY") {
        rows.retain(|row| row.name.contains(&only));
    }
    rows
}

/// Starts the services of all rows; gives all documents.
async fn stage(rows: Vec<Row>, authority: &Authority) -> Result<(Vec<Stage>, String), String> {
    let (mut stages, mut documents) = (Vec::new(), String::new());
    for (number, row) in rows.into_iter().enumerate() {
        let notes = Notes::new();
        let tls = row.mesh.map(|id| authority.acceptor(id)).transpose()?;
        let upstreams = row.start(&notes, tls).await.map_err(|error| error.to_string())?;
        documents.push_str(&row.documents(number, &upstreams));
        stages.push(Stage { host: row.host(number), row, notes, upstreams });
    }
    Ok((stages, documents))
}

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Extension,
    Envoy,
}

/// What comes of a row at one proxy.
async fn play(stage: &Stage, proxies: &Proxies, side: Side) -> Outcome {
    let proxy = match side {
        Side::Extension => proxies.extension,
        Side::Envoy if stage.row.trusting => proxies.trusting,
        Side::Envoy => proxies.envoy,
    };
    stage.notes.take();
    stage.notes.open(false);
    stage.upstreams.iter().for_each(Upstream::rewind);
    let (mut answers, mut opened) = (Vec::new(), Vec::new());
    for act in &stage.row.acts {
        match act {
            Act::Call(call) => answers.push(call.send(proxy, &stage.host).await),
            Act::Open(call) => {
                let (call, host, before) = (call.clone(), stage.host.clone(), stage.notes.count());
                opened.push(tokio::spawn(async move { call.send(proxy, &host).await }));
                reached(stage, before + 1).await;
            }
            Act::Race(count, call) => {
                let mut racing: Vec<_> = (0..*count)
                    .map(|_| {
                        let (call, host) = (call.clone(), stage.host.clone());
                        tokio::spawn(async move { call.send(proxy, &host).await })
                    })
                    .collect();
                until(|| async { racing.iter().any(JoinHandle::is_finished) }).await;
                racing.sort_by_key(|one| !one.is_finished());
                let mut racing = racing.into_iter();
                if let Some(first) = racing.next() {
                    answers.push(first.await.unwrap_or_else(|error| Err(error.to_string())));
                }
                opened.extend(racing);
            }
            Act::LeftOut(count) if side == Side::Envoy => {
                let there = until(|| async { proxies.left_out(&stage.host).await == Some(*count) }).await;
                if !there {
                    answers.push(Err(format!("Envoy does not leave out {count}")));
                }
                // Its worker hears of it a moment later.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Act::LeftOut(_) => {}
            Act::Release => {
                stage.notes.open(true);
                for open in opened.drain(..) {
                    answers.push(open.await.unwrap_or_else(|error| Err(error.to_string())));
                }
            }
        }
    }
    if let Some(wanted) = stage.row.wanted {
        // Copies of requests go aside.
        reached(stage, wanted).await;
    }
    Outcome { answers, seen: stage.notes.take() }
}

async fn reached(stage: &Stage, count: usize) {
    until(|| async { stage.notes.count() >= count }).await;
}

/// Waits for what happens aside; false where it does not happen.
async fn until<F: Future<Output = bool>>(happened: impl Fn() -> F) -> bool {
    let there = async {
        while !happened().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, there).await.is_ok()
}
