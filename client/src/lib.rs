//! `eic-login`: sign in with AWS credentials; from then on plain ssh, scp, rsync and git work.
//!
//! The library behind the thin binary. The resident agent holds ephemeral keys and certificates in memory;
//! ssh's `ProxyCommand` and `KnownHostsCommand` are small programs that ask it.

pub mod ca;
pub mod cause;
pub mod clock;
mod command;
pub mod config;
pub mod control;
pub mod credentials;
pub mod doctor;
pub mod exit_code;
pub mod fallback;
pub mod files;
pub mod host_cache;
pub mod host_name;
pub mod host_spec;
pub mod host_trust;
pub mod image_users;
pub mod ip_ranges;
mod join;
pub mod key;
pub mod mssh;
pub mod oidc;
pub mod paths;
pub mod resident;
pub mod ssh_agent;
pub mod ssh_config;
pub mod terminal;
#[cfg(test)]
mod testing;
pub mod transport;
pub mod ways_in;
pub mod zone;

pub use command::run;
