//! When a key may be pushed by Instance Connect instead of, or beside, a certificate. A pure function,
//! called for each login; every way to a push is in [`decide`].

use eic_protocol::api::event::PushCause;
use eic_protocol::api::instance::{Enrolment, InstanceConnectMode};

/// How it went with the CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaOutcome {
    /// None is configured: this is an Instance Connect client.
    NotConfigured,
    /// It issued a certificate that passed the check.
    Issued {
        /// With a forced command, source addresses or fewer extensions than the default.
        restricted: bool,
    },
    /// Connection refused, time-out, or 503.
    Absent,
}

/// All that the decision depends on. A refusal of the CA is no situation: then there is no login at all.
#[derive(Clone, Copy, Debug)]
pub struct Situation {
    /// How it went with the CA.
    pub ca: CaOutcome,
    /// What the inventory says of the host.
    pub enrolment: Enrolment,
    /// Whether the host was ever seen enrolled.
    pub seen_enrolled: bool,
    /// The strictest word on pushing: of the CA, of memory, of the host's tags, of the profile.
    pub mode: InstanceConnectMode,
    /// Whether the profile asks for restrictions, which a pushed key cannot carry.
    pub restrictions_asked: bool,
    /// Whether the host is not an EC2 instance (`mi-…`).
    pub managed: bool,
}

/// A push, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    /// The certificate is enough.
    NotNeeded,
    /// Push; the CA is told why.
    Because(PushCause),
    /// Push; there is no CA to tell.
    OnlyWay,
}

/// Decides.
///
/// # Errors
/// [`NoPush`] where the login can only work by a push, and none is allowed.
pub fn decide(situation: &Situation) -> Result<Push, NoPush> {
    match situation.ca {
        CaOutcome::Issued { .. }
            if situation.enrolment != Enrolment::Legacy || situation.seen_enrolled =>
        {
            Ok(Push::NotNeeded)
        }
        CaOutcome::Issued { restricted } if restricted || situation.restrictions_asked => {
            Err(NoPush::Restricted)
        }
        CaOutcome::Issued { .. } if situation.mode == InstanceConnectMode::BreakGlass => {
            Err(NoPush::BreakGlassOnly)
        }
        CaOutcome::Issued { .. } => {
            possible(situation).map(|()| Push::Because(PushCause::LegacyHost))
        }
        CaOutcome::Absent
            if situation.seen_enrolled || situation.enrolment == Enrolment::Enrolled =>
        {
            Err(NoPush::Enrolled)
        }
        CaOutcome::Absent if situation.restrictions_asked => Err(NoPush::Restricted),
        CaOutcome::Absent => possible(situation).map(|()| Push::Because(PushCause::CaUnreachable)),
        // Its host certificate cannot be checked here: the login would end right after the push.
        CaOutcome::NotConfigured
            if situation.seen_enrolled || situation.enrolment == Enrolment::Enrolled =>
        {
            Err(NoPush::EnrolledElsewhere)
        }
        CaOutcome::NotConfigured if situation.restrictions_asked => Err(NoPush::Restricted),
        CaOutcome::NotConfigured => possible(situation).map(|()| Push::OnlyWay),
    }
}

/// Whether a key may be pushed to the serial console by hand. It is a way past sshd, so the same words close it; no
/// certificate opens it, so none is missed. [`CaOutcome::Issued`] stands for a CA that answers.
///
/// # Errors
/// [`NoPush`].
pub fn decide_console(situation: &Situation) -> Result<(), NoPush> {
    if situation.restrictions_asked {
        return Err(NoPush::Restricted);
    }
    let ca_answers = matches!(situation.ca, CaOutcome::Issued { .. });
    if ca_answers && situation.mode == InstanceConnectMode::BreakGlass {
        return Err(NoPush::BreakGlassOnly);
    }
    possible(situation)
}

fn possible(situation: &Situation) -> Result<(), NoPush> {
    match situation.mode {
        InstanceConnectMode::Off => Err(NoPush::SwitchedOff),
        _ if situation.managed => Err(NoPush::Managed),
        _ => Ok(()),
    }
}

/// The stricter of two words.
#[must_use]
pub fn stricter(a: InstanceConnectMode, b: InstanceConnectMode) -> InstanceConnectMode {
    use InstanceConnectMode::{BreakGlass, Off, On};
    match (a, b) {
        (Off, _) | (_, Off) => Off,
        (BreakGlass, _) | (_, BreakGlass) => BreakGlass,
        (On, On) => On,
    }
}

