//! What a CA would sign for one host: roots that succeed each other, bundles, views, endorsements. Every field can
//! be made wrong before it is signed.

use eic_protocol::api::trust_bundle::TrustBundleResponse;
use eic_protocol::krl::{Comment, Expiring, RevocationSet, Target};
use eic_protocol::serial::Serial;
use eic_protocol::sshsig::Namespace;
use eic_protocol::subject_key::CaKey;
use eic_protocol::trust::bundle::{Bundle, RevocationList};
use eic_protocol::trust::endorsement::{EndorsedKey, Endorsement};
use eic_protocol::trust::envelope::Envelope;
use eic_protocol::trust::host_view::HostView;
use eic_protocol::trust::root::Root;

use crate::documents::{BUNDLE_KEY, CA_KEY, Documents, ROOT_KEY, public, signed};
use crate::sandbox::{current, now};

/// The CA's documents for the host of the tests.
#[derive(Clone)]
pub(crate) struct Authority {
    pub(crate) installed: Documents,
    /// Roots after the installed one, signed.
    pub(crate) roots: Vec<Envelope>,
    pub(crate) root: Root,
    pub(crate) bundle: Bundle,
    pub(crate) view: HostView,
    pub(crate) bundle_key: u8,
    revoked: RevocationSet,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let installed = current();
        let mut view = installed.view.clone();
        view.version += 1;
        view.issued = now() - 30;
        let revoked = RevocationSet::new();
        Self {
            root: installed.root.clone(),
            view,
            bundle: Bundle {
                sequence: 10,
                root_version: installed.root.version,
                issued: now() - 20,
                refresh_after: now() + 3600,
                hard_stop: None,
                oldest_view: 0,
                revocations: list(&revoked, 10),
                endorsements: Vec::new(),
            },
            installed,
            roots: Vec::new(),
            bundle_key: BUNDLE_KEY,
            revoked,
        }
    }

    /// The next bundle: one more in sequence, made now.
    pub(crate) fn next(&mut self) {
        self.bundle.sequence += 1;
        self.bundle.issued = now();
        self.view.version += 1;
        self.view.issued = now();
    }

    /// Revokes serials of the CA's key in the next bundle.
    pub(crate) fn revoke(&mut self, serials: &[u64]) {
        for serial in serials {
            let serial = Serial::new(*serial).unwrap();
            self.revoked
                .insert(Target::serial(ca_key(CA_KEY), serial), Some(now() + 3600));
        }
        self.next();
        self.bundle.revocations = list(&self.revoked, self.bundle.sequence);
    }

    /// Revokes a CA's key, and so all of its certificates, in the next bundle.
    pub(crate) fn revoke_ca(&mut self, seed: u8) {
        self.revoked.insert(Target::CaKey(ca_key(seed)), None);
        self.next();
        self.bundle.revocations = list(&self.revoked, self.bundle.sequence);
    }

    /// Appends a root that `change` makes from the newest, signed by these keys.
    pub(crate) fn succeed(&mut self, signers: &[u8], change: impl FnOnce(&mut Root)) {
        self.root.version += 1;
        change(&mut self.root);
        let bytes = serde_json::to_vec(&self.root).unwrap();
        self.roots
            .push(envelope(&signed(Namespace::Root, &bytes, signers)));
    }

    /// Has the CA's key endorse a key for these hours.
    pub(crate) fn endorse(&mut self, seed: u8, from: u64, until: u64) {
        let endorsement = Endorsement {
            endorser: ca_key(CA_KEY),
            issued: now(),
            keys: vec![EndorsedKey {
                key: ca_key(seed),
                not_before: from,
                not_after: until,
                users: None,
            }],
        };
        let bytes = serde_json::to_vec(&endorsement).unwrap();
        let made = signed(Namespace::Endorsement, &bytes, &[CA_KEY]);
        self.bundle.endorsements.push(envelope(&made));
    }

    pub(crate) fn bundle_envelope(&self) -> Envelope {
        let bytes = serde_json::to_vec(&self.bundle).unwrap();
        envelope(&signed(Namespace::Bundle, &bytes, &[self.bundle_key]))
    }

    pub(crate) fn view_envelope(&self) -> Envelope {
        let bytes = serde_json::to_vec(&self.view).unwrap();
        envelope(&signed(Namespace::HostView, &bytes, &[self.bundle_key]))
    }

    /// The CA's whole answer.
    pub(crate) fn response(&self) -> TrustBundleResponse {
        TrustBundleResponse {
            roots: self.roots.clone(),
            bundle: self.bundle_envelope(),
            view: Some(self.view_envelope()),
        }
    }
}

pub(crate) fn ca_key(seed: u8) -> CaKey {
    CaKey::new(public(seed)).unwrap()
}

pub(crate) fn envelope(json: &[u8]) -> Envelope {
    serde_json::from_slice(json).unwrap()
}

pub(crate) fn list(revoked: &RevocationSet, number: u64) -> RevocationList {
    let comment: Comment = "test".parse().unwrap();
    let krl = revoked.krl(number, now() - 60, comment);
    let expiring: Vec<Expiring> = revoked.expiring();
    RevocationList::new(krl.encode().unwrap().bytes, number, 0, expiring)
}

/// A second root key: some hosts' roots are signed by it after a rotation.
pub(crate) const NEXT_ROOT_KEY: u8 = 11;
/// A bundle key that comes with a later root.
pub(crate) const NEXT_BUNDLE_KEY: u8 = 12;
/// Nobody's key.
pub(crate) const FOREIGN_KEY: u8 = 99;

/// Both root keys, where a rotation needs both.
pub(crate) const BOTH_ROOT_KEYS: [u8; 2] = [ROOT_KEY, NEXT_ROOT_KEY];
