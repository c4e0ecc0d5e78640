//! The agent as ssh's helpers see it: over its control socket, against a CA and an AWS that answer from memory.

mod fallback;
mod host_keys;
mod logins;
mod stub;
