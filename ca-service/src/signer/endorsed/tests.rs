//! Tests of the parent module: what a key in memory does not sign, then what it does.

use eic_protocol::api::certificate::UserCertificateRequest;
use ssh_key::Certificate;

use super::*;
use crate::issuance::tests::{NOW, Rig, grant, local_signer, origin, request, subject, verified};
use crate::issuance::{Draw, Grant, PrepareError, prepare_user};
use crate::keys::{KeyType, RootKeys, root};
use crate::signer::SignError;

const HOURS: Hours = Hours {
    signs_from: NOW,
    next_from: NOW + 3_600,
    not_after: NOW + 7_200,
};

fn reserved() -> Arc<Reserved> {
    Arc::new(Reserved {
        settings: Settings {
            uid0_names: vec!["admin0".parse().unwrap()],
            ..Settings::default()
        },
        fleets: ["vault".parse().unwrap()].into(),
    })
}

fn root_of(ca: &UserCa) -> Root {
    let key = || CaKey::new(subject()).unwrap();
    let keys = RootKeys {
        user_ca: ca.public().clone(),
        spares: Vec::new(),
        host_ca: key(),
        bundle: subject(),
    };
    root::first(&keys, &subject(), NOW)
}

async fn endorsed(ca: &UserCa) -> EndorsedCa {
    let root = root_of(ca);
    ca.endorse(HOURS, &reserved(), &root, NOW).await.unwrap()
}

fn scoped(scope: CertificateScope) -> UserCertificateRequest {
    UserCertificateRequest { scope, ..request() }
}

fn target(user: &str) -> CertificateScope {
    CertificateScope::Target {
        user: user.parse().unwrap(),
        instance: "i-0123456789abcdef0".parse().unwrap(),
    }
}

fn fleet(user: &str, fleet: &str) -> CertificateScope {
    CertificateScope::Fleet {
        user: user.parse().unwrap(),
        fleet: fleet.parse().unwrap(),
    }
}

async fn signed(rig: &Rig, ca: &UserCa, scope: CertificateScope) -> Result<String, SignError> {
    let grant = Grant::for_test(verified(scoped(scope)));
    let prepared = prepare_user(grant, &Draw::fresh().unwrap(), ca.active(), NOW).unwrap();
    let recorded = rig.recorder.record(prepared, origin()).await.unwrap();
    let issued = ca.sign(recorded, &rig.clock).await?;
    Ok(issued.line().to_owned())
}

#[tokio::test]
async fn names_with_uid_0_and_reserved_fleets_are_not_signed_whoever_asks() {
    // J-17
    let rig = Rig::new();
    let endorsed = endorsed(&rig.ca).await;
    let scopes = [
        target("root"),
        target("toor"),
        target("admin0"),
        fleet("root", "web"),
        fleet("deploy", "vault"),
    ];
    for scope in scopes {
        assert!(!endorsed.may_open(&scope), "{scope:?}");
        // Even where the choice before went wrong.
        let refused = signed(&rig, endorsed.ca(), scope.clone()).await;
        assert!(matches!(refused, Err(SignError::Reserved)), "{scope:?}");
        signed(&rig, &rig.ca, scope).await.unwrap();
    }
    assert!(reserved().covers_principal(&"ubuntu".parse().unwrap()));
    for scope in [target("ubuntu"), fleet("deploy", "web")] {
        assert!(endorsed.may_open(&scope));
        signed(&rig, endorsed.ca(), scope).await.unwrap();
    }
}

#[tokio::test]
async fn what_hosts_would_refuse_is_not_endorsed() {
    let rig = Rig::new();
    let root = root_of(&rig.ca);
    let long = Hours {
        not_after: NOW + 48 * 3_600 + 1,
        ..HOURS
    };
    let refused = rig.ca.endorse(long, &reserved(), &root, NOW).await;
    assert!(matches!(refused, Err(EndorseError::Untrusted(_))));
    let stranger = UserCa::new(Signer::Local(local_signer(KeyType::Ed25519)), None);
    let refused = stranger.endorse(HOURS, &reserved(), &root, NOW).await;
    assert!(matches!(refused, Err(EndorseError::Untrusted(_))));
    let endorsed = endorsed(&rig.ca).await;
    let refused = endorsed.ca().endorse(HOURS, &reserved(), &root, NOW).await;
    assert!(matches!(refused, Err(EndorseError::Chained)));
}

