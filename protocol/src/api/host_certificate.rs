//! `POST /v1/certificates/host`: a host asks for certificates of its own keys, with evidence of who it is.
//! Each host key signs the request, so that nobody gets a certificate for a key that he does not hold.
//! Whether the evidence holds is the CA's business; its form is checked here.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::base64_text::Base64Bytes;
use crate::grant::Nonce;
use crate::instance_id::InstanceId;
use crate::proof::{Audience, CanonicalRequest, Fields, Route, Signed};
use crate::request_id::RequestId;
use crate::serial::Serial;
use crate::sshsig::{self, InvalidSignature, Namespace};
use crate::subject_key::SubjectKey;
use crate::text::printable;
use crate::validity::Validity;

pub mod console;
pub mod evidence;

pub use evidence::HostEvidence;

/// Most host keys of one request; OpenSSH has four types.
pub const MAX_HOST_KEYS: usize = 4;
/// Largest request body. Bytes.
pub const MAX_REQUEST: usize = 64 * 1024;

/// Asks for host certificates.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostCertificateRequest {
    /// Protocol version that the agent speaks.
    pub protocol: u32,
    /// Who the host says it is; the evidence must say the same.
    pub instance: InstanceId,
    /// When the request was made, in Unix seconds.
    pub time: u64,
    /// Makes two requests of one second different.
    pub nonce: Nonce,
    /// The keys to be certified.
    #[serde(deserialize_with = "few")]
    pub host_keys: Vec<HostKeyProof>,
    /// The key that the host is enrolled with, where it is not among `host_keys` any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_key: Option<HostKeyProof>,
    /// What the CA asked to be written to the console, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge: Option<Nonce>,
    /// Who the host is.
    pub evidence: HostEvidence,
}

/// To read an RSA key is to test it, which takes its time: what is too many is not read.
fn few<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<HostKeyProof>, D::Error> {
    struct Few;
    impl<'de> Visitor<'de> for Few {
        type Value = Vec<HostKeyProof>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MAX_HOST_KEYS} host keys")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut keys = Vec::new();
            while keys.len() < MAX_HOST_KEYS {
                match list.next_element()? {
                    Some(key) => keys.push(key),
                    None => return Ok(keys),
                }
            }
            match list.next_element::<IgnoredAny>()? {
                Some(_) => Err(A::Error::invalid_length(MAX_HOST_KEYS + 1, &self)),
                None => Ok(keys),
            }
        }
    }
    input.deserialize_seq(Few)
}

/// A host key with the proof that the host holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostKeyProof {
    /// The public key.
    pub public_key: SubjectKey,
    /// SSHSIG by it over the canonical request (namespace `eic-request-v1`).
    pub signature: Base64Bytes,
}

/// The part of a [`HostCertificateRequest`] that is signed: all but the signatures themselves.
#[derive(Clone, Copy, Debug)]
pub struct HostCertificateBinding<'a> {
    /// [`HostCertificateRequest::protocol`]
    pub protocol: u32,
    /// [`HostCertificateRequest::instance`]
    pub instance: &'a InstanceId,
    /// [`HostCertificateRequest::time`]
    pub time: u64,
    /// [`HostCertificateRequest::nonce`]
    pub nonce: &'a Nonce,
    /// The keys to be certified.
    pub host_keys: &'a [SubjectKey],
    /// The key that the host was enrolled with.
    pub previous_key: Option<&'a SubjectKey>,
    /// [`HostCertificateRequest::challenge`]
    pub challenge: Option<&'a Nonce>,
    /// What of the evidence is signed.
    pub evidence: evidence::Bound<'a>,
}

impl Signed for HostCertificateBinding<'_> {
    const ROUTE: Route = Route::HostCertificates;

    fn fields(&self, fields: &mut Fields) {
        fields
            .required(self.protocol.to_be_bytes())
            .required(self.instance.as_str())
            .required(self.time.to_be_bytes())
            .required(self.nonce.as_bytes())
            .list(self.host_keys.iter().map(SubjectKey::blob))
            .optional(self.previous_key.map(SubjectKey::blob))
            .optional(self.challenge.map(Nonce::as_bytes));
        self.evidence.fields(fields);
    }
}

