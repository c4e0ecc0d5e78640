//! Request and response bodies of the HTTP API, version 1. JSON; unknown and duplicate members are refused.

pub mod certificate;
pub mod discovery;
pub mod event;
pub mod instance;
pub mod problem;
pub mod session;
