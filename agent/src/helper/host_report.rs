//! The report of this host: what the helper sees itself (versions, documents, sshd's settings) with what the
//! service knows (logins, clock, problems), signed by the host's key.

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
use crate::sshd::{Settings, Sshd, SshdError};
use crate::trust_store;

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
    let effective = sshd.effective("root")?;
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
        ways_in: ways_in::of(&effective, stage, chained),
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

fn ports(effective: &Settings) -> std::collections::BTreeSet<u16> {
    let values = effective.values("port");
    values.iter().filter_map(|port| port.parse().ok()).collect()
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
    #[error("sign a report")]
    Report(#[from] InvalidHostReport),
    #[error("draw random bytes")]
    Random,
}
