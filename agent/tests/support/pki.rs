//! A signer's world for tests: roots, intermediates, signers, staples and records, each of which can
//! be made wrong in one way. Test code only; the private keys live as long as the test process.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use der::asn1::GeneralizedTime;
use der::{Encode as _, asn1::AnyRef};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize, SigningKey as _,
    date_time_ymd,
};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use rustls_pki_types::CertificateDer;
use x509_cert::der::Decode as _;

/// 15 June 2026, noon.
pub(crate) const NOW: u64 = 1_781_524_800;
pub(crate) const INSTANCE: &str = "i-0123456789abcdef0";
pub(crate) const SIGNER: &str = "managed-ssh-signer.us-east-1.amazonaws.com";

/// A CA with its key.
pub(crate) struct Authority {
    params: CertificateParams,
    pub(crate) key: KeyPair,
    pub(crate) der: CertificateDer<'static>,
}

impl Authority {
    pub(crate) fn root(name: &str) -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let params = ca_params(name);
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { params, key, der }
    }

    pub(crate) fn under(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = ca_params(name);
        change(&mut params);
        let der = params
            .signed_by(&key, &Issuer::from_params(&self.params, &self.key))
            .unwrap()
            .der()
            .clone();
        Self { params, key, der }
    }

    pub(crate) fn leaf(
        &self,
        key: &KeyPair,
        change: impl FnOnce(&mut CertificateParams),
    ) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec![SIGNER.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, SIGNER);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2036, 1, 1);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        change(&mut params);
        params
            .signed_by(key, &Issuer::from_params(&self.params, &self.key))
            .unwrap()
            .der()
            .clone()
    }
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2036, 1, 1);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    params
}

/// RSA keys take a second to make: one signer and one stranger for the whole run.
pub(crate) fn signer_key() -> &'static KeyPair {
    static KEY: OnceLock<KeyPair> = OnceLock::new();
    KEY.get_or_init(|| KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap())
}

pub(crate) fn other_rsa_key() -> &'static KeyPair {
    static KEY: OnceLock<KeyPair> = OnceLock::new();
    KEY.get_or_init(|| KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap())
}

/// The usual three: root, intermediate, signer.
pub(crate) struct World {
    pub(crate) root: Authority,
    pub(crate) intermediate: Authority,
    pub(crate) leaf: CertificateDer<'static>,
}

impl World {
    pub(crate) fn new() -> Self {
        let root = Authority::root("Test Root");
        let intermediate = root.under("Test Intermediate", |_| {});
        let leaf = intermediate.leaf(signer_key(), |_| {});
        Self {
            root,
            intermediate,
            leaf,
        }
    }

    pub(crate) fn chain(&self) -> String {
        pem(&[&self.leaf, &self.intermediate.der, &self.root.der])
    }

    /// Good staples for signer and intermediate.
    pub(crate) fn staples(&self) -> Vec<Vec<u8>> {
        vec![
            Staple::new(&self.leaf, &self.intermediate).der(&self.intermediate.key),
            Staple::new(&self.intermediate.der, &self.root).der(&self.root.key),
        ]
    }
}

