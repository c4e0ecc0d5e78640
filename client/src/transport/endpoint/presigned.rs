//! The signed address of a tunnel: SigV4 in the query, service `ec2-instance-connect`, good for 60 seconds.

use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use eic_aws::error::AwsError;
use eic_protocol::aws_region::AwsRegion;
use eic_protocol::secret::Secret;

use super::{DnsName, EndpointId, TunnelSeconds};

/// Service of the credential scope.
const SERVICE: &str = "ec2-instance-connect";
/// How long the address may be used to open a tunnel. AWS takes no more than 60 s.
const EXPIRES: Duration = Duration::from_secs(60);

/// What is signed.
#[derive(Clone, Debug)]
pub struct Presign<'a> {
    /// Who signs.
    pub credentials: &'a Credentials,
    /// The endpoint's Region.
    pub region: AwsRegion,
    /// Unix seconds.
    pub now: u64,
    /// The endpoint.
    pub endpoint: &'a EndpointId,
    /// Its DNS name: the signed `host`.
    pub host: &'a DnsName,
    /// The instance's private address.
    pub address: IpAddr,
    /// The port there.
    pub port: u16,
    /// When the service ends the tunnel; none: after an hour.
    pub max_duration: Option<TunnelSeconds>,
}

/// Path and query of `wss://HOST/openTunnel?…`.
///
/// # Errors
/// [`AwsError::Signing`].
pub fn presigned_path(what: &Presign<'_>) -> Result<Secret<String>, AwsError> {
    let failed = |e: &dyn std::fmt::Display| AwsError::Signing(e.to_string());
    let path = unsigned_path(what);
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(EXPIRES);
    let identity: Identity = what.credentials.clone().into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(what.region.as_str())
        .name(SERVICE)
        .time(UNIX_EPOCH + Duration::from_secs(what.now))
        .settings(settings)
        .build()
        .map_err(|e| failed(&e))?;
    let request = SignableRequest::new(
        "GET",
        format!("https://{}{path}", what.host),
        [("host", what.host.as_str())].into_iter(),
        SignableBody::Bytes(&[]),
    );
    let request = request.map_err(|e| failed(&e))?;
    let output = sign(request, &params.into()).map_err(|e| failed(&e))?;
    let mut signed = http::Request::get(format!("https://{}{path}", what.host))
        .body(())
        .map_err(|e| failed(&e))?;
    output.into_parts().0.apply_to_request_http1x(&mut signed);
    let whole = signed.uri().path_and_query().map(ToString::to_string);
    Ok(Secret::new(whole.unwrap_or_default()))
}

/// Every value is of a grammar that needs no escape, but for the colons of an IPv6 address.
fn unsigned_path(what: &Presign<'_>) -> String {
    let address = what.address.to_string().replace(':', "%3A");
    let duration = what.max_duration.map_or_else(String::new, |seconds| {
        format!("&maxTunnelDuration={}", seconds.get())
    });
    format!(
        "/openTunnel?instanceConnectEndpointId={}&remotePort={}&privateIpAddress={address}{duration}",
        what.endpoint, what.port
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest as _, Sha256};

    fn mac(key: &[u8], message: &str) -> Vec<u8> {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key);
        aws_lc_rs::hmac::sign(&key, message.as_bytes())
            .as_ref()
            .to_vec()
    }

    /// The signature by hand, as "Signing AWS API requests" has it.
    fn signature_of(path: &str, host: &str, secret: &str) -> String {
        let (path, query) = path.split_once('?').unwrap();
        let mut pairs: Vec<&str> = query
            .split('&')
            .filter(|p| !p.starts_with("X-Amz-Signature="))
            .collect();
        pairs.sort_unstable();
        let empty = hex::encode(Sha256::digest([]));
        let canonical = format!(
            "GET\n{path}\n{}\nhost:{host}\n\nhost\n{empty}",
            pairs.join("&")
        );
        let date = query
            .split("X-Amz-Date=")
            .nth(1)
            .unwrap()
            .split('&')
            .next()
            .unwrap();
        let day = &date[..8];
        let scope = format!("{day}/eu-west-1/ec2-instance-connect/aws4_request");
        let text = format!(
            "AWS4-HMAC-SHA256\n{date}\n{scope}\n{}",
            hex::encode(Sha256::digest(canonical))
        );
        let key = ["eu-west-1", "ec2-instance-connect", "aws4_request"]
            .iter()
            .fold(mac(format!("AWS4{secret}").as_bytes(), day), |key, part| {
                mac(&key, part)
            });
        hex::encode(mac(&key, &text))
    }

    #[test]
    fn the_signature_covers_every_parameter_and_the_host() {
        let credentials = Credentials::new(
            "AKIDEXAMPLE",
            "secret",
            Some("to/ken+x==".to_owned()),
            None,
            "test",
        );
        let host: DnsName = "eice-01234567.x.ec2-instance-connect-endpoint.eu-west-1.amazonaws.com"
            .parse()
            .unwrap();
        for address in ["10.0.0.5", "fd00::5"] {
            let path = presigned_path(&Presign {
                credentials: &credentials,
                region: "eu-west-1".parse().unwrap(),
                now: 1_795_304_439,
                endpoint: &"eice-01234567".parse().unwrap(),
                host: &host,
                address: address.parse().unwrap(),
                port: 22,
                max_duration: "60".parse().ok(),
            })
            .unwrap();
            assert!(!format!("{path:?}").contains("Signature"));
            let path = path.reveal();
            for part in [
                "/openTunnel?",
                "instanceConnectEndpointId=eice-01234567",
                "remotePort=22",
                "maxTunnelDuration=60",
                "X-Amz-Expires=60",
                "X-Amz-SignedHeaders=host",
                "X-Amz-Security-Token=to%2Fken%2Bx%3D%3D",
            ] {
                assert!(path.contains(part), "{part}: {path}");
            }
            let signed = path.split("X-Amz-Signature=").nth(1).unwrap();
            let signed = signed.split('&').next().unwrap();
            assert_eq!(
                signed,
                signature_of(path, host.as_str(), "secret"),
                "{path}"
            );
        }
    }
}
