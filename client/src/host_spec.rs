//! What a host as typed may mean: an alias, a place or a Region before or behind the name. Decides nothing
//! about which hosts there are: every meaning is looked up, and all that is found together must be one host.

use std::net::IpAddr;

use eic_protocol::api::instance::InstanceView;
use eic_protocol::arn::AccountId;
use eic_protocol::aws_region::AwsRegion;

use crate::config::{Config, Place};
use crate::host_name::HostName;

/// One meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// An id, a `Name` tag, a private DNS name or an address.
    pub name: HostName,
    /// Where.
    pub within: Within,
}

/// Where a name is looked for; nothing in it means everywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Within {
    /// In this Region only.
    pub region: Option<AwsRegion>,
    /// In this place only.
    pub place: Option<Place>,
    /// In this account only.
    pub account: Option<AccountId>,
}

impl Within {
    /// Whether a host that was found is one of those meant.
    #[must_use]
    pub fn admits(&self, view: &InstanceView) -> bool {
        let region = self.region.is_none_or(|region| region == view.region);
        let account = self.account.as_ref().is_none_or(|a| *a == view.account);
        region && account && self.place.as_ref().is_none_or(|place| place.holds(view))
    }

    fn and(&self, word: &str, config: &Config) -> Option<Self> {
        if let Ok(region) = word.parse() {
            let within = Self {
                region: Some(region),
                ..self.clone()
            };
            return self.region.is_none().then_some(within);
        }
        if self.place.is_some() || self.account.is_some() {
            return None;
        }
        let place = config.places.iter().find(|place| place.name == word);
        let account = word.parse().ok();
        (place.is_some() || account.is_some()).then(|| Self {
            place: place.cloned(),
            account,
            ..self.clone()
        })
    }
}

/// Everything that `host` may mean, the plain name first.
///
/// # Errors
/// [`UnknownPlace`] for `PLACE/name` where there is no such place.
pub fn meanings(host: &HostName, config: &Config) -> Result<Vec<Meaning>, UnknownPlace> {
    let host = config.meant(host);
    let Some((place, name)) = host.as_str().split_once('/') else {
        return Ok(suffixed(host.as_str(), &Within::default(), config));
    };
    let within = Within::default().and(place, config);
    let within = within.ok_or_else(|| UnknownPlace {
        place: place.to_owned(),
        known: config
            .places
            .iter()
            .map(|place| place.name.clone())
            .collect(),
    })?;
    Ok(suffixed(name, &within, config))
}

/// The name as it is, and without a Region or place at its end (`web-1.eu-west-1`, `web-1.prod.eu-west-1`).
fn suffixed(name: &str, within: &Within, config: &Config) -> Vec<Meaning> {
    let Ok(host) = name.parse::<HostName>() else {
        return Vec::new();
    };
    let is_final = host.is_instance() || name.parse::<IpAddr>().is_ok();
    let mut found = vec![Meaning {
        name: host,
        within: within.clone(),
    }];
    let shorter = name.rsplit_once('.').filter(|_| !is_final);
    if let Some((head, tail)) = shorter
        && let Some(within) = within.and(tail, config)
    {
        found.extend(suffixed(head, &within, config));
    }
    found
}

/// No such place.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{place}` is no Region, account id or [[place]] of the configuration{}", told(.known))]
pub struct UnknownPlace {
    place: String,
    known: Vec<String>,
}

fn told(places: &[String]) -> String {
    if places.is_empty() {
        String::new()
    } else {
        format!(" (known: {})", places.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        toml::from_str(
            "[[place]]\nname = \"prod\"\naccount = \"123456789012\"\n[alias]\ndb = \"prod/db-1\"\n",
        )
        .unwrap()
    }

    fn meant(host: &str) -> Vec<String> {
        let meanings = meanings(&host.parse().unwrap(), &config()).unwrap();
        let shown = |m: Meaning| {
            let region = m.within.region.map(|r| r.to_string());
            let place = m.within.place.map(|p| p.name);
            let account = m.within.account.map(|a| a.to_string());
            let within: Vec<String> = [place, account, region].into_iter().flatten().collect();
            format!("{} {}", m.name, within.join(" "))
        };
        meanings.into_iter().map(shown).collect()
    }

    #[test]
    fn a_place_that_is_not_configured_is_refused_with_those_that_are() {
        let error = meanings(&"dev/web-1".parse().unwrap(), &config()).unwrap_err();
        assert!(error.to_string().contains("(known: prod)"), "{error}");
    }

    #[test]
    fn names_mean_what_is_written() {
        for (host, expected) in [
            ("web-1", &["web-1 "][..]),
            ("prod/web-1", &["web-1 prod"]),
            ("eu-west-1/web-1", &["web-1 eu-west-1"]),
            ("123456789012/web-1", &["web-1 123456789012"]),
            ("db", &["db-1 prod"]),
            ("DB", &["db-1 prod"]),
            ("web-1.eu-west-1", &["web-1.eu-west-1 ", "web-1 eu-west-1"]),
            ("web-1.example", &["web-1.example "]),
            (
                "web-1.prod.eu-west-1",
                &[
                    "web-1.prod.eu-west-1 ",
                    "web-1.prod eu-west-1",
                    "web-1 prod eu-west-1",
                ],
            ),
            ("prod/web-1.prod", &["web-1.prod prod"]),
            ("10.0.0.5", &["10.0.0.5 "]),
            ("i-01234567", &["i-01234567 "]),
        ] {
            assert_eq!(meant(host), expected, "{host}");
        }
    }
}
