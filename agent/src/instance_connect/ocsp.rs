//! Stapled revocation answers (OCSP, RFC 6960): a certificate counts only while its issuer, or a
//! responder that the issuer appointed, says "good". No requests, no nonces, no caching.

use der::asn1::{AnyRef, BitStringRef, GeneralizedTime, OctetStringRef};
use der::oid::ObjectIdentifier;
use der::{Decode as _, Encode as _, Sequence, Tag, TagNumber, Tagged as _};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage};
use x509_cert::ext::Extensions;

use super::signature::{ALGORITHMS, PublicKey, sequence};
use super::signer::{Issuer, Link};

/// How far our clock and the responder's may differ, in seconds (the official agent's tolerance).
const TOLERANCE: u64 = 300;

/// Certificates in an answer that are looked at as responders; honest answers carry one.
const MAX_RESPONDERS: usize = 4;

/// Checks that `staple` (DER) says that `link`'s certificate is good at `now` (unix seconds).
///
/// # Errors
/// [`NotGood`] names the first thing that is missing.
pub fn check(staple: &[u8], link: &Link, now: u64) -> Result<(), NotGood> {
    let basic_der = successful(staple)?;
    let basic = BasicResponse::from_der(basic_der)?;
    let data_der = basic.data.to_der()?;
    let data = ResponseData::from_der(&data_der)?;
    let signed = Signed {
        data: &data_der,
        algorithm: basic.algorithm.value(),
        signature: whole_bytes(&basic.signature)?,
    };
    if !is_authentic(&signed, &basic, data.responder, &link.issuer, now) {
        return Err(NotGood::Signature);
    }
    if data.version.is_some_and(|version| version != 0) || has_critical(data.extensions.as_ref()) {
        return Err(NotGood::Unknown);
    }
    only_answer(&data.responses, link)?.check(now)
}

/// OCSPResponse (§4.2.1).
#[derive(Sequence)]
struct OcspResponse<'a> {
    status: AnyRef<'a>,
    #[asn1(context_specific = "0", optional = "true", tag_mode = "EXPLICIT")]
    bytes: Option<ResponseBytes<'a>>,
}

/// ResponseBytes (§4.2.1).
#[derive(Sequence)]
struct ResponseBytes<'a> {
    kind: ObjectIdentifier,
    response: &'a OctetStringRef,
}

/// BasicOCSPResponse (§4.2.1); `data` stays as it is, since it is what was signed.
#[derive(Sequence)]
struct BasicResponse<'a> {
    data: AnyRef<'a>,
    algorithm: AnyRef<'a>,
    signature: BitStringRef<'a>,
    #[asn1(context_specific = "0", optional = "true", tag_mode = "EXPLICIT")]
    certificates: Option<Vec<AnyRef<'a>>>,
}

/// ResponseData (§4.2.1).
#[derive(Sequence)]
struct ResponseData<'a> {
    #[asn1(context_specific = "0", optional = "true", tag_mode = "EXPLICIT")]
    version: Option<u8>,
    responder: AnyRef<'a>,
    _produced: GeneralizedTime,
    responses: Vec<SingleResponse<'a>>,
    #[asn1(context_specific = "1", optional = "true", tag_mode = "EXPLICIT")]
    extensions: Option<Extensions>,
}

/// SingleResponse (§4.2.1).
#[derive(Sequence)]
struct SingleResponse<'a> {
    certificate: CertId<'a>,
    status: AnyRef<'a>,
    this_update: GeneralizedTime,
    #[asn1(context_specific = "0", optional = "true", tag_mode = "EXPLICIT")]
    next_update: Option<GeneralizedTime>,
    #[asn1(context_specific = "1", optional = "true", tag_mode = "EXPLICIT")]
    extensions: Option<Extensions>,
}

/// CertID (§4.1.1).
#[derive(Sequence)]
struct CertId<'a> {
    hash: spki::AlgorithmIdentifierRef<'a>,
    issuer_name_hash: &'a OctetStringRef,
    issuer_key_hash: &'a OctetStringRef,
    serial: AnyRef<'a>,
}

/// id-pkix-ocsp-basic (§4.2.1).
const OCSP_BASIC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.1");
const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
const SHA_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
/// id-kp-OCSPSigning, 1.3.6.1.5.5.7.3.9, as the contents of a DER OBJECT IDENTIFIER (§4.2.2.2).
const OCSP_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 9];

/// The basic response inside a successful answer.
fn successful(staple: &[u8]) -> Result<&[u8], NotGood> {
    let outer = OcspResponse::from_der(staple)?;
    let successful = outer.status.tag() == Tag::Enumerated && outer.status.value() == [0];
    let bytes = outer
        .bytes
        .filter(|bytes| successful && bytes.kind == OCSP_BASIC);
    Ok(bytes.ok_or(NotGood::Unsuccessful)?.response.as_bytes())
}

fn whole_bytes<'a>(bits: &BitStringRef<'a>) -> Result<&'a [u8], NotGood> {
    bits.as_bytes()
        .ok_or_else(|| NotGood::Der(Tag::BitString.value_error().into()))
}

struct Signed<'a> {
    data: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl Signed<'_> {
    fn is_by(&self, key: &PublicKey) -> bool {
        key.has_signed(self.data, self.algorithm, self.signature)
    }
}

/// §4.2.2.2: signed by the CA that issued the certificate, or by a responder that this CA itself certified for it.
fn is_authentic(
    signed: &Signed<'_>,
    basic: &BasicResponse<'_>,
    responder: AnyRef<'_>,
    issuer: &Issuer,
    now: u64,
) -> bool {
    if names(responder, &issuer.name, &issuer.key) && signed.is_by(&issuer.key) {
        return true;
    }
    let certificates = basic.certificates.iter().flatten().take(MAX_RESPONDERS);
    certificates.filter_map(|any| any.to_der().ok()).any(|der| {
        let key = delegated_key(&der, responder, issuer, now);
        key.is_some_and(|key| signed.is_by(&key))
    })
}

