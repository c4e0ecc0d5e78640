//! Tests of the revocation list: what must never be written or read, sizes, and OpenSSH as the judge.

use std::time::{Duration, Instant};

use super::entry::InvalidEntry;
use super::*;
use crate::cert::tests::{private_key, subject};
use crate::serial::Serial;
use crate::wire::Writer;

mod differential;

const NOW: u64 = 1_800_000_000;
const HOUR: u64 = 3_600;

pub(super) fn ca() -> CaKey {
    CaKey::new(subject(&private_key())).unwrap()
}

pub(super) fn serial(value: u64) -> Serial {
    Serial::new(value).unwrap()
}

fn range(ca: &CaKey, first: u64, last: u64) -> Target {
    let range = SerialRange::new(serial(first), serial(last)).unwrap();
    Target::Serials(ca.clone(), range)
}

pub(super) fn list(targets: impl IntoIterator<Item = Target>) -> Krl {
    let mut set = RevocationSet::new();
    for target in targets {
        set.insert(target, None);
    }
    set.krl(7, NOW, "eic".parse().unwrap())
}

fn bytes(krl: &Krl) -> Vec<u8> {
    krl.encode().unwrap().bytes
}

/// One of everything: two CAs with a list, a range, a bitmap and key ids; a key; a fingerprint; a CA key.
fn full() -> Krl {
    let cas = [ca(), ca()];
    let of_ca = |ca: &CaKey| {
        let mut targets = vec![range(ca, 5, 5), range(ca, 1_000, 9_000)];
        targets.extend((0..40).map(|n| range(ca, 100_000 + 3 * n, 100_000 + 3 * n)));
        targets.extend(["id a", "id b"].map(|id| Target::KeyId(ca.clone(), id.parse().unwrap())));
        targets
    };
    let key = RevokedKey::from(&subject(&private_key()));
    let fingerprint = KeyFingerprint::of_blob(subject(&private_key()).blob());
    list(cas.iter().flat_map(of_ca).chain([
        Target::Key(key),
        Target::Fingerprint(fingerprint),
        Target::CaKey(ca()),
    ]))
}

fn header() -> Writer {
    let mut w = Writer::new();
    w.raw(MAGIC).u32(1).u64(7).u64(NOW).u64(0);
    w.string(b"").string(b"eic");
    w
}

fn with_sections(sections: &[(u8, &[u8])]) -> Result<Krl, UnreadableKrl> {
    let mut w = header();
    for (kind, data) in sections {
        w.byte(*kind).string(data);
    }
    read(w.as_slice())
}

/// A certificate section of one CA with these subsections.
fn with_parts(ca: &[u8], parts: &[(u8, Vec<u8>)]) -> Result<Krl, UnreadableKrl> {
    let mut w = Writer::new();
    w.string(ca).string(b"");
    for (kind, data) in parts {
        w.byte(*kind).string(data);
    }
    with_sections(&[(SECTION_CERTIFICATES, w.as_slice())])
}

fn numbers(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|n| n.to_be_bytes()).collect()
}

fn strings(values: &[&[u8]]) -> Vec<u8> {
    let mut w = Writer::new();
    values.iter().for_each(|value| {
        w.string(value);
    });
    w.into_bytes()
}

#[test]
fn files_that_are_no_list_are_refused() {
    // Without the magic sshd reads text keys (authfile.c); anything unreadable locks every login out.
    for bad in [
        &b""[..],
        b"\n",
        b"ssh-ed25519 AAAA comment\n",
        b"<html>503</html>",
        b"SSHKRL\n",
    ] {
        assert_eq!(read(bad), Err(UnreadableKrl::NotKrl), "{bad:?}");
    }
    assert_eq!(read(&vec![0; MAX_SIZE + 1]), Err(UnreadableKrl::TooLarge));
}

