//! Request and response bodies of the HTTP API, version 1. JSON; unknown and duplicate members are refused.

pub mod certificate;
pub mod discovery;
pub mod event;
pub mod host_certificate;
pub mod host_certification;
pub mod host_keys;
pub mod host_report;
pub mod instance;
pub mod problem;
pub mod revocation;
pub mod session;
pub mod trust_bundle;

#[cfg(test)]
mod tests;
