//! A build without the feature `inbound`: the names of `inbound.rs`, for values that there cannot be.

use std::net::SocketAddr;

use crate::config::{Egress, Inbound};
use crate::parts::Parts;
use crate::{Deps, Error};

/// The inbound side with its ports.
pub(crate) enum Bound {}

impl Bound {
    pub(crate) async fn new(config: &Inbound, _: &Egress, _: &[u16], _: &Parts, _: &Deps) -> Result<Bound, Error> {
        match *config {}
    }

    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        match *self {}
    }

    pub(crate) fn health_address(&self) -> SocketAddr {
        match *self {}
    }

    pub(crate) fn serve(self) -> Bound {
        self
    }

    pub(crate) async fn drained(self) -> bool {
        match self {}
    }
}

pub(crate) mod health {
    /// # Errors
    /// Always: nothing here answers it.
    pub(crate) fn ask(_port: u16) -> Result<(), String> {
        Err("this build has no health check, expected one with the feature `inbound` (infra/image)".to_owned())
    }
}
