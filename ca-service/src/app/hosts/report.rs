//! `POST /v1/hosts/report`: what a host runs and believes, and whom its sshd let in. A host is believed about
//! itself only; each login is compared with the journal, and one that no certificate of ours explains is an alarm.

use std::time::Instant;

use eic_protocol::api::host_report::{
    AcceptedLogin, Credential, HostReport, HostReportResponse, SignedHostReport,
};
use eic_protocol::os_user::OsUser;
use eic_protocol::principal::Principal;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::App;
use super::refusal::HostRefusal;
use crate::audit::{Actor, Event, EventError, EventName, HostActor};
use crate::authn::aws_sts::check_version;
use crate::host_identity::enrolment::{EnrolledHost, NotEnrolled};
use crate::http::context::Context;
use crate::refusal::Refusal;
use crate::store::ReplayClaim;
use crate::store::hosts::{HostChange, JournalMatch, StoredReport};

/// How far a host's clock may be off and its reports still count: to be told of wrong clocks is what
/// reports are for. Seconds.
const MAX_AGE: u64 = 3_600;
/// When a host reports again. Seconds.
const INTERVAL: u64 = 300;

/// A login beside what the journal says of its certificate.
struct Compared<'r> {
    login: &'r AcceptedLogin,
    found: Option<JournalMatch>,
    flaw: Option<&'static str>,
}

impl App {
    /// Takes a host's report.
    ///
    /// # Errors
    /// [`Refusal`]
    pub(crate) async fn take_host_report(
        &self,
        context: &Context,
        signed: &SignedHostReport,
    ) -> Result<HostReportResponse, Refusal> {
        let report = &signed.report;
        check_version(report.protocol)?;
        let form = report.check();
        form.map_err(|flaw| Refusal::Malformed(flaw.to_string()))?;
        let age = report.time.abs_diff(context.now);
        if age > MAX_AGE {
            return Err(HostRefusal::Stale(age).into());
        }
        let host = self.reporting_host(signed).await?;
        let may = self.hosts.reports.take(&host.instance, Instant::now());
        may.then_some(()).ok_or(Refusal::TooMany)?;
        let compared = self.compare(report).await?;
        self.store_report(context, &host, report, &compared).await?;
        Ok(HostReportResponse {
            server_time: context.now,
            report_again_after: INTERVAL,
            request_id: context.request_id,
        })
    }

    /// The host that signed with a key that was certified for it.
    async fn reporting_host(&self, signed: &SignedHostReport) -> Result<EnrolledHost, Refusal> {
        let stored = self.hosts.book.stored(&signed.report.instance).await?;
        let own = |host: &EnrolledHost| host.keys.contains(&signed.host_key);
        let host = stored.enrolled.filter(own);
        let host = host.ok_or(HostRefusal::NotEnrolledKey)?;
        if stored.blocked {
            return Err(HostRefusal::NotEnrolled(NotEnrolled::Blocked).into());
        }
        self.check_host_key(&signed.host_key)?;
        let checked = signed.check_signature(self.audience());
        checked.map_err(HostRefusal::ReportSignature)?;
        Ok(host)
    }

