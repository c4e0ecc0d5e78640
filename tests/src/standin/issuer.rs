//! An OpenID Connect issuer at which people sign in: HTTPS under a name of its own, authorization code with PKCE and
//! device codes for one public client, ID tokens with a real signature. It checks what a real one checks.
//!
//! Not here: passwords (whoever was enrolled has a session), consent pages, refresh tokens, user info.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use crate::clock::Clock;
use crate::error::{Context, Result, unexpected};
use crate::lab::Lab;
use crate::pki::{Certificate, Period, Subject};
use crate::room::{append, write};
use crate::standin::locked;

mod form;
mod routes;
mod sign_ins;
mod token;

use sign_ins::SignIns;
use token::TokenKey;

/// Where it listens in the control room: the port that its name without one means.
const ADDRESS: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 443);

/// Its host, which the control room's /etc/hosts knows once it runs.
const HOST: &str = "id.acme.example";

/// What its tokens have in `iss`.
pub const ISSUER: &str = "https://id.acme.example";

/// The one client that is registered: public, redirect `http://127.0.0.1/callback` with any port, device codes.
pub const CLIENT_ID: &str = "0oa1b2c3d4E5f6G7h8i9";

/// Somebody who has an account there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// `sub`: an id that nobody else ever has.
    pub subject: String,
    /// `email`, told for the scope of that name.
    pub email: String,
    /// Whether the issuer knows that the address is this person's.
    pub email_verified: bool,
    /// `groups`, told for the scope of that name.
    pub groups: Vec<String>,
}

/// The issuer. Dropping it ends it. At most one in a lab.
#[derive(Debug)]
pub struct Issuer {
    shared: Arc<Shared>,
    roots: PathBuf,
    server: AbortHandle,
}

/// What its pages know together.
#[derive(Debug)]
struct Shared {
    clock: Arc<Clock>,
    key: TokenKey,
    sign_ins: Mutex<SignIns>,
    given: Mutex<Vec<String>>,
}

impl Issuer {
    /// Starts it beside the lab's AWS stand-ins.
    ///
    /// # Errors
    /// When the lab was opened without AWS, or it cannot listen.
    pub fn start(lab: &Lab) -> Result<Issuer> {
        let (tls, root) = tls(lab.clock().now())?;
        let roots = lab.folder().join("issuer-root.pem");
        write(&roots, &root, 0o644)?;
        append(
            &lab.control().folder().join("etc/hosts"),
            &format!("127.0.0.1 {HOST}\n"),
        )?;
        let shared = Arc::new(Shared {
            clock: Arc::clone(lab.clock()),
            key: TokenKey::new()?,
            sign_ins: Mutex::default(),
            given: Mutex::default(),
        });
        let listener = lab
            .in_network(|| TcpListener::bind(ADDRESS))?
            .context(|| "listen as an issuer")?;
        let pages = routes::router(Arc::clone(&shared));
        let server = lab
            .aws()?
            .standin()
            .runtime
            .accept(listener, move |stream| {
                serve(stream, tls.clone(), pages.clone())
            })
            .context(|| "listen as an issuer")?;
        Ok(Issuer {
            shared,
            roots,
            server,
        })
    }

    /// The PEM file with the root that its TLS certificate chains to.
    pub fn tls_root(&self) -> &Path {
        &self.roots
    }

    /// A file with that root and a further one, for programs that take one file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn tls_roots_with(&self, further: &str) -> Result<PathBuf> {
        let own = fs::read_to_string(&self.roots).context(|| "read the issuer's root")?;
        let both = self.roots.with_file_name("issuer-and-other-roots.pem");
        write(&both, &format!("{own}{further}"), 0o644)?;
        Ok(both)
    }

    /// Gives a person an account, and a browser in which that person is signed in; the browser's `session` cookie.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn enrol(&self, person: Person) -> Result<String> {
        locked(&self.shared.sign_ins).enrol(person)
    }

    /// The ID tokens so far, oldest first.
    pub fn given(&self) -> Vec<String> {
        locked(&self.shared.given).clone()
    }

    /// How often a device was told that its code has not been entered yet.
    pub fn pending(&self) -> usize {
        locked(&self.shared.sign_ins).pending()
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// One connection. How it ends is the client's affair: a client that trusts nobody ends in the handshake.
async fn serve(stream: TcpStream, tls: TlsAcceptor, pages: axum::Router) {
    if let Ok(stream) = tls.accept(stream).await {
        let talk = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(pages));
        drop(talk.await);
    }
}

/// A TLS acceptor under the issuer's name, and its root in PEM.
fn tls(now: u64) -> Result<(TlsAcceptor, String)> {
    let failed = |cause: &dyn std::fmt::Display| unexpected("serve TLS as an issuer", cause);
    let period = Period::around(now, 30);
    let root = Certificate::self_signed(&Subject::authority("Acme TLS Root", period))?;
    let server = root.issue(&Subject::server(&[HOST], period))?;
    let chain = vec![CertificateDer::from(server.der().to_vec())];
    let key = PrivateKeyDer::from_pem_slice(server.key_pem().as_bytes());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|cause| failed(&cause))?
        .with_no_client_auth()
        .with_single_cert(chain, key.map_err(|cause| failed(&cause))?)
        .map_err(|cause| failed(&cause))?;
    Ok((TlsAcceptor::from(Arc::new(config)), root.pem()))
}

/// Text that nobody can guess.
fn random() -> Result<String> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).map_err(|cause| unexpected("draw a code", cause))?;
    Ok(hex::encode(bytes))
}
