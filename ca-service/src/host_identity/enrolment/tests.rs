//! Keys that need more than the evidence.

use super::*;
use crate::host_identity::evidence::tests::{described, document};
use crate::host_identity::evidence::{Described, InstanceRole};
use crate::host_identity::role_trust::Trust;
use crate::inventory::static_file::StaticInventory;

fn key(seed: u8) -> SubjectKey {
    let private = ed25519_dalek::SigningKey::from_bytes(&[seed; 32]);
    let public = ssh_key::public::Ed25519PublicKey(private.verifying_key().to_bytes());
    ssh_key::PublicKey::from(public)
        .to_openssh()
        .unwrap()
        .parse()
        .unwrap()
}

fn evidence_of(described: &Described) -> HostEvidence {
    let caller = "arn:aws:sts::111122223333:assumed-role/Web/i-0123456789abcdef0";
    HostEvidence::of_document(&document(), &caller.parse().unwrap(), described).unwrap()
}

fn evidence() -> HostEvidence {
    evidence_of(&described())
}

fn known(keys: &[SubjectKey]) -> EnrolledHost {
    EnrolledHost {
        instance: document().instance,
        account: document().account,
        region: document().region,
        evidence: EvidenceKind::IdentityDocument,
        keys: keys.to_vec(),
        pending_time: Some(document().pending_time),
        enrolled_at: 1,
        certified_at: 1,
        ended_at: None,
        revision: 1,
    }
}

/// What a host of which this is known is asked for, when it wants certificates.
fn asked(
    evidence: &HostEvidence,
    keys: &[SubjectKey],
    previous: Option<&SubjectKey>,
    known: Option<&EnrolledHost>,
    rule: FirstEnrolment,
) -> Result<(Standing, Need), NotEnrolled> {
    let stored = StoredHost {
        enrolled: known.cloned(),
        ..StoredHost::default()
    };
    let purpose = Purpose::Certificates;
    needs(evidence, (keys, previous), &stored, purpose, rule)
}

/// The same of a legacy host whose keys are known.
fn asked_as_legacy(
    keys: &[SubjectKey],
    purpose: Purpose,
    rule: FirstEnrolment,
) -> Result<(Standing, Need), NotEnrolled> {
    let stored = StoredHost {
        legacy: Some(known(&[key(1)])),
        ..StoredHost::default()
    };
    needs(&evidence(), (keys, None), &stored, purpose, rule)
}

const RULES: [FirstEnrolment; 4] = [
    FirstEnrolment::Evidence,
    FirstEnrolment::Console,
    FirstEnrolment::Approval,
    FirstEnrolment::Token,
];

#[test]
fn another_key_for_an_enrolled_host_needs_more_than_role_credentials() {
    // E-08, E-11: whatever the rule is, a pod with the role's credentials and a key of its own gets nothing.
    let known = known(&[key(1)]);
    for rule in RULES {
        let (standing, need) = asked(&evidence(), &[key(2)], None, Some(&known), rule).unwrap();
        let operators = match rule {
            FirstEnrolment::Token => Need::Token,
            _ => Need::Approval,
        };
        assert_eq!(
            (standing, need),
            (Standing::Replaced, operators),
            "{rule:?}"
        );
    }
}

#[test]
fn first_keys_need_what_the_accounts_rule_says() {
    // E-11
    let need = |rule| asked(&evidence(), &[key(1)], None, None, rule).unwrap().1;
    assert_eq!(need(FirstEnrolment::Console), Need::Console);
    assert_eq!(need(FirstEnrolment::Approval), Need::Approval);
    assert_eq!(need(FirstEnrolment::Token), Need::Token);
    assert_eq!(need(FirstEnrolment::Evidence), Need::Nothing);
}

#[test]
fn a_session_name_that_others_could_have_chosen_is_no_evidence_by_itself() {
    // E-04
    let mut shared = described();
    shared.role = Some(InstanceRole {
        name: "Web".to_owned(),
        trust: Trust::Others("AWS *".to_owned()),
    });
    let refused = asked(
        &evidence_of(&shared),
        &[key(1)],
        None,
        None,
        FirstEnrolment::Evidence,
    );
    assert_eq!(refused, Err(NotEnrolled::SharedRole("AWS *".to_owned())));
    let need = asked(
        &evidence_of(&shared),
        &[key(1)],
        None,
        None,
        FirstEnrolment::Console,
    );
    assert_eq!(need, Ok((Standing::First, Need::Console)));
}