    async fn compare<'r>(&self, report: &'r HostReport) -> Result<Vec<Compared<'r>>, Refusal> {
        let serials: Vec<u64> = report.logins.iter().filter_map(serial_of).collect();
        let mut found = self.hosts.book.journal(serials).await?.into_iter();
        let compared = report.logins.iter().map(|login| {
            let found = serial_of(login).and_then(|_| found.next().flatten());
            let flaw = flaw(report, login, found.as_ref());
            Compared { login, found, flaw }
        });
        Ok(compared.collect())
    }

    async fn store_report(
        &self,
        context: &Context,
        host: &EnrolledHost,
        report: &HostReport,
        compared: &[Compared<'_>],
    ) -> Result<(), Refusal> {
        let flaws = count_flaws(compared);
        let event = (!compared.is_empty()).then(|| self.login_event(context, host, compared));
        let change = HostChange::Report(stored(context, report)?);
        let claim = Some(report_claim(report));
        self.recorder
            .change_host(&self.hosts.book, change, event.as_ref(), claim)
            .await?;
        if flaws > 0 {
            tracing::error!(instance = %host.instance, flaws, request_id = %context.request_id,
                "ALARM: a host accepted certificates that this CA did not issue for it");
        }
        Ok(())
    }

    fn login_event(
        &self,
        context: &Context,
        host: &EnrolledHost,
        compared: &[Compared<'_>],
    ) -> Event {
        let actor = HostActor {
            instance: host.instance.clone(),
            account: host.account.clone(),
            arn: None,
        };
        let actor = Actor::Host(Box::new(actor));
        let (name, origin) = (EventName::ReportHostLogins, context.origin());
        let mut event = Event::new(name, actor, origin, context.request_id);
        event.region = Some(host.region);
        event.account = Some(host.account.clone());
        let (budget, wanted) = (&self.hosts.logins, compared.len());
        let recorded = budget.take(&host.instance, wanted, context.now);
        event.parameters = Some(logins_value(host, compared, recorded));
        event.additional = Some(json!({ "reportedBy": "host" }));
        let flaws = count_flaws(compared);
        event.error = (flaws > 0).then(|| EventError {
            code: "UnexplainedLogin".to_owned(),
            message: format!("{flaws} logins are not explained by certificates of this CA"),
        });
        event
    }
}

fn count_flaws(compared: &[Compared<'_>]) -> usize {
    compared.iter().filter(|c| c.flaw.is_some()).count()
}

fn serial_of(login: &AcceptedLogin) -> Option<u64> {
    match &login.by {
        Credential::Certificate { serial, .. } => Some(serial.0),
        Credential::Key { .. } | Credential::Other { .. } => None,
    }
}

/// What a certificate of ours cannot explain.
fn flaw(
    report: &HostReport,
    login: &AcceptedLogin,
    found: Option<&JournalMatch>,
) -> Option<&'static str> {
    let Credential::Certificate { ca, .. } = &login.by else {
        return None;
    };
    let Some(found) = found else {
        return Some("this CA never issued the serial");
    };
    if !found.may_exist || found.kind != "user" {
        return Some(
            "the serial was drawn for a certificate that was never signed, or is a host's",
        );
    }
    if found.ca != ca.to_string() {
        return Some("the serial belongs to a certificate of another CA key");
    }
    if !opens(report, login, &found.principals) {
        return Some("the certificate is for another user or host");
    }
    None
}

fn opens(report: &HostReport, login: &AcceptedLogin, principals: &str) -> bool {
    let Ok(user) = login.user.as_str().parse::<OsUser>() else {
        return false;
    };
    principals.split(',').any(|name| match name.parse() {
        Ok(Principal::Target(named, instance)) => named == user && instance == report.instance,
        Ok(Principal::Fleet(named, _) | Principal::Bare(named)) => named == user,
        Err(_) => false,
    })
}

/// What the audit has of logins: the `recorded` first of them, and of the others how many they are.
fn logins_value(host: &EnrolledHost, compared: &[Compared<'_>], recorded: usize) -> Value {
    let logins: Vec<Value> = compared.iter().take(recorded).map(login_value).collect();
    let others = compared.len().saturating_sub(recorded);
    let mut value = json!({ "instanceId": host.instance.as_str(), "logins": logins });
    if let (true, Some(fields)) = (others > 0, value.as_object_mut()) {
        fields.insert("loginsNotRecorded".to_owned(), others.into());
    }
    value
}

fn login_value(compared: &Compared<'_>) -> Value {
    let login = compared.login;
    let by = match &login.by {
        Credential::Certificate { serial, ca, .. } => {
            json!({ "serial": serial.0.to_string(), "ca": ca.to_string() })
        }
        Credential::Key { fingerprint } => json!({ "fingerprint": fingerprint.to_string() }),
        Credential::Other { method } => json!({ "method": method.as_str() }),
    };
    json!({
        "user": login.user.as_str(),
        "by": by,
        "source": login.source.map(|source| source.to_string()),
        "auditSession": login.audit_session,
        "started": login.started,
        "ended": login.ended,
        "requestID": compared.found.as_ref().map(|found| found.request_id.to_string()),
        "caller": compared.found.as_ref().map(|found| found.caller.as_str()),
        "alarm": compared.flaw,
    })
}

/// The report as it is kept: the logins are in the audit.
fn stored(context: &Context, report: &HostReport) -> Result<StoredReport, Refusal> {
    let kept = HostReport {
        logins: Vec::new(),
        ..report.clone()
    };
    let text = serde_json::to_string(&kept);
    let text = text.map_err(|_| Refusal::Malformed("the report cannot be kept".to_owned()))?;
    let seconds = |time: u64| i64::try_from(time).unwrap_or(i64::MAX);
    Ok(StoredReport {
        instance: report.instance.clone(),
        received_at: context.now,
        clock_offset: seconds(report.time).saturating_sub(seconds(context.now)),
        report: text,
    })
}

/// By host, time and nonce: a report counts once.
fn report_claim(report: &HostReport) -> ReplayClaim {
    let mut hash = Sha256::new();
    hash.update(b"eic-host-report-claim\0");
    hash.update(report.instance.as_str());
    hash.update(b"\0");
    hash.update(report.nonce.as_bytes());
    ReplayClaim::of_signed_time(hash.finalize().into(), report.time, MAX_AGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_identity::evidence::EvidenceKind;

    fn host() -> EnrolledHost {
        EnrolledHost {
            instance: "i-0123456789abcdef0".parse().unwrap(),
            account: "111122223333".parse().unwrap(),
            region: "eu-west-1".parse().unwrap(),
            evidence: EvidenceKind::WebIdentity,
            keys: Vec::new(),
            pending_time: None,
            enrolled_at: 1,
            certified_at: 1,
            ended_at: None,
            revision: 1,
        }
    }

    #[test]
    fn logins_beyond_the_budget_are_recorded_as_their_number() {
        let login = AcceptedLogin {
            user: "ubuntu".parse().unwrap(),
            by: Credential::Other {
                method: "password".parse().unwrap(),
            },
            source: None,
            source_port: None,
            audit_session: None,
            started: 1,
            ended: None,
        };
        let compared: Vec<_> = (0..500)
            .map(|_| Compared {
                login: &login,
                found: None,
                flaw: None,
            })
            .collect();
        let value = logins_value(&host(), &compared, 2);
        assert_eq!(value["logins"].as_array().unwrap().len(), 2);
        assert_eq!(value["loginsNotRecorded"], 498);
        assert!(logins_value(&host(), &compared, 0).to_string().len() < 200);
        let all = logins_value(&host(), &compared, 500);
        assert!(all.get("loginsNotRecorded").is_none());
    }
}
