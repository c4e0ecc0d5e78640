//! A new CA's folder, its root document through changes of keys, and a host's files.

use std::os::unix::fs::PermissionsExt as _;

use eic_protocol::cert::check;
use eic_protocol::trust::envelope::Untrusted;
use eic_protocol::trust::host_view::{FleetMembership, HostView, Stage};
use eic_protocol::trust::root::{KeyState, Root};
use tempfile::TempDir;

use super::*;
use crate::config::keys::KmsKey;
use crate::issuance::tests::{NOW, Rig, local_signer, subject};

fn config(folder: &Path) -> KeysConfig {
    let local = |name: &str| SignerConfig::Local {
        file: folder.join(name),
    };
    KeysConfig {
        user_ca: local(USER_CA),
        spare_user_cas: Vec::new(),
        propagation_seconds: 86_400,
        rotate_after: None,
        endorsed: None,
        host_ca: local(HOST_CA),
        bundle: folder.join(BUNDLE),
        root: Some(folder.join(ROOT)),
        root_document: folder.join(ROOT_DOCUMENT),
        grant_secrets: vec![folder.join(GRANT_SECRET)],
    }
}

fn made() -> (TempDir, Generated, Rig) {
    let folder = tempfile::tempdir().unwrap();
    let generated = init(&folder.path().join("keys"), NOW).unwrap();
    (folder, generated, Rig::new())
}

/// The version that is there then, and whether it is new.
fn update(
    path: &Path,
    keys: &RootKeys,
    root_key: &RootKey,
    now: u64,
) -> Result<(u64, bool), RootError> {
    let (_, present) = root::read(path)?;
    let Some((_, envelope)) = root::successor(&present, keys, root_key, now)? else {
        return Ok((present.version, false));
    };
    Ok((root_history::succeed(path, &envelope)?.version, true))
}

/// Puts a new key in the place of one.
fn exchange(folder: &Path, name: &str) {
    std::fs::remove_file(folder.join(name)).unwrap();
    let text = generate(KeyType::EcdsaP256, "new").unwrap();
    files::create(&folder.join(name), text.as_bytes(), files::PRIVATE).unwrap();
}

#[test]
fn a_second_init_overwrites_nothing() {
    let (_folder, generated, _rig) = made();
    let before = std::fs::read(generated.folder.join(USER_CA)).unwrap();
    assert!(matches!(
        init(&generated.folder, NOW),
        Err(KeysError::File(FileError::Exists(_)))
    ));
    assert_eq!(
        std::fs::read(generated.folder.join(USER_CA)).unwrap(),
        before
    );
}

#[test]
fn secrets_are_for_their_owner_only() {
    let (_folder, generated, _rig) = made();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&generated.folder), 0o700);
    for name in [USER_CA, HOST_CA, BUNDLE, ROOT, GRANT_SECRET] {
        assert_eq!(mode(&generated.folder.join(name)), 0o600, "{name}");
    }
    assert_eq!(
        std::fs::metadata(generated.folder.join(GRANT_SECRET))
            .unwrap()
            .len(),
        32
    );
    assert_eq!(mode(&generated.folder.join(ROOT_DOCUMENT)), 0o644);
}

#[tokio::test]
async fn a_new_ca_loads_and_its_root_holds_by_its_fingerprint() {
    let (_folder, generated, rig) = made();
    let keys = load(&config(&generated.folder), &rig.store.key_pins(), NOW)
        .await
        .unwrap();
    assert_eq!(*keys.user_ca.public(), generated.user_ca);
    assert_eq!(*keys.host_ca.public(), generated.host_ca);
    let root = Root::pinned(&keys.root, &[generated.root_fingerprint].into()).unwrap();
    assert_eq!(root, keys.document);
    assert_eq!(root.user_cas[0].key, generated.user_ca);
    // D-14: none of these is ever certified.
    for key in [
        generated.user_ca.key(),
        generated.host_ca.key(),
        &root.bundle_keys[0],
        &root.root_keys[0],
    ] {
        assert!(keys.special.contains(key));
    }
    assert!(!keys.special.contains(&subject()));
}

