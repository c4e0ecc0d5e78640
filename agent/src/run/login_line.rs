//! sshd's "Accepted …" message (auth.c, auth2-pubkey.c; the same from 7.4 to 10.x), as far as a login is
//! told by it. The message alone: whether sshd wrote it is `login_log`'s question.

/// A login that sshd let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// `publickey`, `password`, `keyboard-interactive/pam`, …
    pub method: String,
    /// The account.
    pub user: String,
    /// The peer's address.
    pub source: String,
    /// The peer's port.
    pub port: u16,
    /// The key's SHA-256 fingerprint, for `publickey`.
    pub key: Option<String>,
    /// What the certificate said, if it was one.
    pub certificate: Option<Certificate>,
}

/// A certificate as sshd names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The key id: what the CA, whichever it was, wrote.
    pub key_id: String,
    /// The serial; 0 where the CA gave none.
    pub serial: u64,
    /// The CA key's fingerprint.
    pub ca: String,
}

/// A session that is over, as sshd's own process of it says; with its peer where sshd's unprivileged half says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Account, address and port.
    pub peer: Option<(String, String, u16)>,
}

/// How messages begin that end a session once somebody was let in (packet.c, serverloop.c, pam_unix(8)).
const ENDS: [&str; 6] = [
    "Disconnected from ",
    "Received disconnect from ",
    "Connection closed by ",
    "Connection reset by ",
    "Timeout, client not responding from ",
    "pam_unix(sshd:session): session closed ",
];

impl Left {
    /// Reads a message of sshd's; `None` for any other.
    #[must_use]
    pub fn parse(message: &str) -> Option<Self> {
        let rest = ENDS.iter().find_map(|start| message.strip_prefix(start))?;
        (!rest.ends_with("[preauth]")).then(|| Self { peer: peer(rest) })
    }
}

/// `user alice 10.0.0.7 port 50210`
fn peer(text: &str) -> Option<(String, String, u16)> {
    let words: Vec<&str> = text.split(' ').collect();
    let ["user", user, source, "port", port] = words.as_slice() else {
        return None;
    };
    Some(((*user).to_owned(), (*source).to_owned(), port.parse().ok()?))
}

/// Longest text about a key that is looked at, in bytes: a key id of 10.x may have 200,000.
const MAX_KEY: usize = 4096;

impl Accepted {
    /// Reads a message of sshd's; `None` for any other. A login whose key it does not tell in a form that is known
    /// here is a login all the same: sshd cuts long messages, and whoever chose a long key id must not stay unseen.
    #[must_use]
    pub fn parse(message: &str) -> Option<Self> {
        let (method, rest) = message.strip_prefix("Accepted ")?.split_once(" for ")?;
        let (user, rest) = rest.split_once(" from ")?;
        let (source, rest) = rest.split_once(" port ")?;
        let (port, rest) = rest.split_once(" ssh2")?;
        let plain = |text: &str| !text.is_empty() && !text.contains(' ');
        if ![method, user, source].into_iter().all(plain) {
            return None;
        }
        let told = rest.strip_prefix(": ").filter(|key| key.len() <= MAX_KEY);
        let (key, certificate) = told.and_then(parse_key).unwrap_or_default();
        Some(Self {
            method: method.to_owned(),
            user: user.to_owned(),
            source: source.to_owned(),
            port: port.parse().ok()?,
            key,
            certificate,
        })
    }
}

/// `TYPE SHA256:…` or `TYPE-CERT SHA256:… ID key-id (serial n) CA TYPE SHA256:…`.
fn parse_key(text: &str) -> Option<(Option<String>, Option<Certificate>)> {
    let mut words = text.splitn(3, ' ');
    let (_kind, fingerprint) = (words.next()?, words.next()?);
    let certificate = match words.next() {
        None => None,
        Some(rest) => Some(parse_certificate(rest)?),
    };
    fingerprint
        .starts_with("SHA256:")
        .then(|| (Some(fingerprint.to_owned()), certificate))
}

