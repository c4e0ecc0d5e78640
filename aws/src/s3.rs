//! S3: puts small objects into one bucket under one prefix (S3 API reference, PutObject). Nothing is read or listed.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use eic_protocol::aws_region::AwsRegion;
use eic_protocol::text::printable;
use http::Request;

use crate::endpoint::{Endpoint, InvalidEndpoint};
use crate::error::AwsError;
use crate::http_client::{HttpClient, Limits};
use crate::query::service_error;
use crate::sigv4::{Scope, sign_s3_request};

/// A few MB at most go out; S3's answer is short.
const LIMITS: Limits = Limits {
    deadline: Duration::from_secs(30),
    max_body: 64 * 1024,
};

/// `s3://bucket/prefix`: a bucket, and what every key in it begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Folder {
    bucket: String,
    prefix: String,
}

impl S3Folder {
    fn key(&self, name: &str) -> String {
        if self.prefix.is_empty() {
            name.to_owned()
        } else {
            format!("{}/{name}", self.prefix)
        }
    }
}

impl FromStr for S3Folder {
    type Err = InvalidS3Folder;

    fn from_str(text: &str) -> Result<Self, InvalidS3Folder> {
        let invalid = || InvalidS3Folder(printable(text));
        let rest = text.strip_prefix("s3://").ok_or_else(invalid)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        let parts_are_plain = prefix.is_empty() || prefix.split('/').all(is_plain);
        if is_bucket(bucket) && parts_are_plain && prefix.len() <= 512 {
            Ok(Self {
                bucket: bucket.to_owned(),
                prefix: prefix.to_owned(),
            })
        } else {
            Err(invalid())
        }
    }
}

impl fmt::Display for S3Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.prefix)
    }
}

/// S3 user guide, "General purpose bucket naming rules".
fn is_bucket(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    let outer = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = name.as_bytes();
    (3..=63).contains(&bytes.len())
        && bytes.iter().all(|b| inner(*b))
        && outer(bytes.first())
        && outer(bytes.last())
        && !name.contains("..")
}

/// Characters that need no encoding anywhere, so that there is one way to write a key.
fn is_plain(part: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    !part.is_empty() && part != "." && part != ".." && part.bytes().all(plain)
}

/// Where a bucket answers.
#[derive(Clone, Debug)]
pub struct S3Endpoint {
    endpoint: Endpoint,
    /// Put before the key: the bucket, where the host does not name it.
    base: String,
}

impl S3Endpoint {
    /// The bucket's own in its Region, or an override, as with the SDKs.
    ///
    /// # Errors
    /// An override that is no endpoint.
    pub fn of(
        folder: &S3Folder,
        region: AwsRegion,
        overridden: Option<&str>,
    ) -> Result<Self, InvalidEndpoint> {
        let bucket = &folder.bucket;
        let host = region.endpoint("s3");
        // A dot in the name would not match the certificate of `*.s3.REGION.amazonaws.com`.
        let (origin, base) = match overridden {
            Some(origin) => (origin.to_owned(), format!("/{bucket}/")),
            None if bucket.contains('.') => (format!("https://{host}"), format!("/{bucket}/")),
            None => (format!("https://{bucket}.{host}"), "/".to_owned()),
        };
        Ok(Self {
            endpoint: Endpoint::overridden(&origin)?,
            base,
        })
    }
}

/// Puts an object in place of what was there; readers see the whole old or the whole new one.
/// `name`: below the folder's prefix, of plain characters and `/`.
///
/// # Errors
/// [`AwsError::Service`] with S3's code, or no answer in 30 s.
pub async fn put_object(
    client: &HttpClient,
    endpoint: &S3Endpoint,
    scope: &Scope<'_>,
    (folder, name): (&S3Folder, &str),
    body: Vec<u8>,
) -> Result<(), AwsError> {
    if !name.split('/').all(is_plain) {
        return Err(AwsError::Signing("the key is not plain".to_owned()));
    }
    let path = format!("{}{}", endpoint.base, folder.key(name));
    let mut request = Request::put(endpoint.endpoint.url(&path))
        .header("host", endpoint.endpoint.host())
        .header("content-type", "application/json")
        // Whatever lies in between asks S3 first; a document that is held back is an old one.
        .header("cache-control", "no-cache")
        .body(body)
        .map_err(|e| AwsError::Signing(e.to_string()))?;
    sign_s3_request(scope, &mut request)?;
    let answer = client.send(request, LIMITS).await?;
    if answer.status == 200 {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&answer.body);
    Err(service_error(answer.status, &text))
}