pub(crate) fn pem(certificates: &[&CertificateDer<'_>]) -> String {
    certificates
        .iter()
        .map(|der| {
            format!(
                "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
                wrapped(der)
            )
        })
        .collect()
}

/// Base64 in lines of 64.
pub(crate) fn wrapped(bytes: &[u8]) -> String {
    let text = STANDARD.encode(bytes);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    lines.join("\n")
}

/// An OCSP response in the making; every field can be made wrong.
pub(crate) struct Staple {
    pub(crate) issuer_name: Vec<u8>,
    issuer_key: Vec<u8>,
    pub(crate) serial: Vec<u8>,
    pub(crate) status: Vec<u8>,
    pub(crate) this_update: u64,
    pub(crate) next_update: Option<u64>,
    pub(crate) sha256_ids: bool,
    pub(crate) responder: Vec<u8>,
    pub(crate) certificates: Vec<CertificateDer<'static>>,
    pub(crate) critical_extension: bool,
    pub(crate) critical_extension_of_all: bool,
    pub(crate) version: Option<u8>,
    pub(crate) outer_status: u8,
    pub(crate) copies: usize,
}

pub(crate) const GOOD: &[u8] = &[0x80, 0x00];
pub(crate) const UNKNOWN: &[u8] = &[0x82, 0x00];

impl Staple {
    pub(crate) fn new(certificate: &CertificateDer<'_>, issuer: &Authority) -> Self {
        let certificate = x509_cert::Certificate::from_der(certificate).unwrap();
        let issuer = x509_cert::Certificate::from_der(&issuer.der).unwrap();
        let issuer = issuer.tbs_certificate();
        let issuer_name = issuer.subject().to_der().unwrap();
        Self {
            responder: tlv(0xa1, &issuer_name),
            issuer_name,
            issuer_key: key_bits(issuer),
            serial: certificate
                .tbs_certificate()
                .serial_number()
                .to_der()
                .unwrap(),
            status: GOOD.to_vec(),
            this_update: NOW - 3600,
            next_update: Some(NOW + 86_400),
            sha256_ids: false,
            certificates: Vec::new(),
            critical_extension: false,
            critical_extension_of_all: false,
            version: None,
            outer_status: 0,
            copies: 1,
        }
    }

    /// `[1]` revoked since an hour ago.
    pub(crate) fn revoked() -> Vec<u8> {
        tlv(0xa1, &time(NOW - 3600))
    }

    /// Signed in the name of a certificate that is sent along.
    pub(crate) fn delegated(mut self, responder: CertificateDer<'static>) -> Self {
        let parsed = x509_cert::Certificate::from_der(&responder).unwrap();
        let hash = digest(
            &SHA1_FOR_LEGACY_USE_ONLY,
            &key_bits(parsed.tbs_certificate()),
        );
        self.responder = tlv(0xa2, &tlv(0x04, hash.as_ref()));
        self.certificates.push(responder);
        self
    }

    pub(crate) fn der(&self, key: &KeyPair) -> Vec<u8> {
        let algorithm = tlv(
            0x30,
            &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02],
        );
        self.der_with(&algorithm, |data| key.sign(data).unwrap())
    }

    pub(crate) fn der_with(
        &self,
        algorithm: &[u8],
        sign: impl FnOnce(&[u8]) -> Vec<u8>,
    ) -> Vec<u8> {
        let data = self.response_data();
        let mut signature = vec![0];
        signature.extend(sign(&data));
        let mut basic = [data.as_slice(), algorithm, &tlv(0x03, &signature)].concat();
        if !self.certificates.is_empty() {
            let all: Vec<u8> = self
                .certificates
                .iter()
                .flat_map(|der| der.to_vec())
                .collect();
            basic.extend(tlv(0xa0, &tlv(0x30, &all)));
        }
        let kind = [
            0x06, 0x09, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01,
        ];
        let bytes = [kind.as_slice(), &tlv(0x04, &tlv(0x30, &basic))].concat();
        let status = tlv(0x0a, &[self.outer_status]);
        tlv(0x30, &[status, tlv(0xa0, &tlv(0x30, &bytes))].concat())
    }

    fn response_data(&self) -> Vec<u8> {
        let version = self
            .version
            .map(|v| tlv(0xa0, &tlv(0x02, &[v])))
            .unwrap_or_default();
        let responses = self.single().repeat(self.copies);
        let parts = [
            version,
            self.responder.clone(),
            time(NOW - 3600),
            tlv(0x30, &responses),
            if self.critical_extension_of_all {
                critical_extension()
            } else {
                Vec::new()
            },
        ];
        tlv(0x30, &parts.concat())
    }

    fn single(&self) -> Vec<u8> {
        let next = self
            .next_update
            .map(|at| tlv(0xa0, &time(at)))
            .unwrap_or_default();
        let extensions = if self.critical_extension {
            critical_extension()
        } else {
            Vec::new()
        };
        tlv(
            0x30,
            &[
                self.certificate_id(),
                self.status.clone(),
                time(self.this_update),
                next,
                extensions,
            ]
            .concat(),
        )
    }

    fn certificate_id(&self) -> Vec<u8> {
        let sha1 = [
            0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00,
        ]
        .as_slice();
        let sha256 = [
            0x30, 0x0b, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01,
        ]
        .as_slice();
        let (oid, algorithm) = if self.sha256_ids {
            (sha256, &SHA256)
        } else {
            (sha1, &SHA1_FOR_LEGACY_USE_ONLY)
        };
        let name = tlv(0x04, digest(algorithm, &self.issuer_name).as_ref());
        let key = tlv(0x04, digest(algorithm, &self.issuer_key).as_ref());
        tlv(
            0x30,
            &[oid.to_vec(), name, key, self.serial.clone()].concat(),
        )
    }
}

