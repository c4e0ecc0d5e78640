//! The HTTP proxy that a configuration names for outbound HTTPS, and the way through it (RFC 9110 §9.3.6, CONNECT).
//! Never one of the environment (D19). TLS is spoken with the server itself: a proxy sees names, not credentials.
//!
//! Plain HTTP is never sent through it: that is spoken with this machine and its metadata service only.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use eic_protocol::secret::Secret;
use eic_protocol::text::printable;
use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tower_service::Service;

/// A proxy, and which hosts are reached without it. Cheap to clone. Serialized it has its password, for the pipe or
/// socket to another process of the same user.
#[derive(Clone, Deserialize, Serialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct Proxy(Arc<Parsed>);

/// As it is configured.
#[derive(Deserialize, Serialize)]
struct Wire {
    proxy: Secret<String>,
    no_proxy: Vec<String>,
}

struct Parsed {
    /// `host:port`, without its user.
    place: String,
    url: Secret<String>,
    /// Hosts that are reached without it, with commas between.
    except: String,
    matcher: Matcher,
    sdk: ProxyConfig,
}

impl Proxy {
    /// From `proxy` and `no_proxy`: `http://[user:password@]host[:port]`, and names (each for itself and all below it),
    /// addresses or networks.
    ///
    /// # Errors
    /// [`InvalidProxy`]; it repeats no password.
    pub fn new(url: &str, no_proxy: &[String]) -> Result<Self, InvalidProxy> {
        let uri: Uri = url.parse().map_err(|_| InvalidProxy::Url)?;
        let authority = uri.authority().ok_or(InvalidProxy::Url)?;
        let (host, port) = (authority.host(), authority.port_u16());
        let place = authority.as_str().rsplit('@').next().unwrap_or_default();
        // `Uri` takes any port that it cannot read for none.
        let is_place = !host.is_empty() && (place == host || port.is_some());
        let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        if uri.scheme_str() != Some("http") || !is_place || !is_bare {
            return Err(InvalidProxy::Url);
        }
        if let Some(entry) = no_proxy.iter().find(|entry| !is_exception(entry)) {
            return Err(InvalidProxy::Exception(printable(entry)));
        }
        let except = no_proxy.join(",");
        let sdk = ProxyConfig::https(url).map_err(|_| InvalidProxy::Url)?;
        let sdk = sdk.no_proxy(&except);
        let matcher = Matcher::builder().https(url).no(except.clone()).build();
        Ok(Self(Arc::new(Parsed {
            place: format!("{host}:{}", port.unwrap_or(80)),
            url: Secret::new(url.to_owned()),
            except,
            matcher,
            sdk,
        })))
    }

    /// Whether TLS with `host:port` goes through it.
    #[must_use]
    pub fn leads_to(&self, host: &str, port: u16) -> bool {
        let authority = format!("{host}:{port}");
        let server = Uri::builder().scheme("https").authority(authority);
        let server = server.path_and_query("/").build();
        // What is no name of a server is not reached past the proxy either.
        !matches!(server, Ok(server) if self.0.matcher.intercept(&server).is_none())
    }

    /// `http://[user:password@]host[:port]`.
    #[must_use]
    pub fn url(&self) -> &Secret<String> {
        &self.0.url
    }

    /// Hosts that are reached without it, with commas between.
    #[must_use]
    pub fn except(&self) -> &str {
        &self.0.except
    }

    /// The same for AWS's SDK: its credential providers and KMS.
    #[must_use]
    pub fn sdk_client(&self) -> SharedHttpClient {
        let config = self.0.sdk.clone();
        Builder::new().build_with_connector_fn(move |settings, parts| {
            let mut connector = Connector::builder()
                .proxy_config(config.clone())
                .tls_provider(Provider::Rustls(CryptoMode::AwsLc));
            connector.set_connector_settings(settings.cloned());
            connector.set_sleep_impl(parts.and_then(|parts| parts.sleep_impl()));
            connector.build()
        })
    }
}

/// What the matcher would take for a name that no host has is a mistake: a port, a bracket, a `*` within.
fn is_exception(entry: &str) -> bool {
    let parts = entry.split_once('/');
    let (host, bits) = parts.map_or((entry, None), |(host, bits)| (host, Some(bits)));
    let most = |address: IpAddr| if address.is_ipv4() { 32 } else { 128 };
    match (host.parse::<IpAddr>(), bits) {
        (Ok(_), None) => true,
        (Ok(address), Some(bits)) => bits.parse::<u8>().is_ok_and(|bits| bits <= most(address)),
        (Err(_), Some(_)) => false,
        (Err(_), None) => {
            let known = |b: u8| b.is_ascii_alphanumeric() || b".-_".contains(&b);
            host == "*" || (!host.is_empty() && host.bytes().all(known))
        }
    }
}

impl TryFrom<Wire> for Proxy {
    type Error = InvalidProxy;

    fn try_from(wire: Wire) -> Result<Self, InvalidProxy> {
        Self::new(wire.proxy.reveal(), &wire.no_proxy)
    }
}

impl From<Proxy> for Wire {
    fn from(proxy: Proxy) -> Self {
        let except = proxy.0.except.split(',');
        let named = except.filter(|entry| !entry.is_empty());
        Self {
            proxy: proxy.0.url.clone(),
            no_proxy: named.map(str::to_owned).collect(),
        }
    }
}

/// Two that lead the same way.
impl PartialEq for Proxy {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (&self.0, &other.0);
        a.url.reveal() == b.url.reveal() && a.except == b.except
    }
}

impl Eq for Proxy {}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.place)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

/// Why a proxy cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProxy {
    /// The URL.
    #[error(
        "`proxy` must be `http://host:port`, with `user:password@` before the host where the proxy asks for it"
    )]
    Url,
    /// One of the exceptions.
    #[error("`{0}` in `no_proxy` is no name, address or network")]
    Exception(String),
}

/// TCP to a server, or to a proxy that connects to it.
#[derive(Clone, Debug)]
pub(crate) struct Dial {
    tcp: HttpConnector,
    proxy: Option<Proxy>,
}

impl Dial {
    pub(crate) fn new(tcp: HttpConnector, proxy: Option<&Proxy>) -> Self {
        Self {
            tcp,
            proxy: proxy.cloned(),
        }
    }
}

type Dialled = Pin<Box<dyn Future<Output = Result<TokioIo<TcpStream>, BoxError>> + Send>>;
type BoxError = Box<dyn Error + Send + Sync>;

impl Service<Uri> for Dial {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Dialled;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, server: Uri) -> Dialled {
        let proxy = self.proxy.as_ref();
        let route = proxy.and_then(|proxy| Some((proxy, proxy.0.matcher.intercept(&server)?)));
        let Some((proxy, route)) = route else {
            let direct = self.tcp.call(server);
            return Box::pin(async { Ok(direct.await?) });
        };
        let mut tunnel = Tunnel::new(route.uri().clone(), self.tcp.clone());
        if let Some(user) = route.basic_auth() {
            tunnel = tunnel.with_auth(user.clone());
        }
        let proxy = proxy.to_string();
        let tunnelled = tunnel.call(server);
        Box::pin(async {
            tunnelled.await.map_err(|cause| {
                let cause = Box::new(cause);
                let error: BoxError = Box::new(NoTunnel { proxy, cause });
                error
            })
        })
    }
}

/// A proxy does not connect.
#[derive(Debug, thiserror::Error)]
#[error("the proxy `{proxy}` does not connect")]
pub(crate) struct NoTunnel {
    proxy: String,
    #[source]
    cause: BoxError,
}

#[cfg(test)]
mod tests;
