//! The host's certificate: the request signed by the host's key, the certificate put where sshd reads it. And where
//! a host has none: the request that makes its keys known, signed by each of them.

use std::path::Path;

use eic_protocol::api::host_certificate::HostCertificateRequest;
use eic_protocol::api::host_keys::HostKeysRequest;
use eic_protocol::base64_text::Base64Bytes;
use eic_protocol::cert::check::{self, Mismatch};
use eic_protocol::instance_id::InstanceId;
use eic_protocol::proof::{Audience, CanonicalRequest};
use eic_protocol::subject_key::SubjectKey;
use eic_protocol::trust::state::TrustState;
use ssh_key::Certificate;

use super::Host;
use super::host_key::{HostKey, NoHostKey};
use super::reload::{self, NotReloaded};
use super::request::Answer;
use crate::atomic_file;
use crate::install::HOST_CERTIFICATE;
use crate::install::host_certificate::{MAX_BYTES, Unfit, one_line};
use crate::revoked;
use crate::sshd::{Settings, Sshd, SshdError};
use crate::state_lock::{self, StateLock};
use crate::trust_state::NoTrust;
use crate::trust_store::StoreError;

/// How far a request's time may be from ours. Seconds.
const MAX_AGE: u64 = 300;
/// The least time between two certificates that are put in place: the service's account could otherwise have sshd
/// reload without end. Seconds; less than the service's own rest.
const REST: u64 = 10;

/// The keys that are certified: the preferred one, for `HostCertificate` names one file.
pub(super) fn keys(host: &Host) -> Result<Vec<SubjectKey>, NotCertified> {
    Ok(vec![own_key(host)?.public])
}

/// Every key that can sign, one of each kind: what a host without certificate makes known.
pub(super) fn all_keys(host: &Host) -> Result<Vec<SubjectKey>, NotCertified> {
    let keys = own_keys(host)?;
    Ok(keys.into_iter().map(|key| key.public).collect())
}

pub(super) fn own_key(host: &Host) -> Result<HostKey, NotCertified> {
    Ok(HostKey::find(&effective(host)?.values("HostKey"), host)?)
}

fn own_keys(host: &Host) -> Result<Vec<HostKey>, NotCertified> {
    Ok(HostKey::all(&effective(host)?.values("HostKey"), host)?)
}

fn effective(host: &Host) -> Result<Settings, NotCertified> {
    let settings = &host.config.service.sshd;
    Ok(Sshd::find(&settings.program, &settings.config_dir)?.effective("root")?)
}

/// Signs a request for a certificate that is for this host, for its key, for now, and for nothing else. And by another
/// of its present keys, where the request names that as the previous one.
pub(super) fn sign(
    request: &HostCertificateRequest,
    host: &Host,
    now: u64,
) -> Result<Vec<Base64Bytes>, NotCertified> {
    let canonical = request.canonical(audience(host)?);
    let mut keys = vec![own_key(host)?];
    check_request(request, &keys, host, now)?;
    if let Some(previous) = &request.previous_key {
        let mut others = own_keys(host)?.into_iter();
        let named = others.find(|key| key.public == previous.public_key);
        let is_certified = |key: &HostKey| keys.iter().any(|own| own.public == key.public);
        let named = named.filter(|key| !is_certified(key));
        keys.push(named.ok_or(NotCertified::Request("other keys"))?);
    }
    signatures(&canonical, &keys)
}

/// Signs a request that makes this host's keys known, by each of them.
pub(super) fn sign_keys(
    request: &HostKeysRequest,
    host: &Host,
    now: u64,
) -> Result<Vec<Base64Bytes>, NotCertified> {
    let canonical = request.canonical(audience(host)?);
    let keys = own_keys(host)?;
    check_request(&request.0, &keys, host, now)?;
    if request.0.previous_key.is_some() {
        return Err(NotCertified::Request("other keys"));
    }
    signatures(&canonical, &keys)
}

fn audience(host: &Host) -> Result<&Audience, NotCertified> {
    host.config.service.ca.as_ref().ok_or(NotCertified::NoCa)
}

fn check_request(
    request: &HostCertificateRequest,
    keys: &[HostKey],
    host: &Host,
    now: u64,
) -> Result<(), NotCertified> {
    let own = host
        .identity
        .id(&host.trusted)
        .map_err(NotCertified::Identity)?;
    if request.instance != own {
        return Err(NotCertified::Request("another host"));
    }
    if request.time.abs_diff(now) > MAX_AGE {
        return Err(NotCertified::Request("another time"));
    }
    let asked = request.host_keys.iter().map(|proof| &proof.public_key);
    if asked.eq(keys.iter().map(|key| &key.public)) {
        Ok(())
    } else {
        Err(NotCertified::Request("other keys"))
    }
}

fn signatures(
    canonical: &CanonicalRequest,
    keys: &[HostKey],
) -> Result<Vec<Base64Bytes>, NotCertified> {
    let sign = |key: &HostKey| Ok(Base64Bytes(key.sign_request(canonical.as_slice())?));
    keys.iter().map(sign).collect()
}

