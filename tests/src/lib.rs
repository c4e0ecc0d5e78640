//! The lab: AWS stand-ins, real sshds and clients on one machine, each in namespaces of its own.
//!
//! Tests, the demo and the benchmarks are written against it. It is no test itself and holds no assertion.

pub mod binaries;
pub mod client;
pub mod clock;
pub mod deadline;
pub mod error;
pub mod host;
pub mod lab;
pub mod process;
pub mod room;

pub use client::Client;
pub use host::Host;
pub use lab::Lab;
