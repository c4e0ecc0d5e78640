//! What a login would do and why, told without doing it: no certificate is asked for, no key is pushed.

use super::ca_trust::CaTrust;
use super::resolve::{Source, Target};
use super::settings::Setting;
use super::{LoginError, Resident};
use crate::config::HostProfile;
use crate::control::message::{ConnectAsk, Explanation};
use crate::fallback::{CaOutcome, Push, decide};
use crate::host_trust::memory::{HostRecord, KeySource};

impl Resident {
    /// Resolves the host and asks the rules.
    pub(super) async fn explain(&self, ask: ConnectAsk) -> Result<Explanation, LoginError> {
        let selection = ask.selection.clone().filtered();
        let setting = self.settings.current()?;
        let profile = setting.config.profile(ask.host.as_str());
        let given = ask.given.as_ref();
        let found = self.resolve_given(&setting, &selection, &ask.host, given);
        let (target, absent) = found.await?;
        let reached = match &setting.ca {
            Some(_) => CaOutcome::Issued { restricted: false },
            None => CaOutcome::NotConfigured,
        };
        let decision = |outcome| decided(&decide(&self.situation(&target, outcome, &profile)));
        let (now, without_ca) = (decision(reached), decision(CaOutcome::Absent));
        Ok(Explanation {
            told_by_ca: target.source == Source::Ca,
            ca: setting.ca.as_ref().map(|ca| ca.config.url.to_string()),
            ca_absent: absent.map(|error| error.to_string()),
            user_known: user_known(&ask, &profile, &target),
            user: ask.user,
            now,
            without_ca,
            host_key: self.host_key_told(&setting, &target),
            notes: target.notes.clone(),
            host: target.view,
        })
    }

    fn host_key_told(&self, setting: &Setting, target: &Target) -> String {
        let memory = self.memory();
        let record = memory.get(&target.view.id);
        let trust = setting.ca.as_ref().map(|ca| &ca.trust);
        let host_cas = trust.map(CaTrust::host_cas).unwrap_or_default();
        let enrolled = record.is_some_and(|record| record.enrolled)
            || target.view.enrolment == eic_protocol::api::instance::Enrolment::Enrolled;
        if enrolled {
            let cas: Vec<String> = host_cas.iter().map(|key| key.fingerprint()).collect();
            let id = &target.view.id;
            return format!(
                "only a certificate for {id} by a pinned host CA is taken ({})",
                cas.join(", ")
            );
        }
        remembered(record)
    }
}

fn remembered(record: Option<&HostRecord>) -> String {
    let keys = record
        .map(|record| record.keys.as_slice())
        .unwrap_or_default();
    let Some(first) = keys.first() else {
        return "nothing is remembered: a host certificate, else the keys on its console, else the first login decides"
            .to_owned();
    };
    let how = match record.and_then(|record| record.source) {
        Some(KeySource::Console) => "its console showed them",
        Some(KeySource::Harvested) => "the host told them to the CA",
        _ => "it showed it at the first login",
    };
    let more = keys.len().saturating_sub(1);
    let others = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!("{}{others} is expected: {how}", first.fingerprint())
}

fn user_known(ask: &ConnectAsk, profile: &HostProfile, target: &Target) -> Option<bool> {
    let mut known = profile.user.iter().chain(&target.view.users).peekable();
    known.peek()?;
    Some(known.any(|user| *user == ask.user))
}

fn decided(decision: &Result<Push, crate::fallback::NoPush>) -> String {
    match decision {
        Ok(Push::NotNeeded) => "a certificate opens it; no key is pushed".to_owned(),
        Ok(Push::OnlyWay) => "a key is pushed by EC2 Instance Connect".to_owned(),
        Ok(Push::Because(cause)) => {
            format!(
                "a key is pushed by EC2 Instance Connect ({})",
                cause.as_str()
            )
        }
        Err(reason) => format!("no login: {reason}"),
    }
}
