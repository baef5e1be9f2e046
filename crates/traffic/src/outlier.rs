//! When an endpoint is left out: Envoy's outlier detection (`outlier_detection_impl.cc`), as far as Istio uses it:
//! failures in a row, always enforced, without jitter and without success rates.

mod monitor;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::time::Duration;

use http::HeaderMap;

use crate::retry::grpc;
use crate::table::Outlier;
use monitor::Monitor;

/// How an endpoint did. What the connection pool's limits refused says nothing about an endpoint and is not observed
/// (Envoy: "removing an upstream in the case of an overloaded cluster would make the situation even worse").
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Observed {
    /// An answer with this status.
    Status(u16),
    /// No connection, no TLS, a reset or a timeout before the head of an answer.
    LocalOrigin,
    /// A request got a connection, a new one or one from the pool: Envoy says so each time. Where nothing of the
    /// protocol above is seen (TCP), `Status(200)` is observed besides.
    Connected,
}

impl Observed {
    /// An answer, where gRPC's status stands for HTTP's if the request is gRPC's and the status is in the head.
    pub fn answer(request: &HeaderMap, status: u16, answer: &HeaderMap) -> Observed {
        let grpc = if grpc::is_request(request) { grpc::status(answer) } else { None };
        Observed::Status(grpc.map_or(status, grpc::to_http))
    }
}

/// Watches the endpoints of one cluster. Times are since any origin that does not change.
#[derive(Clone, Debug)]
pub struct Detector {
    settings: Outlier,
    ejects_one_always: bool,
    monitors: Vec<Monitor>,
    ejected: usize,
    /// The time of the last look, in milliseconds; the first call of all sets the rhythm.
    last_look: Option<u64>,
    version: u64,
}

impl Detector {
    /// For so many endpoints, all of them healthy.
    pub fn new(settings: Outlier, endpoints: usize) -> Detector {
        Detector {
            settings,
            ejects_one_always: false,
            monitors: vec![Monitor::default(); endpoints],
            ejected: 0,
            last_look: None,
            version: 0,
        }
    }

    /// Lets one endpoint be ejected whatever `maxEjectionPercent` says: Envoy's `always_eject_one_host`. Istio leaves
    /// it off, so that 10 %, its default, ejects none of fewer than ten endpoints.
    #[must_use]
    pub fn ejecting_one_always(mut self) -> Detector {
        self.ejects_one_always = true;
        self
    }

    /// Counts; true when this ejected the endpoint. An endpoint that there is not is ignored.
    pub fn observe(&mut self, endpoint: usize, observed: Observed, now: Duration) -> bool {
        self.tick(now);
        let Some(monitor) = self.monitors.get_mut(endpoint) else { return false };
        let reached = match observed {
            Observed::Status(status) => monitor.status(&self.settings, status),
            Observed::LocalOrigin if self.settings.split => monitor.local_failure(&self.settings),
            // Without the split Envoy takes a failure to connect for a 503 and a timeout for a 504
            // (`resultToHttpCode`): both are a failure of a gateway.
            Observed::LocalOrigin => monitor.status(&self.settings, 503),
            Observed::Connected => {
                // "In order not to intervene with result of higher layer protocol, this code is not mapped to HTTP
                // code": without the split it changes nothing, as nothing counts there.
                monitor.local_success();
                return false;
            }
        };
        if reached.is_none() || monitor.is_ejected() {
            return false;
        }
        let may = self.may_eject();
        let Some(monitor) = self.monitors.get_mut(endpoint) else { return false };
        if let Some(kind) = reached {
            // "We also reset the appropriate counter here to allow the monitor to detect a bout of consecutive error
            // responses even if the monitor is not charged with an interleaved non-error code."
            monitor.reset(kind);
        }
        if may {
            monitor.eject(&self.settings, millis(now));
            self.ejected += 1;
            self.version += 1;
        }
        may
    }

    /// Brings back those whose time is over. Called before each choice, as nothing runs in a frozen environment.
    ///
    /// Envoy looks each `interval`; so does this, at the same moments counted from the first call. Looks that were
    /// missed are made up for as if each had taken place at its time: an endpoint comes back at the first look after
    /// its ejection is over, and each look after that makes its next ejection one `baseEjectionTime` shorter. A clock
    /// that goes back changes nothing.
    pub fn tick(&mut self, now: Duration) {
        let now = millis(now);
        let interval = self.settings.interval_ms.max(1);
        let Some(last) = self.last_look else {
            self.last_look = Some(now);
            return;
        };
        let looks = now.saturating_sub(last) / interval;
        if looks == 0 {
            return;
        }
        for monitor in &mut self.monitors {
            if monitor.look(&self.settings, last, interval, looks) {
                self.ejected = self.ejected.saturating_sub(1);
                self.version += 1;
            }
        }
        self.last_look = Some(last + looks * interval);
    }

    /// Whether it is left out.
    pub fn is_ejected(&self, endpoint: usize) -> bool {
        self.monitors.get(endpoint).is_some_and(Monitor::is_ejected)
    }

    /// How many are left out.
    pub fn ejected(&self) -> usize {
        self.ejected
    }

    /// Another number after each change of [`Detector::is_ejected`]: for [`crate::balance::Now::version`].
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The endpoints have changed (DNS): `kept[i]` is the old index of the new endpoint `i`.
    pub fn replace(&mut self, kept: &[Option<usize>]) {
        let old = |index: &Option<usize>| index.and_then(|index| self.monitors.get(index)).cloned().unwrap_or_default();
        self.monitors = kept.iter().map(old).collect();
        self.ejected = self.monitors.iter().filter(|monitor| monitor.is_ejected()).count();
        self.version += 1;
    }

    /// Envoy's `ejectHost`: with this one more, the share of ejected endpoints is at most `maxEjectionPercent`. "It is
    /// possible for outlier detection to eject all hosts at any given priority level."
    fn may_eject(&self) -> bool {
        if self.ejects_one_always && self.ejected == 0 {
            return true;
        }
        let percent = u128::from(self.settings.max_ejection_percent.min(100));
        (self.ejected as u128 + 1) * 100 <= percent * self.monitors.len() as u128
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
