//! The lab: AWS stand-ins, real sshds and clients on one machine, each in namespaces of its own.
//!
//! Tests, the demo and the benchmarks are written against it. It is no test itself and holds no assertion.

pub mod aws;
pub mod binaries;
pub mod ca;
mod cache;
pub mod client;
pub mod clock;
pub mod deadline;
pub mod error;
pub mod exchange;
pub mod host;
pub mod lab;
pub mod load;
pub mod openssh;
pub mod other_programs;
pub mod pki;
pub mod process;
pub mod room;
pub mod small_fleet;
pub mod standin;
mod xml;

pub use aws::Aws;
pub use ca::Ca;
pub use client::Client;
pub use host::Host;
pub use lab::Lab;
