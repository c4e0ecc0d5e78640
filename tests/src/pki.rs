//! A public-key infrastructure in the shape of Instance Connect's signer: root, intermediate, signer, OCSP responses
//! and signed key records. Every part can be made wrong on purpose.
//!
//! It depends on nothing else of the lab. It makes; it verifies nothing.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256, SerialNumber,
};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use ring::signature::{RSA_PSS_SHA256, RsaKeyPair};

use crate::error::{Result, unexpected};

mod ocsp;
#[cfg(test)]
mod tests;
mod tlv;

pub use ocsp::{CertificateStatus, HashKind, Responder, Staple};

/// A day in seconds.
const DAY: u64 = 86_400;

/// From when to when something is valid, in unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// First second.
    pub from: u64,
    /// Last second.
    pub to: u64,
}

impl Period {
    /// From a day before `now` until `days` after it.
    pub fn around(now: u64, days: u64) -> Period {
        Period {
            from: now.saturating_sub(DAY),
            to: now + days * DAY,
        }
    }

    /// Over for a day.
    pub fn past(now: u64) -> Period {
        Period {
            from: now.saturating_sub(30 * DAY),
            to: now.saturating_sub(DAY),
        }
    }
}

/// What a certificate shall say.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Its common names; a right certificate has one.
    pub common_names: Vec<String>,
    /// When it is valid.
    pub period: Period,
    /// What it is for.
    pub role: Role,
    /// DNS names and addresses of a server.
    pub alternative_names: Vec<String>,
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It issues certificates.
    Authority,
    /// It signs key records. AWS's real extended key usage is not published; TLS server is what ACM gives.
    Signer,
    /// It signs OCSP responses for its issuer (RFC 6960 section 4.2.2.2).
    OcspResponder,
    /// None of the former: an end entity without any extended key usage.
    Plain,
}

impl Subject {
    /// A certificate authority.
    pub fn authority(name: &str, period: Period) -> Subject {
        Subject {
            common_names: vec![name.into()],
            period,
            role: Role::Authority,
            alternative_names: Vec::new(),
        }
    }

    /// The signer that agents of a region expect.
    pub fn signer(region: &str, domain: &str, period: Period) -> Subject {
        Subject {
            common_names: vec![format!("managed-ssh-signer.{region}.{domain}")],
            period,
            role: Role::Signer,
            alternative_names: Vec::new(),
        }
    }

    /// An HTTPS server that is reached by these names and addresses.
    pub fn server(names: &[&str], period: Period) -> Subject {
        Subject {
            common_names: names
                .first()
                .map(|name| (*name).to_owned())
                .into_iter()
                .collect(),
            period,
            role: Role::Signer,
            alternative_names: names.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    fn params(&self) -> Result<CertificateParams> {
        let mut params = CertificateParams::new(self.alternative_names.clone()).map_err(failed)?;
        params.distinguished_name = self.distinguished_name();
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + Duration::from_secs(self.period.from);
        params.not_after = epoch + Duration::from_secs(self.period.to);
        params.serial_number = Some(random_serial()?);
        params.use_authority_key_identifier_extension = true;
        self.apply_role(&mut params);
        Ok(params)
    }

    /// Common names by two spellings of the same object identifier, so that rcgen writes all of them.
    fn distinguished_name(&self) -> DistinguishedName {
        let mut name = DistinguishedName::new();
        let spellings = [DnType::CommonName, DnType::CustomDnType(vec![2, 5, 4, 3])];
        for (spelling, common_name) in spellings.into_iter().zip(&self.common_names) {
            name.push(spelling, common_name.as_str());
        }
        name
    }

    fn apply_role(&self, params: &mut CertificateParams) {
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        match self.role {
            Role::Authority => {
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                params.key_usages = vec![
                    KeyUsagePurpose::KeyCertSign,
                    KeyUsagePurpose::CrlSign,
                    KeyUsagePurpose::DigitalSignature,
                ];
            }
            Role::Signer => params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
            Role::OcspResponder => {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning]
            }
            Role::Plain => {}
        }
    }
}

/// A certificate with its private key (RSA-2048, as the real ones).
pub struct Certificate {
    params: CertificateParams,
    key: KeyPair,
    der: Vec<u8>,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Certificate({})", self.fingerprint())
    }
}

impl Certificate {
    /// A certificate that signs itself.
    ///
    /// # Errors
    /// When a key cannot be made or something cannot be encoded.
    pub fn self_signed(subject: &Subject) -> Result<Certificate> {
        let (params, key) = (subject.params()?, new_key()?);
        let der = params.self_signed(&key).map_err(failed)?.der().to_vec();
        Ok(Certificate { params, key, der })
    }

    /// A certificate that this one issues.
    ///
    /// # Errors
    /// When a key cannot be made or something cannot be encoded.
    pub fn issue(&self, subject: &Subject) -> Result<Certificate> {
        let (params, key) = (subject.params()?, new_key()?);
        let issuer = Issuer::from_params(&self.params, &self.key);
        let der = params
            .signed_by(&key, &issuer)
            .map_err(failed)?
            .der()
            .to_vec();
        Ok(Certificate { params, key, der })
    }

    /// The certificate in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The certificate in PEM.
    pub fn pem(&self) -> String {
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode(&self.der);
        let lines: Vec<&str> = text
            .as_bytes()
            .chunks(64)
            .filter_map(|line| std::str::from_utf8(line).ok())
            .collect();
        format!(
            "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
            lines.join("\n")
        )
    }

