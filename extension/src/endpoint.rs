//! Connections to endpoints.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::reason::{Reason, Refusal};

/// How long connecting may take. A black hole must not hold a function that is billed by the millisecond.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Connects to `address`, which is `endpoint` in messages.
pub(crate) async fn connect(address: SocketAddr, endpoint: &str) -> Result<TcpStream, Refusal> {
    match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => {
            // Small requests must not wait for the acknowledgement of earlier ones.
            let _ = stream.set_nodelay(true);
            Ok(stream)
        }
        Ok(Err(error)) => {
            let detail = format!("cannot connect to the endpoint {endpoint}: {error}");
            Err(Refusal::new(Reason::UpstreamConnectFailed, detail))
        }
        Err(_) => {
            let detail = format!("no connection to the endpoint {endpoint} within {} ms", CONNECT_TIMEOUT.as_millis());
            Err(Refusal::new(Reason::UpstreamTimeout, detail))
        }
    }
}
