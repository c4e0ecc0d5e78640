//! The one call to STS: fixed host from the table, our own headers, no redirect, no retry, 5 s in all.

use std::time::Duration;

use super::turns::Turns;
use crate::authn::AuthnError;
use crate::clock::Clock;
use crate::peer_network::PeerNetwork;
use eic_aws::http_client::{Answer, HttpClient, HttpError, Limits};
use eic_protocol::proof::aws_sts::{BODY, StsRequest};
use http::Request;

/// From the first byte sent to the last byte read.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long a request waits for its turn: under attack the queue must not become the outage.
const PATIENCE: Duration = Duration::from_secs(2);
/// A GetCallerIdentity answer has about 500 bytes.
const MAX_ANSWER: usize = 16 * 1024;

/// Calls STS, a bounded number at a time.
pub struct StsTransport {
    client: HttpClient,
    /// Origin of a stand-in on loopback; the signed `host` header stays STS's own.
    endpoint_override: Option<String>,
    turns: Turns,
    clock: Clock,
}

/// What STS answered.
pub(super) struct StsAnswer {
    pub(super) status: u16,
    /// STS's clock, in Unix seconds.
    pub(super) date: u64,
    pub(super) body: Vec<u8>,
}

impl StsTransport {
    /// At most `concurrency` calls at once, half of them for one network.
    #[must_use]
    pub fn new(
        client: HttpClient,
        endpoint_override: Option<String>,
        concurrency: usize,
        clock: Clock,
    ) -> Self {
        Self {
            client,
            endpoint_override,
            turns: Turns::new(concurrency),
            clock,
        }
    }

    /// The moment to compare STS's clock with: a slow call must not look like a wrong clock.
    /// A clock that stands still (tests) is `asked_at` anyway.
    pub(super) fn now(&self, asked_at: u64) -> u64 {
        self.clock.now().max(asked_at)
    }

    pub(super) async fn send(
        &self,
        rebuilt: StsRequest,
        peer: PeerNetwork,
    ) -> Result<StsAnswer, AuthnError> {
        let request = self.request(rebuilt)?;
        let _turn = self
            .turns
            .take(peer, PATIENCE)
            .await
            .map_err(|_| AuthnError::Busy)?;
        let limits = Limits {
            deadline: DEADLINE,
            max_body: MAX_ANSWER,
        };
        let answer = self
            .client
            .send(request, limits)
            .await
            .map_err(|e: HttpError| unavailable(e.to_string()))?;
        Ok(StsAnswer {
            status: answer.status,
            date: date(&answer)?,
            body: answer.body,
        })
    }

    fn request(&self, rebuilt: StsRequest) -> Result<Request<Vec<u8>>, AuthnError> {
        let url = match &self.endpoint_override {
            Some(origin) => format!("{origin}/"),
            None => format!("https://{}/", rebuilt.host),
        };
        // Accept is ours: another representation of the answer cannot be asked for (threats A-17).
        let mut request = Request::post(url).header("accept", "text/xml");
        for (name, value) in &rebuilt.headers {
            request = request.header(*name, value.reveal());
        }
        request
            .body(BODY.as_bytes().to_vec())
            .map_err(|e| unavailable(e.to_string()))
    }
}

/// RFC 9110 §6.6.1; AWS always sends it.
fn date(answer: &Answer) -> Result<u64, AuthnError> {
    let text = answer
        .headers
        .get(http::header::DATE)
        .and_then(|value| value.to_str().ok());
    let date = text.and_then(|text| jiff::fmt::rfc2822::parse(text).ok());
    date.and_then(|date| u64::try_from(date.timestamp().as_second()).ok())
        .ok_or_else(|| unavailable("the answer has no date"))
}

pub(super) fn unavailable(why: impl Into<String>) -> AuthnError {
    AuthnError::StsUnavailable(why.into())
}