/// `[1]` with one extension that must be understood and cannot be.
fn critical_extension() -> Vec<u8> {
    let extension = tlv(
        0x30,
        &[
            0x06, 0x03, 0x2a, 0x03, 0x04, 0x01, 0x01, 0xff, 0x04, 0x02, 0x05, 0x00,
        ],
    );
    tlv(0xa1, &tlv(0x30, &extension))
}

fn key_bits(certificate: &x509_cert::TbsCertificate) -> Vec<u8> {
    let spki = certificate.subject_public_key_info();
    spki.subject_public_key.raw_bytes().to_vec()
}

fn time(unix: u64) -> Vec<u8> {
    GeneralizedTime::from_unix_duration(std::time::Duration::from_secs(unix))
        .unwrap()
        .to_der()
        .unwrap()
}

/// One DER value.
pub(crate) fn tlv(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut der = AnyRef::new(der::Tag::Sequence, contents)
        .unwrap()
        .to_der()
        .unwrap();
    der[0] = tag;
    der
}

pub(crate) fn ed25519_line(seed: u8) -> String {
    let mut w = eic_protocol::wire::Writer::new();
    w.string(b"ssh-ed25519").string(&[seed; 32]);
    format!("ssh-ed25519 {}", STANDARD.encode(w.as_slice()))
}

/// The text that AWS signs, and a signature in front of a blank line.
pub(crate) fn record(headers: &[&str], key_line: &str) -> String {
    let text = unsigned(headers, key_line);
    let signature = sign_pss(signer_key(), text.as_bytes());
    format!("{text}{}\n\n", wrapped(&signature))
}

/// A record as AWS makes them, one minute from expiry.
pub(crate) fn good_record(key_line: &str) -> String {
    let expiry = format!("#Timestamp={}", NOW + 60);
    let instance = format!("#Instance={INSTANCE}");
    record(
        &[
            &expiry,
            &instance,
            "#Caller=arn:aws:iam::123456789012:user/x",
            "#Request=abc-1",
        ],
        key_line,
    )
}

pub(crate) fn unsigned(headers: &[&str], key_line: &str) -> String {
    let mut text: String = headers.iter().map(|header| format!("{header}\n")).collect();
    text.push_str(key_line);
    text.push('\n');
    text
}

pub(crate) fn sign_pss(key: &KeyPair, message: &[u8]) -> Vec<u8> {
    sign_rsa(key, message, &ring::signature::RSA_PSS_SHA256)
}

pub(crate) fn sign_rsa(
    key: &KeyPair,
    message: &[u8],
    padding: &'static dyn ring::signature::RsaEncoding,
) -> Vec<u8> {
    let key = ring::signature::RsaKeyPair::from_pkcs8(&key.serialize_der()).unwrap();
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(
        padding,
        &ring::rand::SystemRandom::new(),
        message,
        &mut signature,
    )
    .unwrap();
    signature
}
