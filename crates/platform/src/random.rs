//! Random bytes as an argument.

use std::sync::Mutex;

/// The source of randomness has failed; nothing may be minted without it.
#[derive(Debug, thiserror::Error)]
#[error("the system's random number generator failed; no key or token can be made")]
pub struct RandomError;

/// Where keys, token ids and serial numbers come from.
pub trait Random: Send + Sync {
    /// Fills `bytes`, or fails and leaves them unspecified.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError>;
}

/// The cryptographic generator of aws-lc.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError> {
        aws_lc_rs::rand::fill(bytes).map_err(|_| RandomError)
    }
}

/// A repeatable sequence for tests. It is no secret to anybody: never give it to a program.
#[derive(Debug)]
pub struct PredictableRandom(Mutex<u64>);

impl PredictableRandom {
    /// The sequence that `seed` starts.
    pub fn seeded(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }
}

impl Random for PredictableRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError> {
        let mut state = self.0.lock().map_err(|_| RandomError)?;
        for byte in bytes {
            // The constants of Knuth's MMIX generator.
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = state.to_be_bytes()[0];
        }
        Ok(())
    }
}
