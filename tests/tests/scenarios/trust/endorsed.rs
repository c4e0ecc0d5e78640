//! Keys in memory that the user CA endorses: hosts let them open people's accounts and nothing more, and certificates
//! go on while KMS does not answer and through a restart of the CA.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use eic_lab::aws::ACCOUNT;
use eic_lab::host::AgentService;
use eic_lab::load::ca::{public, sign_as};
use eic_lab::{Ca, Client, Host, Lab};
use eic_protocol::api::trust_bundle::TrustBundleResponse;
use eic_protocol::base64_text::Base64Bytes;
use eic_protocol::sshsig::Namespace;
use eic_protocol::subject_key::CaKey;
use eic_protocol::trust::bundle::Bundle;
use eic_protocol::trust::endorsement::{EndorsedKey, Endorsement};
use eic_protocol::trust::envelope::{Envelope, EnvelopeSignature};
use ssh_key::PrivateKey;

use super::company::{
    self, Held, PATIENCE, TRUST_ONLY, key_file, make_key, restart, ssh, ssh_anew, wait,
};
use super::traffic::{Traffic, Worker};
use super::web_folder::{Answer, WebFolder};

/// Of certificates that are signed by hand.
static SERIAL: AtomicU64 = AtomicU64::new(1);

/// A document signed by a key file of the CA's.
fn sealed(ca: &Ca, key: &str, namespace: Namespace, document: &impl serde::Serialize) -> Envelope {
    let key = PrivateKey::read_openssh_file(key_file(ca, key)).unwrap();
    let signed = serde_json::to_vec(document).unwrap();
    let public = public(&key).unwrap();
    let signature = sign_as(namespace, &key, &public, &signed).unwrap();
    Envelope {
        signed: Base64Bytes(signed),
        signatures: vec![EnvelopeSignature {
            key: public,
            signature: Base64Bytes(signature),
        }],
    }
}

fn ca_key(ca: &Ca, name: &str) -> CaKey {
    let line = std::fs::read_to_string(key_file(ca, name).with_added_extension("pub")).unwrap();
    CaKey::new(line.trim().parse().unwrap()).unwrap()
}

/// A published folder whose bundle endorses the key `memory` for these hours, in Unix seconds. The CA keeps such keys to
/// itself; here the test has one, as whoever could read its memory would.
fn published_with_endorsement(lab: &Lab, ca: &Ca, from: u64, until: u64) -> PathBuf {
    let folder = lab.folder().join("published");
    std::fs::create_dir_all(&folder).unwrap();
    let to = folder.display().to_string();
    ca.run(&["bundle", "publish", "--to", &to]).unwrap();
    let file = folder.join("trust-bundle.json");
    let mut response = TrustBundleResponse::parse(&std::fs::read(&file).unwrap()).unwrap();
    let mut bundle = Bundle::parse(response.bundle.signed.as_slice()).unwrap();
    let endorsement = Endorsement {
        endorser: ca_key(ca, "user-ca"),
        issued: bundle.issued,
        keys: vec![EndorsedKey {
            key: ca_key(ca, "memory"),
            not_before: from,
            not_after: until,
            users: None,
        }],
    };
    bundle.sequence += 1;
    bundle.endorsements = vec![sealed(ca, "user-ca", Namespace::Endorsement, &endorsement)];
    response.bundle = sealed(ca, "bundle", Namespace::Bundle, &bundle);
    std::fs::write(file, serde_json::to_vec(&response).unwrap()).unwrap();
    folder
}

/// A fleet of this account, which one host is told to belong to.
fn fleet(kms_only: bool) -> toml::Value {
    let mut fleet = toml::toml! {
        accounts = ["123456789012"]
        tags = { team = "web" }
    };
    fleet.insert("kms_only".into(), kms_only.into());
    fleet.insert("join_delay_seconds".into(), 0.into());
    fleet.into()
}

#[test]
fn an_endorsed_key_is_refused_by_the_host_itself_for_root_and_for_guarded_fleets() {
    // J-17
    let lab = Lab::new().unwrap();
    let ca = company::ca(&lab)
        .set("fleets.web", fleet(false))
        .set("fleets.vault", fleet(true))
        .start()
        .unwrap();
    make_key(&ca, "memory");
    let now = lab.clock().now();
    let published = published_with_endorsement(&lab, &ca, now - 60, now + 3_600);
    let alice = company::alice(&lab, &ca);

    let fleets = ["--fleet=web", "--fleet=vault"];
    let web = Guarded::start(&lab, &ca, "web-1", &fleets[..1], &published);
    let own = Held::issued(&alice, &web.host, "own");
    for (principal, user) in [
        (format!("root@{}", web.host.id()), "root"),
        ("root@fleet/web".to_owned(), "root"),
        (format!("ubuntu@{}", web.host.id()), "ubuntu"),
        ("ubuntu@fleet/web".to_owned(), "ubuntu"),
    ] {
        let people = user != "root";
        assert_eq!(
            web.opens(&own, "memory", &principal, user),
            people,
            "{principal}"
        );
        assert!(web.opens(&own, "user-ca", &principal, user), "{principal}");
    }
    // A host of the guarded fleet lets it in by no name, and the CA's own key by each.
    let vault = Guarded::start(&lab, &ca, "vault-1", &fleets, &published);
    let here = format!("ubuntu@{}", vault.host.id());
    for principal in [here.as_str(), "ubuntu@fleet/web", "ubuntu@fleet/vault"] {
        assert!(
            !vault.opens(&own, "memory", principal, "ubuntu"),
            "{principal}"
        );
        assert!(
            vault.opens(&own, "user-ca", principal, "ubuntu"),
            "{principal}"
        );
    }
}

