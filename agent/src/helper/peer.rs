//! Who is at the other end of the helper's socket: the kernel's word (SO_PEERCRED, unix(7)), never the peer's.

use std::os::unix::net::UnixStream;

use crate::passwd::Account;

/// Whom a door is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Served<'a> {
    /// The account's name.
    pub(super) user: &'a str,
    /// Where in `[service]` it is set.
    pub(super) setting: &'static str,
}

/// Checks that the peer is root, or the account of `accounts` that is served.
///
/// # Errors
/// [`Stranger`].
pub(super) fn check(
    stream: &UnixStream,
    served: Served<'_>,
    accounts: &[Account],
) -> Result<(), Stranger> {
    let peer =
        rustix::net::sockopt::socket_peercred(stream).map_err(|e| Stranger::Unknown(e.into()))?;
    let uid = peer.uid.as_raw();
    if uid == 0 || uid_of(served.user, accounts) == Some(uid) {
        Ok(())
    } else {
        Err(Stranger::Uid {
            uid,
            user: eic_protocol::text::printable(served.user),
            setting: served.setting,
        })
    }
}

/// The account's uid; uid 0 under another name is none.
fn uid_of(user: &str, accounts: &[Account]) -> Option<u32> {
    let named = accounts.iter().find(|account| account.name == user);
    named.map(|account| account.uid).filter(|uid| *uid != 0)
}

/// Why a peer is not served.
#[derive(Debug, thiserror::Error)]
pub enum Stranger {
    /// Not a Unix socket.
    #[error("know who asks: standard input must be the helper's socket")]
    Unknown(#[source] std::io::Error),
    /// Another account.
    #[error(
        "serve uid {uid}: only root and `{user}` are served (`[service] {setting}` in /etc/eic/agent.toml; after a change there run `eic-agent install` again)"
    )]
    Uid {
        /// Its number.
        uid: u32,
        /// Whom this door is for.
        user: String,
        /// Where that is set.
        setting: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str, uid: u32) -> Account {
        Account {
            name: name.to_owned(),
            uid,
            gid: 7,
            home: "/".into(),
        }
    }

    #[test]
    fn accounts_that_do_not_exist_or_are_root_have_no_uid() {
        let accounts = [account("root", 0), account("eic", 990), account("toor", 0)];
        for name in ["none", "toor", "root", ""] {
            assert_eq!(uid_of(name, &accounts), None, "{name}");
        }
        assert_eq!(uid_of("eic", &accounts), Some(990));
    }

    #[test]
    fn the_kernels_word_decides() {
        let own = rustix::process::geteuid().as_raw();
        let accounts = [account("eic", own.wrapping_add(1)), account("me", own)];
        let (a, _b) = UnixStream::pair().unwrap();
        let served = |user| {
            let setting = "user";
            check(&a, Served { user, setting }, &accounts)
        };
        assert!(served("me").is_ok());
        assert_eq!(served("eic").is_ok(), own == 0);
    }
}
