//! One HTTP/1.1 request and its answer, over a connection of its own: for the lab's own calls and its proxy.
//!
//! Not for our programs' traffic: no TLS, no redirects, no keep-alive.

use std::net::SocketAddr;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::error::{Context, Error, Result, unexpected};

/// Longest answer that the lab reads: DescribeInstances of a large lab is below 1 MiB.
pub(crate) const LONGEST: usize = 4 << 20;

/// How long a call may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Sends `request` to `address`. Its URI must be in origin form (`/path?query`) and its Host header set.
///
/// # Errors
/// When the connection fails, takes longer than 30 s, or the answer is longer than 4 MiB.
pub async fn exchange(address: SocketAddr, request: Request<Bytes>) -> Result<Response<Bytes>> {
    let answer = tokio::time::timeout(LIMIT, send(address, request)).await;
    answer.map_err(|_| Error::Deadline {
        what: format!("an answer of {address}"),
        seconds: LIMIT.as_secs(),
    })?
}

/// The same for callers without a runtime. It must run on a thread of the lab's network.
///
/// # Errors
/// As [`exchange`].
pub fn exchange_blocking(address: SocketAddr, request: Request<Bytes>) -> Result<Response<Bytes>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context(|| "make a runtime")?;
    runtime.block_on(exchange(address, request))
}

async fn send(address: SocketAddr, request: Request<Bytes>) -> Result<Response<Bytes>> {
    let stream = TcpStream::connect(address)
        .await
        .context(|| format!("connect to {address}"))?;
    let failed = |cause: hyper::Error| unexpected(&format!("talk to {address}"), cause);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let driver = tokio::spawn(connection);
    let answer = sender
        .send_request(request.map(Full::new))
        .await
        .map_err(failed)?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, LONGEST).collect().await;
    driver.abort();
    let body = body
        .map_err(|cause| unexpected(&format!("read the answer of {address}"), cause))?
        .to_bytes();
    Ok(Response::from_parts(head, body))
}
