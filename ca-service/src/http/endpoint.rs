//! What each route reads and answers; nothing is decided here.

use ::http::request::Parts;
use axum::body::Body;
use axum::extract::Query;
use axum::response::Response;
use eic_protocol::api::certificate::UserCertificateRequest;
use eic_protocol::api::event::EventRequest;
use eic_protocol::api::instance::InstancesQuery;
use eic_protocol::api::problem::ProblemCode;
use eic_protocol::api::session::SessionRequest;
use eic_protocol::text::printable;
use serde::Serialize;

use super::context::Context;
use super::error::ApiError;
use super::{Endpoint, body, hosts, json, openapi, revocations, trust_bundle};
use crate::app::App;

pub(super) async fn answer(
    app: &App,
    endpoint: Endpoint,
    context: &Context,
    parts: &Parts,
    body: Body,
) -> Result<Response, ApiError> {
    match endpoint {
        Endpoint::Sessions => open_session(app, context, parts, body).await,
        Endpoint::UserCertificates => issue(app, context, parts, body).await,
        Endpoint::HostCertificates => hosts::certify(app, context, parts, body).await,
        Endpoint::HostCertification => hosts::certify_for_caller(app, context, parts, body).await,
        Endpoint::HostKeys => hosts::know_keys(app, context, parts, body).await,
        Endpoint::HostReports => hosts::report(app, context, parts, body).await,
        Endpoint::Revocations => revocations::revoke(app, context, parts, body).await,
        Endpoint::TrustBundle => trust_bundle::answer(app, parts).await,
        Endpoint::Events => record_event(app, context, parts, body).await,
        Endpoint::Instances => list_instances(app, context, parts).await,
        Endpoint::Discovery | Endpoint::Health | Endpoint::Readiness | Endpoint::OpenApi => {
            body::refuse(&parts.headers)?;
            public(app, endpoint)
        }
    }
}

fn public(app: &App, endpoint: Endpoint) -> Result<Response, ApiError> {
    match endpoint {
        Endpoint::Discovery => Ok(json((**app.discovery.load()).clone())),
        Endpoint::OpenApi => Ok(json(openapi::bytes())),
        Endpoint::Readiness => match app.readiness() {
            Ok(()) => Ok(json("{\"ready\":true}")),
            Err(missing) => Err(ApiError::new(ProblemCode::Overloaded, missing)),
        },
        _ => Ok(json("{\"healthy\":true}")),
    }
}

async fn open_session(
    app: &App,
    context: &Context,
    parts: &Parts,
    body: Body,
) -> Result<Response, ApiError> {
    let request: SessionRequest = body::read(&parts.headers, body, app.limits.body_bytes).await?;
    serialized(&app.open_session(context, &request).await?)
}

async fn issue(
    app: &App,
    context: &Context,
    parts: &Parts,
    body: Body,
) -> Result<Response, ApiError> {
    let presented = app.authorization(context, &parts.headers)?;
    let request: UserCertificateRequest =
        body::read(&parts.headers, body, app.limits.body_bytes).await?;
    serialized(
        &app.issue_user_certificate(context, &presented, request)
            .await?,
    )
}

async fn record_event(
    app: &App,
    context: &Context,
    parts: &Parts,
    body: Body,
) -> Result<Response, ApiError> {
    let presented = app.authorization(context, &parts.headers)?;
    let request: EventRequest = body::read(&parts.headers, body, app.limits.body_bytes).await?;
    serialized(&app.record_event(context, &presented, &request).await?)
}

async fn list_instances(app: &App, context: &Context, parts: &Parts) -> Result<Response, ApiError> {
    let presented = app.authorization(context, &parts.headers)?;
    body::refuse(&parts.headers)?;
    let Query(query) = Query::<InstancesQuery>::try_from_uri(&parts.uri)
        .map_err(|e| ApiError::new(ProblemCode::MalformedRequest, printable(&e.to_string())))?;
    serialized(&app.visible_instances(context, &presented, &query).await?)
}

pub(super) fn serialized<T: Serialize>(value: &T) -> Result<Response, ApiError> {
    let bytes = serde_json::to_vec(value);
    bytes
        .map(json)
        .map_err(|_| ApiError::new(ProblemCode::Internal, "an error inside the CA"))
}
