//! The resident agent: ephemeral keys, sessions and certificates in memory, one socket per login.
//!
//! It acts only on requests of the same user's programs, with the credentials that each request names.
//! What it holds ends with it; on disk it leaves what is remembered of hosts, and events that the CA lacks.

mod activation;
mod aws;
mod by_hand;
mod ca_trust;
mod certificates;
mod connect;
mod event_queue;
mod explain;
mod host_key;
mod hosts;
mod issue;
mod keyring;
mod login_board;
mod login_error;
mod people;
mod resolve;
mod server;
mod session_manager;
mod sessions;
mod settings;
mod shared;
mod sign_in;
mod tunnel;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::unix_now;
use crate::exit_code::Failure;
use crate::host_trust::memory::HostMemory;
use crate::paths::Paths;

pub use activation::{ActivationError, inherited};
pub use issue::IssuedFiles;
pub use login_error::LoginError;
pub use server::{ServeError, serve};
pub use shared::{SharedSocket, Wanted};

/// The agent's parts. One per process, shared by its tasks.
#[derive(Debug)]
pub struct Resident {
    settings: settings::Settings,
    keyring: keyring::Keyring,
    people: people::People,
    sessions: sessions::Sessions,
    certificates: certificates::Certificates,
    routes: resolve::Routes,
    aws: aws::Aws,
    logins: login_board::LoginBoard,
    memory: Mutex<HostMemory>,
    events: event_queue::EventQueue,
    plans: tunnel::Plans,
    pace: session_manager::Pace,
    answers: AtomicU64,
}

impl Resident {
    /// An agent with its sockets in `run_dir`; `program` is this program, for the credentials child.
    ///
    /// # Errors
    /// A [`Failure`] where what is remembered on disk cannot be understood.
    pub fn new(paths: &Paths, run_dir: &Path, program: PathBuf) -> Result<Self, Failure> {
        let memory =
            HostMemory::load(&paths.state_dir).map_err(|e| Failure::usage(e.to_string()))?;
        let events = event_queue::EventQueue::load(&paths.state_dir)
            .map_err(|e| Failure::usage(e.to_string()))?;
        Ok(Self {
            settings: settings::Settings::new(paths.clone()),
            keyring: keyring::Keyring::default(),
            people: people::People::default(),
            sessions: sessions::Sessions::default(),
            certificates: certificates::Certificates::default(),
            routes: resolve::Routes::default(),
            aws: aws::Aws::new(program),
            logins: login_board::LoginBoard::new(run_dir.to_owned()),
            memory: Mutex::new(memory),
            events,
            plans: tunnel::Plans::default(),
            pace: session_manager::Pace::default(),
            answers: AtomicU64::new(0),
        })
    }

    /// With what other processes have learned. A file that cannot be read now takes nothing away, and whoever
    /// writes to it is told.
    fn memory(&self) -> MutexGuard<'_, HostMemory> {
        let mut memory = lock(&self.memory);
        let _ = memory.refresh();
        memory
    }

    fn now(&self) -> u64 {
        unix_now()
    }

    /// The place of an answer among all answers, so that the newer of two is known: the clock's seconds are too coarse.
    fn next_answer(&self) -> u64 {
        self.answers.fetch_add(1, Ordering::Relaxed)
    }
}

/// A poisoned lock means a panic elsewhere; the data behind these is whole after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
