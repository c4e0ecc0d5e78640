//! The installed root documents: the one that the pinned fingerprints vouch for, and every later one, each signed by
//! the threshold of the one before it. The whole chain is stored and checked again at each start.

use eic_protocol::trust::envelope::{Envelope, Untrusted};
use eic_protocol::trust::root::Root;
use serde::{Deserialize, Serialize};

use super::{CaConfig, ConfigError, MAX_FILE};
use crate::files;
use crate::paths::Paths;

/// Roots beyond this are left out where later ones do without them: a chain must not end for want of room.
const MAX_ROOTS: usize = 64;

/// A verified chain of at least one root.
#[derive(Clone, Debug)]
pub struct RootChain {
    envelopes: Vec<Envelope>,
    first: Root,
    root: Root,
}

/// The file: one envelope as setup writes it, or several.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Stored {
    One(Envelope),
    Several { roots: Vec<Envelope> },
}

impl RootChain {
    /// A new chain, for setup: a root that pinned keys signed.
    ///
    /// # Errors
    /// [`Untrusted`].
    pub fn pin(envelope: Envelope, ca: &CaConfig) -> Result<Self, Untrusted> {
        let root = Root::pinned(&envelope, &ca.root_fingerprints)?;
        Ok(Self {
            envelopes: vec![envelope],
            first: root.clone(),
            root,
        })
    }

    /// Reads the chain and checks it from the pinned fingerprints on.
    ///
    /// # Errors
    /// [`ConfigError`] where it is missing, or a link of it is not signed as it must be.
    pub fn load(paths: &Paths, ca: &CaConfig) -> Result<Self, ConfigError> {
        let file = paths.root_file();
        let bytes = files::read_capped(&file, MAX_FILE)?.ok_or(ConfigError::NoRoot)?;
        let invalid = |what: String| ConfigError::Invalid {
            file: file.display().to_string(),
            what,
        };
        let stored = serde_json::from_slice(&bytes).map_err(|e| invalid(e.to_string()))?;
        let envelopes = match stored {
            Stored::One(envelope) => vec![envelope],
            Stored::Several { roots } => roots,
        };
        let first = envelopes
            .first()
            .ok_or_else(|| invalid("it holds no root".to_owned()))?;
        let first = Self::pin(first.clone(), ca)?.first;
        Ok(Self {
            root: first.walk_kept(&envelopes)?,
            first,
            envelopes,
        })
    }

