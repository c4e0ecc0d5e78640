//! Answers in the shapes of AWS's protocols, and bodies that arrive slowly.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use http::Response;
use hyper::body::{Bytes, Frame};
use tokio::time::{Instant, Sleep};

use crate::xml::escaped;

/// An answer whose body is known.
pub(crate) fn answer(status: u16, content_type: &str, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut answer = Response::new(body.into());
    *answer.status_mut() =
        http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    if let Ok(value) = content_type.parse() {
        answer.headers_mut().insert("content-type", value);
    }
    answer
}

/// A JSON protocol's success.
pub(crate) fn json(body: &serde_json::Value) -> Response<Bytes> {
    answer(200, "application/x-amz-json-1.1", body.to_string())
}

/// An error in the form of the service's protocol.
pub(crate) fn error(service: &str, status: u16, code: &str, message: &str) -> Response<Bytes> {
    let (code_text, message_text) = (escaped(code), escaped(message));
    match service {
        "kms" | "ec2-instance-connect" | "ssm" => {
            let body = serde_json::json!({"__type": code, "message": message});
            answer(status, "application/x-amz-json-1.1", body.to_string())
        }
        "ec2" => answer(
            status,
            "text/xml",
            format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>{code_text}</Code><Message>{message_text}</Message></Error></Errors><RequestID>{}</RequestID></Response>",
                request_id()
            ),
        ),
        _ => answer(
            status,
            "text/xml",
            format!(
                "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type><Code>{code_text}</Code><Message>{message_text}</Message></Error><RequestId>{}</RequestId></ErrorResponse>",
                request_id()
            ),
        ),
    }
}

/// A random id in the form that AWS uses.
pub(crate) fn request_id() -> String {
    let mut random = [0u8; 16];
    // Only an id in a log: where the system has no randomness, all zeros will do.
    let _ = getrandom::fill(&mut random);
    let digits = hex::encode(random);
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default().to_owned();
    [
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32),
    ]
    .join("-")
}

/// A body of which one byte arrives each interval.
pub(crate) fn dripping(bytes: Bytes, interval: Duration) -> Body {
    Body::new(Drip {
        left: bytes,
        interval,
        pause: Box::pin(tokio::time::sleep(interval)),
    })
}

struct Drip {
    left: Bytes,
    interval: Duration,
    pause: Pin<Box<Sleep>>,
}

impl hyper::body::Body for Drip {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        ready!(self.pause.as_mut().poll(context));
        let next = Instant::now() + self.interval;
        self.pause.as_mut().reset(next);
        Poll::Ready(Some(Ok(Frame::data(self.left.split_to(1)))))
    }
}
