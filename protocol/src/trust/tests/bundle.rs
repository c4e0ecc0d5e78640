//! Tests of the bundle by itself and in its order after another: forms, signers, rollback, losses.

use super::super::bundle::{
    Bundle, Freshness, JUMP_BASE, MAX_SEQUENCE, RefusedBundle, RevocationList,
};
use super::endorsement::{endorsed_key, endorsement};
use super::*;
use crate::krl::{Comment, PRUNE_GRACE, RevocationSet, Target};
use crate::serial::Serial;

pub(super) const HOUR: u64 = 3_600;

/// Serials of one fixed CA, each with its end.
pub(super) fn revoked(entries: &[(u64, Option<u64>)]) -> RevocationSet {
    let ca: CaKey =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti"
            .parse()
            .unwrap();
    let mut set = RevocationSet::new();
    for (serial, expires) in entries {
        let serial = Serial::new(*serial).unwrap();
        set.insert(Target::serial(ca.clone(), serial), *expires);
    }
    set
}

pub(super) fn revocations(number: u64, generated: u64, set: &RevocationSet) -> RevocationList {
    let file = set
        .krl(number, generated, Comment::default())
        .encode()
        .unwrap();
    RevocationList::new(file.bytes, number, 0, set.expiring())
}

pub(super) fn bundle(sequence: u64) -> Bundle {
    Bundle {
        sequence,
        root_version: 1,
        issued: NOW,
        refresh_after: NOW + HOUR,
        hard_stop: Some(NOW + 30 * 24 * HOUR),
        oldest_view: 0,
        revocations: revocations(1, NOW, &revoked(&[(5, None)])),
        endorsements: Vec::new(),
    }
}

fn parsed(bundle: &Bundle) -> Result<Bundle, Untrusted> {
    Bundle::parse(&serde_json::to_vec(bundle).unwrap())
}

#[test]
fn a_bundle_by_another_key_purpose_or_root_is_refused() {
    // F-18
    let keys = keys();
    let root = root(&keys, 1, 1);
    let good = envelope(Namespace::Bundle, &bundle(7), &[&keys.bundle]);
    assert_eq!(Bundle::verified(&good, &root, NOW), Ok(bundle(7)));
    for wrong in [
        envelope(Namespace::Bundle, &bundle(7), &[&private_key()]),
        envelope(Namespace::Bundle, &bundle(7), &[&keys.roots[0]]),
        envelope(Namespace::Bundle, &bundle(7), &[&keys.ca]),
        envelope(Namespace::HostView, &bundle(7), &[&keys.bundle]),
        envelope(Namespace::Bundle, &bundle(7), &[]),
    ] {
        assert!(matches!(
            Bundle::verified(&wrong, &root, NOW),
            Err(Untrusted::Signatures { .. })
        ));
    }
    let mut trailing = good;
    trailing.signed.0.push(b' ');
    assert!(Bundle::verified(&trailing, &root, NOW).is_err());
    let newer = Bundle {
        root_version: 2,
        ..bundle(7)
    };
    let newer = envelope(Namespace::Bundle, &newer, &[&keys.bundle]);
    assert_eq!(
        Bundle::verified(&newer, &root, NOW),
        Err(Untrusted::NeedsRoot {
            needed: 2,
            installed: 1
        })
    );
}

#[test]
fn forms_that_cannot_be_are_refused() {
    // F-18, F-20
    assert!(parsed(&bundle(1)).is_ok());
    let changes: Vec<fn(&mut Bundle)> = vec![
        |b| b.sequence = 0,
        |b| b.sequence = MAX_SEQUENCE + 1,
        |b| b.root_version = 0,
        |b| b.refresh_after = b.issued,
        |b| b.hard_stop = Some(b.refresh_after - 1),
        |b| b.oldest_view = b.issued + 1,
        |b| b.revocations.number = 2,
        |b| b.revocations.reset_at = 2,
        |b| b.revocations.krl.0.clear(),
        |b| b.revocations.krl.0.push(0),
        |b| b.revocations.krl.0 = b"ssh-ed25519 AAAA\n".to_vec(),
        |b| b.revocations = revocations(1, b.issued + 1, &revoked(&[])),
        |b| b.revocations = revocations(2, b.issued, &revoked(&[])),
        |b| {
            let twice = revoked(&[(5, Some(NOW))]).expiring();
            b.revocations.expiring = [twice.clone(), twice].concat();
        },
        |b| {
            let envelope = endorsement(&private_key(), vec![]);
            b.endorsements = vec![envelope; 65];
        },
    ];
    for (at, change) in changes.iter().enumerate() {
        let mut bad = bundle(1);
        change(&mut bad);
        assert!(matches!(parsed(&bad), Err(Untrusted::Malformed(_))), "{at}");
    }
    let text = serde_json::to_string(&bundle(1)).unwrap();
    for bad in [
        text.replacen('{', "{\"sequence\":1,", 1),
        text.replacen('{', "{\"more\":1,", 1),
        text.replace("\"number\":1", "\"number\":1,\"number\":1"),
        text.replace("\"sequence\":1", "\"sequence\":1.0"),
        format!("{text}{text}"),
        "<html>".to_owned(),
        "[".repeat(100_000),
        String::new(),
    ] {
        assert!(Bundle::parse(bad.as_bytes()).is_err(), "{bad:.80}");
    }
    let huge = vec![b' '; super::super::envelope::MAX_DOCUMENT + 1];
    assert_eq!(Bundle::parse(&huge), Err(Untrusted::TooLarge));
}

