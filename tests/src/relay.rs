//! A wire between two parts that a test can hold up, cut, and spoil.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::ports;
use crate::process::PATIENCE;

/// A relay of TCP connections.
pub struct Relay {
    /// Where it listens.
    pub address: SocketAddr,
    orders: watch::Sender<Orders>,
    accepted: Arc<AtomicUsize>,
    /// Connections that lead somewhere.
    carried: watch::Sender<usize>,
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
        let (heard, count, carried) = (orders.subscribe(), Arc::clone(&accepted), watch::Sender::new(0));
        let carrying = carried.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(carry(stream, target, heard.clone(), carrying.clone()));
            }
        });
        Ok(Self { address, orders, accepted, carried })
    }

    /// New connections wait, or no longer.
    pub fn hold(&self, held: bool) {
        self.orders.send_modify(|orders| orders.held = held);
    }

    /// Ends every connection. Returns when none leads anywhere: nobody may make another one meanwhile.
    ///
    /// # Errors
    /// When they do not end.
    pub async fn cut(&self) -> Result<(), String> {
        self.orders.send_modify(|orders| orders.cuts += 1);
        self.still().await
    }

    /// Every connection of now is dead without a sign: the next byte of the client is answered by a reset, as a NAT
    /// gateway does that has forgotten it. Returns as [`Relay::cut`].
    ///
    /// # Errors
    /// As [`Relay::cut`].
    pub async fn spoil(&self) -> Result<(), String> {
        self.orders.send_modify(|orders| orders.spoils += 1);
        self.still().await
    }

    async fn still(&self) -> Result<(), String> {
        let mut carried = self.carried.subscribe();
        let still = tokio::time::timeout(PATIENCE, carried.wait_for(|carried| *carried == 0)).await;
        let failed = || format!("{} connections do not end", *self.carried.borrow());
        still.map_err(|_| failed())?.map(|_| ()).map_err(|_| failed())
    }

    /// How many connections there have been.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

async fn carry(
    mut client: TcpStream,
    target: SocketAddr,
    mut orders: watch::Receiver<Orders>,
    carried: watch::Sender<usize>,
) {
    // The sender lives as long as the test.
    let Ok(begun) = orders.wait_for(|orders| !orders.held).await.map(|orders| *orders) else { return };
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    carried.send_modify(|carried| *carried += 1);
    let spoilt = tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => false,
        changed = orders.wait_for(|now| now.cuts != begun.cuts || now.spoils != begun.spoils) => {
            changed.is_ok_and(|now| now.cuts == begun.cuts)
        }
    };
    // Both ends are closed, but of a spoilt one, which nobody is to notice yet.
    let kept = spoilt.then_some((client, server));
    carried.send_modify(|carried| *carried -= 1);
    if let Some((client, _server)) = kept {
        // Without lingering the end is a reset.
        let _ = client.readable().await;
        let _ = client.set_zero_linger();
    }
}
