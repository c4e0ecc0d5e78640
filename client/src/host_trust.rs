//! Which host key belongs to the instance that a login means.
//!
//! Enrolled hosts show a certificate of the pinned host CA for their instance id. Legacy hosts are known by the
//! keys that cloud-init printed to their console, and only then by first use. Names and addresses prove nothing.

pub mod console;
pub mod memory;
pub mod verdict;