#[test]
fn every_cut_and_every_added_byte_is_refused() {
    let good = bytes(&full());
    let whole_sections: Vec<_> = (0..good.len())
        .filter(|at| read(&good[..*at]).is_ok())
        .collect();
    // Between sections a cut cannot be told from a shorter list: the bundle's signature covers that.
    assert!(whole_sections.len() <= 5, "{whole_sections:?}");
    for byte in 0..=255 {
        let longer = [good.as_slice(), &[byte]].concat();
        assert!(read(&longer).is_err(), "{byte}");
    }
}

#[test]
fn a_changed_byte_is_refused_or_gives_a_list_that_is_written_the_same_way() {
    // What passes the reader has no second reading.
    let good = bytes(&full());
    for at in 0..good.len() {
        for flip in [1, 0x80, 0xff] {
            let mut changed = good.clone();
            changed[at] ^= flip;
            if let Ok(krl) = read(&changed) {
                assert_eq!(read(&bytes(&krl)), Ok(krl), "byte {at}");
            }
        }
    }
}

#[test]
fn foreign_sections_are_refused() {
    // F-09: SHA-1 fingerprints, signature, extension, unknown.
    for kind in [0, 3, 4, 6, 254, 255] {
        assert_eq!(
            with_sections(&[(kind, b"")]),
            Err(UnreadableKrl::Section(kind))
        );
    }
    let ca = ca();
    assert_eq!(
        with_parts(ca.key().blob(), &[(0x39, vec![1])]),
        Err(UnreadableKrl::Section(0x39))
    );
}

#[test]
fn headers_other_than_ours_are_refused() {
    let header = |format, version, flags, reserved: &[u8], comment: &[u8]| {
        let mut w = Writer::new();
        w.raw(MAGIC).u32(format).u64(version).u64(NOW).u64(flags);
        w.string(reserved).string(comment);
        read(w.as_slice())
    };
    assert!(header(1, 7, 0, b"", b"eic").is_ok());
    for (flaw, refused) in [
        ("format version", header(2, 7, 0, b"", b"")),
        ("number", header(1, 0, 0, b"", b"")),
        ("flags", header(1, 7, 1, b"", b"")),
        ("flags", header(1, 7, 0, b"x", b"")),
        ("comment", header(1, 7, 0, b"", b"a\nb")),
        ("comment", header(1, 7, 0, b"", &[b'x'; 257])),
    ] {
        assert_eq!(refused, Err(UnreadableKrl::Header(flaw)));
    }
}

#[test]
fn the_form_for_every_ca_is_refused() {
    // F-08: an empty CA key would stand for all CAs.
    let part = [(SERIAL_LIST, numbers(&[5]))];
    assert_eq!(with_parts(b"", &part), Err(UnreadableKrl::Entry("CA key")));
    assert!(with_parts(ca().key().blob(), &part).is_ok());
}

#[test]
fn serials_that_sshd_ignores_or_that_are_unsorted_are_refused() {
    // F-03: sshd passes serial 0 over (krl.c), so that it would survive its revocation.
    let ca = ca();
    let parts = |parts: &[(u8, Vec<u8>)]| with_parts(ca.key().blob(), parts);
    let entry = Err(UnreadableKrl::Entry("serial or range"));
    let order = Err(UnreadableKrl::Order("serials"));
    for (refused, flaw) in [
        (parts(&[(SERIAL_LIST, numbers(&[0]))]), &entry),
        (parts(&[(SERIAL_LIST, numbers(&[u64::MAX]))]), &entry),
        (parts(&[(SERIAL_RANGE, numbers(&[0, 9]))]), &entry),
        (parts(&[(SERIAL_RANGE, numbers(&[9, 8]))]), &entry),
        (parts(&[(SERIAL_RANGE, numbers(&[9, 9]))]), &entry),
        (parts(&[(SERIAL_RANGE, numbers(&[1, u64::MAX]))]), &entry),
        (parts(&[(SERIAL_LIST, numbers(&[6, 5]))]), &order),
        (parts(&[(SERIAL_LIST, numbers(&[5, 5]))]), &order),
        (
            parts(&[
                (SERIAL_RANGE, numbers(&[5, 9])),
                (SERIAL_LIST, numbers(&[9])),
            ]),
            &order,
        ),
        (
            parts(&[(KEY_IDS, strings(&[b"a"])), (SERIAL_LIST, numbers(&[9]))]),
            &Err(UnreadableKrl::Order("certificate sections")),
        ),
        (
            parts(&[(SERIAL_RANGE, numbers(&[5, 9, 1]))]),
            &Err(UnreadableKrl::Trailing),
        ),
        (parts(&[(SERIAL_LIST, vec![])]), &Err(UnreadableKrl::Empty)),
        (parts(&[]), &Err(UnreadableKrl::Empty)),
        (
            parts(&[(SERIAL_LIST, vec![1, 2, 3])]),
            &Err(UnreadableKrl::Truncated),
        ),
    ] {
        assert_eq!(refused, *flaw);
    }
}

