//! Tests of the certificate modules: the encoder against `ssh-keygen -L`, the lint against bad bodies.

use std::process::Command;

use proptest::prelude::*;
use signature::Signer as _;
use ssh_key::PrivateKey;

use super::check::{Asked, Mismatch, host_certificate, own_host_certificate, user_certificate};
use super::lint::{LintError, lint, prepare};
use super::options::{Extension, SourceAddresses};
use super::tbs::{CertNonce, Tbs};
use super::*;
use crate::subject_key::CaKey;

const NOW: u64 = 1_800_000_000;
const ID: &str = "00112233445566778899aabbccddeeff";

pub(crate) fn private_key() -> PrivateKey {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).unwrap();
    PrivateKey::from(ssh_key::private::Ed25519Keypair::from_seed(&seed))
}

pub(crate) fn subject(key: &PrivateKey) -> SubjectKey {
    key.public_key().to_openssh().unwrap().parse().unwrap()
}

fn ca(key: &PrivateKey) -> CaKey {
    CaKey::new(subject(key)).unwrap()
}

pub(crate) fn user_profile(subject: SubjectKey) -> UserCertificate {
    UserCertificate {
        subject,
        serial: Serial::new(77).unwrap(),
        key_id: KeyId::new("user/alice", ID.parse().unwrap()),
        principals: BTreeSet::from(["ubuntu@i-0123456789abcdef0".parse().unwrap()]),
        validity: Validity::starting_at(NOW, 300, 3600).unwrap(),
        restrictions: Restrictions::default(),
        extensions: Extension::defaults(),
    }
}

fn issue(profile: &Profile, key: &PrivateKey) -> String {
    let linted = prepare(profile, &CertNonce::from_random([7; 32]), &ca(key), NOW).unwrap();
    let signature = key.try_sign(linted.as_slice()).unwrap();
    linted.attach(&signature).unwrap().line().to_owned()
}

fn refused(change: impl FnOnce(&mut UserCertificate)) -> LintError {
    let mut profile = user_profile(subject(&private_key()));
    change(&mut profile);
    prepare(
        &Profile::User(profile),
        &CertNonce::from_random([7; 32]),
        &ca(&private_key()),
        NOW,
    )
    .unwrap_err()
}

#[test]
fn a_certificate_without_principals_is_refused() {
    // D-01
    assert!(matches!(
        refused(|p| p.principals.clear()),
        LintError::Principals(0) | LintError::Parse(_)
    ));
}

#[test]
fn too_many_principals_are_refused() {
    // D-03
    let error = refused(|p| {
        p.principals = (0..33)
            .map(|n| format!("u{n}@i-01234567").parse().unwrap())
            .collect();
    });
    assert!(matches!(error, LintError::Principals(33)));
}

#[test]
fn validity_outside_the_profile_is_refused() {
    // D-08
    for (after, before) in [
        (NOW - 61, NOW + 300),
        (NOW - 60, NOW + 3_601),
        (NOW - 60, NOW),
        (NOW + 1, NOW + 300),
        (NOW, i64::MAX.unsigned_abs()),
    ] {
        let error = refused(|p| p.validity = Validity::new(after, before).unwrap());
        assert!(matches!(error, LintError::Validity), "{after} {before}");
    }
}

#[test]
fn a_body_over_the_limit_of_kms_is_refused() {
    // D-19
    let error = refused(|p| {
        let user = "u".repeat(30);
        p.principals = (0..32)
            .map(|n| {
                format!("{user}{n:02}@mi-0123456789abcdef0")
                    .parse()
                    .unwrap()
            })
            .collect();
        p.restrictions.force_command = Some("x".repeat(1024).parse().unwrap());
        let blocks = (0..32_u8)
            .map(|n| format!("2001:db8:1111:2222:3333:4444:5555:66{n:02x}/128"))
            .collect::<Vec<_>>();
        p.restrictions.source_addresses = Some(SourceAddresses::try_from(blocks).unwrap());
    });
    assert!(
        matches!(error, LintError::TooLong(n) if n > 4096),
        "{error:?}"
    );
}

#[test]
fn a_ca_key_does_not_certify_itself() {
    // D-14
    let key = private_key();
    let profile = Profile::User(user_profile(subject(&key)));
    let error = prepare(&profile, &CertNonce::from_random([7; 32]), &ca(&key), NOW).unwrap_err();
    assert!(matches!(error, LintError::Field("subject is the CA")));
}

