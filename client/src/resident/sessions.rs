//! Login sessions: a grant of the CA and the key that it is bound to, renewed before it ends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use eic_protocol::api::discovery::SessionMode;
use eic_protocol::api::session::CallerView;
use eic_protocol::grant::GrantToken;

use super::keyring::Owner;
use super::settings::Ca;
use super::{LoginError, Resident, lock};
use crate::ca::{CaError, Granted};
use crate::control::message::SessionStatus;
use crate::credentials::Selection;
use crate::key::{EphemeralKey, KeyType};

/// A session that ends sooner is renewed while it is still used. Seconds.
const RENEW_BEFORE: u64 = 180;
/// A session that ends sooner is not used any more: the request must arrive in time. Seconds.
const MARGIN: u64 = 20;
/// How long a CA that was absent is not asked again. Seconds.
const ABSENCE_KEPT: u64 = 5;

/// A session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) key: Arc<EphemeralKey>,
    grant: GrantToken,
    pub(super) caller: CallerView,
    /// When it ends by our clock, in Unix seconds.
    pub(super) expires_at: u64,
    /// The CA's clock minus ours, in seconds.
    clock_offset: i64,
    pub(super) protocol: u32,
    /// `sessions = "off"` at the CA: good for one request, that of the task which opened it.
    single_use: bool,
    /// Of the credentials that proved the identity.
    pub(super) access_key_id: String,
    label: String,
}

/// An owner's place: the session, and the turn of who opens the next one. Reading never waits for a renewal.
#[derive(Debug, Default)]
struct Slot {
    current: Mutex<Option<Arc<Session>>>,
    absent: Mutex<Option<(u64, CaError)>>,
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
pub(super) struct Sessions {
    slots: Mutex<HashMap<Owner, Arc<Slot>>>,
}

impl Session {
    /// What a request of this moment is signed with.
    pub(super) fn granted(&self, now: u64) -> Granted<'_> {
        let time = now.saturating_add_signed(self.clock_offset);
        Granted {
            grant: &self.grant,
            key: &self.key,
            time,
        }
    }

    /// Whether a task that did not open it may use it too. A single-use one is its opener's from the first moment:
    /// there is no time at which two tasks could find it free.
    fn is_shared(&self, now: u64) -> bool {
        !self.single_use && now.saturating_add(MARGIN) < self.expires_at
    }

    fn wants_renewal(&self, now: u64) -> bool {
        now.saturating_add(RENEW_BEFORE) >= self.expires_at
    }
}

impl Slot {
    fn get(&self) -> Option<Arc<Session>> {
        lock(&self.current).clone()
    }

    /// Keeps a new session, or the CA's absence for a moment: logins that wait for their turn do not wait
    /// for one time-out after the other.
    fn put(&self, opened: &Result<Arc<Session>, LoginError>, now: u64) {
        match opened {
            Ok(session) => *lock(&self.current) = Some(Arc::clone(session)),
            Err(LoginError::Ca(error)) => {
                *lock(&self.absent) = error.as_absence().map(|error| (now, error))
            }
            Err(_) => {}
        }
    }

    fn absence(&self, now: u64) -> Option<CaError> {
        let absent = lock(&self.absent);
        let recent = absent
            .as_ref()
            .filter(|(since, _)| now.saturating_sub(*since) < ABSENCE_KEPT);
        recent.and_then(|(_, error)| error.as_absence())
    }
}

impl Sessions {
    fn slot(&self, owner: &Owner) -> Arc<Slot> {
        let mut slots = lock(&self.slots);
        if slots.len() > 256 {
            slots.clear();
        }
        Arc::clone(slots.entry(owner.clone()).or_default())
    }

    /// The owner's session as it is, ended or not: certificates outlive it.
    pub(super) fn peek(&self, owner: &Owner) -> Option<Arc<Session>> {
        let slot = lock(&self.slots).get(owner).cloned()?;
        slot.get()
    }

