//! Keeps keys in memory for the user CA: has the next one endorsed in time, waits until hosts can know it, has it
//! sign, drops it when its hours are over. All of it beside the requests: where the user CA's key does not answer,
//! certificates go on for as long as the keys at hand last.

use std::sync::Arc;

use serde_json::json;

use super::{App, TICK};
use crate::audit::{Actor, Event, EventName, OnceError, Origin, event_request_id};
use crate::config::Config;
use crate::policy::Settings;
use crate::random::NoEntropy;
use crate::rotation::{EndorsedRules, Held, Hours, choose_endorsed};
use crate::signer::UserCa;
use crate::signer::endorsed::{EndorseError, EndorsedCa, Reserved};
use crate::store::StoreError;
use crate::store::trust::Endorsed;

/// After a failure, the endorser's key is asked again after so long. Seconds.
const RETRY: u64 = 30;
/// Endorsements in a bundle above which none is added: hosts take 64. Each restart leaves the one that signed.
const MOST: usize = 40;

/// What keys in memory are made by.
pub(super) struct Endorsing {
    rules: EndorsedRules,
    reserved: Arc<Reserved>,
}

impl Endorsing {
    /// None: the configuration wants no such keys.
    pub(super) fn of(config: &Config, settings: Settings) -> Option<Self> {
        Some(Self {
            rules: config.keys.endorsed?,
            reserved: Arc::new(Reserved::of(config, settings)),
        })
    }
}

/// The keys at hand.
#[derive(Default)]
struct Shelf {
    keys: Vec<Shelved>,
    /// When the endorser may be asked again after a failure, in Unix seconds.
    retry_at: u64,
    /// Whether a key in memory signed at the last look.
    signing: bool,
}

struct Shelved {
    ca: Arc<EndorsedCa>,
    known_at: Option<u64>,
}

impl App {
    /// Keeps keys in memory, for as long as the service runs.
    pub(super) async fn keep_endorsed(&self) {
        let Some(endorsing) = &self.trust.endorsing else {
            return;
        };
        let mut shelf = Shelf::default();
        loop {
            if let Err(error) = self.tend(endorsing, &mut shelf).await {
                tracing::error!(%error, "a key in memory could not be written down; it does not sign yet");
            }
            tokio::time::sleep(TICK).await;
        }
    }

    async fn tend(&self, endorsing: &Endorsing, shelf: &mut Shelf) -> Result<(), StoreError> {
        let (now, direct) = (self.clock.now(), self.issuer.ca());
        shelf.keep_those_of(&direct, now);
        self.note_published(endorsing, shelf).await?;
        if self.trust.signers.check().is_ok() {
            self.endorse_next(endorsing, shelf, &direct, now).await;
        }
        self.sign_through_best(shelf, self.clock.now());
        Ok(())
    }

    /// Hosts can fetch it from now on, from here and from where it is published. The wait is durable before it counts,
    /// so that a restart knows who signed.
    async fn note_published(
        &self,
        endorsing: &Endorsing,
        shelf: &mut Shelf,
    ) -> Result<(), StoreError> {
        let Some(edition) = self.trust.available() else {
            return Ok(());
        };
        let published = &edition.bundle().endorsements;
        let known_at = self.clock.now().saturating_add(endorsing.rules.propagation);
        for key in shelf.keys.iter_mut().filter(|key| key.known_at.is_none()) {
            if published.contains(key.ca.envelope()) {
                let print = key.ca.ca().public().fingerprint();
                self.trust.book.endorsed_is_known(print, known_at).await?;
                key.known_at = Some(known_at);
            }
        }
        Ok(())
    }