#[tokio::test]
async fn a_key_that_kms_does_not_give_is_awaited_where_it_is_known() {
    let (_folder, generated, rig) = made();
    let mut config = config(&generated.folder);
    let gone = KmsKey {
        arn: "arn:aws:kms:eu-west-1:111122223333:key/00000000-0000-0000-0000-000000000001"
            .parse()
            .unwrap(),
        region: "eu-west-1".parse().unwrap(),
        // Nobody listens there.
        endpoint: Some("http://127.0.0.1:9".to_owned()),
        public_key: Some(CaKey::new(subject()).unwrap()),
        proxy: None,
    };
    let unknown = KmsKey {
        public_key: None,
        ..gone.clone()
    };
    config.spare_user_cas = vec![config.user_ca.clone()];
    config.user_ca = SignerConfig::Kms(Box::new(gone.clone()));
    let pins = rig.store.key_pins();
    let root_key = RootKey::load(&generated.folder.join(ROOT)).unwrap();
    let (keys, _) = RootKeys::open(&config, &pins, NOW).await.unwrap();
    update(&config.root_document, &keys, &root_key, NOW).unwrap();
    let loaded = load(&config, &pins, NOW).await.unwrap();
    assert!(loaded.user_ca.unreached().is_some());
    let [spare] = loaded.spares.as_slice() else {
        panic!("{}", loaded.spares.len())
    };
    assert_eq!(*spare.public(), generated.user_ca);
    assert!(spare.unreached().is_none());
    // Nobody can say which of two keys it is.
    let arn = gone.arn.to_string();
    let other = CaKey::new(subject()).unwrap().to_string();
    pins.pin(&arn, &other, NOW).await.unwrap();
    let two = load(&config, &pins, NOW).await.err().unwrap();
    let told = two.to_string();
    assert!(matches!(two, KeysError::NamedOther { .. }), "{told}");
    assert!(told.contains(&format!("`{other}` was seen")), "{told}");
    // A key of which nothing is known could be anything.
    let pins = Rig::new();
    let pins = pins.store.key_pins();
    config.user_ca = SignerConfig::Kms(Box::new(unknown));
    let refused = load(&config, &pins, NOW).await;
    assert!(matches!(refused.err(), Some(KeysError::Kms(_))));
}

#[tokio::test]
async fn one_key_for_two_purposes_is_refused() {
    // D-13
    let (_folder, generated, rig) = made();
    let mut config = config(&generated.folder);
    config.host_ca = config.user_ca.clone();
    let refused = load(&config, &rig.store.key_pins(), NOW).await;
    assert!(matches!(
        refused.err(),
        Some(KeysError::Shared("user_ca", "host_ca"))
    ));
}

#[tokio::test]
async fn a_root_key_that_signs_host_views_too_is_refused() {
    // D-13
    let (_folder, generated, rig) = made();
    let mut config = config(&generated.folder);
    config.bundle = generated.folder.join(ROOT);
    let root_key = RootKey::load(&generated.folder.join(ROOT)).unwrap();
    let pins = rig.store.key_pins();
    let (keys, _) = RootKeys::open(&config, &pins, NOW).await.unwrap();
    update(&config.root_document, &keys, &root_key, NOW).unwrap();
    let refused = load(&config, &pins, NOW).await;
    assert!(matches!(
        refused.err(),
        Some(KeysError::Shared("bundle", "root"))
    ));
}

#[tokio::test]
async fn a_configured_key_that_the_root_does_not_name_stops_the_start_and_says_what_to_run() {
    for name in [USER_CA, HOST_CA, BUNDLE] {
        let (_folder, generated, rig) = made();
        exchange(&generated.folder, name);
        let config = config(&generated.folder);
        let refused = load(&config, &rig.store.key_pins(), NOW)
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(
            refused.contains("eic-ca root update --config FILE"),
            "{name}: {refused}"
        );

        let (keys, _) = RootKeys::open(&config, &rig.store.key_pins(), NOW)
            .await
            .unwrap();
        let root_key = RootKey::load(&generated.folder.join(ROOT)).unwrap();
        assert_eq!(
            update(&config.root_document, &keys, &root_key, NOW + 5).unwrap(),
            (2, true),
            "{name}"
        );
        assert_eq!(
            update(&config.root_document, &keys, &root_key, NOW + 6).unwrap(),
            (2, false),
            "{name}"
        );
        load(&config, &rig.store.key_pins(), NOW).await.unwrap();
    }
}

#[tokio::test]
async fn an_exchanged_user_ca_is_retired_and_still_never_certified() {
    let (_folder, generated, rig) = made();
    let config = config(&generated.folder);
    let (_, first) = root::read(&config.root_document).unwrap();
    exchange(&generated.folder, USER_CA);
    let (keys, _) = RootKeys::open(&config, &rig.store.key_pins(), NOW)
        .await
        .unwrap();
    let root_key = RootKey::load(&generated.folder.join(ROOT)).unwrap();
    update(&config.root_document, &keys, &root_key, NOW).unwrap();
    let (envelope, second) = root::read(&config.root_document).unwrap();
    // Whoever has the first root takes the second.
    assert_eq!(first.successor(&envelope).unwrap(), second);
    assert_eq!(second.user_ca(&generated.user_ca.fingerprint()), None);
    assert!(
        second
            .user_cas
            .iter()
            .any(|ca| ca.key == generated.user_ca && ca.state == KeyState::Retired)
    );
    assert!(named_keys(&second).any(|key| key == generated.user_ca.key()));
}

#[test]
fn a_root_key_that_the_present_root_does_not_name_signs_no_next_one() {
    let (_folder, generated, _rig) = made();
    let path = generated.folder.join(ROOT_DOCUMENT);
    let keys = RootKeys {
        user_ca: CaKey::new(subject()).unwrap(),
        spares: Vec::new(),
        host_ca: CaKey::new(subject()).unwrap(),
        bundle: subject(),
    };
    let stranger = RootKey::new(local_signer(KeyType::Ed25519));
    assert!(matches!(
        update(&path, &keys, &stranger, NOW),
        Err(RootError::OtherRootKey(_))
    ));
    let (_, document) = root::read(&path).unwrap();
    assert_eq!(document.version, 1);
}

