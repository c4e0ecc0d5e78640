//! Keys that sign documents: root keys sign roots, bundle keys sign host views and bundles. Never a certificate:
//! the SSHSIG preamble and its namespace keep these signatures apart from every other (D-20).

use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use eic_protocol::base64_text::Base64Bytes;
use eic_protocol::sshsig::{self, InvalidSignature, Namespace};
use eic_protocol::subject_key::SubjectKey;
use eic_protocol::trust::envelope::{Envelope, EnvelopeSignature};
use serde::Serialize;
use ssh_key::Signature;

use super::SignerError;
use super::local::{LocalKeyError, LocalSigner};

mod sealed {
    pub trait Sealed {}
}

/// What a document key signs; closed.
pub trait Purpose: sealed::Sealed {
    /// The only namespace of its signatures.
    const NAMESPACE: Namespace;
}

/// Root documents.
#[derive(Clone, Copy, Debug)]
pub struct RootPurpose;

/// Host views.
#[derive(Clone, Copy, Debug)]
pub struct BundlePurpose;

/// Trust bundles.
#[derive(Clone, Copy, Debug)]
pub struct ListPurpose;

impl sealed::Sealed for RootPurpose {}
impl sealed::Sealed for BundlePurpose {}
impl sealed::Sealed for ListPurpose {}

impl Purpose for RootPurpose {
    const NAMESPACE: Namespace = Namespace::Root;
}

impl Purpose for BundlePurpose {
    const NAMESPACE: Namespace = Namespace::HostView;
}

impl Purpose for ListPurpose {
    const NAMESPACE: Namespace = Namespace::Bundle;
}

/// Signs root documents.
pub type RootKey = DocumentKey<RootPurpose>;
/// Signs host views.
pub type BundleKey = DocumentKey<BundlePurpose>;
/// Signs trust bundles: the same key as [`BundleKey`], under another namespace.
pub type ListKey = DocumentKey<ListPurpose>;

/// A key for one kind of document.
pub struct DocumentKey<P: Purpose> {
    signer: Arc<LocalSigner>,
    purpose: PhantomData<P>,
}

impl<P: Purpose> DocumentKey<P> {
    /// Reads the key's file.
    ///
    /// # Errors
    /// As [`LocalSigner::load`].
    pub fn load(path: &Path) -> Result<Self, LocalKeyError> {
        Ok(Self::new(LocalSigner::load(path)?))
    }

    /// A document key that signs with this key.
    #[must_use]
    pub fn new(signer: LocalSigner) -> Self {
        Self {
            signer: Arc::new(signer),
            purpose: PhantomData,
        }
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> &SubjectKey {
        self.signer.public().key()
    }

    /// The document in an envelope with this key's signature, verified as readers do.
    ///
    /// # Errors
    /// [`DocumentError`].
    pub fn seal<T: Serialize>(&self, document: &T) -> Result<Envelope, DocumentError> {
        let bytes = serde_json::to_vec(document)?;
        let signature = self
            .signer
            .sign(&sshsig::signed_data(P::NAMESPACE, &bytes))?;
        let signature = checked(P::NAMESPACE, self.public(), &bytes, &signature)?;
        Ok(Envelope {
            signed: Base64Bytes(bytes),
            signatures: vec![signature],
        })
    }

    /// Adds this key's signature to a document that others have signed.
    ///
    /// # Errors
    /// [`DocumentError`].
    pub fn countersign(&self, envelope: &mut Envelope) -> Result<(), DocumentError> {
        let bytes = envelope.signed.as_slice();
        let signature = self
            .signer
            .sign(&sshsig::signed_data(P::NAMESPACE, bytes))?;
        let signature = checked(P::NAMESPACE, self.public(), bytes, &signature)?;
        envelope
            .signatures
            .retain(|known| known.key != *self.public());
        envelope.signatures.push(signature);
        Ok(())
    }
}

/// The signature as an envelope carries it, verified as readers do.
pub(super) fn checked(
    namespace: Namespace,
    key: &SubjectKey,
    bytes: &[u8],
    signature: &Signature,
) -> Result<EnvelopeSignature, DocumentError> {
    let blob = sshsig::blob(namespace, key, signature)?;
    sshsig::verify(namespace, key, bytes, &blob)?;
    Ok(EnvelopeSignature {
        key: key.clone(),
        signature: Base64Bytes(blob),
    })
}

impl BundleKey {
    /// The same key, for bundles.
    #[must_use]
    pub fn for_bundles(&self) -> ListKey {
        DocumentKey {
            signer: Arc::clone(&self.signer),
            purpose: PhantomData,
        }
    }

    /// The same key once more.
    #[must_use]
    pub fn shared(&self) -> Self {
        Self {
            signer: Arc::clone(&self.signer),
            purpose: PhantomData,
        }
    }
}

/// Why a document was not signed.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Not JSON.
    #[error("write the document: {0}")]
    Json(#[from] serde_json::Error),
    /// The key failed.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// The signature is wrong.
    #[error("check the document's signature: {0}")]
    Signature(#[from] InvalidSignature),
}
