//! The certificates that a signer's chain may end in.

use ring::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// Amazon's public roots, from `roots/` (see the README there).
const AMAZON: &[&str] = &[
    include_str!("roots/amazon-root-ca-1.pem"),
    include_str!("roots/amazon-root-ca-2.pem"),
    include_str!("roots/amazon-root-ca-3.pem"),
    include_str!("roots/amazon-root-ca-4.pem"),
    include_str!("roots/starfield-services-root-g2.pem"),
];

/// Where the roots come from. Amazon's are read only once a key is active: most questions end before that.
#[derive(Clone, Debug)]
pub enum RootsSource {
    /// The roots that were built in.
    Amazon,
    /// Roots that the configuration names.
    Given(Roots),
}

impl RootsSource {
    /// The roots.
    ///
    /// # Errors
    /// Never for the files that were built in (a test reads them).
    pub fn load(&self) -> Result<Roots, InvalidRoots> {
        match self {
            Self::Amazon => Roots::amazon(),
            Self::Given(roots) => Ok(roots.clone()),
        }
    }
}

/// Trusted roots; never empty.
#[derive(Clone, Debug)]
pub struct Roots(Vec<CertificateDer<'static>>);

/// More roots than any partition has.
const MAX_ROOTS: usize = 64;
/// Distributions ship about 140.
const MAX_BUNDLE: usize = 1024;

impl Roots {
    /// The roots that AWS's public partitions use.
    ///
    /// # Errors
    /// Never for the files that were built in (a test reads them).
    pub fn amazon() -> Result<Self, InvalidRoots> {
        Self::from_pem(AMAZON.concat().as_bytes())
    }

    /// Roots from a PEM file, instead of Amazon's.
    ///
    /// # Errors
    /// There is no certificate in it, or something that is none.
    pub fn from_pem(pem: &[u8]) -> Result<Self, InvalidRoots> {
        let roots: Vec<_> = CertificateDer::pem_slice_iter(pem)
            .take(MAX_ROOTS)
            .collect::<Result<_, _>>()
            .map_err(|_| InvalidRoots)?;
        let readable = roots
            .iter()
            .all(|root| webpki::anchor_from_trusted_cert(root).is_ok());
        if readable && !roots.is_empty() {
            Ok(Self(roots))
        } else {
            Err(InvalidRoots)
        }
    }

    /// The roots of a system's bundle, which may hold certificates that webpki does not take: those are left out.
    ///
    /// # Errors
    /// Nothing usable in it.
    pub fn from_bundle(pem: &[u8]) -> Result<Self, InvalidRoots> {
        let roots: Vec<_> = CertificateDer::pem_slice_iter(pem)
            .take(MAX_BUNDLE)
            .flatten()
            .filter(|root| webpki::anchor_from_trusted_cert(root).is_ok())
            .collect();
        if roots.is_empty() {
            Err(InvalidRoots)
        } else {
            Ok(Self(roots))
        }
    }

    /// The certificates.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.0
    }

    /// SHA-256 of each certificate, for display.
    #[must_use]
    pub fn fingerprints(&self) -> Vec<Vec<u8>> {
        self.0
            .iter()
            .map(|root| digest(&SHA256, root).as_ref().to_vec())
            .collect()
    }
}

/// The file holds no usable roots.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("read the roots: expected one or more certificates in PEM form")]
pub struct InvalidRoots;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_without_certificates_are_refused() {
        for bad in [
            "",
            "hello",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\n",
        ] {
            assert!(Roots::from_pem(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_embedded_roots_are_amazons() {
        let shown: Vec<String> = Roots::amazon()
            .unwrap()
            .fingerprints()
            .iter()
            .map(|hash| hash.iter().map(|byte| format!("{byte:02x}")).collect())
            .collect();
        assert_eq!(
            shown,
            [
                "8ecde6884f3d87b1125ba31ac3fcb13d7016de7f57cc904fe1cb97c6ae98196e",
                "1ba5b2aa8c65401a82960118f80bec4f62304d83cec4713a19c39c011ea46db4",
                "18ce6cfe7bf14e60b2e347b8dfe868cb31d02ebb3ada271569f50343b46db3a4",
                "e35d28419ed02025cfa69038cd623962458da5c695fbdea3c22b0bfb25897092",
                "568d6905a2c88708a4b3025190edcfedb1974a606a13c6e5290fcb2ae63edab5",
            ]
        );
    }
}
