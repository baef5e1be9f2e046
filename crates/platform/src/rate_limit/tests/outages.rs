//! The table fails, or is of no help.

use super::*;

#[test]
fn while_the_table_is_down_each_sandbox_limits_by_itself() {
    let world = World::new("50/s,100", Outage::Allow, 2);
    block_on(async {
        world.table.is_down.store(true, Ordering::Relaxed);
        assert_eq!(world.ask(0, "a", 150).await, 100);
        assert_eq!(world.ask(1, "a", 150).await, 100, "it does not know of the other one");
        assert_eq!(world.ask(0, "b", 150).await, 100);
        let refused = world.sandboxes[0].take("a").await.unwrap_err().to_string();
        assert!(refused.contains("in this sandbox, which cannot use the table"), "{refused}");
        assert_eq!(world.asked(), 2, "each sandbox, once");
        assert_eq!(world.sandboxes[0].unavailable(), 301);
        assert_eq!(world.events(), ["rate_limits_unavailable"; 2]);
        world.clock.advance(RETRY_AFTER);
        assert_eq!(world.ask(0, "a", 150).await, 100);
        assert_eq!(world.asked(), 1);
        // It is back: the table's bucket counts, and is full.
        world.table.is_down.store(false, Ordering::Relaxed);
        world.clock.advance(RETRY_AFTER);
        assert_eq!(world.ask(0, "a", 150).await, 100);
        assert_eq!(world.ask(1, "a", 150).await, 0);
        assert_eq!(world.events(), ["rate_limits_available"; 2]);
    });
}

#[test]
fn the_own_limit_of_a_client_outlives_the_table() {
    let world = World::new("50/s,100", Outage::Allow, 1);
    block_on(async {
        world.table.buckets.put("a", Bucket { full_at: None, own_limit: Some("1/s,5".to_owned()) });
        assert_eq!(world.ask(0, "a", 1).await, 1);
        world.table.is_down.store(true, Ordering::Relaxed);
        world.clock.advance(SECOND);
        assert_eq!(world.ask(0, "a", 150).await, 5);
    });
}

#[test]
fn an_outage_can_be_made_to_deny() {
    let world = World::new("50/s,100", Outage::Deny, 1);
    block_on(async {
        world.table.is_down.store(true, Ordering::Relaxed);
        assert_eq!(world.ask(0, "a", 10).await, 0);
        let refused = world.sandboxes[0].take("a").await.unwrap_err();
        assert_eq!(refused, Refused::Outage);
        world.table.is_down.store(false, Ordering::Relaxed);
        assert_eq!(world.ask(0, "a", 10).await, 0, "it is not asked again at once");
        world.clock.advance(RETRY_AFTER);
        assert_eq!(world.ask(0, "a", 10).await, 10);
        assert_eq!(world.events(), ["rate_limits_unavailable", "rate_limits_available"]);
    });
}

#[test]
fn a_table_that_does_not_answer_is_waited_for_once() {
    let world = World::new("50/s,100", Outage::Allow, 1);
    block_on(async {
        world.table.is_silent.store(true, Ordering::Relaxed);
        #[allow(
            clippy::disallowed_methods,
            clippy::disallowed_types,
            reason = "tokio's own time, which the test moves"
        )]
        let started = tokio::time::Instant::now();
        assert_eq!(world.ask(0, "a", 150).await, 100);
        assert_eq!(started.elapsed(), WAIT);
        assert_eq!(world.asked(), 1);
        assert_eq!(world.sandboxes[0].with("a", |client| client.waiting), 0);
    });
}

#[test]
fn a_record_that_cannot_be_read_is_its_clients_alone() {
    let world = World::new("50/s,100", Outage::Allow, 1);
    block_on(async {
        *world.table.malformed.lock().unwrap() = Some("a".to_owned());
        world.table.buckets.put("b", Bucket { full_at: None, own_limit: Some("a lot".to_owned()) });
        assert_eq!(world.ask(0, "a", 150).await, 100);
        assert_eq!(world.ask(0, "b", 150).await, 100);
        assert_eq!(world.asked(), 2);
        assert_eq!(world.ask(0, "c", 150).await, 100);
        assert!(world.asked() >= 100, "others are not affected");
        let lines = world.lines.drain();
        assert!(
            lines.len() == 1
                && lines[0].contains("rate_limit_unavailable")
                && lines[0].contains("in limits cannot be used: it is no number")
        );
        world.clock.advance(60 * SECOND);
        assert_eq!(world.ask(0, "b", 1).await, 1);
        let lines = world.lines.drain();
        assert!(lines[0].contains("the record b has a limit that is none: expected RATE/s,BURST"), "{lines:?}");
    });
}

/// Others are always faster.
struct Contended(InMemory);

impl RateTable for Contended {
    fn update<'a>(&'a self, update: &'a Update<'a>) -> BoxFuture<'a, Result<Updated, RateTableError>> {
        let bucket = Bucket {
            full_at: Some(match update.change {
                Change::Start { now, .. } => now,
                Change::Add { not_before, .. } => not_before - 1,
                Change::Replace { seen, .. } => seen + 1,
            }),
            own_limit: None,
        };
        self.0.put(update.id, bucket);
        self.0.update(update)
    }
}

#[test]
fn attempts_are_bounded() {
    for (outage, expected) in [(Outage::Allow, true), (Outage::Deny, false)] {
        let (log, lines) = Log::memory();
        let table = Arc::new(Contended(InMemory::default()));
        let limits = RateLimits { table, limit: "1/s,1".parse().unwrap(), outage };
        let limiter = RateLimiter::new(limits, Arc::new(FixedClock::at(START)), log);
        assert_eq!(block_on(limiter.take("a")).is_ok(), expected);
        assert_eq!(limiter.updates(), u64::from(MAX_ATTEMPTS));
        assert!(lines.all()[0].contains("changed by others 3 times"), "{:?}", lines.all());
    }
}

#[test]
fn a_flood_of_clients_takes_bounded_memory() {
    let world = World::new("50/s,100", Outage::Allow, 1);
    block_on(async {
        for n in 0..MAX_CLIENTS + 100 {
            world.ask(0, &n.to_string(), 1).await;
        }
        let clients = world.sandboxes[0].clients.lock().unwrap().len();
        assert_eq!(clients, MAX_CLIENTS);
    });
}
