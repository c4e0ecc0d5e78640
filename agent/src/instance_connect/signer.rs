//! From the chain that the metadata service hands out to a signer whose records count.
//! The order is in the types: [`Chain`] → [`Path`] (leads to a pinned root, names the right signer)
//! → [`Signer`] (nothing on the path is revoked). Only a [`Signer`] can judge a record.

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use ring::signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_cert::der::oid::db::rfc4519::COMMON_NAME;
use x509_cert::der::{Decode as _, Tagged as _};
use x509_cert::ext::pkix;

use super::ocsp;
use super::place::SignerName;
use super::record::Record;
use super::roots::Roots;
use super::signature::{ALGORITHMS, PublicKey, sequence};

/// The certificates as received: the signer first, then what may lead to a root.
#[derive(Debug)]
pub struct Chain(Vec<CertificateDer<'static>>);

/// Amazon's chains have three or four certificates.
const MAX_CERTIFICATES: usize = 8;

impl Chain {
    /// Reads a PEM chain.
    ///
    /// # Errors
    /// Fewer than two certificates, more than eight, or broken PEM.
    pub fn from_pem(pem: &[u8]) -> Result<Self, UntrustedSigner> {
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
            .take(MAX_CERTIFICATES + 1)
            .collect::<Result<_, _>>()
            .map_err(|_| UntrustedSigner::Pem)?;
        if (2..=MAX_CERTIFICATES).contains(&certificates.len()) {
            Ok(Self(certificates))
        } else {
            Err(UntrustedSigner::Pem)
        }
    }

    /// A chain of certificates in DER form, the signer first.
    ///
    /// # Errors
    /// Fewer than two certificates, or more than eight.
    pub fn from_der(certificates: &[&[u8]]) -> Result<Self, UntrustedSigner> {
        if !(2..=MAX_CERTIFICATES).contains(&certificates.len()) {
            return Err(UntrustedSigner::Pem);
        }
        let owned = certificates.iter().map(|der| der.to_vec().into());
        Ok(Self(owned.collect()))
    }

    /// The common names by which the chain's root may be filed: the last certificate's own and its issuer's.
    #[must_use]
    pub fn root_names(&self) -> Vec<String> {
        let last = self
            .0
            .last()
            .and_then(|der| EndEntityCert::try_from(der).ok());
        let names = last.iter().flat_map(|last| [last.subject(), last.issuer()]);
        names.filter_map(common_name).collect()
    }

    /// The path from the signer to one of `roots` at `now` (unix seconds).
    ///
    /// # Errors
    /// The signer is not `name`, its key is not RSA, or no sound path leads to a root.
    pub fn verify(
        &self,
        roots: &Roots,
        name: &SignerName,
        now: u64,
    ) -> Result<Path, UntrustedSigner> {
        let (first, others) = self.0.split_first().ok_or(UntrustedSigner::Pem)?;
        let signer = EndEntityCert::try_from(first).map_err(UntrustedSigner::Chain)?;
        if !is_named(&signer, name) {
            return Err(UntrustedSigner::Name);
        }
        let anchors = anchors(roots)?;
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now));
        // Amazon's public roots issue TLS certificates; one without that purpose is not a signer's.
        let usage = KeyUsage::server_auth();
        let verified = signer
            .verify_for_usage(ALGORITHMS, &anchors, others, time, usage, None, None)
            .map_err(UntrustedSigner::Chain)?;
        let intermediates: Vec<&webpki::Cert<'_>> = verified.intermediate_certificates().collect();
        Path::assemble(&signer, &intermediates, verified.anchor())
    }
}

fn anchors(roots: &Roots) -> Result<Vec<TrustAnchor<'_>>, UntrustedSigner> {
    roots
        .certificates()
        .iter()
        .map(|root| anchor_from_trusted_cert(root).map_err(UntrustedSigner::Chain))
        .collect()
}

/// Exactly one common name, equal to `name` byte for byte; never a text search.
fn is_named(signer: &webpki::Cert<'_>, name: &SignerName) -> bool {
    common_name(signer.subject()).is_some_and(|only| only.as_bytes() == name.as_bytes())
}

/// The one common name of a DER Name without its header (RFC 4519 §2.3); `None` where there are two.
fn common_name(contents: &[u8]) -> Option<String> {
    let name = sequence(contents).ok()?;
    let name = x509_cert::name::Name::from_der(&name).ok()?;
    let mut found = name.iter().filter(|attribute| attribute.oid == COMMON_NAME);
    let (Some(only), None) = (found.next(), found.next()) else {
        return None;
    };
    let is_text = matches!(
        only.value.tag(),
        der::Tag::Utf8String | der::Tag::PrintableString
    );
    let text = std::str::from_utf8(only.value.value()).ok()?;
    is_text.then(|| text.to_owned())
}

/// A path to a pinned root, each certificate with its issuer; revocation is not known yet.
#[derive(Debug)]
pub struct Path {
    signer: PublicKey,
    links: Vec<Link>,
}

/// One certificate of a path.
#[derive(Debug)]
pub struct Link {
    /// The certificate, as DER.
    pub certificate: CertificateDer<'static>,
    /// Its serial number: the value of the DER INTEGER.
    pub serial: Vec<u8>,
    /// Who signed it.
    pub issuer: Issuer,
}

/// Name and key of a CA on the path.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// The subject, a DER Name.
    pub name: Vec<u8>,
    /// The public key.
    pub key: PublicKey,
    /// The whole SubjectPublicKeyInfo.
    pub spki: Vec<u8>,
}

