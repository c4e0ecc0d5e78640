//! Keys by number, and what is signed with them: roots, envelopes, host certificates.

use eic_protocol::sshsig::Namespace;
use eic_protocol::trust::envelope::Envelope;
use eic_protocol::trust::root::{KeyState, Root, Scope, ScopedCa};
use ssh_key::certificate::CertType;

use super::unix_now;
use crate::testing::certificate;
pub(crate) use crate::testing::{enveloped, private, public};

pub(crate) const ROOT: u8 = 1;
pub(crate) const USER_CA: u8 = 2;
pub(crate) const HOST_CA: u8 = 3;
pub(crate) const BUNDLE: u8 = 4;
pub(crate) const STRANGER: u8 = 9;

/// A host's certificate, as a running agent on it would show.
pub(crate) fn host_certificate(ca: u8, instance: &str, leaf: u8) -> Vec<u8> {
    let now = unix_now();
    let validity = now - 60..now + 600;
    certificate((ca, leaf), CertType::Host, instance, validity)
}

pub(crate) fn root() -> Envelope {
    root_of(1, USER_CA)
}

/// A root of this version, which names this user CA.
pub(crate) fn root_of(version: u64, user_ca: u8) -> Envelope {
    changed_root(version, user_ca, |_| {})
}

/// The same with one thing changed.
pub(crate) fn changed_root(version: u64, user_ca: u8, change: impl FnOnce(&mut Root)) -> Envelope {
    let mut root = Root {
        version,
        issued: 1,
        root_keys: vec![public(ROOT)],
        threshold: 1,
        bundle_keys: vec![public(BUNDLE)],
        user_cas: vec![ScopedCa {
            key: public(user_ca).to_string().parse().unwrap(),
            state: KeyState::Active,
            scope: Scope::default(),
        }],
        host_cas: vec![public(HOST_CA).to_string().parse().unwrap()],
    };
    change(&mut root);
    enveloped(Namespace::Root, &root, ROOT)
}