#[test]
fn a_bundle_is_stale_and_then_stopped() {
    // F-19: thirty days without the CA.
    let keys = keys();
    let root = root(&keys, 1, 1);
    let signed = envelope(Namespace::Bundle, &bundle(7), &[&keys.bundle]);
    let at = |now| bundle(7).freshness(now);
    let stop = NOW + 30 * 24 * HOUR;
    assert_eq!(at(NOW + HOUR - 1), Freshness::Fresh);
    assert_eq!(
        (at(NOW + HOUR), at(stop - 1)),
        (Freshness::Stale, Freshness::Stale)
    );
    assert_eq!(at(stop), Freshness::Stopped);
    assert!(Bundle::verified(&signed, &root, stop - 1).is_ok());
    assert_eq!(
        Bundle::verified(&signed, &root, stop),
        Err(Untrusted::HardStop)
    );
    // Its revocations outlive it.
    assert!(Bundle::authentic(&signed, &root).is_ok());
    let endless = Bundle {
        hard_stop: None,
        ..bundle(7)
    };
    assert_eq!(endless.freshness(u64::MAX), Freshness::Stale);
}

#[test]
fn older_and_ambiguous_bundles_are_refused() {
    // F-07
    let installed = Bundle {
        root_version: 2,
        oldest_view: 100,
        revocations: revocations(5, NOW, &revoked(&[(5, None)])),
        ..bundle(50)
    };
    let next = || Bundle {
        sequence: 51,
        ..installed.clone()
    };
    let refused = |offered: Bundle| offered.check_follows(&installed, NOW).err();
    assert_eq!(refused(next()), None);
    let rollback = |what, offered, installed| {
        Some(RefusedBundle::Rollback {
            what,
            offered,
            installed,
        })
    };
    assert_eq!(
        refused(Bundle {
            sequence: 49,
            ..next()
        }),
        rollback("sequence", 49, 50)
    );
    assert_eq!(
        refused(Bundle {
            root_version: 1,
            ..next()
        }),
        rollback("root version", 1, 2)
    );
    assert_eq!(
        refused(Bundle {
            oldest_view: 99,
            ..next()
        }),
        rollback("view floor", 99, 100)
    );
    let mut list = next();
    list.revocations = revocations(4, NOW, &revoked(&[(5, None)]));
    assert_eq!(refused(list), rollback("revocation list", 4, 5));
    assert_eq!(
        refused(Bundle {
            issued: NOW + 1,
            sequence: 50,
            ..next()
        }),
        Some(Untrusted::Equivocation(50).into())
    );
    let mut other_list = next();
    other_list.revocations = revocations(5, NOW, &revoked(&[(5, None), (6, None)]));
    assert_eq!(refused(other_list), Some(Untrusted::Equivocation(5).into()));
}

#[test]
fn an_absurd_jump_of_the_sequence_is_refused_and_a_year_asleep_is_not() {
    let later = |sequence, issued| Bundle {
        sequence,
        issued,
        ..bundle(1)
    };
    let jump = |offered: Bundle, now| offered.check_follows(&bundle(1), now);
    assert!(jump(later(JUMP_BASE + 1, NOW), NOW).is_ok());
    assert!(matches!(
        jump(later(JUMP_BASE + 2, NOW), NOW),
        Err(RefusedBundle::Jump { .. })
    ));
    let year = 365 * 24 * HOUR;
    assert!(jump(later(year, NOW + year), NOW + year).is_ok());
    // A bundle from the far future does not earn a jump: the host's clock bounds it.
    assert!(matches!(
        jump(later(MAX_SEQUENCE, u64::MAX - 1), NOW),
        Err(RefusedBundle::Jump { .. })
    ));
}