#[test]
fn bytes_that_differ_from_the_profile_in_any_field_are_refused() {
    // D-22, D-10, D-04
    let (key, other) = (private_key(), private_key());
    let meant = user_profile(subject(&other));
    let change = |f: &dyn Fn(&mut UserCertificate)| {
        let mut changed = meant.clone();
        f(&mut changed);
        Profile::User(changed)
    };
    let host = Profile::Host(HostCertificate {
        subject: meant.subject.clone(),
        serial: meant.serial,
        key_id: meant.key_id.clone(),
        instance: "i-0123456789abcdef0".parse().unwrap(),
        validity: meant.validity,
    });
    let changed: Vec<(&str, Profile)> = vec![
        ("type", host),
        (
            "public key",
            change(&|p| p.subject = subject(&private_key())),
        ),
        ("serial", change(&|p| p.serial = Serial::new(78).unwrap())),
        (
            "key id",
            change(&|p| p.key_id = KeyId::new("user/eve", ID.parse().unwrap())),
        ),
        (
            "principals",
            change(&|p| {
                p.principals
                    .insert("root@i-0123456789abcdef0".parse().unwrap());
            }),
        ),
        (
            "valid after",
            change(&|p| p.validity = Validity::new(NOW - 1, p.validity.before()).unwrap()),
        ),
        (
            "valid before",
            change(&|p| p.validity = Validity::new(p.validity.after(), NOW + 1).unwrap()),
        ),
        (
            "critical options",
            change(&|p| p.restrictions.force_command = Some("id".parse().unwrap())),
        ),
        (
            "critical options",
            change(&|p| p.restrictions.verify_required = true),
        ),
        (
            "extensions",
            change(&|p| {
                p.extensions.insert(Extension::AgentForwarding);
            }),
        ),
        ("extensions", change(&|p| p.extensions.clear())),
    ];
    let nonce = CertNonce::from_random([7; 32]);
    for (field, profile) in changed {
        let tbs = Tbs::encode(&profile, &nonce, &ca(&key));
        let error = lint(tbs, &Profile::User(meant.clone()), &ca(&key), NOW).unwrap_err();
        assert!(
            matches!(&error, LintError::Field(f) if *f == field),
            "{field}: {error:?}"
        );
    }
    let foreign = Tbs::encode(&Profile::User(meant.clone()), &nonce, &ca(&private_key()));
    assert!(lint(foreign, &Profile::User(meant), &ca(&key), NOW).is_err());
}

#[test]
fn a_wrong_signature_never_becomes_a_certificate() {
    // D-16
    let key = private_key();
    let profile = Profile::User(user_profile(subject(&private_key())));
    let linted = || prepare(&profile, &CertNonce::from_random([7; 32]), &ca(&key), NOW).unwrap();
    let good = key.try_sign(linted().as_slice()).unwrap();
    let mut flipped = good.as_bytes().to_vec();
    flipped[0] ^= 1;
    let wrong = [
        ssh_key::Signature::new(ssh_key::Algorithm::Ed25519, flipped).unwrap(),
        private_key().try_sign(linted().as_slice()).unwrap(),
        key.try_sign(b"another message").unwrap(),
    ];
    for signature in wrong {
        assert!(matches!(
            linted().attach(&signature),
            Err(LintError::Signature)
        ));
    }
    assert!(linted().attach(&good).is_ok());
}

fn asked<'a>(key: &'a SubjectKey, principal: &'a Principal) -> Asked<'a> {
    Asked {
        public_key: key,
        principal,
        max_ttl: 300,
        force_command: None,
        source_addresses: None,
        extensions: None,
    }
}

type Change = fn(&mut UserCertificate);

#[test]
fn a_certificate_that_is_not_what_was_asked_for_is_refused_by_field() {
    // H-01
    let (key, other, subject_key) = (private_key(), private_key(), subject(&private_key()));
    let principal: Principal = "ubuntu@i-0123456789abcdef0".parse().unwrap();
    let meant = user_profile(subject_key.clone());
    let cas = [ca(&key)];
    let check = |profile: &UserCertificate, signer: &PrivateKey, now| {
        let line = issue(&Profile::User(profile.clone()), signer);
        user_certificate(&line, &asked(&subject_key, &principal), &cas, now).map(|_| ())
    };
    assert_eq!(check(&meant, &key, NOW), Ok(()));
    assert_eq!(
        check(&meant, &other, NOW),
        Err(Mismatch::Field("signature key"))
    );
    assert!(matches!(
        check(&meant, &key, NOW + 300),
        Err(Mismatch::Expired { .. })
    ));
    let changes: [(&str, Change); 6] = [
        ("public key", |p| p.subject = subject(&private_key())),
        ("principals", |p| {
            p.principals
                .insert("root@i-0123456789abcdef0".parse().unwrap());
        }),
        ("lifetime", |p| {
            p.validity = Validity::starting_at(NOW, 3600, 3600).unwrap()
        }),
        ("critical options", |p| {
            p.restrictions.force_command = Some("id".parse().unwrap())
        }),
        ("extensions", |p| {
            p.extensions.insert(Extension::AgentForwarding);
        }),
        ("extensions", |p| p.extensions.clear()),
    ];
    for (field, change) in changes {
        let mut profile = meant.clone();
        change(&mut profile);
        assert_eq!(check(&profile, &key, NOW), Err(Mismatch::Field(field)));
    }
    let line = issue(&Profile::User(meant), &key);
    let forced = "id".parse().unwrap();
    let promised = Asked {
        force_command: Some(&forced),
        ..asked(&subject_key, &principal)
    };
    assert_eq!(
        user_certificate(&line, &promised, &cas, NOW),
        Err(Mismatch::Field("critical options"))
    );
}

