//! The report of this host: what the helper sees itself (versions, documents, sshd's settings) with what the
//! service knows (logins, clock, problems), signed by the host's key.

use std::collections::BTreeSet;

use eic_protocol::api::host_report::{
    Health, HostReport, HostVersions, InvalidHostReport, SignedHostReport, TrustReport,
};
use eic_protocol::base64_text::Base64Bytes;
use eic_protocol::grant::Nonce;
use eic_protocol::proof::CanonicalRequest;
use eic_protocol::text::Line;
use eic_protocol::trust::bundle::Freshness;
use eic_protocol::trust::state::TrustState;
use eic_protocol::version;
use ring::rand::SecureRandom as _;

use super::host_certificate::{self, NotCertified};
use super::request::{Answer, ReportDraft};
use super::{Host, ways_in};
use crate::install::accounts;
use crate::sshd::{Settings, Sshd, SshdError};
use crate::trust_store;
use crate::trusted_file::UntrustedFile;

/// Completes and signs a draft.
pub(super) fn sign(draft: ReportDraft, host: &Host, now: u64) -> Result<Answer, NotReported> {
    let audience = host.config.service.ca.as_ref().ok_or(NotCertified::NoCa)?;
    let settings = &host.config.service.sshd;
    let sshd = Sshd::find(&settings.program, &settings.config_dir)?;
    let report = complete(draft, host, &sshd, now)?;
    report.check()?;
    let key = host_certificate::own_key(host)?;
    let canonical = CanonicalRequest::of(audience, &report);
    let signature = key
        .sign_request(canonical.as_slice())
        .map_err(NotCertified::Key)?;
    Ok(Answer::Report(Box::new(SignedHostReport {
        report,
        host_key: key.public,
        signature: Base64Bytes(signature),
    })))
}

fn complete(
    draft: ReportDraft,
    host: &Host,
    sshd: &Sshd,
    now: u64,
) -> Result<HostReport, NotReported> {
    let instance = host
        .identity
        .id(&host.trusted)
        .map_err(NotCertified::Identity)?;
    let state = host.state(now).map_err(NotCertified::Store)?;
    let effective = effective(host, sshd)?;
    let stage = state.view().map(|view| view.document.stage);
    let chained = !host.config.authorized_keys.command.is_empty();
    Ok(HostReport {
        protocol: version::CURRENT,
        instance,
        time: now,
        nonce: nonce()?,
        versions: versions(sshd),
        trust: trust(&state, draft.reasons, host, now),
        clock_offset_ms: draft.clock_offset_ms,
        ssh_ports: ports(&effective),
        ways_in: effective
            .iter()
            .flat_map(|settings| ways_in::of(settings, stage, chained))
            .collect(),
        logins: draft.logins,
        lost_logins: draft.lost_logins,
    })
}

fn nonce() -> Result<Nonce, NotReported> {
    let mut bytes = [0; 16];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| NotReported::Random)?;
    Ok(Nonce::from_random(bytes))
}

/// What root and the first people meet: `Match` blocks tell accounts apart.
fn effective(host: &Host, sshd: &Sshd) -> Result<Vec<Settings>, NotReported> {
    let accounts = host.accounts()?;
    let asked = accounts::samples(&accounts);
    let all = asked.iter().map(|user| Ok(sshd.effective(user)?));
    all.collect()
}

/// Most ports that a report has room for.
const MAX_PORTS: usize = 16;

/// Where sshd listens. `Port` counts for the addresses that have none of their own, and is shown in each case.
fn ports(effective: &[Settings]) -> BTreeSet<u16> {
    let addresses = effective.iter().flat_map(|all| all.values("listenaddress"));
    let listening: BTreeSet<u16> = addresses.filter_map(port_of).collect();
    let all = if listening.is_empty() {
        let ports = effective.iter().flat_map(|all| all.values("port"));
        ports.filter_map(|port| port.parse().ok()).collect()
    } else {
        listening
    };
    all.into_iter().take(MAX_PORTS).collect()
}

/// `[::]:22`, `0.0.0.0:22`, either with `rdomain NAME` behind it.
fn port_of(address: &str) -> Option<u16> {
    let (_, port) = address.split_whitespace().next()?.rsplit_once(':')?;
    port.parse().ok()
}

fn versions(sshd: &Sshd) -> HostVersions {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    HostVersions {
        agent: Line::of(env!("CARGO_PKG_VERSION")),
        sshd: Line::of(&sshd.version.to_string()),
        os: name.map(|name| Line::of(name.trim_matches('"'))),
    }
}

fn trust(state: &TrustState, reasons: Vec<Line>, host: &Host, now: u64) -> TrustReport {
    let health = match state.freshness(now) {
        Freshness::Stopped => Health::Stopped,
        Freshness::Fresh if reasons.is_empty() => Health::Healthy,
        Freshness::Fresh | Freshness::Stale => Health::Degraded,
    };
    let list = trust_store::installed_list(&host.config.trust.state, &host.trusted);
    TrustReport {
        root_version: state.root().version,
        bundle_sequence: state.bundle().map(|bundle| bundle.document.sequence),
        krl_number: list.map(|krl| krl.version),
        view_version: state.view().map(|view| view.document.version),
        host_certificate_ends: host_certificate::installed_until(host),
        health,
        reasons,
    }
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotReported {
    #[error(transparent)]
    Certified(#[from] NotCertified),
    #[error(transparent)]
    Sshd(#[from] SshdError),
    #[error(transparent)]
    Accounts(#[from] UntrustedFile),
    #[error("sign a report")]
    Report(#[from] InvalidHostReport),
    #[error("draw random bytes")]
    Random,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(texts: &[&str]) -> Vec<u16> {
        let settings: Vec<Settings> = texts.iter().map(|text| Settings::parse(text)).collect();
        ports(&settings).into_iter().collect()
    }

    #[test]
    fn ports_are_those_that_sshd_listens_on() {
        let own = "port 22\nlistenaddress [::]:2200\nlistenaddress 0.0.0.0:2222\n";
        assert_eq!(of(&[own, own]), [2200, 2222]);
        assert_eq!(
            of(&["port 22\nlistenaddress 10.0.0.1:2022 rdomain red\n"]),
            [2022]
        );
        assert_eq!(of(&["port 22\nport 2222\n"]), [22, 2222]);
        let many: String = (1..40)
            .map(|port| format!("listenaddress 10.0.0.1:{port}\n"))
            .collect();
        assert_eq!(of(&[&many]).len(), MAX_PORTS);
    }
}
