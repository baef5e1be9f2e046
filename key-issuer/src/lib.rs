//! key-issuer
