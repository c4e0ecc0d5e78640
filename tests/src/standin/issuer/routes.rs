//! The issuer's pages and endpoints: discovery, keys, the page to sign in at, the page to enter a device's code at,
//! tokens. HTTP only; the rules are in [`super::sign_ins`].

use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::routing::{get, post};
use http::{HeaderMap, Response};
use hyper::body::Bytes;
use serde_json::{Value, json};

use crate::standin::answer::answer;
use crate::standin::issuer::form::Form;
use crate::standin::issuer::sign_ins::{DEVICE_LIFETIME, INTERVAL, Refusal};
use crate::standin::issuer::{ISSUER, Shared};
use crate::standin::locked;

type Answer = Response<axum::body::Body>;

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/.well-known/openid-configuration", get(discovery))
        .route("/jwks", get(keys))
        .route("/authorize", get(authorize))
        .route("/device", post(device))
        .route("/activate", post(activate))
        .route("/token", post(token))
        .with_state(shared)
}

/// OpenID Connect Discovery section 3, RFC 8628 section 4, RFC 9207 section 3.
async fn discovery() -> Answer {
    json_of(
        200,
        &json!({
            "issuer": ISSUER,
            "authorization_endpoint": format!("{ISSUER}/authorize"),
            "token_endpoint": format!("{ISSUER}/token"),
            "device_authorization_endpoint": format!("{ISSUER}/device"),
            "jwks_uri": format!("{ISSUER}/jwks"),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["EdDSA"],
            "scopes_supported": ["openid", "email", "groups"],
            "token_endpoint_auth_methods_supported": ["none"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": true,
        }),
    )
}

async fn keys(State(shared): State<Arc<Shared>>) -> Answer {
    json_of(200, &shared.key.set())
}

/// Where somebody signs in: who has a session agrees at once.
async fn authorize(
    State(shared): State<Arc<Shared>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer {
    let query = query.unwrap_or_default();
    let Some(asked) = Form::parse(&query) else {
        return text(400, "no form");
    };
    let now = shared.clock.now();
    let outcome = locked(&shared.sign_ins).authorize(&asked, session(&headers), now);
    let told = match outcome {
        Err(cause) => return text(500, &cause.to_string()),
        Ok(Err(Refusal::Page(why))) => return text(403, why),
        Ok(Err(Refusal::Error(error))) => format!("error={error}"),
        Ok(Ok(code)) => format!("code={code}"),
    };
    // As it came: what it means is the client's business.
    let state = query.split('&').find(|pair| pair.starts_with("state="));
    let state = state.unwrap_or("state=");
    let redirect_uri = asked.get("redirect_uri");
    let location = format!("{redirect_uri}?{told}&{state}&iss={ISSUER}");
    let mut answer = text(302, "");
    if let Ok(location) = location.parse() {
        answer.headers_mut().insert("location", location);
    }
    answer
}

/// RFC 8628 section 3.1.
async fn device(State(shared): State<Arc<Shared>>, body: String) -> Answer {
    let asked = Form::parse(&body).unwrap_or_default();
    let now = shared.clock.now();
    let begun = locked(&shared.sign_ins).begin_device(&asked, now);
    match begun {
        Err(cause) => text(500, &cause.to_string()),
        Ok(Err(error)) => json_of(400, &json!({ "error": error })),
        Ok(Ok((device_code, user_code))) => json_of(
            200,
            &json!({
                "device_code": device_code,
                "user_code": user_code,
                "verification_uri": format!("{ISSUER}/activate"),
                "verification_uri_complete": format!("{ISSUER}/activate?user_code={user_code}"),
                "expires_in": DEVICE_LIFETIME,
                "interval": INTERVAL,
            }),
        ),
    }
}

/// Somebody types a device's code and agrees.
async fn activate(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: String) -> Answer {
    let asked = Form::parse(&body).unwrap_or_default();
    let now = shared.clock.now();
    let user_code = asked.get("user_code");
    match locked(&shared.sign_ins).enter(user_code, session(&headers), now) {
        true => text(200, "Your device is signed in."),
        false => text(403, "no such code, or nobody is signed in"),
    }
}

/// RFC 6749 sections 5.1 and 5.2, OpenID Connect Core section 3.1.3.3.
async fn token(State(shared): State<Arc<Shared>>, body: String) -> Answer {
    let asked = Form::parse(&body).unwrap_or_default();
    let now = shared.clock.now();
    let signed_in = match locked(&shared.sign_ins).redeem(&asked, now) {
        Err(error) => return json_of(400, &json!({ "error": error })),
        Ok(signed_in) => signed_in,
    };
    match shared.key.token(&signed_in, now) {
        Err(cause) => text(500, &cause.to_string()),
        Ok(token) => {
            locked(&shared.given).push(token.clone());
            // The access token opens nothing here; clients expect one.
            let answer = json!({"id_token": token, "access_token": "none", "token_type": "Bearer"});
            json_of(200, &answer)
        }
    }
}

/// The browser's `session` cookie; empty where it has none.
fn session(headers: &HeaderMap) -> &str {
    let cookies = headers.get("cookie").and_then(|value| value.to_str().ok());
    let mut cookies = cookies.unwrap_or_default().split("; ");
    cookies
        .find_map(|cookie| cookie.strip_prefix("session="))
        .unwrap_or_default()
}

fn json_of(status: u16, body: &Value) -> Answer {
    uncached(answer(status, "application/json", body.to_string()))
}

fn text(status: u16, body: &str) -> Answer {
    uncached(answer(status, "text/plain", body.to_owned()))
}

/// RFC 6749 section 5.1: codes and tokens are in no cache.
fn uncached(mut answer: Response<Bytes>) -> Answer {
    let no = http::HeaderValue::from_static("no-store");
    answer.headers_mut().insert("cache-control", no);
    answer.map(axum::body::Body::from)
}
