//! `sts:GetWebIdentityToken` (STS API reference): a token about the caller for somebody outside of AWS.
//! It needs a permission each time; whoever is denied or revoked in IAM gets none.

use eic_protocol::proof::Audience;
use eic_protocol::proof::oidc::IdToken;

use crate::endpoint::Endpoint;
use crate::error::AwsError;
use crate::http_client::HttpClient;
use crate::query;
use crate::sigv4::Scope;

/// Life of a token: as long as a session at a CA can last. Seconds; STS takes 60 to 3,600.
const DURATION: u64 = 900;

/// A token for this audience alone, signed with ES384.
///
/// # Errors
/// [`AwsError`]
pub async fn get_web_identity_token(
    client: &HttpClient,
    endpoint: &Endpoint,
    scope: &Scope<'_>,
    audience: &Audience,
) -> Result<IdToken, AwsError> {
    let parameters = [
        ("Action", "GetWebIdentityToken"),
        ("Audience.member.1", audience.as_str()),
        ("DurationSeconds", &DURATION.to_string()),
        ("SigningAlgorithm", "ES384"),
        ("Version", "2011-06-15"),
    ];
    let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let answer = query::call(client, endpoint, scope, &parameters).await?;
    let result = answer.find("GetWebIdentityTokenResult");
    let token = result.and_then(|result| result.child_text("WebIdentityToken"));
    let malformed = AwsError::Malformed("no token in the answer of GetWebIdentityToken");
    token.and_then(|token| token.parse().ok()).ok_or(malformed)
}
