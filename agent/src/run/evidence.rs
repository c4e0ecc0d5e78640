//! What proves to the CA which host asks for a certificate: fields from instance metadata, the role's signed STS
//! request, a web identity token, an enrolment token. Gathered anew for each request; nothing is kept.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use eic_protocol::api::host_certificate::evidence::{
    Bound, EnrolmentToken, HostEvidence, IdentitySignature, InvalidToken, WebIdentityToken,
};
use eic_protocol::aws_region::AwsRegion;
use eic_protocol::base64_text::Base64Bytes;
use eic_protocol::proof::aws_sts::{AwsStsProof, BODY, InvalidProof};
use eic_protocol::proof::{Audience, RequestDigest};
use serde::Deserialize;

use super::http::{Client, HttpError};
use super::sigv4::{self, Credentials};
use crate::clock::Deadline;
use crate::instance_connect::endpoint::Endpoint;
use crate::instance_connect::metadata::{Metadata, MetadataError};

/// For all of instance metadata.
const METADATA_DEADLINE: Duration = Duration::from_secs(10);
/// For the call to STS.
const STS_DEADLINE: Duration = Duration::from_secs(10);
/// Largest answer of STS in bytes.
const MAX_STS: u64 = 64 * 1024;
/// Longest token file in bytes.
const MAX_TOKEN: u64 = 256;

/// What instance metadata gives for one request.
#[derive(Debug)]
pub(super) struct Instance {
    document: Vec<u8>,
    signature: IdentitySignature,
    region: AwsRegion,
    credentials: Credentials,
}

impl Instance {
    /// Reads the identity document with its RSA-2048 signature, and the role's credentials.
    pub(super) fn read(endpoint: &Endpoint) -> Result<Self, NoEvidence> {
        let mut metadata = Metadata::open(endpoint, Deadline::after(METADATA_DEADLINE))?;
        let document = metadata.get("dynamic/instance-identity/document")?;
        let signature = metadata.get("dynamic/instance-identity/rsa2048")?;
        let region = region_of(&document)?;
        Ok(Self {
            signature: IdentitySignature::Rsa2048(Base64Bytes(lines_of_base64(&signature)?)),
            region,
            document,
            credentials: role(&mut metadata)?,
        })
    }

    /// What of it the host keys sign.
    pub(super) fn bound(&self) -> Bound<'_> {
        Bound::InstanceIdentity {
            document: &self.document,
            signature: &self.signature,
        }
    }

    /// The evidence, with the role's proof over the request's digest. `now` is in Unix seconds.
    pub(super) fn evidence(
        self,
        audience: &Audience,
        digest: RequestDigest,
        now: u64,
    ) -> Result<HostEvidence, NoEvidence> {
        let proof = self.proof(audience, digest, now)?;
        Ok(HostEvidence::InstanceIdentity {
            document: Base64Bytes(self.document),
            signature: self.signature,
            proof,
        })
    }

    fn proof(
        &self,
        audience: &Audience,
        digest: RequestDigest,
        now: u64,
    ) -> Result<AwsStsProof, NoEvidence> {
        let mut proof = AwsStsProof {
            region: self.region,
            access_key_id: self.credentials.access_key_id.parse()?,
            date: amz_date(now).parse()?,
            signature: "0".repeat(64).parse()?,
            session_token: Some(self.credentials.token.reveal().parse()?),
        };
        // The one request that the CA will rebuild from these fields, its signature apart.
        let request = proof.rebuild(audience, digest);
        let headers: Vec<(&str, &str)> = request
            .headers
            .iter()
            .filter(|(name, _)| *name != "authorization")
            .map(|(name, value)| (*name, value.reveal().as_str()))
            .collect();
        let post = sigv4::Request {
            method: "POST",
            path: "/",
            service: "sts",
            region: &self.region.to_string(),
            date: &proof.date.to_string(),
            headers: &headers,
            body: BODY.as_bytes(),
        };
        proof.signature = post
            .signature(&self.credentials.secret_access_key)
            .parse()?;
        Ok(proof)
    }

    /// A token of `sts:GetWebIdentityToken` for the CA. `sts` replaces the Region's endpoint.
    pub(super) fn web_identity(
        &self,
        audience: &Audience,
        sts: Option<&Audience>,
        client: &Client,
        now: u64,
    ) -> Result<WebIdentityToken, NoEvidence> {
        let host = self.region.endpoint("sts");
        let origin = sts.map_or_else(|| format!("https://{host}"), ToString::to_string);
        let body = format!(
            "Action=GetWebIdentityToken&Audience.member.1={}&DurationSeconds=300&SigningAlgorithm=ES384&Version=2011-06-15",
            escaped(audience.as_str())
        );
        let date = amz_date(now);
        let signed_host = origin
            .split_once("://")
            .map_or(host.as_str(), |(_, host)| host);
        let headers = [
            (
                "content-type",
                "application/x-www-form-urlencoded; charset=utf-8",
            ),
            ("host", signed_host),
            ("x-amz-date", date.as_str()),
            (
                "x-amz-security-token",
                self.credentials.token.reveal().as_str(),
            ),
        ];
        let post = sigv4::Request {
            method: "POST",
            path: "/",
            service: "sts",
            region: &self.region.to_string(),
            date: &date,
            headers: &headers,
            body: body.as_bytes(),
        };
        let authorization = post.authorization(&self.credentials);
        let mut sent: Vec<(&str, &str)> = headers
            .into_iter()
            .filter(|(name, _)| *name != "host")
            .collect();
        sent.push(("authorization", &authorization));
        let answer = client.post(
            &format!("{origin}/"),
            &sent,
            body.as_bytes(),
            MAX_STS,
            STS_DEADLINE,
        )?;
        token_of(answer.status, &answer.body)
    }
}