#[tokio::test]
async fn no_certificate_outlives_the_hours_of_its_key() {
    // D-08
    let rig = Rig::new();
    let endorsed = endorsed(&rig.ca).await;
    let ca = endorsed.ca().active();
    let draw = Draw::fresh().unwrap();
    let late = HOURS.not_after - 100;
    let prepared = prepare_user(grant(), &draw, ca, late).unwrap();
    assert_eq!(prepared.meaning().journal().valid_before, HOURS.not_after);
    let too_late = prepare_user(grant(), &draw, ca, HOURS.not_after - 60);
    assert!(matches!(too_late, Err(PrepareError::CaRetires)));
}

#[tokio::test]
async fn a_key_of_any_type_endorses_keys_that_hosts_hold_to_their_scope() {
    for (name, kind) in KeyType::ALL {
        let ca = UserCa::new(Signer::Local(local_signer(kind)), None);
        let endorsed = endorsed(&ca).await;
        let taken = Endorsement::verified(endorsed.envelope(), &root_of(&ca)).unwrap();
        assert_eq!(taken.len(), 1, "{name}");
        assert_eq!(&taken[0].key, endorsed.ca().public());
        let scope = &taken[0].scope;
        assert!(scope.endorsed);
        assert_eq!(scope.not_before, Some(NOW - 60));
        assert_eq!(scope.not_after, Some(HOURS.not_after));
    }
}

#[tokio::test]
async fn an_issuer_signs_through_a_key_of_its_own_endorser_only() {
    let rig = Rig::new();
    let issuer = rig.issuer();
    let ca_for = |user: &str| issuer.ca_for(&target(user), false).public().clone();
    let own = Arc::new(endorsed(&rig.ca).await);
    issuer.sign_through(Some(Arc::clone(&own)));
    assert_eq!(&ca_for("ubuntu"), own.ca().public());
    assert_eq!(&ca_for("root"), rig.ca.public());
    // J-17
    assert_eq!(
        issuer.ca_for(&target("ubuntu"), true).public(),
        rig.ca.public()
    );
    let issued = issuer.issue(grant(), origin()).await.unwrap();
    let certificate = Certificate::from_openssh(issued.line()).unwrap();
    let signer = own.ca().public().key().key_data();
    assert_eq!(certificate.signature_key(), signer);
    // Another user CA takes over: its keys in memory are yet to come.
    let other = UserCa::new(Signer::Local(local_signer(KeyType::Ed25519)), None);
    let other = Arc::new(other);
    issuer.sign_with(Arc::clone(&other));
    assert_eq!(&ca_for("ubuntu"), other.public());
    issuer.sign_through(Some(own));
    assert_eq!(&ca_for("ubuntu"), other.public());
}

#[test]
fn what_is_configured_is_reserved() {
    use crate::config::{Config, sample};
    let text = sample::CONFIG.to_owned()
        + "\n[fleets.vault]\naccounts = [\"111122223333\"]\ntags = { a = \"b\" }\nkms_only = true\n\
           [fleets.web]\naccounts = [\"111122223333\"]\ntags = { a = \"b\" }\n";
    let config = Config::parse(std::path::Path::new("eic-ca.toml"), &text).unwrap();
    let reserved = Reserved::of(&config, crate::app::policy_sources(&config).settings);
    assert!(reserved.covers_scope(&fleet("deploy", "vault")));
    assert!(!reserved.covers_scope(&fleet("deploy", "web")));
    assert!(reserved.covers_scope(&target("root")));
}