impl HostCertificateRequest {
    /// Reads a request: bounded, strict.
    ///
    /// # Errors
    /// [`InvalidHostRequest`] says what is wrong.
    pub fn parse(body: &[u8]) -> Result<Self, InvalidHostRequest> {
        if body.len() > MAX_REQUEST {
            return Err(InvalidHostRequest::TooLarge);
        }
        let request: Self = serde_json::from_slice(body)
            .map_err(|flaw| InvalidHostRequest::Form(printable(&flaw.to_string())))?;
        request.check()?;
        Ok(request)
    }

    /// Whether the keys can be certified together.
    ///
    /// # Errors
    /// [`InvalidHostRequest`] for none, too many, two of the same type, or one in a FIDO device.
    pub fn check(&self) -> Result<(), InvalidHostRequest> {
        let keys = self.host_keys.iter().map(|proof| &proof.public_key);
        if keys.clone().any(SubjectKey::is_fido) {
            return Err(InvalidHostRequest::Keys);
        }
        // sshd loads one certificate for each type of host key.
        let types: BTreeSet<_> = keys.map(SubjectKey::algorithm_name).collect();
        let count = self.host_keys.len();
        if (1..=MAX_HOST_KEYS).contains(&count) && types.len() == count {
            Ok(())
        } else {
            Err(InvalidHostRequest::Keys)
        }
    }

    /// The canonical request: what each host key signs, and whose digest a proof of the role carries.
    #[must_use]
    pub fn canonical(&self, audience: &Audience) -> CanonicalRequest {
        CanonicalRequest::of(audience, &self.binding(&self.keys()))
    }

    /// Checks that every key in the request signed it for this audience.
    ///
    /// # Errors
    /// [`InvalidSignature`] of the first that did not.
    pub fn check_possession(&self, audience: &Audience) -> Result<(), InvalidSignature> {
        self.check_signatures(&self.canonical(audience))
    }

    pub(super) fn keys(&self) -> Vec<SubjectKey> {
        let keys = self.host_keys.iter();
        keys.map(|proof| proof.public_key.clone()).collect()
    }

    /// All but the signatures; `keys` are those of [`Self::keys`].
    pub(super) fn binding<'a>(&'a self, keys: &'a [SubjectKey]) -> HostCertificateBinding<'a> {
        HostCertificateBinding {
            protocol: self.protocol,
            instance: &self.instance,
            time: self.time,
            nonce: &self.nonce,
            host_keys: keys,
            previous_key: self.previous_key.as_ref().map(|proof| &proof.public_key),
            challenge: self.challenge.as_ref(),
            evidence: self.evidence.bound(),
        }
    }

    pub(super) fn check_signatures(
        &self,
        canonical: &CanonicalRequest,
    ) -> Result<(), InvalidSignature> {
        let proofs = self.host_keys.iter().chain(&self.previous_key);
        for proof in proofs {
            sshsig::verify(
                Namespace::Request,
                &proof.public_key,
                canonical.as_slice(),
                proof.signature.as_slice(),
            )?;
        }
        Ok(())
    }
}

/// Not a request for host certificates.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHostRequest {
    /// Over 64 KiB.
    #[error("the request is larger than {MAX_REQUEST} bytes")]
    TooLarge,
    /// Not JSON of the form.
    #[error("the request is malformed: {0}")]
    Form(String),
    /// Keys that do not go together.
    #[error("name 1 to {MAX_HOST_KEYS} host keys, one of each type, none of them a security key's")]
    Keys,
}

/// The answer, one member named for its kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostCertificateResponse {
    /// The certificates.
    Issued {
        /// One for each key.
        certificates: Vec<IssuedHostCertificate>,
        /// When to ask again, in Unix seconds.
        renew_after: u64,
        /// The CA's clock, in Unix seconds.
        server_time: u64,
        /// The request's id, as in key ids and audit.
        request_id: RequestId,
    },
    /// First enrolment: write [`console::line`] to the serial console and ask again with the challenge.
    WriteToConsole {
        /// To be written.
        challenge: Nonce,
        /// Until when it counts, in Unix seconds.
        expires_at: u64,
        /// The request's id, as in the audit.
        request_id: RequestId,
    },
    /// First enrolment, or a new key: an operator must approve; ask again later.
    AwaitingApproval {
        /// What the operator approves.
        enrolment: RequestId,
        /// When to ask again, in Unix seconds.
        retry_after: u64,
        /// The request's id, as in the audit.
        request_id: RequestId,
    },
}

/// A host certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedHostCertificate {
    /// One OpenSSH line, `…-cert-v01@openssh.com base64`.
    pub certificate: String,
    /// Its serial.
    pub serial: Serial,
    /// When it is good.
    pub validity: Validity,
}
