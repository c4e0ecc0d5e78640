//! The front door: what clients reach at `AWS_ENDPOINT_URL`. It passes requests to moto byte for byte, Host header
//! included, then adds what moto's answer lacks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use http::Response;
use http_body_util::{BodyExt, Limited};
use hyper::body::Bytes;

use crate::aws::{Moto, credentials_of};
use crate::exchange::exchange;
use crate::standin::answer::{answer, dripping, error};
use crate::standin::signed_request::SignedRequest;
use crate::standin::{
    Caller, Fault, SeenRequest, Shared, console, instance_connect, key_service, locked, tunnels,
};
use crate::xml;

/// AWS refuses a signature whose date is further off.
const LONGEST_SKEW: u64 = 15 * 60;

/// Longest request body that the front reads.
const LONGEST_BODY: usize = 1 << 20;

/// How long a hanging request hangs: longer than any client's patience here.
const HANG: Duration = Duration::from_secs(600);

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(handle).with_state(shared)
}

async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, LONGEST_BODY).collect().await else {
        return answer(413, "text/plain", "body too large").map(Body::from);
    };
    let request = SignedRequest::parse(head, body.to_bytes());
    let fault = shared.faults.strike(&request.name());
    let mut answer = match &fault {
        Some(fault) => faulty(&shared, &request, fault).await,
        None => right(&shared, &request).await.map(Body::from),
    };
    if let Ok(date) = http_date(shared.clock.now()).parse() {
        answer.headers_mut().insert("date", date);
    }
    let (action, access_key_id) = (request.name(), request.access_key_id.clone());
    let seen = SeenRequest {
        action,
        access_key_id,
        host: request.host(),
        status: answer.status().as_u16(),
    };
    locked(&shared.seen).push(seen);
    answer
}

