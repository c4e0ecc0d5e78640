//! What a client makes of a certificate that it was given: it must be just what was asked for.
//! The CA is not trusted blindly (design rule 21), and neither is a host.

use std::collections::BTreeSet;

use ssh_key::Certificate;
use ssh_key::certificate::CertType;

use super::lint::SelfChecked;
use super::options::{Extension, ForceCommand, SourceAddresses};
use crate::instance_id::InstanceId;
use crate::principal::Principal;
use crate::serial::Serial;
use crate::subject_key::{CaKey, SubjectKey};
use crate::validity::{MAX_BACKDATE, MAX_HOST_TTL};

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// Our public key.
    pub public_key: &'a SubjectKey,
    /// The only principal.
    pub principal: &'a Principal,
    /// The longest lifetime that was asked for, in seconds.
    pub max_ttl: u64,
    /// The forced command.
    pub force_command: Option<&'a ForceCommand>,
    /// The source addresses.
    pub source_addresses: Option<&'a SourceAddresses>,
    /// The extensions; none: the defaults.
    pub extensions: Option<&'a BTreeSet<Extension>>,
}

/// Checks a user certificate against the request. `now` is in Unix seconds.
///
/// # Errors
/// [`Mismatch`] names the field that differs.
pub fn user_certificate(
    line: &str,
    asked: &Asked<'_>,
    cas: &[CaKey],
    now: u64,
) -> Result<Certificate, Mismatch> {
    let certificate = Certificate::from_openssh(line).map_err(|_| Mismatch::Unreadable)?;
    signed_by(&certificate, CertType::User, cas, now)?;
    let wanted = vec![asked.principal.to_string()];
    let longest = asked.max_ttl.saturating_add(MAX_BACKDATE);
    let lifetime = certificate
        .valid_before()
        .saturating_sub(certificate.valid_after());
    let checks = [
        (
            "public key",
            certificate.public_key() == asked.public_key.key_data(),
        ),
        ("principals", certificate.valid_principals() == wanted),
        ("serial", certificate.serial() != 0),
        (
            "lifetime",
            lifetime <= longest && certificate.valid_before() <= now.saturating_add(longest),
        ),
        (
            "critical options",
            critical_options(&certificate) == wanted_options(asked),
        ),
        (
            "extensions",
            extensions(&certificate) == wanted_extensions(asked),
        ),
    ];
    match checks.iter().find(|(_, holds)| !holds) {
        Some((field, _)) => Err(Mismatch::Field(field)),
        None => Ok(certificate),
    }
}

/// `verify-required` may be added by the CA for FIDO keys; all else must be as asked.
fn critical_options(certificate: &Certificate) -> Vec<(String, String)> {
    let options = certificate.critical_options().iter();
    options
        .filter(|(name, _)| name.as_str() != "verify-required")
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn wanted_options(asked: &Asked<'_>) -> Vec<(String, String)> {
    let command = asked
        .force_command
        .map(|c| ("force-command".to_owned(), c.as_str().to_owned()));
    let source = asked
        .source_addresses
        .map(|s| ("source-address".to_owned(), s.to_string()));
    command.into_iter().chain(source).collect()
}

fn extensions(certificate: &Certificate) -> BTreeSet<String> {
    certificate.extensions().keys().cloned().collect()
}

fn wanted_extensions(asked: &Asked<'_>) -> BTreeSet<String> {
    let wanted = asked
        .extensions
        .cloned()
        .unwrap_or_else(Extension::defaults);
    wanted.into_iter().map(|e| e.as_str().to_owned()).collect()
}

/// Checks a host certificate: by a pinned host CA, for just this instance, good now.
/// Returns the host's plain key.
///
/// # Errors
/// [`Mismatch`] names what does not hold; a critical option counts, since ssh refuses it too.
pub fn host_certificate(
    blob: &[u8],
    instance: &InstanceId,
    cas: &[CaKey],
    now: u64,
) -> Result<SubjectKey, Mismatch> {
    let certificate = Certificate::from_bytes(blob).map_err(|_| Mismatch::Unreadable)?;
    signed_by(&certificate, CertType::Host, cas, now)?;
    if certificate.valid_principals() != [instance.to_string()] {
        return Err(Mismatch::Field("principals"));
    }
    if !certificate.critical_options().is_empty() {
        return Err(Mismatch::Field("critical options"));
    }
    let plain = ssh_encoding::Encode::encode_vec(certificate.public_key())
        .map_err(|_| Mismatch::Unreadable)?;
    SubjectKey::from_blob(&plain).map_err(|_| Mismatch::Field("public key"))
}

/// Checks a host certificate that the host asked for itself, before sshd gets it: as
/// [`host_certificate`], for just this key, of the profile (no extension, a serial that can be revoked,
/// at most 24 hours).
///
/// # Errors
/// [`Mismatch`] names what does not hold.
pub fn own_host_certificate(
    line: &str,
    public_key: &SubjectKey,
    instance: &InstanceId,
    cas: &[CaKey],
    now: u64,
) -> Result<Certificate, Mismatch> {
    let certificate = Certificate::from_openssh(line).map_err(|_| Mismatch::Unreadable)?;
    let blob = certificate.to_bytes().map_err(|_| Mismatch::Unreadable)?;
    let key = host_certificate(&blob, instance, cas, now)?;
    let end = certificate.valid_before();
    let lifetime = end.saturating_sub(certificate.valid_after());
    let longest = MAX_HOST_TTL.saturating_add(MAX_BACKDATE);
    let checks = [
        ("public key", key == *public_key),
        ("serial", Serial::new(certificate.serial()).is_some()),
        ("extensions", certificate.extensions().is_empty()),
        ("lifetime", lifetime <= longest),
    ];
    match checks.iter().find(|(_, holds)| !holds) {
        Some((field, _)) => Err(Mismatch::Field(field)),
        None => Ok(certificate),
    }
}

fn signed_by(
    certificate: &Certificate,
    kind: CertType,
    cas: &[CaKey],
    now: u64,
) -> Result<(), Mismatch> {
    let ca = cas
        .iter()
        .find(|ca| ca.key().key_data() == certificate.signature_key());
    let ca = ca.ok_or(Mismatch::Field("signature key"))?;
    let algorithm = certificate.signature().algorithm().to_string();
    if !ca.signature_algorithms().contains(&algorithm.as_str()) {
        return Err(Mismatch::Field("signature algorithm"));
    }
    if certificate.cert_type() != kind {
        return Err(Mismatch::Field("type"));
    }
    if !(certificate.valid_after() <= now && now < certificate.valid_before()) {
        return Err(Mismatch::Expired {
            after: certificate.valid_after(),
            before: certificate.valid_before(),
            now,
        });
    }
    certificate
        .verify_signature()
        .map_err(|_| Mismatch::Field("signature"))
}

impl SelfChecked {
    /// The serial as the certificate holds it.
    #[must_use]
    pub fn serial(&self) -> u64 {
        self.certificate().serial()
    }
}

/// Why a certificate is not used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Not a certificate.
    #[error("the certificate cannot be parsed")]
    Unreadable,
    /// A field differs from what was asked for or pinned.
    #[error("the certificate's {0} is not what was asked for")]
    Field(&'static str),
    /// Not good now.
    #[error(
        "the certificate is good from {after} to {before} (Unix seconds), now is {now}: is the clock right?"
    )]
    Expired {
        /// First second.
        after: u64,
        /// First second after its end.
        before: u64,
        /// The clock here.
        now: u64,
    },
}
