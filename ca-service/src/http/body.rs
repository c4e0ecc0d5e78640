//! Request bodies: bounded in size and time, then strict JSON (threats G-04, G-06).

use std::time::Duration;

use ::http::HeaderMap;
use ::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use axum::body::{Body, Bytes};
use eic_protocol::text::printable;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

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
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    Ok(())
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
