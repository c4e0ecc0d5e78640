//! Plain TCP to the host's own addresses: the next one is tried when the last one failed or 250 ms passed
//! (RFC 8305 §5), the first connection wins.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use rustix::net::sockopt;

/// How long one address may take.
const ATTEMPT: Duration = Duration::from_secs(15);
/// Head start of each address over the next (RFC 8305 §5, "Connection Attempt Delay").
const STAGGER: Duration = Duration::from_millis(250);
/// When a quiet connection is first kept alive: NAT gateways and network load balancers of AWS forget one after 350 s.
const QUIET: Duration = Duration::from_secs(60);
/// Most addresses that are tried.
const MAX_ADDRESSES: usize = 8;

/// Connects to the first address that answers.
///
/// # Errors
/// [`NotReached`] with the last error.
pub fn connect(addresses: &[IpAddr], port: u16) -> Result<TcpStream, NotReached> {
    connect_within(addresses, port, ATTEMPT)
}

/// The same, with this long for each address.
///
/// # Errors
/// [`NotReached`] with the last error.
pub fn connect_within(
    addresses: &[IpAddr],
    port: u16,
    attempt: Duration,
) -> Result<TcpStream, NotReached> {
    race(addresses, port, attempt)
}

fn race(addresses: &[IpAddr], port: u16, attempt: Duration) -> Result<TcpStream, NotReached> {
    let (sender, receiver) = channel();
    let mut waiting = addresses
        .iter()
        .take(MAX_ADDRESSES)
        .map(|ip| SocketAddr::new(*ip, port));
    let deadline = Instant::now() + attempt + STAGGER * 8;
    let mut running = 0_usize;
    let mut last = NotReached::NoAddress;
    loop {
        if let Some(address) = waiting.next() {
            start(address, attempt, sender.clone());
            running += 1;
        } else if running == 0 {
            return Err(last);
        }
        let patience = if waiting.len() > 0 {
            STAGGER
        } else {
            deadline.saturating_duration_since(Instant::now())
        };
        match receiver.recv_timeout(patience).ok() {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(error)) => {
                running = running.saturating_sub(1);
                last = error;
            }
            None if waiting.len() == 0 => return Err(NotReached::TimedOut { port }),
            None => {}
        }
    }
}

fn start(address: SocketAddr, attempt: Duration, results: Sender<Result<TcpStream, NotReached>>) {
    // The thread ends with its attempt; a late winner's descriptor is closed with the channel.
    std::thread::spawn(move || {
        let result = TcpStream::connect_timeout(&address, attempt);
        if let Ok(stream) = &result {
            keep_alive(stream);
        }
        let _ = results.send(result.map_err(|cause| NotReached::Failed { address, cause }));
    });
}

/// As ssh's own TCPKeepAlive, which it does not set on a descriptor that it is given; sooner than the system's two hours.
fn keep_alive(stream: &TcpStream) {
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, QUIET);
}

/// No address answered.
#[derive(Debug, thiserror::Error)]
pub enum NotReached {
    /// There is none.
    #[error("the host has no address: is it running?")]
    NoAddress,
    /// The last one that failed.
    #[error("{address} cannot be reached: {cause}")]
    Failed {
        /// The address.
        address: SocketAddr,
        /// Why.
        cause: std::io::Error,
    },
    /// None answered in time.
    #[error(
        "no address of the host answered on port {port}: are you on its network, and does its security group admit you?"
    )]
    TimedOut {
        /// The port.
        port: u16,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_host_without_addresses_or_listeners_is_told_as_such() {
        assert!(matches!(connect(&[], 22), Err(NotReached::NoAddress)));
        let port = TcpListener::bind((LOOPBACK, 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        assert!(matches!(
            connect(&[LOOPBACK], port),
            Err(NotReached::Failed { .. })
        ));
    }

    #[test]
    fn a_dead_address_does_not_keep_the_next_one_waiting() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        // Nothing listens on 127.0.0.2 at that port: refused at once. 192.0.2.1 (RFC 5737) may hang: 250 ms.
        let started = Instant::now();
        let dead = [
            "127.0.0.2".parse().unwrap(),
            "192.0.2.1".parse().unwrap(),
            LOOPBACK,
        ];
        let stream = race(&dead, port, Duration::from_secs(20)).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
        assert!(started.elapsed() < Duration::from_secs(15));
        // An hour of silence must not end it: something on the way forgets what is quiet for 350 s.
        assert!(sockopt::socket_keepalive(&stream).unwrap());
        assert!(sockopt::tcp_keepidle(&stream).unwrap() < Duration::from_secs(350));
    }
}
