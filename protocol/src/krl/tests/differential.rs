//! Random lists, each asked of three: the plain entries, [`Krl`], and `ssh-keygen -Q`; and lists that
//! `ssh-keygen -k` wrote from the same entries. `EIC_KRL_SETS` sets how many (default 200).

use std::path::Path;
use std::process::{Command, Output};

use ssh_key::certificate::{Builder, CertType};
use ssh_key::{Certificate, PrivateKey};

use super::*;
use crate::subject_key::SubjectKey;

const DEFAULT_SETS: u64 = 200;

/// A user certificate with any serial and key id; ours cannot hold such ones.
pub(super) fn certificate(
    ca: &PrivateKey,
    key: &PrivateKey,
    serial: u64,
    key_id: &str,
) -> Certificate {
    let public = key.public_key().key_data().clone();
    let mut builder = Builder::new([7; 32], public, NOW, NOW + 300).unwrap();
    builder.serial(serial).unwrap().key_id(key_id).unwrap();
    builder.cert_type(CertType::User).unwrap();
    builder.valid_principal("ubuntu@i-01234567").unwrap();
    builder.sign(ca).unwrap()
}

struct Keys {
    cas: Vec<PrivateKey>,
    subjects: Vec<PrivateKey>,
}

impl Keys {
    fn new() -> Self {
        let draw = |count| (0..count).map(|_| private_key()).collect();
        Self {
            cas: draw(3),
            subjects: draw(6),
        }
    }

    fn ca(&self, random: &mut Random) -> &PrivateKey {
        pick(&self.cas, random)
    }

    fn ca_key(&self, random: &mut Random) -> CaKey {
        CaKey::new(subject(self.ca(random))).unwrap()
    }
}

fn pick<'a, T>(values: &'a [T], random: &mut Random) -> &'a T {
    let at = random.below(u64::try_from(values.len()).unwrap());
    &values[usize::try_from(at).unwrap()]
}

/// Serials near each other, near the ends, and anywhere.
fn draw_serial(random: &mut Random) -> u64 {
    match random.below(4) {
        0 => 1 + random.below(300),
        1 => i64::MAX.unsigned_abs() - random.below(300),
        2 => 1_000_000 + random.below(40),
        _ => (random.next() >> 1).max(1),
    }
}

fn draw_target(keys: &Keys, random: &mut Random) -> Target {
    match random.below(16) {
        0..=9 => Target::serial(keys.ca_key(random), serial(draw_serial(random))),
        10..=11 => {
            let first = draw_serial(random);
            let last = first.saturating_add(random.below(200));
            range(
                &keys.ca_key(random),
                first,
                last.min(i64::MAX.unsigned_abs()),
            )
        }
        12..=13 => {
            let id = draw_key_id(random).parse().unwrap();
            Target::KeyId(keys.ca_key(random), id)
        }
        14 => Target::Key(RevokedKey::from(&subject(pick(&keys.subjects, random)))),
        _ => draw_rare(keys, random),
    }
}

fn draw_rare(keys: &Keys, random: &mut Random) -> Target {
    let key = subject(pick(&keys.subjects, random));
    match random.below(6) {
        0 => Target::CaKey(keys.ca_key(random)),
        _ => Target::Fingerprint(KeyFingerprint::of_blob(key.blob())),
    }
}

/// Prefixes of each other, and what looks like escapes (F-21).
fn draw_key_id(random: &mut Random) -> &'static str {
    const IDS: [&str; 8] = ["a", "aa", "a b", "a%20b", "a\\n", "a#b", "eic:a:00", "A"];
    pick::<&str>(&IDS, random)
}

/// What the entries say, by the plainest possible reading.
fn expected(targets: &[Target], certificate: &Certificate) -> bool {
    let key = certificate.public_key().encode_vec().unwrap();
    let ca_blob = certificate.signature_key().encode_vec().unwrap();
    let serial = certificate.serial();
    targets.iter().any(|target| match target {
        Target::Serials(ca, range) => {
            ca.key().blob() == ca_blob && range.first() <= serial && serial <= range.last()
        }
        Target::KeyId(ca, id) => ca.key().blob() == ca_blob && id.as_str() == certificate.key_id(),
        Target::Key(revoked) => revoked.blob() == key || revoked.blob() == ca_blob,
        Target::Fingerprint(print) => [&key, &ca_blob]
            .map(|blob| KeyFingerprint::of_blob(blob))
            .contains(print),
        Target::CaKey(ca) => ca.key().blob() == ca_blob || ca.key().blob() == key,
    })
}