#[test]
fn a_host_certificate_of_another_instance_or_ca_is_refused() {
    // H-10, H-21
    let (key, host_key) = (private_key(), private_key());
    let instance: InstanceId = "i-0123456789abcdef0".parse().unwrap();
    let profile = HostCertificate {
        subject: subject(&host_key),
        serial: Serial::new(5).unwrap(),
        key_id: KeyId::new("host", ID.parse().unwrap()),
        instance: instance.clone(),
        validity: Validity::starting_at(NOW, 86_400, 86_400).unwrap(),
    };
    let line = issue(&Profile::Host(profile), &key);
    let blob = ssh_key::Certificate::from_openssh(&line)
        .unwrap()
        .to_bytes()
        .unwrap();
    let cas = [ca(&key)];
    assert_eq!(
        host_certificate(&blob, &instance, &cas, NOW).unwrap(),
        subject(&host_key)
    );
    let other = "i-0123456789abcdef1".parse().unwrap();
    assert_eq!(
        host_certificate(&blob, &other, &cas, NOW),
        Err(Mismatch::Field("principals"))
    );
    assert_eq!(
        host_certificate(&blob, &instance, &[ca(&private_key())], NOW),
        Err(Mismatch::Field("signature key"))
    );
    assert!(matches!(
        host_certificate(&blob, &instance, &cas, NOW + 86_400),
        Err(Mismatch::Expired { .. })
    ));
    let user = issue(&Profile::User(user_profile(subject(&host_key))), &key);
    let user = ssh_key::Certificate::from_openssh(&user)
        .unwrap()
        .to_bytes()
        .unwrap();
    assert_eq!(
        host_certificate(&user, &instance, &cas, NOW),
        Err(Mismatch::Field("type"))
    );
}

#[test]
fn a_host_certificate_outside_its_profile_is_refused_by_field() {
    // E-10, D-08: what an agent puts before sshd is just what it asked for.
    use ssh_key::certificate::{Builder, CertType};
    let (key, host_key) = (private_key(), private_key());
    let instance: InstanceId = "i-0123456789abcdef0".parse().unwrap();
    let made = |change: &dyn Fn(&mut Builder), hours: u64| {
        let public = host_key.public_key().key_data().clone();
        let end = NOW + hours * 3_600;
        let mut builder = Builder::new([7; 32], public, NOW - 60, end).unwrap();
        builder.cert_type(CertType::Host).unwrap();
        builder.valid_principal(instance.as_str()).unwrap();
        change(&mut builder);
        builder.sign(&key).unwrap().to_openssh().unwrap()
    };
    let serial = |builder: &mut Builder| {
        builder.serial(5).unwrap();
    };
    let checked = |line: &str, asked: &PrivateKey| {
        own_host_certificate(line, &subject(asked), &instance, &[ca(&key)], NOW).err()
    };
    let good = made(&serial, 24);
    assert_eq!(checked(&good, &host_key), None);
    let field = |name| Some(Mismatch::Field(name));
    assert_eq!(checked(&good, &private_key()), field("public key"));
    assert_eq!(checked(&made(&|_| {}, 24), &host_key), field("serial"));
    assert_eq!(checked(&made(&serial, 25), &host_key), field("lifetime"));
    let with = |change: &dyn Fn(&mut Builder)| {
        let both = |builder: &mut Builder| {
            serial(builder);
            change(builder);
        };
        checked(&made(&both, 24), &host_key)
    };
    let extension = |b: &mut Builder| {
        b.extension("permit-pty", "").unwrap();
    };
    assert_eq!(with(&extension), field("extensions"));
    let option = |b: &mut Builder| {
        b.critical_option("force-command", "x").unwrap();
    };
    assert_eq!(with(&option), field("critical options"));
    let second_name = |b: &mut Builder| {
        b.valid_principal("web-1").unwrap();
    };
    assert_eq!(with(&second_name), field("principals"));
    assert_eq!(
        checked("ssh-ed25519 AAAA", &host_key),
        Some(Mismatch::Unreadable)
    );
}

