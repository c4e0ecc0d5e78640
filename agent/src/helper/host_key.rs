//! The host's own keys: which ones there are, which one is certified, and signatures by them.
//! Signed are requests to the CA that the helper has parsed and rebuilt itself, never bytes of the service's.

mod openssh;
mod rsa;

use std::path::{Path, PathBuf};

use eic_protocol::secret::Secret;
use eic_protocol::sshsig::{self, Namespace};
use eic_protocol::subject_key::SubjectKey;

use self::openssh::PrivateHalf;
use self::rsa::RsaKey;
use super::Host;
use crate::trusted_file::{Trusted, UntrustedFile};

/// Largest key file in bytes.
const MAX_BYTES: usize = 32 * 1024;
/// In the order of preference. RSA comes last: ssh-keygen(1) signs with it, since its private operations would
/// double this program.
const KINDS: [&str; 4] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ssh-rsa",
];

/// A host key with its private half.
pub(super) struct HostKey {
    /// The public half.
    pub(super) public: SubjectKey,
    private: Private,
}

enum Private {
    Own(PrivateHalf),
    Rsa(RsaKey),
}

impl HostKey {
    /// The preferred one of the files that sshd's HostKey names.
    ///
    /// # Errors
    /// [`NoHostKey`].
    pub(super) fn find(files: &[&str], host: &Host) -> Result<Self, NoHostKey> {
        let own = files
            .iter()
            .filter_map(|file| Self::read(Path::new(file), &host.trusted).ok());
        let rsa = || {
            let mut all = files.iter();
            all.find_map(|file| Self::rsa(Path::new(file), host))
        };
        let preferred = own.min_by_key(Self::rank).or_else(rsa);
        preferred.ok_or_else(|| NoHostKey::None(files.iter().map(PathBuf::from).collect()))
    }

    /// The first of each kind, in the order of preference.
    ///
    /// # Errors
    /// [`NoHostKey`]: there is none.
    pub(super) fn all(files: &[&str], host: &Host) -> Result<Vec<Self>, NoHostKey> {
        let read = |file: &&str| {
            let file = Path::new(file);
            let own = Self::read(file, &host.trusted).ok();
            own.or_else(|| Self::rsa(file, host))
        };
        let mut keys: Vec<Self> = files.iter().filter_map(read).collect();
        keys.sort_by_key(Self::rank);
        keys.dedup_by_key(|key| key.rank());
        if keys.is_empty() {
            return Err(NoHostKey::None(files.iter().map(PathBuf::from).collect()));
        }
        Ok(keys)
    }

    fn read(path: &Path, trusted: &Trusted) -> Result<Self, NoHostKey> {
        let text = Secret::new(trusted.read(path, MAX_BYTES)?);
        let (blob, private) = openssh::read(text.reveal()).ok_or(NoHostKey::Form)?;
        let public = SubjectKey::from_blob(&blob).map_err(|_| NoHostKey::Form)?;
        let private = Private::Own(private);
        Ok(Self { public, private })
    }

    fn rsa(path: &Path, host: &Host) -> Option<Self> {
        let (public, key) = RsaKey::read(path, &host.trusted, &host.ssh_keygen)?;
        let private = Private::Rsa(key);
        Some(Self { public, private })
    }

    fn rank(&self) -> usize {
        let name = self.public.algorithm_name();
        let place = KINDS.iter().position(|kind| *kind == name);
        place.unwrap_or(KINDS.len())
    }

    /// An SSHSIG blob over `message` for requests to the CA.
    ///
    /// # Errors
    /// [`NoHostKey::Sign`].
    pub(super) fn sign_request(&self, message: &[u8]) -> Result<Vec<u8>, NoHostKey> {
        match &self.private {
            Private::Own(private) => {
                let data = sshsig::signed_data(Namespace::Request, message);
                let signature = private.sign(&data).ok_or(NoHostKey::Sign)?;
                sshsig::blob(Namespace::Request, &self.public, &signature)
                    .map_err(|_| NoHostKey::Sign)
            }
            Private::Rsa(key) => key
                .sign_request(&self.public, message)
                .ok_or(NoHostKey::Sign),
        }
    }
}

