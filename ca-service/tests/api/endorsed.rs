//! Keys in memory: when they sign in place of the user CA's key, what they never sign, how they end.

use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use eic_protocol::api::certificate::UserCertificateResponse;
use eic_protocol::api::problem::{Problem, ProblemCode};
use eic_protocol::trust::bundle::Bundle;
use eic_protocol::trust::root::Root;
use p256::ecdsa::signature::Signer as _;
use p256::pkcs8::EncodePublicKey as _;
use serde_json::{Value, json};

use crate::client::Client;
use crate::http_stub::{HttpStub, Received, response};
use crate::sts::ALICE;
use crate::trust_bundle::{bundle, documents, fetch};
use crate::trust_commands::{
    ca_of, current, done, issued, parsed, run, spare_in, until, with_spare,
};
use crate::world::{NOW, PROD, WEB, World};

const PROPAGATION: u64 = 600;
const SIGN: u64 = 3_600;
const OVERLAP: u64 = 43_200;
const ARN: &str = "arn:aws:kms:eu-west-1:111122223333:key/11111111-2222-3333-4444-555555555555";

/// `root` and a fleet that only the user CA's own key opens.
const POLICY: &str = r#"{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "Dev", "Effect": "Allow",
      "Principal": { "AWS": "arn:aws:iam::111122223333:role/Dev" },
      "Action": "ec2-instance-connect:SendSSHPublicKey",
      "Resource": "arn:aws:ec2:*:111122223333:instance/*",
      "Condition": { "StringEquals": { "ec2:osuser": ["ubuntu", "root"] } }
    },
    {
      "Sid": "Fleets", "Effect": "Allow",
      "Principal": { "AWS": "arn:aws:iam::111122223333:role/Dev" },
      "Action": "eic:IssueFleetCertificate", "Resource": "*",
      "Condition": { "StringEquals": { "ec2:osuser": "deploy" } }
    }
  ]
}"#;

fn endorsed(config: &str, propagation: u64) -> String {
    let keys = format!(
        "[keys]\nendorsed = {{ sign_seconds = {SIGN}, overlap_seconds = {OVERLAP}, propagation_seconds = {propagation} }}\n"
    );
    let accounts = "accounts = [\"111122223333\"]";
    let vault = format!(
        "\n[fleets.vault]\n{accounts}\ntags = {{ env = \"prod\" }}\nkms_only = true\n\
         \n[fleets.mixed]\n{accounts}\nids = [\"{WEB}\", \"{PROD}\"]\n\n[fleets.web]\n"
    );
    let config = config.replacen("[keys]\n", &keys, 1);
    config.replacen("\n[fleets.web]\n", &vault, 1)
}

async fn world() -> World {
    let world = World::with(|config| endorsed(&config, PROPAGATION)).await;
    world.write("policy.json", POLICY);
    world.restarted().await
}

/// What somebody gets for this scope.
pub(crate) async fn asked(
    world: &World,
    scope: &Value,
) -> Result<UserCertificateResponse, Problem> {
    let client = Client::new(1);
    let grant = client.sign_in(world, ALICE).await.grant;
    let request = client.scoped_request(scope, &json!({}));
    client.certificate(world, &grant, &request).await
}

pub(crate) fn target(user: &str) -> Value {
    json!({ "target": { "user": user, "instance": WEB } })
}

pub(crate) async fn signer(world: &World) -> String {
    ca_of(&asked(world, &target("ubuntu")).await.unwrap())
}

