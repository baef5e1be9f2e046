//! When an endpoint is left out: Envoy's outlier detection.

use std::time::Duration;

use crate::table::Outlier;

/// How an endpoint did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Observed {
    /// An answer with this status.
    Status(u16),
    /// No connection, no TLS, a reset or a timeout before the head of an answer.
    LocalOrigin,
    /// A connection was made.
    Connected,
}

/// Watches the endpoints of one cluster. Times are since any origin that does not change.
#[derive(Clone, Debug)]
pub struct Detector;

impl Detector {
    /// For so many endpoints, all of them healthy.
    pub fn new(_settings: Outlier, _endpoints: usize) -> Detector {
        Detector
    }

    /// Counts; true when this ejected the endpoint.
    pub fn observe(&mut self, _endpoint: usize, _observed: Observed, _now: Duration, _random: u64) -> bool {
        false
    }

    /// Brings back those whose time is over. Called before each choice, as nothing runs in a frozen environment.
    pub fn tick(&mut self, _now: Duration) {}

    /// Whether it is left out.
    pub fn is_ejected(&self, _endpoint: usize) -> bool {
        false
    }

    /// The endpoints have changed (DNS): `kept[i]` is the old index of the new endpoint `i`.
    pub fn replace(&mut self, _kept: &[Option<usize>]) {}
}
