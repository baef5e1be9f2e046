//! A wire between two parts that a test can hold up, cut, and spoil.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::ports;

/// A relay of TCP connections.
pub struct Relay {
    /// Where it listens.
    pub address: SocketAddr,
    orders: watch::Sender<Orders>,
    accepted: Arc<AtomicUsize>,
}

/// What has been ordered so far: each number counts.
#[derive(Clone, Copy, Default)]
struct Orders {
    held: bool,
    cuts: usize,
    spoils: usize,
}

impl Relay {
    /// One that leads to `target`.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start(target: SocketAddr) -> Result<Self, String> {
        let listener = TcpListener::bind(ports::loopback(0)).await.map_err(|error| error.to_string())?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let (orders, accepted) = (watch::Sender::new(Orders::default()), Arc::<AtomicUsize>::default());
        let (heard, count) = (orders.subscribe(), Arc::clone(&accepted));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(carry(stream, target, heard.clone()));
            }
        });
        Ok(Self { address, orders, accepted })
    }

    /// New connections wait, or no longer.
    pub fn hold(&self, held: bool) {
        self.orders.send_modify(|orders| orders.held = held);
    }

    /// Ends every connection.
    pub fn cut(&self) {
        self.orders.send_modify(|orders| orders.cuts += 1);
    }

    /// Every connection of now is dead without a sign: the next byte of the client is answered by a reset, as a NAT
    /// gateway does that has forgotten it.
    pub fn spoil(&self) {
        self.orders.send_modify(|orders| orders.spoils += 1);
    }

    /// How many connections there have been.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

async fn carry(mut client: TcpStream, target: SocketAddr, mut orders: watch::Receiver<Orders>) {
    // The sender lives as long as the test.
    let Ok(begun) = orders.wait_for(|orders| !orders.held).await.map(|orders| *orders) else { return };
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let spoilt = tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => false,
        changed = orders.wait_for(|now| now.cuts != begun.cuts || now.spoils != begun.spoils) => {
            changed.is_ok_and(|now| now.cuts == begun.cuts)
        }
    };
    if spoilt {
        // Without lingering the end is a reset.
        let _ = client.readable().await;
        let _ = client.set_zero_linger();
    }
}
