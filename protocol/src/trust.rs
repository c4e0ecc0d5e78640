//! Signed trust documents: which keys a host or client believes, and what a host is called.
//! Documents and their verification only; fetching and installing them is the agent's and client's work.

pub mod bundle;
pub mod endorsement;
pub mod envelope;
pub mod host_view;
pub mod root;
pub mod state;

#[cfg(test)]
mod tests;
