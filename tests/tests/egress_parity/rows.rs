//! The cases, by theme.

mod changes;
mod faults;
mod grpc;
mod hashing;
mod http;
mod limits;
mod matching;
mod mutual_tls;
mod retries;
mod wishes;

use crate::client::Call;
use crate::row::Row;

/// How many requests each row of [`shares`] has.
pub(crate) const DRAWS: usize = 200;

/// How many of them are likely where half are wanted: 100, and six standard deviations to either side.
pub(crate) const LIKELY: std::ops::RangeInclusive<usize> = 58..=142;

/// Rows of which chance decides one half.
pub(crate) fn shares() -> Vec<Row> {
    let calls = || std::iter::repeat_n(Call::new("GET", "/"), DRAWS);
    vec![
        Row::new("weighted")
            .http(
                "  - route:
    - { destination: { host: b.HOST }, weight: 30 }
    - { destination: { host: c.HOST }, weight: 10 }
    - { destination: { host: HOST }, weight: 20 }",
            )
            .calls(calls()),
        Row::new("injected")
            .http(
                "  - fault: { abort: { httpStatus: 500, percentage: { value: 50 } } }
    route: [{ destination: { host: HOST } }]",
            )
            .calls(calls()),
    ]
}

/// All of them.
pub(crate) fn all() -> Vec<Row> {
    let themes = [
        matching::rows(),
        changes::rows(),
        faults::rows(),
        retries::rows(),
        wishes::rows(),
        limits::rows(),
        hashing::rows(),
        http::rows(),
        grpc::rows(),
        mutual_tls::rows(),
    ];
    themes.into_iter().flatten().collect()
}
