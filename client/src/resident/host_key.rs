//! KnownHostsCommand's question: is this key that of the instance which `connect` resolved?

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use eic_protocol::api::instance::Enrolment;
use eic_protocol::cert::check::Mismatch;
use eic_protocol::subject_key::SubjectKey;
use ssh_key::Certificate;

use super::ca_trust::CaTrust;
use super::login_board::Entry;
use super::{LoginError, Resident};
use crate::control::message::{ConnectAsk, HostKeyAsk, Reply};
use crate::host_trust::console::{self, ConsoleKeys};
use crate::host_trust::memory::KeySource;
use crate::host_trust::verdict::{self, Known, Untrusted, Verdict};

impl Resident {
    /// Answers with [`Reply::KnownHost`].
    pub(super) async fn host_key(self: &Arc<Self>, ask: HostKeyAsk) -> Result<Reply, LoginError> {
        let login = &ask.login;
        let mut notes = Vec::new();
        let mut entries = self.logins.find(login);
        // With a jump host ssh runs no ProxyCommand of ours: the login is opened at ssh's first question.
        if entries.is_empty() {
            let begun = self.begin(login.clone()).await?;
            notes = self.finish(begun).await?;
            entries = self.logins.find(login);
        }
        let Some(key) = &ask.key else {
            return Ok(known(self.expected(&entries), notes));
        };
        let entry = the_one(login, &entries)?;
        let blob = STANDARD.decode(key).map_err(|_| Untrusted::Unreadable)?;
        let (key, told) = self.trusted(&entry, &blob).await?;
        for entry in &entries {
            entry.login.trust_host_key(key.clone());
        }
        notes.extend(told);
        Ok(known(vec![key], notes))
    }

    /// While ssh orders its algorithms: the remembered keys of a legacy host, so that it asks for one of them.
    /// Nothing for enrolled hosts, since certificates come first by default.
    fn expected(&self, entries: &[Entry]) -> Vec<SubjectKey> {
        let memory = self.memory();
        let record = entries
            .last()
            .and_then(|entry| memory.get(&entry.view.id))
            .filter(|record| !record.enrolled);
        record.map(|record| record.keys.clone()).unwrap_or_default()
    }

    async fn trusted(
        &self,
        entry: &Entry,
        blob: &[u8],
    ) -> Result<(SubjectKey, Vec<String>), LoginError> {
        let mut verdict = self.judge(entry, blob);
        if let (Err(Untrusted::Certificate { mismatch, .. }), Some(ca)) =
            (&verdict, &entry.setting.ca)
            && *mismatch == Mismatch::Field("signature key")
        {
            // The host CA may have been replaced since the CA was last asked.
            ca.refresh(self.now()).await;
            verdict = self.judge(entry, blob);
        }
        match verdict? {
            Verdict::Certified(key) => {
                self.memory().mark_enrolled(&entry.view.id, self.now())?;
                Ok((key, Vec::new()))
            }
            Verdict::Remembered(key) => Ok((key, Vec::new())),
            Verdict::Unknown(key) => self.first_meeting(entry, key).await,
        }
    }

    fn judge(&self, entry: &Entry, blob: &[u8]) -> Result<Verdict, Untrusted> {
        let trust = entry.setting.ca.as_ref().map(|ca| &ca.trust);
        let host_cas = trust.map(CaTrust::host_cas).unwrap_or_default();
        let revoked = Certificate::from_bytes(blob)
            .is_ok_and(|shown| trust.is_some_and(|trust| trust.revokes(&shown)));
        let memory = self.memory();
        let known = Known {
            instance: &entry.view.id,
            enrolment: entry.view.enrolment,
            record: memory.get(&entry.view.id),
            host_cas: &host_cas,
            revoked,
        };
        verdict::judge(blob, &known, self.now())
    }

