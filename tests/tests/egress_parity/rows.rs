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

use crate::row::Row;

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
