//! Requests over real connections, with real TLS.

mod bodies;
mod faults;
mod limits;
mod pooling;
mod protection;
mod scripts;
mod shared;
mod tunnels;
mod world;
