//! An HTTPS client with a deadline and a size cap on every call.
//! No redirects, no proxy variables (a [`Proxy`] is given), no cookies, no decompression.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::proxy::{Dial, NoTunnel, Proxy};

/// How long a call may take in all, and how much it may answer.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the first byte sent to the last byte read.
    pub deadline: Duration,
    /// Bytes of the answer's body.
    pub max_body: usize,
}

/// Which certificate authorities a server's certificate may chain to.
#[derive(Clone, Copy, Debug)]
pub enum Roots<'a> {
    /// The operating system's.
    System,
    /// Those in a PEM file, and no others.
    PemFile(&'a Path),
}

/// A client with kept connections. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: Client<HttpsConnector<Dial>, Full<Bytes>>,
}

/// A complete answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body, at most [`Limits::max_body`].
    pub body: Vec<u8>,
}

/// Time for a TCP connection and TLS handshake together with the rest of the call.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

impl HttpClient {
    /// A client that trusts `roots` and goes through `proxy`, where there is one, for `https://`; plain `http://` is
    /// possible, the caller decides where it may be used.
    ///
    /// # Errors
    /// [`HttpError::Roots`] where the roots cannot be read or are none.
    pub fn new(roots: Roots<'_>, proxy: Option<&Proxy>) -> Result<Self, HttpError> {
        let builder = builder()?;
        let config = match roots {
            Roots::System => builder
                .with_native_roots()
                .map_err(|e| HttpError::Roots(e.to_string()))?,
            Roots::PemFile(path) => builder.with_root_certificates(read_roots(path)?),
        }
        .with_no_client_auth();
        Ok(Self::with_tls(config, proxy))
    }

    /// A client for plain `http://` on loopback; it trusts nobody for `https://`.
    /// Saves reading the system's roots (1 to 20 ms) where no TLS is spoken.
    ///
    /// # Errors
    /// [`HttpError::Roots`] where the TLS provider cannot be set up.
    pub fn plain_only() -> Result<Self, HttpError> {
        let config = builder()?.with_root_certificates(RootCertStore::empty());
        Ok(Self::with_tls(config.with_no_client_auth(), None))
    }

    fn with_tls(config: ClientConfig, proxy: Option<&Proxy>) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_nodelay(true);
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .wrap_connector(Dial::new(tcp, proxy));
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(60))
            .build(https);
        Self { client }
    }

    /// Sends one request.
    ///
    /// # Errors
    /// [`HttpError`]; an answer with any status is no error here.
    pub async fn send(
        &self,
        request: Request<Vec<u8>>,
        limits: Limits,
    ) -> Result<Answer, HttpError> {
        let request = request.map(|body| Full::new(Bytes::from(body)));
        let call = async {
            let response = self
                .client
                .request(request)
                .await
                .map_err(|e| classify(&e))?;
            read(response, limits.max_body).await
        };
        tokio::time::timeout(limits.deadline, call)
            .await
            .map_err(|_| HttpError::TimedOut(limits.deadline))?
    }
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, HttpError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    builder
        .with_safe_default_protocol_versions()
        .map_err(|e| HttpError::Roots(e.to_string()))
}

async fn read(
    response: Response<hyper::body::Incoming>,
    max_body: usize,
) -> Result<Answer, HttpError> {
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, max_body)
        .collect()
        .await
        .map_err(|error| {
            if error.is::<LengthLimitError>() {
                HttpError::TooLarge(max_body)
            } else {
                HttpError::Broken(chain(&*error))
            }
        })?;
    Ok(Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: body.to_bytes().into(),
    })
}

fn read_roots(path: &Path) -> Result<RootCertStore, HttpError> {
    let failed = |what: String| HttpError::Roots(format!("{}: {what}", path.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|e| failed(e.to_string()))? {
        let certificate = certificate.map_err(|e| failed(e.to_string()))?;
        roots.add(certificate).map_err(|e| failed(e.to_string()))?;
    }
    if roots.is_empty() {
        Err(failed("no certificate in it".to_owned()))
    } else {
        Ok(roots)
    }
}

/// Tells "nobody there" from "somebody wrong there": only the first may lead to a fallback.
fn classify(error: &hyper_util::client::legacy::Error) -> HttpError {
    let text = chain(error);
    let io = io_cause(error);
    match io.map(std::io::Error::kind) {
        _ if is_of_proxy(error) => HttpError::Proxy(text),
        _ if is_tls(error) => HttpError::Tls(text),
        Some(std::io::ErrorKind::TimedOut) => HttpError::TimedOut(CONNECT_TIMEOUT),
        Some(std::io::ErrorKind::InvalidData) => HttpError::Tls(text),
        _ if is_name_resolution(error) => HttpError::Name(text),
        _ if error.is_connect() => HttpError::Unreachable(text),
        _ => HttpError::Broken(text),
    }
}

fn io_cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a std::io::Error> {
    error
        .downcast_ref()
        .or_else(|| error.source().and_then(io_cause))
}

fn is_of_proxy(error: &(dyn std::error::Error + 'static)) -> bool {
    error.is::<NoTunnel>() || error.source().is_some_and(is_of_proxy)
}

/// hyper-util has no type for it, only the words of its connector.
fn is_name_resolution(error: &(dyn std::error::Error + 'static)) -> bool {
    error.to_string() == "dns error" || error.source().is_some_and(is_name_resolution)
}

/// rustls errors come wrapped in one or two `io::Error`s, whose `source` skips what they wrap.
fn is_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let inner = error
        .downcast_ref::<std::io::Error>()
        .and_then(std::io::Error::get_ref);
    let wrapped = inner.is_some_and(|inner| is_tls(inner));
    wrapped || error.is::<rustls::Error>() || error.source().is_some_and(is_tls)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    eic_protocol::text::printable(&text)
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// No TCP connection: refused, or no route.
    #[error("the server cannot be reached: {0}")]
    Unreachable(String),
    /// The server's name has no address. Not a sign that the server is down: the network may be another one.
    #[error("the server's name cannot be resolved: {0}")]
    Name(String),
    /// The configured proxy is not there, or does not lead to the server: that says nothing about the server.
    #[error("{0}")]
    Proxy(String),
    /// Too slow.
    #[error("no complete answer within {0:?}")]
    TimedOut(Duration),
    /// TLS failed: the server is not who it should be, or speaks no TLS.
    #[error("the TLS connection failed: {0}")]
    Tls(String),
    /// Too long.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// The connection broke in the middle, or it was not HTTP.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The trusted roots cannot be loaded.
    #[error("the trusted certificate authorities cannot be loaded: {0}")]
    Roots(String),
}

impl HttpError {
    /// Refused or timed out: nobody was there. A TLS error or an unknown name is not that.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::TimedOut(_))
    }
}

#[cfg(test)]
mod tests;