    /// The private key as PKCS#8 in PEM.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// Upper-case hexadecimal SHA-1 of the DER: the name of its staple in instance metadata.
    pub fn fingerprint(&self) -> String {
        hex::encode_upper(digest(&SHA1_FOR_LEGACY_USE_ONLY, &self.der).as_ref())
    }

    /// RSASSA-PSS with SHA-256, MGF1-SHA-256 and a salt of 32 bytes.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub fn sign_pss(&self, message: &[u8]) -> Result<Vec<u8>> {
        self.sign(&RSA_PSS_SHA256, message)
    }

    /// A signature in any of ring's RSA forms.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub fn sign(
        &self,
        form: &'static dyn ring::signature::RsaEncoding,
        message: &[u8],
    ) -> Result<Vec<u8>> {
        let key = RsaKeyPair::from_pkcs8(self.key.serialized_der()).map_err(failed)?;
        let mut signature = vec![0; key.public().modulus_len()];
        key.sign(
            form,
            &ring::rand::SystemRandom::new(),
            message,
            &mut signature,
        )
        .map_err(failed)?;
        Ok(signature)
    }
}

/// Root, intermediate and signer of one region, as instance metadata hands them out.
#[derive(Debug)]
pub struct SignerChain {
    /// The trust anchor: the only one to put into an agent's `roots`.
    pub root: Certificate,
    /// Issued by the root.
    pub intermediate: Certificate,
    /// Signs key records.
    pub signer: Certificate,
}

impl SignerChain {
    /// A right chain for a region at `now`.
    ///
    /// # Errors
    /// When keys cannot be made.
    pub fn right(region: &str, domain: &str, now: u64) -> Result<SignerChain> {
        SignerChain::with_signer(
            &Subject::signer(region, domain, Period::around(now, 90)),
            now,
        )
    }

    /// A chain whose signer says something else.
    ///
    /// # Errors
    /// When keys cannot be made.
    pub fn with_signer(signer: &Subject, now: u64) -> Result<SignerChain> {
        let root = Certificate::self_signed(&Subject::authority(
            "Lab Root CA 1",
            Period::around(now, 3650),
        ))?;
        let intermediate = root.issue(&Subject::authority(
            "Lab RSA 2048 M01",
            Period::around(now, 1000),
        ))?;
        let signer = intermediate.issue(signer)?;
        Ok(SignerChain {
            root,
            intermediate,
            signer,
        })
    }

    /// What `signer-cert/` answers: signer first, root last.
    pub fn pem(&self) -> String {
        [&self.signer, &self.intermediate, &self.root]
            .map(Certificate::pem)
            .concat()
    }

    /// The right staples at `now`, by name: for each certificate but the root, good, by its issuer, for a day.
    ///
    /// # Errors
    /// When they cannot be signed.
    pub fn staples(&self, now: u64) -> Result<Vec<(String, Vec<u8>)>> {
        let pairs = [
            (&self.signer, &self.intermediate),
            (&self.intermediate, &self.root),
        ];
        pairs
            .into_iter()
            .map(|(subject, issuer)| {
                Ok((
                    subject.fingerprint(),
                    Staple::good(now).sign(subject, issuer)?,
                ))
            })
            .collect()
    }
}

/// One key record, before it is signed.
#[derive(Clone, Debug)]
pub struct Record {
    /// The header lines without `#`, in order: `Timestamp=…` and so on.
    pub headers: Vec<String>,
    /// The public key line.
    pub key: String,
}

impl Record {
    /// As Instance Connect writes it; `expires` in unix seconds.
    pub fn new(key: &str, instance_id: &str, expires: u64) -> Record {
        let headers = vec![
            format!("Timestamp={expires}"),
            format!("Instance={instance_id}"),
        ];
        Record {
            headers,
            key: key.trim_end().to_owned(),
        }
    }

    /// Adds who asked, and by which request.
    #[must_use]
    pub fn asked_by(mut self, caller: &str, request_id: &str) -> Record {
        self.headers
            .extend([format!("Caller={caller}"), format!("Request={request_id}")]);
        self
    }

    /// What is signed: every `#` line and the key line, each ended by a newline.
    pub fn signed_bytes(&self) -> String {
        let headers: String = self
            .headers
            .iter()
            .map(|header| format!("#{header}\n"))
            .collect();
        format!("{headers}{}\n", self.key)
    }

    /// The record with its signature and the blank line after it.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn signed(&self, signer: &Certificate) -> Result<String> {
        let signature = signer.sign_pss(self.signed_bytes().as_bytes())?;
        Ok(self.with_signature(&signature))
    }

    /// The record with any bytes as its signature, 76 characters a line.
    pub fn with_signature(&self, signature: &[u8]) -> String {
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode(signature);
        let lines: Vec<&str> = text
            .as_bytes()
            .chunks(76)
            .filter_map(|line| std::str::from_utf8(line).ok())
            .collect();
        format!("{}{}\n\n", self.signed_bytes(), lines.join("\n"))
    }
}

fn new_key() -> Result<KeyPair> {
    KeyPair::generate_for(&PKCS_RSA_SHA256).map_err(failed)
}

fn random_serial() -> Result<SerialNumber> {
    let mut random = [0u8; 16];
    getrandom::fill(&mut random).map_err(failed)?;
    random[0] = random[0] & 0x3f | 0x40; // positive, and no leading zero that DER would drop
    Ok(SerialNumber::from(random.to_vec()))
}

fn failed(cause: impl std::fmt::Display) -> crate::error::Error {
    unexpected("make a test certificate", cause)
}
