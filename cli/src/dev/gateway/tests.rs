//! The gateway on real sockets, with functions that are closures, or emulators that are sockets.
//!
//! Each test quotes the sentence of AWS' documentation that it holds the code to, with the page's title.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod authorizers;
mod emulator;
mod events;
mod function_urls;
mod harness;
#[path = "../../../../tests/fixtures/issuer.rs"]
mod issuer;
mod limits;
mod mappings;
mod responses;
mod rest;
mod routes;
mod websocket;
