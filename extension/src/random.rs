//! Random numbers for shares, choices, pauses and request ids.

use std::hash::BuildHasher;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use platform::random::{Random, SystemRandom};

/// The step of `SplitMix64` from one state to the next.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Where the next request begins. Seeded by the system at the first request and not before: no request goes out until
/// after a snapshot, so two environments that were restored from one draw differently.
static NEXT: OnceLock<AtomicU64> = OnceLock::new();

/// The numbers of one request. They are no secret to anybody, and must only differ from request to request.
#[derive(Clone, Debug)]
pub(crate) struct Draws(u64);

impl Draws {
    pub(crate) fn new() -> Draws {
        Draws(mix(NEXT.get_or_init(|| AtomicU64::new(seed())).fetch_add(STEP, Ordering::Relaxed)))
    }

    /// The next number (`SplitMix64`).
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// A random UUID (RFC 9562 5.4, version 4) as text, such as Envoy makes for `x-request-id`.
    pub(crate) fn uuid(&mut self) -> [u8; 36] {
        let high = (self.next() & 0xffff_ffff_ffff_0fff) | 0x4000;
        let low = (self.next() & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000;
        let mut text = [b'-'; 36];
        // The four dashes stand between the digits.
        const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
        let bytes = high.to_be_bytes().into_iter().chain(low.to_be_bytes());
        for (place, byte) in PLACES.into_iter().zip(bytes) {
            text[place] = hex(byte >> 4);
            text[place + 1] = hex(byte);
        }
        text
    }

    /// 16 hexadecimal digits for an id of a span. Not all of them are zero: "All bytes as zero is considered an invalid
    /// value" (W3C Trace Context 3.2.2.4).
    pub(crate) fn hex(&mut self) -> String {
        let number = self.next().max(1);
        format!("{number:016x}")
    }
}

fn seed() -> u64 {
    let mut seed = [0; 8];
    match SystemRandom.fill(&mut seed) {
        Ok(()) => u64::from_le_bytes(seed),
        // The standard library's own keys, which every process draws anew.
        Err(_) => std::hash::RandomState::new().hash_one(std::time::SystemTime::now()),
    }
}

fn mix(state: u64) -> u64 {
    let mut mixed = state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The last digit of a number.
fn hex(number: u8) -> u8 {
    b"0123456789abcdef"[(number & 0xf) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_requests_draw_differently() {
        let drawn: std::collections::BTreeSet<u64> = (0..1_000)
            .flat_map(|_| {
                let mut draws = Draws::new();
                (0..10).map(move |_| draws.next())
            })
            .collect();
        assert_eq!(drawn.len(), 10_000);
    }

    #[test]
    fn hexadecimal_digits() {
        // The state before that whose next number is 0.
        assert_eq!(Draws(0_u64.wrapping_sub(STEP)).hex(), "0000000000000001");
        let mut draws = Draws(1);
        let expected = format!("{:016x}", draws.clone().next());
        assert_eq!(draws.hex(), expected);
    }

    #[test]
    fn an_id_is_a_uuid_of_version_4() {
        let mut draws = Draws(1);
        for _ in 0..100 {
            let id = String::from_utf8(draws.uuid().to_vec()).unwrap();
            let parts: Vec<&str> = id.split('-').collect();
            assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "{id}");
            assert!(parts[2].starts_with('4') && "89ab".contains(&parts[3][..1]), "{id}");
            assert!(parts.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_hexdigit())), "{id}");
        }
    }
}
