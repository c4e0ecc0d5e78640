//! The API as its clients and its enemies see it: a real listener, a real store, a stand-in for STS
//! that checks signatures.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic in a test's helper is a failed test"
)]

mod certificates;
mod client;
mod coverage;
mod grants;
#[path = "../../src/testing/http_stub.rs"]
mod http_stub;
mod instances;
mod program;
mod proofs;
mod sts;
mod transport;
mod world;
