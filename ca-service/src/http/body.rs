//! Request bodies: bounded in size and time, then strict JSON (threats G-04, G-06).

use std::time::Duration;

use ::http::HeaderMap;
use ::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use axum::body::{Body, Bytes};
use eic_protocol::text::printable;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use super::error::ApiError;
use eic_protocol::api::problem::ProblemCode;

/// Longest wait for a whole body: the largest one needs 6 kB/s.
const DEADLINE: Duration = Duration::from_secs(10);

/// Reads a body of JSON into `T`.
///
/// # Errors
/// [`ApiError`]: another media type, too large, too slow, or not exactly the documented form.
pub(super) async fn read<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
) -> Result<T, ApiError> {
    check_headers(headers, limit)?;
    let bytes = tokio::time::timeout(DEADLINE, collect(body, limit))
        .await
        .unwrap_or_else(|_| Err(malformed("the body did not arrive in time")))?;
    parse(&bytes)
}

/// The room that all large bodies share, in [`PAGE`]s: strangers send reports of hosts.
pub(crate) struct LargeBodies(Semaphore);

/// What a large body is counted in. Bytes.
const PAGE: usize = 64 * 1024;
/// 16 MiB.
const PAGES: usize = 256;

impl LargeBodies {
    pub(crate) fn new() -> Self {
        Self(Semaphore::new(PAGES))
    }

    /// As [`read`], for bodies of up to `limit`. One of a page or less needs no room here.
    ///
    /// # Errors
    /// As [`read`]; [`ProblemCode::TooManyRequests`] where others have the room.
    pub(super) async fn read<T: DeserializeOwned>(
        &self,
        headers: &HeaderMap,
        body: Body,
        limit: usize,
    ) -> Result<T, ApiError> {
        let size = announced(headers).unwrap_or(limit).min(limit);
        let pages = u32::try_from(size.div_ceil(PAGE)).unwrap_or(u32::MAX);
        let full = |_| {
            let detail = "too many large requests at once; try again in a moment";
            ApiError::new(ProblemCode::TooManyRequests, detail)
        };
        let room = match pages {
            0 | 1 => None,
            pages => Some(self.0.try_acquire_many(pages).map_err(full)?),
        };
        let read = read(headers, body, limit).await;
        drop(room);
        read
    }
}

/// Refuses a body where none belongs: what nobody reads could be the next request to somebody else (G-05).
pub(super) fn refuse(headers: &HeaderMap) -> Result<(), ApiError> {
    let length = headers
        .get(CONTENT_LENGTH)
        .is_some_and(|length| length != "0");
    if length || headers.contains_key(::http::header::TRANSFER_ENCODING) {
        return Err(malformed("this request takes no body"));
    }
    Ok(())
}

fn check_headers(headers: &HeaderMap, limit: usize) -> Result<(), ApiError> {
    let media_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if !is_json(media_type) || headers.contains_key(CONTENT_ENCODING) {
        let detail =
            "send the body as `Content-Type: application/json`, without a content encoding";
        return Err(ApiError::new(ProblemCode::UnsupportedMediaType, detail));
    }
    if announced(headers).is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    Ok(())
}

fn announced(headers: &HeaderMap) -> Option<usize> {
    let length = headers.get(CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

fn is_json(media_type: &str) -> bool {
    let mut parts = media_type
        .split(';')
        .map(|part| part.trim().to_ascii_lowercase());
    let json = parts.next().is_some_and(|name| name == "application/json");
    json && parts.all(|parameter| parameter == "charset=utf-8")
}

async fn collect(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large(limit)),
        Err(_) => Err(malformed("the body ended too early")),
    }
}

/// Unknown and repeated members are refused by the types, depth and trailing bytes by serde_json.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|e| malformed(&printable(&e.to_string())))
}

fn malformed(detail: &str) -> ApiError {
    ApiError::new(ProblemCode::MalformedRequest, detail)
}

fn too_large(limit: usize) -> ApiError {
    ApiError::new(
        ProblemCode::BodyTooLarge,
        format!("the body is larger than {limit} bytes"),
    )
}

