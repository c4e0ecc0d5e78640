//! The program itself on a host of its own: a private mount namespace with a real sshd's configuration.
//! Needs root, unshare(1) and openssh-server; without them each test says so and ends.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: a panic is a failed test"
)]

#[path = "../support/documents.rs"]
mod documents;
#[expect(dead_code, reason = "the unit tests use the rest")]
#[path = "../support/imds.rs"]
mod imds;
#[expect(dead_code, reason = "the unit tests use the rest")]
#[path = "../support/pki.rs"]
mod pki;

mod attempt;
mod chained;
mod commands;
mod docs;
mod health;
mod install;
mod interrupted;
mod layouts;
mod login;
mod official;
mod portable;
mod sandbox;
mod selinux;
mod siege;
mod speed;
mod ways_in;
