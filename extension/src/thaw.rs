//! Whether the process has been asleep: frozen by Lambda between invocations, or restored from a snapshot.
//!
//! What was left idle before may be dead since, without a sign. Reports disagree on whether the monotonic clock runs
//! through a freeze, so that three clocks are compared.
#![allow(clippy::disallowed_types, reason = "the clock that may stand still is one of those that are compared")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// A gap up to this is no thaw: a busy machine stalls as long.
const LEAST: Duration = Duration::from_secs(1);

/// The clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// `CLOCK_REALTIME`: it goes on in a freeze, and can be set.
    wall: SystemTime,
    /// `CLOCK_MONOTONIC`: it may stand still in a freeze.
    monotonic: Instant,
    /// `CLOCK_BOOTTIME`: it goes on while the machine sleeps. Absent where it cannot be read.
    boot: Option<Duration>,
}

/// What lies between two moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Between {
    /// Nothing of note.
    Awake,
    /// It was asleep, or may have been, for about this long.
    Thawed(Duration),
    /// The wall clock was set back: no age that is measured on it can be trusted.
    SetBack,
}

/// Judges two moments. `freezes` says that the process sleeps whenever nothing happens, so that a gap without any
/// event counts as sleep even if every clock went on.
pub(crate) fn between(before: &Moment, now: &Moment, freezes: bool) -> Between {
    let ran = now.monotonic.saturating_duration_since(before.monotonic);
    let Ok(wall) = now.wall.duration_since(before.wall) else { return Between::SetBack };
    let boot = match (before.boot, now.boot) {
        (Some(before), Some(now)) => now.saturating_sub(before),
        _ => Duration::ZERO,
    };
    let passed = wall.max(boot).max(ran);
    let stood = passed.saturating_sub(ran);
    match freezes {
        true if passed > LEAST => Between::Thawed(passed),
        // Where nothing is frozen, only a clock that stood still tells.
        false if stood > LEAST => Between::Thawed(stood),
        _ => Between::Awake,
    }
}

impl Moment {
    /// The clocks now, without that of the machine's boot: for requests, which are many. `wall` is an argument, as
    /// everywhere.
    pub(crate) fn quick(wall: SystemTime) -> Moment {
        Moment { wall, monotonic: Instant::now(), boot: None }
    }

    /// All clocks now.
    pub(crate) fn now(wall: SystemTime) -> Moment {
        // The kernel writes CLOCK_BOOTTIME there, in hundredths of a second.
        let boot = std::fs::read_to_string("/proc/uptime").ok().and_then(|text| uptime(&text));
        Moment { wall, monotonic: Instant::now(), boot }
    }
}

fn uptime(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.split_ascii_whitespace().next()?.parse().ok()?).ok()
}

/// Remembers the last moment that something happened.
pub(crate) struct Watch {
    last: Mutex<Option<Moment>>,
    freezes: bool,
    thaws: AtomicU64,
    stale: AtomicU64,
}

impl Watch {
    /// Nothing has happened yet.
    pub(crate) fn new(freezes: bool) -> Watch {
        Watch { last: Mutex::default(), freezes, thaws: AtomicU64::new(0), stale: AtomicU64::new(0) }
    }

    /// Something happens now: what lies between it and what happened last.
    pub(crate) fn look(&self, now: Moment) -> Between {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let found = last.map_or(Between::Awake, |before| between(&before, &now, self.freezes));
        // Awake, the time since boot goes on as the monotonic one does: a quick look keeps it.
        let boot = last
            .filter(|_| found == Between::Awake)
            .and_then(|before| Some(before.boot? + now.monotonic.saturating_duration_since(before.monotonic)));
        *last = Some(Moment { boot: now.boot.or(boot), ..now });
        drop(last);
        if found != Between::Awake {
            self.thaws.fetch_add(1, Ordering::Relaxed);
        }
        found
    }

