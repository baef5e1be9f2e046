//! One question a key at a time: who comes second waits, and then looks at what the first one found.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedMutexGuard;

/// The questions that are being asked: never more than there are requests.
#[derive(Default)]
pub(crate) struct SingleFlight(Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>);

/// The right to ask about one id, until it is dropped. A request that is given up drops it, too.
pub(crate) struct Turn<'a> {
    flights: &'a SingleFlight,
    id: &'a str,
    /// `None` only while it is dropped.
    lock: Option<Arc<tokio::sync::Mutex<()>>>,
    guard: Option<OwnedMutexGuard<()>>,
}

impl SingleFlight {
    /// Waits for the turn to ask about `id`.
    pub(crate) async fn turn<'a>(&'a self, id: &'a str) -> Turn<'a> {
        let lock = self.map().entry(id.to_owned()).or_default().clone();
        // Before the wait, so that who is given up while waiting clears up as well.
        let mut turn = Turn { flights: self, id, lock: Some(lock.clone()), guard: None };
        turn.guard = Some(lock.lock_owned().await);
        turn
    }

    fn map(&self) -> MutexGuard<'_, HashMap<String, Arc<tokio::sync::Mutex<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.guard.take();
        let mut map = self.flights.map();
        // While the map is locked, so that of two that leave together the second one sees that it is the last.
        self.lock.take();
        // The map's alone: nobody waits, and nobody can come while the map is locked.
        if map.get(self.id).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            map.remove(self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Whoever leaves last clears up, however many leave at a time.
    #[test]
    fn turns_that_are_dropped_together_leave_nothing_behind() {
        let flights = SingleFlight::default();
        for _ in 0..2_000 {
            let lock = flights.map().entry("a".to_owned()).or_default().clone();
            let turn = || Turn { flights: &flights, id: "a", lock: Some(lock.clone()), guard: None };
            let turns = [turn(), turn(), turn(), turn()];
            drop(lock);
            std::thread::scope(|scope| {
                for turn in turns {
                    scope.spawn(move || drop(turn));
                }
            });
            assert!(flights.map().is_empty());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_for_an_id_and_nothing_is_left_behind() {
        let flights = SingleFlight::default();
        let first = flights.turn("a").await;
        let soon = Duration::from_secs(1);
        assert!(tokio::time::timeout(soon, flights.turn("a")).await.is_err(), "the second one waits");
        assert!(tokio::time::timeout(soon, flights.turn("b")).await.is_ok(), "another id does not");
        drop(first);
        assert!(flights.map().is_empty());

        // Given up while waiting, after the first one has left.
        let first = flights.turn("a").await;
        let mut second = Box::pin(flights.turn("a"));
        assert!(tokio::time::timeout(soon, &mut second).await.is_err());
        drop(first);
        drop(second);
        assert!(flights.map().is_empty());
        assert!(tokio::time::timeout(soon, flights.turn("a")).await.is_ok());
    }
}
