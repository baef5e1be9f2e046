//! The bundle file is looked at every few seconds; a new one takes the place of the old one without a restart.
//!
//! A ConfigMap that is mounted changes by the exchange of a symbolic link (`..data`), which the path leads through: the
//! file behind the path is another one then. A bundle that cannot be used is refused as a whole, and the last good one
//! goes on.

mod file;

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use platform::bundle::Bundle;
use platform::revocations::{RevocationsConfig, RevocationsSetup};
use serde_json::json;

use crate::{Adapter, Error};
use file::{Look, Watched};

/// How often the file is looked at unless `CAUSEWAY_RELOAD_SECONDS` says otherwise, in seconds.
pub(crate) const EVERY: u64 = 5;

/// Looks at the bundle file from time to time.
#[derive(Debug)]
pub(crate) struct Watch {
    file: Watched,
    every: Duration,
    revocations: Option<RevocationsConfig>,
}

impl Watch {
    /// Watches `path`, whose bytes are in use.
    pub(crate) fn new(path: PathBuf, in_use: &[u8], every: Duration, revocations: Option<RevocationsConfig>) -> Self {
        Self { file: Watched::new(path, in_use), every, revocations }
    }

    /// Goes on for ever.
    pub(crate) async fn run(mut self, adapter: Adapter) {
        loop {
            tokio::time::sleep(self.every).await;
            // Reading a file blocks, and opening a bundle of thousands of policies takes its time.
            let task = tokio::task::spawn_blocking(move || (self.file.look(), self));
            let Ok((look, watch)) = task.await else { return };
            self = watch;
            match look {
                Look::Same => {}
                Look::Unreadable(why) => adapter.refuse(&why, ""),
                Look::Changed(bytes, digest) => {
                    let (to, revocations) = (adapter.clone(), self.revocations.clone());
                    let taken = tokio::task::spawn_blocking(move || to.take(bytes, revocations)).await;
                    match taken {
                        Ok(Ok(())) => adapter.say_taken(&digest),
                        Ok(Err(error)) => adapter.refuse(&error.to_string(), &digest),
                        Err(_) => adapter.refuse("a fault in the program while the bundle was opened", &digest),
                    }
                }
            }
        }
    }
}

impl Adapter {
    /// Puts the policies of another bundle into the place of those in use, if all of it is good. Checks that are under
    /// way end with the old ones.
    ///
    /// # Errors
    /// The bundle cannot be used; what was in use stays so.
    pub fn take(&self, bundle: Vec<u8>, revocations: Option<RevocationsConfig>) -> Result<(), Error> {
        let bundle = Bundle::from_bytes(bundle)?;
        let policies = crate::open(&bundle)?;
        self.replace(policies, RevocationsSetup::new(revocations, &bundle)?)
    }

    fn say_taken(&self, digest: &str) {
        let generation = self.0.metrics.generation.load(Ordering::Relaxed);
        self.log().write(&json!({"event": "bundle_taken", "generation": generation, "sha256": digest}));
    }

    fn refuse(&self, why: &str, digest: &str) {
        self.0.metrics.reloads_failed.fetch_add(1, Ordering::Relaxed);
        let generation = self.0.metrics.generation.load(Ordering::Relaxed);
        self.log().write(&json!({
            "event": "bundle_refused", "error": why, "sha256": digest, "generation_in_use": generation,
        }));
    }
}
