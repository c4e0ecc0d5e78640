//! Host keys of enrolled, legacy, foreign and hostile hosts.

use ssh_key::certificate::CertType;

use super::*;
use crate::key::{EphemeralKey, KeyType};
use crate::testing::{self, public};

const NOW: u64 = 1_000_000;

fn id() -> InstanceId {
    "i-0123456789abcdef0".parse().unwrap()
}

fn ca(seed: u8) -> CaKey {
    CaKey::new(public(seed)).unwrap()
}

fn leaf() -> SubjectKey {
    public(9)
}

fn certificate(ca_seed: u8, principal: &str, kind: CertType, before: u64) -> Vec<u8> {
    testing::certificate((ca_seed, 9), kind, principal, NOW - 60..before)
}

fn record(enrolled: bool, keys: &[&SubjectKey]) -> HostRecord {
    HostRecord {
        enrolled,
        keys: keys.iter().map(|key| (*key).clone()).collect(),
        ..HostRecord::default()
    }
}

fn other_key() -> SubjectKey {
    EphemeralKey::generate(KeyType::Ed25519)
        .unwrap()
        .public()
        .clone()
}

fn judged(
    blob: &[u8],
    enrolment: Enrolment,
    record: Option<&HostRecord>,
) -> Result<Verdict, Untrusted> {
    let (instance, cas) = (id(), [ca(1)]);
    judge(
        blob,
        &Known {
            instance: &instance,
            enrolment,
            record,
            host_cas: &cas,
            revoked: false,
        },
        NOW,
    )
}

#[test]
fn what_the_ca_has_revoked_is_refused_whatever_else_holds() {
    // F-23
    let (instance, cas) = (id(), [ca(1)]);
    for enrolment in [Enrolment::Enrolled, Enrolment::Legacy] {
        let known = Known {
            instance: &instance,
            enrolment,
            record: None,
            host_cas: &cas,
            revoked: true,
        };
        let blob = other_key().blob().to_vec();
        assert_eq!(judge(&blob, &known, NOW), Err(Untrusted::Revoked(id())));
    }
}

#[test]
fn a_host_that_shows_a_key_it_did_not_tell_the_ca_is_refused() {
    let (told, shown) = (other_key(), other_key());
    let refused = judge_by_harvest(&id(), &shown, std::slice::from_ref(&told));
    assert!(matches!(refused, Err(Untrusted::NotHarvested { .. })));
    let taken = judge_by_harvest(&id(), &told, std::slice::from_ref(&told));
    assert_eq!(taken, Ok((vec![told], KeySource::Harvested)));
}

#[test]
fn certificates_of_others_for_others_or_of_another_time_are_refused() {
    // H-10, H-21: the last one is a valid certificate of another host at the same address.
    for (name, blob) in [
        (
            "expired",
            certificate(1, id().as_str(), CertType::Host, NOW - 1),
        ),
        (
            "user certificate",
            certificate(1, id().as_str(), CertType::User, NOW + 60),
        ),
        (
            "another instance",
            certificate(1, "i-0ffffffffffffffff", CertType::Host, NOW + 60),
        ),
    ] {
        for enrolment in [Enrolment::Enrolled, Enrolment::Legacy, Enrolment::Unknown] {
            let error = judged(&blob, enrolment, None).unwrap_err();
            assert!(
                matches!(error, Untrusted::Certificate { .. }),
                "{name}: {error}"
            );
        }
    }
    let foreign = certificate(2, id().as_str(), CertType::Host, NOW + 60);
    assert!(judged(&foreign, Enrolment::Enrolled, None).is_err());
    assert!(judged(&foreign, Enrolment::Legacy, Some(&record(true, &[]))).is_err());
}

#[test]
fn a_foreign_certificate_of_a_host_that_may_be_enrolled_is_refused() {
    // H-10: its plain key is not taken instead.
    let foreign = certificate(2, id().as_str(), CertType::Host, NOW + 60);
    assert!(matches!(
        judged(&foreign, Enrolment::Unknown, None),
        Err(Untrusted::Certificate { .. })
    ));
    assert_eq!(
        judged(&foreign, Enrolment::Legacy, None),
        Ok(Verdict::Unknown(leaf()))
    );
    let known = record(false, &[&leaf()]);
    assert_eq!(
        judged(&foreign, Enrolment::Unknown, Some(&known)),
        Ok(Verdict::Remembered(leaf()))
    );
}

#[test]
fn plain_keys_of_enrolled_hosts_are_refused() {
    // H-10: also where the inventory says legacy again.
    let key = leaf();
    for (enrolment, seen) in [
        (Enrolment::Enrolled, None),
        (Enrolment::Legacy, Some(record(true, &[&key]))),
    ] {
        assert_eq!(
            judged(key.blob(), enrolment, seen.as_ref()),
            Err(Untrusted::PlainKey(id()))
        );
    }
}

#[test]
fn a_changed_key_of_a_legacy_host_is_refused_with_a_remedy() {
    let error = judged(
        leaf().blob(),
        Enrolment::Legacy,
        Some(&record(false, &[&other_key()])),
    )
    .unwrap_err();
    assert!(error.to_string().contains("hosts.json"), "{error}");
}

#[test]
fn console_keys_that_differ_or_contradict_are_refused() {
    assert!(judge_by_console(&id(), &leaf(), ConsoleKeys::Keys(vec![other_key()])).is_err());
    assert!(judge_by_console(&id(), &leaf(), ConsoleKeys::Contradicting).is_err());
}

#[test]
fn garbage_is_refused() {
    for garbage in [&b""[..], b"ssh-ed25519", &[0xff; 64]] {
        assert_eq!(
            judged(garbage, Enrolment::Legacy, None),
            Err(Untrusted::Unreadable)
        );
    }
}

#[test]
fn the_certificate_of_this_instance_is_trusted() {
    let blob = certificate(1, id().as_str(), CertType::Host, NOW + 60);
    assert_eq!(
        judged(&blob, Enrolment::Unknown, None),
        Ok(Verdict::Certified(leaf()))
    );
}

#[test]
fn legacy_hosts_are_known_by_memory_then_console_then_first_use() {
    let key = leaf();
    assert_eq!(
        judged(key.blob(), Enrolment::Legacy, None),
        Ok(Verdict::Unknown(key.clone()))
    );
    let known = record(false, &[&other_key(), &key]);
    assert_eq!(
        judged(key.blob(), Enrolment::Legacy, Some(&known)),
        Ok(Verdict::Remembered(key.clone()))
    );
    // A certificate of somebody else's host CA counts as its plain key.
    let foreign = certificate(2, "host.example", CertType::Host, NOW + 60);
    assert_eq!(
        judged(&foreign, Enrolment::Legacy, Some(&known)),
        Ok(Verdict::Remembered(key.clone()))
    );
    let console = ConsoleKeys::Keys(vec![key.clone(), other_key()]);
    assert_eq!(
        judge_by_console(&id(), &key, console).unwrap().1,
        KeySource::Console
    );
    assert_eq!(
        judge_by_console(&id(), &key, ConsoleKeys::None).unwrap(),
        (vec![key], KeySource::FirstUse)
    );
}