/// AWS dates its answers; a client may measure its clock by that.
fn http_date(now: u64) -> String {
    let second = i64::try_from(now).unwrap_or_default();
    let time = jiff::Timestamp::from_second(second).unwrap_or_default();
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// The answer that AWS would give.
async fn right(shared: &Shared, request: &SignedRequest) -> Response<Bytes> {
    if let Some(refusal) = stale(shared, request).or_else(|| expired(shared, request)) {
        return refusal;
    }
    let arrived = Instant::now();
    let verdict = forward(request).await;
    learn(shared, request, &verdict);
    match request.name().as_str() {
        "ec2-instance-connect:SendSSHPublicKey" => {
            instance_connect::send_ssh_public_key(shared, request, verdict).await
        }
        "ec2:GetConsoleOutput" => console::get_console_output(shared, request, verdict),
        "ec2:DescribeInstanceConnectEndpoints" => tunnels::endpoint::describe(request, verdict),
        "ssm:StartSession" => tunnels::session::start(shared, request, verdict, arrived).await,
        "kms:CreateKey" => key_service::create_key(shared, request, verdict).await,
        "kms:DescribeKey" => key_service::describe_key(shared, verdict),
        "kms:GetPublicKey" => key_service::get_public_key(shared, request, verdict).await,
        "kms:Sign" => key_service::sign(shared, request, verdict).await,
        _ => verdict,
    }
}

/// An answer with a fault.
async fn faulty(shared: &Shared, request: &SignedRequest, fault: &Fault) -> Response<Body> {
    match fault {
        Fault::Throttle => throttled(&request.service).map(Body::from),
        Fault::Answer {
            status,
            content_type,
            body,
        } => answer(*status, content_type, body.clone()).map(Body::from),
        Fault::Redirect(location) => redirect(location).map(Body::from),
        Fault::Hang => {
            tokio::time::sleep(HANG).await;
            answer(504, "text/plain", "").map(Body::from)
        }
        Fault::Delay(delay) => {
            tokio::time::sleep(*delay).await;
            right(shared, request).await.map(Body::from)
        }
        Fault::Drip(interval) => {
            let mut whole = right(shared, request).await;
            whole.headers_mut().remove("content-length");
            whole.map(|body| dripping(body, *interval))
        }
        Fault::Oversized(extra) => {
            let mut whole = right(shared, request).await;
            whole.headers_mut().remove("content-length");
            whole.map(|body| Body::from([body.as_ref(), &vec![b' '; *extra]].concat()))
        }
        Fault::WrongSignature => {
            key_service::with_wrong_signature(right(shared, request).await).map(Body::from)
        }
    }
}

/// Sends the request on as it came. hyper writes the same header names, values and body; the Host header stays.
async fn forward(request: &SignedRequest) -> Response<Bytes> {
    let mut copy = http::Request::new(request.body.clone());
    *copy.method_mut() = request.head.method.clone();
    *copy.uri_mut() = request.head.uri.clone();
    *copy.headers_mut() = request.head.headers.clone();
    match exchange(Moto::address(), copy).await {
        Ok(mut verdict) => {
            // The connection's own headers end here.
            for name in ["connection", "transfer-encoding"] {
                verdict.headers_mut().remove(name);
            }
            verdict
        }
        Err(cause) => error(
            &request.service,
            500,
            "ServiceException",
            &format!("moto: {cause}"),
        ),
    }
}

fn redirect(location: &str) -> Response<Bytes> {
    let mut redirect = answer(302, "text/plain", "");
    if let Ok(value) = location.parse() {
        redirect.headers_mut().insert("location", value);
    }
    redirect
}

/// Throttling as each service words it.
fn throttled(service: &str) -> Response<Bytes> {
    match service {
        "ec2" => error(
            service,
            503,
            "RequestLimitExceeded",
            "Request limit exceeded.",
        ),
        "sts" | "iam" => error(service, 400, "Throttling", "Rate exceeded"),
        _ => error(service, 400, "ThrottlingException", "Rate exceeded"),
    }
}

/// moto does not look at the date.
fn stale(shared: &Shared, request: &SignedRequest) -> Option<Response<Bytes>> {
    let now = shared.clock.now();
    if request.date?.abs_diff(now) <= LONGEST_SKEW {
        return None;
    }
    let message = "Signature expired: the date of the request is more than 15 min away from now";
    Some(match request.service.as_str() {
        "ec2" => error("ec2", 400, "RequestExpired", message),
        "kms" | "ec2-instance-connect" => {
            error(&request.service, 400, "InvalidSignatureException", message)
        }
        other => error(other, 403, "SignatureDoesNotMatch", message),
    })
}

/// moto's sessions never end.
fn expired(shared: &Shared, request: &SignedRequest) -> Option<Response<Bytes>> {
    locked(&shared.expired)
        .contains(&request.access_key_id)
        .then(|| {
            let message = "The security token included in the request is expired";
            match request.service.as_str() {
                "kms" | "ec2-instance-connect" => {
                    error(&request.service, 400, "ExpiredTokenException", message)
                }
                "ec2" => error("ec2", 400, "RequestExpired", message),
                other => error(other, 403, "ExpiredToken", message),
            }
        })
}

/// Remembers whose an access key is when an answer hands it out.
fn learn(shared: &Shared, request: &SignedRequest, verdict: &Response<Bytes>) {
    let handed_out = [
        "iam:CreateAccessKey",
        "sts:AssumeRole",
        "sts:AssumeRoleWithWebIdentity",
    ];
    if !handed_out.contains(&request.name().as_str()) {
        return;
    }
    let Ok(text) = std::str::from_utf8(verdict.body()) else {
        return;
    };
    let new = xml::text(text, "UserName")
        .and_then(|name| user(shared, request, &name))
        .or_else(|| session(text));
    if let (Ok(made), Some(caller)) = (credentials_of(text), new) {
        locked(&shared.callers).insert(made.access_key_id.clone(), caller);
        locked(&shared.handed_out).insert(made.access_key_id.clone(), made);
    }
}

/// The user that a caller made a key for is of the caller's account.
fn user(shared: &Shared, request: &SignedRequest, name: &str) -> Option<Caller> {
    let account = shared.caller(&request.access_key_id)?.account;
    Some(Caller {
        arn: format!("arn:aws:iam::{account}:user/{name}"),
        account,
    })
}

fn session(answer: &str) -> Option<Caller> {
    let arn = xml::text(answer, "Arn")?;
    let account = arn.split(':').nth(4)?.to_owned();
    Some(Caller { arn, account })
}
