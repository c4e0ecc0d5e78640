//! `eic-login agent`: the resident agent. Started on demand by the other commands, detached; by systemd or launchd
//! when somebody asks at its socket; by hand to see why it does not start.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use rustix::fs::Mode;

use super::{paths, run_dir, runtime};
use crate::control::socket_path;
use crate::exit_code::Failure;
use crate::key::protect_memory;
use crate::resident::{Resident, ServeError, inherited, serve};

/// Without a request for so long, it ends: sessions last 15 minutes, certificates at most an hour. A person's sign-in
/// that renews itself keeps it for up to half a day.
const DEFAULT_IDLE_MINUTES: u64 = 60;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Folder of its sockets [default: as configured].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// End after this many minutes without a request; a sign-in that renews itself is waited for.
    #[arg(long, value_name = "MINUTES", default_value_t = DEFAULT_IDLE_MINUTES, value_parser = clap::value_parser!(u64).range(1..=1440))]
    idle: u64,
    /// Leave the terminal's session.
    #[arg(long)]
    detached: bool,
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.detached {
        // Fails only for the leader of a process group, which a started child is not.
        let _ = rustix::process::setsid();
    }
    rustix::process::umask(Mode::from_raw_mode(0o077));
    protect_memory().map_err(|e| Failure::of(&e).context("core dumps cannot be switched off"))?;
    let paths = paths()?;
    let dir = match &arguments.dir {
        Some(dir) => dir.clone(),
        None => run_dir(&paths)?,
    };
    let inherited = inherited(&socket_path(&dir));
    let inherited = inherited.map_err(|e| Failure::usage(e.to_string()))?;
    let program = std::env::current_exe()
        .map_err(|e| Failure::of(&e).context("cannot tell which program this is"))?;
    let resident = Arc::new(Resident::new(&paths, &dir, program)?);
    let idle = Duration::from_secs(arguments.idle.saturating_mul(60));
    match runtime()?.block_on(serve(resident, &dir, inherited, idle)) {
        // Two logins at once both start one: the second has nothing to do.
        Err(ServeError::Running) if arguments.detached => Ok(()),
        other => other.map_err(|e| Failure::of(&e)),
    }
}
