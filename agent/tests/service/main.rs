//! `eic-agent run` and its root helper on a host of their own (the sandbox of `tests/host`), against a CA that
//! signs real documents and can be wrong, old, slow or somebody else. Needs root, unshare(1), openssh-server;
//! some cases need strace(1). Without them a test says so and ends.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests: a panic is a failed test"
)]

#[path = "../support/documents.rs"]
mod documents;
#[expect(dead_code, reason = "the host tests use the rest")]
#[path = "../support/imds.rs"]
mod imds;
#[expect(dead_code, reason = "the host tests use the rest")]
#[path = "../host/sandbox.rs"]
mod sandbox;

mod authority;
mod certificate_door;
mod certificate_flaws;
mod certificates;
mod faults;
mod harvest;
mod helper_door;
mod other_user;
mod refused;
mod renewal;
mod reports;
mod revocation;
mod standin;
mod station;
mod tls;
mod units;
mod waiting;
