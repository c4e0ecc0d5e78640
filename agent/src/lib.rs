//! `eic-agent`: what a host asks at each login, and how it is set up to ask.
//!
//! sshd runs these commands for each key that a client offers, twice for the one that succeeds.
//! So: no async runtime, no TLS, no AWS SDK, one process, no file written, output once at the end;
//! time is an argument, every read is bounded, and every doubt prints nothing.

pub mod atomic_file;
pub mod calendar;
pub mod chained;
mod child;
pub mod clock;
pub mod command_line;
pub mod commands;
pub mod config;
pub mod doctor;
pub mod helper;
pub mod install;
pub mod instance_connect;
pub mod machine;
pub mod official;
pub mod passwd;
pub mod principals;
mod revoked;
pub mod run;
mod sshd;
mod state_lock;
pub mod status;
pub mod syslog;
pub mod trust_state;
pub mod trust_store;
pub mod trusted_file;
pub mod watchdog;
pub mod ways_in;
