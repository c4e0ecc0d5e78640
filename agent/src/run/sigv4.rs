//! AWS Signature Version 4 for POSTs to STS with ring's HMAC: the instance role's proof, and the call for a
//! web identity token. Header order and values are the caller's; nothing else can be signed with this.
//! Source: AWS General Reference, "Create a signed AWS API request".

use std::fmt;

use eic_protocol::secret::Secret;
use ring::{digest, hmac};
use serde::Deserialize;

/// Credentials of an instance role, as instance metadata gives them.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Credentials {
    /// `ASIA…`
    pub access_key_id: String,
    /// Signs.
    pub secret_access_key: Secret<String>,
    /// Goes with each request.
    pub token: Secret<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}

/// What is signed: `POST /` to one service of one Region.
#[derive(Debug)]
pub struct Post<'a> {
    /// `sts`
    pub service: &'a str,
    /// The Region of the scope.
    pub region: &'a str,
    /// `YYYYMMDDTHHMMSSZ`
    pub date: &'a str,
    /// Lower-case names and their values, sorted by name.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body.
    pub body: &'a [u8],
}

impl Post<'_> {
    /// The signature: 64 lower-case hex digits.
    #[must_use]
    pub fn signature(&self, secret: &Secret<String>) -> String {
        let scope = self.scope();
        let canonical = hex(&sha256(self.canonical().as_bytes()));
        let text = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{canonical}", self.date);
        hex(mac(&self.key(secret), text.as_bytes()).as_ref())
    }

    /// The `Authorization` header's value.
    #[must_use]
    pub fn authorization(&self, credentials: &Credentials) -> String {
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
        format!("POST\n/\n\n{headers}\n{}\n{body}", self.signed_names())
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
        let post = Post {
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
