//! A quick hash for maps whose keys are few: a handful of multiplications where the standard library's takes hundreds of
//! instructions, four times a request.
//!
//! It withstands nobody who chooses keys to collide. Nobody can choose many: each has a connection of its own, and of
//! those there are not more than file descriptors.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Makes hashers, each process others.
#[derive(Clone)]
pub(super) struct Quick(u64);

impl Default for Quick {
    fn default() -> Quick {
        Quick(RandomState::new().hash_one(0))
    }
}

impl BuildHasher for Quick {
    type Hasher = QuickHasher;

    fn build_hasher(&self) -> QuickHasher {
        QuickHasher(self.0)
    }
}

/// Folds one number after the other into a product of 128 bits.
pub(super) struct QuickHasher(u64);

impl QuickHasher {
    fn add(&mut self, number: u64) {
        // Any odd number with as many ones as zeros.
        const FACTOR: u128 = 0x9e37_79b9_7f4a_7c15;
        let product = u128::from(self.0 ^ number) * FACTOR;
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }
}

impl Hasher for QuickHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut number = [0; 8];
            number[..part.len()].copy_from_slice(part);
            self.add(u64::from_le_bytes(number));
        }
        self.add(bytes.len() as u64);
    }

    fn write_u8(&mut self, number: u8) {
        self.add(number.into());
    }

    fn write_u16(&mut self, number: u16) {
        self.add(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.add(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.add(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.add(number as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn neighbours_differ_in_all_parts_of_the_hash() {
        let quick = Quick::default();
        let keys = (0..1_000_u32).map(|n| (n, SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 15_443)), "host"));
        let hashes: Vec<u64> = keys.map(|key| quick.hash_one(key)).collect();
        // A map looks at the seven highest bits, and at as many of the lowest as it has places.
        for (what, shift, bits, least) in [("all", 0, 64, 1_000), ("highest", 57, 7, 120), ("lowest", 0, 12, 800)] {
            let seen: BTreeSet<u64> = hashes.iter().map(|hash| (hash >> shift) & (u64::MAX >> (64 - bits))).collect();
            assert!(seen.len() >= least, "{what}: {}", seen.len());
        }
        assert_ne!(quick.hash_one("ab"), quick.hash_one("ba"));
        assert_ne!(quick.hash_one([0_u8; 8].as_slice()), quick.hash_one([0_u8; 9].as_slice()));
        assert_eq!(quick.hash_one("a host"), quick.hash_one("a host"));
    }
}
