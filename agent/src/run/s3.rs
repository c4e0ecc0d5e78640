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
