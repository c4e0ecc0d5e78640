//! The command line: one file for each command, each with its arguments and a `run`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod audit;
pub mod bundle;
pub mod config;
mod config_file;
pub mod forget_host;
pub mod host_state;
pub mod hosts;
pub mod init;
mod inventory;
pub mod key;
pub mod keys;
mod output;
pub mod policy;
pub mod revoke;
pub mod root;
mod runtime;
pub mod serve;

/// The CA for SSH user certificates, with AWS identities and IAM policies.
#[derive(Debug, Parser)]
#[command(name = "eic-ca", version, about)]
pub struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a folder with keys, a configuration, a sample policy and a sample inventory.
    Init(init::InitArgs),
    /// Run the service.
    Serve(serve::ServeArgs),
    /// Look at a configuration.
    Config(config::ConfigArgs),
    /// Look at the policy.
    Policy(policy::PolicyArgs),
    /// Read the audit.
    Audit(audit::AuditArgs),
    /// End somebody's sessions and certificates.
    Revoke(revoke::RevokeArgs),
    /// Enrolled hosts, hosts that wait, one-time tokens.
    Hosts(hosts::HostsArgs),
    /// Sign what one host needs to know.
    HostState(host_state::HostStateArgs),
    /// Let an enrolled host count as one that never was.
    ForgetHost(forget_host::ForgetHostArgs),
    /// The trust bundle that hosts fetch.
    Bundle(bundle::BundleArgs),
    /// Key files.
    Key(key::KeyArgs),
    /// Which key signs user certificates: announce, activate, retire.
    Keys(keys::KeysArgs),
    /// The root document.
    Root(root::RootArgs),
}

/// Runs the command that was given; an error is told in one line on stderr.
#[must_use]
pub fn run(command_line: &CommandLine) -> ExitCode {
    match &command_line.command {
        Command::Init(args) => told(init::run(args)),
        Command::Serve(args) => told(serve::run(args)),
        Command::Config(args) => told(config::run(args)),
        Command::Policy(args) => told(policy::run(args)),
        Command::Audit(args) => told(audit::run(args)),
        Command::Revoke(args) => told(revoke::run(args)),
        Command::Hosts(args) => told(hosts::run(args)),
        Command::HostState(args) => told(host_state::run(args)),
        Command::ForgetHost(args) => told(forget_host::run(args)),
        Command::Bundle(args) => told(bundle::run(args)),
        Command::Key(args) => told(key::run(args)),
        Command::Keys(args) => told(keys::run(args)),
        Command::Root(args) => told(root::run(args)),
    }
}

fn told<E: std::error::Error>(outcome: Result<ExitCode, E>) -> ExitCode {
    outcome.unwrap_or_else(|error| {
        eprintln!("eic-ca: failed to {error}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests;
