//! A folder of published trust documents in an S3 bucket: read with the instance role's credentials, gathered anew
//! for each look. Source: Amazon S3 API Reference, GetObject and "Signature Calculations for the Authorization Header".

use eic_protocol::aws_region::AwsRegion;
use eic_protocol::proof::Audience;

use super::evidence::{self, NoEvidence};
use super::settings::Service;
use super::sigv4::{self, Credentials};
use crate::instance_connect::endpoint::Endpoint;

/// SHA-256 of no body.
const NO_BODY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Where the folder is, and where credentials come from.
#[derive(Debug)]
pub(super) struct Bucket {
    name: String,
    prefix: String,
    region: Option<AwsRegion>,
    origin: Option<Audience>,
    metadata: Endpoint,
}

impl Bucket {
    pub(super) fn new(name: &str, prefix: &str, service: &Service, metadata: Endpoint) -> Self {
        Self {
            name: name.to_owned(),
            prefix: prefix.to_owned(),
            region: service.s3_region,
            origin: service.s3.clone(),
            metadata,
        }
    }

    /// The way in for one look. `now` is in Unix seconds.
    pub(super) fn open(&self, now: u64) -> Result<Access, NoEvidence> {
        let (own, credentials) = evidence::region_and_role(&self.metadata)?;
        let region = self.region.unwrap_or(own);
        let (origin, folder) = self.place(region);
        Ok(Access {
            origin,
            folder,
            region,
            credentials,
            date: evidence::amz_date(now),
        })
    }

    /// Origin and path. A name with dots would not fit the wildcard of S3's certificate, nor any name a VPC endpoint's.
    fn place(&self, region: AwsRegion) -> (String, String) {
        let endpoint = region.endpoint("s3");
        let (name, prefix) = (&self.name, &self.prefix);
        match &self.origin {
            Some(origin) => (origin.to_string(), format!("/{name}/{prefix}")),
            None if name.contains('.') => {
                (format!("https://{endpoint}"), format!("/{name}/{prefix}"))
            }
            None => (format!("https://{name}.{endpoint}"), format!("/{prefix}")),
        }
    }
}

/// An opened folder.
#[derive(Debug)]
pub(super) struct Access {
    origin: String,
    folder: String,
    region: AwsRegion,
    credentials: Credentials,
    date: String,
}

impl Access {
    /// The folder's URL.
    pub(super) fn url(&self) -> String {
        format!("{}{}", self.origin, self.folder)
    }

    /// What to do about a status that is no answer with a document, where S3's statuses say so (Amazon S3 API
    /// Reference, "Error responses").
    pub(super) fn remedy(&self, status: u16) -> Option<String> {
        match status {
            // Without s3:ListBucket a missing object is 403 as well.
            403 => Some(format!(
                "let the instance's role read it (s3:GetObject of {}*), and publish to it",
                self.url()
            )),
            301 | 307 => Some(self.other_region()),
            // AuthorizationHeaderMalformed, or ExpiredToken and InvalidToken.
            400 => Some(format!(
                "{}; or S3 does not take the role's credentials any more: check the clock and the role",
                self.other_region()
            )),
            404 => Some("publish to it, and check the bucket's name and prefix".to_owned()),
            _ => None,
        }
    }

    fn other_region(&self) -> String {
        format!(
            "set `[service] s3_region` to the bucket's Region: it was asked in {}",
            self.region
        )
    }

