//! `session-bind@openssh.com` (OpenSSH PROTOCOL.agent §1): ssh says which host key signed which session,
//! and whether the connection is one that it forwards for somebody else.

use eic_protocol::sshsig::verify_raw;
use eic_protocol::subject_key::SubjectKey;
use eic_protocol::wire::{Reader, Truncated};
use ssh_key::Certificate;

/// Longest session id: an exchange hash has at most 64 bytes.
const MAX_SESSION_ID: usize = 128;

/// A verified binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The host's plain key; a host certificate is reduced to it.
    pub host_key: SubjectKey,
    /// The session that the host key signed.
    pub session_id: Vec<u8>,
}

/// Whether ssh marks the connection as forwarded, as far as the message can be read.
///
/// # Errors
/// [`Truncated`].
pub fn is_forwarding(body: &[u8]) -> Result<bool, Truncated> {
    Ok(parse(body)?.forwarding)
}

/// The binding, once the host key's signature over the session id is checked.
///
/// # Errors
/// [`InvalidBinding`].
pub fn verify(body: &[u8]) -> Result<Binding, InvalidBinding> {
    let parsed = parse(body)?;
    if parsed.session_id.is_empty() || parsed.session_id.len() > MAX_SESSION_ID {
        return Err(InvalidBinding::Malformed);
    }
    let host_key = plain_key(parsed.host_key).ok_or(InvalidBinding::HostKey)?;
    verify_raw(&host_key, parsed.session_id, parsed.signature)
        .map_err(|_| InvalidBinding::Signature)?;
    Ok(Binding {
        host_key,
        session_id: parsed.session_id.to_vec(),
    })
}

/// The plain key of a key blob or of a certificate blob.
#[must_use]
pub fn plain_key(blob: &[u8]) -> Option<SubjectKey> {
    if let Ok(key) = SubjectKey::from_blob(blob) {
        return Some(key);
    }
    let certificate = Certificate::from_bytes(blob).ok()?;
    let line = ssh_key::PublicKey::from(certificate.public_key().clone())
        .to_openssh()
        .ok()?;
    line.parse().ok()
}

struct Parsed<'a> {
    host_key: &'a [u8],
    session_id: &'a [u8],
    signature: &'a [u8],
    forwarding: bool,
}

fn parse(body: &[u8]) -> Result<Parsed<'_>, Truncated> {
    let mut r = Reader::new(body);
    let (host_key, session_id, signature) = (r.string()?, r.string()?, r.string()?);
    let parsed = Parsed {
        host_key,
        session_id,
        signature,
        forwarding: r.byte()? != 0,
    };
    if r.is_at_end() {
        Ok(parsed)
    } else {
        Err(Truncated)
    }
}

/// Not a binding.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBinding {
    /// Not of its form.
    #[error("the session binding is malformed")]
    Malformed,
    /// A key that is not accepted.
    #[error("the session binding names a host key that is not accepted")]
    HostKey,
    /// Not signed by the host key.
    #[error("the session binding is not signed by its host key")]
    Signature,
}

impl From<Truncated> for InvalidBinding {
    fn from(_: Truncated) -> Self {
        Self::Malformed
    }
}
