//! Pushes that the CA has not been told of: kept on disk until it has, at most a week.
//! An event goes out under the selection that caused it, never under another identity.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use eic_protocol::api::event::{ClientEvent, EventRequest, EventResponse};
use eic_protocol::proof::Audience;
use serde::{Deserialize, Serialize};

use super::sessions::Session;
use super::settings::Ca;
use super::{Resident, lock};
use crate::files::{self, FileError};

/// Most events that wait; the oldest are dropped first.
const MAX_WAITING: usize = 256;
/// How long an event waits. Seconds.
const MAX_AGE: u64 = 7 * 86_400;
/// Largest file that is read. Bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// One push.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Waiting {
    pub(super) ca: Audience,
    /// What the selection is called; no secret.
    pub(super) selection: String,
    /// When it happened, in Unix seconds.
    pub(super) at: u64,
    pub(super) event: ClientEvent,
}

#[derive(Debug)]
pub(super) struct EventQueue {
    file: PathBuf,
    waiting: Mutex<Vec<Waiting>>,
}

impl EventQueue {
    /// Reads what waits. A file that cannot be understood is an error: events would be lost silently.
    pub(super) fn load(state_dir: &Path) -> Result<Self, QueueError> {
        let file = state_dir.join("events.json");
        let waiting = match files::read_capped(&file, MAX_FILE)? {
            None => Vec::new(),
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|e| QueueError::Malformed {
                file: file.display().to_string(),
                what: e.to_string(),
            })?,
        };
        Ok(Self {
            file,
            waiting: Mutex::new(waiting),
        })
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.waiting).len()
    }

    pub(super) fn add(&self, event: Waiting) -> Result<(), QueueError> {
        let mut waiting = lock(&self.waiting);
        waiting.retain(|old| event.at.saturating_sub(old.at) < MAX_AGE);
        if waiting.len() >= MAX_WAITING {
            waiting.remove(0);
        }
        waiting.push(event);
        self.store(&waiting)
    }

    /// Those that may be told under this CA and selection.
    fn of(&self, ca: &Audience, selection: &str) -> Vec<Waiting> {
        let waiting = lock(&self.waiting);
        waiting
            .iter()
            .filter(|event| event.ca == *ca && event.selection == selection)
            .cloned()
            .collect()
    }

    fn done(&self, event: &Waiting) -> Result<(), QueueError> {
        let mut waiting = lock(&self.waiting);
        waiting.retain(|other| other != event);
        self.store(&waiting)
    }

    fn store(&self, waiting: &[Waiting]) -> Result<(), QueueError> {
        if waiting.is_empty() {
            return Ok(files::remove(&self.file)?);
        }
        let bytes = serde_json::to_vec(waiting).map_err(|e| QueueError::Malformed {
            file: self.file.display().to_string(),
            what: e.to_string(),
        })?;
        if let Some(folder) = self.file.parent() {
            files::private_dir(folder)?;
        }
        Ok(files::write_atomic(&self.file, &bytes, 0o600)?)
    }
}

impl Resident {
    /// Tells the CA what waits for it under this selection; what fails goes on waiting.
    pub(super) async fn send_events(&self, ca: &Ca, session: &Session, selection: &str) {
        for waiting in self.events.of(&ca.config.url, selection) {
            let request = EventRequest {
                protocol: session.protocol,
                event: waiting.event.clone(),
            };
            let sent: Result<EventResponse, _> =
                ca.client.post(session.granted(self.now()), &request).await;
            // A CA that refuses an event will refuse it again: only silence is a reason to keep it.
            let settled = sent.map_or_else(
                |error| !error.is_absence() && !error.wants_new_session(),
                |_| true,
            );
            if !settled || self.events.done(&waiting).is_err() {
                return;
            }
        }
    }
}

/// The queue cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum QueueError {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is not of its form.
    #[error("`{file}` cannot be understood: {what}; remove it to drop the events in it")]
    Malformed {
        /// The file.
        file: String,
        /// What is wrong.
        what: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use eic_protocol::api::event::PushCause;

    fn event(selection: &str, at: u64) -> Waiting {
        let event = ClientEvent::KeyPushed {
            instance: "i-01234567".parse().unwrap(),
            user: "ubuntu".parse().unwrap(),
            fingerprint: "SHA256:x".to_owned(),
            cause: PushCause::CaUnreachable,
            aws_request_id: at.to_string(),
        };
        Waiting {
            ca: "https://ca.example".parse().unwrap(),
            selection: selection.to_owned(),
            at,
            event,
        }
    }

    #[test]
    fn events_are_told_under_their_own_selection_and_ca_only() {
        // H-14
        let dir = tempfile::tempdir().unwrap();
        let queue = EventQueue::load(&dir.path().join("eic")).unwrap();
        queue.add(event("profile dev", 1)).unwrap();
        assert!(
            queue
                .of(&"https://ca.example".parse().unwrap(), "profile prod")
                .is_empty()
        );
        assert!(
            queue
                .of(&"https://other.example".parse().unwrap(), "profile dev")
                .is_empty()
        );
        assert_eq!(
            queue
                .of(&"https://ca.example".parse().unwrap(), "profile dev")
                .len(),
            1
        );
    }

    #[test]
    fn the_queue_is_bounded_and_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let queue = EventQueue::load(&dir.path().join("eic")).unwrap();
        for at in 0..300 {
            queue.add(event("profile dev", at)).unwrap();
        }
        let again = EventQueue::load(&dir.path().join("eic")).unwrap();
        assert_eq!(again.len(), MAX_WAITING);
        again.add(event("profile dev", 300 + MAX_AGE)).unwrap();
        assert_eq!(again.len(), 1, "old events stay");
        again.done(&event("profile dev", 300 + MAX_AGE)).unwrap();
        assert!(!dir.path().join("eic/events.json").exists());
    }

    #[test]
    fn a_damaged_queue_is_told() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("eic")).unwrap();
        std::fs::write(dir.path().join("eic/events.json"), "{").unwrap();
        assert!(EventQueue::load(&dir.path().join("eic")).is_err());
    }
}