impl Path {
    fn assemble(
        signer: &webpki::Cert<'_>,
        intermediates: &[&webpki::Cert<'_>],
        anchor: &TrustAnchor<'_>,
    ) -> Result<Self, UntrustedSigner> {
        let key =
            PublicKey::from_der(&signer.subject_public_key_info()).map_err(UntrustedSigner::Der)?;
        if !key.is_rsa() || !may_sign(signer)? {
            return Err(UntrustedSigner::Key);
        }
        let mut links = Vec::with_capacity(intermediates.len() + 1);
        let mut current = signer;
        for issuer in intermediates {
            if !may_issue(issuer)? {
                return Err(UntrustedSigner::Issuer);
            }
            let spki = issuer.subject_public_key_info().to_vec();
            links.push(Link::new(current, Issuer::new(issuer.subject(), spki)?));
            current = issuer;
        }
        let spki = sequence(&anchor.subject_public_key_info).map_err(UntrustedSigner::Der)?;
        links.push(Link::new(current, Issuer::new(&anchor.subject, spki)?));
        Ok(Self { signer: key, links })
    }

    /// The certificates whose revocation must be known, the signer first; the root is pinned instead.
    #[must_use]
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// The signer, once the staple of each link (in the order of [`Self::links`]) says "good" at `now`.
    ///
    /// # Errors
    /// A staple is missing, or does not prove that its certificate is not revoked.
    pub fn unrevoked(self, staples: &[Vec<u8>], now: u64) -> Result<Signer, UntrustedSigner> {
        if staples.len() != self.links.len() {
            return Err(UntrustedSigner::Staples);
        }
        for (link, staple) in self.links.iter().zip(staples) {
            ocsp::check(staple, link, now).map_err(|source| UntrustedSigner::Revocation {
                certificate: link.common_name(),
                source,
            })?;
        }
        Ok(Signer(self.signer))
    }
}

impl Link {
    fn new(certificate: &webpki::Cert<'_>, issuer: Issuer) -> Self {
        Self {
            certificate: certificate.der().into_owned(),
            serial: certificate.serial().to_vec(),
            issuer,
        }
    }

    /// What the certificate is called, for people.
    fn common_name(&self) -> String {
        let parsed = EndEntityCert::try_from(&self.certificate).ok();
        let name = parsed.and_then(|certificate| common_name(certificate.subject()));
        eic_protocol::text::printable(&name.unwrap_or_default())
    }

    /// The name under which the metadata service keeps this certificate's staple: upper-case hex SHA-1.
    /// Computed here, so that no name from the network is ever used.
    #[must_use]
    pub fn staple_name(&self) -> String {
        let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &self.certificate);
        hash.as_ref()
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect()
    }
}

impl Issuer {
    fn new(subject: &[u8], spki: Vec<u8>) -> Result<Self, UntrustedSigner> {
        let name = sequence(subject).map_err(UntrustedSigner::Der)?;
        let key = PublicKey::from_der(&spki).map_err(UntrustedSigner::Der)?;
        Ok(Self { name, key, spki })
    }
}

/// webpki leaves keyUsage to its caller. A CA must have it with keyCertSign (RFC 5280 §4.2.1.3, §6.1.4 n).
fn may_issue(issuer: &webpki::Cert<'_>) -> Result<bool, UntrustedSigner> {
    Ok(key_usage(issuer)?.is_some_and(|usage| usage.key_cert_sign()))
}

/// A signer may go without keyUsage, but not with one that forbids signatures.
fn may_sign(signer: &webpki::Cert<'_>) -> Result<bool, UntrustedSigner> {
    Ok(key_usage(signer)?.is_none_or(|usage| usage.digital_signature()))
}

fn key_usage(certificate: &webpki::Cert<'_>) -> Result<Option<pkix::KeyUsage>, UntrustedSigner> {
    let parsed =
        x509_cert::Certificate::from_der(&certificate.der()).map_err(UntrustedSigner::Der)?;
    let found = parsed
        .tbs_certificate()
        .get_extension::<pkix::KeyUsage>()
        .map_err(UntrustedSigner::Der)?;
    Ok(found.map(|(_critical, usage)| usage))
}

/// A signer that is genuine and not revoked. Only [`Path::unrevoked`] makes one.
#[derive(Debug)]
pub struct Signer(PublicKey);

impl Signer {
    /// Whether this signer signed `record`: RSASSA-PSS, SHA-256, MGF1-SHA-256, salt of exactly 32 bytes.
    #[must_use]
    pub fn has_signed(&self, record: &Record<'_>) -> bool {
        let key = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, self.0.bits());
        key.verify(record.signed(), record.signature()).is_ok()
    }
}

/// Why no record can count.
#[derive(Debug, thiserror::Error)]
pub enum UntrustedSigner {
    /// Not a chain of two to eight certificates.
    #[error("read the signer's chain: expected 2 to {MAX_CERTIFICATES} certificates in PEM form")]
    Pem,
    /// A certificate cannot be read.
    #[error("read the signer's chain")]
    Der(#[source] der::Error),
    /// Another signer than this region's.
    #[error("trust the signer: its certificate is not this region's")]
    Name,
    /// The signer's key is not RSA, or not for signatures.
    #[error("trust the signer: its key is not an RSA key for signatures")]
    Key,
    /// A CA of the path may not issue certificates.
    #[error("trust the signer: an issuer of its chain may not issue certificates")]
    Issuer,
    /// No sound path to a pinned root.
    #[error("trust the signer: its chain does not lead to a pinned root")]
    Chain(#[source] webpki::Error),
    /// Not one staple for each certificate.
    #[error("trust the signer: not every certificate of its chain has a revocation staple")]
    Staples,
    /// A certificate is revoked, or nobody says that it is not.
    #[error("trust the signer: the certificate `{certificate}` of its chain may be revoked")]
    Revocation {
        /// Its common name.
        certificate: String,
        /// What is missing.
        source: ocsp::NotGood,
    },
}

#[cfg(test)]
mod tests;
