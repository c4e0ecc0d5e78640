//! What an operator does to trust with the program, beside a running service: revoke, publish, make roots.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use eic_ca::keys::{self, KeyType};
use eic_protocol::api::certificate::UserCertificateResponse;
use eic_protocol::api::problem::ProblemCode;
use eic_protocol::api::trust_bundle::TrustBundleResponse;
use eic_protocol::base64_text::Base64Bytes;
use eic_protocol::krl::Krl;
use eic_protocol::trust::bundle::Bundle;
use eic_protocol::trust::envelope::Envelope;
use eic_protocol::trust::root::Root;
use serde_json::json;
use ssh_key::Certificate;

use crate::client::Client;
use crate::program::real_now;
use crate::sts::ALICE;
use crate::trust_bundle::{bundle, documents, fetch, state_of};
use crate::world::{NOW, WEB, World};

/// Runs `eic-ca` on the world's configuration.
pub(crate) async fn run(world: &World, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eic-ca"));
    command.args(args).current_dir(world.path("."));
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

pub(crate) async fn done(world: &World, args: &[&str]) -> String {
    let output = run(world, args).await;
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) async fn refused(world: &World, args: &[&str]) -> String {
    let output = run(world, args).await;
    assert!(!output.status.success(), "{args:?}");
    String::from_utf8(output.stderr).unwrap()
}

pub(crate) async fn current(world: &World) -> Bundle {
    bundle(&documents(&fetch(world, "", None).await))
}

/// The first bundle whose list is as wanted; within a second in practice.
pub(crate) async fn until(world: &World, wanted: impl Fn(&Krl) -> bool) -> Bundle {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let bundle = current(world).await;
        if wanted(&bundle.revocations.read().unwrap()) {
            return bundle;
        }
        assert!(Instant::now() < end, "{:?}", bundle.revocations.read());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn issued(world: &World, client: &Client) -> UserCertificateResponse {
    let grant = client.sign_in(world, ALICE).await.grant;
    let request = client.certificate_request("ubuntu", WEB, &json!({}));
    let issued = client.certificate(world, &grant, &request).await;
    issued.unwrap_or_else(|problem| panic!("{problem:?}"))
}

pub(crate) fn parsed(issued: &UserCertificateResponse) -> Certificate {
    Certificate::from_openssh(&issued.certificate).unwrap()
}

#[tokio::test]
async fn what_is_not_there_is_not_revoked() {
    let world = World::new().await;
    let serial = ["revoke", "serial", "5", "--reason", "x"];
    assert!(
        refused(&world, &serial)
            .await
            .contains("journal knows none")
    );
    let print = format!("SHA256:{}", "A".repeat(43));
    let ca = ["revoke", "ca-key", &print, "--reason", "x"];
    assert!(
        refused(&world, &ca)
            .await
            .contains("no root document names it")
    );
    let unfounded = ["revoke", "key", &print];
    assert!(refused(&world, &unfounded).await.contains("--reason"));
}

#[tokio::test]
async fn an_operators_revocation_is_in_the_next_bundle() {
    // F-01
    let world = World::new().await;
    let client = Client::new(1);
    let certificates = [
        issued(&world, &client).await,
        issued(&world, &client).await,
        issued(&world, &client).await,
    ];
    let serial = certificates[0].serial.to_string();
    done(&world, &["revoke", "serial", &serial, "--reason", "lost"]).await;
    let id = certificates[1].request_id.to_string();
    done(&world, &["revoke", "request", &id, "--reason", "lost"]).await;
    let revoked = |krl: &Krl, n: usize| krl.is_revoked(&parsed(&certificates[n]));
    let bundle = until(&world, |krl| revoked(krl, 0) && revoked(krl, 1)).await;
    assert!(!revoked(&bundle.revocations.read().unwrap(), 2));
    done(&world, &["revoke", "caller", ALICE.arn]).await;
    until(&world, |krl| revoked(krl, 2)).await;
    assert_eq!(world.audit().matches("\"eventName\":\"Revoke\"").count(), 2);
}

#[tokio::test]
async fn a_revocation_that_is_taken_back_leaves_the_list_with_a_reset() {
    // F-06
    let world = World::new().await;
    let key = Client::new(7).public.to_string();
    done(&world, &["revoke", "key", &key, "--reason", "mistaken"]).await;
    let before = until(&world, |krl| krl.count() == 1).await;
    done(
        &world,
        &["revoke", "key", &key, "--reason", "found again", "--undo"],
    )
    .await;
    let after = until(&world, |krl| krl.count() == 0).await;
    after.check_follows(&before, NOW).unwrap();
    assert_eq!(after.revocations.reset_at, after.revocations.number);
    let again = ["revoke", "key", &key, "--reason", "x", "--undo"];
    assert!(!run(&world, &again).await.status.success());
}

#[tokio::test]
async fn a_revoked_ca_key_signs_nothing_and_nothing_of_it_counts() {
    // F-15
    let world = World::new().await;
    let client = Client::new(1);
    let certificate = parsed(&issued(&world, &client).await);
    let ca = certificate
        .signature_key()
        .fingerprint(ssh_key::HashAlg::Sha256)
        .to_string();
    done(&world, &["revoke", "ca-key", &ca, "--reason", "stolen"]).await;
    until(&world, |krl| krl.is_revoked(&certificate)).await;
    let grant = client.sign_in(&world, ALICE).await.grant;
    let request = client.certificate_request("ubuntu", WEB, &json!({}));
    let refused = client
        .certificate(&world, &grant, &request)
        .await
        .unwrap_err();
    assert_eq!(refused.code, ProblemCode::SignerUnavailable);
}

#[tokio::test]
async fn a_published_bundle_verifies_by_the_pinned_root_only() {
    // F-18
    let world = World::new().await;
    let before = current(&world).await;
    let shown = done(&world, &["bundle", "publish", "--to", "www"]).await;
    assert!(shown.contains("sequence 2, goes with root 1"), "{shown}");
    let file = "www/trust-bundle.json";
    assert!(
        done(&world, &["bundle", "verify", file])
            .await
            .contains("fresh")
    );
    assert!(
        done(&world, &["bundle", "show", file])
            .await
            .contains("sequence 2")
    );
    let foreign = format!("SHA256:{}", "A".repeat(43));
    let stranger = ["bundle", "verify", file, "--fingerprint", &foreign];
    assert!(
        refused(&world, &stranger)
            .await
            .contains("signatures by trusted keys")
    );
    let text = std::fs::read_to_string(world.path(file)).unwrap();
    world.write("www/html.json", "<html></html>");
    assert!(
        refused(&world, &["bundle", "verify", "www/html.json"])
            .await
            .contains("not a trust bundle")
    );
    // The service's own go on behind it.
    let published = serde_json::from_str(&text).unwrap();
    let published = bundle(&published);
    published.check_follows(&before, NOW).unwrap();
    let world = world.restarted().await;
    current(&world)
        .await
        .check_follows(&published, NOW)
        .unwrap();
}

/// A first root by these keys, two of which are to sign.
fn init_of<'a>(keys: &[&'a str], out: &'a str) -> Vec<&'a str> {
    let keys = keys.iter().flat_map(|key| ["--root-key", key]);
    let rest = ["--threshold", "2", "--out", out];
    ["root", "init"]
        .into_iter()
        .chain(keys)
        .chain(rest)
        .collect()
}

/// The documents, as soon as a root after the first one is served.
async fn with_new_root(world: &World) -> TrustBundleResponse {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let news = documents(&fetch(world, "?root=1", None).await);
        if !news.roots.is_empty() {
            return news;
        }
        assert!(Instant::now() < end, "no new root");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn two_of_three_sign_a_root_and_one_alone_does_not() {
    let world = World::new().await;
    let first = documents(&fetch(&world, "", None).await);
    let state = state_of(&world, WEB, &first);
    for name in ["alice", "bob", "carol"] {
        keys::new_key_file(&world.path(name), KeyType::Ed25519).unwrap();
    }
    let keys = ["alice.pub", "bob.pub", "carol.pub"];
    let too_many = init_of(&keys[..1], "x.json");
    let refusal = refused(&world, &too_many).await;
    assert!(refusal.contains("threshold from 1 to 1"), "{refusal}");
    done(&world, &init_of(&keys, "a.json")).await;
    std::fs::copy(world.path("a.json"), world.path("b.json")).unwrap();
    // Where they are there is no configuration.
    for (key, draft) in [
        ("alice", "a.json"),
        ("keys/root", "a.json"),
        ("bob", "b.json"),
    ] {
        let sign = ["root", "sign", "--config", "none", "--key", key, draft];
        done(&world, &sign).await;
    }
    let alone = refused(&world, &["root", "install", "a.json"]).await;
    assert!(alone.contains("1 of 2 needed signatures"), "{alone}");
    let without_the_old_one = refused(&world, &["root", "install", "b.json"]).await;
    assert!(
        without_the_old_one.contains("0 of 1"),
        "{without_the_old_one}"
    );
    done(&world, &["root", "install", "a.json", "b.json"]).await;
    let news = with_new_root(&world).await;
    let advance = state.advance(&news.documents(), NOW);
    assert_eq!(advance.refused, None);
    let root = advance.state.root();
    assert_eq!(
        (root.version, root.threshold, root.root_keys.len()),
        (2, 2, 3)
    );
}

/// A CA with a spare key that its present root announces.
pub(crate) async fn with_spare(propagation: u64) -> (World, String) {
    let world = World::new().await;
    // The commands have no other clock.
    world.clock.set(real_now());
    spare_in(world, propagation)
}

/// The same in a world that is there.
pub(crate) fn spare_in(world: World, propagation: u64) -> (World, String) {
    let spare = name_spare(&world, propagation);
    (world, spare)
}

/// A new spare key in the configuration.
pub(crate) fn name_spare(world: &World, propagation: u64) -> String {
    keys::new_key_file(&world.path("keys/user-ca-2"), KeyType::Ed25519).unwrap();
    let config = std::fs::read_to_string(world.path("eic-ca.toml")).unwrap();
    let spare = format!(
        "[keys]\nspare_user_cas = [{{ signer = \"local\", file = \"keys/user-ca-2\" }}]\npropagation_seconds = {propagation}\n"
    );
    world.write("eic-ca.toml", &config.replacen("[keys]\n", &spare, 1));
    let public = std::fs::read_to_string(world.path("keys/user-ca-2.pub")).unwrap();
    let public: eic_protocol::subject_key::SubjectKey = public.trim().parse().unwrap();
    public.fingerprint()
}

pub(crate) fn ca_of(issued: &UserCertificateResponse) -> String {
    let ca = parsed(issued).signature_key().clone();
    ca.fingerprint(ssh_key::HashAlg::Sha256).to_string()
}

#[tokio::test]
async fn a_key_that_hosts_cannot_have_yet_is_not_activated() {
    // F-16
    let (world, spare) = with_spare(86_400).await;
    issued(&world, &Client::new(1)).await;
    let activate = ["keys", "activate", &spare, "--reason", "x"];
    assert!(refused(&world, &activate).await.contains("keys announce"));
    done(&world, &["keys", "announce"]).await;
    // Within a second: before the service serves it, no host can have it at all.
    world.until(|world| world.rows("roots_served") == 2).await;
    assert!(
        refused(&world, &activate)
            .await
            .contains("may not know it before")
    );
    let told = refused(&world, &activate).await;
    assert!(told.contains("Z (in 2") && told.contains(" min)"), "{told}");
    let list = done(&world, &["keys", "list"]).await;
    assert!(
        list.contains("announced") && list.contains("signs"),
        "{list}"
    );
    // A restart does not let it sign either, nor does making it the first one.
    let config = std::fs::read_to_string(world.path("eic-ca.toml")).unwrap();
    let swapped = config
        .replace("file = \"keys/user-ca\"", "file = \"keys/swap\"")
        .replace("keys/user-ca-2\"", "keys/user-ca\"")
        .replace("keys/swap\"", "keys/user-ca-2\"");
    world.write("eic-ca.toml", &swapped);
    let world = world.restarted().await;
    assert_ne!(ca_of(&issued(&world, &Client::new(2)).await), spare);
    // Alone, it signs nothing.
    let alone: String = swapped
        .lines()
        .filter(|l| !l.starts_with("spare_user_cas"))
        .map(|l| format!("{l}\n"))
        .collect();
    world.write("eic-ca.toml", &alone);
    let world = world.restarted().await;
    let client = Client::new(3);
    let grant = client.sign_in(&world, ALICE).await.grant;
    let request = client.certificate_request("ubuntu", WEB, &json!({}));
    let refused = client
        .certificate(&world, &grant, &request)
        .await
        .unwrap_err();
    assert_eq!(refused.code, ProblemCode::KeyNotPropagated);
}

/// The list without what changes from run to run: keys by these names, moments as `…`.
fn masked(list: &str, names: &[(&str, String)]) -> String {
    let named = names.iter().fold(list.to_owned(), |text, (name, print)| {
        text.replace(print, name)
    });
    let untimed = |line: &str| match line.find("before 2") {
        Some(at) => format!("{}before …\n", &line[..at]),
        None => format!("{line}\n"),
    };
    named.lines().map(untimed).collect()
}

#[tokio::test]
async fn every_key_of_the_root_is_listed_with_what_it_does() {
    let (world, spare) = with_spare(86_400).await;
    issued(&world, &Client::new(1)).await;
    done(&world, &["keys", "announce"]).await;
    let root = || keys::root::read(&world.path("keys/root.json")).unwrap().1;
    let first = root();
    for key in ["host-ca", "bundle"] {
        keys::new_key_file(&world.path(&format!("keys/{key}-2")), KeyType::Ed25519).unwrap();
    }
    let config = std::fs::read_to_string(world.path("eic-ca.toml")).unwrap();
    let other = config
        .replace("keys/host-ca\"", "keys/host-ca-2\"")
        .replace("keys/bundle\"", "keys/bundle-2\"");
    world.write("eic-ca.toml", &other);
    let print = |key: &str| {
        let public = std::fs::read_to_string(world.path(&format!("keys/{key}.pub"))).unwrap();
        let public: eic_protocol::subject_key::SubjectKey = public.trim().parse().unwrap();
        public.fingerprint()
    };
    let names = [
        ("USER", first.user_cas[0].key.fingerprint()),
        ("SPARE", spare),
        ("HOST", first.host_cas[0].fingerprint()),
        ("HOST-2", print("host-ca-2")),
        ("BUNDLE", first.bundle_keys[0].fingerprint()),
        ("BUNDLE-2", print("bundle-2")),
        ("ROOT", first.root_keys[0].fingerprint()),
    ];
    let list = async || {
        world.until(|world| world.rows("roots_served") >= 2).await;
        masked(&done(&world, &["keys", "list"]).await, &names)
    };
    let before = list().await;
    let unnamed = "HOST-2  host CA   unannounced  the root document does not name it; run `eic-ca root update`\n";
    assert!(before.contains(unnamed), "{before}");
    done(&world, &["root", "update"]).await;
    let expected = "\
USER  user CA   active       signs
SPARE  user CA   announced    hosts may not know it before …
HOST-2  host CA   active       signs host certificates
HOST  host CA   trusted      is not configured here; trusted until the next change of keys
BUNDLE-2  bundle    active       signs bundles and host views
BUNDLE  bundle    trusted      is not configured here; trusted until the next change of keys
ROOT  root      active       1 of 1 sign the next root
";
    let after = list().await;
    let exchanges = after.strip_prefix(expected);
    let exchanges = exchanges.unwrap_or_else(|| panic!("{after}"));
    for command in [
        "`eic-ca keys announce`",
        "`eic-ca root update`",
        "`eic-ca root init --root-key`",
    ] {
        assert!(exchanges.contains(command), "{exchanges}");
    }
}

#[tokio::test]
async fn a_key_that_is_no_user_ca_is_not_retired_and_it_is_said_what_to_do_instead() {
    let world = World::new().await;
    let (_, root) = keys::root::read(&world.path("keys/root.json")).unwrap();
    for (key, told, instead) in [
        (
            root.host_cas[0].fingerprint(),
            "a host CA's key",
            "eic-ca root update",
        ),
        (
            root.bundle_keys[0].fingerprint(),
            "a bundle key",
            "eic-ca root update",
        ),
        (
            root.root_keys[0].fingerprint(),
            "a root key",
            "eic-ca root init",
        ),
    ] {
        for verb in ["retire", "activate"] {
            let refusal = refused(&world, &["keys", verb, &key, "--reason", "stolen"]).await;
            assert!(
                refusal.contains(told)
                    && refusal.contains(instead)
                    && refusal.contains("docs/rotation.md"),
                "{refusal}"
            );
        }
    }
    let stranger = format!("SHA256:{}", "A".repeat(43));
    let refusal = refused(&world, &["keys", "retire", &stranger, "--reason", "x"]).await;
    assert!(refusal.contains("the root does not name it"), "{refusal}");
}

/// The private half of [`Client::new`] as a CA's key file (RFC 8410 §7).
fn write_key(world: &World, name: &str, seed: u8) {
    let head = hex::decode("302e020100300506032b657004220420").unwrap();
    let der = STANDARD.encode([&head[..], &[seed; 32]].concat());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n");
    world.write(name, &pem);
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(world.path(name), private).unwrap();
}

#[tokio::test]
async fn a_key_that_a_root_names_meanwhile_is_not_certified() {
    // D-14
    let (world, _) = with_spare(0).await;
    let client = Client::new(33);
    client.sign_in(&world, ALICE).await;
    write_key(&world, "keys/user-ca-2", 33);
    done(&world, &["keys", "announce"]).await;
    world.until(|world| world.rows("roots_served") == 2).await;
    let refused = client.try_to_sign_in(&world, ALICE).await.unwrap_err();
    assert_eq!(refused.code, ProblemCode::KeyNotAccepted);
}

#[tokio::test]
async fn a_key_that_only_an_older_root_names_is_not_certified() {
    // D-14
    let world = World::new().await.stopped().await;
    write_key(&world, "keys/host-ca-2", 33);
    for number in [3, 4] {
        let name = format!("keys/host-ca-{number}");
        keys::new_key_file(&world.path(&name), KeyType::Ed25519).unwrap();
    }
    let config = std::fs::read_to_string(world.path("eic-ca.toml")).unwrap();
    for number in 2..=4 {
        let name = format!("keys/host-ca-{number}\"");
        world.write("eic-ca.toml", &config.replace("keys/host-ca\"", &name));
        done(&world, &["root", "update"]).await;
    }
    let client = Client::new(33);
    let (_, root) = keys::root::read(&world.path("keys/root.json")).unwrap();
    assert!(!keys::named_keys(&root).any(|key| *key == client.public));
    let world = world.started().await;
    let refused = client.try_to_sign_in(&world, ALICE).await.unwrap_err();
    assert_eq!(refused.code, ProblemCode::KeyNotAccepted);
}

#[tokio::test]
async fn a_root_to_which_nothing_leads_is_not_served() {
    // Copied to the service without the roots before it: hosts would stop at the gap.
    let world = World::new().await.stopped().await;
    let file = world.path("keys/root.json");
    let old = std::fs::read(&file).unwrap();
    let (_, document) = keys::root::read(&file).unwrap();
    let kept = keys::root_history::kept_file(&file, document.version);
    let config = std::fs::read_to_string(world.path("eic-ca.toml")).unwrap();
    keys::new_key_file(&world.path("keys/host-ca-2"), KeyType::Ed25519).unwrap();
    let other = config.replace("keys/host-ca\"", "keys/host-ca-2\"");
    world.write("eic-ca.toml", &other);
    done(&world, &["root", "update"]).await;
    let new = std::fs::read(&file).unwrap();
    world.write("eic-ca.toml", &config);
    std::fs::remove_file(&kept).unwrap();
    std::fs::write(&file, &old).unwrap();
    let world = world.started().await;
    let served = async || {
        let response = documents(&fetch(&world, "", None).await);
        bundle(&response).root_version
    };
    std::fs::write(&file, &new).unwrap();
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(served().await, document.version);
    std::fs::write(kept, &old).unwrap();
    std::fs::write(&file, &new).unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    while served().await == document.version {
        assert!(Instant::now() < end, "the new root is not served");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Several people sign over days; nobody can fetch it before it is in place.
#[tokio::test]
async fn a_root_that_is_put_in_place_late_is_new_to_hosts_then() {
    // F-16
    let (world, spare) = with_spare(86_400).await;
    issued(&world, &Client::new(1)).await;
    done(&world, &["keys", "announce", "--draft", "next.json"]).await;
    let draft = std::fs::read(world.path("next.json")).unwrap();
    let mut draft: Envelope = serde_json::from_slice(&draft).unwrap();
    let mut root: Root = serde_json::from_slice(draft.signed.as_slice()).unwrap();
    root.issued -= 5 * 86_400;
    draft.signed = Base64Bytes(serde_json::to_vec(&root).unwrap());
    world.write("next.json", &serde_json::to_string(&draft).unwrap());
    done(&world, &["root", "sign", "--key", "keys/root", "next.json"]).await;
    done(&world, &["root", "install", "next.json"]).await;
    assert!(world.audit().contains("\"eventName\":\"InstallRoot\""));
    let activate = ["keys", "activate", &spare, "--reason", "x"];
    world.until(|world| world.rows("roots_served") == 2).await;
    let told = refused(&world, &activate).await;
    assert!(told.contains("may not know it before"), "{told}");
}

#[tokio::test]
async fn user_cas_are_exchanged_under_a_running_service() {
    let (world, spare) = with_spare(0).await;
    done(&world, &["keys", "announce"]).await;
    // Not behind the root's own time.
    world.clock.set(real_now());
    let world = world.restarted().await;
    let client = Client::new(1);
    let before = issued(&world, &client).await;
    let first = ca_of(&before);
    let retire = ["keys", "retire", &first, "--reason", "yearly"];
    assert!(
        refused(&world, &retire)
            .await
            .contains("activate another one first")
    );
    done(&world, &["keys", "activate", &spare, "--reason", "yearly"]).await;
    let end = Instant::now() + Duration::from_secs(10);
    while ca_of(&issued(&world, &client).await) != spare {
        assert!(Instant::now() < end, "the old key still signs");
    }
    // Its certificates are out.
    let told = refused(&world, &retire).await;
    assert!(
        told.contains("are good until") && told.contains("Z (in ") && told.contains("; wait"),
        "{told}"
    );
    let compromised = ["keys", "retire", &first, "--reason", "stolen", "--now"];
    done(&world, &compromised).await;
    until(&world, |krl| krl.is_revoked(&parsed(&before))).await;
    let list = done(&world, &["keys", "list"]).await;
    assert!(list.contains("retired"), "{list}");
    let world = world.restarted().await;
    let after = issued(&world, &client).await;
    assert_eq!(ca_of(&after), spare);
    assert!(
        !current(&world)
            .await
            .revocations
            .read()
            .unwrap()
            .is_revoked(&parsed(&after))
    );
}
