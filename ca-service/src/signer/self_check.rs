//! The last look at a certificate: its signature must verify with the CA's published key, or it never leaves.
//!
//! An Ed25519 CA's key is the same for every certificate, so its multiples are computed once: a general verification
//! is the dearest step of issuing. It is arithmetic of another library than the one that signs. Other key types go
//! the general way.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use eic_protocol::cert::lint::{LintError, Linted};
use eic_protocol::subject_key::CaKey;
use eic_protocol::wire::{Reader, Writer};
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, Signature};

use crate::ed25519::{Verifier, Window};

/// A certificate whose signature the CA's published key verifies; made here only.
#[derive(Clone, Debug)]
pub(crate) struct Checked(String);

impl Checked {
    /// The OpenSSH line, `type base64`.
    pub(crate) fn into_line(self) -> String {
        self.0
    }

    pub(super) fn line(&self) -> &str {
        &self.0
    }
}

/// Checks what one CA key signed.
pub(super) struct SelfCheck(Option<Verifier>);

impl SelfCheck {
    /// For signatures of this key.
    pub(super) fn of(ca: &CaKey) -> Self {
        Self(match ca.key().key_data() {
            KeyData::Ed25519(key) => Verifier::of(key.0, Window::Wide),
            _ => None,
        })
    }

    /// Puts body and signature together, if the key verifies it.
    ///
    /// # Errors
    /// [`LintError::Signature`]
    pub(super) fn attach(
        &self,
        linted: Linted,
        signature: &Signature,
    ) -> Result<Checked, LintError> {
        let Some(ed25519) = &self.0 else {
            return Ok(Checked(linted.attach(signature)?.line().to_owned()));
        };
        let body = linted.as_slice();
        if signature.algorithm() != Algorithm::Ed25519
            || !ed25519.verifies(body, signature.as_bytes())
        {
            return Err(LintError::Signature);
        }
        line(body, signature.as_bytes()).ok_or(LintError::Signature)
    }
}

/// The body names its type first (draft-miller-ssh-cert §2.1), as the line does.
fn line(body: &[u8], signature: &[u8]) -> Option<Checked> {
    let kind = std::str::from_utf8(Reader::new(body).string().ok()?).ok()?;
    let mut inner = Writer::new();
    inner.string(b"ssh-ed25519").string(signature);
    let mut whole = Writer::new();
    whole.raw(body).string(inner.as_slice());
    Some(Checked(format!(
        "{kind} {}",
        STANDARD.encode(whole.as_slice())
    )))
}
