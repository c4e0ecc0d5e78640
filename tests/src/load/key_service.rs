//! KMS for a CA under load: one Ed25519 key that signs after a set delay, as a call to KMS takes its time. It checks
//! neither who asks nor what for; the lab's stand-in does.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use http::{HeaderMap, Response};
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::standin::key_service::{ALGORITHM, SPEC, public_text};

/// The key's name.
pub const ARN: &str = "arn:aws:kms:us-east-1:123456789012:key/00000000-0000-4000-8000-000000000000";

#[derive(Clone)]
struct Service {
    key: SigningKey,
    delay: Duration,
}

/// Starts it on loopback, for as long as the runtime lives.
///
/// # Errors
/// When it cannot listen, or without entropy.
pub async fn start(delay: Duration) -> Result<SocketAddr, String> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|e| e.to_string())?;
    let service = Service {
        key: SigningKey::from_bytes(&secret),
        delay,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.map_err(|e| e.to_string())?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    let router = Router::new().fallback(answer).with_state(service);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

async fn answer(
    State(service): State<Service>,
    headers: HeaderMap,
    body: Bytes,
) -> Response<String> {
    let target = headers.get("x-amz-target").and_then(|v| v.to_str().ok());
    let answer = match target {
        Some("TrentService.GetPublicKey") => Some(service.public_key()),
        Some("TrentService.Sign") => {
            tokio::time::sleep(service.delay).await;
            service.signature(&body)
        }
        _ => None,
    };
    let mut response = Response::new(answer.clone().unwrap_or_default().to_string());
    let json = http::HeaderValue::from_static("application/x-amz-json-1.1");
    response.headers_mut().insert("content-type", json);
    if answer.is_none() {
        *response.status_mut() = http::StatusCode::BAD_REQUEST;
    }
    response
}

impl Service {
    fn public_key(&self) -> Value {
        json!({
            "KeyId": ARN, "KeySpec": SPEC, "CustomerMasterKeySpec": SPEC, "KeyUsage": "SIGN_VERIFY",
            "SigningAlgorithms": [ALGORITHM], "PublicKey": public_text(&self.key),
        })
    }

    fn signature(&self, body: &[u8]) -> Option<Value> {
        let asked: Value = serde_json::from_slice(body).ok()?;
        let message = STANDARD.decode(asked.get("Message")?.as_str()?).ok()?;
        let signature = STANDARD.encode(self.key.sign(&message).to_bytes());
        Some(json!({"KeyId": ARN, "Signature": signature, "SigningAlgorithm": ALGORITHM}))
    }
}
