//! What the extension costs as an egress proxy, beside Envoy, HAProxy and nginx in one run: plain HTTP/1.1 comes in,
//! mutual TLS goes out to one nginx, with a route, a token, retries and an access log at each of them.
//!
//! Each proxy has one processor for itself, the load and the service share the other one. So the measure is the
//! processor time of a request, not how many there are in a second: wrk and the service end before some proxies do.
//! `make bench` runs it. It fails on no number; what it cannot run it skips, and says so.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing, clippy::disallowed_types)]

#[allow(dead_code, reason = "each bench uses its part")]
#[path = "../common/mod.rs"]
mod common;
mod load;
mod peers;
mod service;
mod start;
mod train;

use std::path::Path;

use e2e::world::{self, World};

use common::figures;
use load::Load;
use peers::Peer;
use service::Service;

/// The rounds of one table: each proxy is measured in each of them, in turns.
const ROUNDS: usize = 5;

fn main() {
    if common::is_asked_for_tests() {
        return;
    }
    figures::machine();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    if let Err(why) = runtime.block_on(all()) {
        println!("\nskipped: egress: {why}");
    }
}

async fn all() -> Result<(), String> {
    if !world::available() {
        return Err("the parts are not there".to_owned());
    }
    let world = World::start().await?;
    let service = Service::start(&world).await?;
    if let Some(program) = std::env::args().skip_while(|argument| argument != "train").nth(1) {
        return train::run(&world, &service, Path::new(&program)).await;
    }
    if let Err(why) = start::report(&world) {
        println!("\nskipped: start: {why}");
    }
    if std::env::args().any(|argument| argument == "start") {
        return Ok(());
    }
    let quick = std::env::args().any(|argument| argument == "quick");
    let rounds = if quick { 1 } else { ROUNDS };
    let names: Vec<String> = std::env::args().filter(|name| peers::NAMES.contains(&name.as_str())).collect();
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    let mut all = Vec::new();
    for name in peers::NAMES.into_iter().filter(|name| wanted(name)) {
        match Peer::start(name, &world, &service).await {
            Ok(peer) => all.push(peer),
            Err(why) => println!("\nskipped: {name}: {why}"),
        }
    }
    for (title, path, connections) in [
        ("1 KiB, 32 connections", "/ratings/1k", 32),
        ("64 KiB, 32 connections", "/ratings/64k", 32),
        ("1 KiB, one connection: latency at low load", "/ratings/1k", 1),
    ] {
        let mut measured: Vec<Vec<Load>> = all.iter().map(|_| Vec::new()).collect();
        for _ in 0..rounds {
            for (peer, measured) in all.iter().zip(&mut measured) {
                measured.push(load::run(peer, path, connections)?);
            }
        }
        println!("\nHTTP/1.1 in, mutual TLS out (HTTP/1.1), {title}; medians of {rounds} rounds in turns");
        load::report(&all, &measured);
    }
    Ok(())
}