#[test]
fn a_root_document_that_was_changed_is_refused() {
    let (_folder, generated, _rig) = made();
    let path = generated.folder.join(ROOT_DOCUMENT);
    let (mut envelope, mut document) = root::read(&path).unwrap();
    document.version = 7;
    envelope.signed.0 = serde_json::to_vec(&document).unwrap();
    root::write(&path, &envelope).unwrap();
    let refused = root::read(&path);
    assert!(
        matches!(
            refused,
            Err(RootError::Untrusted {
                flaw: Untrusted::Signatures { .. },
                ..
            })
        ),
        "{refused:?}"
    );
    std::fs::write(&path, "{}").unwrap();
    assert!(root::read(&path).is_err());
}

fn order(folder: &Path, host_key: Option<SubjectKey>) -> HostViewOrder {
    HostViewOrder {
        instance: "i-0123456789abcdef0".parse().unwrap(),
        fleets: vec![FleetMembership {
            name: "web".parse().unwrap(),
            kms_only: true,
        }],
        stage: Stage::CertificatesOnly,
        hard_stop: Some(30 * 86_400),
        host_key,
        folder: folder.join("state"),
    }
}

#[tokio::test]
async fn a_hosts_files_verify_as_the_host_and_its_clients_do() {
    let (folder, generated, rig) = made();
    let keys = load(&config(&generated.folder), &rig.store.key_pins(), NOW)
        .await
        .unwrap();
    let host_key = subject();
    let order = order(folder.path(), Some(host_key.clone()));
    let state = host_state(&keys, &rig.store, &rig.recorder, &order, &rig.clock)
        .await
        .unwrap();
    assert_eq!((state.files.len(), state.version), (3, 1));

    let read = |name: &str| std::fs::read_to_string(order.folder.join(name)).unwrap();
    let root = serde_json::from_str(&read("root.json")).unwrap();
    let root = Root::pinned(&root, &[generated.root_fingerprint].into()).unwrap();
    let view = serde_json::from_str(&read("host-view.json")).unwrap();
    let view = HostView::verified(&view, &root, &order.instance, NOW).unwrap();
    assert_eq!(
        (view.fleets, view.stage),
        (order.fleets.clone(), Stage::CertificatesOnly)
    );
    assert!(
        HostView::verified(
            &serde_json::from_str(&read("host-view.json")).unwrap(),
            &root,
            &order.instance,
            NOW + 31 * 86_400
        )
        .is_err()
    );

    let certificate = ssh_key::Certificate::from_openssh(&read("host-cert.pub")).unwrap();
    let blob = certificate.to_bytes().unwrap();
    assert_eq!(
        check::host_certificate(&blob, &order.instance, &root.host_cas, NOW).unwrap(),
        host_key
    );
    assert!(check::host_certificate(&blob, &order.instance, &[generated.user_ca], NOW).is_err());
    rig.journal(&[("issued", 1)]);
    let audit = rig.audit();
    assert_eq!(audit[0]["eventName"], "SignHostView");
    let record = &audit[1];
    assert_eq!(record["eventName"], "IssueHostCertificate");
    assert_eq!(record["userIdentity"]["type"], "LocalOperator");
    assert_eq!(
        record["responseElements"]["serial"],
        state.certificate.unwrap().0.to_string()
    );
}

#[tokio::test]
async fn a_hosts_view_grows_and_the_cas_own_keys_get_no_host_certificate() {
    let (folder, generated, rig) = made();
    let keys = load(&config(&generated.folder), &rig.store.key_pins(), NOW)
        .await
        .unwrap();
    for version in 1..=2 {
        let order = order(folder.path(), None);
        let state = host_state(&keys, &rig.store, &rig.recorder, &order, &rig.clock)
            .await
            .unwrap();
        assert_eq!(
            (state.version, state.files.len(), state.certificate),
            (version, 2, None)
        );
    }
    let order = order(folder.path(), Some(generated.user_ca.key().clone()));
    assert!(
        host_state(&keys, &rig.store, &rig.recorder, &order, &rig.clock)
            .await
            .is_err()
    );
    rig.journal(&[]);
}

#[test]
fn a_host_key_file_with_something_else_in_it_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.pub");
    for bad in [
        "",
        "\n# comment\n",
        "ssh-ed25519 AAAA\n",
        "-----BEGIN OPENSSH PRIVATE KEY-----\n",
    ] {
        std::fs::write(&path, bad).unwrap();
        assert!(
            matches!(read_host_key(&path), Err(HostStateError::HostKey { .. })),
            "{bad:?}"
        );
    }
    let key = subject();
    std::fs::write(&path, format!("# host\n{key} root@web-1\n")).unwrap();
    assert_eq!(read_host_key(&path).unwrap(), key);
}