    /// Forgets all; returns how many there were.
    pub(super) fn clear(&self) -> usize {
        let slots = std::mem::take(&mut *lock(&self.slots));
        slots.values().filter(|slot| slot.get().is_some()).count()
    }

    pub(super) fn status(&self) -> Vec<SessionStatus> {
        let slots = lock(&self.slots);
        let held = slots
            .iter()
            .filter_map(|(owner, slot)| Some((owner, slot.get()?)));
        held.map(|(owner, session)| SessionStatus {
            ca: owner
                .ca
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            selection: session.label.clone(),
            caller: session.caller.clone(),
            expires_at: session.expires_at,
            key: session.key.public().fingerprint(),
        })
        .collect()
    }
}

impl Resident {
    pub(super) fn owner(&self, ca: Option<&Ca>, selection: &Selection, kind: KeyType) -> Owner {
        Owner {
            ca: ca.map(|ca| ca.config.url.clone()),
            selection: selection.id(),
            kind,
        }
    }

    /// A session that can be used now, for one request where the CA wants it so.
    pub(super) async fn session(
        &self,
        ca: &Ca,
        selection: &Selection,
        kind: KeyType,
    ) -> Result<Arc<Session>, LoginError> {
        let slot = self.sessions.slot(&self.owner(Some(ca), selection, kind));
        let usable = || slot.get().filter(|session| session.is_shared(self.now()));
        if let Some(session) = usable() {
            return Ok(session);
        }
        let _turn = slot.turn.lock().await;
        // Somebody else may have opened one in the meantime.
        if let Some(session) = usable() {
            return Ok(session);
        }
        if let Some(error) = slot.absence(self.now()) {
            return Err(error.into());
        }
        let opened = self.open_session(ca, selection, kind).await;
        slot.put(&opened, self.now());
        opened
    }

    /// A new session in any case: at sign-in, for renewal, and where the CA does not know the grant any more.
    pub(super) async fn renew_session(
        &self,
        ca: &Ca,
        selection: &Selection,
        kind: KeyType,
    ) -> Result<Arc<Session>, LoginError> {
        let slot = self.sessions.slot(&self.owner(Some(ca), selection, kind));
        let _turn = slot.turn.lock().await;
        let opened = self.open_session(ca, selection, kind).await;
        slot.put(&opened, self.now());
        opened
    }

    /// Whether the session of this login should be renewed in the background.
    pub(super) fn wants_renewal(&self, ca: &Ca, selection: &Selection, kind: KeyType) -> bool {
        let session = self.sessions.peek(&self.owner(Some(ca), selection, kind));
        session.is_some_and(|session| !session.single_use && session.wants_renewal(self.now()))
    }

    async fn open_session(
        &self,
        ca: &Ca,
        selection: &Selection,
        kind: KeyType,
    ) -> Result<Arc<Session>, LoginError> {
        let now = self.now();
        let credentials = self.aws.credentials(selection, now).await?;
        let owner = self.owner(Some(ca), selection, kind);
        let key = self
            .keyring
            .key(&owner, credentials.credentials.access_key_id(), now)?;
        let announced = ca.announced().await?;
        // The clock again: credentials may have taken a minute, a proof is good for five.
        let now = self.now();
        let opened = ca
            .client
            .open_session(announced.protocol, &key, &credentials, now)
            .await;
        let opened = opened.map_err(|error| self.sign_in_error(selection, error))?;
        let clock_offset =
            i64::try_from(opened.server_time).unwrap_or(0) - i64::try_from(now).unwrap_or(0);
        Ok(Arc::new(Session {
            key,
            grant: opened.grant,
            caller: opened.caller,
            expires_at: opened
                .expires_at
                .saturating_add_signed(clock_offset.saturating_neg()),
            clock_offset,
            protocol: announced.protocol,
            single_use: announced.sessions == SessionMode::Off,
            access_key_id: credentials.credentials.access_key_id().to_owned(),
            label: selection.label(),
        }))
    }
}