    /// So many connections were dropped because of it.
    pub(crate) fn dropped(&self, connections: usize) {
        self.stale.fetch_add(connections as u64, Ordering::Relaxed);
    }

    /// How often it woke up, and the connections that were dropped then.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.thaws.load(Ordering::Relaxed), self.stale.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_tell_a_thaw() {
        let start = Moment {
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000),
            monotonic: Instant::now(),
            boot: Some(Duration::from_secs(100)),
        };
        let thawed = |millis| Between::Thawed(Duration::from_millis(millis));
        // Milliseconds on the wall clock, the monotonic one and that of the machine's boot.
        for (wall, monotonic, boot, freezing, running) in [
            (0, 0, Some(0), Between::Awake, Between::Awake),
            (1_000, 1_000, Some(1_000), Between::Awake, Between::Awake),
            // A freeze through which every clock went on: of note only where there are freezes.
            (1_001, 1_001, Some(1_001), thawed(1_001), Between::Awake),
            (181_000, 181_000, None, thawed(181_000), Between::Awake),
            // The monotonic clock stood still.
            (60_000, 5, Some(60_000), thawed(60_000), thawed(59_995)),
            (60_000, 5, None, thawed(60_000), thawed(59_995)),
            (1_005, 5, None, thawed(1_005), Between::Awake),
            // Only the clock since boot knows: the wall clock was set back by just as much.
            (5, 5, Some(60_000), thawed(60_000), thawed(59_995)),
            (-1, 5, Some(5), Between::SetBack, Between::SetBack),
            (-60_000, 5, Some(60_000), Between::SetBack, Between::SetBack),
            // Clocks do not agree to the millisecond.
            (59_500, 60_000, Some(60_000), thawed(60_000), Between::Awake),
        ] {
            let millis = |millis: i64| Duration::from_millis(millis.unsigned_abs());
            let now = Moment {
                wall: if wall < 0 { start.wall - millis(wall) } else { start.wall + millis(wall) },
                monotonic: start.monotonic + millis(monotonic),
                boot: boot.map(|boot| Duration::from_secs(100) + millis(boot)),
            };
            let case = (wall, monotonic, boot);
            assert_eq!(between(&start, &now, true), freezing, "{case:?} where there are freezes");
            assert_eq!(between(&start, &now, false), running, "{case:?} where there are none");
        }
    }

    #[test]
    fn the_gap_counts_from_what_happened_last() {
        let watch = Watch::new(true);
        let mut now = Moment::now(SystemTime::now());
        assert_eq!(watch.look(now), Between::Awake, "the first moment");
        for (seconds, expected) in [(1, false), (1, false), (2, true), (1, false)] {
            let step = Duration::from_secs(seconds);
            (now.wall, now.monotonic) = (now.wall + step, now.monotonic + step);
            now.boot = now.boot.map(|boot| boot + step);
            assert_eq!(watch.look(now) != Between::Awake, expected, "{seconds}");
        }
        // A quick look in between loses nothing of the clock since boot.
        let step = Duration::from_millis(500);
        (now.wall, now.monotonic) = (now.wall + step, now.monotonic + step);
        assert_eq!(watch.look(Moment { boot: None, ..now }), Between::Awake);
        (now.wall, now.monotonic) = (now.wall + step, now.monotonic + step);
        now.boot = Some(now.boot.unwrap_or_default() + Duration::from_secs(60));
        assert!(matches!(watch.look(now), Between::Thawed(slept) if slept > Duration::from_secs(58)));
        watch.dropped(3);
        assert_eq!(watch.counts(), (2, 3));
    }

    #[test]
    fn the_uptime_is_read() {
        assert_eq!(uptime("350735.47 234388.90\n"), Some(Duration::from_millis(350_735_470)));
        for text in ["", "x", "-1 2", "NaN 1", "inf 1"] {
            assert_eq!(uptime(text), None, "{text:?}");
        }
    }
}
