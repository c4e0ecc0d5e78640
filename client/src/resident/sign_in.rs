//! Signing in on purpose (`eic-login` without a command), and what the agent tells about itself.

use eic_aws::ec2::Which;
use eic_protocol::api::instance::InstancesQuery;

use super::resolve::view_of;
use super::settings::Ca;
use super::{LoginError, Resident};
use crate::control::message::{SignedIn, Status};
use crate::credentials::Selection;
use crate::key::KeyType;

impl Resident {
    /// Proves the identity anew, and lists what may be reached.
    pub(super) async fn sign_in(&self, selection: Selection) -> Result<SignedIn, LoginError> {
        let selection = selection.filtered();
        let setting = self.settings.current()?;
        match &setting.ca {
            Some(ca) => self.sign_in_to(ca, &selection).await,
            None => self.look_around(&selection).await,
        }
    }

    async fn sign_in_to(&self, ca: &Ca, selection: &Selection) -> Result<SignedIn, LoginError> {
        self.aws.forget(selection);
        let session = self
            .renew_session(ca, selection, KeyType::default())
            .await?;
        let (caller, expires_at) = (session.caller.clone(), session.expires_at);
        // Where a grant serves one request, this takes another one.
        let session = self.session(ca, selection, KeyType::default()).await?;
        let found = ca
            .client
            .instances(session.granted(self.now()), &InstancesQuery::default())
            .await?;
        self.send_events(ca, &session, &selection.label()).await;
        Ok(SignedIn {
            ca: Some(ca.config.url.to_string()),
            caller: Some(caller),
            expires_at: Some(expires_at),
            instances: found.instances,
            truncated: found.truncated,
            selection: selection.label(),
        })
    }

    /// Without a CA: what EC2 shows to these credentials in their Region.
    async fn look_around(&self, selection: &Selection) -> Result<SignedIn, LoginError> {
        self.aws.forget(selection);
        let credentials = self.aws.credentials(selection, self.now()).await?;
        let mut found = self.describe(&credentials, &Which::All, selection).await?;
        let truncated = found.len() > 1_000;
        found.truncate(1_000);
        Ok(SignedIn {
            ca: None,
            caller: None,
            expires_at: credentials.expires_at,
            instances: found.into_iter().map(view_of).collect(),
            truncated,
            selection: selection.label(),
        })
    }

    pub(super) fn status(&self) -> Status {
        Status {
            pid: std::process::id(),
            sessions: self.sessions.status(),
            certificates: self.certificates.status(self.now()),
            logins: self.logins.names(),
            unsent_events: self.events.len(),
        }
    }

    /// Forgets keys, sessions, certificates, credentials and logins; returns how many sessions there were.
    pub(super) fn forget_all(&self) -> usize {
        self.certificates.clear();
        self.routes.clear();
        self.logins.clear();
        self.keyring.clear();
        self.aws.clear();
        self.sessions.clear()
    }
}
