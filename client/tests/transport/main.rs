//! Tunnels as ssh and people use them: the binary, the installed ssh and sshd, and a stand-in for an EC2 Instance
//! Connect Endpoint that checks what AWS checks.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic in a test is a failed test"
)]

mod administration;
mod bastion;
mod drop_ins;
mod endpoint;
mod scene;
mod service;
mod session;
mod session_service;
#[path = "../../src/resident/tests/stub.rs"]
#[expect(dead_code, reason = "the stand-ins serve the agent's own tests too")]
mod stub;
#[path = "../../src/testing.rs"]
mod testing;
mod tunnel;

// The stand-ins name the library's modules as their own crate's.
use eic_login::{
    clock, config, control, credentials, exit_code, files, paths, resident, ssh_agent,
};