/// Why there is no host key to sign with.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoHostKey {
    /// None of sshd's can be used.
    #[error(
        "find a host key: none of {0:?} is an Ed25519, ECDSA or (with OpenSSH 8.1 and later) RSA key that only root can write; run `ssh-keygen -A`"
    )]
    None(Vec<PathBuf>),
    /// Not root's alone, or not readable.
    #[error(transparent)]
    File(#[from] UntrustedFile),
    /// Not an unencrypted OpenSSH key of a kind that is used.
    #[error("read a host key")]
    Form,
    /// The signature could not be made.
    #[error("sign with the host key")]
    Sign,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn tree() -> (tempfile::TempDir, Host) {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        let trusted = Trusted::under(&top, rustix::process::geteuid().as_raw());
        let host = Host {
            trusted,
            ..Host::this(None).unwrap()
        };
        (folder, host)
    }

    /// A key as ssh-keygen makes it; its file's name, and its public line.
    fn made(folder: &tempfile::TempDir, kind: &[&str], passphrase: &str) -> (String, SubjectKey) {
        let path = folder.path().canonicalize().unwrap().join(kind.concat());
        let path = path.to_string_lossy().into_owned();
        let mut command = Command::new("ssh-keygen");
        command
            .args(["-q", "-N", passphrase, "-f", &path, "-t"])
            .args(kind);
        assert!(command.status().unwrap().success());
        let line = std::fs::read_to_string(format!("{path}.pub")).unwrap();
        (path, line.trim_end().parse().unwrap())
    }

    #[test]
    fn missing_open_encrypted_and_broken_files_are_no_host_keys() {
        use std::os::unix::fs::PermissionsExt as _;
        let (folder, host) = tree();
        let (encrypted, _) = made(&folder, &["ed25519"], "secret");
        let (rsa, _) = made(&folder, &["rsa", "-b", "2048"], "secret");
        let (open, _) = made(&folder, &["ecdsa", "-b", "256"], "");
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o666)).unwrap();
        for bad in [&encrypted, &rsa, &open, &"/nonexistent/key".to_owned()] {
            assert!(HostKey::find(&[bad], &host).is_err(), "{bad}");
        }
        let (good, _) = made(&folder, &["ecdsa", "-b", "384"], "");
        let text = std::fs::read_to_string(&good).unwrap();
        for broken in ["", "not a key", &text[..200], &text.replace('a', "b")] {
            std::fs::write(&open, broken).unwrap();
            std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o600)).unwrap();
            assert!(HostKey::find(&[&open], &host).is_err(), "{broken}");
        }
    }

    #[test]
    fn an_rsa_key_whose_public_file_is_anothers_is_no_host_key() {
        let (folder, host) = tree();
        let (rsa, _) = made(&folder, &["rsa", "-b", "2048"], "");
        let (_, other) = made(&folder, &["rsa", "-b", "3072"], "");
        assert!(HostKey::find(&[&rsa], &host).is_ok());
        std::fs::write(format!("{rsa}.pub"), format!("{other}\n")).unwrap();
        assert!(HostKey::find(&[&rsa], &host).is_err());
    }

    #[test]
    fn each_kind_signs_requests_only_and_ed25519_is_preferred() {
        let (folder, host) = tree();
        let kinds: [&[&str]; 4] = [
            &["rsa", "-b", "2048"],
            &["ecdsa", "-b", "384"],
            &["ecdsa", "-b", "256"],
            &["ed25519"],
        ];
        let mut files = Vec::new();
        for kind in kinds {
            let (file, public) = made(&folder, kind, "");
            let found = HostKey::find(&[&file], &host).unwrap();
            assert_eq!(found.public, public);
            for message in [b"message".as_slice(), b"", &[7; 5000]] {
                let blob = found.sign_request(message).unwrap();
                assert!(sshsig::verify(Namespace::Request, &public, message, &blob).is_ok());
                assert!(sshsig::verify(Namespace::HostView, &public, message, &blob).is_err());
                assert!(sshsig::verify(Namespace::Request, &public, b"other", &blob).is_err());
            }
            files.push(file);
            let all: Vec<&str> = files.iter().map(String::as_str).collect();
            assert_eq!(HostKey::find(&all, &host).unwrap().public, public);
        }
        let all: Vec<&str> = files.iter().chain(&files).map(String::as_str).collect();
        let all = HostKey::all(&all, &host).unwrap();
        let kinds: Vec<_> = all.iter().map(|key| key.public.algorithm_name()).collect();
        assert_eq!(kinds, KINDS);
    }
}
