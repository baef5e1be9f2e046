//! Connections to endpoints.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::ConnectTo;
use crate::reason::{Reason, Refusal};

/// How long finding the address of an endpoint and connecting to it may take. A black hole must not hold a function
/// that is billed by the millisecond.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Opens connections to endpoints.
pub(crate) struct Dialer {
    connect_to: Vec<ConnectTo>,
}

impl Dialer {
    pub(crate) fn new(connect_to: Vec<ConnectTo>) -> Dialer {
        Dialer { connect_to }
    }

    /// Connects to the first endpoint that lets us, beginning with number `first`. Nothing has been sent when this
    /// fails, so trying the next one repeats nothing.
    pub(crate) async fn connect(&self, endpoints: &[(String, u16)], first: usize) -> Result<TcpStream, Refusal> {
        let mut last = Refusal::new(Reason::UpstreamConnectFailed, "found no endpoint, expected one");
        for step in 0..endpoints.len() {
            let (host, port) = &endpoints[(first + step) % endpoints.len()];
            match timeout(CONNECT_TIMEOUT, self.connect_one(host, *port)).await {
                Ok(Ok(stream)) => {
                    // Small requests must not wait for the acknowledgement of earlier ones.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(error)) => {
                    last = Refusal::new(
                        Reason::UpstreamConnectFailed,
                        format!("cannot connect to the endpoint {host}:{port}: {error}"),
                    );
                }
                Err(_) => {
                    last = Refusal::new(
                        Reason::UpstreamTimeout,
                        format!(
                            "no connection to the endpoint {host}:{port} within {} ms",
                            CONNECT_TIMEOUT.as_millis()
                        ),
                    );
                }
            }
        }
        Err(last)
    }

    async fn connect_one(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        match self.elsewhere(host, port) {
            Some(address) => TcpStream::connect(address).await,
            None => TcpStream::connect((host, port)).await,
        }
    }

    fn elsewhere(&self, host: &str, port: u16) -> Option<SocketAddr> {
        let mut found = self.connect_to.iter().filter(|to| to.host == host && to.port == port);
        found.next().map(|to| to.address)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_refused_endpoint_leads_to_the_next_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let dialer = Dialer::new(vec![ConnectTo { host: "gateway.example".to_owned(), port: 15443, address }]);
        let endpoints = [("127.0.0.1".to_owned(), gone.port()), ("gateway.example".to_owned(), 15443)];
        for first in 0..3 {
            let stream = dialer.connect(&endpoints, first).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), address);
        }
        let refusal = dialer.connect(&endpoints[..1], 0).await.unwrap_err();
        assert_eq!(refusal.reason, Reason::UpstreamConnectFailed);
        assert!(refusal.detail.contains(&gone.port().to_string()), "{}", refusal.detail);
    }
}