    /// The headers that make a GET of a URL in the folder one of the role's.
    pub(super) fn headers(&self, url: &str) -> Vec<(&'static str, String)> {
        let path = url.strip_prefix(&self.origin).unwrap_or_default();
        let host = self.origin.split_once("://").map_or("", |(_, host)| host);
        let token = self.credentials.token.reveal();
        let signed = [
            ("host", host),
            ("x-amz-content-sha256", NO_BODY),
            ("x-amz-date", &self.date),
            ("x-amz-security-token", token),
        ];
        let request = sigv4::Request {
            method: "GET",
            path,
            service: "s3",
            region: self.region.as_str(),
            date: &self.date,
            headers: &signed,
            body: b"",
        };
        let authorization = request.authorization(&self.credentials);
        let sent = signed.into_iter().filter(|(name, _)| *name != "host");
        sent.map(|(name, value)| (name, value.to_owned()))
            .chain([("authorization", authorization)])
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(origin: &str, folder: &str) -> Access {
        let json = "{\"AccessKeyId\":\"ASIAEXAMPLE\",\"SecretAccessKey\":\"canary-key\",\"Token\":\"canary-token\"}";
        Access {
            origin: origin.to_owned(),
            folder: folder.to_owned(),
            region: "eu-west-1".parse().unwrap(),
            credentials: serde_json::from_str(json).unwrap(),
            date: "20261122T120000Z".to_owned(),
        }
    }

    #[test]
    fn what_a_status_of_s3s_asks_for_is_said() {
        let access = access("https://trust.s3.eu-west-1.amazonaws.com", "/eic/");
        let remedy = |status| access.remedy(status).unwrap_or_default();
        assert!(
            remedy(403).contains("s3:GetObject of https://trust.s3.eu-west-1.amazonaws.com/eic/*")
        );
        for elsewhere in [301, 307, 400] {
            assert!(
                remedy(elsewhere)
                    .contains("s3_region` to the bucket's Region: it was asked in eu-west-1")
            );
        }
        // S3 says the same of credentials as of a Region: only its unread body tells them apart.
        assert!(remedy(400).contains("credentials"));
        assert!(!remedy(301).contains("credentials"));
        assert!(remedy(404).contains("prefix"));
        assert_eq!(access.remedy(503), None);
    }

    #[test]
    fn path_and_host_of_the_asked_object_are_signed() {
        // Signatures of an independent implementation (Python's hmac).
        for (origin, folder, object, signature) in [
            (
                "https://trust.s3.eu-west-1.amazonaws.com",
                "/eic/",
                "hosts/i-0123456789abcdef0.json",
                "549b6f2abeca33822d291123e1d25a759489fe8f8546c1ebe99542100777059a",
            ),
            (
                "https://s3.internal:8443",
                "/trust/eic/",
                "trust-bundle.json",
                "72d0cb0a55f6ee9d31984c2a047f5bcac4902eda65fc93384877b5747f2b4f7d",
            ),
        ] {
            let access = access(origin, folder);
            let headers = access.headers(&format!("{}{object}", access.url()));
            let named = |name: &str| {
                let header = headers.iter().find(|(other, _)| *other == name);
                header.map(|(_, value)| value.as_str())
            };
            let expected = format!(
                "AWS4-HMAC-SHA256 Credential=ASIAEXAMPLE/20261122/eu-west-1/s3/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token, Signature={signature}"
            );
            assert_eq!(named("authorization"), Some(expected.as_str()));
            assert_eq!(named("x-amz-security-token"), Some("canary-token"));
            assert_eq!(named("host"), None, "the client sends its own");
        }
    }

    fn place(name: &str, prefix: &str, toml: &str) -> (String, String) {
        let service: Service = toml::from_str(toml).unwrap();
        let bucket = Bucket::new(name, prefix, &service, Endpoint::default());
        bucket.place("eu-west-1".parse().unwrap())
    }

    #[test]
    fn a_bucket_is_asked_under_its_own_name_where_tls_allows_it() {
        let own = |origin: &str, path: &str| (origin.to_owned(), path.to_owned());
        assert_eq!(
            place("trust", "eic/", ""),
            own("https://trust.s3.eu-west-1.amazonaws.com", "/eic/")
        );
        assert_eq!(
            place("trust.example", "", ""),
            own("https://s3.eu-west-1.amazonaws.com", "/trust.example/")
        );
        assert_eq!(
            place("trust", "eic/", "s3 = \"https://s3.internal\""),
            own("https://s3.internal", "/trust/eic/")
        );
    }
}
