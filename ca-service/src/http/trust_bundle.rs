//! The trust bundle's route: query and entity tags in, documents or 304 out (RFC 9110 §13.1.2).

use ::http::header::{ETAG, HeaderValue, IF_NONE_MATCH};
use ::http::request::Parts;
use ::http::{HeaderMap, StatusCode};
use axum::body::Body;
use axum::extract::Query;
use axum::response::Response;
use eic_protocol::api::problem::ProblemCode;
use eic_protocol::api::trust_bundle::TrustBundleQuery;
use eic_protocol::text::printable;

use super::error::ApiError;
use super::{body, json};
use crate::app::{App, TrustAnswer};

pub(super) async fn answer(app: &App, parts: &Parts) -> Result<Response, ApiError> {
    body::refuse(&parts.headers)?;
    let Query(query) = Query::<TrustBundleQuery>::try_from_uri(&parts.uri)
        .map_err(|e| ApiError::new(ProblemCode::MalformedRequest, printable(&e.to_string())))?;
    let known = |tag: &str| names(&parts.headers, tag);
    let (mut response, tag) = match app.trust_bundle(&query, known).await? {
        TrustAnswer::Unchanged(tag) => (not_modified(), tag),
        TrustAnswer::News(answer) => (json(answer.body()), answer.tag().to_owned()),
    };
    if let Ok(value) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(ETAG, value);
    }
    Ok(response)
}

fn not_modified() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response
}

/// Whether `If-None-Match` names the tag; what lies between may have made it weak. `*` names none:
/// who has nothing must get everything.
fn names(headers: &HeaderMap, tag: &str) -> bool {
    let values = headers.get_all(IF_NONE_MATCH).iter();
    let mut tags = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    tags.any(|known| {
        let known = known.trim();
        known.strip_prefix("W/").unwrap_or(known) == tag
    })
}
