//! Pushes that the CA has not been told of: kept on disk until it has, at most a week.
//! An event goes out under the identity that pushed, never under another one. The file is that of all processes
//! (the resident agent, each `exec`): it is read again before it is changed, under a lock.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use eic_protocol::api::event::{ClientEvent, EventRequest, EventResponse};
use eic_protocol::proof::Audience;
use serde::{Deserialize, Serialize};

use super::keyring::Owner;
use super::sessions::Session;
use super::settings::Ca;
use super::{Resident, lock};
use crate::credentials::Selection;
use crate::files::{self, FileError};
use crate::key::KeyType;

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
    /// What earlier versions wrote instead of `pusher`; it names a profile, not a person, and decides nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) selection: String,
    /// Who did it.
    #[serde(default)]
    pub(super) pusher: Pusher,
    /// When it happened, in Unix seconds.
    pub(super) at: u64,
    pub(super) event: ClientEvent,
}

/// Who pushed a key: the credentials that were used, and the person where the CA had told it already. No secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pusher {
    /// Id of the access key, which AWS never gives to anybody else.
    pub(super) access_key_id: String,
    /// The unique id of STS (`AROA…:name`), which outlives the access key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) user_id: Option<String>,
}

impl Pusher {
    /// Whether the holder of `session` is the one who pushed.
    fn is(&self, session: &Session) -> bool {
        let same_key =
            !self.access_key_id.is_empty() && self.access_key_id == session.access_key_id;
        same_key || self.user_id.as_deref() == Some(session.caller.user_id.as_str())
    }
}

#[derive(Debug)]
pub(super) struct EventQueue {
    file: PathBuf,
    /// One task of this process at a time: the file's lock is between processes.
    turn: Mutex<()>,
}

impl EventQueue {
    /// Reads what waits. A file that cannot be understood is an error: events would be lost silently.
    pub(super) fn load(state_dir: &Path) -> Result<Self, QueueError> {
        let file = state_dir.join("events.json");
        read(&file)?;
        Ok(Self {
            file,
            turn: Mutex::new(()),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.waiting().len()
    }

    pub(super) fn add(&self, event: Waiting) -> Result<(), QueueError> {
        self.change(|waiting| {
            waiting.retain(|old| event.at.saturating_sub(old.at) < MAX_AGE);
            if waiting.len() >= MAX_WAITING {
                waiting.remove(0);
            }
            waiting.push(event);
        })
    }

    /// The first that may be told to this CA by the pusher that `is_pusher` accepts.
    fn next_of(&self, ca: &Audience, is_pusher: impl Fn(&Pusher) -> bool) -> Option<Waiting> {
        let mut waiting = self.waiting().into_iter();
        waiting.find(|event| event.ca == *ca && is_pusher(&event.pusher))
    }

    fn done(&self, event: &Waiting) -> Result<(), QueueError> {
        self.change(|waiting| waiting.retain(|other| other != event))
    }

    /// A file that was damaged meanwhile has nothing to tell now; whoever adds to it is told.
    fn waiting(&self) -> Vec<Waiting> {
        read(&self.file).unwrap_or_default()
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Waiting>)) -> Result<(), QueueError> {
        let _turn = lock(&self.turn);
        if let Some(folder) = self.file.parent() {
            files::private_dir(folder)?;
        }
        let _lock = files::lock(&self.file)?;
        let mut waiting = read(&self.file)?;
        change(&mut waiting);
        self.store(&waiting)
    }

    fn store(&self, waiting: &[Waiting]) -> Result<(), QueueError> {
        if waiting.is_empty() {
            return Ok(files::remove(&self.file)?);
        }
        let bytes = serde_json::to_vec(waiting).map_err(|e| malformed(&self.file, &e))?;
        Ok(files::write_atomic(&self.file, &bytes, 0o600)?)
    }
}

fn read(file: &Path) -> Result<Vec<Waiting>, QueueError> {
    match files::read_capped(file, MAX_FILE)? {
        None => Ok(Vec::new()),
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|e| malformed(file, &e)),
    }
}

fn malformed(file: &Path, error: &serde_json::Error) -> QueueError {
    QueueError::Malformed {
        file: file.display().to_string(),
        what: error.to_string(),
    }
}

impl Resident {
    /// Who pushes with this access key, as far as a session of the CA has told.
    pub(super) fn pusher(&self, owner: &Owner, access_key_id: &str) -> Pusher {
        let session = self.sessions.peek(owner);
        let same = session.filter(|session| session.access_key_id == access_key_id);
        Pusher {
            access_key_id: access_key_id.to_owned(),
            user_id: same.map(|session| session.caller.user_id.clone()),
        }
    }

