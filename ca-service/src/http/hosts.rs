//! Routes about hosts: certificates for their keys, legacy hosts' keys, reports.

use ::http::request::Parts;
use axum::body::Body;
use axum::response::Response;
use eic_protocol::api::host_certificate::{HostCertificateRequest, MAX_REQUEST};
use eic_protocol::api::host_certification::HostCertificationRequest;
use eic_protocol::api::host_keys::HostKeysRequest;
use eic_protocol::api::host_report::{MAX_REPORT, SignedHostReport};

use super::body;
use super::context::Context;
use super::endpoint::serialized;
use super::error::ApiError;
use crate::app::App;

pub(super) async fn certify(
    app: &App,
    context: &Context,
    parts: &Parts,
    body: Body,
) -> Result<Response, ApiError> {
    let request: HostCertificateRequest = body::read(&parts.headers, body, MAX_REQUEST).await?;
    serialized(&app.certify_host(context, &request).await?)
}

pub(super) async fn certify_for_caller(
    app: &App,
    context: &Context,
    parts: &Parts,
    body: Body,
) -> Result<Response, ApiError> {
    let presented = app.authorization(context, &parts.headers)?;
    let request: HostCertificationRequest =
        body::read(&parts.headers, body, app.limits.body_bytes).await?;
    serialized(
        &app.certify_for_caller(context, &presented, &request)
            .await?,
    )
}

pub(super) async fn know_keys(
    app: &App,
    context: &Context,
    parts: &Parts,
    body: Body,
) -> Result<Response, ApiError> {
    let request: HostKeysRequest = body::read(&parts.headers, body, MAX_REQUEST).await?;
    serialized(&app.know_host_keys(context, &request).await?)
}

pub(super) async fn report(
    app: &App,
    context: &Context,
    parts: &Parts,
    body: Body,
) -> Result<Response, ApiError> {
    let large = app.large_bodies.read(&parts.headers, body, MAX_REPORT);
    let signed: SignedHostReport = large.await?;
    serialized(&app.take_host_report(context, &signed).await?)
}
