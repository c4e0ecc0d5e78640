//! Session Manager: ssh over the data channel that `StartSession` with `AWS-StartSSHSession` opens. What the service
//! and its agent say to each other is published with AWS's plugin; this is an implementation of that protocol.

mod channel;
mod message;
mod session;
mod start;

pub use session::{Session, SessionError, open};
pub use start::{SessionAsk, SessionOpening, StartError, start};
