//! AWS's published address ranges (`ip-ranges.json`, AWS IP address ranges in the VPC user guide): those from which
//! the EC2 console's browser terminal connects.

use std::time::Duration;

use eic_aws::http_client::{HttpClient, HttpError, Limits, Roots};
use eic_aws::proxy::Proxy;
use eic_protocol::aws_region::AwsRegion;
use http::Request;
use serde::Deserialize;

/// AWS's own place.
pub const URL: &str = "https://ip-ranges.amazonaws.com/ip-ranges.json";
/// The service's name in the document.
const SERVICE: &str = "EC2_INSTANCE_CONNECT";
/// The document had 2 MB in 2026.
const LIMITS: Limits = Limits {
    deadline: Duration::from_secs(20),
    max_body: 16 * 1024 * 1024,
};

/// Ranges of one Region.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    /// IPv4, in CIDR form.
    pub v4: Vec<String>,
    /// IPv6, in CIDR form.
    pub v6: Vec<String>,
}

#[derive(Deserialize)]
struct Document {
    prefixes: Vec<Prefix>,
    #[serde(default)]
    ipv6_prefixes: Vec<Prefix>,
}

#[derive(Deserialize)]
struct Prefix {
    #[serde(alias = "ip_prefix", alias = "ipv6_prefix")]
    cidr: String,
    region: String,
    service: String,
}

/// Fetches them, through `proxy` where there is one, and reads them.
///
/// # Errors
/// [`RangesError`].
pub async fn fetch(
    url: &str,
    region: AwsRegion,
    proxy: Option<&Proxy>,
) -> Result<Ranges, RangesError> {
    let client = if is_loopback(url) {
        HttpClient::plain_only()?
    } else if url.starts_with("https://") {
        HttpClient::new(Roots::System, proxy)?
    } else {
        return Err(RangesError::Url);
    };
    let request = Request::get(url).body(Vec::new());
    let answer = client
        .send(request.map_err(|_| RangesError::Url)?, LIMITS)
        .await?;
    if answer.status != 200 {
        return Err(RangesError::Status(answer.status));
    }
    read(&answer.body, region)
}

fn is_loopback(url: &str) -> bool {
    url.starts_with("http://127.0.0.1:") || url.starts_with("http://[::1]:")
}

/// The ranges of a Region; a Region without any is an error: an empty allow list would look like a closed one.
///
/// # Errors
/// [`RangesError`]; also where something in it is no CIDR range, since it ends in a firewall.
pub fn read(document: &[u8], region: AwsRegion) -> Result<Ranges, RangesError> {
    let document: Document =
        serde_json::from_slice(document).map_err(|e| RangesError::Malformed(e.to_string()))?;
    let of_region = |prefixes: Vec<Prefix>| -> Result<Vec<String>, RangesError> {
        let ours = prefixes
            .into_iter()
            .filter(|p| p.service == SERVICE && p.region == region.as_str());
        ours.map(|prefix| checked(prefix.cidr)).collect()
    };
    let ranges = Ranges {
        v4: of_region(document.prefixes)?,
        v6: of_region(document.ipv6_prefixes)?,
    };
    if ranges.v4.is_empty() && ranges.v6.is_empty() {
        return Err(RangesError::None(region));
    }
    Ok(ranges)
}

/// `address/bits`; nothing wider than a /8 (IPv4) or /16 (IPv6) is believed to be one service in one Region.
fn checked(cidr: String) -> Result<String, RangesError> {
    let parts = cidr.split_once('/');
    let parsed = parts.and_then(|(address, bits)| {
        Some((
            address.parse::<std::net::IpAddr>().ok()?,
            bits.parse::<u8>().ok()?,
        ))
    });
    let sound = parsed.is_some_and(|(address, bits)| match address {
        std::net::IpAddr::V4(_) => (8..=32).contains(&bits),
        std::net::IpAddr::V6(_) => (16..=128).contains(&bits),
    });
    if sound {
        Ok(cidr)
    } else {
        Err(RangesError::Malformed(format!(
            "`{}` is no range of one service",
            eic_protocol::text::printable(&cidr)
        )))
    }
}

/// There are no ranges to give.
#[derive(Debug, thiserror::Error)]
pub enum RangesError {
    /// No answer.
    #[error("the address ranges cannot be fetched: {0}")]
    Http(#[from] HttpError),
    /// A wrong answer.
    #[error("the address ranges cannot be fetched: HTTP {0}")]
    Status(u16),
    /// Not of its form.
    #[error("the document of address ranges is not of its documented form: {0}")]
    Malformed(String),
    /// The URL cannot be used.
    #[error("ip_ranges_url must be https://, or http:// on 127.0.0.1")]
    Url,
    /// The Region has none.
    #[error("AWS publishes no EC2_INSTANCE_CONNECT range for {0}")]
    None(AwsRegion),
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = r#"{"syncToken":"1","prefixes":[
        {"ip_prefix":"18.202.216.48/29","region":"eu-west-1","service":"EC2_INSTANCE_CONNECT","network_border_group":"x"},
        {"ip_prefix":"1.2.3.0/24","region":"eu-west-1","service":"EC2","network_border_group":"x"},
        {"ip_prefix":"3.112.23.0/29","region":"ap-northeast-1","service":"EC2_INSTANCE_CONNECT"}],
        "ipv6_prefixes":[{"ipv6_prefix":"2a05:d018::/56","region":"eu-west-1","service":"EC2_INSTANCE_CONNECT"}]}"#;

    fn region(name: &str) -> AwsRegion {
        name.parse().unwrap()
    }

    #[test]
    fn whatever_would_open_a_firewall_to_more_is_refused() {
        for bad in [
            "0.0.0.0/0",
            "1.2.3.4",
            "1.2.3.4/33",
            "::/0",
            "x\"}/8",
            "10.0.0.0/7",
        ] {
            let text = DOCUMENT.replace("18.202.216.48/29", &bad.replace('"', "\\\""));
            let read = read(text.as_bytes(), region("eu-west-1"));
            assert!(matches!(read, Err(RangesError::Malformed(_))), "{bad}");
        }
        assert!(read(b"{}", region("eu-west-1")).is_err());
        assert!(matches!(
            read(DOCUMENT.as_bytes(), region("us-east-1")),
            Err(RangesError::None(_))
        ));
    }

    #[test]
    fn only_the_regions_own_ranges_of_the_service_are_read() {
        let ranges = read(DOCUMENT.as_bytes(), region("eu-west-1")).unwrap();
        assert_eq!(ranges.v4, ["18.202.216.48/29"]);
        assert_eq!(ranges.v6, ["2a05:d018::/56"]);
    }

    #[tokio::test]
    async fn other_places_than_https_and_loopback_are_refused() {
        for bad in [
            "http://ip-ranges.example/x",
            "ftp://x",
            "http://127.0.0.1.example/",
        ] {
            let fetched = fetch(bad, region("eu-west-1"), None).await;
            assert!(matches!(fetched, Err(RangesError::Url)), "{bad}");
        }
    }
}
