//! Who is at the other end of the helper's socket: the kernel's word (SO_PEERCRED, unix(7)), never the peer's.

use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::trusted_file::{Trusted, UntrustedFile};

/// Checks that the peer is root, or the account `user` of the password file.
///
/// # Errors
/// [`Stranger`].
pub(super) fn check(
    stream: &UnixStream,
    user: &str,
    passwd: &Path,
    trusted: &Trusted,
) -> Result<(), Stranger> {
    let peer =
        rustix::net::sockopt::socket_peercred(stream).map_err(|e| Stranger::Unknown(e.into()))?;
    let uid = peer.uid.as_raw();
    if uid == 0 || uid_of(user, passwd, trusted)? == Some(uid) {
        Ok(())
    } else {
        let user = eic_protocol::text::printable(user);
        Err(Stranger::Uid { uid, user })
    }
}

/// The account's uid; uid 0 under another name is none.
fn uid_of(user: &str, passwd: &Path, trusted: &Trusted) -> Result<Option<u32>, UntrustedFile> {
    let accounts = crate::passwd::read(passwd, trusted)?;
    let named = accounts.into_iter().find(|account| account.name == user);
    Ok(named.map(|account| account.uid).filter(|uid| *uid != 0))
}

/// Why a peer is not served.
#[derive(Debug, thiserror::Error)]
pub enum Stranger {
    /// Not a Unix socket.
    #[error("know who asks: standard input must be the helper's socket")]
    Unknown(#[source] std::io::Error),
    /// Another account.
    #[error("serve uid {uid}: only root and `{user}` are served")]
    Uid {
        /// Its number.
        uid: u32,
        /// Whom this door is for.
        user: String,
    },
    /// The password file.
    #[error(transparent)]
    File(#[from] UntrustedFile),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passwd(text: &str) -> (tempfile::TempDir, std::path::PathBuf, Trusted) {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        let path = top.join("passwd");
        std::fs::write(&path, text).unwrap();
        let trusted = Trusted::under(&top, rustix::process::geteuid().as_raw());
        (folder, path, trusted)
    }

    #[test]
    fn accounts_that_do_not_exist_or_are_root_have_no_uid() {
        let (_folder, path, trusted) = passwd("root:x:0:0\neic:x:990:990\ntoor:x:0:0\nbad:x:q\n");
        for name in ["none", "toor", "root", "bad", ""] {
            assert_eq!(uid_of(name, &path, &trusted).unwrap(), None, "{name}");
        }
        assert_eq!(uid_of("eic", &path, &trusted).unwrap(), Some(990));
    }

    #[test]
    fn the_kernels_word_decides() {
        let own = rustix::process::geteuid().as_raw();
        let (_folder, path, trusted) = passwd(&format!("eic:x:{}:1\n", own.wrapping_add(1)));
        let (a, _b) = UnixStream::pair().unwrap();
        let outcome = check(&a, "eic", &path, &trusted);
        assert_eq!(outcome.is_ok(), own == 0);
    }
}