/// The first bundle with so many endorsements; within two seconds in practice.
async fn with_endorsements(world: &World, count: usize) -> Bundle {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let bundle = current(world).await;
        if bundle.endorsements.len() == count {
            return bundle;
        }
        assert!(Instant::now() < end, "{:?}", bundle.endorsements.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until another key than this one signs; returns it.
async fn another_signer(world: &World, than: &str) -> String {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let signer = signer(world).await;
        if signer != than {
            return signer;
        }
        assert!(Instant::now() < end, "{than} still signs");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Since the service looks once a second: what has not happened after two looks does not happen.
async fn two_looks() {
    tokio::time::sleep(Duration::from_millis(2_100)).await;
}

async fn root(world: &World) -> Root {
    let response = documents(&fetch(world, "", None).await);
    Root::history(&response.roots, &pins(&response.roots)).unwrap()
}

fn pins(roots: &[eic_protocol::trust::envelope::Envelope]) -> std::collections::BTreeSet<String> {
    let first: Root = serde_json::from_slice(roots[0].signed.as_slice()).unwrap();
    first
        .root_keys
        .iter()
        .map(|key| key.fingerprint())
        .collect()
}

async fn endorsed_keys(world: &World) -> Vec<String> {
    let endorsed = current(world).await.endorsed(&root(world).await);
    assert_eq!(endorsed.refused, Vec::<String>::new());
    let keys = endorsed.cas.iter().map(|ca| ca.key.fingerprint());
    keys.collect()
}

#[tokio::test]
async fn a_key_in_memory_signs_only_when_hosts_can_know_it_and_never_what_is_reserved() {
    // F-16, J-17
    let world = world().await;
    let own = signer(&world).await;
    with_endorsements(&world, 2).await;
    world.clock.set(NOW + PROPAGATION - 1);
    two_looks().await;
    assert_eq!(signer(&world).await, own);
    world.clock.set(NOW + PROPAGATION);
    let fresh = another_signer(&world, &own).await;
    assert!(endorsed_keys(&world).await.contains(&fresh));
    let fleet = |name: &str| json!({ "fleet": { "user": "deploy", "fleet": name } });
    let guarded = json!({ "target": { "user": "ubuntu", "instance": PROD } });
    // A host of the guarded fleet by its own name and by another fleet as well: it would not let the key in.
    for reserved in [target("root"), fleet("vault"), guarded, fleet("mixed")] {
        let signer = ca_of(&asked(&world, &reserved).await.unwrap());
        assert_eq!(signer, own, "{reserved}");
    }
    assert_eq!(ca_of(&asked(&world, &fleet("web")).await.unwrap()), fresh);
    assert!(world.audit().contains("\"eventName\":\"EndorseKey\""));
}

#[tokio::test]
async fn a_key_that_is_not_where_hosts_fetch_it_does_not_sign() {
    // F-16
    let publish = "\n[publish]\nto = \"www\"\nevery_seconds = 1\n";
    let change = |config: String| endorsed(&config, PROPAGATION) + publish;
    // No folder can be there.
    let world = World::with_files(change, &[("www", "")]).await;
    let own = signer(&world).await;
    with_endorsements(&world, 2).await;
    world.clock.set(NOW + PROPAGATION);
    two_looks().await;
    assert_eq!(signer(&world).await, own);
    std::fs::remove_file(world.path("www")).unwrap();
    let there = |world: &World| world.path("www/trust-bundle.json").exists();
    world.until(there).await;
    // Its wait begins now.
    two_looks().await;
    assert_eq!(signer(&world).await, own);
    world.clock.set(NOW + 2 * PROPAGATION);
    another_signer(&world, &own).await;
}

#[tokio::test]
async fn a_key_of_a_root_that_was_never_published_is_not_activated() {
    // F-16
    let publish = "\n[publish]\nto = \"www\"\nevery_seconds = 1\n";
    let world = World::with_files(|config| config + publish, &[("www", "")]).await;
    // The commands have no other clock.
    world.clock.set(crate::program::real_now());
    issued(&world, &Client::new(1)).await;
    let (world, spare) = spare_in(world, 0);
    done(&world, &["keys", "announce"]).await;
    let world = world.restarted().await;
    two_looks().await;
    let activate = ["keys", "activate", &spare, "--reason", "x"];
    let told = crate::trust_commands::refused(&world, &activate).await;
    assert!(told.contains("`[publish]` not yet published"), "{told}");
    // Nor does a store that is older than these notes count as one whose hosts are up to date.
    assert_eq!(world.rows("roots_served"), 1);
    std::fs::remove_file(world.path("www")).unwrap();
    world.until(|world| world.rows("roots_served") == 2).await;
    done(&world, &activate).await;
}

#[tokio::test]
async fn who_makes_a_view_that_the_inventory_contradicts_is_warned() {
    let world = World::with(|config| endorsed(&config, PROPAGATION)).await;
    let told = async |host: &str| {
        let state = ["host-state", "--instance", host, "--fleet", "vault"];
        let output = run(&world, &[&state[..], &["--out", "host"]].concat()).await;
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let strange = told(WEB).await;
    assert!(
        strange.contains("fleet `vault` is marked `kms_only`"),
        "{strange}"
    );
    assert!(!told(PROD).await.contains("warning"));
}

#[tokio::test]
async fn after_a_restart_the_user_ca_signs_until_a_fresh_key_can_be_known() {
    let world = world().await;
    let own = signer(&world).await;
    with_endorsements(&world, 2).await;
    world.clock.set(NOW + PROPAGATION);
    let first = another_signer(&world, &own).await;
    let world = world.restarted().await;
    // No gap: at once, by the key that every host knows.
    assert_eq!(signer(&world).await, own);
    // The key that signed counts on, so that its certificates do; the one that never did is gone.
    with_endorsements(&world, 3).await;
    assert!(endorsed_keys(&world).await.contains(&first));
    world.clock.set(NOW + 2 * PROPAGATION);
    let second = another_signer(&world, &own).await;
    assert_ne!(second, first);
    // When its hours are over it leaves the bundle.
    world.clock.set(NOW + PROPAGATION + SIGN + OVERLAP);
    let end = Instant::now() + Duration::from_secs(20);
    while endorsed_keys(&world).await.contains(&first) {
        assert!(Instant::now() < end, "it is still endorsed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_published_bundle_names_the_keys_of_the_running_service() {
    let world = World::with(|config| endorsed(&config, PROPAGATION)).await;
    world.clock.set(crate::program::real_now());
    let served = with_endorsements(&world, 2).await;
    done(&world, &["bundle", "publish", "--to", "out"]).await;
    let text = std::fs::read_to_string(world.path("out/trust-bundle.json")).unwrap();
    let published = bundle(&serde_json::from_str(&text).unwrap());
    assert_eq!(published.endorsements, served.endorsements);
    let list = done(&world, &["keys", "list"]).await;
    assert_eq!(list.matches("  endorsed  ").count(), 2, "{list}");
    assert!(list.contains("signs from"), "{list}");
}

/// Who signed before, the key in memory that signs now, and a certificate of it.
async fn by_a_key_in_memory(
    world: &World,
    client: &Client,
) -> (String, String, UserCertificateResponse) {
    let first = ca_of(&issued(world, client).await);
    let key = another_signer(world, &first).await;
    let certificate = issued(world, client).await;
    assert_eq!(ca_of(&certificate), key);
    (first, key, certificate)
}

#[tokio::test]
async fn who_retires_a_compromised_user_ca_ends_the_keys_that_it_endorsed() {
    let (world, spare) = with_spare(0).await;
    let config = std::fs::read_to_string(world.path("eic-ca.toml")).unwrap();
    world.write("eic-ca.toml", &endorsed(&config, 0));
    done(&world, &["keys", "announce"]).await;
    world.clock.set(crate::program::real_now());
    let world = world.restarted().await;
    let client = Client::new(1);
    let (first, key, certificate) = by_a_key_in_memory(&world, &client).await;
    done(&world, &["keys", "activate", &spare, "--reason", "drill"]).await;
    let end = Instant::now() + Duration::from_secs(10);
    while [&first, &key].contains(&&ca_of(&issued(&world, &client).await)) {
        assert!(Instant::now() < end, "the old key still signs");
    }
    // Certificates of its keys are out as well.
    let retire = ["keys", "retire", &first, "--reason", "drill"];
    let refused = crate::trust_commands::refused(&world, &retire).await;
    assert!(refused.contains("are good until"), "{refused}");
    done(&world, &[&retire[..], &["--now"]].concat()).await;
    until(&world, |krl| krl.is_revoked(&parsed(&certificate))).await;
    let end = Instant::now() + Duration::from_secs(10);
    while endorsed_keys(&world).await.contains(&key) {
        assert!(Instant::now() < end, "it is still endorsed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let later = another_signer(&world, &spare).await;
    assert_ne!(later, key);
    let krl = current(&world).await.revocations.read().unwrap();
    assert!(!krl.is_revoked(&parsed(&issued(&world, &client).await)));
}

#[tokio::test]
async fn a_key_in_memory_is_revoked_by_its_fingerprint() {
    let world = World::with(|config| endorsed(&config, 0)).await;
    world.clock.set(crate::program::real_now());
    let world = world.restarted().await;
    let (_, key, certificate) = by_a_key_in_memory(&world, &Client::new(1)).await;
    done(&world, &["revoke", "ca-key", &key, "--reason", "drill"]).await;
    until(&world, |krl| krl.is_revoked(&parsed(&certificate))).await;
}

/// A key of the stand-in for KMS.
pub(crate) struct Kms(p256::ecdsa::SigningKey);

impl Kms {
    pub(crate) fn answer(&self, request: &Received) -> Vec<u8> {
        let body: Value = serde_json::from_str(&request.body).unwrap();
        let answer = match request.header("x-amz-target").as_deref() {
            Some("TrentService.Sign") => {
                let message = STANDARD.decode(body["Message"].as_str().unwrap()).unwrap();
                let signature: p256::ecdsa::Signature = self.0.sign(&message);
                json!({ "KeyId": ARN, "SigningAlgorithm": "ECDSA_SHA_256",
                        "Signature": STANDARD.encode(signature.to_der().as_bytes()) })
            }
            _ => {
                let spki = self.0.verifying_key().to_public_key_der().unwrap();
                json!({ "KeyId": ARN, "KeyUsage": "SIGN_VERIFY", "KeySpec": "ECC_NIST_P256",
                        "SigningAlgorithms": ["ECDSA_SHA_256"], "PublicKey": STANDARD.encode(spki.as_bytes()) })
            }
        };
        response(200, NOW, &answer.to_string())
    }

    pub(crate) async fn start() -> HttpStub {
        let kms = Self::working();
        HttpStub::start(move |request| kms.answer(request)).await
    }

    pub(crate) fn working() -> Self {
        Self(p256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap())
    }
}

/// The SDK takes its credentials from the environment, which a test with others beside it cannot set: it runs
/// once more, alone. Whether this is that run.
pub(crate) fn runs_with_credentials(test: &str) -> bool {
    if std::env::var_os("AWS_ACCESS_KEY_ID").is_some() {
        return true;
    }
    let alone = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("AWS_ACCESS_KEY_ID", "AKIAABCDEFGHIJKLMNOP")
        .env("AWS_SECRET_ACCESS_KEY", "not-a-secret")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&alone.stdout);
    assert!(alone.status.success(), "{told}");
    assert!(told.contains("1 passed"), "{told}");
    false
}

/// A CA whose user-CA key is in KMS.
pub(crate) async fn world_of(kms: &HttpStub) -> World {
    let world = World::with(|config| endorsed(&config, PROPAGATION)).await;
    world.write("policy.json", POLICY);
    with_key_in_kms(world, kms, "user_ca", "keys/user-ca").await
}

/// The world with this key of its configuration in KMS instead of the file.
pub(crate) async fn with_key_in_kms(world: World, kms: &HttpStub, name: &str, file: &str) -> World {
    let config = std::fs::read_to_string(world.path("eic-ca.toml")).unwrap();
    let local = format!("{name} = {{ signer = \"local\", file = \"{file}\" }}");
    let key = format!(
        "{name} = {{ signer = \"kms\", arn = \"{ARN}\", region = \"eu-west-1\", endpoint = \"{}\" }}",
        kms.origin()
    );
    assert!(config.contains(&local));
    world.write("eic-ca.toml", &config.replace(&local, &key));
    let world = world.stopped().await;
    done(&world, &["root", "update"]).await;
    world.started().await
}

#[tokio::test]
async fn an_outage_of_kms_is_not_noticed_until_the_overlap_ends() {
    if !runs_with_credentials("endorsed::an_outage_of_kms_is_not_noticed_until_the_overlap_ends") {
        return;
    }
    let kms = Kms::start().await;
    let world = world_of(&kms).await;
    let own = signer(&world).await;
    with_endorsements(&world, 2).await;
    world.clock.set(NOW + PROPAGATION);
    let first = another_signer(&world, &own).await;
    kms.answer_with(|_| response(500, NOW, r#"{"__type":"KMSInternalException"}"#));
    for minute in 1..=30 {
        world.clock.set(NOW + PROPAGATION + 60 * minute);
        assert_eq!(signer(&world).await, first);
    }
    let refused = asked(&world, &target("root")).await.unwrap_err();
    assert_eq!(refused.code, ProblemCode::SignerUnavailable);
    // The next key was endorsed before; a third one cannot be.
    world.clock.set(NOW + PROPAGATION + SIGN);
    let second = another_signer(&world, &first).await;
    let last = NOW + PROPAGATION + 2 * SIGN + OVERLAP;
    world.clock.set(last - 200);
    two_looks().await;
    let cut = asked(&world, &target("ubuntu")).await.unwrap();
    assert_eq!((ca_of(&cut), cut.validity.before()), (second, last));
    world.clock.set(last - 120);
    two_looks().await;
    let refused = asked(&world, &target("ubuntu")).await.unwrap_err();
    assert_eq!(refused.code, ProblemCode::SignerUnavailable);
    // KMS is back: at once by itself, and a fresh key in its time.
    let back = Kms::working();
    kms.answer_with(move |request| back.answer(request));
    assert_eq!(signer(&world).await, own);
    world.clock.set(last);
    with_endorsements(&world, 2).await;
    world.clock.set(last + PROPAGATION);
    another_signer(&world, &own).await;
}
