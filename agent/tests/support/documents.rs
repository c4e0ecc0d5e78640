//! Signed trust documents for tests: root and host view, each field of which can be made wrong.
//! Test code only; the keys are made from one byte each.

use eic_protocol::base64_text::Base64Bytes;
use eic_protocol::sshsig::{self, Namespace};
use eic_protocol::subject_key::{CaKey, SubjectKey};
use eic_protocol::trust::envelope::{Envelope, EnvelopeSignature};
use eic_protocol::trust::host_view::{FleetMembership, HostView, Stage};
use eic_protocol::trust::root::{KeyState, Root, Scope, ScopedCa};
use signature::Signer as _;
use ssh_key::private::{Ed25519Keypair, PrivateKey};

pub(crate) const NOW: u64 = 1_781_524_800;
pub(crate) const INSTANCE: &str = "i-0123456789abcdef0";

/// A deterministic Ed25519 key.
pub(crate) fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

pub(crate) fn public(seed: u8) -> SubjectKey {
    key(seed)
        .public_key()
        .to_openssh()
        .unwrap()
        .parse()
        .unwrap()
}

pub(crate) fn ca(seed: u8) -> ScopedCa {
    ScopedCa {
        key: CaKey::new(public(seed)).unwrap(),
        state: KeyState::Active,
        scope: Scope::default(),
    }
}

pub(crate) const ROOT_KEY: u8 = 1;
pub(crate) const BUNDLE_KEY: u8 = 2;
pub(crate) const CA_KEY: u8 = 3;
pub(crate) const HOST_CA_KEY: u8 = 4;

/// Root and host view before they are signed; every field can be made wrong.
#[derive(Clone)]
pub(crate) struct Documents {
    pub(crate) root: Root,
    pub(crate) view: HostView,
}

impl Documents {
    pub(crate) fn new() -> Self {
        let root = Root {
            version: 5,
            issued: NOW - 1000,
            root_keys: vec![public(ROOT_KEY)],
            threshold: 1,
            bundle_keys: vec![public(BUNDLE_KEY)],
            user_cas: vec![ca(CA_KEY)],
            host_cas: vec![CaKey::new(public(HOST_CA_KEY)).unwrap()],
        };
        let fleets = ["web", "eu"].map(|name| FleetMembership {
            name: name.parse().unwrap(),
            kms_only: false,
        });
        let view = HostView {
            version: 9,
            instance: INSTANCE.parse().unwrap(),
            fleets: fleets.to_vec(),
            stage: Stage::Hybrid,
            os_users: Vec::new(),
            root_version: 5,
            issued: NOW - 1000,
            refresh_after: NOW + 1000,
            hard_stop: None,
        };
        Self { root, view }
    }

    pub(crate) fn root_json(&self) -> Vec<u8> {
        signed(
            Namespace::Root,
            &serde_json::to_vec(&self.root).unwrap(),
            &[ROOT_KEY],
        )
    }

    pub(crate) fn view_json(&self) -> Vec<u8> {
        signed(
            Namespace::HostView,
            &serde_json::to_vec(&self.view).unwrap(),
            &[BUNDLE_KEY],
        )
    }
}

pub(crate) fn signed(namespace: Namespace, document: &[u8], seeds: &[u8]) -> Vec<u8> {
    let signatures = seeds.iter().map(|seed| {
        let made = key(*seed)
            .try_sign(&sshsig::signed_data(namespace, document))
            .unwrap();
        let blob = sshsig::blob(namespace, &public(*seed), &made).unwrap();
        EnvelopeSignature {
            key: public(*seed),
            signature: Base64Bytes(blob),
        }
    });
    let envelope = Envelope {
        signed: Base64Bytes(document.to_vec()),
        signatures: signatures.collect(),
    };
    serde_json::to_vec(&envelope).unwrap()
}
