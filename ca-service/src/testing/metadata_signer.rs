//! AWS's part of an instance identity document: a regional certificate, and signatures in the form of
//! `dynamic/instance-identity/rsa2048` (indefinite lengths, attached content, signed attributes).

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use sha2::{Digest as _, Sha256};

/// Signs for one Region.
pub(crate) struct MetadataSigner {
    key: RsaKeyPair,
    /// The Region's certificate.
    pub(crate) pem: String,
}

/// What a signature may be made otherwise.
#[derive(Clone)]
pub(crate) struct Form {
    pub(crate) attached: Option<Vec<u8>>,
    pub(crate) attributes: bool,
    pub(crate) digest_algorithm: Vec<u8>,
    pub(crate) signature_algorithm: Vec<u8>,
    pub(crate) signers: usize,
    /// In place of the content's digest.
    pub(crate) digest: Option<Vec<u8>>,
}

pub(crate) const SHA_256: &[u8] = b"\x60\x86\x48\x01\x65\x03\x04\x02\x01";
pub(crate) const SHA_1: &[u8] = b"\x2b\x0e\x03\x02\x1a";
pub(crate) const SHA_256_WITH_RSA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b";
pub(crate) const DSA_WITH_SHA_1: &[u8] = b"\x2a\x86\x48\xce\x38\x04\x03";
const DATA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01";
const SIGNED_DATA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02";
const CONTENT_TYPE: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x03";
const MESSAGE_DIGEST: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x04";

impl Form {
    /// As AWS makes it.
    pub(crate) fn of_aws(document: &[u8]) -> Self {
        Self {
            attached: Some(document.to_vec()),
            attributes: true,
            digest_algorithm: SHA_256.to_vec(),
            signature_algorithm: SHA_256_WITH_RSA.to_vec(),
            signers: 1,
            digest: None,
        }
    }
}

impl MetadataSigner {
    /// With a fresh key and a certificate of the years 2020 to 2099.
    pub(crate) fn new() -> Self {
        Self::until(2099)
    }

    pub(crate) fn until(year: i32) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
        let pem = parameters.self_signed(&pair).unwrap().pem();
        let key = RsaKeyPair::from_pkcs8(&pair.serialize_der()).unwrap();
        Self { key, pem }
    }

    /// A signature of `document` as AWS makes it.
    pub(crate) fn sign(&self, document: &[u8]) -> Vec<u8> {
        self.sign_as(document, &Form::of_aws(document))
    }

    pub(crate) fn sign_as(&self, document: &[u8], form: &Form) -> Vec<u8> {
        let digest = form.digest.clone();
        let digest = digest.unwrap_or_else(|| Sha256::digest(document).to_vec());
        let attributes = [
            attribute(CONTENT_TYPE, &tlv(0x06, DATA)),
            attribute(MESSAGE_DIGEST, &tlv(0x04, &digest)),
        ]
        .concat();
        let signed = if form.attributes {
            tlv(0x31, &attributes)
        } else {
            document.to_vec()
        };
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                &signed,
                &mut signature,
            )
            .unwrap();
        let who = tlv(0x30, &[tlv(0x30, b""), tlv(0x02, b"\x01")].concat());
        let mut signer = [tlv(0x02, b"\x01"), who, algorithm(&form.digest_algorithm)].concat();
        if form.attributes {
            signer.extend(tlv(0xa0, &attributes));
        }
        signer.extend(algorithm(&form.signature_algorithm));
        signer.extend(tlv(0x04, &signature));
        let signers = tlv(0x31, &tlv(0x30, &signer).repeat(form.signers));
        let pieces = form.attached.as_ref().map(|content| {
            let (front, back) = content.split_at(content.len() / 2);
            endless(
                0xa0,
                &endless(0x24, &[tlv(0x04, front), tlv(0x04, back)].concat()),
            )
        });
        let content = endless(
            0x30,
            &[tlv(0x06, DATA), pieces.unwrap_or_default()].concat(),
        );
        let algorithms = tlv(0x31, &algorithm(&form.digest_algorithm));
        let data = endless(
            0x30,
            &[tlv(0x02, b"\x01"), algorithms, content, signers].concat(),
        );
        endless(
            0x30,
            &[tlv(0x06, SIGNED_DATA), endless(0xa0, &data)].concat(),
        )
    }
}

fn algorithm(oid: &[u8]) -> Vec<u8> {
    tlv(0x30, &tlv(0x06, oid))
}

fn attribute(oid: &[u8], value: &[u8]) -> Vec<u8> {
    tlv(0x30, &[tlv(0x06, oid), tlv(0x31, value)].concat())
}

/// One element with its length in front.
pub(crate) fn tlv(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = u16::try_from(contents.len()).unwrap().to_be_bytes();
    let mut element = match contents.len() {
        0..128 => vec![tag, length[1]],
        128..256 => vec![tag, 0x81, length[1]],
        _ => vec![tag, 0x82, length[0], length[1]],
    };
    element.extend_from_slice(contents);
    element
}

/// One element of indefinite length.
fn endless(tag: u8, contents: &[u8]) -> Vec<u8> {
    [&[tag, 0x80][..], contents, &[0, 0]].concat()
}
