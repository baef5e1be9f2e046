//! The same over the mesh's mutual TLS.

use crate::client::{Call, Framing};
use crate::mesh::{OTHER, RATINGS};
use crate::row::Row;
use crate::upstream::Step;

pub(crate) fn rows() -> Vec<Row> {
    let get = || Call::new("GET", "/");
    let row = |name, script: &[Step]| Row::new(name).mesh(RATINGS).script("v1", script);
    vec![
        row("mesh: requests", &[Step::Echo]).calls([get(), Call::new("POST", "/a?b").body("hello", Framing::Length)]),
        row("mesh: retries", &[Step::Status(500), Step::Cut, Step::Fine])
            .http(
                "  - retries: { attempts: 2, retryOn: '5xx', backoff: 1ms }
    route: [{ destination: { host: HOST } }]",
            )
            .call(Call::new("POST", "/").body("hello", Framing::Length)),
        row("mesh: a subset and a rewrite", &[Step::Fine])
            .http(
                "  - match: [{ uri: { prefix: /a } }]
    rewrite: { uri: /b }\n    route: [{ destination: { host: HOST, subset: v1 } }]",
            )
            .gets(&["/a/c", "/d"]),
        row("mesh: time", &[Step::Silent])
            .http(
                "  - timeout: 0.3s
    route: [{ destination: { host: HOST } }]",
            )
            .call(get()),
        row("mesh: cut", &[Step::Cut]).call(Call::new("POST", "/").body("hello", Framing::Length)),
        row("mesh: nobody there", &[]).closed("v1").call(get()),
        Row::new("mesh: somebody else").mesh(OTHER).call(get()),
    ]
}
