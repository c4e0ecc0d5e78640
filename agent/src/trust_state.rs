//! The signed documents that a host keeps: who it is, and which CA keys count here.
//! Verified anew at each run from the pinned fingerprints on; a document is only as good as its signatures.

mod renewed;

use std::collections::BTreeSet;
use std::path::PathBuf;

use eic_protocol::instance_id::InstanceId;
use eic_protocol::key_fingerprint::KeyFingerprint;
use eic_protocol::trust::envelope::{Envelope, Untrusted};
use eic_protocol::trust::host_view::HostView;
use eic_protocol::trust::root::{Root, ScopedCa};

use crate::config::Trust;
use crate::machine::{Hypervisor, Machine};
use crate::trusted_file::{Trusted, UntrustedFile};

use renewed::ByHand;
pub use renewed::{InstalledList, LoginTrust};

/// The root document's file in the state folder.
pub const ROOT_FILE: &str = "root.json";
/// The host view's file in the state folder.
pub const VIEW_FILE: &str = "host-view.json";
/// Where a host outside EC2 keeps its hybrid-managed id (`mi-…`).
pub const INSTANCE_ID_FILE: &str = "/etc/eic/instance-id";

/// Largest envelope in bytes: a document of 1 MiB in base64, and its signatures.
pub const MAX_ENVELOPE: usize = 1_500_000;

/// Root and host view of this very host, both verified.
#[derive(Clone, Debug)]
pub struct TrustState {
    /// Which CA keys count.
    pub root: Root,
    /// What this host is called.
    pub view: HostView,
    /// Keys held in memory that a CA's key lets sign for some hours.
    pub endorsed: Vec<ScopedCa>,
}

/// Where this host's identity is told.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The hypervisor's word.
    pub machine: Machine,
    /// The file that a host outside EC2 has.
    pub file: PathBuf,
}

impl Identity {
    /// This host.
    #[must_use]
    pub fn this() -> Self {
        Self {
            machine: Machine::this(),
            file: PathBuf::from(INSTANCE_ID_FILE),
        }
    }

    /// The id of this host. The file counts only outside EC2 and only for a managed id:
    /// inside, a copied disk would carry another instance's name with it.
    ///
    /// # Errors
    /// Nothing tells the id.
    pub fn id(&self, trusted: &Trusted) -> Result<InstanceId, NoTrust> {
        match self.machine.hypervisor() {
            Hypervisor::Nitro(id) => Ok(id),
            Hypervisor::Xen => Err(NoTrust::Xen),
            Hypervisor::Elsewhere => self.managed_id(trusted),
        }
    }

    fn managed_id(&self, trusted: &Trusted) -> Result<InstanceId, NoTrust> {
        let bytes = trusted.read(&self.file, 64).map_err(|e| match e {
            UntrustedFile::Missing(_) => NoTrust::NoId,
            other => other.into(),
        })?;
        let text = std::str::from_utf8(&bytes).map_err(|_| NoTrust::Id)?;
        let id: InstanceId = text
            .trim_end_matches('\n')
            .parse()
            .map_err(|_| NoTrust::Id)?;
        if id.is_managed() {
            Ok(id)
        } else {
            Err(NoTrust::Id)
        }
    }
}

impl TrustState {
    /// Reads and verifies the documents in the state folder.
    ///
    /// # Errors
    /// [`NoTrust`]: nothing pinned, a file is missing or open to others, a signature or a name does not hold,
    /// the hard stop has passed.
    pub fn load(
        trust: &Trust,
        trusted: &Trusted,
        identity: &Identity,
        now: u64,
    ) -> Result<Self, NoTrust> {
        let own = identity.id(trusted)?;
        // Before `trust.json`, which is made from newer documents: so none of the two is older than the other saw.
        let root = trusted.read(&trust.state.join(ROOT_FILE), MAX_ENVELOPE);
        let view = trusted.read(&trust.state.join(VIEW_FILE), MAX_ENVELOPE);
        let Some(renewed) = LoginTrust::read(trust, trusted)? else {
            return Self::verify(&root?, &view?, &trust.root_fingerprints, &own, now);
        };
        let by_hand = root.ok().zip(view.ok()).and_then(|(root, view)| {
            let root = envelope(&root, ROOT_FILE).ok()?;
            let view = envelope(&view, VIEW_FILE).ok()?;
            Some(ByHand { root, view })
        });
        let pins = fingerprints(&trust.root_fingerprints)?;
        renewed.state(by_hand.as_ref(), &pins, &own, now)
    }

