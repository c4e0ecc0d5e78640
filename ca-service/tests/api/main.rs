//! The API as its clients and its enemies see it: a real listener, a real store, a stand-in for STS
//! that checks signatures.

// A test is one future with the whole service inside; the layout of that is computed recursively.
#![recursion_limit = "256"]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic in a test's helper is a failed test"
)]

mod certificates;
mod client;
mod coverage;
mod endorsed;
mod grants;
mod hosts;
#[path = "../../src/testing/http_stub.rs"]
mod http_stub;
mod instances;
mod kms_away;
#[path = "../../src/testing/metadata_signer.rs"]
mod metadata_signer;
mod oidc;
mod outbound;
mod pages;
mod program;
mod proofs;
mod publication;
mod revocations;
mod schedule;
mod sts;
#[path = "../../src/testing/token_issuer.rs"]
mod token_issuer;
mod transport;
mod trust_bundle;
mod trust_commands;
mod world;
