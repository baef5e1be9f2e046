//! The invocation that the function is in: how much of its time is left, and which trace it belongs to.
//!
//! Lambda stops a function at its deadline, whatever it waits for. A call to the mesh that ends a little before that
//! leaves the application the time for an answer of its own. A plain process has no deadline, and neither has a managed
//! instance, which serves many invocations at a time.
//!
//! The function learns of an invocation from the runtime's API and the extension from its own, in no order: a request
//! may come while the deadline is still that of the invocation before. So a deadline that has passed counts as none, and
//! the next one moves the end of requests that are under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use platform::clock::Clock;
use tokio::sync::watch;

/// How long a request has at the least: the event of its own invocation may be on its way.
const GRACE: Duration = Duration::from_millis(20);

/// How long a request waits for the first invocation of a function with SnapStart. In that invocation itself the event
/// is a moment away; before it there is none to wait for, and the function's start must not hang.
const SNAPSHOT_GRACE: Duration = Duration::from_secs(1);

/// The longest trace header that is kept, in bytes.
const MAX_TRACING: usize = 512;

/// The longest id of an invocation that is kept, in bytes: Lambda's have 36.
const MAX_REQUEST_ID: usize = 128;

/// The current invocation, if there is one.
pub(crate) struct Invocation {
    clock: Arc<dyn Clock>,
    margin: Duration,
    has_deadlines: bool,
    current: watch::Sender<Current>,
    /// Nothing may be fetched or connected yet: a snapshot is to be made of this process.
    before_snapshot: AtomicBool,
}

#[derive(Clone, Debug, Default)]
struct Current {
    deadline: Option<SystemTime>,
    tracing: Option<Arc<str>>,
    request_id: Option<Arc<str>>,
}

