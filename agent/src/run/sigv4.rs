//! AWS Signature Version 4 with ring's HMAC: the instance role's proof and the call for a web identity token (STS),
//! trust documents in a private bucket (S3). Method, path, header order and values are the caller's; no query.
//! Source: AWS General Reference, "Create a signed AWS API request".

use std::fmt;

use eic_protocol::secret::Secret;
use ring::{digest, hmac};
use serde::Deserialize;

/// Credentials of an instance role, as instance metadata gives them.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Credentials {
    /// `ASIA…`
    pub(super) access_key_id: String,
    /// Signs.
    pub(super) secret_access_key: Secret<String>,
    /// Goes with each request.
    pub(super) token: Secret<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}

/// What is signed: one request to one service of one Region.
#[derive(Debug)]
pub(super) struct Request<'a> {
    /// `POST`, `GET`
    pub(super) method: &'a str,
    /// The path, of characters that need no encoding.
    pub(super) path: &'a str,
    /// `sts`, `s3`
    pub(super) service: &'a str,
    /// The Region of the scope.
    pub(super) region: &'a str,
    /// `YYYYMMDDTHHMMSSZ`
    pub(super) date: &'a str,
    /// Lower-case names and their values, sorted by name.
    pub(super) headers: &'a [(&'a str, &'a str)],
    /// The body.
    pub(super) body: &'a [u8],
}

impl Request<'_> {
    /// The signature: 64 lower-case hex digits.
    #[must_use]
    pub(super) fn signature(&self, secret: &Secret<String>) -> String {
        let scope = self.scope();
        let canonical = hex(&sha256(self.canonical().as_bytes()));
        let text = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{canonical}", self.date);
        hex(mac(&self.key(secret), text.as_bytes()).as_ref())
    }

    /// The `Authorization` header's value.
    #[must_use]
    pub(super) fn authorization(&self, credentials: &Credentials) -> String {
        format!(
            "AWS4-HMAC-SHA256 Credential={}/{}, SignedHeaders={}, Signature={}",
            credentials.access_key_id,
            self.scope(),
            self.signed_names(),
            self.signature(&credentials.secret_access_key)
        )
    }

    fn canonical(&self) -> String {
        let headers: String = self
            .headers
            .iter()
            .map(|(name, value)| format!("{name}:{}\n", value.trim()))
            .collect();
        let body = hex(&sha256(self.body));
        let names = self.signed_names();
        format!(
            "{}\n{}\n\n{headers}\n{names}\n{body}",
            self.method, self.path
        )
    }

    fn signed_names(&self) -> String {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| *name).collect();
        names.join(";")
    }

    fn scope(&self) -> String {
        let day = self.date.get(..8).unwrap_or_default();
        format!("{day}/{}/{}/aws4_request", self.region, self.service)
    }

    fn key(&self, secret: &Secret<String>) -> hmac::Tag {
        let day = self.date.get(..8).unwrap_or_default();
        let first = hmac::Key::new(
            hmac::HMAC_SHA256,
            format!("AWS4{}", secret.reveal()).as_bytes(),
        );
        let day = hmac::sign(&first, day.as_bytes());
        let region = mac(&day, self.region.as_bytes());
        let service = mac(&region, self.service.as_bytes());
        mac(&service, b"aws4_request")
    }
}

fn mac(key: &hmac::Tag, message: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()), message)
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, bytes).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suites_post_has_the_suites_signature() {
        // AWS's signature test suite, case post-vanilla.
        let post = Request {
            method: "POST",
            path: "/",
            service: "service",
            region: "us-east-1",
            date: "20150830T123600Z",
            headers: &[
                ("host", "example.amazonaws.com"),
                ("x-amz-date", "20150830T123600Z"),
            ],
            body: b"",
        };
        let secret = Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned());
        assert_eq!(
            post.signature(&secret),
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
        );
    }

    #[test]
    fn s3s_documented_get_has_its_documented_signature() {
        // Amazon S3 API Reference, "Examples: Signature Calculations", GET Object.
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let get = Request {
            method: "GET",
            path: "/test.txt",
            service: "s3",
            region: "us-east-1",
            date: "20130524T000000Z",
            headers: &[
                ("host", "examplebucket.s3.amazonaws.com"),
                ("range", "bytes=0-9"),
                ("x-amz-content-sha256", empty),
                ("x-amz-date", "20130524T000000Z"),
            ],
            body: b"",
        };
        let secret = Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned());
        assert_eq!(
            get.signature(&secret),
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
    }

    #[test]
    fn credentials_do_not_show_their_secrets() {
        // G-11
        let json = "{\"Code\":\"Success\",\"AccessKeyId\":\"ASIAEXAMPLE\",\"SecretAccessKey\":\"canary-key\",\"Token\":\"canary-token\"}";
        let credentials: Credentials = serde_json::from_str(json).unwrap();
        let shown = format!("{credentials:?}");
        assert!(
            shown.contains("ASIAEXAMPLE") && !shown.contains("canary"),
            "{shown}"
        );
    }
}