/// The instance's Region and its role's credentials, for another service than STS.
pub(super) fn region_and_role(endpoint: &Endpoint) -> Result<(AwsRegion, Credentials), NoEvidence> {
    let mut metadata = Metadata::open(endpoint, Deadline::after(METADATA_DEADLINE))?;
    let document = metadata.get("dynamic/instance-identity/document")?;
    Ok((region_of(&document)?, role(&mut metadata)?))
}

/// The one-time token in its file.
pub(super) fn enrolment_token(path: &Path) -> Result<EnrolmentToken, NoEvidence> {
    use std::io::Read as _;
    let failed = |source| NoEvidence::TokenFile {
        path: path.to_path_buf(),
        source,
    };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_TOKEN)
        .read_to_string(&mut text)
        .map_err(failed)?;
    Ok(text.trim().parse()?)
}

/// The one token in STS's answer. Its XML holds no text of the caller's.
fn token_of(status: u16, body: &[u8]) -> Result<WebIdentityToken, NoEvidence> {
    let text = std::str::from_utf8(body).unwrap_or_default();
    if status != 200 {
        let code = between(text, "<Code>", "</Code>").unwrap_or("no code");
        return Err(NoEvidence::Sts {
            status,
            code: eic_protocol::text::printable(code),
        });
    }
    let token = between(text, "<WebIdentityToken>", "</WebIdentityToken>");
    Ok(token.ok_or(InvalidToken)?.parse()?)
}

fn between<'a>(text: &'a str, open: &str, close: &str) -> Option<&'a str> {
    text.split_once(open)?
        .1
        .split_once(close)
        .map(|(inner, _)| inner)
}

fn region_of(document: &[u8]) -> Result<AwsRegion, NoEvidence> {
    #[derive(Deserialize)]
    struct Document {
        region: AwsRegion,
    }
    let read: Document = serde_json::from_slice(document).map_err(|_| NoEvidence::Document)?;
    Ok(read.region)
}

/// Instance metadata breaks the signature into lines.
fn lines_of_base64(text: &[u8]) -> Result<Vec<u8>, NoEvidence> {
    let joined: Vec<u8> = text
        .iter()
        .copied()
        .filter(|b| !b.is_ascii_whitespace())
        .collect();
    STANDARD.decode(joined).map_err(|_| NoEvidence::Document)
}

fn role(metadata: &mut Metadata) -> Result<Credentials, NoEvidence> {
    const FOLDER: &str = "meta-data/iam/security-credentials/";
    let list = metadata.get(FOLDER)?;
    let name = std::str::from_utf8(&list).unwrap_or_default();
    let name = name.lines().next().unwrap_or_default().trim();
    // IAM API reference, RoleName: nothing that could lead elsewhere in the URL.
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
        return Err(NoEvidence::NoRole);
    }
    let json = metadata.get(&format!("{FOLDER}{name}"))?;
    serde_json::from_slice(&json).map_err(|_| NoEvidence::NoRole)
}