#[test]
fn a_list_that_lost_entries_is_refused_unless_they_ended_or_were_taken_back() {
    // F-06
    let entries = [
        (5, None),
        (6, Some(NOW)),
        (7, Some(NOW)),
        (8, Some(NOW + 20 * HOUR)),
    ];
    let installed = Bundle {
        revocations: revocations(3, NOW, &revoked(&entries)),
        ..bundle(50)
    };
    let offered = |kept: &[(u64, Option<u64>)], at: u64, reset_at: u64| {
        let list = revocations(4, at, &revoked(kept));
        let next = Bundle {
            issued: at,
            revocations: RevocationList { reset_at, ..list },
            ..bundle(51)
        };
        next.check_follows(&installed, at).err()
    };
    let lost = |missing, ended| Some(RefusedBundle::Lost { missing, ended });
    let gone = NOW + HOUR;
    assert_eq!(offered(&entries, NOW, 0), None);
    assert_eq!(offered(&[], NOW, 0), lost(4, 0));
    assert_eq!(offered(&entries[..3], NOW, 0), lost(1, 0));
    assert_eq!(offered(&[entries[0], entries[3]], gone - 1, 0), lost(2, 0));
    assert_eq!(offered(&[entries[0], entries[3]], gone, 0), None);
    assert_eq!(offered(&[entries[3]], gone, 0), lost(3, 2));
    assert_eq!(offered(&[], NOW, 4), None);
    // An earlier reset was for older lists than the installed one.
    assert_eq!(offered(&[], NOW, 3), lost(4, 0));
    // Other entries do not make up for lost ones.
    let others: Vec<_> = (100..200).map(|n| (n, None)).collect();
    assert_eq!(offered(&others, NOW, 0), lost(4, 0));
}

#[test]
fn a_list_of_a_ca_whose_clock_is_ahead_is_refused_until_its_entries_are_back() {
    // F-06, F-07: the CA's clock jumps a day ahead for a minute and prunes what is still good.
    let entries = [(5, None), (6, Some(NOW + 2 * HOUR))];
    let made = |sequence, at, kept: &[(u64, Option<u64>)]| Bundle {
        issued: at,
        refresh_after: at + HOUR,
        revocations: revocations(sequence, at, &revoked(kept)),
        ..bundle(sequence)
    };
    let installed = made(50, NOW, &entries);
    let day = 24 * HOUR;
    let ahead = made(51, NOW + day, &entries[..1]);
    let lost = Err(RefusedBundle::Lost {
        missing: 1,
        ended: 0,
    });
    assert_eq!(ahead.check_follows(&installed, NOW), lost);
    // The clock is right again, and the list whole: taken by who refused the other one, and by who took it.
    let back = made(52, NOW + 60, &entries);
    assert_eq!(back.check_follows(&installed, NOW + 60), Ok(()));
    assert_eq!(back.check_follows(&ahead, NOW + 60), Ok(()));
    // In its time the entry leaves the list, and later bundles are taken as ever.
    let later = made(53, NOW + 4 * HOUR, &entries[..1]);
    assert_eq!(later.check_follows(&back, NOW + 4 * HOUR), Ok(()));
    assert_eq!(later.check_follows(&installed, NOW + 4 * HOUR), Ok(()));
}

#[test]
fn a_host_whose_clock_is_late_takes_a_pruned_list_where_it_takes_no_certificate_of_it() {
    let end = NOW + HOUR;
    let installed = Bundle {
        revocations: revocations(3, NOW, &revoked(&[(6, Some(end))])),
        ..bundle(50)
    };
    let pruned = end + 2 * HOUR;
    let next = Bundle {
        issued: pruned,
        revocations: revocations(4, pruned, &revoked(&[])),
        ..bundle(51)
    };
    let dropped_at = installed.revocations.expiring[0].at;
    let expired = dropped_at - PRUNE_GRACE;
    assert!(end <= expired && dropped_at <= pruned);
    assert_eq!(next.check_follows(&installed, expired), Ok(()));
    assert_eq!(
        next.check_follows(&installed, expired - 1),
        Err(RefusedBundle::Lost {
            missing: 1,
            ended: 0
        })
    );
}

#[test]
fn endorsements_that_do_not_hold_are_left_out_and_told() {
    let keys = keys();
    let mut root = root(&keys, 1, 1);
    let good = endorsement(&keys.ca, vec![endorsed_key(&private_key())]);
    let foreign = endorsement(&private_key(), vec![endorsed_key(&private_key())]);
    let bundle = Bundle {
        endorsements: vec![foreign, good],
        ..bundle(1)
    };
    let endorsed = bundle.endorsed(&root);
    assert_eq!((endorsed.cas.len(), endorsed.refused.len()), (1, 1));
    // F-15: with their endorser's retirement, endorsed keys end.
    root.user_cas[0].state = KeyState::Retired;
    assert!(bundle.endorsed(&root).cas.is_empty());
}
