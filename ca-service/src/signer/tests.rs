//! Every key type signs certificates that OpenSSH reads as meant; a wrong signature never leaves.

use std::collections::BTreeMap;
use std::process::Command;

use eic_protocol::api::certificate::{CertificateScope, UserCertificateRequest};
use eic_protocol::cert::options::{Extension, SourceAddresses};
use eic_protocol::sshsig;
use eic_protocol::trust::root::Root;

use super::document::{BundleKey, RootKey};
use super::*;
use crate::audit::RecordError;
use crate::issuance::tests::{NOW, Rig, grant, local_signer, origin, request, subject, verified};
use crate::issuance::{Draw, Grant, prepare_user};
use crate::keys::KeyType;

/// Unix seconds as `ssh-keygen -L` shows them with `TZ=UTC`.
fn shown(time: u64) -> String {
    let text = jiff::Timestamp::from_second(i64::try_from(time).unwrap())
        .unwrap()
        .to_string();
    text.trim_end_matches('Z').to_owned()
}

/// What ssh-keygen reads in each certificate, in order: name of the line → its values.
fn read_by_openssh(lines: &[String]) -> Vec<BTreeMap<String, Vec<String>>> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("certificates");
    std::fs::write(&file, lines.join("\n") + "\n").unwrap();
    let output = Command::new("ssh-keygen")
        .env("TZ", "UTC")
        .arg("-L")
        .arg("-f")
        .arg(&file)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let mut found: Vec<BTreeMap<String, Vec<String>>> = Vec::new();
    let mut field = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("Type: ") {
            found.push(BTreeMap::new());
        }
        let Some(current) = found.last_mut() else {
            continue;
        };
        if line.starts_with("                ") {
            current
                .get_mut(&field)
                .unwrap()
                .push(line.trim_start().to_owned());
        } else if let Some((name, value)) = line.trim_start().split_once(':') {
            field = name.to_owned();
            let value = value.trim().to_owned();
            current.insert(
                field.clone(),
                if value.is_empty() {
                    vec![]
                } else {
                    vec![value]
                },
            );
        }
    }
    found
}

#[tokio::test]
async fn each_local_key_type_signs_what_openssh_reads() {
    // D-23: RSA with SHA-512 only.
    let algorithms = ["ED25519", "ECDSA", "ECDSA", "RSA", "RSA"];
    let signatures = [
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "rsa-sha2-512",
        "rsa-sha2-512",
    ];
    for (index, (name, kind)) in KeyType::ALL.into_iter().enumerate() {
        let rig = Rig::with(Signer::Local(local_signer(kind)));
        let issued = rig.issuer().issue(grant(), origin()).await.unwrap();
        let read = read_by_openssh(&[issued.line().to_owned()]);
        let expected = format!(
            "{} {} (using {})",
            algorithms[index],
            rig.ca.public().fingerprint(),
            signatures[index]
        );
        assert_eq!(read[0]["Signing CA"], [expected], "{name}");
        assert_eq!(read[0]["Principals"], ["ubuntu@i-0123456789abcdef0"]);
    }
}

/// A small generator of our own, so that a failure names the seed that repeats it.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn pick(&mut self, count: usize) -> usize {
        usize::try_from(self.roll(u64::try_from(count).unwrap())).unwrap()
    }

    fn text(&mut self, alphabet: &[u8], len: u64) -> String {
        (0..len)
            .map(|_| char::from(alphabet[self.pick(alphabet.len())]))
            .collect()
    }

    fn request(
        &mut self,
        subjects: &[eic_protocol::subject_key::SubjectKey],
    ) -> UserCertificateRequest {
        let (first, rest) = (b"abcxyz_".as_slice(), b"abcxyz019_.-".as_slice());
        let len = self.roll(32);
        let user = format!("{}{}", self.text(first, 1), self.text(rest, len))
            .parse()
            .unwrap();
        let scope = if self.roll(3) == 0 {
            let len = 1 + self.roll(24);
            CertificateScope::Fleet {
                user,
                fleet: self.text(b"abz09-", len).parse().unwrap(),
            }
        } else {
            let prefix = ["i-", "mi-"][self.pick(2)];
            let instance = format!("{prefix}{}", self.text(b"0123456789abcdef", 17))
                .parse()
                .unwrap();
            CertificateScope::Target { user, instance }
        };
        let command = 1 + self.roll(200);
        let command = format!("x{}", self.text(b"abc -/=\"'\\;$@#%", command));
        let blocks = (0..1 + self.roll(5))
            .map(|_| format!("10.{}.0.0/16", self.roll(256)))
            .collect::<Vec<_>>();
        let extensions = Extension::ALL
            .into_iter()
            .filter(|_| self.roll(2) == 0)
            .collect();
        let subject = subjects[self.pick(subjects.len())].clone();
        UserCertificateRequest {
            public_key: subject,
            scope,
            ttl_seconds: Some(5 + self.roll(3_596)),
            force_command: (self.roll(2) == 0).then(|| command.parse().unwrap()),
            source_addresses: (self.roll(2) == 0)
                .then(|| SourceAddresses::try_from(blocks).unwrap()),
            extensions: (self.roll(3) > 0).then_some(extensions),
            ..request()
        }
    }
}

