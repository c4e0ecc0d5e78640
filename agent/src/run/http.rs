//! HTTPS for the service: one bounded request at a time over rustls and ring.
//! No redirects, no proxy of the environment, no compression, no cookies; plain http only where the
//! configuration's types let it through (loopback). sshd's commands reference none of this.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};
use ureq::{Agent, Proxy};

use crate::trusted_file::{Trusted, UntrustedFile};

/// Longest head of an answer in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// Longest wait for a connection, TLS included by the whole request's deadline.
const CONNECT: Duration = Duration::from_secs(10);
/// Largest file of roots in bytes; a distribution's has about 220 KiB.
const MAX_ROOTS: usize = 2 * 1024 * 1024;
/// Where distributions keep their roots (Debian, RHEL and Amazon Linux, SUSE).
const SYSTEM_ROOTS: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
];

/// A client with its connections.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
}

/// An answer of any status.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// `ETag`, where there is one.
    pub etag: Option<String>,
    /// `Date` as sent.
    pub date: Option<String>,
    /// The body; complete and within the caller's limit.
    pub body: Vec<u8>,
}

impl Client {
    /// A client that trusts the configured roots, or the system's.
    ///
    /// # Errors
    /// The roots cannot be read, or the proxy is none.
    pub fn new(
        roots: Option<&Path>,
        proxy: Option<&str>,
        trusted: &Trusted,
    ) -> Result<Self, HttpError> {
        let proxy = proxy
            .map(|url| Proxy::new(url).map_err(|_| HttpError::Proxy))
            .transpose()?;
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::new_with_certs(&read_roots(roots, trusted)?))
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            // Never the environment's: set explicitly, or none.
            .proxy(proxy)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .max_response_header_size(MAX_HEAD)
            .max_idle_connections(2)
            .max_idle_connections_per_host(1)
            .input_buffer_size(16 * 1024)
            .output_buffer_size(16 * 1024)
            .user_agent(concat!("eic-agent/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self {
            agent: config.into(),
        })
    }

    /// `GET url` with `headers`, at most `limit` bytes of body, all within `deadline`.
    ///
    /// # Errors
    /// [`HttpError`]; an answer of any status is none.
    pub fn get(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        limit: u64,
        deadline: Duration,
    ) -> Result<Answer, HttpError> {
        let mut request = self
            .agent
            .get(url)
            .config()
            .timeout_global(Some(deadline))
            .build();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.call().map_err(|e| failed(&e))?;
        answer(response, limit)
    }

    /// `POST url` with a body and headers, as [`Self::get`].
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn post(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        limit: u64,
        deadline: Duration,
    ) -> Result<Answer, HttpError> {
        let mut request = self
            .agent
            .post(url)
            .config()
            .timeout_global(Some(deadline))
            .build();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send(body).map_err(|e| failed(&e))?;
        answer(response, limit)
    }
}

fn answer(mut response: ureq::http::Response<ureq::Body>, limit: u64) -> Result<Answer, HttpError> {
    let text = |name: &str| {
        let value = response.headers().get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    let (etag, date) = (text("etag"), text("date"));
    // Refused before the first byte is waited for.
    let stated = text("content-length").and_then(|length| length.parse::<u64>().ok());
    if stated.is_some_and(|length| length > limit) {
        return Err(HttpError::TooLarge(limit));
    }
    let status = response.status().as_u16();
    let body = response
        .body_mut()
        .with_config()
        .limit(limit)
        .read_to_vec()
        .map_err(|e| failed(&e))?;
    Ok(Answer {
        status,
        etag,
        date,
        body,
    })
}

/// ureq's own texts name no secret: neither headers nor bodies.
fn failed(error: &ureq::Error) -> HttpError {
    match error {
        ureq::Error::BodyExceedsLimit(limit) => HttpError::TooLarge(*limit),
        ureq::Error::Timeout(_) => HttpError::Deadline,
        other => HttpError::Failed(eic_protocol::text::printable(&other.to_string())),
    }
}

fn read_roots(
    path: Option<&Path>,
    trusted: &Trusted,
) -> Result<Vec<Certificate<'static>>, HttpError> {
    let path = match path {
        Some(path) => path.to_path_buf(),
        None => system_roots().ok_or(HttpError::NoRoots)?,
    };
    let pem = trusted.read(&path, MAX_ROOTS)?;
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(HttpError::EmptyRoots(path));
    }
    Ok(certificates)
}

fn system_roots() -> Option<PathBuf> {
    SYSTEM_ROOTS
        .iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// `proxy` is no proxy.
    #[error("use the proxy: `[service] proxy` must be `http://host:port`")]
    Proxy,
    /// No file of roots where distributions have one.
    #[error("find TLS roots: install ca-certificates, or set `[service] tls_roots`")]
    NoRoots,
    /// A file without a certificate.
    #[error("read TLS roots: `{}` holds no PEM certificate", .0.display())]
    EmptyRoots(PathBuf),
    /// The file of roots is not root's alone.
    #[error(transparent)]
    File(#[from] UntrustedFile),
    /// Too many bytes.
    #[error("read the answer: it is larger than {0} bytes")]
    TooLarge(u64),
    /// Too slow.
    #[error("get an answer in time")]
    Deadline,
    /// No connection, TLS refused, not HTTP.
    #[error("get an answer: {0}")]
    Failed(String),
}

#[cfg(test)]
mod tests;
