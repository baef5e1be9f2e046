//! Random numbers for shares, choices, pauses and request ids.

use std::hash::BuildHasher;

use platform::random::{Random, SystemRandom};

/// The numbers of one request. They are no secret to anybody, and must only differ from request to request: seeded by
/// the system each time, they also differ between two environments that were restored from one snapshot.
#[derive(Clone, Debug)]
pub(crate) struct Draws(u64);

impl Draws {
    pub(crate) fn new() -> Draws {
        let mut seed = [0; 8];
        match SystemRandom.fill(&mut seed) {
            Ok(()) => Draws(u64::from_le_bytes(seed)),
            // The standard library's own keys, which every process draws anew.
            Err(_) => Draws(std::hash::RandomState::new().hash_one(std::time::SystemTime::now())),
        }
    }

    /// The next number (`SplitMix64`).
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A random UUID (RFC 9562 5.4, version 4), as Envoy makes one for `x-request-id`.
    pub(crate) fn uuid(&mut self) -> String {
        let high = (self.next() & 0xffff_ffff_ffff_0fff) | 0x4000;
        let low = (self.next() & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000;
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_requests_draw_differently() {
        assert_ne!(Draws::new().next(), Draws::new().next());
    }

    #[test]
    fn an_id_is_a_uuid_of_version_4() {
        let mut draws = Draws(1);
        for _ in 0..100 {
            let id = draws.uuid();
            let parts: Vec<&str> = id.split('-').collect();
            assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "{id}");
            assert!(parts[2].starts_with('4') && "89ab".contains(&parts[3][..1]), "{id}");
            assert!(parts.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_hexdigit())), "{id}");
        }
    }
}
