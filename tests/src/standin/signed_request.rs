//! What the front reads of a request: who calls what, by the headers of Signature Version 4 and the two protocols.
//!
//! It judges nothing; moto does.

use http::request::Parts;
use hyper::body::Bytes;

/// A request as AWS's front doors see it.
#[derive(Clone, Debug)]
pub(crate) struct SignedRequest {
    pub(crate) head: Parts,
    pub(crate) body: Bytes,
    pub(crate) service: String,
    pub(crate) action: String,
    pub(crate) region: String,
    pub(crate) access_key_id: String,
    /// X-Amz-Date as unix seconds.
    pub(crate) date: Option<u64>,
}

impl SignedRequest {
    pub(crate) fn parse(head: Parts, body: Bytes) -> SignedRequest {
        let header = |name: &str| {
            head.headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
        };
        let scope: Vec<String> = credential(header("authorization"))
            .split('/')
            .map(str::to_owned)
            .collect();
        let part = |index: usize| scope.get(index).cloned().unwrap_or_default();
        let target = header("x-amz-target")
            .rsplit_once('.')
            .map(|(_, action)| action.to_owned());
        let date = unix_seconds(header("x-amz-date"));
        let action = target
            .or_else(|| parameter(&body, "Action"))
            .unwrap_or_default();
        SignedRequest {
            service: part(3),
            region: part(2),
            access_key_id: part(0),
            action,
            date,
            head,
            body,
        }
    }

    /// `service:Action`.
    pub(crate) fn name(&self) -> String {
        format!("{}:{}", self.service, self.action)
    }

    /// The Host header.
    pub(crate) fn host(&self) -> String {
        self.head
            .headers
            .get("host")
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned()
    }

    /// The body of a JSON protocol's request.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A parameter of a query protocol's request.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        parameter(&self.body, name)
    }
}

/// `AKID/DATE/REGION/SERVICE/aws4_request` of an Authorization header.
fn credential(authorization: &str) -> &str {
    authorization
        .split_once("Credential=")
        .and_then(|(_, rest)| rest.split([',', ' ']).next())
        .unwrap_or_default()
}

/// Values that the lab reads (actions, instance ids) need no unescaping.
fn parameter(body: &[u8], name: &str) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    text.split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.to_owned())
}

/// `20261122T014500Z`.
pub(crate) fn unix_seconds(date: &str) -> Option<u64> {
    let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", date).ok()?;
    u64::try_from(
        time.to_zoned(jiff::tz::TimeZone::UTC)
            .ok()?
            .timestamp()
            .as_second(),
    )
    .ok()
}