/// A host that fetches a published folder.
struct Guarded<'a> {
    ca: &'a Ca,
    host: Host,
    _server: WebFolder,
    _service: AgentService,
}

impl<'a> Guarded<'a> {
    fn start(lab: &Lab, ca: &'a Ca, name: &str, fleets: &[&str], published: &Path) -> Self {
        let host = lab.host(name).tag("team", "web");
        let host = host.tag("eic:enrolled", "true").trusting(ca, fleets);
        let host = host.start().unwrap();
        let server = WebFolder::start(&host, Answer::Folder(published.to_owned()));
        let more = format!("{TRUST_ONLY}trust_from = \"{}\"\n", WebFolder::URL);
        let service = host.start_agent_service(ca, &more).unwrap();
        Self {
            ca,
            host,
            _server: server,
            _service: service,
        }
    }

    /// Whether a certificate that this key file of the CA's signed opens the account.
    fn opens(&self, own: &Held, key: &str, principal: &str, user: &str) -> bool {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let held = Held::forged_for(own, &key_file(self.ca, key), principal, serial);
        held.opens_as(user, &self.host)
    }
}

/// A CA whose key is in KMS, and whose keys in memory sign and overlap for so many seconds.
fn endorsing_ca(lab: &Lab, seconds: i64) -> (Ca, String) {
    let arn = lab.aws().unwrap().kms_key("ECC_NIST_P256").unwrap();
    let mut rules = toml::toml! { propagation_seconds = 3 };
    rules.insert("sign_seconds".into(), seconds.into());
    rules.insert("overlap_seconds".into(), seconds.into());
    let ca = company::ca(lab)
        .kms_user_ca(&arn)
        .unwrap()
        .set("keys.endorsed", rules)
        .set("certificates.default_ttl_seconds", 30)
        .set("certificates.max_ttl_seconds", 60)
        .set("certificates.fleet_default_ttl_seconds", 60)
        .set("certificates.fleet_max_ttl_seconds", 60)
        .start()
        .unwrap();
    (ca, arn)
}

/// Waits until a key in memory signs; a certificate by it, in a folder of this name and a number.
fn by_memory(alice: &Client, host: &Host, user_ca: &str, name: &str) -> Held {
    let (mut found, mut tried) = (None, 0);
    wait("a certificate by a key in memory", PATIENCE, || {
        tried += 1;
        let held = Held::issued(alice, host, &format!("{name}-{tried}"));
        found = Some(held.clone());
        held.signer != user_ca
    });
    found.unwrap()
}

#[test]
fn certificates_go_on_without_kms_and_a_restart_leaves_no_gap() {
    let lab = Lab::new().unwrap();
    let (mut ca, arn) = endorsing_ca(&lab, 3_600);
    let (web, _service) = company::host(&lab, &ca, "web-1", TRUST_ONLY);
    let [alice, job] = company::machines_of_alice(&lab, &ca, ["alice", "job"]);
    let list = ca.run(&["keys", "list"]).unwrap();
    let user_ca = list.split_whitespace().next().unwrap().to_owned();
    let first = by_memory(&alice, &web, &user_ca, "first");
    assert!(first.opens(&web));
    ssh(&alice, &web).unwrap();
    let traffic = Traffic::start([Worker::at(&job, &[&web]).anew()]);
    traffic.goes_on(1);

    restart(&mut ca);
    let after = Held::issued(&alice, &web, "after");
    assert_eq!(
        after.signer, user_ca,
        "the new key may not be known to hosts yet"
    );
    assert!(after.opens(&web));
    let second = by_memory(&alice, &web, &user_ca, "second");
    assert_ne!(
        second.signer, first.signer,
        "a key in memory outlived its process"
    );
    assert!(second.opens(&web));

    lab.aws()
        .unwrap()
        .account(ACCOUNT)
        .disable_kms_key(&arn)
        .unwrap();
    let without = Held::issued(&alice, &web, "without");
    assert_eq!(without.signer, second.signer);
    assert!(without.opens(&web));
    traffic.goes_on(2);
    let tally = traffic.end();
    assert!(tally.refused.is_empty(), "{tally:#?}");
}

#[test]
#[ignore = "minutes: keys in memory sign for two at least"]
fn certificates_stop_with_the_reason_when_the_keys_in_memory_have_ended() {
    let lab = Lab::new().unwrap();
    let (ca, arn) = endorsing_ca(&lab, 120);
    let (web, _service) = company::host(&lab, &ca, "web-1", TRUST_ONLY);
    let alice = company::alice(&lab, &ca);
    let list = ca.run(&["keys", "list"]).unwrap();
    let user_ca = list.split_whitespace().next().unwrap().to_owned();
    by_memory(&alice, &web, &user_ca, "first");
    lab.aws()
        .unwrap()
        .account(ACCOUNT)
        .disable_kms_key(&arn)
        .unwrap();
    let (began, mut last) = (Instant::now(), Instant::now());
    let end = 6 * PATIENCE;
    let mut said = String::new();
    wait("the end", end, || match ssh_anew(&alice, &web) {
        Ok(()) => {
            last = Instant::now();
            false
        }
        Err(why) => {
            said = why;
            true
        }
    });
    let lasted = last.duration_since(began);
    println!(
        "certificates went on for {:.0} s without KMS",
        lasted.as_secs_f64()
    );
    assert!(lasted.as_secs() >= 45, "{lasted:?}");
    assert!(said.contains("eic-login"), "{said}");
    assert!(
        ca.log().contains("no key in memory counts any more"),
        "{}",
        ca.log()
    );
}
