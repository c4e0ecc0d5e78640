//! Signing: requests of our own calls, and the STS request that proves an identity.

use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningInstructions,
    SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use eic_protocol::aws_region::AwsRegion;
use eic_protocol::proof::aws_sts::{
    AUDIENCE_HEADER, AwsStsProof, BODY, CONTENT_TYPE, REQUEST_HEADER,
};
use eic_protocol::proof::{Audience, RequestDigest};
use http::Request;

use crate::error::AwsError;

/// Who signs, for what, when.
#[derive(Clone, Debug)]
pub struct Scope<'a> {
    /// The credentials.
    pub credentials: &'a Credentials,
    /// Region of the credential scope.
    pub region: AwsRegion,
    /// Service of the credential scope: `ec2`, `sts`, …
    pub service: &'static str,
    /// Unix seconds.
    pub now: u64,
}

/// Signs `request` in place: `x-amz-date`, `x-amz-security-token` and `authorization` are added.
/// The request must have its `host` header already.
///
/// # Errors
/// [`AwsError::Signing`].
pub fn sign_request(scope: &Scope<'_>, request: &mut Request<Vec<u8>>) -> Result<(), AwsError> {
    let instructions = instructions(scope, request, SigningSettings::default())?;
    instructions.apply_to_request_http1x(request);
    Ok(())
}

/// As [`sign_request`], as S3 wants it: the path as it is, and the body's hash as a header
/// (S3 API reference, "Signature Calculations for the Authorization Header").
///
/// # Errors
/// [`AwsError::Signing`].
pub fn sign_s3_request(scope: &Scope<'_>, request: &mut Request<Vec<u8>>) -> Result<(), AwsError> {
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    let instructions = instructions(scope, request, settings)?;
    instructions.apply_to_request_http1x(request);
    Ok(())
}

fn instructions(
    scope: &Scope<'_>,
    request: &Request<Vec<u8>>,
    settings: SigningSettings,
) -> Result<SigningInstructions, AwsError> {
    let failed = |e: &dyn std::fmt::Display| AwsError::Signing(e.to_string());
    let identity: Identity = scope.credentials.clone().into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(scope.region.as_str())
        .name(scope.service)
        .time(UNIX_EPOCH + Duration::from_secs(scope.now))
        .settings(settings)
        .build()
        .map_err(|e| failed(&e))?;
    let mut headers = Vec::new();
    for (name, value) in request.headers() {
        headers.push((name.as_str(), value.to_str().map_err(|e| failed(&e))?));
    }
    let signable = SignableRequest::new(
        request.method().as_str(),
        request.uri().to_string(),
        headers.into_iter(),
        SignableBody::Bytes(request.body()),
    )
    .map_err(|e| failed(&e))?;
    let output = sign(signable, &params.into()).map_err(|e| failed(&e))?;
    Ok(output.into_parts().0)
}

/// The proof of who holds `credentials`, for this audience and this request only.
/// The CA rebuilds and sends the request itself; here it is only signed.
///
/// # Errors
/// [`AwsError::Signing`] where the credentials hold something that SigV4 cannot carry.
pub fn sign_identity_proof(
    credentials: &Credentials,
    region: AwsRegion,
    now: u64,
    audience: &Audience,
    digest: RequestDigest,
) -> Result<AwsStsProof, AwsError> {
    let host = region.endpoint("sts");
    let mut request = Request::post(format!("https://{host}/"))
        .header("content-type", CONTENT_TYPE)
        .header("host", host)
        .header(AUDIENCE_HEADER, audience.as_str())
        .header(REQUEST_HEADER, digest.to_hex())
        .body(BODY.as_bytes().to_vec())
        .map_err(|e| AwsError::Signing(e.to_string()))?;
    sign_request(
        &Scope {
            credentials,
            region,
            service: "sts",
            now,
        },
        &mut request,
    )?;
    let header = |name: &str| {
        request
            .headers()
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
    };
    let signature = header("authorization")
        .rsplit_once("Signature=")
        .map_or("", |(_, s)| s);
    let invalid = |e: eic_protocol::proof::aws_sts::InvalidProof| AwsError::Signing(e.to_string());
    Ok(AwsStsProof {
        region,
        access_key_id: credentials.access_key_id().parse().map_err(invalid)?,
        date: header("x-amz-date").parse().map_err(invalid)?,
        signature: signature.parse().map_err(invalid)?,
        session_token: credentials
            .session_token()
            .map(str::parse)
            .transpose()
            .map_err(invalid)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use eic_protocol::proof::{CanonicalRequest, Fields, Route, Signed};

    struct Nothing;

    impl Signed for Nothing {
        const ROUTE: Route = Route::Sessions;
        fn fields(&self, _: &mut Fields) {}
    }

    #[test]
    fn the_rebuilt_request_has_exactly_the_signed_headers() {
        let credentials = Credentials::new(
            "AKIAIOSFODNN7EXAMPLE",
            "secret",
            Some("dG9rZW4=".to_owned()),
            None,
            "test",
        );
        let audience: Audience = "https://ca.example".parse().unwrap();
        let digest = CanonicalRequest::of(&audience, &Nothing).digest();
        let region = "eu-west-1".parse().unwrap();
        let proof =
            sign_identity_proof(&credentials, region, 1_763_775_000, &audience, digest).unwrap();
        let rebuilt = proof.rebuild(&audience, digest);
        let signed: Vec<_> = rebuilt.headers.iter().map(|(name, _)| *name).collect();
        let expected = [
            "content-type",
            "host",
            "x-amz-date",
            "x-amz-security-token",
            "x-eic-audience",
            "x-eic-request",
            "authorization",
        ];
        assert_eq!(signed, expected);

        // Signing the rebuilt headers again gives the same authorization: nothing was lost on the way.
        let mut again = Request::post(format!("https://{}/", rebuilt.host))
            .body(BODY.as_bytes().to_vec())
            .unwrap();
        for (name, value) in &rebuilt.headers {
            if !matches!(
                *name,
                "authorization" | "x-amz-date" | "x-amz-security-token"
            ) {
                again
                    .headers_mut()
                    .insert(*name, value.reveal().parse().unwrap());
            }
        }
        sign_request(
            &Scope {
                credentials: &credentials,
                region,
                service: "sts",
                now: 1_763_775_000,
            },
            &mut again,
        )
        .unwrap();
        let sent = rebuilt.headers.last().unwrap().1.reveal().clone();
        assert_eq!(again.headers()["authorization"].to_str().unwrap(), sent);
    }
}
