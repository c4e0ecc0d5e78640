//! H-02: who the CA must prove to be before a byte of a request is sent to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use eic_aws::proxy::Proxy;
use eic_login::ca::{CaClient, CaError};
use eic_login::exit_code::{self, Failure};
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::config::CaConfig;

/// A TLS server on loopback that counts the bytes of requests which reach it.
pub(crate) struct Server {
    pub(crate) port: u16,
    received: Arc<AtomicUsize>,
    pub(crate) authority: PathBuf,
}

impl Server {
    pub(crate) fn received(&self) -> usize {
        self.received.load(Ordering::SeqCst)
    }
}

pub(crate) async fn server(dir: &Path, name: &str, last_year: i32) -> Server {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_after = date_time_ymd(last_year, 1, 1);
    let certificate = params.signed_by(&key, &ca).unwrap();
    let authority = dir.join(format!("{name}-{last_year}.pem"));
    std::fs::write(&authority, ca.pem()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let received = Arc::new(AtomicUsize::new(0));
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    tokio::spawn(serve(
        listener,
        TlsAcceptor::from(Arc::new(config)),
        Arc::clone(&received),
    ));
    Server {
        port,
        received,
        authority,
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, received: Arc<AtomicUsize>) {
    while let Ok((stream, _)) = listener.accept().await {
        let Ok(mut stream) = acceptor.accept(stream).await else {
            continue;
        };
        let mut bytes = [0; 4096];
        if let Ok(count) = stream.read(&mut bytes).await {
            received.fetch_add(count, Ordering::SeqCst);
        }
        let _ = stream
            .write_all(b"HTTP/1.1 404 x\r\ncontent-length: 0\r\n\r\n")
            .await;
        let _ = stream.shutdown().await;
    }
}

async fn discover(port: u16, authority: Option<&Path>) -> CaError {
    discover_by(port, authority, None).await
}

pub(crate) async fn discover_by(
    port: u16,
    authority: Option<&Path>,
    proxy: Option<&Proxy>,
) -> CaError {
    let config = CaConfig {
        url: format!("https://localhost:{port}").parse().unwrap(),
        root_fingerprints: ["SHA256:x".to_owned()].into(),
        ca_file: authority.map(Path::to_owned),
    };
    CaClient::new(&config, proxy)
        .unwrap()
        .discovery()
        .await
        .unwrap_err()
}

#[tokio::test]
async fn servers_of_another_name_issuer_or_time_get_no_request() {
    let dir = tempfile::tempdir().unwrap();
    let right = server(dir.path(), "localhost", 4000).await;
    let other_name = server(dir.path(), "ca.example", 4000).await;
    let expired = server(dir.path(), "localhost", 2001).await;
    for (what, server, authority) in [
        ("an authority that nobody named", &right, None),
        (
            "another pinned authority",
            &right,
            Some(&other_name.authority),
        ),
        ("another name", &other_name, Some(&other_name.authority)),
        ("expired", &expired, Some(&expired.authority)),
    ] {
        let error = discover(server.port, authority.map(PathBuf::as_path)).await;
        assert!(!error.is_absence(), "{what}: {error}");
        assert_eq!(Failure::from(error).code, exit_code::UNTRUSTED, "{what}");
        assert_eq!(server.received(), 0, "{what}");
    }
    // The right one is asked, and its 404 is no absence either.
    let answered = discover(right.port, Some(&right.authority)).await;
    assert!(matches!(answered, CaError::Status(404)), "{answered}");
    assert!(right.received() > 0);
}

#[tokio::test]
async fn proxies_of_the_environment_are_not_used() {
    // In a process of its own: the environment belongs to all threads.
    if std::env::var_os("HTTPS_PROXY").is_none() {
        let name = "tls::proxies_of_the_environment_are_not_used";
        let dead = "http://127.0.0.1:1";
        let run = move || {
            let mut test = std::process::Command::new(std::env::current_exe().unwrap());
            test.args(["--exact", name]);
            for variable in [
                "HTTPS_PROXY",
                "https_proxy",
                "HTTP_PROXY",
                "http_proxy",
                "ALL_PROXY",
                "all_proxy",
            ] {
                test.env(variable, dead);
            }
            test.status().unwrap()
        };
        assert!(tokio::task::spawn_blocking(run).await.unwrap().success());
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path(), "localhost", 4000).await;
    let answered = discover(server.port, Some(&server.authority)).await;
    assert!(matches!(answered, CaError::Status(404)), "{answered}");
}
