//! Session Manager: ssh over the data channel that `StartSession` with `AWS-StartSSHSession` opens. What the service
//! and its agent say to each other is published with AWS's plugin; this is an implementation of that protocol, and where it
//! does not reach, that plugin is started.

mod channel;
mod message;
mod plugin;
mod session;
mod start;

pub use plugin::{Plugin, PluginError, PluginSession};
pub use session::{Session, SessionError, open};
pub use start::{Host, SessionAsk, SessionBy, SessionOpening, StartError, Started, start};
