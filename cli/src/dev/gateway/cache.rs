//! The answers of one authorizer, for as long as they may be reused.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A bounded map whose entries expire; when it is full, the oldest goes.
pub(super) struct Cache<V> {
    entries: HashMap<Key, Entry<V>>,
    /// Keys by age, so that the oldest is at hand.
    order: BTreeMap<u64, Key>,
    next: u64,
    limit: usize,
}

/// A digest: the values themselves are credentials, and of any length.
pub(super) type Key = [u8; 32];

struct Entry<V> {
    value: Arc<V>,
    age: u64,
    expires: u64,
}

impl<V> Cache<V> {
    pub(super) fn new(limit: usize) -> Self {
        Self { entries: HashMap::new(), order: BTreeMap::new(), next: 0, limit }
    }

    /// What is kept under `key` at `now`, in seconds.
    pub(super) fn get(&self, key: &Key, now: u64) -> Option<Arc<V>> {
        self.entries.get(key).filter(|entry| now < entry.expires).map(|entry| Arc::clone(&entry.value))
    }

    /// Keeps `value` until `expires`, in seconds.
    pub(super) fn insert(&mut self, key: Key, value: Arc<V>, expires: u64) {
        if let Some(old) = self.entries.remove(&key) {
            self.order.remove(&old.age);
        }
        while self.entries.len() >= self.limit {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            self.entries.remove(&oldest);
        }
        self.order.insert(self.next, key);
        self.entries.insert(key, Entry { value, age: self.next, expires });
        self.next += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> Key {
        [n; 32]
    }

    #[test]
    fn entries_expire_and_the_oldest_goes_first() {
        let mut cache = Cache::new(2);
        cache.insert(key(1), Arc::new("one"), 10);
        cache.insert(key(2), Arc::new("two"), 10);
        assert_eq!(cache.get(&key(1), 9).as_deref(), Some(&"one"));
        assert_eq!(cache.get(&key(1), 10), None);
        // A new value makes an entry young again.
        cache.insert(key(1), Arc::new("one again"), 20);
        cache.insert(key(3), Arc::new("three"), 20);
        assert_eq!(cache.get(&key(1), 9).as_deref(), Some(&"one again"));
        assert_eq!(cache.get(&key(2), 9), None);
        assert_eq!((cache.entries.len(), cache.order.len()), (2, 2));
    }
}
