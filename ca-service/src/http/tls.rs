//! The listener's certificate and key, from PEM files.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::server::TlsFiles;

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("serve TLS with `{file}`: {cause}")]
pub struct TlsError {
    file: String,
    cause: String,
}

impl TlsError {
    fn of(file: &Path, cause: impl ToString) -> Self {
        Self {
            file: file.display().to_string(),
            cause: cause.to_string(),
        }
    }
}

/// Whether TLS can be served with these files.
///
/// # Errors
/// [`TlsError`]
pub fn check(files: &TlsFiles) -> Result<(), TlsError> {
    acceptor(files).map(drop)
}

/// An acceptor with these files; TLS 1.2 and 1.3, HTTP/1.1.
pub(super) fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, TlsError> {
    let certificates = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| TlsError::of(&files.key, e))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| TlsError::of(&files.certificate, e))?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(|e| TlsError::of(&files.certificate, e))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file)
        .map_err(|e| TlsError::of(file, e))?
        .collect();
    match read {
        Ok(certificates) if certificates.is_empty() => {
            Err(TlsError::of(file, "no certificate in it"))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(TlsError::of(file, error)),
    }
}