    /// Tells the CA what waits for it of the person behind this selection; what fails goes on waiting.
    pub(super) async fn send_events(&self, ca: &Ca, selection: &Selection, kind: KeyType) {
        // Each event has its own turn: where a grant serves one request, it takes a new one.
        for _ in 0..self.events.len() {
            let Ok(session) = self.session(ca, selection, kind).await else {
                return;
            };
            let next = self
                .events
                .next_of(&ca.config.url, |pusher| pusher.is(&session));
            let Some(waiting) = next else { return };
            if !self.send_event(ca, &session, &waiting).await {
                return;
            }
        }
    }

    async fn send_event(&self, ca: &Ca, session: &Session, waiting: &Waiting) -> bool {
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
        settled && self.events.done(waiting).is_ok()
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

    fn event(access_key_id: &str, at: u64) -> Waiting {
        let event = ClientEvent::KeyPushed {
            instance: "i-01234567".parse().unwrap(),
            user: "ubuntu".parse().unwrap(),
            fingerprint: "SHA256:x".to_owned(),
            cause: PushCause::CaUnreachable,
            aws_request_id: at.to_string(),
        };
        Waiting {
            ca: "https://ca.example".parse().unwrap(),
            selection: String::new(),
            pusher: Pusher {
                access_key_id: access_key_id.to_owned(),
                user_id: None,
            },
            at,
            event,
        }
    }

    #[test]
    fn events_are_told_to_their_own_ca_only() {
        // H-14
        let dir = tempfile::tempdir().unwrap();
        let queue = EventQueue::load(&dir.path().join("eic")).unwrap();
        queue.add(event("AKIA1", 1)).unwrap();
        let (own, other) = ("https://ca.example", "https://other.example");
        assert!(queue.next_of(&other.parse().unwrap(), |_| true).is_none());
        assert!(queue.next_of(&own.parse().unwrap(), |_| false).is_none());
        assert!(queue.next_of(&own.parse().unwrap(), |_| true).is_some());
    }

    #[test]
    fn events_of_two_processes_are_both_kept_and_each_is_settled_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = EventQueue::load(&dir.path().join("eic")).unwrap();
        let second = EventQueue::load(&dir.path().join("eic")).unwrap();
        first.add(event("AKIA1", 1)).unwrap();
        second.add(event("AKIA2", 2)).unwrap();
        assert_eq!((first.len(), second.len()), (2, 2));
        second.done(&event("AKIA1", 1)).unwrap();
        first.add(event("AKIA3", 3)).unwrap();
        let kept = EventQueue::load(&dir.path().join("eic")).unwrap().waiting();
        assert_eq!(kept, [event("AKIA2", 2), event("AKIA3", 3)]);
    }

    #[test]
    fn events_that_are_added_at_once_are_all_kept() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("eic");
        let write = |first: u64| {
            let queue = EventQueue::load(&state).unwrap();
            for at in first..first + 20 {
                queue.add(event("AKIA1", at)).unwrap();
            }
        };
        std::thread::scope(|scope| {
            for writer in 0..4 {
                scope.spawn(move || write(writer * 100));
            }
        });
        assert_eq!(EventQueue::load(&state).unwrap().len(), 80);
    }

    #[test]
    fn a_queue_of_an_earlier_version_is_read_and_its_events_are_nobodys() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("eic")).unwrap();
        let mut old = serde_json::to_value([event("AKIA1", 1)]).unwrap();
        old[0].as_object_mut().unwrap().remove("pusher");
        old[0]["selection"] = "profile dev".into();
        std::fs::write(dir.path().join("eic/events.json"), old.to_string()).unwrap();
        let queue = EventQueue::load(&dir.path().join("eic")).unwrap();
        let found = queue.next_of(&"https://ca.example".parse().unwrap(), |pusher| {
            *pusher != Pusher::default()
        });
        assert!(queue.len() == 1 && found.is_none());
    }

    #[test]
    fn the_queue_is_bounded_and_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let queue = EventQueue::load(&dir.path().join("eic")).unwrap();
        for at in 0..300 {
            queue.add(event("AKIA1", at)).unwrap();
        }
        let again = EventQueue::load(&dir.path().join("eic")).unwrap();
        assert_eq!(again.len(), MAX_WAITING);
        again.add(event("AKIA1", 300 + MAX_AGE)).unwrap();
        assert_eq!(again.len(), 1, "old events stay");
        again.done(&event("AKIA1", 300 + MAX_AGE)).unwrap();
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
