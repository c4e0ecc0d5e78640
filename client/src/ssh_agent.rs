//! The SSH agent protocol (RFC 9987) as far as one login needs it.
//!
//! A login's socket offers one user on one host, signs that user's authentication to that host, and hands
//! everything that ssh marks as forwarded to the user's own agent. It is no general agent: its own identities can be
//! listed, removed and locked, and no key can be added, with constraints or without.

pub mod conversation;
pub mod lock;
pub mod message;
pub mod session_bind;
pub mod shared;
pub mod userauth;
