//! Addresses that a name has had: who answers with a part of them at a time, or moves a name, must not open a way to the
//! ones that this process does not see at the moment.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

/// How long an address counts after it was last in an answer: that of yesterday is nobody else's yet.
pub(super) const KEPT: Duration = Duration::from_secs(48 * 3_600);

/// The most addresses of one name: those go first that were not in an answer for the longest time.
pub(super) const MOST: usize = 128;

/// The addresses, and when each was last in an answer.
#[derive(Default)]
pub(super) struct Earlier(Vec<(IpAddr, SystemTime)>);

impl Earlier {
    /// Notes addresses that are or were in an answer at `now`.
    pub(super) fn note(&mut self, found: impl Iterator<Item = IpAddr>, now: SystemTime) {
        for address in found {
            match self.0.iter_mut().find(|(known, _)| *known == address) {
                Some((_, at)) => *at = now,
                None => self.0.push((address, now)),
            }
        }
        self.0.retain(|(_, at)| is_kept(*at, now));
        if self.0.len() > MOST {
            self.0.sort_by_key(|(_, at)| *at);
            self.0.drain(..self.0.len() - MOST);
        }
    }

    pub(super) fn has(&self, address: IpAddr, now: SystemTime) -> bool {
        self.0.iter().any(|(known, at)| *known == address && is_kept(*at, now))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// On a clock that was set back, what seems to come from the future is kept.
fn is_kept(at: SystemTime, now: SystemTime) -> bool {
    now.duration_since(at).map_or(true, |age| age <= KEPT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn address(number: usize) -> IpAddr {
        IpAddr::from(u32::try_from(number).unwrap().to_be_bytes())
    }

    #[test]
    fn addresses_are_kept_for_a_time_after_their_last_answer() {
        let (mut earlier, kept) = (Earlier::default(), KEPT.as_secs());
        earlier.note([address(1), address(2)].into_iter(), at(100));
        earlier.note([address(2)].into_iter(), at(200));
        assert!(earlier.has(address(1), at(100 + kept)) && !earlier.has(address(1), at(101 + kept)));
        assert!(earlier.has(address(2), at(200 + kept)) && !earlier.has(address(2), at(201 + kept)));
        assert!(!earlier.has(address(3), at(200)));
        // A clock that was set back.
        assert!(earlier.has(address(1), at(1)));
        earlier.note(std::iter::empty(), at(201 + kept));
        assert!(earlier.0.is_empty());
    }

    #[test]
    fn the_number_of_addresses_is_bounded_and_the_oldest_go() {
        let mut earlier = Earlier::default();
        for number in 0..=MOST {
            earlier.note([address(number), address(0)].into_iter(), at(number as u64));
        }
        assert_eq!(earlier.0.len(), MOST);
        let now = at(MOST as u64);
        assert!(earlier.has(address(0), now) && !earlier.has(address(1), now) && earlier.has(address(2), now));
        // More than that in one answer.
        earlier.note((0..10 * MOST).map(address), now);
        assert_eq!(earlier.0.len(), MOST);
    }
}
