//! The secrets that grants are made with: files, never the database, so that who reads the database makes no grant.

use std::path::Path;

use eic_protocol::secret::Secret;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

/// Shortest secret: the output length of SHA-256 (RFC 2104 §3). Bytes.
const MIN_LEN: usize = 32;
const MAX_LEN: usize = 4096;

/// Length of a secret's id.
pub(super) const ID_LEN: usize = 8;

/// One secret and the id that grants name it by.
pub struct GrantSecret {
    id: [u8; ID_LEN],
    secret: Secret<Vec<u8>>,
}

/// Why a secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Not readable.
    #[error("read the grant secret `{0}`: {1}")]
    Read(String, String),
    /// Too short or too long.
    #[error(
        "use the grant secret `{0}`: it must hold {MIN_LEN} to {MAX_LEN} random bytes; make one with `head -c 32 /dev/urandom`"
    )]
    Length(String),
    /// Others may read it.
    #[error("use the grant secret `{0}`: others may read it; run `chmod 600 {0}`")]
    Mode(String),
}

impl GrantSecret {
    /// Of these bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        let id = id_of(&bytes)?;
        (MIN_LEN..=MAX_LEN).contains(&bytes.len()).then(|| Self {
            id,
            secret: Secret::new(bytes),
        })
    }

    /// Reads a file that nobody else may read.
    ///
    /// # Errors
    /// [`SecretError`]
    pub fn load(file: &Path) -> Result<Self, SecretError> {
        use std::os::unix::fs::PermissionsExt as _;
        let name = || eic_protocol::text::printable(&file.display().to_string());
        let unreadable = |e: std::io::Error| SecretError::Read(name(), e.to_string());
        let metadata = std::fs::metadata(file).map_err(unreadable)?;
        if metadata.permissions().mode() & 0o077 != 0 {
            return Err(SecretError::Mode(name()));
        }
        if metadata.len() > u64::try_from(MAX_LEN).unwrap_or(u64::MAX) {
            return Err(SecretError::Length(name()));
        }
        let bytes = std::fs::read(file).map_err(unreadable)?;
        Self::new(bytes).ok_or_else(|| SecretError::Length(name()))
    }

    pub(super) fn id(&self) -> [u8; ID_LEN] {
        self.id
    }

    pub(super) fn tag(&self, message: &[u8]) -> Vec<u8> {
        self.mac(message).finalize().into_bytes().to_vec()
    }

    /// In constant time.
    pub(super) fn is_tag(&self, message: &[u8], tag: &[u8]) -> bool {
        self.mac(message).verify_slice(tag).is_ok()
    }

    fn mac(&self, message: &[u8]) -> Hmac<Sha256> {
        // HMAC takes a key of any length (RFC 2104 §2); an empty one would only be for an impossible error.
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.reveal())
            .unwrap_or_else(|_| Hmac::new(&Default::default()));
        mac.update(message);
        mac
    }
}

/// Tells secrets apart without telling anything of them.
fn id_of(secret: &[u8]) -> Option<[u8; ID_LEN]> {
    let mut hash = Sha256::new();
    hash.update(b"eic-grant-secret-id\0");
    hash.update(secret);
    hash.finalize().get(..ID_LEN)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn short_secrets_and_secrets_that_others_may_read_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        let write = |bytes: &[u8], mode: u32| {
            std::fs::write(&file, bytes).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        write(&[1; 31], 0o600);
        assert!(matches!(
            GrantSecret::load(&file),
            Err(SecretError::Length(_))
        ));
        write(&[1; 5000], 0o600);
        assert!(matches!(
            GrantSecret::load(&file),
            Err(SecretError::Length(_))
        ));
        write(&[1; 32], 0o640);
        assert!(matches!(
            GrantSecret::load(&file),
            Err(SecretError::Mode(_))
        ));
        write(&[1; 32], 0o600);
        assert!(GrantSecret::load(&file).is_ok());
    }
}
