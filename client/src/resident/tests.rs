//! The agent as ssh's helpers see it: over its control socket, against a CA and an AWS that answer from memory.

mod by_hand;
mod fallback;
mod given;
mod host_keys;
mod logins;
mod names;
pub(in crate::resident) mod stub;
mod tokens;
mod trust;
