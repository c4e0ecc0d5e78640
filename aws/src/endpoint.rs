//! Where an AWS service is: from the Region table, or an explicit override for tests and private endpoints.

use eic_protocol::aws_region::AwsRegion;
use eic_protocol::text::printable;

/// `scheme://host[:port]` and the `Host` header that goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    origin: String,
    host: String,
}

impl Endpoint {
    /// The regional endpoint of one of our services.
    #[must_use]
    pub fn regional(service: &'static str, region: AwsRegion) -> Self {
        let host = region.endpoint(service);
        Self {
            origin: format!("https://{host}"),
            host,
        }
    }

    /// An override, as in the SDKs' `AWS_ENDPOINT_URL`: `http(s)://host[:port]`, nothing else in it.
    ///
    /// # Errors
    /// [`InvalidEndpoint`] for paths, queries, users and other schemes.
    pub fn overridden(url: &str) -> Result<Self, InvalidEndpoint> {
        let origin = url.strip_suffix('/').unwrap_or(url);
        let host = origin
            .strip_prefix("https://")
            .or_else(|| origin.strip_prefix("http://"));
        let plain = |host: &&str| {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-.:[]".contains(&b))
        };
        let host = host
            .filter(plain)
            .ok_or_else(|| InvalidEndpoint(printable(url)))?;
        Ok(Self {
            origin: origin.to_owned(),
            host: host.to_owned(),
        })
    }

    /// The same connection target under another `Host`: a request signed for AWS's own name, sent to a stand-in.
    #[must_use]
    pub fn with_host(mut self, host: String) -> Self {
        self.host = host;
        self
    }

    /// The URL of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// The `Host` header.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }
}

/// Not an endpoint.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an endpoint: expected `https://host[:port]`")]
pub struct InvalidEndpoint(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_with_more_than_an_origin_are_refused() {
        for bad in [
            "",
            "sts.amazonaws.com",
            "https://",
            "https://a/b",
            "https://a?x",
            "https://u@a",
            "ftp://a",
            "https://a b",
        ] {
            assert!(Endpoint::overridden(bad).is_err(), "{bad:?}");
        }
        assert_eq!(
            Endpoint::overridden("http://127.0.0.1:5000/")
                .unwrap()
                .url("/x"),
            "http://127.0.0.1:5000/x"
        );
    }
}
