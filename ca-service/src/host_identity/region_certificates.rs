//! AWS's public certificates for instance identity documents: one file for each Region, put there by an
//! operator from AWS's page ("AWS public certificates", the RSA-2048 ones). None is built in: what this
//! build would have to trust for ever, an operator can check and replace.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use eic_protocol::aws_region::AwsRegion;
use x509_cert::Certificate;

use super::ber::{INTEGER, Reader, SEQUENCE};

/// Ending of the files' names.
const ENDING: &str = ".pem";
/// Largest file. Bytes; a certificate has about 1,200.
const MAX_FILE: u64 = 64 * 1024;
/// Most certificates of one Region: the present and the next.
const MAX_CERTIFICATES: usize = 4;
/// Shortest modulus. Bytes. (The certificates of the `signature` endpoint have 1,024 bits, those of `pkcs7` are DSA.)
const MIN_MODULUS: usize = 256;
/// rsaEncryption (RFC 8017 appendix C), as encoded.
const RSA: &str = "1.2.840.113549.1.1.1";

/// Keys by Region.
#[derive(Clone, Debug, Default)]
pub struct RegionCertificates(HashMap<AwsRegion, Vec<Pinned>>);

#[derive(Clone, Debug)]
struct Pinned {
    /// RSAPublicKey of PKCS #1, in DER.
    key: Vec<u8>,
    /// Unix seconds.
    not_before: u64,
    /// Unix seconds.
    not_after: u64,
}

impl RegionCertificates {
    /// Reads every `<region>.pem` of a folder.
    ///
    /// # Errors
    /// [`CertificateError`]: one bad file refuses the folder.
    pub fn load(folder: &Path) -> Result<Self, CertificateError> {
        let unreadable = |path: &Path, cause: std::io::Error| CertificateError::Read {
            path: path.to_owned(),
            cause: cause.to_string(),
        };
        let entries = std::fs::read_dir(folder).map_err(|e| unreadable(folder, e))?;
        let mut all = Self::default();
        for entry in entries {
            let path = entry.map_err(|e| unreadable(folder, e))?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(region) = name.and_then(|name| name.strip_suffix(ENDING)) else {
                continue;
            };
            let region = region
                .parse()
                .map_err(|_| CertificateError::Name(path.clone()))?;
            all.0.insert(region, read_file(&path)?);
        }
        if all.0.is_empty() {
            return Err(CertificateError::Empty(folder.to_owned()));
        }
        Ok(all)
    }

    /// One Region's certificates, from PEM text.
    ///
    /// # Errors
    /// What is wrong with them, in words.
    pub fn add(&mut self, region: AwsRegion, pem: &[u8]) -> Result<(), &'static str> {
        self.0.insert(region, read_pem(pem)?);
        Ok(())
    }

    /// The Regions that have one.
    pub fn regions(&self) -> impl Iterator<Item = AwsRegion> {
        self.0.keys().copied()
    }

    /// The Region's keys that are good at `now` (Unix seconds).
    #[must_use]
    pub fn keys(&self, region: AwsRegion, now: u64) -> Vec<Vec<u8>> {
        let pinned = self.0.get(&region).map(Vec::as_slice).unwrap_or_default();
        let good = pinned
            .iter()
            .filter(|pinned| (pinned.not_before..pinned.not_after).contains(&now));
        good.map(|pinned| pinned.key.clone()).collect()
    }
}

fn read_file(path: &Path) -> Result<Vec<Pinned>, CertificateError> {
    let unreadable = |cause: String| CertificateError::Read {
        path: path.to_owned(),
        cause,
    };
    let size = std::fs::metadata(path).map_err(|e| unreadable(e.to_string()))?;
    if size.len() > MAX_FILE {
        return Err(unreadable(format!("it is larger than {MAX_FILE} bytes")));
    }
    let pem = std::fs::read(path).map_err(|e| unreadable(e.to_string()))?;
    read_pem(&pem).map_err(|flaw| CertificateError::Certificate {
        path: path.to_owned(),
        flaw,
    })
}

fn read_pem(pem: &[u8]) -> Result<Vec<Pinned>, &'static str> {
    let chain = Certificate::load_pem_chain(pem).map_err(|_| "it is not a PEM certificate")?;
    if !(1..=MAX_CERTIFICATES).contains(&chain.len()) {
        return Err("it holds no certificate, or more than four");
    }
    chain.iter().map(pin).collect()
}

fn pin(certificate: &Certificate) -> Result<Pinned, &'static str> {
    let info = certificate.tbs_certificate().subject_public_key_info();
    if info.algorithm.oid.to_string() != RSA {
        return Err(
            "its key is not RSA; take the RSA-2048 certificate, not the one for DSA signatures",
        );
    }
    let key = info
        .subject_public_key
        .as_bytes()
        .ok_or("its key is malformed")?;
    if modulus_len(key).ok_or("its key is malformed")? < MIN_MODULUS {
        return Err("its key has less than 2048 bits; take the RSA-2048 certificate");
    }
    let validity = certificate.tbs_certificate().validity();
    Ok(Pinned {
        key: key.to_vec(),
        not_before: validity.not_before.to_unix_duration().as_secs(),
        not_after: validity.not_after.to_unix_duration().as_secs(),
    })
}

fn modulus_len(key: &[u8]) -> Option<usize> {
    let mut outer = Reader::new(key);
    let mut sequence = outer.inside(SEQUENCE).ok()?;
    let modulus = sequence.expect(INTEGER).ok()?.value;
    Some(modulus.strip_prefix(&[0]).unwrap_or(modulus).len())
}

/// Why certificates were not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not readable.
    #[error("read AWS's certificates at `{path}`: {cause}")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// The name is not a Region's.
    #[error(
        "use `{0}`: name each file for its Region, as in `eu-west-1.pem`; this build knows no such Region"
    )]
    Name(PathBuf),
    /// No file.
    #[error("use `{0}`: it holds no `<region>.pem`; copy AWS's RSA-2048 certificates there")]
    Empty(PathBuf),
    /// Not the certificate that is needed.
    #[error("use `{path}`: {flaw}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        flaw: &'static str,
    },
}

#[cfg(test)]
mod tests;