    /// Verifies two envelopes against pinned fingerprints, for the host `own`.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn verify(
        root: &[u8],
        view: &[u8],
        pins: &BTreeSet<KeyFingerprint>,
        own: &InstanceId,
        now: u64,
    ) -> Result<Self, NoTrust> {
        let root = verified_root(root, pins)?;
        let view =
            HostView::verified(&envelope(view, VIEW_FILE)?, &root, own, now).map_err(|source| {
                NoTrust::Document {
                    file: VIEW_FILE,
                    source,
                }
            })?;
        Ok(Self {
            root,
            view,
            endorsed: Vec::new(),
        })
    }

    /// The user CAs that count: the root's that are not retired, and endorsed keys. A key may occur with
    /// several scopes; each is good by itself.
    pub fn user_cas(&self) -> impl Iterator<Item = &ScopedCa> {
        self.root.trusted_user_cas().chain(&self.endorsed)
    }
}

/// The root document in an envelope, by pinned fingerprints.
///
/// # Errors
/// [`NoTrust`]: nothing pinned, or its signatures do not hold.
pub fn verified_root(
    envelope_bytes: &[u8],
    pins: &BTreeSet<KeyFingerprint>,
) -> Result<Root, NoTrust> {
    let pins = fingerprints(pins)?;
    Root::pinned(&envelope(envelope_bytes, ROOT_FILE)?, &pins).map_err(|source| NoTrust::Document {
        file: ROOT_FILE,
        source,
    })
}

fn fingerprints(pins: &BTreeSet<KeyFingerprint>) -> Result<BTreeSet<String>, NoTrust> {
    if pins.is_empty() {
        return Err(NoTrust::NothingPinned);
    }
    Ok(pins.iter().map(ToString::to_string).collect())
}

fn envelope(bytes: &[u8], file: &'static str) -> Result<Envelope, NoTrust> {
    serde_json::from_slice(bytes).map_err(|_| NoTrust::Envelope(file))
}

/// Why no certificate counts on this host.
#[derive(Debug, thiserror::Error)]
pub enum NoTrust {
    /// No pinned fingerprint: nothing to verify with.
    #[error("trust a CA: `[trust] root_fingerprints` is empty, run `eic-agent install`")]
    NothingPinned,
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] UntrustedFile),
    /// Not an envelope.
    #[error("read `{0}`: it is not a signed document")]
    Envelope(&'static str),
    /// Signatures, names or times do not hold.
    #[error("trust `{file}`")]
    Document {
        /// Which document.
        file: &'static str,
        /// What does not hold.
        source: Untrusted,
    },
    /// The bundle's floor is above it.
    #[error(
        "trust the host view: it was made before the oldest that still counts, this host needs a new one"
    )]
    OldView,
    /// Xen does not tell the instance id without the network.
    #[error(
        "know this instance: its type (Xen) does not tell the instance id, certificates need a Nitro instance"
    )]
    Xen,
    /// Neither hypervisor nor file tells who this is.
    #[error(
        "know this host: the hypervisor names no EC2 instance, and outside EC2 `{INSTANCE_ID_FILE}` must hold its managed id (`mi-` and 17 hex digits); there is no such file"
    )]
    NoId,
    /// The id file holds no managed id.
    #[error(
        "know this host: outside EC2 `{INSTANCE_ID_FILE}` must hold its managed id, `mi-` and 17 hex digits"
    )]
    Id,
}

#[cfg(test)]
pub(crate) mod tests;