/// Why no key is pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPush {
    /// A pushed key is good for everything.
    #[error(
        "the host takes pushed keys only, and a pushed key cannot carry the login's restrictions: enroll it, or ask for none"
    )]
    Restricted,
    /// The host only opens to certificates.
    #[error(
        "the host is enrolled: it opens to a certificate only, and the CA cannot be reached; wait for it, or use another way in"
    )]
    Enrolled,
    /// The same, where no CA is configured.
    #[error(
        "the host is enrolled at a CA, without which its host certificate cannot be checked, and none is configured here: \
         run `eic-login setup URL` with that CA's URL"
    )]
    EnrolledElsewhere,
    /// Switched off.
    #[error(
        "Instance Connect is switched off for this host: enroll it, or ask its owner to change the tag eic:instance-connect"
    )]
    SwitchedOff,
    /// The CA is there, so this is no emergency.
    #[error(
        "Instance Connect is for emergencies on this host, and the CA is reachable; the host does not trust the CA yet: enroll it"
    )]
    BreakGlassOnly,
    /// `mi-…`
    #[error("Instance Connect reaches EC2 instances only: enroll the host")]
    Managed,
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEGACY: Situation = Situation {
        ca: CaOutcome::Issued { restricted: false },
        enrolment: Enrolment::Legacy,
        seen_enrolled: false,
        mode: InstanceConnectMode::On,
        restrictions_asked: false,
        managed: false,
    };

    #[test]
    fn restrictions_are_never_lost_by_a_push() {
        // H-18
        for situation in [
            Situation {
                ca: CaOutcome::Issued { restricted: true },
                ..LEGACY
            },
            Situation {
                restrictions_asked: true,
                ..LEGACY
            },
            Situation {
                ca: CaOutcome::Absent,
                restrictions_asked: true,
                ..LEGACY
            },
            Situation {
                ca: CaOutcome::NotConfigured,
                restrictions_asked: true,
                ..LEGACY
            },
        ] {
            assert_eq!(decide(&situation), Err(NoPush::Restricted), "{situation:?}");
        }
    }

    #[test]
    fn a_host_once_seen_enrolled_gets_no_pushed_key() {
        // H-18
        let absent = Situation {
            ca: CaOutcome::Absent,
            ..LEGACY
        };
        assert_eq!(
            decide(&Situation {
                seen_enrolled: true,
                ..absent
            }),
            Err(NoPush::Enrolled)
        );
        assert_eq!(
            decide(&Situation {
                enrolment: Enrolment::Enrolled,
                ..absent
            }),
            Err(NoPush::Enrolled)
        );
        assert_eq!(
            decide(&Situation {
                seen_enrolled: true,
                ..LEGACY
            }),
            Ok(Push::NotNeeded)
        );
        for (enrolment, seen_enrolled) in [(Enrolment::Enrolled, false), (Enrolment::Unknown, true)]
        {
            assert_eq!(
                decide(&Situation {
                    ca: CaOutcome::NotConfigured,
                    enrolment,
                    seen_enrolled,
                    ..LEGACY
                }),
                Err(NoPush::EnrolledElsewhere)
            );
        }
        for enrolment in [Enrolment::Enrolled, Enrolment::Unknown] {
            assert_eq!(
                decide(&Situation {
                    enrolment,
                    ..LEGACY
                }),
                Ok(Push::NotNeeded)
            );
        }
    }

    #[test]
    fn where_pushing_is_off_or_for_emergencies_none_happens_in_peace() {
        for ca in [
            CaOutcome::Issued { restricted: false },
            CaOutcome::Absent,
            CaOutcome::NotConfigured,
        ] {
            assert_eq!(
                decide(&Situation {
                    ca,
                    mode: InstanceConnectMode::Off,
                    ..LEGACY
                }),
                Err(NoPush::SwitchedOff)
            );
            assert_eq!(
                decide(&Situation {
                    ca,
                    managed: true,
                    ..LEGACY
                }),
                Err(NoPush::Managed)
            );
        }
        let glass = Situation {
            mode: InstanceConnectMode::BreakGlass,
            ..LEGACY
        };
        assert_eq!(decide(&glass), Err(NoPush::BreakGlassOnly));
        assert_eq!(
            decide(&Situation {
                ca: CaOutcome::Absent,
                ..glass
            }),
            Ok(Push::Because(PushCause::CaUnreachable))
        );
    }

    #[test]
    fn legacy_hosts_and_an_absent_ca_lead_to_a_push() {
        assert_eq!(decide(&LEGACY), Ok(Push::Because(PushCause::LegacyHost)));
        for enrolment in [Enrolment::Legacy, Enrolment::Unknown] {
            let absent = Situation {
                ca: CaOutcome::Absent,
                enrolment,
                ..LEGACY
            };
            assert_eq!(decide(&absent), Ok(Push::Because(PushCause::CaUnreachable)));
        }
        assert_eq!(
            decide(&Situation {
                ca: CaOutcome::NotConfigured,
                ..LEGACY
            }),
            Ok(Push::OnlyWay)
        );
    }

    #[test]
    fn the_strictest_word_counts() {
        use InstanceConnectMode::{BreakGlass, Off, On};
        for (a, b, expected) in [
            (On, On, On),
            (On, BreakGlass, BreakGlass),
            (BreakGlass, Off, Off),
            (Off, On, Off),
        ] {
            assert_eq!((stricter(a, b), stricter(b, a)), (expected, expected));
        }
    }
}