#[test]
fn bitmaps_in_any_other_form_than_ours_are_refused() {
    let ca = ca();
    let read = |offset: u64, number: &[u8]| {
        let mut w = Writer::new();
        w.u64(offset).string(number);
        with_parts(ca.key().blob(), &[(SERIAL_BITMAP, w.into_bytes())])
    };
    let held = |krl: Krl| {
        let (_, revoked) = krl.cas().next().unwrap();
        (0..400)
            .filter(|n| revoked.serials.contains(*n))
            .collect::<Vec<_>>()
    };
    assert_eq!(held(read(100, &[0b101]).unwrap()), [100, 102]);
    assert_eq!(held(read(100, &[0, 0x80, 1]).unwrap()), [100, 115]);
    for number in [
        &[][..],
        &[1],
        &[0, 1],
        &[0b100],
        &[0x80, 1],
        &[0, 0, 0x80, 1],
        &[0x7f; 1_025],
    ] {
        assert_eq!(
            read(100, number),
            Err(UnreadableKrl::Entry("bitmap")),
            "{number:?}"
        );
    }
    assert!(read(0, &[3]).is_err() && read(i64::MAX.unsigned_abs(), &[3]).is_err());
}

#[test]
fn unsorted_repeated_and_empty_entries_are_refused() {
    // F-09, F-21
    let (a, b) = (ca(), ca());
    let (low, high) = (a.clone().min(b.clone()), a.max(b));
    let keys = [low.key().blob(), high.key().blob()];
    assert!(with_sections(&[(SECTION_KEYS, &strings(&keys))]).is_ok());
    let hashes: [&[u8]; 2] = [&[1; 32], &[2; 32]];
    for section in [
        (SECTION_KEYS, strings(&[keys[1], keys[0]])),
        (SECTION_KEYS, strings(&[keys[0], keys[0]])),
        (SECTION_KEYS, strings(&[])),
        (SECTION_KEYS, strings(&[b"ssh-ed25519"])),
        (SECTION_SHA256, strings(&[hashes[1], hashes[0]])),
        (SECTION_SHA256, strings(&[&[1; 20]])),
        (SECTION_SHA256, strings(&[])),
    ] {
        assert!(with_sections(&[(section.0, &section.1)]).is_err());
    }
    let ids = |ids: &[&[u8]]| with_parts(low.key().blob(), &[(KEY_IDS, strings(ids))]);
    assert!(ids(&[b"a", b"b"]).is_ok());
    for bad in [
        &[&b"b"[..], b"a"][..],
        &[b"a\0b"],
        &[b""],
        &[b"a\n"],
        &[&[0xff]],
    ] {
        assert!(ids(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn sections_out_of_order_or_twice_are_refused() {
    let (key, hash) = (strings(&[ca().key().blob()]), strings(&[&[1; 32]]));
    let mut of_ca = Writer::new();
    of_ca.string(ca().key().blob()).string(b"");
    of_ca.byte(SERIAL_LIST).string(&numbers(&[5]));
    let of_ca = of_ca.as_slice();
    for sections in [
        [(SECTION_KEYS, key.as_slice()), (SECTION_KEYS, &key)],
        [(SECTION_SHA256, &hash), (SECTION_SHA256, &hash)],
        [(SECTION_SHA256, &hash), (SECTION_KEYS, &key)],
        [(SECTION_KEYS, &key), (SECTION_CERTIFICATES, of_ca)],
        [(SECTION_SHA256, &hash), (SECTION_CERTIFICATES, of_ca)],
        [(SECTION_CERTIFICATES, of_ca), (SECTION_CERTIFICATES, of_ca)],
    ] {
        assert!(matches!(
            with_sections(&sections),
            Err(UnreadableKrl::Order(_))
        ));
    }
}

#[test]
fn values_that_a_list_cannot_hold_are_refused() {
    for bad in ["", "a\0b", "a\n", "\u{e4}", &"x".repeat(257)] {
        assert!(matches!(
            bad.parse::<RevokedKeyId>(),
            Err(InvalidEntry::KeyId(_))
        ));
    }
    assert!("a\nb".parse::<Comment>().is_err());
    let certificate = strings(&[b"ssh-ed25519-cert-v01@openssh.com", b"x"]);
    for blob in [certificate, strings(&[b"ssh-ed25519"]), vec![], vec![0; 9]] {
        assert_eq!(RevokedKey::from_blob(&blob), Err(InvalidEntry::Key));
    }
}

#[test]
fn a_list_is_read_as_it_was_written_and_is_never_empty() {
    let nothing = list([]);
    assert!(bytes(&nothing).starts_with(MAGIC));
    for krl in [nothing, full()] {
        assert_eq!(read(&bytes(&krl)), Ok(krl));
    }
}

#[test]
fn dense_serials_are_written_in_the_shortest_form() {
    let ca = ca();
    let size = |targets: Vec<Target>| bytes(&list(targets)).len();
    let none = size(vec![range(&ca, 1, 1)]);
    let every_other = (0..1_000).map(|n| range(&ca, 10 + 2 * n, 10 + 2 * n));
    assert!(size(every_other.collect()) < none + 300);
    assert!(size(vec![range(&ca, 1, 4_000_000_000)]) < none + 30);
    let sparse = (0..100).map(|n| range(&ca, 1_000 * n + 1, 1_000 * n + 1));
    assert_eq!(size(sparse.collect()), none + 99 * 8);
}

#[test]
fn a_list_for_old_sshd_has_no_fingerprints() {
    let krl = full();
    let old = krl.without_fingerprints();
    assert_eq!(old.fingerprints().count(), 0);
    assert_eq!((krl.count() - old.count(), krl.missing_in(&old)), (1, 1));
    assert_eq!(old.missing_in(&krl), 0);
}

#[test]
fn ended_revocations_are_dropped_only_after_the_grace() {
    let ca = ca();
    let mut set = RevocationSet::new();
    set.insert(range(&ca, 1, 1), Some(NOW));
    set.insert(range(&ca, 2, 3), Some(NOW + 10 * HOUR));
    set.insert(range(&ca, 4, 4), None);
    set.insert(range(&ca, 1, 1), Some(NOW - HOUR));
    assert_eq!(set.prune(NOW + PRUNE_GRACE - 1), 0);
    let hours = [
        Expiring {
            at: NOW + HOUR,
            count: 1,
        },
        Expiring {
            at: NOW + 11 * HOUR,
            count: 2,
        },
    ];
    assert_eq!(set.expiring(), hours);
    assert_eq!(set.prune(NOW + HOUR), 1);
    set.insert(range(&ca, 2, 3), None);
    assert_eq!(set.prune(u64::MAX - 1), 0);
    assert_eq!(set.len(), 2);
    assert!(set.remove(&range(&ca, 4, 4)) && !set.remove(&range(&ca, 4, 4)));
}

#[test]
fn a_certificate_is_revoked_by_what_sshd_heeds() {
    // A serial of 0, or of 64 bits, is not one that a list can name.
    let (ca_key, key) = (private_key(), private_key());
    let ours = "eic:user/alice:00112233445566778899aabbccddeeff";
    let target = |serial, key_id: &str| {
        let certificate = differential::certificate(&ca_key, &key, serial, key_id);
        let target = Target::certificate(&certificate).unwrap();
        assert!(list([target.clone()]).is_revoked(&certificate));
        target
    };
    assert!(matches!(target(5, "x"), Target::Serials(..)));
    assert!(matches!(target(0, ours), Target::KeyId(..)));
    assert!(matches!(target(u64::MAX, ours), Target::KeyId(..)));
    assert!(matches!(target(0, "shared"), Target::Key(_)));
}

/// Deterministic pseudo-random numbers (splitmix64).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

#[test]
fn a_year_of_revocations_fits_the_budget() {
    // F-12: 5,000 hosts, 1,000,000 revocations in a year, in four user CAs; a third are fleet
    // certificates of 12 hours, the rest of 1 hour. For good: 300 stolen keys, two retired CA keys.
    let cas = [ca(), ca(), ca(), ca()];
    let (mut random, mut set, mut largest) = (Random(1), RevocationSet::new(), 0);
    for _ in 0..300 {
        let key = subject(&private_key());
        set.insert(Target::Key(RevokedKey::from(&key)), None);
    }
    cas.iter()
        .take(2)
        .for_each(|ca| set.insert(Target::CaKey(ca.clone()), None));
    let year = 365 * 24 * HOUR;
    for n in 0..1_000_000_u64 {
        let at = NOW + n * year / 1_000_000;
        let ttl = if random.below(3) == 0 {
            12 * HOUR
        } else {
            HOUR
        };
        let ca = &cas[usize::try_from(random.below(4)).unwrap()];
        let drawn = Serial::new((random.next() >> 1).max(1)).unwrap();
        set.insert(Target::serial(ca.clone(), drawn), Some(at + ttl));
        if n % 1_000 == 0 {
            set.prune(at);
            largest = largest.max(bytes(&set.krl(n + 1, at, Comment::default())).len());
        }
    }
    assert!(largest > 20_000 && largest <= SIZE_BUDGET / 2, "{largest}");
    assert!(set.len() < 5_000, "{}", set.len());
}

#[test]
fn a_list_over_the_budget_warns_and_one_over_the_limit_is_refused() {
    let (ca, mut random) = (ca(), Random(2));
    let mut serials = |count| {
        let drawn = (0..count).map(|_| (random.next() >> 1).max(1));
        let targets: Vec<_> = drawn
            .map(|n| Target::serial(ca.clone(), serial(n)))
            .collect();
        list(targets)
    };
    assert_eq!(serials(16_000).encode().unwrap().warning, None);
    let over = serials(17_000).encode().unwrap();
    assert_eq!(over.warning, Some(OverBudget(over.bytes.len())));
    assert!(matches!(serials(66_000).encode(), Err(TooLarge(_))));
}

#[test]
fn the_largest_list_is_read_and_asked_in_bounded_time() {
    let (ca, mut random) = (ca(), Random(3));
    let targets: Vec<_> = (0..60_000)
        .map(|_| Target::serial(ca.clone(), serial((random.next() >> 1).max(1))))
        .collect();
    let file = bytes(&list(targets));
    let started = Instant::now();
    let krl = read(&file).unwrap();
    assert!(!krl.revokes_key(subject(&private_key()).blob()));
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "{:?}",
        started.elapsed()
    );
}
