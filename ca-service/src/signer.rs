//! Signing keys, each usable for one purpose only.
//!
//! A [`CertificateAuthority`] signs certificates of its kind, and only such as are
//! [`Recorded`]; a [`document::DocumentKey`] signs documents under its own SSHSIG namespace.
//! The function from bytes to a signature is private to this module: no other code, and so no
//! route, can have a key sign bytes of its choice (D-20).
//!
//! Every signature is checked with the published key before anything leaves, in release builds too.

pub mod document;
pub mod endorsed;
pub mod kms;
pub mod local;
mod self_check;

use std::marker::PhantomData;
use std::sync::Arc;

use eic_protocol::cert::Profile;
use eic_protocol::cert::lint::{LintError, Linted};
use eic_protocol::subject_key::CaKey;
use sha2::{Digest as _, Sha256};
use ssh_key::Signature;

use crate::audit::{Completion, EventError, Recorded};
use crate::clock::Clock;
use crate::fault;
use crate::issuance::{ActiveCa, Host, Issued, Kind, Meaning, Prepared, User};
use endorsed::Reserved;
use kms::{KmsError, KmsSigner};
use local::LocalSigner;
pub(crate) use self_check::Checked;
use self_check::SelfCheck;

/// A private key: in this process, or in KMS.
pub enum Signer {
    /// A file's.
    Local(LocalSigner),
    /// KMS's.
    Kms(KmsSigner),
}

impl Signer {
    /// The public key.
    #[must_use]
    pub fn public(&self) -> &CaKey {
        match self {
            Self::Local(signer) => signer.public(),
            Self::Kms(signer) => signer.public(),
        }
    }

    /// Why the key does not answer since the start; none: it does, or has.
    #[must_use]
    pub fn unreached(&self) -> Option<Arc<String>> {
        match self {
            Self::Local(_) => None,
            Self::Kms(signer) => signer.unreached(),
        }
    }

    /// The one way to a signature; private, see the module's text.
    async fn sign_bytes(&self, bytes: &[u8]) -> Result<Signature, SignerError> {
        match self {
            Self::Local(signer) => signer.sign(bytes),
            Self::Kms(signer) => signer.sign(bytes).await,
        }
    }
}

/// Signs user certificates.
pub type UserCa = CertificateAuthority<User>;
/// Signs host certificates.
pub type HostCa = CertificateAuthority<Host>;

/// A CA key for one kind of certificate.
pub struct CertificateAuthority<K: Kind> {
    signer: Signer,
    self_check: SelfCheck,
    not_after: Option<u64>,
    /// What it must not sign: of keys in memory only.
    reserved: Option<Arc<Reserved>>,
    kind: PhantomData<K>,
}

impl<K: Kind> CertificateAuthority<K> {
    /// A CA that signs with this key; `not_after` is when hosts stop to trust it, in Unix seconds.
    #[must_use]
    pub fn new(signer: Signer, not_after: Option<u64>) -> Self {
        Self {
            self_check: SelfCheck::of(signer.public()),
            signer,
            not_after,
            reserved: None,
            kind: PhantomData,
        }
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> &CaKey {
        self.signer.public()
    }

    /// Why nothing can be signed since the start: the key is in KMS, which does not answer. None: it does, or has.
    #[must_use]
    pub fn unreached(&self) -> Option<Arc<String>> {
        self.signer.unreached()
    }

    /// Asks KMS once more, where it did not answer at the start. Returns the key's ARN.
    ///
    /// # Errors
    /// [`KmsError`]
    pub async fn reach(&self) -> Result<Option<&str>, KmsError> {
        match &self.signer {
            Signer::Local(_) => Ok(None),
            Signer::Kms(signer) => signer.reach().await.map(|()| Some(signer.arn())),
        }
    }

    /// The key and its end, for preparing.
    #[must_use]
    pub fn active(&self) -> ActiveCa<'_> {
        ActiveCa {
            key: self.signer.public(),
            not_after: self.not_after,
        }
    }

