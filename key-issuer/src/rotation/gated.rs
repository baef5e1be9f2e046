//! Steps whose calls happen one by one, when a test lets them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use platform::BoxFuture;
use platform::secrets::{Embedded, SecretDescription, SecretError};

use super::*;

/// The id of the secret that the tests rotate.
pub(super) const SECRET: &str = "signing";

/// The store, as a rotator calls it: every call waits until the model lets it happen.
pub(super) struct Gated(pub(super) Arc<Embedded>);

async fn gate() {
    let mut open = false;
    std::future::poll_fn(|_| if std::mem::replace(&mut open, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

impl SecretVersions for Gated {
    fn describe<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<SecretDescription, SecretError>> {
        Box::pin(async move {
            gate().await;
            self.0.describe(id).await
        })
    }

    fn get_version<'a>(
        &'a self,
        id: &'a str,
        version: &'a str,
        stage: &'a str,
    ) -> BoxFuture<'a, Result<Option<Secret<String>>, SecretError>> {
        Box::pin(async move {
            gate().await;
            self.0.get_version(id, version, stage).await
        })
    }

    fn put_version<'a>(
        &'a self,
        id: &'a str,
        version: &'a str,
        value: &'a Secret<String>,
        stage: &'a str,
        rotation_token: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Put, SecretError>> {
        Box::pin(async move {
            gate().await;
            self.0.put_version(id, version, value, stage, rotation_token).await
        })
    }

    fn move_stage<'a>(
        &'a self,
        id: &'a str,
        stage: &'a str,
        to: Option<&'a str>,
        from: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(), SecretError>> {
        Box::pin(async move {
            gate().await;
            self.0.move_stage(id, stage, to, from).await
        })
    }
}

pub(super) type Running = Pin<Box<dyn Future<Output = Result<Done, String>>>>;

/// One step of a rotation of `secret`, ready to be polled: each poll makes one call.
pub(super) fn running(
    store: &Arc<Embedded>,
    timing: Timing,
    clock: impl Clock + 'static,
    event: RotationEvent,
) -> Running {
    let versions = Gated(Arc::clone(store));
    Box::pin(async move { Rotator { versions: &versions, secret: SECRET, timing, clock: &clock }.step(&event).await })
}

pub(super) fn poll<T>(future: &mut Pin<Box<dyn Future<Output = T> + '_>>) -> Option<T> {
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

pub(super) fn event(step: &str, version: &str) -> RotationEvent {
    RotationEvent {
        step: step.to_owned(),
        secret_id: SECRET.to_owned(),
        client_request_token: version.to_owned(),
        rotation_token: None,
    }
}
