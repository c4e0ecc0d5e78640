//! The CA's key material: files of an embedded CA, opening of configured signers, trust documents.
//!
//! Each purpose has its own key (user CA, host CA, bundle, root, grants); no key serves two.
//! Signing itself is `signer`'s; this module only finds keys and says what belongs together.

pub(crate) mod files;
mod generate;
mod host_state;
pub(crate) mod pem;
pub mod root;
pub mod root_history;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use eic_protocol::subject_key::{CaKey, SubjectKey};
use eic_protocol::trust::envelope::Envelope;
use eic_protocol::trust::root::Root;

pub use files::FileError;
pub use generate::{GenerateError, KeyType, generate};
pub use host_state::{HostState, HostStateError, HostViewOrder, host_state, read_host_key};
pub use root::{RootError, RootKeys};
pub use root_history::RootHistory;

use crate::audit::{Actor, AppendError, Recorder};
use crate::config::keys::{KeysConfig, KmsKey, SignerConfig};
use crate::issuance::{Kind, SpecialKeys};
use crate::random::NoEntropy;
use crate::signer::document::{BundleKey, DocumentError, RootKey};
use crate::signer::kms::{KmsError, KmsSigner};
use crate::signer::local::{LocalKeyError, LocalSigner};
use crate::signer::{CertificateAuthority, HostCa, Signer, UserCa};
use crate::store::{KeyPins, StoreError};
use crate::together::all_of;

/// File of the user CA's key in a folder of [`init`].
pub const USER_CA: &str = "user-ca";
/// File of the host CA's key.
pub const HOST_CA: &str = "host-ca";
/// File of the key that signs host views.
pub const BUNDLE: &str = "bundle";
/// File of the root key.
pub const ROOT: &str = "root";
/// File of the grants' secret: 32 random bytes.
pub const GRANT_SECRET: &str = "grant-secret";
/// The signed root document.
pub const ROOT_DOCUMENT: &str = "root.json";

/// What [`init`] made.
#[derive(Clone, Debug)]
pub struct Generated {
    /// The folder.
    pub folder: PathBuf,
    /// The user CA's public key.
    pub user_ca: CaKey,
    /// The host CA's public key.
    pub host_ca: CaKey,
    /// `SHA256:…` of the root key: what hosts and clients pin.
    pub root_fingerprint: String,
}

/// Makes a folder with Ed25519 keys for every purpose, a grant secret, and the signed root document.
/// Nothing that exists is overwritten. `now` is in Unix seconds.
///
/// # Errors
/// [`KeysError`]
pub fn init(folder: &Path, now: u64) -> Result<Generated, KeysError> {
    files::make_private_folder(folder)?;
    let make = |name: &str| new_key(folder, name);
    let (user_ca, host_ca, bundle, root) =
        (make(USER_CA)?, make(HOST_CA)?, make(BUNDLE)?, make(ROOT)?);
    let secret = generate::grant_secret()?;
    files::create(
        &folder.join(GRANT_SECRET),
        secret.as_slice(),
        files::PRIVATE,
    )?;
    let root = RootKey::new(root);
    let (user_ca, host_ca) = (user_ca.public().clone(), host_ca.public().clone());
    let keys = RootKeys {
        user_ca: user_ca.clone(),
        spares: Vec::new(),
        host_ca: host_ca.clone(),
        bundle: bundle.public().key().clone(),
    };
    let document = root::first(&keys, root.public(), now);
    root::write(&folder.join(ROOT_DOCUMENT), &root.seal(&document)?)?;
    let root_fingerprint = root.public().fingerprint();
    Ok(Generated {
        folder: folder.to_owned(),
        user_ca,
        host_ca,
        root_fingerprint,
    })
}

fn new_key(folder: &Path, name: &str) -> Result<LocalSigner, KeysError> {
    new_key_file(&folder.join(name), KeyType::Ed25519)
}

/// Makes a private key in a new file, with its public half beside it in `<file>.pub`.
///
/// # Errors
/// [`KeysError`]; an existing file is left as it is.
pub fn new_key_file(path: &Path, kind: KeyType) -> Result<LocalSigner, KeysError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let comment = format!("eic {name}");
    let text = generate(kind, &comment)?;
    files::create(path, text.as_bytes(), files::PRIVATE)?;
    let key = LocalSigner::load(path)?;
    let mut public_path = path.as_os_str().to_owned();
    public_path.push(".pub");
    let public = format!("{} {comment}\n", key.public());
    files::create(Path::new(&public_path), public.as_bytes(), files::PUBLIC)?;
    Ok(key)
}

/// Everything that a running CA signs with, found to belong together.
pub struct KeyMaterial {
    /// Signs user certificates.
    pub user_ca: UserCa,
    /// Those that may take its place.
    pub spares: Vec<UserCa>,
    /// Signs host certificates.
    pub host_ca: Arc<HostCa>,
    /// Signs host views.
    pub bundle: BundleKey,
    /// The signed root document, as clients and hosts get it.
    pub root: Envelope,
    /// Its contents.
    pub document: Root,
    /// Keys that are never certified.
    pub special: SpecialKeys,
}

