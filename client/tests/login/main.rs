//! The binary as ssh runs it, with the installed ssh and sshd, against stand-ins for CA and AWS.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic in a test is a failed test"
)]

mod activation;
mod commands;
mod doctor;
mod exec;
mod issuer;
mod measured;
mod names;
mod pages;
mod proxy;
mod real_ssh;
mod sign_in;
#[path = "../../src/resident/tests/stub.rs"]
#[expect(dead_code, reason = "the stand-ins serve the agent's own tests too")]
mod stub;
#[path = "../../src/testing.rs"]
mod testing;

mod tls;

// The stand-ins name the library's modules as their own crate's.
use eic_login::{
    clock, config, control, credentials, exit_code, files, paths, resident, ssh_agent,
};
