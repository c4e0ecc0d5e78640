//! The HTTP API: routes, forms in, forms out. What is decided is decided in `app`.
//!
//! Every route is a line of [`ROUTES`], with whom it admits; the router is built from that table, and
//! a test goes through it and has each route refuse strangers.

use std::sync::Arc;
use std::time::Instant;

use ::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use ::http::request::Parts;
use ::http::{Method, StatusCode};
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::{MethodFilter, on};
use eic_protocol::api::problem::ProblemCode;
use eic_protocol::request_id::RequestId;

pub(crate) mod body;
pub mod context;
mod endpoint;
pub mod error;
mod hosts;
pub mod openapi;
mod peers;
mod revocations;
mod screen;
pub mod server;
mod tls;
mod trust_bundle;

pub use tls::{TlsError, check as check_tls};

use crate::app::App;
use crate::peer_network::PeerNetwork;
use crate::random;
use crate::rate::Buckets;
use context::{Context, Peer};
use error::ApiError;
use screen::Screen;

/// Whom a route admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admits {
    /// Anybody: nothing in the answer is secret.
    Anyone,
    /// Who proves an identity in the body.
    Proof,
    /// Who has a session's grant and signs the request with its key.
    Grant,
}

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// What a client must know first.
    Discovery,
    /// A proof in, a grant out.
    Sessions,
    /// A certificate.
    UserCertificates,
    /// Certificates for a host's own keys.
    HostCertificates,
    /// A host's key, certified for a caller.
    HostCertification,
    /// A legacy host's own keys.
    HostKeys,
    /// What a host runs, believes and lets in.
    HostReports,
    /// Hosts that the caller may use.
    Instances,
    /// What counts no more.
    Revocations,
    /// What hosts believe.
    TrustBundle,
    /// What a client did by itself.
    Events,
    /// The process runs.
    Health,
    /// The service can issue.
    Readiness,
    /// This API, described.
    OpenApi,
}

/// One route.
#[derive(Clone, Debug)]
pub struct Route {
    /// Method.
    pub method: Method,
    /// Path.
    pub path: &'static str,
    /// Whom it admits.
    pub admits: Admits,
    /// What it does.
    pub endpoint: Endpoint,
}

const fn route(method: Method, path: &'static str, admits: Admits, endpoint: Endpoint) -> Route {
    Route {
        method,
        path,
        admits,
        endpoint,
    }
}

/// All routes.
pub static ROUTES: [Route; 14] = [
    route(
        Method::GET,
        "/.well-known/eic",
        Admits::Anyone,
        Endpoint::Discovery,
    ),
    route(
        Method::POST,
        "/v1/sessions",
        Admits::Proof,
        Endpoint::Sessions,
    ),
    route(
        Method::POST,
        "/v1/certificates/user",
        Admits::Grant,
        Endpoint::UserCertificates,
    ),
    route(
        Method::POST,
        "/v1/certificates/host",
        Admits::Proof,
        Endpoint::HostCertificates,
    ),
    route(
        Method::POST,
        "/v1/hosts/certify",
        Admits::Grant,
        Endpoint::HostCertification,
    ),
    route(
        Method::POST,
        "/v1/hosts/keys",
        Admits::Proof,
        Endpoint::HostKeys,
    ),
    route(
        Method::POST,
        "/v1/hosts/report",
        Admits::Proof,
        Endpoint::HostReports,
    ),
    route(
        Method::GET,
        "/v1/instances",
        Admits::Grant,
        Endpoint::Instances,
    ),
    route(
        Method::POST,
        "/v1/revocations",
        Admits::Grant,
        Endpoint::Revocations,
    ),
    route(
        Method::GET,
        "/v1/trust-bundle",
        Admits::Anyone,
        Endpoint::TrustBundle,
    ),
    route(Method::POST, "/v1/events", Admits::Grant, Endpoint::Events),
    route(Method::GET, "/healthz", Admits::Anyone, Endpoint::Health),
    route(Method::GET, "/readyz", Admits::Anyone, Endpoint::Readiness),
    route(
        Method::GET,
        "/openapi.json",
        Admits::Anyone,
        Endpoint::OpenApi,
    ),
];

