//! The issuer as a library: an event's text in, an answer's text out, on one thread and without a Lambda around. All that
//! it needs is remembered, as it is between two requests of the same client within a minute.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair};

use crate::common::figures::{Figures, each, table};
use crate::world::World;

/// Batches of each measurement, and requests of each batch.
const BATCHES: usize = 31;
const REQUESTS: usize = 200;

/// What the design asks for: tokens for each signature that aws-lc-rs alone could make in the same time.
const GOAL: f64 = 0.8;

pub(crate) fn print(world: &World) -> Result<(), String> {
    let (ec, rsa) = (EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING), RsaKeyPair::generate(KeySize::Rsa2048));
    let (ec, rsa) = (ec.map_err(|error| error.to_string())?, rsa.map_err(|error| error.to_string())?);
    let random = SystemRandom::new();
    let message = |request: &str| {
        let token = world.token(request);
        token.rsplit_once('.').map(|(message, _)| message.to_owned()).unwrap_or_default()
    };
    let (es256, rs256) = (world.token_request("es256"), world.token_request("rs256"));
    let (es256_message, rs256_message) = (message(&es256), message(&rs256));
    let sign_es256 = || {
        for _ in 0..REQUESTS {
            std::hint::black_box(ec.sign(&random, es256_message.as_bytes()).is_ok());
        }
    };
    let sign_rs256 = || {
        let mut signature = vec![0; rsa.public_modulus_len()];
        for _ in 0..REQUESTS {
            let signed = rsa.sign(&RSA_PKCS1_SHA256, &random, rs256_message.as_bytes(), &mut signature);
            std::hint::black_box(signed.is_ok());
        }
    };
    let rows = [
        row(world, "ES256 token", &es256, &sign_es256, Some(GOAL)),
        row(world, "RS256 token", &rs256, &sign_rs256, None),
        row(world, "X.509-SVID, P-256, beside one ES256 signature", &world.svid_request(), &sign_es256, None),
    ];
    println!("\nThe issuer in process, event to answer with its log line, one thread, nothing read from AWS");
    println!("(tokens: `client_credentials` with `client_secret_basic`)");
    let header = ["", "each, µs", "each second", "aws-lc-rs' own signing, µs", "signatures/s", "ratio of the rates"];
    table(&header, &rows);
    Ok(())
}

/// Measures requests beside `alone`, in turns.
fn row(world: &World, name: &str, request: &str, alone: &dyn Fn(), goal: Option<f64>) -> Vec<String> {
    world.ask(request, REQUESTS);
    let (mut times, mut others) = (Vec::new(), Vec::new());
    for _ in 0..BATCHES {
        times.push(each(REQUESTS, || world.ask(request, REQUESTS)));
        others.push(each(REQUESTS, alone));
    }
    let [time, other] = [times, others].map(|values| Figures::new(values).median());
    let ratio = other / time;
    let verdict = goal.map_or_else(String::new, |goal| {
        format!(" (goal ≥ {goal:.2}: {})", if ratio >= goal { "met" } else { "missed" })
    });
    vec![
        name.to_owned(),
        format!("{time:.1}"),
        format!("{:.0}", 1e6 / time),
        format!("{other:.1}"),
        format!("{:.0}", 1e6 / other),
        format!("{ratio:.2} ×{verdict}"),
    ]
}

/// How often DynamoDB and Secrets Manager are asked: for the first of something in an execution environment, and for each
/// of those that follow within a minute.
pub(crate) fn calls(world: &World) -> Result<(), String> {
    const MORE: usize = 1_000;
    let mut rows = Vec::new();
    let fresh = World::new();
    for (name, request) in [("token", world.token_request("es256")), ("X.509-SVID", world.svid_request())] {
        let before = fresh.calls.so_far();
        fresh.ask(&request, 1);
        let first = fresh.calls.so_far() - before;
        fresh.ask(&request, MORE);
        let others = fresh.calls.so_far() - before - first;
        rows.push(vec![name.to_owned(), first.to_string(), others.to_string()]);
    }
    println!("\nCalls of AWS");
    table(&["", "the first", &format!("the next {MORE}")], &rows);
    Ok(())
}
