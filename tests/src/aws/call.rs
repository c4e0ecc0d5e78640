//! Signed calls of the lab itself to its AWS stand-ins: three services speak the query protocol, KMS and Instance
//! Connect speak JSON.

use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials as Identity;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use http::{Request, Response};
use hyper::body::Bytes;

use crate::aws::Credentials;
use crate::error::{Error, Result, unexpected};

/// One call, before it is signed.
#[derive(Clone, Debug)]
pub struct Call {
    service: String,
    action: String,
    region: String,
    content_type: &'static str,
    target: Option<String>,
    body: String,
    host: Option<String>,
}

impl Call {
    /// A call of STS, IAM or EC2 with its parameters.
    pub fn query(service: &str, action: &str, parameters: &[(&str, &str)]) -> Call {
        let version = match service {
            "sts" => "2011-06-15",
            "iam" => "2010-05-08",
            _ => "2016-11-15",
        };
        let fixed = [("Action", action), ("Version", version)];
        let pairs = fixed
            .iter()
            .chain(parameters)
            .map(|(name, value)| format!("{name}={}", percent_encoded(value)));
        Call {
            service: service.into(),
            action: action.into(),
            region: "us-east-1".into(),
            content_type: "application/x-www-form-urlencoded; charset=utf-8",
            target: None,
            body: pairs.collect::<Vec<_>>().join("&"),
            host: None,
        }
    }

    /// A call of a JSON service: `kms`, or `ec2-instance-connect`.
    pub fn json(service: &str, action: &str, body: &serde_json::Value) -> Call {
        let prefix = if service == "kms" {
            "TrentService"
        } else {
            "AWSEC2InstanceConnectService"
        };
        Call {
            service: service.into(),
            action: action.into(),
            region: "us-east-1".into(),
            content_type: "application/x-amz-json-1.1",
            target: Some(format!("{prefix}.{action}")),
            body: body.to_string(),
            host: None,
        }
    }

    /// In another region than us-east-1.
    #[must_use]
    pub fn region(mut self, region: &str) -> Call {
        self.region = region.into();
        self
    }

    /// Signed for this host instead of the address that it is sent to, as a CA does that is told to ask a stand-in.
    #[must_use]
    pub fn host(mut self, host: &str) -> Call {
        self.host = Some(host.into());
        self
    }

    /// `service:Action`.
    pub fn name(&self) -> String {
        format!("{}:{}", self.service, self.action)
    }

    /// The signed request to `address`, dated `now` (unix seconds).
    ///
    /// # Errors
    /// When the parameters cannot be signed.
    pub fn signed(
        &self,
        address: SocketAddr,
        credentials: &Credentials,
        now: u64,
    ) -> Result<Request<Bytes>> {
        let mut request = self.unsigned(address)?;
        let identity = identity(credentials);
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(&self.service)
            .time(UNIX_EPOCH + Duration::from_secs(now))
            .settings(SigningSettings::default())
            .build()
            .map_err(|cause| unexpected("sign a call", cause))?
            .into();
        let url = format!("http://{}/", self.host_of(address));
        let headers = request
            .headers()
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let signable = SignableRequest::new(
            "POST",
            &url,
            headers,
            SignableBody::Bytes(self.body.as_bytes()),
        )
        .map_err(|cause| unexpected("sign a call", cause))?;
        let (instructions, _) = sign(signable, &parameters)
            .map_err(|cause| unexpected("sign a call", cause))?
            .into_parts();
        instructions.apply_to_request_http1x(&mut request);
        Ok(request)
    }

    /// The answer's body, if its status is 200.
    ///
    /// # Errors
    /// [`Error::Refused`] with the answer otherwise.
    pub fn accepted(&self, answer: Response<Bytes>) -> Result<String> {
        let status = answer.status().as_u16();
        let body = String::from_utf8_lossy(answer.body()).into_owned();
        if status == 200 {
            Ok(body)
        } else {
            Err(Error::Refused {
                action: self.name(),
                status,
                body,
            })
        }
    }

    fn host_of(&self, address: SocketAddr) -> String {
        self.host.clone().unwrap_or_else(|| address.to_string())
    }

    fn unsigned(&self, address: SocketAddr) -> Result<Request<Bytes>> {
        let mut request = Request::post("/")
            .header("host", self.host_of(address))
            .header("content-type", self.content_type);
        if let Some(target) = &self.target {
            request = request.header("x-amz-target", target);
        }
        request
            .body(Bytes::from(self.body.clone()))
            .map_err(|cause| unexpected("write a call", cause))
    }
}

fn identity(credentials: &Credentials) -> aws_smithy_runtime_api::client::identity::Identity {
    let Credentials {
        access_key_id,
        secret_access_key,
        session_token,
    } = credentials.clone();
    Identity::new(
        access_key_id,
        secret_access_key,
        session_token,
        None,
        "eic-lab",
    )
    .into()
}

/// Form encoding as botocore writes it. moto signs a form that it has parsed and written again in that encoding, so
/// a space must be `+` here, while AWS itself takes `%20`, too.
fn percent_encoded(text: &str) -> String {
    let escaped = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            char::from(byte).to_string()
        }
        b' ' => "+".to_owned(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escaped).collect()
}
