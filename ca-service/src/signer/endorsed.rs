//! Keys that exist in this process's memory only, and that a user CA's key lets sign for some hours: certificates
//! then cost no call of KMS. Hosts hold them to their scope, and so does this side: what is reserved for the
//! user CA's own key is never signed here.
//!
//! Never written, never printed, wiped when dropped. Where memory could reach a disk by swapping, that is the
//! system's to prevent (MemorySwapMax=0): AWS-LC keeps them in a heap of its own, which cannot be locked from here.

use std::collections::BTreeSet;
use std::sync::Arc;

use eic_protocol::api::certificate::CertificateScope;
use eic_protocol::base64_text::Base64Bytes;
use eic_protocol::fleet::FleetName;
use eic_protocol::os_user::OsUser;
use eic_protocol::principal::Principal;
use eic_protocol::sshsig::{self, Namespace};
use eic_protocol::subject_key::CaKey;
use eic_protocol::trust::endorsement::{EndorsedKey, Endorsement};
use eic_protocol::trust::envelope::{Envelope, Untrusted};
use eic_protocol::trust::root::Root;

use super::document::{DocumentError, checked};
use super::local::LocalSigner;
use super::{CertificateAuthority, Signer, UserCa};
use crate::config::Config;
use crate::policy::Settings;
use crate::rotation::Hours;

/// What only the user CA's own key may open: names with uid 0, and fleets marked `kms_only` (design 3.6).
#[derive(Debug)]
pub struct Reserved {
    settings: Settings,
    fleets: BTreeSet<FleetName>,
}

impl Reserved {
    /// As configured.
    #[must_use]
    pub fn of(config: &Config, settings: Settings) -> Self {
        let fleets = config.fleets.iter().filter(|fleet| fleet.kms_only);
        Self {
            settings,
            fleets: fleets.map(|fleet| fleet.name.clone()).collect(),
        }
    }

    fn covers(&self, user: &OsUser, fleet: Option<&FleetName>) -> bool {
        self.settings.is_uid0(user) || fleet.is_some_and(|fleet| self.fleets.contains(fleet))
    }

    /// Whether a request is for something reserved.
    #[must_use]
    pub fn covers_scope(&self, scope: &CertificateScope) -> bool {
        match scope {
            CertificateScope::Target { user, .. } => self.covers(user, None),
            CertificateScope::Fleet { user, fleet } => self.covers(user, Some(fleet)),
        }
    }

    /// Whether a principal is reserved. A bare name is for hosts without an agent, which know no hours.
    #[must_use]
    pub fn covers_principal(&self, principal: &Principal) -> bool {
        match principal {
            Principal::Target(user, _) => self.covers(user, None),
            Principal::Fleet(user, fleet) => self.covers(user, Some(fleet)),
            Principal::Bare(_) => true,
        }
    }
}

/// A key in memory with its endorsement. Made only by [`UserCa::endorse`], of a key that was born for it.
pub struct EndorsedCa {
    ca: Arc<UserCa>,
    reserved: Arc<Reserved>,
    endorser: CaKey,
    hours: Hours,
    envelope: Envelope,
}

impl EndorsedCa {
    /// Signs user certificates.
    #[must_use]
    pub fn ca(&self) -> &Arc<UserCa> {
        &self.ca
    }

    /// Whose key endorsed it.
    #[must_use]
    pub fn endorser(&self) -> &CaKey {
        &self.endorser
    }

    /// Its hours.
    #[must_use]
    pub fn hours(&self) -> Hours {
        self.hours
    }

    /// What hosts get.
    #[must_use]
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Whether it may sign for this.
    #[must_use]
    pub fn may_open(&self, scope: &CertificateScope) -> bool {
        !self.reserved.covers_scope(scope)
    }
}

impl UserCa {
    /// Makes a key in memory and has this CA's key endorse it for these hours, as hosts with this root will
    /// verify it. `now` is in Unix seconds.
    ///
    /// # Errors
    /// [`EndorseError`]; the new key is gone then.
    pub async fn endorse(
        &self,
        hours: Hours,
        reserved: &Arc<Reserved>,
        root: &Root,
        now: u64,
    ) -> Result<EndorsedCa, EndorseError> {
        if self.reserved.is_some() {
            return Err(EndorseError::Chained);
        }
        let fresh = LocalSigner::fresh().map_err(DocumentError::from)?;
        let document = self.document(fresh.public(), hours, now);
        let envelope = self.seal(&document).await?;
        Endorsement::verified(&envelope, root)?;
        let ca = CertificateAuthority {
            reserved: Some(Arc::clone(reserved)),
            ..CertificateAuthority::new(Signer::Local(fresh), Some(hours.not_after))
        };
        Ok(EndorsedCa {
            ca: Arc::new(ca),
            reserved: Arc::clone(reserved),
            endorser: self.public().clone(),
            hours,
            envelope,
        })
    }

    fn document(&self, fresh: &CaKey, hours: Hours, now: u64) -> Endorsement {
        Endorsement {
            endorser: self.public().clone(),
            issued: now,
            keys: vec![EndorsedKey {
                key: fresh.clone(),
                not_before: hours.not_before(),
                not_after: hours.not_after,
                users: None,
            }],
        }
    }

    /// Private: of documents, this key signs endorsements of keys made here and nothing else (D-20).
    async fn seal(&self, document: &Endorsement) -> Result<Envelope, DocumentError> {
        let bytes = serde_json::to_vec(document)?;
        let data = sshsig::signed_data(Namespace::Endorsement, &bytes);
        let signature = self.signer.sign_bytes(&data).await?;
        let key = self.public().key();
        let signature = checked(Namespace::Endorsement, key, &bytes, &signature)?;
        Ok(Envelope {
            signed: Base64Bytes(bytes),
            signatures: vec![signature],
        })
    }
}

/// Why a key was not endorsed.
#[derive(Debug, thiserror::Error)]
pub enum EndorseError {
    /// The signature.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// Hosts would refuse it.
    #[error("endorse a key in memory: hosts would not take it: {0}")]
    Untrusted(#[from] Untrusted),
    /// An endorsed key endorses none.
    #[error("endorse a key in memory: the key that signs is endorsed itself")]
    Chained,
}

#[cfg(test)]
mod tests;