/// The profile in ssh-keygen's words.
fn expected(profile: &eic_protocol::cert::Profile) -> BTreeMap<&'static str, Vec<String>> {
    let eic_protocol::cert::Profile::User(user) = profile else {
        panic!("a user certificate")
    };
    let mut options = Vec::new();
    if let Some(command) = &user.restrictions.force_command {
        options.push(format!("force-command {}", command.as_str()));
    }
    if let Some(addresses) = &user.restrictions.source_addresses {
        options.push(format!("source-address {addresses}"));
    }
    let mut extensions: Vec<String> = user
        .extensions
        .iter()
        .map(|e| e.as_str().to_owned())
        .collect();
    extensions.sort_unstable();
    let none_if_empty = |list: Vec<String>| {
        if list.is_empty() {
            vec!["(none)".to_owned()]
        } else {
            list
        }
    };
    BTreeMap::from([
        ("Serial", vec![user.serial.to_string()]),
        ("Key ID", vec![format!("\"{}\"", user.key_id)]),
        (
            "Valid",
            vec![format!(
                "from {} to {}",
                shown(user.validity.after()),
                shown(user.validity.before())
            )],
        ),
        (
            "Principals",
            user.principals.iter().map(ToString::to_string).collect(),
        ),
        ("Critical Options", none_if_empty(options)),
        ("Extensions", none_if_empty(extensions)),
    ])
}

#[tokio::test]
async fn five_thousand_random_certificates_are_read_by_openssh_as_they_were_meant() {
    // D-21, in one run of the suite; D-02, D-03 by construction.
    let seed = u64::from_be_bytes(crate::random::bytes().unwrap()) | 1;
    let mut dice = Dice(seed);
    let kinds = [
        KeyType::Ed25519,
        KeyType::EcdsaP256,
        KeyType::EcdsaP384,
        KeyType::Rsa3072,
    ];
    let subjects: Vec<_> = kinds
        .map(|kind| local_signer(kind).public().key().clone())
        .into();
    let ca: UserCa = CertificateAuthority::new(Signer::Local(local_signer(KeyType::Ed25519)), None);
    for _ in 0..5 {
        let mut lines = Vec::new();
        let mut meant = Vec::new();
        for _ in 0..1_000 {
            let grant = Grant::for_test(verified(dice.request(&subjects)));
            let prepared = prepare_user(grant, &Draw::fresh().unwrap(), ca.active(), NOW).unwrap();
            let (linted, meaning) = prepared.into_parts();
            let signature = ca.signer.sign_bytes(linted.as_slice()).await.unwrap();
            lines.push(linted.attach(&signature).unwrap().line().to_owned());
            meant.push(meaning);
        }
        let read = read_by_openssh(&lines);
        assert_eq!(read.len(), lines.len(), "seed {seed}");
        for ((read, meaning), line) in read.iter().zip(&meant).zip(&lines) {
            for (field, value) in expected(meaning.profile()) {
                assert_eq!(read[field], value, "{field} of {line}, seed {seed}");
            }
            assert!(read["Type"][0].ends_with("user certificate"), "seed {seed}");
        }
    }
}