/// Peers whose rate is remembered at a time.
const MAX_PEERS: usize = 65_536;
/// Name of the response header with the request's id.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What handlers share.
struct Api {
    app: Arc<App>,
    peers: Buckets<PeerNetwork>,
    screen: Screen,
}

/// The API as a service. Requests must carry a [`Peer`] extension; the server puts it there.
pub fn router(app: Arc<App>) -> Router {
    let limits = app.limits;
    let burst = limits.peer_rate.saturating_mul(limits.burst_seconds);
    let screen = Screen::new(app.audience(), app.trusted_proxies.clone());
    let api = Arc::new(Api {
        app,
        screen,
        peers: Buckets::new(limits.peer_rate, burst, MAX_PEERS),
    });
    let mut router = Router::new();
    for route in &ROUTES {
        let (api, endpoint) = (Arc::clone(&api), route.endpoint);
        let handler =
            move |request: Request| async move { api.answer(Some(endpoint), request).await };
        router = router.route(route.path, on(filter(&route.method), handler));
    }
    let missing = |code| {
        let api = Arc::clone(&api);
        move |request: Request| async move { api.refuse(code, request).await }
    };
    router
        .method_not_allowed_fallback(missing(ProblemCode::MethodNotAllowed))
        .fallback(missing(ProblemCode::NotFound))
}

fn filter(method: &Method) -> MethodFilter {
    if *method == Method::POST {
        MethodFilter::POST
    } else {
        MethodFilter::GET
    }
}

impl Api {
    async fn answer(&self, endpoint: Option<Endpoint>, request: Request) -> Response {
        let request_id = match random::request_id() {
            Ok(id) => id,
            // Without random bytes nothing can be answered under a name.
            Err(_) => return finished(internal(), RequestId::from_random([0; 16])),
        };
        let (parts, body) = request.into_parts();
        let answer = match self.context(&parts, request_id) {
            Ok(context) => match endpoint {
                Some(endpoint) => {
                    endpoint::answer(&self.app, endpoint, &context, &parts, body).await
                }
                None => Err(ApiError::new(
                    ProblemCode::NotFound,
                    "there is no such resource",
                )),
            },
            Err(error) => Err(error),
        };
        finished(
            answer.unwrap_or_else(|error| error.into_response(request_id)),
            request_id,
        )
    }

    async fn refuse(&self, code: ProblemCode, request: Request) -> Response {
        if code == ProblemCode::NotFound {
            return self.answer(None, request).await;
        }
        let request_id = random::request_id().unwrap_or_else(|_| RequestId::from_random([0; 16]));
        let error = ApiError::new(code, "the resource takes another method; see /openapi.json");
        finished(error.into_response(request_id), request_id)
    }

    /// What is checked of every request, before anything of it is read.
    fn context(&self, parts: &Parts, request_id: RequestId) -> Result<Context, ApiError> {
        let malformed = |detail: &str| ApiError::new(ProblemCode::MalformedRequest, detail);
        let peer = *parts
            .extensions
            .get::<Peer>()
            .ok_or_else(|| malformed("the connection has no peer"))?;
        if let Some(refusal) = self.screen.refusal(peer, &parts.headers) {
            return Err(malformed(refusal));
        }
        let now = self.app.clock.now();
        let context = Context::of(
            peer,
            &parts.headers,
            &self.app.trusted_proxies,
            request_id,
            now,
        )
        .map_err(|_| malformed("the proxy did not say whose request this is"))?;
        if !self.peers.take(&context.peer(), Instant::now()) {
            return Err(ApiError::new(
                ProblemCode::TooManyRequests,
                "too many requests from your address; wait a second",
            ));
        }
        Ok(context)
    }
}

/// Headers of every response: nothing is stored by anybody in between (threats D-27).
fn finished(mut response: Response, request_id: RequestId) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        HeaderName::from_static("x-content-type-options"),
        HeaderValue::from_static("nosniff"),
    );
    if let Ok(value) = HeaderValue::from_str(&request_id.to_string()) {
        headers.insert(REQUEST_ID, value);
    }
    response
}

fn internal() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

/// A response of JSON.
fn json(bytes: impl Into<Body>) -> Response {
    let mut response = Response::new(bytes.into());
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