#[test]
fn a_host_profile_of_more_than_a_day_is_not_signed() {
    // D14
    let (key, host_key) = (private_key(), private_key());
    let profile = |before| {
        let host = HostCertificate {
            subject: subject(&host_key),
            serial: Serial::new(5).unwrap(),
            key_id: KeyId::new("host", ID.parse().unwrap()),
            instance: "i-0123456789abcdef0".parse().unwrap(),
            validity: Validity::new(NOW - 60, before).unwrap(),
        };
        let nonce = CertNonce::from_random([7; 32]);
        prepare(&Profile::Host(host), &nonce, &ca(&key), NOW).map(|_| ())
    };
    assert!(profile(NOW + 86_400).is_ok());
    assert!(matches!(profile(NOW + 86_401), Err(LintError::Validity)));
}

/// What `ssh-keygen -L` prints of a certificate, a line each, blanks trimmed.
fn listed(line: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("id-cert.pub");
    std::fs::write(&file, format!("{line}\n")).unwrap();
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
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|l| l.trim().to_owned())
        .collect()
}

fn arbitrary_profile() -> impl Strategy<Value = UserCertificate> {
    let principal = "[a-z_][a-z0-9_.-]{0,31}@(i-[0-9a-f]{17}|fleet/[a-z0-9-]{1,24})";
    (
        1..=i64::MAX.unsigned_abs(),
        "[ -~]{1,200}",
        proptest::collection::btree_set(principal, 1..8),
        (
            5..=3600_u64,
            proptest::option::of("[!-~][ -~]{0,80}"),
            any::<bool>(),
        ),
        proptest::collection::btree_set(proptest::sample::select(Extension::ALL.to_vec()), 0..5),
        proptest::option::of(any::<[u8; 4]>()),
    )
        .prop_map(
            |(serial, caller, principals, (ttl, command, verify), extensions, source)| {
                UserCertificate {
                    subject: subject(&private_key()),
                    serial: Serial::new(serial).unwrap(),
                    key_id: KeyId::new(&caller, ID.parse().unwrap()),
                    principals: principals.into_iter().map(|p| p.parse().unwrap()).collect(),
                    validity: Validity::starting_at(NOW, ttl, 3600).unwrap(),
                    restrictions: Restrictions {
                        force_command: command.map(|c| c.parse().unwrap()),
                        source_addresses: source.map(|a| SourceAddresses::single(a.into())),
                        verify_required: verify,
                    },
                    extensions,
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn ssh_keygen_lists_what_the_profile_says(profile in arbitrary_profile()) {
        // D-21
        let shown = listed(&issue(&Profile::User(profile.clone()), &private_key()));
        let has = |text: String| shown.contains(&text);
        prop_assert!(has(format!("Serial: {}", profile.serial)), "not listed");
        prop_assert!(has(format!("Key ID: \"{}\"", profile.key_id)), "not listed");
        for principal in &profile.principals {
            prop_assert!(has(principal.to_string()), "not listed");
        }
        for extension in &profile.extensions {
            prop_assert!(has(extension.as_str().to_owned()), "not listed");
        }
        let restrictions = &profile.restrictions;
        if let Some(command) = &restrictions.force_command {
            prop_assert!(has(format!("force-command {}", command.as_str().trim_end())), "not listed");
        }
        if let Some(addresses) = &restrictions.source_addresses {
            prop_assert!(has(format!("source-address {addresses}")), "not listed");
        }
        prop_assert_eq!(has("verify-required".to_owned()), restrictions.verify_required);
        prop_assert_eq!(has("Critical Options: (none)".to_owned()), restrictions.is_empty());
        prop_assert_eq!(has("Extensions: (none)".to_owned()), profile.extensions.is_empty());
    }
}

#[test]
fn every_subject_key_type_is_certified_in_a_form_that_ssh_keygen_reads() {
    use crate::subject_key::tests::generated;
    for (kind, bits) in [
        ("ed25519", ""),
        ("ecdsa", "256"),
        ("ecdsa", "384"),
        ("rsa", "2048"),
        ("rsa", "4096"),
    ] {
        let key: SubjectKey = generated(kind, bits).trim_end().parse().unwrap();
        let shown = listed(&issue(
            &Profile::User(user_profile(key.clone())),
            &private_key(),
        ));
        assert!(
            shown
                .iter()
                .any(|l| l.starts_with("Public key:") && l.contains(&key.fingerprint())),
            "{shown:?}"
        );
    }
}