    async fn first_meeting(
        &self,
        entry: &Entry,
        key: SubjectKey,
    ) -> Result<(SubjectKey, Vec<String>), LoginError> {
        let (id, harvested) = (&entry.view.id, &entry.view.host_keys);
        let (keys, source) = if harvested.is_empty() {
            verdict::judge_by_console(id, &key, self.console(entry).await?)?
        } else {
            verdict::judge_by_harvest(id, &key, harvested)?
        };
        let note = match source {
            KeySource::Console => format!(
                "the host key of {} is the one on its console; it is remembered",
                entry.view.id
            ),
            KeySource::Harvested => format!(
                "the host key of {} is one that the host told the CA; it is remembered",
                entry.view.id
            ),
            KeySource::FirstUse => format!(
                "first login to {}: nothing vouches for its host key {}; it is remembered and expected from now on",
                entry.view.id,
                key.fingerprint()
            ),
        };
        let mut memory = self.memory();
        // Another login to it may have been first while the console was read.
        let known = memory.get(&entry.view.id).map(|record| &record.keys);
        if known.is_some_and(|keys| !keys.is_empty() && !keys.contains(&key)) {
            let (instance, fingerprint) = (entry.view.id.clone(), key.fingerprint());
            return Err(Untrusted::Changed {
                instance,
                fingerprint,
            }
            .into());
        }
        memory.remember_keys(&entry.view.id, keys, source, self.now())?;
        Ok((key, vec![note]))
    }

    /// No permission to read the console is like an empty one; a console that cannot be read *now* decides nothing.
    async fn console(&self, entry: &Entry) -> Result<ConsoleKeys, LoginError> {
        if entry.view.id.is_managed() {
            return Ok(ConsoleKeys::None);
        }
        let credentials = self.credentials(&entry.with).await?;
        match self
            .aws
            .console(&credentials, &entry.view, self.now())
            .await
        {
            Ok(output) => Ok(console::parse(&output)),
            Err(cause) if is_forbidden(&cause) => Ok(ConsoleKeys::None),
            Err(cause) => Err(LoginError::Console {
                instance: entry.view.id.clone(),
                cause,
            }),
        }
    }
}

/// Only a missing permission: expired credentials or another instance's answer must not lead to first use.
fn is_forbidden(error: &eic_aws::error::AwsError) -> bool {
    let codes = [
        "UnauthorizedOperation",
        "AccessDenied",
        "AccessDeniedException",
    ];
    error.code().is_some_and(|code| codes.contains(&code))
}

/// Logins of several ssh processes to one name must mean one instance; otherwise none can be told from the other.
fn the_one(ask: &ConnectAsk, entries: &[Entry]) -> Result<Entry, LoginError> {
    let latest = entries
        .last()
        .ok_or_else(|| LoginError::NoLogin(ask.host.clone()))?;
    let mut ids: Vec<_> = entries.iter().map(|entry| entry.view.id.clone()).collect();
    ids.sort();
    ids.dedup();
    if ids.len() > 1 {
        return Err(LoginError::Ambiguous {
            host: ask.host.clone(),
            candidates: ids.iter().map(ToString::to_string).collect(),
        });
    }
    // The strictest of what is known of it.
    let enrolled = entries
        .iter()
        .rev()
        .find(|entry| entry.view.enrolment == Enrolment::Enrolled);
    Ok(enrolled.unwrap_or(latest).clone())
}

fn known(keys: Vec<SubjectKey>, notes: Vec<String>) -> Reply {
    Reply::KnownHost {
        keys: keys.iter().map(ToString::to_string).collect(),
        notes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eic_aws::error::AwsError;

    #[test]
    fn only_a_missing_permission_counts_as_an_empty_console() {
        let said = |code: &str| AwsError::Service {
            status: 403,
            code: code.to_owned(),
            message: String::new(),
        };
        for code in [
            "ExpiredToken",
            "AuthFailure",
            "InvalidInstanceID.NotFound",
            "",
        ] {
            assert!(!is_forbidden(&said(code)), "{code}");
        }
        assert!(!is_forbidden(&AwsError::Malformed(
            "console output of another instance"
        )));
        assert!(is_forbidden(&said("UnauthorizedOperation")));
    }
}