    async fn endorse_next(
        &self,
        endorsing: &Endorsing,
        shelf: &mut Shelf,
        direct: &UserCa,
        now: u64,
    ) {
        let held = self.held(shelf);
        let end = direct.active().not_after;
        let Some(hours) = endorsing.rules.next(&held, end, now) else {
            return;
        };
        if now < shelf.retry_at {
            return;
        }
        match self.endorse(endorsing, direct, hours, now).await {
            Ok(ca) => shelf.keys.push(Shelved {
                ca: Arc::new(ca),
                known_at: None,
            }),
            Err(error) => {
                shelf.retry_at = now.saturating_add(RETRY);
                let lasts = held.iter().map(|key| key.hours.not_after).max();
                tracing::error!(
                    %error,
                    keys_at_hand_last_until = lasts.unwrap_or(now),
                    "ALARM: no further key in memory could be endorsed; it is tried again"
                );
            }
        }
    }

    async fn endorse(
        &self,
        endorsing: &Endorsing,
        direct: &UserCa,
        hours: Hours,
        now: u64,
    ) -> Result<EndorsedCa, NotEndorsed> {
        let edition = self.trust.edition();
        if edition.bundle().endorsements.len() >= MOST {
            return Err(NotEndorsed::TooMany);
        }
        let root = edition.roots().present().ok_or(NotEndorsed::NoRoot)?;
        let reserved = &endorsing.reserved;
        let ca = direct.endorse(hours, reserved, root, now).await?;
        self.record_endorsement(&ca).await?;
        self.issuer.special().add(ca.ca().public().key());
        tracing::info!(
            key = %ca.ca().public().fingerprint(),
            signs_from = hours.signs_from,
            not_after = hours.not_after,
            "a key in memory was endorsed"
        );
        Ok(ca)
    }

    /// Durable before any bundle names it; the record of a key that then never signs does no harm.
    async fn record_endorsement(&self, ca: &EndorsedCa) -> Result<(), NotEndorsed> {
        let (key, hours) = (ca.ca().public(), ca.hours());
        let id = event_request_id()?;
        let mut event = Event::new(EventName::EndorseKey, Actor::Service, Origin::default(), id);
        event.parameters = Some(json!({
            "key": key.fingerprint(),
            "caKey": ca.endorser().fingerprint(),
            "signsFrom": hours.signs_from,
            "notAfter": hours.not_after,
        }));
        let row = Endorsed {
            key: key.clone(),
            endorser: ca.endorser().fingerprint(),
            document: ca.envelope().clone(),
            signs_from: hours.signs_from,
            not_after: hours.not_after,
            known_at: None,
            revoked: false,
        };
        Ok(self.recorder.endorse(&self.trust.book, row, &event).await?)
    }

    fn sign_through_best(&self, shelf: &mut Shelf, now: u64) {
        let best = choose_endorsed(&self.held(shelf), now);
        let best = best.and_then(|index| shelf.keys.get(index));
        let best = best.map(|key| Arc::clone(&key.ca));
        if shelf.signing && best.is_none() {
            tracing::error!(
                user_ca = %self.issuer.ca().public().fingerprint(),
                "ALARM: no key in memory counts any more; the user CA's own key signs each certificate"
            );
        }
        shelf.signing = best.is_some();
        self.issuer.sign_through(best);
    }

    fn held(&self, shelf: &Shelf) -> Vec<Held> {
        let watch = self.trust.book.watch();
        let held = shelf.keys.iter().map(|key| Held {
            hours: key.ca.hours(),
            known_at: key.known_at,
            revoked: watch.revokes(key.ca.ca().public().key()),
        });
        held.collect()
    }
}

impl Shelf {
    /// Dropping a key wipes it.
    fn keep_those_of(&mut self, direct: &UserCa, now: u64) {
        self.keys
            .retain(|key| key.ca.endorser() == direct.public() && now < key.ca.hours().not_after);
    }
}

/// Why there is no further key.
#[derive(Debug, thiserror::Error)]
enum NotEndorsed {
    /// The endorsement.
    #[error(transparent)]
    Endorse(#[from] EndorseError),
    /// The record.
    #[error(transparent)]
    Record(#[from] OnceError),
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// No root.
    #[error("endorse a key in memory: there is no root document")]
    NoRoot,
    /// Restarts, one after the other.
    #[error(
        "endorse a key in memory: the bundle names {MOST} already; does the service restart again and again?"
    )]
    TooMany,
}
