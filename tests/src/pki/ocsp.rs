//! OCSP responses of RFC 6960, right or wrong in any one respect.

use ring::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use ring::signature::RSA_PKCS1_SHA256;
use x509_cert::der::{Decode, Encode};

use super::tlv::{BITS, ENUMERATED, OCTETS, SEQUENCE, TIME, context, primitive_context, tlv};
use super::{Certificate, DAY, failed};
use crate::error::Result;

/// id-pkix-ocsp-basic, 1.3.6.1.5.5.7.48.1.1.
const BASIC: [u8; 11] = [
    0x06, 0x09, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01,
];
/// AlgorithmIdentifier of sha256WithRSAEncryption, with its NULL.
const RSA_SHA256: [u8; 15] = [
    0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05, 0x00,
];
/// AlgorithmIdentifier of SHA-1.
const ID_SHA1: [u8; 11] = [
    0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00,
];
/// AlgorithmIdentifier of SHA-256.
const ID_SHA256: [u8; 15] = [
    0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00,
];

/// What a response says of the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateStatus {
    /// Not revoked.
    Good,
    /// Revoked at this unix second.
    Revoked(u64),
    /// The responder does not know it.
    Unknown,
}

/// The hash of a certID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashKind {
    /// What every responder uses.
    Sha1,
    /// Allowed.
    Sha256,
}

/// Who signs a response.
#[derive(Clone, Copy, Debug)]
pub enum Responder<'a> {
    /// The certificate's issuer.
    Issuer,
    /// Another certificate, which the response carries.
    Delegated(&'a Certificate),
    /// Another certificate, which the response does not carry.
    Absent(&'a Certificate),
}

/// An OCSP response, before it is signed. Times in unix seconds.
#[derive(Clone, Debug)]
pub struct Staple<'a> {
    /// What it says.
    pub status: CertificateStatus,
    /// From when.
    pub this_update: u64,
    /// Until when, if it says so.
    pub next_update: Option<u64>,
    /// How it names the certificate.
    pub hash: HashKind,
    /// Who signs it.
    pub responder: Responder<'a>,
    /// OCSPResponseStatus: 0 is successful, 6 is unauthorized.
    pub response_status: u8,
}

impl<'a> Staple<'a> {
    /// Good from an hour ago for a day, by the issuer.
    pub fn good(now: u64) -> Staple<'a> {
        Staple {
            status: CertificateStatus::Good,
            this_update: now.saturating_sub(3600),
            next_update: Some(now + DAY),
            hash: HashKind::Sha1,
            responder: Responder::Issuer,
            response_status: 0,
        }
    }

    /// The response in DER, about `subject` that `issuer` issued.
    ///
    /// # Errors
    /// When something cannot be encoded or signed.
    pub fn sign(&self, subject: &Certificate, issuer: &Certificate) -> Result<Vec<u8>> {
        if self.response_status != 0 {
            return Ok(tlv(
                SEQUENCE,
                &[&tlv(ENUMERATED, &[&[self.response_status]])],
            ));
        }
        let (signer, certificates) = match self.responder {
            Responder::Issuer => (issuer, None),
            Responder::Delegated(other) => (other, Some(other.der())),
            Responder::Absent(other) => (other, None),
        };
        let data = self.response_data(subject, issuer, signer)?;
        let signature = signer.sign(&RSA_PKCS1_SHA256, &data)?;
        let certificates = certificates
            .map(|der| tlv(context(0), &[&tlv(SEQUENCE, &[der])]))
            .unwrap_or_default();
        let basic = tlv(
            SEQUENCE,
            &[
                &data,
                &RSA_SHA256,
                &tlv(BITS, &[&[0], &signature]),
                &certificates,
            ],
        );
        let bytes = tlv(SEQUENCE, &[&BASIC, &tlv(OCTETS, &[&basic])]);
        Ok(tlv(
            SEQUENCE,
            &[&tlv(ENUMERATED, &[&[0]]), &tlv(context(0), &[&bytes])],
        ))
    }

    /// ResponseData, with the responder named by its key (RFC 6960 section 4.2.1, byKey: SHA-1 of the key bits).
    fn response_data(
        &self,
        subject: &Certificate,
        issuer: &Certificate,
        signer: &Certificate,
    ) -> Result<Vec<u8>> {
        let responder = tlv(
            context(2),
            &[&tlv(
                OCTETS,
                &[digest(&SHA1_FOR_LEGACY_USE_ONLY, &key_bits(signer)?).as_ref()],
            )],
        );
        let until = self
            .next_update
            .map(|at| Ok(tlv(context(0), &[&time(at)?])))
            .transpose()?
            .unwrap_or_default();
        let single = tlv(
            SEQUENCE,
            &[
                &self.cert_id(subject, issuer)?,
                &self.cert_status()?,
                &time(self.this_update)?,
                &until,
            ],
        );
        Ok(tlv(
            SEQUENCE,
            &[
                &responder,
                &time(self.this_update)?,
                &tlv(SEQUENCE, &[&single]),
            ],
        ))
    }

    fn cert_id(&self, subject: &Certificate, issuer: &Certificate) -> Result<Vec<u8>> {
        let (identifier, hash): (&[u8], &'static Algorithm) = match self.hash {
            HashKind::Sha1 => (&ID_SHA1, &SHA1_FOR_LEGACY_USE_ONLY),
            HashKind::Sha256 => (&ID_SHA256, &SHA256),
        };
        let parsed = parse(subject)?;
        let name = parsed.tbs_certificate().issuer().to_der().map_err(failed)?;
        let serial = parsed
            .tbs_certificate()
            .serial_number()
            .to_der()
            .map_err(failed)?;
        let name_hash = tlv(OCTETS, &[digest(hash, &name).as_ref()]);
        let key_hash = tlv(OCTETS, &[digest(hash, &key_bits(issuer)?).as_ref()]);
        Ok(tlv(SEQUENCE, &[identifier, &name_hash, &key_hash, &serial]))
    }

    fn cert_status(&self) -> Result<Vec<u8>> {
        Ok(match self.status {
            CertificateStatus::Good => tlv(primitive_context(0), &[]),
            CertificateStatus::Revoked(at) => tlv(context(1), &[&time(at)?]),
            CertificateStatus::Unknown => tlv(primitive_context(2), &[]),
        })
    }
}

fn parse(certificate: &Certificate) -> Result<x509_cert::Certificate> {
    x509_cert::Certificate::from_der(certificate.der()).map_err(failed)
}

/// The subjectPublicKey of a certificate without the BIT STRING's header.
fn key_bits(certificate: &Certificate) -> Result<Vec<u8>> {
    let parsed = parse(certificate)?;
    Ok(parsed
        .tbs_certificate()
        .subject_public_key_info()
        .subject_public_key
        .raw_bytes()
        .to_vec())
}

/// GeneralizedTime in the one form that RFC 5280 section 4.1.2.5.2 allows.
fn time(seconds: u64) -> Result<Vec<u8>> {
    let second = i64::try_from(seconds).map_err(failed)?;
    let time = jiff::Timestamp::from_second(second).map_err(failed)?;
    Ok(tlv(
        TIME,
        &[time.strftime("%Y%m%d%H%M%SZ").to_string().as_bytes()],
    ))
}