#[cfg(test)]
mod tests {
    use eic_protocol::api::session::SessionRequest;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[expect(dead_code, reason = "only whether it parses is of interest")]
        a: f64,
        #[serde(default)]
        #[expect(dead_code, reason = "only whether it parses is of interest")]
        b: Option<String>,
    }

    #[test]
    fn json_that_two_readers_could_read_differently_is_refused() {
        // G-06
        let deep = format!(
            "{{\"a\":1,\"b\":{}{}}}",
            "[".repeat(10_000),
            "]".repeat(10_000)
        );
        for bad in [
            "",
            "{",
            "[]",
            "null",
            "{\"a\":1,\"a\":2}",
            "{\"a\":1,\"c\":2}",
            "{\"a\":1}x",
            "{\"a\":1}{\"a\":1}",
            "{\"a\":NaN}",
            "{\"a\":1e400}",
            "{\"a\":1,\"b\":\"\\ud800\"}",
            "{a:1}",
            "{\"a\":1,}",
            "{\"a\":01}",
            "\u{feff}{\"a\":1}",
            "{\"a\":1,\"b\":\"\u{1}\"}",
            &deep,
        ] {
            assert!(
                parse::<Sample>(bad.as_bytes()).is_err(),
                "{}",
                &bad[..bad.len().min(40)]
            );
        }
        assert!(parse::<Sample>(b"{\"a\":1,\"b\":\"\xff\"}").is_err());
        assert!(parse::<Sample>(b" {\"a\":1,\"b\":\"x\"}\n").is_ok());
    }

    #[test]
    fn a_refusal_repeats_foreign_text_only_escaped() {
        let error = parse::<SessionRequest>("{\"\u{1b}]0;x\u{7}\":1}".as_bytes()).unwrap_err();
        assert!(!error.detail().contains('\u{1b}'), "{}", error.detail());
    }

    #[test]
    fn only_plain_json_bodies_are_read() {
        // G-16: a page of another origin can post text/plain without asking.
        for bad in [
            "",
            "text/plain",
            "application/jsonp",
            "application/json; charset=utf-7",
            "application/x-www-form-urlencoded",
        ] {
            assert!(!is_json(bad), "{bad}");
        }
        assert!(is_json("application/json") && is_json("Application/JSON; charset=UTF-8"));
    }

    #[tokio::test]
    async fn large_bodies_share_a_room_and_small_ones_need_none() {
        // G-04: a report has up to 1 MiB, and may come from anybody.
        let room = LargeBodies(Semaphore::new(4));
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, "application/json".parse().unwrap());
        let text = || Body::from("{\"a\":1}");
        let held = room.0.try_acquire_many(2).unwrap();
        // It does not say how large it is: it may be as large as may be.
        let error = room.read::<Sample>(&headers, text(), 4 * PAGE).await;
        assert_eq!(error.unwrap_err().code(), ProblemCode::TooManyRequests);
        headers.insert(CONTENT_LENGTH, (2 * PAGE + 1).to_string().parse().unwrap());
        let error = room.read::<Sample>(&headers, text(), 4 * PAGE).await;
        assert_eq!(error.unwrap_err().code(), ProblemCode::TooManyRequests);
        headers.insert(CONTENT_LENGTH, (2 * PAGE).to_string().parse().unwrap());
        assert!(
            room.read::<Sample>(&headers, text(), 4 * PAGE)
                .await
                .is_ok()
        );
        drop(held);
        let all = room.0.try_acquire_many(4).unwrap();
        headers.insert(CONTENT_LENGTH, "7".parse().unwrap());
        assert!(
            room.read::<Sample>(&headers, text(), 4 * PAGE)
                .await
                .is_ok()
        );
        drop(all);
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_even_when_it_does_not_say_so() {
        // G-04
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, "application/json".parse().unwrap());
        let error = read::<Sample>(&headers, Body::from(vec![b' '; 65]), 64)
            .await
            .unwrap_err();
        assert_eq!(error.code(), ProblemCode::BodyTooLarge);
        headers.insert(CONTENT_LENGTH, "67108864".parse().unwrap());
        let error = read::<Sample>(&headers, Body::empty(), 64)
            .await
            .unwrap_err();
        assert_eq!(error.code(), ProblemCode::BodyTooLarge);
    }
}
