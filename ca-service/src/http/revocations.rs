//! The revocations' route.

use ::http::request::Parts;
use axum::body::Body;
use axum::response::Response;
use eic_protocol::api::revocation::RevocationRequest;

use super::body;
use super::context::Context;
use super::endpoint::serialized;
use super::error::ApiError;
use crate::app::App;

pub(super) async fn revoke(
    app: &App,
    context: &Context,
    parts: &Parts,
    body: Body,
) -> Result<Response, ApiError> {
    let presented = app.authorization(context, &parts.headers)?;
    let request: RevocationRequest =
        body::read(&parts.headers, body, app.limits.body_bytes).await?;
    serialized(&app.revoke(context, &presented, &request).await?)
}