/// Checks a certificate against the root, the host's key and the one in place, writes it, tests and reloads sshd.
pub(super) fn install(line: &str, host: &Host, now: u64) -> Result<Answer, NotCertified> {
    let folder = &host.config.trust.state;
    let _lock = StateLock::take(folder, state_lock::PATIENCE)
        .map_err(|source| NotCertified::Write(folder.clone(), source))?;
    let line = line.trim_end();
    let judged = Judged::new(host, now)?;
    let certificate = judged.fit(line)?;
    let ends = certificate.valid_before();
    let path = folder.join(HOST_CERTIFICATE);
    let write = |bytes: &[u8]| {
        atomic_file::write(&path, bytes, 0o644)
            .map_err(|source| NotCertified::Write(path.clone(), source))
    };
    let bytes = format!("{line}\n").into_bytes();
    let before = host.trusted.read(&path, MAX_BYTES).ok();
    if before.as_ref() == Some(&bytes) {
        // Whoever shows it again and again has sshd do nothing.
        return done(
            "the host certificate is in place already",
            ends,
            host,
            &path,
        );
    }
    if let Some(before) = &before {
        judged.check_newer(&certificate, before)?;
    }
    check_rest(&path, now)?;
    write(&bytes)?;
    match reload::reload(&host.config.service.sshd) {
        Ok(said) => done(&said, ends, host, &path),
        Err(refused) => {
            // sshd must find what it had: a file that it refuses could keep it from starting.
            match before {
                Some(bytes) => write(&bytes)?,
                None => atomic_file::remove(&path)
                    .map_err(|source| NotCertified::Write(path.clone(), source))?,
            }
            Err(refused.into())
        }
    }
}

fn done(said: &str, ends: u64, host: &Host, path: &Path) -> Result<Answer, NotCertified> {
    Ok(Answer::Done {
        said: said.to_owned(),
        ends: Some(ends),
        warning: unread(host, path)?,
    })
}

/// By the file itself: nobody but root changes its time.
fn check_rest(path: &Path, now: u64) -> Result<(), NotCertified> {
    use std::os::unix::fs::MetadataExt as _;
    let written = std::fs::metadata(path).ok();
    let written = written.and_then(|about| u64::try_from(about.mtime()).ok());
    // One of the future says that the clock was wrong, not that it was just now.
    let age = written.and_then(|written| now.checked_sub(written));
    match age {
        Some(age) if age < REST => Err(NotCertified::TooSoon(REST)),
        _ => Ok(()),
    }
}

/// A certificate that no `HostCertificate` names is shown to nobody: installed before there was one.
fn unread(host: &Host, path: &Path) -> Result<Option<String>, NotCertified> {
    let named = effective(host)?
        .values("HostCertificate")
        .iter()
        .any(|file| Path::new(file) == path);
    Ok((!named).then(|| {
        format!(
            "sshd does not show {}: run `eic-agent install` again",
            path.display()
        )
    }))
}

/// What a certificate of this host must fit.
struct Judged<'a> {
    host: &'a Host,
    own: InstanceId,
    state: TrustState,
    key: SubjectKey,
    now: u64,
}

impl<'a> Judged<'a> {
    fn new(host: &'a Host, now: u64) -> Result<Self, NotCertified> {
        let own = host.identity.id(&host.trusted);
        Ok(Self {
            own: own.map_err(NotCertified::Identity)?,
            state: host.state(now)?,
            key: own_key(host)?.public,
            host,
            now,
        })
    }

    /// The certificate in a line, where it fits and is not revoked.
    fn fit(&self, line: &str) -> Result<Certificate, NotCertified> {
        let (line, cas) = (one_line(line)?, &self.state.root().host_cas);
        let certificate = check::own_host_certificate(line, &self.key, &self.own, cas, self.now)?;
        let (trust, trusted) = (&self.host.config.trust, &self.host.trusted);
        if revoked::is_revoked(&certificate, &self.state, trust, trusted) {
            return Err(NotCertified::Revoked);
        }
        Ok(certificate)
    }

    /// The service's account must not put an older certificate back over one that still counts.
    fn check_newer(&self, certificate: &Certificate, before: &[u8]) -> Result<(), NotCertified> {
        let line = std::str::from_utf8(before).unwrap_or_default();
        let Ok(in_place) = self.fit(line.trim_end()) else {
            return Ok(());
        };
        let is_same_ca = in_place.signature_key() == certificate.signature_key();
        if is_same_ca && certificate.valid_after() < in_place.valid_after() {
            return Err(NotCertified::Older);
        }
        Ok(())
    }
}

/// When the installed certificate ends, where there is one (unverified: it is told, nothing rests on it).
pub(super) fn installed_until(host: &Host) -> Option<u64> {
    let path = host.config.trust.state.join(HOST_CERTIFICATE);
    let bytes = host.trusted.read(&path, MAX_BYTES).ok()?;
    let line = std::str::from_utf8(&bytes).ok()?;
    let certificate = Certificate::from_openssh(line.trim_end()).ok()?;
    Some(certificate.valid_before())
}

/// Why a certificate was not requested or installed.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotCertified {
    #[error("sign for the CA: `[service] ca` is not set")]
    NoCa,
    #[error(transparent)]
    Identity(NoTrust),
    #[error("sign a request for {0}")]
    Request(&'static str),
    #[error(transparent)]
    Key(#[from] NoHostKey),
    #[error(transparent)]
    Sshd(#[from] SshdError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("install the host certificate")]
    Unfit(#[from] Unfit),
    #[error("install the host certificate")]
    Mismatch(#[from] Mismatch),
    #[error("install the host certificate: it is revoked")]
    Revoked,
    #[error("install the host certificate: the one in place is newer and still counts")]
    Older,
    #[error("install the host certificate: the last one came less than {0} seconds ago")]
    TooSoon(u64),
    #[error("write `{}`", .0.display())]
    Write(std::path::PathBuf, #[source] std::io::Error),
    #[error(transparent)]
    Reload(#[from] NotReloaded),
}