/// Certificates at, just below and just above the entries, of the same and of other CAs.
fn probes(targets: &[Target], keys: &Keys, random: &mut Random) -> Vec<Certificate> {
    let mut probes = Vec::new();
    for _ in 0..4 {
        let Some(Target::Serials(ca, range)) = (!targets.is_empty()).then(|| pick(targets, random))
        else {
            continue;
        };
        let near = [
            range.first() - 1,
            range.first(),
            range.last(),
            range.last() + 1,
        ];
        let own = keys
            .cas
            .iter()
            .find(|key| subject(key) == *ca.key())
            .unwrap();
        for serial in near {
            let key = pick(&keys.subjects, random);
            probes.push(certificate(own, key, serial, "other"));
        }
        let other = certificate(
            keys.ca(random),
            pick(&keys.subjects, random),
            range.first(),
            "x",
        );
        probes.push(other);
    }
    for _ in 0..4 {
        let (ca, key) = (keys.ca(random), pick(&keys.subjects, random));
        let serial = random.below(3) * draw_serial(random) % (1 << 62);
        probes.push(certificate(ca, key, serial, draw_key_id(random)));
    }
    probes
}

fn keygen(args: &[&str], files: &[&Path]) -> Output {
    let mut command = Command::new("ssh-keygen");
    command.args(args).args(files).output().unwrap()
}

/// What `ssh-keygen -Q` says of each certificate.
fn asked(list: &Path, folder: &Path, probes: &[Certificate]) -> Vec<bool> {
    let files: Vec<_> = (0..probes.len())
        .map(|n| folder.join(format!("probe-{n:03}.pub")))
        .collect();
    for (file, probe) in files.iter().zip(probes) {
        std::fs::write(file, probe.to_openssh().unwrap() + "\n").unwrap();
    }
    let paths: Vec<_> = files.iter().map(std::path::PathBuf::as_path).collect();
    let output = keygen(&["-Q", "-f", list.to_str().unwrap()], &paths);
    let text = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<_> = text.lines().map(|line| line.ends_with("REVOKED")).collect();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(answers.len(), probes.len(), "{text}{errors}");
    assert!(
        text.lines()
            .all(|l| l.ends_with("REVOKED") || l.ends_with("ok"))
    );
    answers
}

/// One set of entries: three answers to each question.
fn one_set(seed: u64, keys: &Keys, folder: &Path) {
    let mut random = Random(seed);
    let count = random.below(30);
    let targets: Vec<_> = (0..count).map(|_| draw_target(keys, &mut random)).collect();
    let krl = list(targets.clone());
    let file = folder.join("list.krl");
    std::fs::write(&file, bytes(&krl)).unwrap();
    assert_eq!(read(&bytes(&krl)).as_ref(), Ok(&krl), "set {seed}");
    let probes = probes(&targets, keys, &mut random);
    let theirs = asked(&file, folder, &probes);
    for (probe, theirs) in probes.iter().zip(theirs) {
        let shown = (seed, probe.serial(), probe.key_id());
        assert_eq!(
            krl.is_revoked(probe),
            expected(&targets, probe),
            "{shown:?}"
        );
        assert_eq!(theirs, expected(&targets, probe), "{shown:?}");
    }
}

#[test]
fn random_lists_mean_the_same_to_ssh_keygen() {
    // F-22
    let sets = std::env::var("EIC_KRL_SETS")
        .ok()
        .map(|n| n.parse().unwrap());
    let (keys, folder) = (Keys::new(), tempfile::tempdir().unwrap());
    for seed in 0..sets.unwrap_or(DEFAULT_SETS) {
        one_set(seed, &keys, folder.path());
    }
}