#[test]
fn blocked_moved_and_outdated_hosts_are_refused_with_their_own_keys_too() {
    // E-06, E-07
    let refused = |change: fn(&mut EnrolledHost)| {
        let mut host = known(&[key(1)]);
        change(&mut host);
        asked(
            &evidence(),
            &[key(1)],
            None,
            Some(&host),
            FirstEnrolment::Evidence,
        )
        .unwrap_err()
    };
    assert_eq!(
        refused(|h| h.account = "444455556666".parse().unwrap()),
        NotEnrolled::Moved
    );
    assert_eq!(
        refused(|h| h.region = "us-east-1".parse().unwrap()),
        NotEnrolled::Moved
    );
    assert_eq!(
        refused(|h| h.pending_time = Some(1_700_000_001)),
        NotEnrolled::OlderDocument
    );
}

/// Evidence of a host that the inventory names.
fn listed(kind: EvidenceKind) -> HostEvidence {
    let file = tempfile::NamedTempFile::new().unwrap();
    let host = "[[instance]]\nid = \"i-0123456789abcdef0\"\naccount = \"111122223333\"\nregion = \"eu-west-1\"\n";
    std::fs::write(file.path(), host).unwrap();
    let inventory = StaticInventory::open(file.path()).unwrap();
    let host = inventory.instance(&document().instance).unwrap();
    HostEvidence::of_listed_host(kind, &host, false).unwrap()
}

#[test]
fn a_hosts_own_key_is_weaker_than_what_it_was_enrolled_by() {
    // E-11: what AWS or a caller's permit vouched for is not had for ever by a key that left the host.
    for (by, refused) in [
        (EvidenceKind::WebIdentity, NotEnrolled::WeakerEvidence),
        (EvidenceKind::IdentityDocument, NotEnrolled::WeakerEvidence),
        (EvidenceKind::Permit, NotEnrolled::OnlyByPermit),
    ] {
        let known = EnrolledHost {
            evidence: by,
            pending_time: None,
            ..known(&[key(1)])
        };
        for rule in RULES {
            let own_key = listed(EvidenceKind::HostKey);
            let asked = asked(&own_key, &[key(1)], None, Some(&known), rule);
            assert_eq!(asked, Err(refused.clone()), "{by:?}");
        }
    }
    let by_token = EnrolledHost {
        evidence: EvidenceKind::EnrolmentToken,
        ..known(&[key(1)])
    };
    let own_key = listed(EvidenceKind::HostKey);
    let rule = FirstEnrolment::Token;
    let renewal = asked(&own_key, &[key(1)], None, Some(&by_token), rule);
    assert_eq!(renewal, Ok((Standing::Renewal, Need::Nothing)));
}

#[test]
fn what_vouched_for_a_host_is_never_replaced_by_less() {
    use EvidenceKind::{EnrolmentToken, HostKey, IdentityDocument, Permit, WebIdentity};
    for (shown, known, after) in [
        (Permit, None, Permit),
        (HostKey, Some(EnrolmentToken), EnrolmentToken),
        (Permit, Some(EnrolmentToken), EnrolmentToken),
        (Permit, Some(WebIdentity), WebIdentity),
        (EnrolmentToken, Some(WebIdentity), WebIdentity),
        (EnrolmentToken, Some(Permit), EnrolmentToken),
        (WebIdentity, Some(Permit), WebIdentity),
        (IdentityDocument, Some(WebIdentity), IdentityDocument),
    ] {
        assert_eq!(evidence_after(shown, known), after, "{shown:?} {known:?}");
    }
}

#[test]
fn a_previous_key_that_is_not_the_hosts_vouches_for_nothing() {
    // E-08
    let known = known(&[key(1)]);
    let (standing, need) = asked(
        &evidence(),
        &[key(2)],
        Some(&key(3)),
        Some(&known),
        FirstEnrolment::Evidence,
    )
    .unwrap();
    assert_eq!((standing, need), (Standing::Replaced, Need::Approval));
}

