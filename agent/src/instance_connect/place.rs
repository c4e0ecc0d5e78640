//! Where the instance runs, and so which signer its keys must come from.

use std::fmt;

/// `managed-ssh-signer.REGION.DOMAIN`: the only common name whose signatures count here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignerName(String);

impl SignerName {
    /// The signer for the availability zone and service domain that the metadata service names.
    ///
    /// # Errors
    /// Either is not of AWS's form: nothing is built from text that is not understood.
    pub fn new(zone: &[u8], domain: &[u8]) -> Result<Self, UnknownPlace> {
        let region = first_line(zone)
            .and_then(region_of)
            .ok_or(UnknownPlace::Zone)?;
        let domain = first_line(domain)
            .filter(|d| DOMAINS.contains(d))
            .ok_or(UnknownPlace::Domain)?;
        Ok(Self(format!("managed-ssh-signer.{region}.{domain}")))
    }

    /// A name that an administrator states by hand; `None` where no certificate could have it.
    #[must_use]
    pub fn stated(name: &str) -> Option<Self> {
        let plain = (1..=255).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic());
        plain.then(|| Self(name.to_owned()))
    }

    /// The name as bytes, to compare with a DER attribute.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Display for SignerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Domains of AWS's partitions, each with its dual-stack form (botocore `partitions.json`, 2026).
const DOMAINS: &[&str] = &[
    "amazonaws.com",
    "api.aws",
    "amazonaws.com.cn",
    "api.amazonwebservices.com.cn",
    "amazonaws.eu",
    "api.amazonwebservices.eu",
    "c2s.ic.gov",
    "api.aws.ic.gov",
    "sc2s.sgov.gov",
    "api.aws.scloud",
    "cloud.adc-e.uk",
    "api.cloud-aws.adc-e.uk",
    "csp.hci.ic.gov",
    "api.aws.hci.ic.gov",
];

/// Longest zone name that is looked at; AWS's model allows 32 characters.
const MAX_ZONE: usize = 48;

fn first_line(text: &[u8]) -> Option<&str> {
    std::str::from_utf8(text).ok()?.lines().next()
}

/// The region of a zone: `us-east-1a`, a Local Zone `us-west-2-lax-1a`, a Wavelength zone `us-east-1-wl1-bos-wlz-1`.
fn region_of(zone: &str) -> Option<String> {
    let labels: Vec<&str> = zone.split('-').collect();
    let number = labels
        .iter()
        .position(|label| label.bytes().next().is_some_and(|b| b.is_ascii_digit()))?;
    let (words, tail) = labels.split_at_checked(number)?;
    let (numbered, rest) = tail.split_first()?;
    let digits = numbered.trim_end_matches(|c: char| c.is_ascii_lowercase());
    let letters = numbered.len() - digits.len();
    let zone_suffix_is_sound = if rest.is_empty() {
        letters == 1
    } else {
        letters == 0 && rest.iter().all(|l| is_label(l))
    };
    let sound = zone.len() <= MAX_ZONE
        && words.len() >= 2
        && words
            .iter()
            .all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase()))
        && (1..=2).contains(&digits.len())
        && digits.bytes().all(|b| b.is_ascii_digit())
        && zone_suffix_is_sound;
    sound.then(|| format!("{}-{digits}", words.join("-")))
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// The metadata service names a place that does not exist.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownPlace {
    /// Not an availability zone.
    #[error("find the signer: the instance metadata service names no availability zone")]
    Zone,
    /// Not one of AWS's domains.
    #[error("find the signer: the instance metadata service names a domain that is not AWS's")]
    Domain,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_are_no_zone_are_refused() {
        for bad in [
            "",
            "us-east-1",
            "us-east",
            "east-1a",
            "1a",
            "us-east-1A",
            "us-east-1ab",
            "us--east-1a",
            "us-east-a1",
            "us-east-1a-",
            "us-west-2-",
            "us-west-2-lax_1a",
            "us-west-2-lax-1a/..",
            "us-east-1.evil.com",
            " us-east-1a",
            "us-east-123a",
            "us-east-1a-lax-1a",
            "*-east-1a",
            "us-west-2-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ] {
            assert_eq!(
                SignerName::new(bad.as_bytes(), b"amazonaws.com"),
                Err(UnknownPlace::Zone),
                "{bad:?}"
            );
        }
        assert_eq!(
            SignerName::new(b"us-east-1\xff", b"amazonaws.com"),
            Err(UnknownPlace::Zone)
        );
    }

    #[test]
    fn domains_that_are_not_awss_are_refused() {
        for bad in [
            "",
            "amazonaws.com.evil.example",
            "evil-amazonaws.com",
            "AMAZONAWS.COM",
            "amazonaws.com ",
            "com",
            "api.aws.evil",
        ] {
            assert_eq!(
                SignerName::new(b"us-east-1a", bad.as_bytes()),
                Err(UnknownPlace::Domain),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn every_kind_of_zone_has_its_region() {
        for (zone, region) in [
            ("us-east-1a", "us-east-1"),
            ("ap-southeast-10b", "ap-southeast-10"),
            ("us-gov-west-1b", "us-gov-west-1"),
            ("us-iso-east-1a", "us-iso-east-1"),
            ("eusc-de-east-1a", "eusc-de-east-1"),
            ("us-west-2-lax-1a", "us-west-2"),
            ("us-east-1-wl1-bos-wlz-1", "us-east-1"),
            ("eu-west-2-wl1-lon-wlz-1\n", "eu-west-2"),
            ("us-gov-east-1-abc-1a", "us-gov-east-1"),
        ] {
            let name = SignerName::new(zone.as_bytes(), b"amazonaws.com").unwrap();
            assert_eq!(
                name.to_string(),
                format!("managed-ssh-signer.{region}.amazonaws.com")
            );
        }
    }

    #[test]
    fn every_partition_has_its_domain() {
        for domain in DOMAINS {
            let name = SignerName::new(b"cn-north-1a", format!("{domain}\n").as_bytes()).unwrap();
            assert_eq!(
                name.to_string(),
                format!("managed-ssh-signer.cn-north-1.{domain}")
            );
        }
    }
}
