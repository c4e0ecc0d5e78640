//! The SSH agent protocol (RFC 9987) as far as one login needs it.
//!
//! A login's socket offers one user on one host, signs that user's authentication to that host, and hands
//! everything that ssh marks as forwarded to the user's own agent. It is no general agent: no key can be
//! added, removed, locked or listed beyond the login's own.

pub mod conversation;
pub mod message;
pub mod session_bind;
pub mod shared;
pub mod userauth;