#[test]
fn keys_of_before_are_renewed_and_vouch_for_new_ones() {
    let known = known(&[key(1), ecdsa()]);
    for rule in RULES {
        let renewal = asked(&evidence(), &[ecdsa()], None, Some(&known), rule);
        assert_eq!(renewal, Ok((Standing::Renewal, Need::Nothing)));
        let beside = asked(&evidence(), &[key(3), ecdsa()], None, Some(&known), rule);
        assert_eq!(beside, Ok((Standing::Vouched, Need::Nothing)));
        let previous = asked(&evidence(), &[key(3)], Some(&key(1)), Some(&known), rule);
        assert_eq!(previous, Ok((Standing::Vouched, Need::Nothing)));
    }
    assert_eq!(
        keys_after(Standing::Renewal, &[ecdsa()], Some(&known)),
        [ecdsa(), key(1)]
    );
    assert_eq!(
        keys_after(Standing::Vouched, &[key(3)], Some(&known)),
        [key(3), ecdsa()]
    );
    assert_eq!(
        keys_after(Standing::Replaced, &[key(3)], Some(&known)),
        [key(3)]
    );
    assert_eq!(keys_after(Standing::First, &[key(3)], None), [key(3)]);
}

#[test]
fn a_blocked_host_gets_nothing_whether_it_is_enrolled_or_not() {
    for enrolled in [None, Some(known(&[key(1)]))] {
        for purpose in [Purpose::Certificates, Purpose::KnownKeys] {
            let stored = StoredHost {
                enrolled: enrolled.clone(),
                blocked: true,
                ..StoredHost::default()
            };
            let keys = (&[key(1)][..], None);
            let refused = needs(
                &evidence(),
                keys,
                &stored,
                purpose,
                FirstEnrolment::Evidence,
            );
            assert_eq!(refused, Err(NotEnrolled::Blocked));
        }
    }
}

#[test]
fn other_keys_than_a_legacy_host_made_known_need_more_than_role_credentials() {
    // E-08, E-11
    for purpose in [Purpose::Certificates, Purpose::KnownKeys] {
        for rule in RULES {
            let (standing, need) = asked_as_legacy(&[key(2)], purpose, rule).unwrap();
            assert_eq!(standing, Standing::Replaced);
            assert_ne!(need, Need::Nothing, "{rule:?}");
        }
    }
}

#[test]
fn keys_that_a_legacy_host_made_known_spare_its_first_enrolment_nothing() {
    let of = |purpose| asked_as_legacy(&[key(1)], purpose, FirstEnrolment::Console);
    assert_eq!(
        of(Purpose::Certificates),
        Ok((Standing::First, Need::Console))
    );
    assert_eq!(
        of(Purpose::KnownKeys),
        Ok((Standing::Renewal, Need::Nothing))
    );
}

#[test]
fn only_an_enrolled_key_of_a_host_that_is_there_may_be_certified() {
    let stored = |change: fn(&mut StoredHost)| {
        let mut stored = StoredHost {
            enrolled: Some(known(&[key(1)])),
            ..StoredHost::default()
        };
        change(&mut stored);
        stored
    };
    assert!(stored(|_| {}).may_have(&key(1)));
    assert!(!stored(|_| {}).may_have(&key(2)));
    assert!(!stored(|s| s.blocked = true).may_have(&key(1)));
    assert!(!stored(|s| s.enrolled.as_mut().unwrap().ended_at = Some(1)).may_have(&key(1)));
    assert!(!stored(|s| s.legacy = s.enrolled.take()).may_have(&key(1)));
}

fn ecdsa() -> SubjectKey {
    let secret = p256::SecretKey::from_slice(&[7; 32]).unwrap();
    let point = secret.public_key().to_sec1_bytes();
    let key = ssh_key::public::EcdsaPublicKey::from_sec1_bytes(&point).unwrap();
    ssh_key::PublicKey::from(ssh_key::public::KeyData::Ecdsa(key))
        .to_openssh()
        .unwrap()
        .parse()
        .unwrap()
}