#[tokio::test]
async fn a_body_that_was_exchanged_after_the_record_is_not_signed() {
    // D-22
    let rig = Rig::new();
    let mut recorded = rig.recorder.record(rig.prepared(), origin()).await.unwrap();
    recorded.value_mut().swap_body(rig.prepared());
    assert!(matches!(
        rig.ca.sign(recorded, &rig.clock).await,
        Err(SignError::Diverged)
    ));
    rig.journal(&[("failed", 1)]);
    let records = rig.audit();
    assert_eq!(records.len(), 2);
    assert_eq!(records[1]["errorCode"], "SignerMisuse");
    assert_eq!(records[1]["requestID"], records[0]["requestID"]);
}

#[tokio::test]
async fn what_was_prepared_for_another_ca_is_not_signed() {
    let rig = Rig::new();
    let other: UserCa =
        CertificateAuthority::new(Signer::Local(local_signer(KeyType::Ed25519)), None);
    let recorded = rig.recorder.record(rig.prepared(), origin()).await.unwrap();
    assert!(matches!(
        other.sign(recorded, &rig.clock).await,
        Err(SignError::OtherCa)
    ));
    rig.journal(&[("failed", 1)]);
}

#[tokio::test]
async fn a_prepared_certificate_is_recorded_once_only() {
    // D-22: its replay claim goes with it.
    let rig = Rig::new();
    let mut again = verified(request());
    again.replay = rig.prepared().replay().unwrap();
    let replay = again.replay;
    let prepare =
        |grant| prepare_user(grant, &Draw::fresh().unwrap(), rig.ca.active(), NOW).unwrap();
    drop(
        rig.recorder
            .record(prepare(Grant::for_test(again)), origin())
            .await
            .unwrap(),
    );
    let mut other = verified(request());
    other.replay = replay;
    let refused = rig
        .recorder
        .record(prepare(Grant::for_test(other)), origin())
        .await;
    assert!(matches!(refused, Err(RecordError::Replayed)));
}

#[test]
fn a_document_key_signs_under_its_own_namespace_only() {
    // D-20
    let key = BundleKey::new(local_signer(KeyType::Ed25519));
    let envelope = key.seal(&"a host view").unwrap();
    let signature = envelope.signatures[0].signature.as_slice();
    let verify = |namespace| {
        sshsig::verify(
            namespace,
            key.public(),
            envelope.signed.as_slice(),
            signature,
        )
    };
    verify(eic_protocol::sshsig::Namespace::HostView).unwrap();
    verify(eic_protocol::sshsig::Namespace::Root).unwrap_err();
    verify(eic_protocol::sshsig::Namespace::Request).unwrap_err();
}

#[test]
fn each_local_key_type_signs_documents() {
    for (name, kind) in KeyType::ALL {
        let key = RootKey::new(local_signer(kind));
        let fingerprints = [key.public().fingerprint()].into();
        let ca = CaKey::new(subject()).unwrap();
        let root = Root {
            version: 1,
            issued: NOW,
            root_keys: vec![key.public().clone()],
            threshold: 1,
            bundle_keys: vec![subject()],
            user_cas: vec![],
            host_cas: vec![ca],
        };
        let mut envelope = key.seal(&root).unwrap();
        assert_eq!(
            Root::pinned(&envelope, &fingerprints).unwrap(),
            root,
            "{name}"
        );
        RootKey::new(local_signer(KeyType::Ed25519))
            .countersign(&mut envelope)
            .unwrap();
        assert_eq!(envelope.signatures.len(), 2);
        Root::pinned(&envelope, &fingerprints).unwrap();
    }
}

mod files {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;
    use std::process::Command;

    use eic_protocol::wire::Writer;

    use super::super::local::{KeyFlaw, LocalKeyError, LocalSigner};
    use crate::keys::{KeyType, generate};

    fn made_by(folder: &tempfile::TempDir, arguments: &[&str]) -> PathBuf {
        let path = folder.path().join(arguments.join("").replace('/', ""));
        let output = Command::new("ssh-keygen")
            .args(["-q", "-f"])
            .arg(&path)
            .args(arguments)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        path
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = made_by(&folder, &["-N", "", "-t", "ed25519"]);
        for mode in [0o640, 0o604, 0o644, 0o660] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(
                matches!(LocalSigner::load(&path), Err(LocalKeyError::Mode { .. })),
                "{mode:o}"
            );
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        LocalSigner::load(&path).unwrap();
    }