/// Not a folder in S3.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not `s3://bucket/prefix` (prefix: letters, digits, `-`, `_`, `.`, between `/`)")]
pub struct InvalidS3Folder(String);

#[cfg(test)]
mod tests {
    use aws_credential_types::Credentials;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn what_is_not_a_bucket_with_a_plain_prefix_is_refused() {
        for bad in [
            "eic-trust",
            "s3://",
            "s3://ab/x",
            "s3://Bucket/x",
            "s3://-bucket/x",
            "s3://a..b/x",
            "s3://bucket/../x",
            "s3://bucket//x",
            "s3://bucket/a b",
            "s3://bucket/a%2f",
            "https://bucket/x",
        ] {
            assert!(bad.parse::<S3Folder>().is_err(), "{bad}");
        }
        for (good, key) in [
            ("s3://eic-trust", "x.json"),
            ("s3://eic-trust/", "x.json"),
            ("s3://eic.trust/prod/eu/", "prod/eu/x.json"),
        ] {
            assert_eq!(good.parse::<S3Folder>().unwrap().key("x.json"), key);
        }
    }

    #[test]
    fn a_bucket_is_named_by_its_host_unless_no_certificate_would_match() {
        let region = "eu-west-1".parse().unwrap();
        let url = |folder: &str, overridden| {
            let folder: S3Folder = folder.parse().unwrap();
            let at = S3Endpoint::of(&folder, region, overridden).unwrap();
            at.endpoint.url(&format!("{}{}", at.base, folder.key("x")))
        };
        assert_eq!(
            url("s3://trust/a", None),
            "https://trust.s3.eu-west-1.amazonaws.com/a/x"
        );
        assert_eq!(
            url("s3://my.trust", None),
            "https://s3.eu-west-1.amazonaws.com/my.trust/x"
        );
        assert_eq!(
            url("s3://trust", Some("http://127.0.0.1:9")),
            "http://127.0.0.1:9/trust/x"
        );
    }

    /// A server that reads one request and gives one answer.
    async fn answering(answer: &'static str) -> (String, tokio::task::JoinHandle<String>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"{\"a\":1}") {
                let mut chunk = [0; 1024];
                let count = stream.read(&mut chunk).await.unwrap();
                assert!(count > 0);
                request.extend_from_slice(&chunk[..count]);
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(request).unwrap()
        });
        (origin, served)
    }

    async fn put(answer: &'static str) -> (Result<(), AwsError>, String) {
        let (origin, served) = answering(answer).await;
        let folder: S3Folder = "s3://eic-trust/prod".parse().unwrap();
        let region = "eu-west-1".parse().unwrap();
        let endpoint = S3Endpoint::of(&folder, region, Some(&origin)).unwrap();
        let credentials = Credentials::new("AKIAIOSFODNN7EXAMPLE", "secret", None, None, "test");
        let scope = Scope {
            credentials: &credentials,
            region,
            service: "s3",
            now: 1_800_000_000,
        };
        let client = HttpClient::plain_only().unwrap();
        let at = (&folder, "hosts/i-1.json");
        let body = b"{\"a\":1}".to_vec();
        let done = put_object(&client, &endpoint, &scope, at, body).await;
        (done, served.await.unwrap())
    }

    #[tokio::test]
    async fn a_refusal_has_s3s_own_code() {
        let (refused, _) = put("HTTP/1.1 403 Forbidden\r\ncontent-length: 72\r\n\r\n<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>").await;
        assert_eq!(refused.unwrap_err().code(), Some("AccessDenied"));
        let (moved, _) = put("HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n").await;
        assert!(moved.is_err());
    }

    #[tokio::test]
    async fn an_object_is_put_with_its_hash_signed() {
        let (done, request) = put("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        done.unwrap();
        assert!(request.starts_with("PUT /eic-trust/prod/hosts/i-1.json HTTP/1.1\r\n"));
        // printf '{"a":1}' | sha256sum
        let hash = "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862";
        assert!(request.contains(&format!("x-amz-content-sha256: {hash}\r\n")));
        assert!(request.contains("/eu-west-1/s3/aws4_request"));
        assert!(
            request.contains("cache-control;content-type;host;x-amz-content-sha256;x-amz-date")
        );
    }
}