/// Opens every configured key and checks that the root document names just these.
/// `now` is in Unix seconds.
///
/// # Errors
/// [`KeysError`]; where the root document names other keys, it says what to run.
pub async fn load(config: &KeysConfig, pins: &KeyPins, now: u64) -> Result<KeyMaterial, KeysError> {
    let opened = RootKeys::open(config, pins, now).await?;
    belonging(config, opened)
}

/// What was opened, found to be just what the root document names.
///
/// # Errors
/// [`KeysError`]
pub(crate) fn belonging(
    config: &KeysConfig,
    (keys, signers): (RootKeys, Signers),
) -> Result<KeyMaterial, KeysError> {
    let (root, document) = root::read(&config.root_document)?;
    root::check(&document, &keys, &config.root_document)?;
    keys.check_apart_from(&document.root_keys)?;
    let user_cas = signers.user_cas.into_iter();
    let mut user_cas = user_cas.map(|ca| authority(ca, &document));
    let user_ca = user_cas.next().ok_or(KeysError::NoSigner)?;
    let spares = user_cas.collect();
    let host_ca = Arc::new(CertificateAuthority::new(signers.host_ca, None));
    let special = SpecialKeys::new(named_keys(&document));
    Ok(KeyMaterial {
        user_ca,
        spares,
        host_ca,
        bundle: signers.bundle,
        root,
        document,
        special,
    })
}

/// Where keys are exchanged by a schedule and the root key is at hand: spares that the present root does not name are
/// named in a next one, recorded before it is put in place. No other change is made without an operator, since a slip
/// in the configuration would have every host trust another key. `now` is in Unix seconds.
///
/// # Errors
/// [`KeysError`]
pub async fn announce_spares(
    config: &KeysConfig,
    keys: &RootKeys,
    recorder: &Recorder,
    now: u64,
) -> Result<(), KeysError> {
    let Some(file) = config
        .root
        .as_ref()
        .filter(|_| config.rotate_after.is_some())
    else {
        return Ok(());
    };
    let (_, present) = root::read(&config.root_document)?;
    let next = root::next(&present, keys, now);
    let next = next.filter(|next| root::only_announces(&present, next) && present.threshold == 1);
    if let Some(next) = next {
        let sealed = RootKey::load(file)?.seal(&next)?;
        let event = root::installation(&next, Actor::Service)?;
        recorder.append(&event).await?;
        let installed = root_history::succeed(&config.root_document, &sealed)?;
        tracing::warn!(
            root = installed.version,
            "spare user CAs were announced in a new root"
        );
    }
    Ok(())
}

fn authority<K: Kind>(signer: Signer, document: &Root) -> CertificateAuthority<K> {
    let scope = document
        .user_cas
        .iter()
        .find(|ca| ca.key == *signer.public())
        .map(|ca| ca.scope.clone());
    let not_after = scope.and_then(|scope| scope.not_after);
    CertificateAuthority::new(signer, not_after)
}

/// Every key that the root document names, retired ones included: none is ever certified (D-14).
pub fn named_keys(root: &Root) -> impl Iterator<Item = &SubjectKey> {
    let users = root.user_cas.iter().map(|ca| ca.key.key());
    let cas = users.chain(root.host_cas.iter().map(CaKey::key));
    cas.chain(&root.root_keys).chain(&root.bundle_keys)
}

/// The private keys behind [`RootKeys`].
pub(crate) struct Signers {
    /// In the configuration's order.
    pub(crate) user_cas: Vec<Signer>,
    pub(crate) host_ca: Signer,
    pub(crate) bundle: BundleKey,
}

impl RootKeys {
    /// Opens the configured keys; no key may serve two purposes (D-13). One in KMS that does not answer, but is known
    /// from before, is awaited. `now` is in Unix seconds.
    pub(crate) async fn open(
        config: &KeysConfig,
        pins: &KeyPins,
        now: u64,
    ) -> Result<(Self, Signers), KeysError> {
        let bundle = BundleKey::load(&config.bundle)?;
        let user_cas = std::iter::once(&config.user_ca).chain(&config.spare_user_cas);
        // At once: each that does not answer takes ten seconds.
        let opening = user_cas.chain([&config.host_ca]).enumerate();
        let opening = opening.map(async |(at, ca)| Ok((at, open_or_await(ca, pins, now).await?)));
        let opened: Result<BTreeMap<_, _>, KeysError> = all_of(opening).await.into_iter().collect();
        let mut user_cas: Vec<Signer> = opened?.into_values().collect();
        let host_ca = user_cas.pop().ok_or(KeysError::NoSigner)?;
        let mut public = user_cas.iter().map(|ca| ca.public().clone());
        let keys = Self {
            user_ca: public.next().ok_or(KeysError::NoSigner)?,
            spares: public.collect(),
            host_ca: host_ca.public().clone(),
            bundle: bundle.public().clone(),
        };
        keys.check_distinct()?;
        let signers = Signers {
            user_cas,
            host_ca,
            bundle,
        };
        Ok((keys, signers))
    }