    #[test]
    fn a_key_of_somebody_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = made_by(&folder, &["-N", "", "-t", "ed25519"]);
        if std::os::unix::fs::chown(&path, Some(12_345), None).is_err() {
            eprintln!("skipped: changing a file's owner needs root");
            return;
        }
        assert!(matches!(
            LocalSigner::load(&path),
            Err(LocalKeyError::Owner { uid: 12_345, .. })
        ));
    }

    #[test]
    fn keys_with_a_passphrase_and_weak_or_foreign_types_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let flaw = |arguments: &[&str]| match LocalSigner::load(&made_by(&folder, arguments)) {
            Err(LocalKeyError::Key { flaw, .. }) => flaw,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("{arguments:?} was accepted"),
        };
        assert_eq!(flaw(&["-N", "secret", "-t", "ed25519"]), KeyFlaw::Encrypted);
        assert!(matches!(
            flaw(&["-N", "", "-t", "rsa", "-b", "2048"]),
            KeyFlaw::Public(_)
        ));
        assert_eq!(flaw(&["-N", "", "-t", "ecdsa", "-b", "521"]), KeyFlaw::Type);
        assert_eq!(
            flaw(&["-N", "", "-t", "rsa", "-b", "3072", "-m", "PEM"]),
            KeyFlaw::OldForm
        );
        for bad in [
            "",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ] {
            assert!(LocalSigner::parse(bad).is_err());
        }
    }

    #[test]
    fn openssh_and_pkcs8_files_of_every_type_are_read_as_ssh_keygen_reads_them() {
        let folder = tempfile::tempdir().unwrap();
        let types: [&[&str]; 4] = [
            &["-t", "ed25519"],
            &["-t", "ecdsa", "-b", "256"],
            &["-t", "ecdsa", "-b", "384"],
            &["-t", "rsa", "-b", "3072"],
        ];
        for kind in types {
            for form in ["RFC4716", "PKCS8"] {
                let arguments = [kind, &["-N", "", "-m", form]].concat();
                let path = made_by(&folder, &arguments);
                let public = std::fs::read_to_string(path.with_extension("pub"))
                    .or_else(|_| std::fs::read_to_string(format!("{}.pub", path.display())))
                    .unwrap();
                let key = LocalSigner::load(&path).unwrap_or_else(|e| panic!("{arguments:?}: {e}"));
                assert!(
                    public.starts_with(&key.public().to_string()),
                    "{arguments:?}"
                );
            }
        }
    }

    /// One P-256 key in 256 is written in fewer than 32 bytes; this is one of 31, each 0x11.
    #[test]
    fn a_p256_key_with_a_short_number_is_read_as_ssh_keygen_reads_it() {
        let public_point = "04149c58d7b80fe7510afd51a3bb09ce8d1aaa337404467e076d29ac865ff9d42a\
                         41fa6f24e4b6898a0bec839e9c5de6840570ed963aff341f89ddfd7daf6c9ce3";
        let point = hex::decode(public_point).unwrap();
        let mut public = Writer::new();
        let name = b"ecdsa-sha2-nistp256";
        public.string(name).string(b"nistp256").string(&point);
        let mut private = Writer::new();
        private
            .u32(7)
            .u32(7)
            .raw(public.as_slice())
            .mpint(&[0x11; 31]);
        private.string(b"").raw(&[1, 2, 3, 4, 5, 6, 7]);
        let padded = private.as_slice().len() / 8 * 8;
        let mut file = Writer::new();
        file.raw(b"openssh-key-v1\0")
            .string(b"none")
            .string(b"none");
        file.string(b"").u32(1).string(public.as_slice());
        file.string(&private.as_slice()[..padded]);
        let text = crate::keys::pem::encode(file.as_slice(), "OPENSSH PRIVATE KEY");
        ssh_keygen_reads_the_same(&text, "short");
    }

    #[test]
    fn a_generated_key_is_read_by_ssh_keygen() {
        for (name, kind) in KeyType::ALL {
            ssh_keygen_reads_the_same(&generate(kind, "test").unwrap(), name);
        }
    }

    fn ssh_keygen_reads_the_same(text: &str, name: &str) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let mut command = Command::new("ssh-keygen");
        let output = command.args(["-y", "-f"]).arg(&path).output().unwrap();
        let read = String::from_utf8(output.stdout).unwrap();
        let ours = LocalSigner::load(&path).unwrap().public().to_string();
        assert!(read.starts_with(&ours), "{name}: {read}");
    }
}
