//! Which ways into a host this client would take, as words. Asked of the very function that decides at a login.

use eic_protocol::api::instance::InstanceView;

use crate::fallback::{CaOutcome, Push, Situation, decide};

/// A way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WayIn {
    /// A certificate of the CA.
    Certificate,
    /// A key pushed by EC2 Instance Connect.
    PushedKey,
    /// The same, but only while the CA cannot be reached.
    PushedKeyWithoutCa,
}

impl WayIn {
    /// The word for people and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::PushedKey => "pushed-key",
            Self::PushedKeyWithoutCa => "pushed-key-without-ca",
        }
    }
}

/// The ways into `view`, best first; none where this client cannot log in there.
#[must_use]
pub fn ways_in(view: &InstanceView, has_ca: bool) -> Vec<WayIn> {
    let decided = |ca| {
        decide(&Situation {
            ca,
            enrolment: view.enrolment,
            seen_enrolled: false,
            mode: view.instance_connect,
            restrictions_asked: false,
            managed: view.id.is_managed(),
        })
    };
    if !has_ca {
        let pushed = decided(CaOutcome::NotConfigured).is_ok();
        return pushed.then_some(WayIn::PushedKey).into_iter().collect();
    }
    let issued = decided(CaOutcome::Issued { restricted: false });
    let absent = decided(CaOutcome::Absent).is_ok();
    match issued {
        Ok(Push::NotNeeded) => {
            let otherwise = absent.then_some(WayIn::PushedKeyWithoutCa);
            [WayIn::Certificate].into_iter().chain(otherwise).collect()
        }
        Ok(_) => vec![WayIn::PushedKey],
        Err(_) if absent => vec![WayIn::PushedKeyWithoutCa],
        Err(_) => Vec::new(),
    }
}

/// The ways as one text.
#[must_use]
pub fn told(ways: &[WayIn]) -> String {
    if ways.is_empty() {
        return "none".to_owned();
    }
    let words: Vec<&str> = ways.iter().map(|way| way.as_str()).collect();
    words.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_cache::tests::view;
    use eic_protocol::api::instance::{Enrolment, InstanceConnectMode};

    #[test]
    fn what_is_shown_is_what_a_login_does() {
        use Enrolment::{Enrolled, Legacy, Unknown};
        use InstanceConnectMode::{BreakGlass, Off, On};
        for (enrolment, mode, with_ca, without) in [
            (Enrolled, On, "certificate", "none"),
            (
                Unknown,
                On,
                "certificate,pushed-key-without-ca",
                "pushed-key",
            ),
            (Unknown, Off, "certificate", "none"),
            (Legacy, On, "pushed-key", "pushed-key"),
            (Legacy, BreakGlass, "pushed-key-without-ca", "pushed-key"),
            (Legacy, Off, "none", "none"),
        ] {
            let mut host = view("i-01234567", None);
            (host.enrolment, host.instance_connect) = (enrolment, mode);
            let shown = (told(&ways_in(&host, true)), told(&ways_in(&host, false)));
            let expected = (with_ca.to_owned(), without.to_owned());
            assert_eq!(shown, expected, "{enrolment:?} {mode:?}");
        }
        let managed = view("mi-0123456789abcdef0", None);
        assert_eq!(told(&ways_in(&managed, false)), "none");
    }
}
