//! The CA's HTTP API as a client sees it: requests signed by the session key, answers parsed, nothing trusted blindly.

mod client;
mod error;

pub use client::{CaClient, Granted, Shown};
pub(crate) use client::{USER_AGENT, common_protocol};
pub use error::CaError;
