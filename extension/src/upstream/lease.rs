//! What an answer holds of the way to its service.

use std::fmt;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::limits::{Place, Service};
use super::pool::Key;
use super::{Line, Upstream, http1};

/// What an answer holds until it has been read.
pub(crate) struct Lease {
    pub(super) upstream: Arc<Upstream>,
    pub(super) key: Key,
    pub(super) service: Arc<Service>,
    pub(super) line: Line,
    /// Whether the connection may have another request.
    pub(super) again: bool,
    pub(super) _place: Place,
}

impl Lease {
    /// The answer has been read to its end: the connection is free.
    pub(crate) fn finish(self) {
        let Lease { upstream, key, service, line, again, _place } = self;
        if let (Line::Http1(connection), true) = (line, again) {
            upstream.put_back(key, service, connection);
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("key", &self.key).field("again", &self.again).finish_non_exhaustive()
    }
}

impl Upstream {
    fn put_back(self: &Arc<Self>, key: Key, service: Arc<Service>, mut connection: http1::Connection) {
        if connection.sender.is_ready() {
            self.pools.put_back(&key, connection, self.clock.now());
            return service.tell();
        }
        // An error below: the service has closed the connection. Otherwise the request's body is still on its way, or
        // the connection's task has not come round yet.
        let this = Arc::clone(self);
        if let (false, Ok(runtime)) = (connection.sender.is_closed(), Handle::try_current()) {
            runtime.spawn(async move {
                if connection.sender.ready().await.is_ok() {
                    this.pools.put_back(&key, connection, this.clock.now());
                    service.tell();
                }
            });
        }
    }
}
