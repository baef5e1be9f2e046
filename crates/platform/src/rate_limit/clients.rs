//! What one sandbox remembers of the clients that it has seen: leased tokens, refusals, and how much they ask.

use lru::LruCache;

use super::bucket::OwnBucket;
use super::limit::Limit;
use super::{LEASE_LIFE, MAX_CLIENTS};

/// Demand is counted over this time, in nanoseconds.
const WINDOW: u64 = 1_000_000_000;

/// A lease is for this part of a window.
const LEASES_A_WINDOW: u64 = 2;

/// A lease is this part of a bucket at most, so that one sandbox does not starve the others.
const LEASES_A_BURST: u64 = 10;

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    /// Its own limit, as its record has it.
    pub(crate) own_limit: Option<String>,
    /// The limit that counts for it.
    pub(crate) limit: Limit,
    /// When its bucket is full, as far as that is known.
    pub(crate) full_at: Option<u64>,
    /// Requests that wait for an answer of the table.
    pub(crate) waiting: u64,
    /// What counts while the table cannot be used.
    pub(crate) own_bucket: OwnBucket,
    lease: Lease,
    refused: Span,
    refusals: u32,
    alone: Span,
    demand: Demand,
}

#[derive(Debug, Default)]
struct Lease {
    from: u64,
    left: u64,
}

/// A stretch of time, from one moment to before another.
#[derive(Debug, Default)]
struct Span {
    from: u64,
    to: u64,
}

impl Span {
    /// A clock that was set back is in no span.
    fn has(&self, now: u64) -> bool {
        (self.from..self.to).contains(&now)
    }
}

/// Requests that were allowed in this window and in the one before.
#[derive(Debug, Default)]
struct Demand {
    since: u64,
    count: u64,
    before: u64,
}

impl Demand {
    fn at(&mut self, now: u64) -> &mut Self {
        match now.checked_sub(self.since) {
            Some(age) if age < WINDOW => {}
            Some(age) if age < 2 * WINDOW => {
                *self = Self { since: self.since + WINDOW, count: 0, before: self.count };
            }
            _ => *self = Self { since: now, count: 0, before: 0 },
        }
        self
    }
}

impl Client {
    fn new(limit: Limit) -> Self {
        Self {
            own_limit: None,
            limit,
            full_at: None,
            waiting: 0,
            own_bucket: OwnBucket::default(),
            lease: Lease::default(),
            refused: Span::default(),
            refusals: 0,
            alone: Span::default(),
            demand: Demand::default(),
        }
    }

    /// Takes a leased token, if there is one. A lease ends, and its tokens with it: they are lost, not given back, so
    /// that what was taken long ago never adds to what may be taken now.
    pub(crate) fn take_leased(&mut self, now: u64) -> bool {
        let lives = now.checked_sub(self.lease.from).is_some_and(|age| age < LEASE_LIFE);
        if !lives || self.lease.left == 0 {
            return false;
        }
        self.lease.left -= 1;
        self.demand.at(now).count += 1;
        true
    }

    /// So many tokens were taken at `now`, and one of them is used.
    pub(crate) fn leased(&mut self, tokens: u64, now: u64) {
        self.lease = Lease { from: now, left: tokens.saturating_sub(1) };
        (self.refused, self.refusals) = (Span::default(), 0);
        self.demand.at(now).count += 1;
    }

    /// How many tokens to take: half of what was asked here in the second before, and at least what waits now. Who has
    /// just come gets one at a time: tokens that are leased and not used are lost to the client.
    pub(crate) fn wanted(&mut self, now: u64) -> u64 {
        let most = (self.limit.burst() / LEASES_A_BURST).max(1);
        let ahead = (self.demand.at(now).before / LEASES_A_WINDOW).clamp(1, most);
        ahead.max(self.waiting)
    }