/// The entries in the words of ssh-keygen(1), KEY REVOCATION LISTS. A `#` begins a comment there.
fn specification(targets: &[Target]) -> String {
    let line = |target: &Target| match target {
        Target::Serials(_, range) if range.count() == 1 => format!("serial: {}\n", range.first()),
        Target::Serials(_, range) => format!("serial: {}-{}\n", range.first(), range.last()),
        Target::KeyId(_, id) => format!("id: {}\n", id.as_str()),
        Target::Key(key) => format!("key: {}\n", SubjectKey::from_blob(key.blob()).unwrap()),
        Target::Fingerprint(print) => format!("hash: {print}\n"),
        Target::CaKey(ca) => format!("key: {ca}\n"),
    };
    targets.iter().map(line).collect()
}

#[test]
fn lists_by_ssh_keygen_hold_the_same() {
    // F-22: the other way round, with its choice of lists, ranges and bitmaps.
    let mut compared = 0;
    let folder = tempfile::tempdir().unwrap();
    let [spec, ca_file, file] = ["spec", "ca.pub", "list.krl"].map(|name| folder.path().join(name));
    for seed in 0..50 {
        let keys = Keys {
            cas: vec![private_key()],
            ..Keys::new()
        };
        let mut random = Random(seed);
        let count = 1 + random.below(40);
        let targets: Vec<_> = (0..count)
            .map(|_| draw_target(&keys, &mut random))
            .filter(|target| !specification(std::slice::from_ref(target)).contains('#'))
            .collect();
        std::fs::write(&spec, specification(&targets)).unwrap();
        std::fs::write(&ca_file, subject(&keys.cas[0]).to_string()).unwrap();
        let ca = ca_file.to_str().unwrap();
        let made = keygen(
            &["-k", "-f", file.to_str().unwrap(), "-s", ca, "-z", "7"],
            &[&spec],
        );
        assert!(made.status.success(), "{made:?}");
        let theirs = match read(&std::fs::read(&file).unwrap()) {
            // ssh-keygen also writes bitmaps of one bit, which we never do.
            Err(UnreadableKrl::Entry("bitmap")) => continue,
            read => read.unwrap(),
        };
        let ours = list(targets);
        assert_eq!(
            ours.cas().collect::<Vec<_>>(),
            theirs.cas().collect::<Vec<_>>()
        );
        assert_eq!(
            (ours.keys, ours.fingerprints),
            (theirs.keys, theirs.fingerprints)
        );
        compared += 1;
    }
    assert!(compared > 20, "{compared}");
}

#[test]
fn a_serial_of_0_survives_serial_revocation_in_openssh_and_here() {
    // krl.c passes serial 0 over: the reason why `Target::certificate` takes another way.
    let (ca, key) = (private_key(), private_key());
    let ca_key = CaKey::new(subject(&ca)).unwrap();
    let krl = list([range(&ca_key, 1, 1_000)]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("list.krl");
    std::fs::write(&file, bytes(&krl)).unwrap();
    let probes = [0, 1, 1_001].map(|serial| certificate(&ca, &key, serial, "x"));
    assert_eq!(asked(&file, folder.path(), &probes), [false, true, false]);
    assert_eq!(
        probes.each_ref().map(|p| krl.is_revoked(p)),
        [false, true, false]
    );
}

#[test]
fn weak_keys_can_be_revoked() {
    // What a scan finds: a key that would never be certified must still be refusable.
    let folder = tempfile::tempdir().unwrap();
    let [key, list_file] = ["rsa", "list.krl"].map(|name| folder.path().join(name));
    let made = keygen(&["-q", "-t", "rsa", "-b", "1024", "-N", "", "-f"], &[&key]);
    assert!(made.status.success());
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    let public = ssh_key::PublicKey::from_openssh(&public).unwrap();
    let blob = public.key_data().encode_vec().unwrap();
    let krl = list([Target::Key(RevokedKey::from_blob(&blob).unwrap())]);
    std::fs::write(&list_file, bytes(&krl)).unwrap();
    let asked = keygen(&["-Q", "-f", list_file.to_str().unwrap()], &[&key]);
    assert_eq!(asked.status.code(), Some(1), "{asked:?}");
}
