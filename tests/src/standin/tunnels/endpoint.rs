//! An EC2 Instance Connect Endpoint: what EC2 says of it, what it checks of the signed address of a tunnel, and the
//! frames that it carries (binary, at most 65,000 bytes from a client).

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use http::Response;
use hyper::body::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use crate::aws::REGION;
use crate::standin::answer::{answer, request_id};
use crate::standin::signed_request::{SignedRequest, unix_seconds};
use crate::standin::tunnels::door::Head;
use crate::standin::tunnels::frame::{self, Frames, HEADER, Kind, Said};
use crate::standin::tunnels::signature::{Scope, sha256, signature};
use crate::standin::tunnels::{ENDPOINT_QUOTA, State};
use crate::standin::{Shared, locked};
use crate::xml::escaped;

const ID: &str = "eice-0123456789abcdef0";

/// Its DNS name.
pub(super) const NAME: &str =
    "eice-0123456789abcdef0.0a1b2c3d.ec2-instance-connect-endpoint.us-east-1.amazonaws.com";

/// Largest payload of a client's frame. Bytes.
const LARGEST_FRAME: usize = 65_000;

/// Most that is carried at once. Bytes.
const AT_ONCE: usize = 256 * 1024;

/// Pings that wait for their answer.
const ANSWERS: usize = 8;

/// How long a signed address is good for. Seconds.
const LONGEST_EXPIRY: u64 = 60;

/// DescribeInstanceConnectEndpoints: one endpoint, in whichever VPC is asked about. moto knows no such call; what it
/// says of the caller counts.
pub(crate) fn describe(request: &SignedRequest, verdict: Response<Bytes>) -> Response<Bytes> {
    if verdict.status() == 403 {
        return verdict;
    }
    let vpc = request.parameter("Filter.1.Value.1").unwrap_or_default();
    answer(
        200,
        "text/xml",
        format!(
            "<DescribeInstanceConnectEndpointsResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>{}</requestId>\
             <instanceConnectEndpointSet><item><instanceConnectEndpointId>{ID}</instanceConnectEndpointId>\
             <state>create-complete</state><vpcId>{vpc}</vpcId><subnetId>subnet-0a1b2c3d</subnetId><dnsName>{NAME}</dnsName>\
             <preserveClientIp>false</preserveClientIp><securityGroupIdSet><item>sg-0e1f2a3b</item></securityGroupIdSet>\
             </item></instanceConnectEndpointSet></DescribeInstanceConnectEndpointsResponse>",
            request_id(),
            vpc = escaped(&vpc),
        ),
    )
}

/// What AWS checks before it opens a tunnel; a place is taken then. Where it leads.
pub(super) fn admit(shared: &Shared, head: &Head) -> Result<SocketAddr, String> {
    head.check_upgrade(NAME)?;
    if head.header("authorization").is_some() {
        return Err("header authorization does not belong here".to_owned());
    }
    let (path, query) = head.target().split_once('?').ok_or("no query")?;
    if path != "/openTunnel" {
        return Err(format!("no such path {path}"));
    }
    check_signature(shared, query)?;
    let pairs: BTreeMap<&str, &str> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .collect();
    let target = destination(&pairs)?;
    take_place(&shared.tunnels)?;
    Ok(target)
}

fn destination(pairs: &BTreeMap<&str, &str>) -> Result<SocketAddr, String> {
    let known = [
        "instanceConnectEndpointId",
        "remotePort",
        "privateIpAddress",
        "maxTunnelDuration",
    ];
    let mut names = pairs.keys();
    if let Some(name) = names.find(|n| !known.contains(*n) && !n.starts_with("X-Amz-")) {
        return Err(format!("unknown parameter {name}"));
    }
    let value = |name: &str| pairs.get(name).copied().unwrap_or_default();
    if value("instanceConnectEndpointId") != ID {
        return Err("no such endpoint".to_owned());
    }
    let duration = pairs.get("maxTunnelDuration");
    if duration.is_some_and(|d| !d.parse::<u16>().is_ok_and(|d| (1..=3600).contains(&d))) {
        return Err("maxTunnelDuration out of range".to_owned());
    }
    let port: u16 = value("remotePort").parse().map_err(|_| "no port")?;
    let address: Ipv4Addr = value("privateIpAddress")
        .parse()
        .map_err(|_| "no address")?;
    Ok((address, port).into())
}

