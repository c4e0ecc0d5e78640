//! Signing in on purpose (`eic-login` without a command), and what the agent tells about itself.

use std::sync::Arc;

use eic_protocol::api::instance::InstanceView;
use eic_protocol::subject_key::SubjectKey;

use super::settings::{Ca, Setting};
use super::{LoginError, Resident};
use crate::control::message::{PersonAsk, SignedIn, Status};
use crate::credentials::{Selection, TokenError};
use crate::host_cache::{CachedHost, Listing};
use crate::key::KeyType;

/// Most hosts that signing in shows; `eic-login hosts` shows all.
const MAX_SHOWN: usize = 1_000;

impl Resident {
    /// Proves the identity anew, and lists what may be reached.
    pub(super) async fn sign_in(&self, selection: Selection) -> Result<SignedIn, LoginError> {
        let selection = selection.filtered();
        let setting = self.settings.current()?;
        match &setting.ca {
            Some(ca) => self.sign_in_to(&setting, ca, &selection).await,
            None => self.look_around(&setting, &selection).await,
        }
    }

    /// A new key, for a sign-in at an issuer to be bound to.
    ///
    /// # Errors
    /// [`LoginError`]; without a CA there is nobody to sign in to.
    pub fn person_key(&self) -> Result<SubjectKey, LoginError> {
        let setting = self.settings.current()?;
        setting.ca.as_ref().ok_or(LoginError::NoCa)?;
        let key = self.keyring.generate(KeyType::default())?;
        Ok(self.people.expect(key))
    }

    /// Keeps what a person's sign-in gave, with the key that was made for it.
    ///
    /// # Errors
    /// [`LoginError`]; without a CA there is nobody to sign in to, and without the key nothing that counts.
    pub fn welcome(&self, ask: PersonAsk) -> Result<(), LoginError> {
        let setting = self.settings.current()?;
        let ca = setting.ca.as_ref().ok_or(LoginError::NoCa)?;
        let kept = self
            .people
            .welcome(&ca.config.url, ask.tokens, &ask.key, self.now());
        Ok(kept?)
    }

    /// The same for somebody who has just signed in at his issuer.
    pub(super) async fn sign_in_as(&self, ask: PersonAsk) -> Result<SignedIn, LoginError> {
        let selection = ask.selection.clone();
        self.welcome(ask)?;
        self.sign_in(selection).await
    }

    async fn sign_in_to(
        &self,
        setting: &Setting,
        ca: &Ca,
        selection: &Selection,
    ) -> Result<SignedIn, LoginError> {
        self.aws.forget(selection);
        let kind = KeyType::default();
        let session = match self.renew_session(ca, selection, kind).await {
            // A job's one token: what it opened is still good.
            Err(spent @ LoginError::Token(TokenError::Spent { .. })) => {
                self.open_now(ca, selection, kind).ok_or(spent)?
            }
            other => other?,
        };
        let found = self.all_of_ca(ca, selection, Arc::clone(&session)).await?;
        self.send_events(ca, selection, kind).await;
        let listing = Listing {
            at: self.now(),
            by_ca: true,
            truncated: found.truncated,
            hosts: found.cached(),
        };
        let notes = self.kept(setting, selection, listing);
        Ok(SignedIn {
            ca: Some(ca.config.url.to_string()),
            caller: Some(session.caller.clone()),
            expires_at: Some(session.expires_at),
            renews: session.renews,
            truncated: found.truncated || found.instances.len() > MAX_SHOWN,
            instances: shown(found.instances),
            selection: selection.label(),
            notes,
        })
    }

    /// Without a CA: what EC2 shows to these credentials, in the configured places.
    async fn look_around(
        &self,
        setting: &Setting,
        selection: &Selection,
    ) -> Result<SignedIn, LoginError> {
        self.aws.forget(selection);
        let listed = self.list_by_ec2(&setting.config, selection).await?;
        let cached = |(view, state): &(_, String)| CachedHost {
            view: InstanceView::clone(view),
            state: Some(state.clone()),
        };
        let listing = Listing {
            at: self.now(),
            by_ca: false,
            truncated: false,
            hosts: listed.hosts.iter().map(cached).collect(),
        };
        let mut notes = listed.notes;
        notes.extend(self.kept(setting, selection, listing));
        let up = listed
            .hosts
            .into_iter()
            .filter(|(_, state)| matches!(state.as_str(), "running" | "pending"));
        let instances: Vec<_> = up.map(|(view, _)| view).collect();
        let truncated = instances.len() > MAX_SHOWN;
        Ok(SignedIn {
            ca: None,
            caller: None,
            expires_at: None,
            renews: false,
            instances: shown(instances),
            truncated,
            selection: selection.label(),
            notes,
        })
    }

    /// Keeps a listing; returns lines for stderr.
    fn kept(&self, setting: &Setting, selection: &Selection, listing: Listing) -> Vec<String> {
        self.keep_hosts(setting, selection, listing, Vec::new())
            .notes
    }

    pub(super) fn status(&self) -> Status {
        Status {
            pid: std::process::id(),
            sessions: self.sessions.status(),
            certificates: self.certificates.status(self.now()),
            logins: self.logins.names(),
            unsent_events: self.events.len(),
            keys_not_locked: self.keyring.not_locked(),
        }
    }

    /// Forgets keys, sessions, certificates, credentials and logins; returns how many sessions there were.
    pub(super) fn forget_all(&self) -> usize {
        self.certificates.clear();
        self.routes.clear();
        self.plans.clear();
        self.logins.clear();
        self.keyring.clear();
        self.people.clear();
        self.aws.clear();
        self.sessions.clear()
    }
}

/// Sorted by name and id, as far as signing in shows them.
fn shown(mut instances: Vec<InstanceView>) -> Vec<InstanceView> {
    instances.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    instances.truncate(MAX_SHOWN);
    instances
}
