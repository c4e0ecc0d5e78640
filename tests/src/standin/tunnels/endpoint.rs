//! An EC2 Instance Connect Endpoint: what EC2 says of it, what it checks of the signed address of a tunnel, and the
//! frames that it carries (binary, at most 65,000 bytes from a client).

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures_util::{Sink, SinkExt, Stream, StreamExt};
use http::Response;
use hyper::body::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::aws::REGION;
use crate::standin::answer::{answer, request_id};
use crate::standin::signed_request::{SignedRequest, unix_seconds};
use crate::standin::tunnels::door::Head;
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
        if record.places >= ENDPOINT_QUOTA {
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
    // A larger frame, or one without a mask, ends the connection.
    let config = WebSocketConfig::default().max_frame_size(Some(LARGEST_FRAME));
    let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    let outcome = match TcpStream::connect(target).await {
        Ok(host) => {
            host.set_nodelay(true)?;
            let (from_host, to_host) = host.into_split();
            let (sink, frames) = socket.split();
            tokio::select! {
                () = down(from_host, sink) => {}
                () = up(frames, to_host, state) => {}
            }
            Ok(())
        }
        Err(cause) => Err(cause),
    };
    state.with(|record| {
        record.places = record.places.saturating_sub(1);
        record.seen.open = record.seen.open.saturating_sub(1);
    });
    outcome
}

async fn down(mut host: OwnedReadHalf, mut sink: impl Sink<Message, Error = Error> + Unpin) {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = host.read(&mut buffer).await.unwrap_or(0);
        let message = match buffer.get(..read) {
            Some(bytes) if !bytes.is_empty() => Message::binary(bytes.to_vec()),
            _ => break,
        };
        if sink.send(message).await.is_err() {
            return;
        }
    }
    let close = CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    };
    drop(sink.send(Message::Close(Some(close))).await);
}

/// An empty frame, text, or silence for too long ends it.
async fn up(
    mut frames: impl Stream<Item = Result<Message, Error>> + Unpin,
    mut host: OwnedWriteHalf,
    state: &State,
) {
    loop {
        let quiet = state.with(|record| record.quiet).unwrap_or(Duration::MAX);
        let Ok(Some(Ok(message))) = tokio::time::timeout(quiet, frames.next()).await else {
            return;
        };
        match message {
            Message::Binary(bytes) if !bytes.is_empty() => {
                if host.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Message::Ping(_) => state.with(|record| record.seen.pings += 1),
            _ => return,
        }
    }
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
