//! What a request's tries leave behind for the log.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::reason::Flags;

/// What is known of the tries, also when they are cut short.
#[derive(Debug, Default)]
pub(crate) struct Trail(Mutex<Steps>);

#[derive(Clone, Debug, Default)]
pub(crate) struct Steps {
    pub(crate) attempts: u32,
    pub(crate) flags: Flags,
    /// The endpoint of the last try.
    pub(crate) endpoint: Option<Arc<str>>,
    /// Where a try is under way.
    pub(super) under_way: Option<SocketAddr>,
    /// The begin of the first try.
    pub(crate) begun: Option<Instant>,
}

impl Trail {
    pub(super) fn lock(&self) -> MutexGuard<'_, Steps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of it.
    pub(crate) fn steps(&self) -> Steps {
        self.lock().clone()
    }
}