fn take_place(state: &State) -> Result<(), String> {
    state.with(|record| {
        if record.places + record.others >= ENDPOINT_QUOTA {
            return Err(format!(
                "The maximum number of concurrent connections ({ENDPOINT_QUOTA}) is reached"
            ));
        }
        record.places += 1;
        record.seen.open += 1;
        record.seen.through_endpoint += 1;
        record.seen.most_open = record.seen.most_open.max(record.places);
        Ok(())
    })
}

fn check_signature(shared: &Shared, query: &str) -> Result<(), String> {
    let (signed, mut others): (Vec<&str>, Vec<&str>) = query
        .split('&')
        .partition(|pair| pair.starts_with("X-Amz-Signature="));
    others.sort_unstable();
    let value = |name: &str| {
        let mut pairs = others.iter().filter_map(|pair| pair.split_once('='));
        let found = pairs.find(|(other, _)| *other == name);
        found
            .map(|(_, value)| value.to_owned())
            .ok_or(format!("no {name}"))
    };
    let credential = value("X-Amz-Credential")?.replace("%2F", "/");
    let parts: Vec<&str> = credential.split('/').collect();
    let [access_key_id, day, region, service, "aws4_request"] = parts.as_slice() else {
        return Err("no scope".to_owned());
    };
    let date = value("X-Amz-Date")?;
    let expires: u64 = value("X-Amz-Expires")?.parse().map_err(|_| "no expiry")?;
    let made = unix_seconds(&date).ok_or("no date")?;
    let age = shared.clock.now().saturating_sub(made);
    let in_time = date.starts_with(*day) && expires <= LONGEST_EXPIRY && age <= expires;
    if !in_time || (*region, *service) != (REGION, "ec2-instance-connect") {
        return Err("scope, date or expiry is wrong".to_owned());
    }
    if value("X-Amz-SignedHeaders")? != "host" {
        return Err("signed headers are wrong".to_owned());
    }
    let caller = locked(&shared.handed_out).get(*access_key_id).cloned();
    let caller = caller.ok_or("The security token included in the request is invalid")?;
    let canonical = format!(
        "GET\n/openTunnel\n{}\nhost:{NAME}\n\nhost\n{}",
        others.join("&"),
        sha256(b"")
    );
    let scope = Scope {
        day,
        region,
        service,
    };
    let right = signature(&caller.secret_access_key, scope, &date, &canonical);
    if signed == [format!("X-Amz-Signature={right}")] {
        Ok(())
    } else {
        Err("The request signature we calculated does not match".to_owned())
    }
}

/// Carries bytes until one side ends.
pub(super) async fn carry<S>(stream: S, target: SocketAddr, shared: &Shared) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let state = &shared.tunnels;
    let outcome = match TcpStream::connect(target).await {
        Ok(host) => converse(stream, host, state).await,
        Err(cause) => Err(cause),
    };
    state.with(|record| {
        record.places = record.places.saturating_sub(1);
        record.seen.open = record.seen.open.saturating_sub(1);
    });
    outcome
}

async fn converse<S>(stream: S, host: TcpStream, state: &State) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    host.set_nodelay(true)?;
    let (from_host, to_host) = host.into_split();
    let (from_client, mut to_client) = tokio::io::split(stream);
    let (answers, asked) = mpsc::channel(ANSWERS);
    let close = tokio::select! {
        ended = down(from_host, &mut to_client, asked) => ended,
        () = up(from_client, to_host, answers, state) => true,
    };
    if close {
        let code = 1000_u16.to_be_bytes();
        to_client
            .write_all(&frame::control(Kind::Close, &code))
            .await?;
    }
    to_client.shutdown().await
}