/// From the end: the key id is the CA's text, and some other CA's may look like anything.
fn parse_certificate(text: &str) -> Option<Certificate> {
    let (rest, ca) = text.strip_prefix("ID ")?.rsplit_once(' ')?;
    let (rest, _kind) = rest.rsplit_once(" CA ")?;
    let (key_id, serial) = rest.strip_suffix(')')?.rsplit_once(" (serial ")?;
    Some(Certificate {
        key_id: key_id.to_owned(),
        serial: serial.parse().ok()?,
        ca: ca.strip_prefix("SHA256:").map(|_| ca.to_owned())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: &str = "Accepted publickey for alice from 10.0.0.7 port 50210 ssh2: ED25519-CERT SHA256:aaa ID eic:alice:0123 (serial 5031) CA ECDSA SHA256:bbb";

    #[test]
    fn other_messages_are_no_logins() {
        for line in [
            "",
            "Accepted",
            "Failed publickey for alice from 10.0.0.7 port 50210 ssh2",
            "Accepted publickey for alice from 10.0.0.7 port x ssh2",
            "Accepted publickey for al ice from 10.0.0.7 port 1 ssh2",
        ] {
            assert_eq!(Accepted::parse(line), None, "{line}");
        }
    }

    #[test]
    fn a_login_whose_key_is_told_in_another_form_is_a_login_without_one() {
        let start = "Accepted publickey for alice from 10.0.0.7 port 1 ssh2";
        let long = CERTIFICATE.replace("alice:0123", &"x".repeat(5000));
        let cut = &long[..1000];
        for line in [
            &format!("{start}: ED25519 MD5:00"),
            &format!("{start}: ED25519-CERT SHA256:a ID x (serial q) CA RSA SHA256:b"),
            &format!("{start} and more"),
            &long,
            cut,
        ] {
            let login = Accepted::parse(line).unwrap();
            assert_eq!(
                (login.user.as_str(), login.method.as_str()),
                ("alice", "publickey")
            );
            assert_eq!((login.key, login.certificate), (None, None), "{line}");
        }
    }

    #[test]
    fn a_foreign_key_id_cannot_pose_as_another_certificate() {
        let evil = "x (serial 7) CA RSA SHA256:ours";
        let line = CERTIFICATE.replace("eic:alice:0123", evil);
        let certificate = Accepted::parse(&line).unwrap().certificate.unwrap();
        assert_eq!(
            (certificate.serial, certificate.ca.as_str()),
            (5031, "SHA256:bbb")
        );
        assert_eq!(certificate.key_id, evil);
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_messages_never_panic(tail in ".{0,200}") {
            let _ = Accepted::parse(&format!("Accepted {tail}"));
            let _ = Accepted::parse(&format!("Accepted publickey for a from b port 1 ssh2: {tail}"));
            let _ = Accepted::parse(&format!("{CERTIFICATE}{tail}"));
        }
    }

    #[test]
    fn ends_of_sessions_are_read_and_those_before_a_login_are_not() {
        for other in [
            "Connection closed by authenticating user root 10.0.0.7 port 9 [preauth]",
            "Disconnected from invalid user x 10.0.0.7 port 9 [preauth]",
            "pam_unix(sshd:session): session opened for user alice(uid=1) by (uid=0)",
            "Closing session 1 for alice",
        ] {
            assert_eq!(Left::parse(other), None, "{other}");
        }
        let peer = Some(("alice".to_owned(), "10.0.0.7".to_owned(), 50210));
        for (message, peer) in [
            (
                "Disconnected from user alice 10.0.0.7 port 50210",
                peer.clone(),
            ),
            ("Connection closed by user alice 10.0.0.7 port 50210", peer),
            (
                "Received disconnect from 10.0.0.7 port 9:11: user a b port 1",
                None,
            ),
            (
                "pam_unix(sshd:session): session closed for user alice",
                None,
            ),
        ] {
            assert_eq!(Left::parse(message), Some(Left { peer }), "{message}");
        }
    }

    #[test]
    fn certificates_keys_and_passwords_are_read() {
        let login = Accepted::parse(CERTIFICATE).unwrap();
        assert_eq!((login.user.as_str(), login.port), ("alice", 50210));
        assert_eq!(login.key.as_deref(), Some("SHA256:aaa"));
        assert_eq!(login.certificate.unwrap().key_id, "eic:alice:0123");
        let key = "Accepted publickey for root from 2001:db8::1 port 2 ssh2: RSA SHA256:ccc";
        let login = Accepted::parse(key).unwrap();
        assert_eq!(
            (login.source.as_str(), login.certificate),
            ("2001:db8::1", None)
        );
        let password = "Accepted keyboard-interactive/pam for bob from 10.0.0.8 port 3 ssh2";
        let login = Accepted::parse(password).unwrap();
        assert_eq!(
            (login.method.as_str(), login.key),
            ("keyboard-interactive/pam", None)
        );
    }
}
