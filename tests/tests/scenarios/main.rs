//! End-to-end scenarios: one binary, a file per topic.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a panic in a helper of a test is a failed test, too"
)]

mod architecture;
mod aws_calls;
mod ca;
mod ca_host;
mod corpus;
mod crash;
mod doctor;
mod fan_out;
mod instance_connect;
mod lab;
mod login;
mod metadata;
mod oidc;
mod openssh_versions;
mod other_programs;
mod recorded;
mod refusal;
mod sign_in;
mod signers;
mod stand_ins;
mod transports;
mod trust;