    /// There is no token until `to`.
    pub(crate) fn refuse(&mut self, now: u64, to: u64) {
        self.refused = Span { from: now, to };
        self.refusals = self.refusals.saturating_add(1);
    }

    /// How often there was no token since there was one.
    pub(crate) fn refusals(&self) -> u32 {
        self.refusals
    }

    /// Whether the table need not be asked, since it had nothing a moment ago.
    pub(crate) fn is_refused(&self, now: u64) -> bool {
        self.refused.has(now)
    }

    /// The table cannot be used for this client until `to`.
    pub(crate) fn leave_alone(&mut self, now: u64, to: u64) {
        self.alone = Span { from: now, to };
    }

    /// Whether the table cannot be used for this client.
    pub(crate) fn is_alone(&self, now: u64) -> bool {
        self.alone.has(now)
    }
}

/// The clients, at most [`MAX_CLIENTS`]; the least recently seen goes.
pub(crate) struct Clients(LruCache<String, Client>);

impl Clients {
    pub(crate) fn new() -> Self {
        // Bounded below: a cache with a capacity takes the memory for it at once, on the start path.
        Self(LruCache::unbounded())
    }

    /// The client `id`, which has `limit` until more is known.
    pub(crate) fn get(&mut self, id: &str, limit: Limit) -> &mut Client {
        if !self.0.contains(id) && self.0.len() >= MAX_CLIENTS {
            self.0.pop_lru();
        }
        self.0.get_or_insert_mut_ref(id, || Client::new(limit))
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: u64 = 1_800_000_000_000_000_000;
    const SECOND: u64 = 1_000_000_000;

    fn client(limit: &str) -> Client {
        Client::new(limit.parse().unwrap())
    }

    #[test]
    fn a_lease_has_its_tokens_and_its_second() {
        let mut one = client("50/s,100");
        assert!(!one.take_leased(T));
        one.leased(3, T);
        assert!(one.take_leased(T + SECOND - 1));
        assert!(!one.take_leased(T + SECOND), "it is over");
        assert!(!one.take_leased(T - 1), "the clock was set back");
        assert!(one.take_leased(T));
        assert!(!one.take_leased(T), "three in all");
        one.leased(1, T);
        assert!(!one.take_leased(T), "one, and that is used");
    }

    #[test]
    fn a_lease_is_as_large_as_what_was_asked_for_before() {
        for (limit, asked, waiting, expected) in [
            ("50/s,100", 0, 0, 1),
            ("50/s,100", 3, 0, 1),
            ("50/s,100", 4, 0, 2),
            ("50/s,100", 20, 0, 10),
            ("50/s,100", 90, 0, 10),
            ("50/s,9", 90, 0, 1),
            ("50/s,100", 0, 7, 7),
            ("50/s,100", 10, 70, 70),
        ] {
            let mut one = client(limit);
            one.leased(1, T);
            (1..asked).for_each(|_| one.leased(1, T + 1));
            one.waiting = waiting;
            assert_eq!(one.wanted(T + 2), waiting.max(1), "nothing is known of the second before");
            assert_eq!(one.wanted(T + SECOND), expected, "{limit} {asked} {waiting}");
            assert_eq!(one.wanted(T + 3 * SECOND), waiting.max(1), "silence is forgotten");
            assert_eq!(one.wanted(T - 1), waiting.max(1), "and so is a clock that was set back");
        }
    }

    #[test]
    fn the_least_recently_seen_client_goes() {
        let limit = "1/s,5".parse().unwrap();
        let mut clients = Clients::new();
        for n in 0..MAX_CLIENTS {
            clients.get(&n.to_string(), limit).leased(2, T);
        }
        assert!(clients.get("0", limit).take_leased(T), "the bound itself is kept");
        clients.get("one more", limit);
        assert_eq!(clients.len(), MAX_CLIENTS);
        assert!(!clients.get("1", limit).take_leased(T), "gone");
        assert_eq!(clients.len(), MAX_CLIENTS);
    }
}