/// Whether a close may follow: the client has not gone.
async fn down<W: AsyncWrite + Unpin>(
    mut host: OwnedReadHalf,
    client: &mut W,
    mut asked: mpsc::Receiver<Vec<u8>>,
) -> bool {
    let mut buffer = vec![0; HEADER + AT_ONCE];
    loop {
        let (head, payload) = buffer.split_at_mut(HEADER);
        let sent = tokio::select! {
            Some(answer) = asked.recv() => client.write_all(&answer).await,
            read = host.read(payload) => match read {
                Ok(length) if length > 0 => {
                    let begin = frame::head(head, length);
                    let frame = buffer.get(begin..HEADER + length).unwrap_or_default();
                    client.write_all(frame).await
                }
                _ => return true,
            }
        };
        if sent.is_err() || client.flush().await.is_err() {
            return false;
        }
    }
}

/// A frame that the endpoint does not take, its end, or silence for too long ends it.
async fn up(
    mut client: impl AsyncRead + Unpin,
    mut host: OwnedWriteHalf,
    answers: mpsc::Sender<Vec<u8>>,
    state: &State,
) {
    let (mut frames, mut buffer) = (Frames::new(LARGEST_FRAME), vec![0; AT_ONCE]);
    loop {
        let quiet = state.with(|record| record.quiet).unwrap_or(Duration::MAX);
        let read = tokio::time::timeout(quiet, fill(&mut client, &mut buffer)).await;
        let Ok(Ok(length @ 1..)) = read else {
            return;
        };
        let mut bytes = buffer.get_mut(..length).unwrap_or_default();
        loop {
            let said = match frames.next(&mut bytes) {
                Ok(Some(said)) => said,
                Ok(None) => break,
                Err(_) => return,
            };
            match said {
                Said::Bytes(bytes) if host.write_all(bytes).await.is_err() => return,
                Said::Bytes(_) | Said::Control(Kind::Pong, _) => {}
                Said::Control(Kind::Ping, payload) => {
                    state.with(|record| record.seen.pings += 1);
                    drop(answers.try_send(frame::control(Kind::Pong, &payload)));
                }
                Said::Control(..) => return,
            }
        }
    }
}

/// Waits for some bytes, and takes what is there: records of TLS are small.
async fn fill(stream: &mut (impl AsyncRead + Unpin), buffer: &mut [u8]) -> io::Result<usize> {
    let mut buffer = ReadBuf::new(buffer);
    std::future::poll_fn(|context| {
        loop {
            let before = buffer.filled().len();
            let read = Pin::new(&mut *stream).poll_read(context, &mut buffer);
            match read {
                _ if buffer.remaining() == 0 => break,
                Poll::Ready(Ok(())) if buffer.filled().len() > before => {}
                Poll::Ready(Ok(())) => break,
                _ if before > 0 => break,
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(cause)) => return Poll::Ready(Err(cause)),
            }
        }
        Poll::Ready(Ok(buffer.filled().len()))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_that_the_endpoint_does_not_take_are_refused() {
        let right = [
            ("instanceConnectEndpointId", ID),
            ("remotePort", "22"),
            ("privateIpAddress", "10.77.16.4"),
        ];
        let with = |name: &'static str, value: &'static str| {
            let mut pairs = BTreeMap::from(right);
            pairs.insert(name, value);
            destination(&pairs)
        };
        for (name, value) in [
            ("instanceConnectEndpointId", "eice-00000000000000000"),
            ("remotePort", "65536"),
            ("privateIpAddress", "host"),
            ("maxTunnelDuration", "3601"),
            ("maxTunnelDuration", "0"),
            ("instanceId", "i-0123456789abcdef0"),
        ] {
            assert!(with(name, value).is_err(), "{name}={value}");
        }
        let target: SocketAddr = "10.77.16.4:22".parse().unwrap();
        assert_eq!(with("maxTunnelDuration", "3600"), Ok(target));
    }

    #[test]
    fn the_twenty_first_connection_is_refused() {
        let state = State::default();
        for _ in 0..ENDPOINT_QUOTA {
            take_place(&state).unwrap();
        }
        assert!(take_place(&state).is_err());
    }
}