/// Percent-encoding of a query value (SigV4 signs the body's hash, so only STS's reading matters).
fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// `YYYYMMDDTHHMMSSZ` of Unix seconds: RFC 3339 without its separators.
pub(super) fn amz_date(now: u64) -> String {
    let date = crate::calendar::rfc3339(now);
    date.chars().filter(|c| !matches!(c, '-' | ':')).collect()
}

/// Why there is no evidence.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoEvidence {
    /// Instance metadata.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// Not an identity document.
    #[error("read the instance identity document")]
    Document,
    /// The instance has no role.
    #[error(
        "find the instance's role: attach an instance profile (or, for host certificates, set `[service] evidence`)"
    )]
    NoRole,
    /// A field of the credentials is of no known form.
    #[error("use the role's credentials")]
    Proof(#[from] InvalidProof),
    /// STS refused.
    #[error(
        "get a web identity token: STS answered {status} ({code}); the role needs sts:GetWebIdentityToken"
    )]
    Sts {
        /// The status.
        status: u16,
        /// AWS's error code.
        code: String,
    },
    /// No connection to STS.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Not a token.
    #[error("use the token")]
    Token(#[from] InvalidToken),
    /// The token's file.
    #[error("read the enrolment token `{}`", .path.display())]
    TokenFile {
        /// Which.
        path: std::path::PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use eic_protocol::proof::aws_sts::AmzDate;

    #[test]
    fn answers_without_a_token_are_refused_with_awss_code() {
        let denied = b"<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>";
        let Err(NoEvidence::Sts { status: 403, code }) = token_of(403, denied) else {
            panic!()
        };
        assert_eq!(code, "AccessDenied");
        for body in [
            b"".as_slice(),
            b"<WebIdentityToken></WebIdentityToken>",
            b"<WebIdentityToken>a b.c.d</WebIdentityToken>",
        ] {
            assert!(token_of(200, body).is_err());
        }
        let good = b"<R><WebIdentityToken>aa.bb.cc</WebIdentityToken></R>";
        assert_eq!(token_of(200, good).unwrap().reveal(), "aa.bb.cc");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "19700101T000000Z"),
            (951_782_400, "20000229T000000Z"),
            (1_795_323_221, "20261122T045341Z"),
            (4_107_542_400, "21000301T000000Z"),
        ] {
            assert_eq!(amz_date(seconds), text);
            assert_eq!(text.parse::<AmzDate>().unwrap().unix(), seconds);
        }
    }

    #[test]
    fn the_ca_rebuilds_the_request_that_was_signed() {
        let instance = Instance {
            document: b"{\"region\":\"eu-west-1\"}".to_vec(),
            signature: IdentitySignature::Rsa2048(Base64Bytes(vec![1])),
            region: "eu-west-1".parse().unwrap(),
            credentials: serde_json::from_str(
                "{\"AccessKeyId\":\"ASIAEXAMPLEEXAMPLE12\",\"SecretAccessKey\":\"k\",\"Token\":\"dG9rZW4=\"}",
            )
            .unwrap(),
        };
        let audience: Audience = "https://ca.example".parse().unwrap();
        let digest = eic_protocol::proof::CanonicalRequest::of(&audience, &Probe).digest();
        let proof = instance.proof(&audience, digest, 1_795_323_221).unwrap();
        let rebuilt = proof.rebuild(&audience, digest);
        assert_eq!(rebuilt.host, "sts.eu-west-1.amazonaws.com");
        let other = instance.proof(
            &"https://other.example".parse().unwrap(),
            digest,
            1_795_323_221,
        );
        let text = |proof: &AwsStsProof| serde_json::to_string(proof).unwrap();
        assert_ne!(text(&proof), text(&other.unwrap()));
    }

    struct Probe;

    impl eic_protocol::proof::Signed for Probe {
        const ROUTE: eic_protocol::proof::Route = eic_protocol::proof::Route::HostCertificates;

        fn fields(&self, _: &mut eic_protocol::proof::Fields) {}
    }

    #[test]
    fn audiences_are_escaped_for_a_form() {
        assert_eq!(
            escaped("https://ca.example:8443"),
            "https%3A%2F%2Fca.example%3A8443"
        );
    }
}
