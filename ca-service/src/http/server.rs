//! The listener: one loop that accepts, one task for each connection, bounds on both, an orderly end.
//! HTTP/1.1 only: what would be proxied twice has one framing (threats G-05).

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use super::context::Peer;
use super::peers::PeerConnections;
use super::{TlsError, tls};
use crate::config::limits::LimitsConfig;
use crate::config::server::ServerConfig;
use crate::peer_network::PeerNetwork;
use crate::policy::Cidr;

/// Longest wait for a request's header, a kept connection's next one included (threats G-04, slowloris).
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Buffer of a connection, and so the most bytes of a header: grants and tokens are under 12 KiB.
const MAX_BUFFER: usize = 32 * 1024;
/// Longest wait for a peer to take some of its answer: a bundle for each connection that nobody reads would fill the memory.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests that are under way may take after the end was asked for.
const DRAIN: Duration = Duration::from_secs(10);
/// Pause after an error of `accept` that will not pass at once (no descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound listener.
pub struct Server {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    proxies: Arc<[Cidr]>,
    limits: LimitsConfig,
}

/// Why the service does not listen.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is not to be had.
    #[error("listen on `{0}`: {1}")]
    Bind(SocketAddr, std::io::Error),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Server {
    /// Binds the address; nothing is accepted yet.
    ///
    /// # Errors
    /// [`ServerError`]
    pub async fn bind(config: &ServerConfig, limits: LimitsConfig) -> Result<Self, ServerError> {
        let tls = config.tls.as_ref().map(tls::acceptor).transpose()?;
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|e| ServerError::Bind(config.listen, e))?;
        let proxies = config.trusted_proxies.clone().into();
        Ok(Self {
            listener,
            tls,
            proxies,
            limits,
        })
    }

    /// The address with the real port.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Serves until `end` completes; then requests that are under way are finished, for at most 10 s.
    pub async fn run(self, router: Router, end: impl Future<Output = ()>) {
        let connections = Arc::new(Semaphore::new(self.limits.connections));
        let (closing, closed) = watch::channel(false);
        let peers = PeerConnections::new(self.limits.connections_per_peer);
        let shared = Shared {
            router,
            tls: self.tls,
            limits: self.limits,
            proxies: self.proxies,
            peers,
            closed,
        };
        tokio::select! {
            () = accept(self.listener, &shared, &connections) => {}
            () = end => {}
        }
        drop(shared);
        let _ = closing.send(true);
        // All permits are back when all connections are closed.
        let all = u32::try_from(self.limits.connections).unwrap_or(u32::MAX);
        let _ = tokio::time::timeout(DRAIN, connections.acquire_many(all)).await;
    }
}

#[derive(Clone)]
struct Shared {
    router: Router,
    tls: Option<TlsAcceptor>,
    limits: LimitsConfig,
    proxies: Arc<[Cidr]>,
    peers: PeerConnections,
    closed: watch::Receiver<bool>,
}

async fn accept(listener: TcpListener, shared: &Shared, connections: &Arc<Semaphore>) {
    // With all permits out, further connections wait in the system's queue.
    while let Ok(permit) = Arc::clone(connections).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, address)) => {
                tokio::spawn(connection(stream, address, shared.clone(), permit));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    shared: Shared,
    permit: OwnedSemaphorePermit,
) {
    let counted = shared.peers.open(PeerNetwork::of(address.ip()));
    if counted.is_none()
        && !shared
            .proxies
            .iter()
            .any(|proxy| proxy.contains(address.ip()))
    {
        return;
    }
    // Answers are small and awaited: without this each waits for the peer's acknowledgement.
    let _ = stream.set_nodelay(true);
    match shared.tls.clone() {
        None => {
            serve(
                stream,
                Peer {
                    address,
                    tls: false,
                },
                shared,
            )
            .await
        }
        Some(tls) => {
            if let Ok(Ok(stream)) =
                tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await
            {
                serve(stream, Peer { address, tls: true }, shared).await;
            }
        }
    }
    drop((permit, counted));
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, peer: Peer, shared: Shared) {
    let Shared {
        router,
        limits,
        mut closed,
        ..
    } = shared;
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        router.clone().oneshot(request)
    });
    let stream = bounded_writes(stream);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_BUFFER)
        .max_headers(limits.headers)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        // What a peer did wrong to its connection is its own business.
        _ = connection.as_mut() => return,
        _ = closed.wait_for(|closed| *closed) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// Writing fails where the peer takes nothing for so long.
fn bounded_writes<S: AsyncRead + AsyncWrite>(stream: S) -> Pin<Box<TimeoutStream<S>>> {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    Box::pin(stream)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_nothing_is_not_waited_for_and_a_slow_one_is() {
        let (ours, mut theirs) = tokio::io::duplex(16);
        let mut ours = bounded_writes(ours);
        let reads = async {
            let mut some = [0; 8];
            for _ in 0..8 {
                tokio::time::sleep(WRITE_TIMEOUT - Duration::from_secs(1)).await;
                theirs.read_exact(&mut some).await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(ours.write_all(&[0; 64]), reads);
        written.unwrap();
        let error = ours.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
}
