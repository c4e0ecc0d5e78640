//! Whether clients take the host certificate in place: what is amiss with it makes a new one due before its time.
//! Looking only; what is asked and how often is the task's business.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use eic_protocol::cert::check::{self, Mismatch};
use ssh_key::Certificate;

use super::Scene;
use crate::config::Config;
use crate::helper::FILES;
use crate::helper::request::{Answer, Request};
use crate::install::HOST_CERTIFICATE;
use crate::revoked;
use crate::run::trust::{self, Look};
use crate::trust_state::{Identity, ROOT_FILE, VIEW_FILE};
use crate::trusted_file::Trusted;

/// How long a verdict holds while the files look the same: host keys may lie where nobody looks.
const HOLDS: Duration = Duration::from_secs(300);

/// Why the certificate in place does not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    Missing,
    Ended,
    Revoked,
    /// Its key is none of the host's any more.
    Key,
    /// By the root and this instance's name it is no certificate of this host: the field.
    Field(&'static str),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is no host certificate"),
            Self::Ended => f.write_str("the host certificate has ended"),
            Self::Revoked => f.write_str("the host certificate is revoked"),
            Self::Key => f.write_str("the host certificate is for a key that this host lacks"),
            Self::Field(field) => write!(f, "the host certificate's {field} does not fit"),
        }
    }
}

/// The last verdict with what it rests on.
#[derive(Debug, Default)]
pub(super) struct Judge {
    seen: Vec<(PathBuf, Option<Look>)>,
    judged: Option<(Instant, Option<Flaw>)>,
}

impl Judge {
    /// What is amiss with the certificate in place.
    pub(super) fn flaw(&mut self, scene: &Scene<'_>) -> Option<Flaw> {
        let Some(certificate) = scene.in_place else {
            return Some(Flaw::Missing);
        };
        if scene.now >= certificate.valid_before() {
            return Some(Flaw::Ended);
        }
        let seen = looks(scene.config);
        if let Some((at, verdict)) = self.judged
            && seen == self.seen
            && at.elapsed() < HOLDS
        {
            return verdict;
        }
        // Where something could not be looked at, the next round does.
        let verdict = judge(certificate, scene);
        self.judged = verdict.map(|verdict| (Instant::now(), verdict));
        self.seen = seen;
        verdict.flatten()
    }
}

/// The files on which a verdict rests, as they look now: verifying documents every few seconds is for nothing.
fn looks(config: &Config) -> Vec<(PathBuf, Option<Look>)> {
    let state = &config.trust.state;
    let names = FILES
        .into_iter()
        .chain([ROOT_FILE, VIEW_FILE, HOST_CERTIFICATE]);
    let mut paths: Vec<PathBuf> = names.map(|name| state.join(name)).collect();
    if let Ok(keys) = std::fs::read_dir(&config.service.sshd.config_dir) {
        paths.extend(keys.flatten().map(|key| key.path()));
    }
    paths.sort_unstable();
    let looked = paths.into_iter().map(|path| {
        let look = trust::look(&path);
        (path, look)
    });
    looked.collect()
}

/// The verdict by what is installed; none where that cannot be told.
fn judge(certificate: &Certificate, scene: &Scene<'_>) -> Option<Option<Flaw>> {
    let &Scene {
        config,
        helper,
        now,
        ..
    } = scene;
    let trusted = Trusted::system();
    let own = Identity::this().id(&trusted).ok()?;
    let state = trust::installed_state(config, now).ok()?;
    let blob = certificate.to_bytes().ok()?;
    let key = match check::host_certificate(&blob, &own, &state.root().host_cas, now) {
        Ok(key) => key,
        // Not good yet: the clock is behind, and the CA would say so.
        Err(Mismatch::Expired { .. }) => return Some(None),
        Err(Mismatch::Field(field)) => return Some(Some(Flaw::Field(field))),
        Err(Mismatch::Unreadable) => return Some(Some(Flaw::Field("form"))),
    };
    if revoked::is_revoked(certificate, &state, &config.trust, &trusted) {
        return Some(Some(Flaw::Revoked));
    }
    let Answer::HostKeys(keys) = helper.ask(&Request::AllHostKeys {}).ok()? else {
        return None;
    };
    Some((!keys.contains(&key)).then_some(Flaw::Key))
}