    /// Signs what was recorded and checks the result. The journal learns what came of it.
    ///
    /// # Errors
    /// [`SignError`]; no certificate leaves, and the audit says so under the same request id.
    pub async fn sign(
        &self,
        recorded: Recorded<Prepared<K>>,
        clock: &Clock,
    ) -> Result<Issued, SignError> {
        let (prepared, completion, recorded_hash) = recorded.into_parts();
        let (linted, meaning) = prepared.into_parts();
        match self.certificate(linted, &meaning, recorded_hash).await {
            Ok(checked) => Ok(complete(completion, checked, meaning, clock)),
            Err(error) => {
                tracing::error!(%error, request_id = %meaning.request_id(), "ALARM: a recorded certificate was not signed");
                let event = EventError {
                    code: error.code().to_owned(),
                    message: error.to_string(),
                };
                completion.failed(&meaning, &event, clock.now());
                Err(error)
            }
        }
    }

    async fn certificate(
        &self,
        linted: Linted,
        meaning: &Meaning<K>,
        recorded_hash: [u8; 32],
    ) -> Result<Checked, SignError> {
        // What is signed is what was linted and what was recorded, byte for byte (D-22).
        let hash: [u8; 32] = Sha256::digest(linted.as_slice()).into();
        if hash != recorded_hash || hash != meaning.tbs_hash() {
            return Err(SignError::Diverged);
        }
        if linted.ca() != self.signer.public() {
            return Err(SignError::OtherCa);
        }
        if !self.may_open(meaning.profile()) {
            return Err(SignError::Reserved);
        }
        let signature = self.signer.sign_bytes(linted.as_slice()).await?;
        fault::point("after-sign");
        Ok(self.self_check.attach(linted, &signature)?)
    }
}

impl<K: Kind> CertificateAuthority<K> {
    /// The last of three looks at what a key in memory opens: the issuer's choice and every host's are the others.
    fn may_open(&self, profile: &Profile) -> bool {
        let Some(reserved) = &self.reserved else {
            return true;
        };
        match profile {
            Profile::User(user) => !user
                .principals
                .iter()
                .any(|principal| reserved.covers_principal(principal)),
            Profile::Host(_) => false,
        }
    }
}

fn complete<K: Kind>(
    completion: Completion,
    checked: Checked,
    meaning: Meaning<K>,
    clock: &Clock,
) -> Issued {
    let hash = Sha256::digest(checked.line().as_bytes()).into();
    completion.issued(hash, clock.now());
    fault::point("after-check");
    Issued::new(checked, &meaning)
}

/// Why a recorded certificate was not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The bytes are not those that were recorded.
    #[error("sign the certificate: its bytes are not those that were linted and recorded")]
    Diverged,
    /// Prepared for another key.
    #[error("sign the certificate: it was prepared for another CA key")]
    OtherCa,
    /// Only the user CA's own key may open it.
    #[error(
        "sign the certificate: a key held in memory does not open names with uid 0 or fleets marked `kms_only`"
    )]
    Reserved,
    /// The key could not be used.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// The signature is wrong.
    #[error(transparent)]
    Check(#[from] LintError),
}

impl SignError {
    /// For the audit's `errorCode`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Diverged | Self::OtherCa | Self::Reserved => "SignerMisuse",
            Self::Signer(_) => "SignerUnavailable",
            Self::Check(_) => "WrongSignature",
        }
    }
}

/// Why a private key gave no signature.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// More wait for the key than may.
    #[error("sign with KMS: too many signatures are under way")]
    Overloaded,
    /// It did not answer at the start, and nobody has seen it since.
    #[error("sign with KMS, which does not answer since the start: {0}")]
    Unreached(Arc<String>),
    /// No answer in time.
    #[error("sign with KMS within {0} ms: no answer in time")]
    Timeout(u128),
    /// KMS refused.
    #[error("sign with KMS: {0}")]
    Kms(String),
    /// An answer of another form than the key's.
    #[error("read the signer's answer: {0}")]
    Answer(&'static str),
    /// The local key failed.
    #[error("sign with the local key: the cryptographic library refused")]
    Local,
}

#[cfg(test)]
pub(crate) mod tests;