    /// Stores a chain that was verified, whatever is there.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn store(&self, paths: &Paths) -> Result<(), ConfigError> {
        files::private_dir(&paths.config_dir)?;
        let _lock = files::lock(&paths.root_file())?;
        self.write(paths)
    }

    /// Stores a chain that continues the installed one, unless another process has stored a longer one meanwhile;
    /// returns the one that is installed then. An older root never comes back by it.
    ///
    /// # Errors
    /// [`ConfigError`]; also where there is no chain of this CA any more, e.g. since setup chose another one.
    pub fn advance(self, paths: &Paths, ca: &CaConfig) -> Result<Self, ConfigError> {
        files::check_private_dir(&paths.config_dir)?;
        let _lock = files::lock(&paths.root_file())?;
        let installed = Self::load(paths, ca)?;
        if installed.root.version >= self.root.version {
            return Ok(installed);
        }
        self.write(paths)?;
        Ok(self)
    }

    fn write(&self, paths: &Paths) -> Result<(), ConfigError> {
        let roots = self.envelopes.clone();
        let stored = match <[Envelope; 1]>::try_from(roots) {
            Ok([only]) => Stored::One(only),
            Err(roots) => Stored::Several { roots },
        };
        let bytes =
            serde_json::to_vec_pretty(&stored).map_err(|e| ConfigError::Write(e.to_string()))?;
        Ok(files::write_atomic(&paths.root_file(), &bytes, 0o600)?)
    }

    /// The chain with its next root: one version up, and signed by enough keys of the newest one here.
    /// What the new document says about thresholds counts for itself only.
    ///
    /// # Errors
    /// [`Untrusted`].
    pub fn followed_by(&self, envelope: Envelope) -> Result<Self, Untrusted> {
        let root = self.root.successor(&envelope)?;
        let mut envelopes = self.envelopes.clone();
        envelopes.push(envelope);
        if envelopes.len() > MAX_ROOTS {
            let needed = self.first.fewest(&envelopes);
            envelopes.truncate(1);
            envelopes.extend(needed);
        }
        let first = self.first.clone();
        Ok(Self {
            envelopes,
            first,
            root,
        })
    }

    /// The newest root.
    #[must_use]
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Whether `envelope` is the newest one, byte for byte.
    #[must_use]
    pub fn ends_with(&self, envelope: &Envelope) -> bool {
        self.envelopes.last() == Some(envelope)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use eic_protocol::base64_text::Base64Bytes;
    use eic_protocol::sshsig::{self, Namespace};
    use eic_protocol::subject_key::SubjectKey;
    use eic_protocol::trust::envelope::EnvelopeSignature;
    use signature::Signer as _;
    use ssh_key::PrivateKey;
    use ssh_key::private::{Ed25519Keypair, KeypairData};

    fn private(seed: u8) -> PrivateKey {
        let pair = Ed25519Keypair::from_seed(&[seed; 32]);
        PrivateKey::new(KeypairData::Ed25519(pair), "").unwrap()
    }

    fn public(seed: u8) -> SubjectKey {
        let line = private(seed).public_key().to_openssh().unwrap();
        line.parse().unwrap()
    }

    /// A root of these keys and threshold, signed by `signers`.
    fn envelope(version: u64, keys: &[u8], threshold: usize, signers: &[u8]) -> Envelope {
        let root = Root {
            version,
            issued: version,
            root_keys: keys.iter().map(|seed| public(*seed)).collect(),
            threshold,
            bundle_keys: Vec::new(),
            user_cas: Vec::new(),
            host_cas: Vec::new(),
        };
        let bytes = serde_json::to_vec(&root).unwrap();
        let sign = |seed: &u8| {
            let data = sshsig::signed_data(Namespace::Root, &bytes);
            let signature = private(*seed).try_sign(&data).unwrap();
            let blob = sshsig::blob(Namespace::Root, &public(*seed), &signature).unwrap();
            EnvelopeSignature {
                key: public(*seed),
                signature: Base64Bytes(blob),
            }
        };
        Envelope {
            signatures: signers.iter().map(sign).collect(),
            signed: Base64Bytes(bytes),
        }
    }

    fn ca() -> CaConfig {
        CaConfig {
            url: "https://ca.example".parse().unwrap(),
            root_fingerprints: [public(1).fingerprint()].into(),
            ca_file: None,
        }
    }

    fn two_of_three() -> RootChain {
        RootChain::pin(envelope(1, &[1, 2, 3], 2, &[1, 2]), &ca()).unwrap()
    }

    #[test]
    fn a_root_that_the_installed_threshold_did_not_sign_is_refused() {
        // F: the pinned key alone, with a threshold of its own making.
        let chain = two_of_three();
        for bad in [
            envelope(2, &[1], 1, &[1]),
            envelope(2, &[1, 2, 3], 1, &[1]),
            envelope(2, &[4, 5], 2, &[4, 5]),
            envelope(2, &[1, 4], 2, &[1, 4]),
            envelope(1, &[1, 2, 3], 2, &[1, 2]),
            envelope(3, &[1, 2, 3], 2, &[1, 2]),
        ] {
            assert!(chain.followed_by(bad).is_err());
        }
        let next = chain.followed_by(envelope(2, &[1, 2, 3], 2, &[2, 3]));
        assert_eq!(next.unwrap().root().version, 2);
    }

    #[test]
    fn a_shorter_chain_of_another_process_does_not_replace_a_longer_one() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_path_buf();
        let paths =
            Paths::from_lookup(|name| (name == "HOME").then(|| home.clone().into())).unwrap();
        let first = two_of_three();
        let second = first
            .followed_by(envelope(2, &[1, 2, 3], 2, &[1, 2]))
            .unwrap();
        let third = second
            .followed_by(envelope(3, &[1, 2, 3], 2, &[1, 2]))
            .unwrap();
        // Nothing installed: `setup --undo` ran meanwhile.
        files::private_dir(&paths.config_dir).unwrap();
        assert!(second.clone().advance(&paths, &ca()).is_err() && !paths.root_file().exists());
        first.store(&paths).unwrap();
        let installed = third.advance(&paths, &ca()).unwrap();
        assert_eq!(installed.root().version, 3);
        let installed = second.advance(&paths, &ca()).unwrap();
        assert_eq!(installed.root().version, 3);
        assert_eq!(RootChain::load(&paths, &ca()).unwrap().root().version, 3);
    }

    #[test]
    fn a_chain_of_years_finds_room_for_the_next_root() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_path_buf();
        let paths =
            Paths::from_lookup(|name| (name == "HOME").then(|| home.clone().into())).unwrap();
        let mut chain = two_of_three();
        for version in 2..=80 {
            let next = envelope(version, &[1, 2, 3], 2, &[1, 2]);
            chain = chain.followed_by(next).unwrap();
        }
        assert!(chain.envelopes.len() <= MAX_ROOTS);
        chain.store(&paths).unwrap();
        assert_eq!(RootChain::load(&paths, &ca()).unwrap().root().version, 80);
    }

    #[test]
    fn a_chain_survives_the_pinned_key_and_is_checked_link_by_link_when_read() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_path_buf();
        let paths =
            Paths::from_lookup(|name| (name == "HOME").then(|| home.clone().into())).unwrap();
        let without_the_first = envelope(2, &[2, 3, 4], 2, &[2, 3]);
        let chain = two_of_three().followed_by(without_the_first).unwrap();
        let chain = chain.followed_by(envelope(3, &[4, 5], 1, &[3, 4])).unwrap();
        chain.store(&paths).unwrap();
        assert_eq!(RootChain::load(&paths, &ca()).unwrap().root().version, 3);
        let mut broken = chain.clone();
        broken.envelopes.remove(1);
        broken.store(&paths).unwrap();
        assert!(RootChain::load(&paths, &ca()).is_err());
        two_of_three().store(&paths).unwrap();
        assert!(RootChain::load(&paths, &ca()).is_ok());
    }
}
