//! `[server]`: where the API listens and what it is called from outside.

use std::net::SocketAddr;
use std::path::PathBuf;

use eic_protocol::proof::Audience;

use super::document::Section;
use crate::policy::Cidr;

/// `[server]`
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The origin that clients are set up with: the audience of every proof.
    pub public_url: Audience,
    /// Certificate and key of the listener.
    pub tls: Option<TlsFiles>,
    /// Peers whose `X-Forwarded-For` and `X-Forwarded-Proto` count.
    pub trusted_proxies: Vec<Cidr>,
}

/// PEM files of the listener.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate chain, leaf first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

pub(super) fn read(section: &Section<'_>) -> Option<ServerConfig> {
    let listen = section.required("listen", "listen = \"127.0.0.1:8443\"");
    let public_url = section.required("public_url", "public_url = \"https://ca.example.com\"");
    let tls = section
        .has("tls")
        .then(|| section.table("tls").and_then(|t| tls_files(&t)))
        .flatten();
    let trusted_proxies: Vec<Cidr> = section.list("trusted_proxies").unwrap_or_default();
    if let Some(listen) = listen {
        check_plain_http(section, listen, !trusted_proxies.is_empty());
    }
    section.refuse_unknown();
    Some(ServerConfig {
        listen: listen?,
        public_url: public_url?,
        tls,
        trusted_proxies,
    })
}

/// Plain HTTP would give the grant and everything in it to the network.
fn check_plain_http(section: &Section<'_>, listen: SocketAddr, proxied: bool) {
    if !section.has("tls") && !listen.ip().is_loopback() && !proxied {
        section.mistake(
            "listen",
            "plain HTTP is served on loopback or behind a named proxy only; add \
             `tls = { certificate = \"server.crt\", key = \"server.key\" }` or name the proxy in `trusted_proxies`",
        );
    }
}

fn tls_files(section: &Section<'_>) -> Option<TlsFiles> {
    let certificate = section.required_path("certificate", "certificate = \"server.crt\"");
    let key = section.required_path("key", "key = \"server.key\"");
    section.refuse_unknown();
    Some(TlsFiles {
        certificate: certificate?,
        key: key?,
    })
}
