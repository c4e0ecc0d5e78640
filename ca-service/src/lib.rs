//! `eic-ca`: the CA service as a library; `main.rs` is its table of contents.
//!
//! One straight line of types: `Proof → Caller → Grant → Prepared → Recorded<Prepared> → Issued`
//! (see `issuance`). What outsiders send is parsed once, in `http`; what they may know is decided there too.

pub mod app;
pub mod audit;
pub mod authn;
pub mod aws_access;
pub mod bundle;
pub mod caller;
pub mod clock;
pub mod command;
pub mod config;
mod ed25519;
pub mod fault;
pub mod host_identity;
pub mod http;
pub mod inventory;
pub mod issuance;
pub mod keys;
pub mod log;
pub mod moment;
pub mod peer_network;
pub mod policy;
pub mod process_memory;
pub mod random;
pub mod rate;
pub mod refusal;
pub mod rotation;
pub mod session;
pub mod signer;
pub mod store;
mod together;
pub mod web_token;
pub mod worker_threads;

#[cfg(test)]
mod testing;
