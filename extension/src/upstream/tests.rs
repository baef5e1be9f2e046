//! Tests on real sockets.
