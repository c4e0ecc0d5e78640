//! Rotates user-CA keys by themselves where the configuration names a time: what `rotation` finds due is done where the
//! root key is at hand, and asked for in the log where it is not. The host CA's and the bundle key's time is told there.

use std::path::PathBuf;

use serde_json::json;

use super::{App, TICK};
use crate::audit::{Actor, AppendError, Event, EventName, OnceError, Origin, event_request_id};
use crate::config::keys::KeysConfig;
use crate::keys::{RootError, RootHistory, root, root_history};
use crate::random::NoEntropy;
use crate::rotation::{Due, Scheduled, due, overdue, standing};
use crate::signer::document::{DocumentError, RootKey};
use crate::signer::local::LocalKeyError;
use crate::store::StoreError;

/// How often it is looked what is due. Seconds.
const LOOK: u64 = 3_600;
/// How often somebody is asked to do what cannot be done here. Seconds.
const ASK: u64 = 86_400;

/// When keys are exchanged, and what for.
pub(super) struct Schedule {
    after: u64,
    /// File of the root key, where it is at hand.
    root: Option<PathBuf>,
    document: PathBuf,
}

impl Schedule {
    /// None: keys are exchanged by command only.
    pub(super) fn of(config: &KeysConfig) -> Option<Self> {
        Some(Self {
            after: config.rotate_after?,
            root: config.root.clone(),
            document: config.root_document.clone(),
        })
    }
}

impl App {
    /// Exchanges keys in their time, for as long as the service runs.
    pub(super) async fn keep_schedule(&self) {
        let Some(schedule) = &self.trust.schedule else {
            return;
        };
        let (mut next_look, mut next_reminder) = (0, 0);
        loop {
            let now = self.clock.now();
            if next_reminder <= now {
                remind(self.trust.edition().roots(), schedule.after, now);
                next_reminder = now.saturating_add(ASK);
            }
            if next_look <= now {
                let pause = match self.do_what_is_due(schedule, now).await {
                    Ok(pause) => pause,
                    Err(error) => {
                        tracing::error!(%error, "ALARM: a user-CA key could not be exchanged in its time; it is tried again");
                        LOOK
                    }
                };
                next_look = now.saturating_add(pause);
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// Returns for how long nothing need be looked at. Seconds.
    async fn do_what_is_due(&self, schedule: &Schedule, now: u64) -> Result<u64, NotRotated> {
        let edition = self.trust.edition();
        let roots = edition.roots();
        let signing = self.trust.book.signing().await?;
        let (keys, choice) = self.trust.elect(roots, &signing, now);
        let Some(signer) = choice.signer else {
            return Ok(LOOK);
        };
        // Who signs may only stand in for a key in KMS that does not answer: it must not be taken for replaced.
        let mut judged = keys.iter().zip(&choice.judged);
        if judged.any(|(key, judged)| judged.is_ok() && key.unreached().is_some()) {
            return Ok(LOOK);
        }
        let mut scheduled = Vec::new();
        for (key, judged) in keys.iter().zip(&choice.judged) {
            let print = key.public().fingerprint();
            scheduled.push(Scheduled {
                standing: standing(roots, key.public()),
                may_sign: judged.is_ok(),
                signed: signing.ever.get(&print).copied(),
                lives: self.trust.book.last_end(print, now).await?.is_some(),
            });
        }
        let print = |index: usize| {
            let key = keys.get(index);
            key.map(|key| key.public().fingerprint())
                .unwrap_or_default()
        };
        let mut pause = LOOK;
        for due in due(&scheduled, signer, signing.since, schedule.after, now) {
            let asked = match due {
                Due::Activate(spare) => self.activate(print(spare)).await?,
                Due::Retire(old) => {
                    self.retire(schedule, print(old), print(signer), now)
                        .await?
                }
                Due::NoSpare => ask_for_a_spare(),
            };
            pause = pause.max(asked);
        }
        Ok(pause)
    }

    async fn activate(&self, print: String) -> Result<u64, NotRotated> {
        let event = event(EventName::ActivateKey, &print)?;
        tracing::warn!(user_ca = print, "the schedule has another user CA sign");
        let chosen = self.recorder.choose_signer(&self.trust.book, print, &event);
        chosen.await?;
        Ok(LOOK)
    }

    async fn retire(
        &self,
        schedule: &Schedule,
        print: String,
        signer: String,
        now: u64,
    ) -> Result<u64, NotRotated> {
        let (_, present) = root::read(&schedule.document)?;
        let Some(file) = schedule.root.as_ref().filter(|_| present.threshold == 1) else {
            tracing::error!(
                user_ca = print,
                "ALARM: a replaced user-CA key is to be retired and the root key is not at hand: `eic-ca keys retire {print} --reason rotation --draft next.json`, `eic-ca root sign`, `eic-ca root install`"
            );
            return Ok(ASK);
        };
        let Some(next) = root::with_retired(&present, &print, Some(&signer), now) else {
            return Ok(LOOK);
        };
        let root_key = RootKey::load(file)?;
        let sealed = root_key.seal(&next)?;
        // Recorded first, as by command.
        let event = event(EventName::RetireKey, &print)?;
        self.recorder.append(&event).await?;
        let event = root::installation(&next, Actor::Service)?;
        self.recorder.append(&event).await?;
        root_history::succeed(&schedule.document, &sealed)?;
        tracing::warn!(
            user_ca = print,
            "the schedule has retired a replaced user CA"
        );
        Ok(LOOK)
    }
}

/// The keys that an operator exchanges.
fn remind(roots: &RootHistory, after: u64, now: u64) {
    for key in overdue(roots, after, now) {
        tracing::error!(
            purpose = key.purpose,
            key = key.key,
            "ALARM: the time of this key is over; name a new one in `[keys] {}`, run `eic-ca root update` and restart the service",
            key.purpose
        );
    }
}

fn ask_for_a_spare() -> u64 {
    tracing::error!(
        "ALARM: the time of the user CA's key is over, but there is no spare that hosts know and that never signed; add one to `spare_user_cas`, run `eic-ca keys announce` and restart the service"
    );
    ASK
}

fn event(name: EventName, print: &str) -> Result<Event, NoEntropy> {
    let id = event_request_id()?;
    let mut event = Event::new(name, Actor::Service, Origin::default(), id);
    event.parameters = Some(json!({ "caKey": print, "reason": "schedule" }));
    Ok(event)
}

/// Why a key was not exchanged.
#[derive(Debug, thiserror::Error)]
enum NotRotated {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The record.
    #[error(transparent)]
    Record(#[from] OnceError),
    /// The record.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The root document.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The root key.
    #[error(transparent)]
    RootKey(#[from] LocalKeyError),
    /// The signature.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
}
