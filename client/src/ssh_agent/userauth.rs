//! What ssh has signed to log in (RFC 4252 §7, and OpenSSH PROTOCOL §"publickey-hostbound").
//! Parsed completely: data that is not exactly such a request is never signed (H-19).

use eic_protocol::subject_key::SubjectKey;
use eic_protocol::wire::{Reader, Truncated};

use super::session_bind::plain_key;
use crate::key::SignatureHash;

const USERAUTH_REQUEST: u8 = 50;

/// A publickey authentication request.
#[derive(Debug, PartialEq, Eq)]
pub struct UserauthRequest<'a> {
    /// The session that it is for.
    pub session_id: &'a [u8],
    /// The account.
    pub user: &'a [u8],
    /// The key or certificate that it offers.
    pub blob: &'a [u8],
    /// What the signature algorithm that it names hashes with.
    pub hash: SignatureHash,
    /// The host key that it is bound to (`publickey-hostbound-v00@openssh.com`).
    pub host_key: Option<SubjectKey>,
}

impl<'a> UserauthRequest<'a> {
    /// Parses the data of a sign request.
    ///
    /// # Errors
    /// [`NotALogin`] for anything else: another message, service or method, a query, trailing bytes.
    pub fn parse(data: &'a [u8]) -> Result<Self, NotALogin> {
        let mut r = Reader::new(data);
        let session_id = r.string()?;
        if session_id.is_empty() || r.byte()? != USERAUTH_REQUEST {
            return Err(NotALogin);
        }
        let (user, service, method) = (r.string()?, r.string()?, r.string()?);
        let has_signature = r.byte()? == 1;
        let (algorithm, blob) = (r.string()?, r.string()?);
        let host_key = match method {
            b"publickey" => None,
            b"publickey-hostbound-v00@openssh.com" => {
                Some(plain_key(r.string()?).ok_or(NotALogin)?)
            }
            _ => return Err(NotALogin),
        };
        let hash = hash_of(algorithm, Reader::new(blob).string()?).ok_or(NotALogin)?;
        if service == b"ssh-connection" && has_signature && r.is_at_end() {
            Ok(Self {
                session_id,
                user,
                blob,
                hash,
                host_key,
            })
        } else {
            Err(NotALogin)
        }
    }
}

/// The algorithm must be the one of the key's type; RSA has two, and never the SHA-1 one of its own name.
fn hash_of(algorithm: &[u8], key_type: &[u8]) -> Option<SignatureHash> {
    match (key_type, algorithm) {
        (b"ssh-rsa", b"rsa-sha2-256") => Some(SignatureHash::RsaSha256),
        (b"ssh-rsa", b"rsa-sha2-512") => Some(SignatureHash::RsaSha512),
        (b"ssh-rsa-cert-v01@openssh.com", b"rsa-sha2-256-cert-v01@openssh.com") => {
            Some(SignatureHash::RsaSha256)
        }
        (b"ssh-rsa-cert-v01@openssh.com", b"rsa-sha2-512-cert-v01@openssh.com") => {
            Some(SignatureHash::RsaSha512)
        }
        (b"ssh-rsa" | b"ssh-rsa-cert-v01@openssh.com", _) => None,
        (key_type, algorithm) => (key_type == algorithm).then_some(SignatureHash::OfKey),
    }
}

/// The data is not a publickey authentication request.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("only a publickey login is signed here")]
pub struct NotALogin;

impl From<Truncated> for NotALogin {
    fn from(_: Truncated) -> Self {
        Self
    }
}
