//! The CA's HTTP API as a client sees it: requests signed by the session key, answers parsed, nothing trusted blindly.

mod client;
mod error;

pub(crate) use client::common_protocol;
pub use client::{CaClient, Granted, Shown};
pub use error::CaError;