/// The key of a responder certificate that `responder` names and `issuer` signed for OCSP.
fn delegated_key(
    der: &[u8],
    responder: AnyRef<'_>,
    issuer: &Issuer,
    now: u64,
) -> Option<PublicKey> {
    let der = CertificateDer::from(der);
    let certificate = EndEntityCert::try_from(&der).ok()?;
    let key = PublicKey::from_der(&certificate.subject_public_key_info()).ok()?;
    if !names(responder, &sequence(certificate.subject()).ok()?, &key) {
        return None;
    }
    // The issuer as the only anchor and no intermediates: the responder must be certified by it directly.
    let anchors = [issuer_anchor(issuer)?];
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now));
    let purpose = KeyUsage::required(OCSP_SIGNING);
    certificate
        .verify_for_usage(ALGORITHMS, &anchors, &[], time, purpose, None, None)
        .ok()?;
    Some(key)
}

fn issuer_anchor(issuer: &Issuer) -> Option<TrustAnchor<'_>> {
    let contents = |der| AnyRef::from_der(der).ok().map(AnyRef::value);
    Some(TrustAnchor {
        subject: contents(&issuer.name)?.into(),
        subject_public_key_info: contents(&issuer.spki)?.into(),
        name_constraints: None,
    })
}

/// ResponderID: `[1] Name` or `[2] OCTET STRING` with the SHA-1 of the key (§4.2.1).
fn names(responder: AnyRef<'_>, name: &[u8], key: &PublicKey) -> bool {
    match responder.tag() {
        Tag::ContextSpecific {
            constructed: true,
            number: TagNumber(1),
        } => responder.value() == name,
        Tag::ContextSpecific {
            constructed: true,
            number: TagNumber(2),
        } => {
            let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, key.bits());
            <&OctetStringRef>::from_der(responder.value())
                .is_ok_and(|stated| stated.as_bytes() == hash.as_ref())
        }
        _ => false,
    }
}

/// The one answer about the link's certificate; two that differ would let the first one lie.
fn only_answer<'r, 'a>(
    responses: &'r [SingleResponse<'a>],
    link: &Link,
) -> Result<&'r SingleResponse<'a>, NotGood> {
    let mut about = responses
        .iter()
        .filter(|response| response.certificate.is(link));
    match (about.next(), about.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(NotGood::OtherCertificate),
    }
}

impl CertId<'_> {
    fn is(&self, link: &Link) -> bool {
        let algorithm = match self.hash.oid {
            SHA1 => &SHA1_FOR_LEGACY_USE_ONLY,
            SHA_256 => &SHA256,
            _ => return false,
        };
        let hashes_to = |stated: &OctetStringRef, of: &[u8]| {
            stated.as_bytes() == digest(algorithm, of).as_ref()
        };
        self.serial.tag() == Tag::Integer
            && self.serial.value() == link.serial
            && hashes_to(self.issuer_name_hash, &link.issuer.name)
            && hashes_to(self.issuer_key_hash, link.issuer.key.bits())
    }
}

impl SingleResponse<'_> {
    fn check(&self, now: u64) -> Result<(), NotGood> {
        if has_critical(self.extensions.as_ref()) {
            return Err(NotGood::Unknown);
        }
        // CertStatus: good is [0] IMPLICIT NULL; revoked [1] and unknown [2] are not.
        let good = Tag::ContextSpecific {
            constructed: false,
            number: TagNumber(0),
        };
        if self.status.tag() != good || !self.status.value().is_empty() {
            return Err(NotGood::Revoked);
        }
        let next = self.next_update.as_ref().ok_or(NotGood::NoEnd)?;
        let began = seconds(&self.this_update) <= now.saturating_add(TOLERANCE);
        let ended = seconds(next).saturating_add(TOLERANCE) < now;
        if began && !ended {
            Ok(())
        } else {
            Err(NotGood::Stale)
        }
    }
}

fn seconds(time: &GeneralizedTime) -> u64 {
    time.to_unix_duration().as_secs()
}

/// An extension that must be understood is one that we do not (§4.4).
fn has_critical(extensions: Option<&Extensions>) -> bool {
    extensions.is_some_and(|list| list.iter().any(|extension| extension.critical))
}

/// Why a certificate does not count as good.
#[derive(Debug, thiserror::Error)]
pub enum NotGood {
    /// Not an OCSP response.
    #[error("read a revocation staple")]
    Der(#[from] der::Error),
    /// The responder had no answer.
    #[error("use a revocation staple: the responder gave no answer")]
    Unsuccessful,
    /// Signed by nobody who may.
    #[error("use a revocation staple: neither the issuer nor a responder of the issuer signed it")]
    Signature,
    /// A version or critical extension that is not known.
    #[error("use a revocation staple: it uses something that must be understood and is not")]
    Unknown,
    /// It does not speak about this certificate exactly once.
    #[error("use a revocation staple: it is about another certificate")]
    OtherCertificate,
    /// Revoked, or the responder does not know the certificate.
    #[error("use a revocation staple: the certificate is revoked or unknown")]
    Revoked,
    /// Without nextUpdate an old "good" would count for ever.
    #[error("use a revocation staple: it does not say until when it holds")]
    NoEnd,
    /// Not yet or no longer valid.
    #[error("use a revocation staple: it is not current")]
    Stale,
}

#[cfg(test)]
mod tests;