impl Invocation {
    /// No invocation yet. `margin` is kept free before the deadline; `snap_start` holds everything back until the first
    /// invocation; without `has_deadlines` none will come that has one.
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        margin: Duration,
        snap_start: bool,
        has_deadlines: bool,
    ) -> Arc<Invocation> {
        let current = watch::Sender::new(Current::default());
        Arc::new(Invocation { clock, margin, has_deadlines, current, before_snapshot: AtomicBool::new(snap_start) })
    }

    /// The next invocation, as its event tells of it: `deadline` in milliseconds since the epoch.
    pub(crate) fn begin(&self, deadline: Option<u64>, tracing: Option<&str>, request_id: Option<&str>) {
        self.before_snapshot.store(false, Ordering::Release);
        let deadline = deadline.and_then(|millis| UNIX_EPOCH.checked_add(Duration::from_millis(millis)));
        let tracing = tracing.filter(|tracing| tracing.len() <= MAX_TRACING).map(Arc::from);
        let request_id = request_id.filter(|id| id.len() <= MAX_REQUEST_ID).map(Arc::from);
        self.current.send_replace(Current { deadline, tracing, request_id });
    }

    /// True until the first invocation of a function with SnapStart: a key, a token or a connection that is made now
    /// would be in the snapshot, and the same in every environment that is made of it.
    pub(crate) fn is_before_snapshot(&self) -> bool {
        self.before_snapshot.load(Ordering::Acquire)
    }

    /// Waits until a snapshot is no longer to be made, up to `wait` and not for long; false if it still is. The function
    /// may call out in its first invocation before that invocation's event has come here.
    pub(crate) async fn after_snapshot(&self, wait: Duration) -> bool {
        if !self.is_before_snapshot() {
            return true;
        }
        let mut changes = self.current.subscribe();
        let begun = async {
            // The sender lives in `self`: never an error.
            while self.is_before_snapshot() && changes.changed().await.is_ok() {}
        };
        let _ = tokio::time::timeout(wait.min(SNAPSHOT_GRACE), begun).await;
        !self.is_before_snapshot()
    }

    /// `X-Amzn-Trace-Id` of the invocation; none when it must have ended, and the next one's event is on its way.
    pub(crate) fn tracing(&self) -> Option<Arc<str>> {
        self.current(|current| current.tracing.clone())
    }

    /// The id of the invocation; none when it must have ended, as [`Invocation::tracing`].
    pub(crate) fn request_id(&self) -> Option<Arc<str>> {
        self.current(|current| current.request_id.clone())
    }

    fn current<T>(&self, of: impl Fn(&Current) -> Option<T>) -> Option<T> {
        let current = self.current.borrow();
        match current.deadline {
            Some(deadline) if deadline < self.clock.now() => None,
            _ => of(&current),
        }
    }

    /// Whether there are invocations with deadlines: the event of the first may be on its way.
    pub(crate) fn has_deadlines(&self) -> bool {
        self.has_deadlines
    }

    /// What is left until shortly before the deadline; `None` without one.
    pub(crate) fn left(&self) -> Option<Duration> {
        let deadline = self.current.borrow().deadline?;
        let left = deadline.duration_since(self.clock.now()).ok()?;
        Some(left.saturating_sub(self.margin))
    }

    /// `limit`, or what is left if that is less.
    pub(crate) fn within(&self, limit: Duration) -> Duration {
        self.left().map_or(limit, |left| limit.min(left.max(GRACE)))
    }

    /// Whether there is time for a pause of this length and something after it.
    pub(crate) fn allows(&self, pause: Duration) -> bool {
        self.left().is_none_or(|left| pause < left)
    }

    /// Returns when nothing is left; never without a deadline.
    pub(crate) async fn over(self: Arc<Self>) {
        if !self.has_deadlines {
            return std::future::pending().await;
        }
        let mut changes = self.current.subscribe();
        loop {
            changes.borrow_and_update();
            let left = self.left();
            let sleep = async {
                match left {
                    Some(left) => tokio::time::sleep(left.max(GRACE)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                // The sender lives in `self`: never an error.
                _ = changes.changed() => {}
                () = sleep => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use platform::clock::FixedClock;
    use tokio::time::Instant;

    use super::*;

    const MARGIN: Duration = Duration::from_millis(100);

    fn invocation() -> (Arc<FixedClock>, Arc<Invocation>) {
        let clock = Arc::new(FixedClock::at(1_000));
        let invocation = Invocation::new(clock.clone() as Arc<dyn Clock>, MARGIN, false, true);
        (clock, invocation)
    }

    #[test]
    fn what_is_left_ends_before_the_deadline() {
        let (clock, invocation) = invocation();
        assert_eq!(invocation.left(), None, "no invocation yet");
        for (deadline, expected) in [
            (None, None),
            (Some(1_003_000), Some(2_900)),
            (Some(1_000_101), Some(1)),
            (Some(1_000_100), Some(0)),
            (Some(1_000_000), Some(0)),
            // Of the invocation before.
            (Some(999_999), None),
            (Some(1), None),
        ] {
            invocation.begin(deadline, None, None);
            assert_eq!(invocation.left(), expected.map(Duration::from_millis), "{deadline:?}");
        }
        // A number that no clock has must not stop a request.
        invocation.begin(Some(u64::MAX), None, None);
        assert!(invocation.left().is_none_or(|left| left > MARGIN));
        invocation.begin(Some(1_003_000), None, None);
        clock.advance(Duration::from_millis(2_500));
        assert_eq!(invocation.left(), Some(Duration::from_millis(400)));
        let second = Duration::from_secs(1);
        assert_eq!(invocation.within(second), Duration::from_millis(400));
        assert_eq!(invocation.within(MARGIN), MARGIN);
        assert!(invocation.allows(Duration::from_millis(399)) && !invocation.allows(Duration::from_millis(400)));
        clock.advance(Duration::from_millis(501));
        assert_eq!((invocation.within(second), invocation.allows(second)), (second, true), "over: no limit");
    }

    #[test]
    fn a_trace_ends_with_its_invocation() {
        let (clock, invocation) = invocation();
        let tracing = |invocation: &Invocation| invocation.tracing().is_some();
        assert!(!tracing(&invocation));
        invocation.begin(Some(1_003_000), Some("Root=1"), None);
        assert!(tracing(&invocation));
        clock.advance(Duration::from_secs(3));
        assert!(tracing(&invocation));
        clock.advance(Duration::from_millis(1));
        assert!(!tracing(&invocation), "what is called now belongs to the next one");
        invocation.begin(None, Some("Root=2"), None);
        assert!(tracing(&invocation));
    }

    #[test]
    fn an_id_ends_with_its_invocation_and_is_bounded() {
        let (clock, invocation) = invocation();
        assert_eq!(invocation.request_id(), None);
        invocation.begin(Some(1_003_000), None, Some("3da1f2dc"));
        assert_eq!(invocation.request_id().as_deref(), Some("3da1f2dc"));
        clock.advance(Duration::from_millis(3_001));
        assert_eq!(invocation.request_id(), None);
        for (length, kept) in [(MAX_REQUEST_ID, true), (MAX_REQUEST_ID + 1, false)] {
            invocation.begin(None, None, Some(&"x".repeat(length)));
            assert_eq!(invocation.request_id().is_some(), kept, "{length}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_over_in_time_and_never_without_a_deadline() {
        let (_clock, invocation) = invocation();
        let long = Duration::from_secs(3_600);
        assert!(tokio::time::timeout(long, Arc::clone(&invocation).over()).await.is_err());
        invocation.begin(Some(1_003_000), None, None);
        let start = Instant::now();
        Arc::clone(&invocation).over().await;
        assert_eq!(start.elapsed(), Duration::from_millis(2_900));
        invocation.begin(Some(1_000_050), None, None);
        let start = Instant::now();
        Arc::clone(&invocation).over().await;
        assert_eq!(start.elapsed(), GRACE);
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_invocation_moves_the_end_of_a_request_under_way() {
        let (_clock, invocation) = invocation();
        // Left over from the invocation before: it would end the request at once.
        invocation.begin(Some(1_000_100), None, None);
        let start = Instant::now();
        let over = tokio::spawn(Arc::clone(&invocation).over());
        tokio::time::sleep(GRACE / 2).await;
        invocation.begin(Some(1_005_100), None, None);
        over.await.unwrap();
        assert_eq!(start.elapsed(), GRACE / 2 + Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_ahead_of_the_first_invocations_event_waits_for_it() {
        let invocation = Invocation::new(Arc::new(FixedClock::at(1_000)), MARGIN, true, true);
        let start = Instant::now();
        let long = Duration::from_secs(3_600);
        assert!(!invocation.after_snapshot(MARGIN).await, "in the start of the function");
        assert_eq!(start.elapsed(), MARGIN);
        assert!(!invocation.after_snapshot(long).await);
        assert_eq!(start.elapsed(), MARGIN + SNAPSHOT_GRACE);
        let start = Instant::now();
        let (ready, ()) = tokio::join!(invocation.after_snapshot(long), async {
            tokio::time::sleep(MARGIN).await;
            invocation.begin(None, None, None);
        });
        assert!(ready);
        assert_eq!(start.elapsed(), MARGIN);
        assert!(invocation.after_snapshot(Duration::ZERO).await, "from then on nobody waits");
    }

    #[test]
    fn a_snapshot_is_over_with_the_first_invocation() {
        let clock = Arc::new(FixedClock::at(1_000));
        let invocation = Invocation::new(clock, MARGIN, true, true);
        assert!(invocation.is_before_snapshot());
        invocation.begin(None, Some("Root=1-5759e988-bd862e3fe1be46a994272793"), None);
        assert!(!invocation.is_before_snapshot());
        assert_eq!(invocation.tracing().as_deref(), Some("Root=1-5759e988-bd862e3fe1be46a994272793"));
        invocation.begin(None, Some(&"x".repeat(MAX_TRACING + 1)), None);
        assert_eq!(invocation.tracing(), None);
    }
}