    fn named(&self) -> Vec<(&'static str, &SubjectKey)> {
        let mut named = vec![
            ("user_ca", self.user_ca.key()),
            ("host_ca", self.host_ca.key()),
            ("bundle", &self.bundle),
        ];
        let spares = self.spares.iter();
        named.extend(spares.map(|spare| ("spare_user_cas", spare.key())));
        named
    }

    fn check_distinct(&self) -> Result<(), KeysError> {
        let keys = self.named();
        for (index, (name, key)) in keys.iter().enumerate() {
            if let Some((other, _)) = keys.iter().take(index).find(|(_, other)| other == key) {
                return Err(KeysError::Shared(other, name));
            }
        }
        Ok(())
    }

    fn check_apart_from(&self, root_keys: &[SubjectKey]) -> Result<(), KeysError> {
        let shared = self
            .named()
            .into_iter()
            .find(|(_, key)| root_keys.contains(key));
        shared.map_or(Ok(()), |(name, _)| Err(KeysError::Shared(name, "root")))
    }
}

/// A key that KMS does not give to us, but that is known, is no reason not to work without it: one that is disabled or
/// pending deletion is what the spare is for, and bundles and revocations need none.
async fn open_or_await(
    config: &SignerConfig,
    pins: &KeyPins,
    now: u64,
) -> Result<Signer, KeysError> {
    let (failure, kms) = match (open(config, pins, now).await, config) {
        (Err(KeysError::Kms(failure)), SignerConfig::Kms(kms)) if failure.is_unreachable() => {
            (failure, kms)
        }
        (opened, _) => return opened,
    };
    let Some(public) = known(kms, pins)? else {
        return Err(failure.into());
    };
    tracing::error!(%failure, "ALARM: a CA key cannot be used; it is asked for again and again");
    let awaited = KmsSigner::awaited(kms, public, &failure).await?;
    Ok(Signer::Kms(awaited))
}

/// The public half of a key in KMS, by the configuration and from its first use.
fn known(kms: &KmsKey, pins: &KeyPins) -> Result<Option<CaKey>, KeysError> {
    let arn = kms.arn.to_string();
    let pinned = pins.known(&arn)?;
    match (&kms.public_key, pinned) {
        (Some(key), Some(pinned)) if pinned != key.to_string() => Err(KeysError::NamedOther {
            arn,
            named: key.to_string(),
            pinned,
        }),
        (Some(key), _) => Ok(Some(key.clone())),
        (None, pinned) => Ok(pinned.and_then(|key| key.parse().ok())),
    }
}

/// Opens one CA key. A key in KMS without a configured public key is pinned at its first use:
/// the same ARN must show the same key for ever.
async fn open(config: &SignerConfig, pins: &KeyPins, now: u64) -> Result<Signer, KeysError> {
    let kms = match config {
        SignerConfig::Local { file } => return Ok(Signer::Local(LocalSigner::load(file)?)),
        SignerConfig::Kms(kms) => kms,
    };
    let signer = KmsSigner::connect(kms).await?;
    let found = signer.public().to_string();
    let pinned = pins.pin(signer.arn(), &found, now).await?;
    if pinned != found {
        return Err(KeysError::Pinned {
            arn: signer.arn().to_owned(),
            found,
            pinned,
        });
    }
    Ok(Signer::Kms(signer))
}

/// Why keys cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A key could not be made.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// A local key.
    #[error(transparent)]
    Local(#[from] LocalKeyError),
    /// A key in KMS.
    #[error(transparent)]
    Kms(#[from] KmsError),
    /// A document was not signed.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The root document.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No key is configured: a defect of ours, since the configuration demands them.
    #[error("use the configured keys: there is none")]
    NoSigner,
    /// A new root could not be recorded, so it was not put in place.
    #[error(transparent)]
    Record(#[from] AppendError),
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// One key for two purposes.
    #[error(
        "use the configured keys: `{0}` and `{1}` are the same key; each purpose needs its own"
    )]
    Shared(&'static str, &'static str),
    /// Another key than at first.
    #[error(
        "use the KMS key `{arn}`: its public key is `{found}`, but `{pinned}` was seen at its first use; if that is meant, name the new key as `public_key` of a new ARN"
    )]
    Pinned {
        /// The key.
        arn: String,
        /// Now.
        found: String,
        /// At first.
        pinned: String,
    },
    /// The configuration names another key than was seen at first, and KMS does not answer to say which it is.
    #[error(
        "use the KMS key `{arn}`: `public_key` in the configuration is `{named}`, but `{pinned}` was seen at its first use, and KMS does not answer now; write that one, or leave `public_key` out"
    )]
    NamedOther {
        /// The key.
        arn: String,
        /// In the configuration.
        named: String,
        /// At first.
        pinned: String,
    },
}

#[cfg(test)]
mod tests;
