//! The line from grant to certificate, and the rig that other modules' tests use.

use std::collections::BTreeSet;

use eic_protocol::api::certificate::{CertificateScope, UserCertificateRequest};
use eic_protocol::api::session::NameStanding;
use eic_protocol::cert::options::Extension;
use tempfile::TempDir;

use super::*;
use crate::caller::Proven;
use crate::keys::{KeyType, generate};
use crate::random;
use crate::signer::Signer;
use crate::signer::local::LocalSigner;
use crate::store::{ReplayClaim, Store, StoreConfig};

pub(crate) const NOW: u64 = 1_800_000_000;

pub(crate) fn local_signer(kind: KeyType) -> LocalSigner {
    LocalSigner::parse(&generate(kind, "test").unwrap()).unwrap()
}

pub(crate) fn subject() -> SubjectKey {
    local_signer(KeyType::Ed25519).public().key().clone()
}

pub(crate) fn caller() -> Caller {
    Caller::new(Proven {
        arn: "arn:aws:sts::111122223333:assumed-role/Dev/alice@corp"
            .parse()
            .unwrap(),
        user_id: "AROA0123456789ABCDEF:alice@corp".to_owned(),
        standing: NameStanding::Claimed,
        access_key_id: "ASIAABCDEFGHIJKLMNOP".parse().unwrap(),
        session_id: RequestId::from_random([9; 16]),
    })
}

pub(crate) fn request() -> UserCertificateRequest {
    UserCertificateRequest {
        protocol: 1,
        public_key: subject(),
        scope: CertificateScope::Target {
            user: "ubuntu".parse().unwrap(),
            instance: "i-0123456789abcdef0".parse().unwrap(),
        },
        ttl_seconds: None,
        force_command: None,
        source_addresses: None,
        extensions: None,
        reason: Some("on call".parse().unwrap()),
    }
}

pub(crate) fn claim() -> ReplayClaim {
    ReplayClaim::of_signed_time(random::bytes().unwrap(), NOW, 60)
}

pub(crate) fn verified(request: UserCertificateRequest) -> Verified {
    let tags = [("env".to_owned(), "dev".to_owned())].into();
    Verified {
        caller: caller().into(),
        request,
        request_id: random::request_id().unwrap(),
        replay: claim(),
        kms_only: false,
        tags,
    }
}

pub(crate) fn grant() -> Grant {
    Grant::for_test(verified(request()))
}

pub(crate) fn origin() -> Origin {
    Origin {
        source: Some("192.0.2.7".parse().unwrap()),
        user_agent: Some("eic-login/0.1".to_owned()),
    }
}

/// A store in its own folder, a clock that stands still, a user CA.
pub(crate) struct Rig {
    pub(crate) store: Store,
    pub(crate) recorder: Recorder,
    pub(crate) clock: Clock,
    pub(crate) ca: Arc<UserCa>,
    pub(crate) folder: TempDir,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(Signer::Local(local_signer(KeyType::Ed25519)))
    }

    pub(crate) fn with(signer: Signer) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::serve(&Self::config(&folder)).unwrap();
        Self::of(folder, store, signer)
    }

    pub(crate) fn of(folder: TempDir, store: Store, signer: Signer) -> Self {
        let clock = Clock::manual(NOW);
        let recorder = Recorder::new(&store, clock.clone());
        Self {
            store,
            recorder,
            clock,
            ca: Arc::new(UserCa::new(signer, None)),
            folder,
        }
    }

    pub(crate) fn config(folder: &TempDir) -> StoreConfig {
        StoreConfig::at(folder.path().join("eic-ca.db"))
    }

    pub(crate) fn issuer(&self) -> Issuer {
        let (recorder, ca) = (self.recorder.clone(), Arc::clone(&self.ca));
        Issuer::new(
            recorder,
            ca,
            SpecialKeys::default(),
            self.store.revocations(),
            self.clock.clone(),
        )
    }

    pub(crate) fn prepared(&self) -> Prepared<User> {
        prepare_user(grant(), &Draw::fresh().unwrap(), self.ca.active(), NOW).unwrap()
    }

    /// State and count of the journal's rows, by waiting for `wanted` (completions are written behind the answer).
    pub(crate) fn journal(&self, wanted: &[(&str, i64)]) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let wanted: Vec<(String, i64)> =
            wanted.iter().map(|(s, n)| ((*s).to_owned(), *n)).collect();
        loop {
            let found = self.states();
            if found == wanted {
                return;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "journal is {found:?}, not {wanted:?}"
            );
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Waits until no row is open.
    pub(crate) fn journal_without_open_rows(&self) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while self.states().iter().any(|(state, _)| state == "prepared") {
            assert!(
                std::time::Instant::now() < deadline,
                "journal is {:?}",
                self.states()
            );
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    fn states(&self) -> Vec<(String, i64)> {
        self.store
            .reader()
            .query(|connection| {
                let sql = "SELECT state, count(*) FROM journal GROUP BY state ORDER BY state";
                connection
                    .prepare(sql)?
                    .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect()
            })
            .unwrap()
    }

    pub(crate) fn audit(&self) -> Vec<serde_json::Value> {
        let entries =
            crate::audit::query(&self.store.reader(), &crate::audit::Filter::default()).unwrap();
        entries.iter().map(crate::audit::Entry::value).collect()
    }
}

#[tokio::test]
async fn a_replayed_request_gets_no_second_certificate() {
    let rig = Rig::new();
    let issuer = rig.issuer();
    let replayed = || {
        let mut verified = verified(request());
        verified.replay = ReplayClaim::of_signed_time([7; 32], NOW, 60);
        Grant::for_test(verified)
    };
    issuer.issue(replayed(), origin()).await.unwrap();
    assert!(matches!(
        issuer.issue(replayed(), origin()).await,
        Err(IssueError::Replayed)
    ));
    rig.journal(&[("issued", 1)]);
    assert_eq!(rig.audit().len(), 1);
}

#[tokio::test]
async fn a_caller_who_was_revoked_meanwhile_gets_no_certificate() {
    let rig = Rig::new();
    let issuer = rig.issuer();
    issuer.issue(grant(), origin()).await.unwrap();
    let who: crate::store::RevokedCaller = "arn:aws:iam::111122223333:role/Dev".parse().unwrap();
    let revocation = crate::store::Revocation {
        who,
        by: "test".to_owned(),
        reason: None,
        at: NOW,
    };
    let event = crate::audit::Event::new(
        crate::audit::EventName::RevokeCaller,
        crate::audit::Actor::Service,
        Origin::default(),
        random::request_id().unwrap(),
    );
    assert!(
        rig.recorder
            .revoke(revocation.clone(), false, &event)
            .await
            .unwrap()
    );
    assert!(matches!(
        issuer.issue(grant(), origin()).await,
        Err(IssueError::Revoked)
    ));
    assert!(
        rig.recorder
            .revoke(revocation.clone(), true, &event)
            .await
            .unwrap()
    );
    issuer.issue(grant(), origin()).await.unwrap();
    assert!(!rig.recorder.revoke(revocation, true, &event).await.unwrap());
}

#[tokio::test]
async fn a_key_of_the_ca_itself_is_never_certified() {
    // D-14
    let rig = Rig::new();
    let other = subject();
    let special = SpecialKeys::new([&other]);
    let (recorder, ca) = (rig.recorder.clone(), Arc::clone(&rig.ca));
    let issuer = Issuer::new(
        recorder,
        ca,
        special,
        rig.store.revocations(),
        rig.clock.clone(),
    );
    for key in [other, rig.ca.public().key().clone()] {
        let grant = Grant::for_test(verified(UserCertificateRequest {
            public_key: key,
            ..request()
        }));
        assert!(matches!(
            issuer.issue(grant, origin()).await,
            Err(IssueError::Prepare(_))
        ));
    }
    rig.journal(&[]);
}

#[test]
fn a_certificate_does_not_outlive_its_ca_key() {
    // D-08
    let ca = local_signer(KeyType::Ed25519);
    let prepare = |not_after| {
        let active = ActiveCa {
            key: ca.public(),
            not_after: Some(not_after),
        };
        prepare_user(grant(), &Draw::fresh().unwrap(), active, NOW)
    };
    assert!(matches!(prepare(NOW - 1), Err(PrepareError::CaRetires)));
    assert!(matches!(prepare(NOW + 60), Err(PrepareError::CaRetires)));
    assert_eq!(
        prepare(NOW + 100).unwrap().meaning().journal().valid_before,
        NOW + 100
    );
    assert_eq!(
        prepare(NOW + 1_000)
            .unwrap()
            .meaning()
            .journal()
            .valid_before,
        NOW + 300
    );
}

#[test]
fn a_certificate_is_backdated_by_a_minute_at_most_and_ends_in_time() {
    // D-08
    let rig_ca = local_signer(KeyType::Ed25519);
    let active = ActiveCa {
        key: rig_ca.public(),
        not_after: None,
    };
    let at = |now| prepare_user(grant(), &Draw::fresh().unwrap(), active, now);
    let Profile::User(user) = at(NOW).unwrap().meaning().profile().clone() else {
        panic!("a user certificate")
    };
    assert_eq!(
        (user.validity.after(), user.validity.before()),
        (NOW - 60, NOW + 300)
    );
    // A clock at the end of time overflows nothing.
    assert!(matches!(at(u64::MAX - 5), Err(PrepareError::Validity(_))));
}

#[tokio::test]
async fn a_taken_serial_is_drawn_again() {
    // D-05
    let rig = Rig::new();
    let draw = Draw::fresh().unwrap();
    let prepare = || {
        prepare_user(
            grant(),
            &Draw {
                serial: draw.serial,
                nonce: draw.nonce,
            },
            rig.ca.active(),
            NOW,
        )
    };
    let first = record(&rig.recorder, prepare().unwrap(), origin())
        .await
        .unwrap();
    let second = record(&rig.recorder, prepare().unwrap(), origin())
        .await
        .unwrap();
    let first = rig.ca.sign(first, &rig.clock).await.unwrap();
    let second = rig.ca.sign(second, &rig.clock).await.unwrap();
    assert_eq!(first.serial(), draw.serial);
    assert_ne!(second.serial(), first.serial());
    rig.journal(&[("issued", 2)]);
}

#[tokio::test]
async fn many_certificates_at_once_have_each_their_own_serial_and_record() {
    // D-05
    let rig = Rig::new();
    let issuer = rig.issuer();
    let tasks: Vec<_> = (0..300)
        .map(|_| {
            let issuer = issuer.clone();
            tokio::spawn(async move { issuer.issue(grant(), origin()).await.unwrap().serial() })
        })
        .collect();
    let mut serials = BTreeSet::new();
    for task in tasks {
        serials.insert(task.await.unwrap());
    }
    assert_eq!(serials.len(), 300);
    rig.journal(&[("issued", 300)]);
    let report = crate::audit::verify(&rig.store.reader(), &[]).unwrap();
    assert_eq!((report.records, report.flaws), (300, vec![]));
}

#[tokio::test]
async fn what_is_issued_is_what_was_granted() {
    let rig = Rig::new();
    let asked = UserCertificateRequest {
        ttl_seconds: Some(120),
        force_command: Some("uptime".parse().unwrap()),
        extensions: Some([Extension::Pty].into()),
        ..request()
    };
    let issued = rig
        .issuer()
        .issue(Grant::for_test(verified(asked.clone())), origin())
        .await
        .unwrap();
    let asked_of = eic_protocol::cert::check::Asked {
        public_key: &asked.public_key,
        principal: &asked.scope.principal(),
        max_ttl: 120,
        force_command: asked.force_command.as_ref(),
        source_addresses: None,
        extensions: asked.extensions.as_ref(),
    };
    let cas = [rig.ca.public().clone()];
    eic_protocol::cert::check::user_certificate(issued.line(), &asked_of, &cas, NOW).unwrap();
    assert!(issued.is_restricted());
    assert_eq!(
        issued.key_id().to_string(),
        format!("eic:role/Dev/alice@corp:{}", issued.request_id())
    );
    assert!(
        !rig.issuer()
            .issue(grant(), origin())
            .await
            .unwrap()
            .is_restricted()
    );
}

#[tokio::test]
async fn a_fido_key_is_certified_with_its_pin_required() {
    let rig = Rig::new();
    let mut w = eic_protocol::wire::Writer::new();
    let point = subject().blob().get(19..).unwrap().to_vec();
    w.string(b"sk-ssh-ed25519@openssh.com")
        .string(&point)
        .string(b"ssh:");
    let key = SubjectKey::from_blob(w.as_slice()).unwrap();
    let grant = Grant::for_test(verified(UserCertificateRequest {
        public_key: key,
        ..request()
    }));
    let issued = rig.issuer().issue(grant, origin()).await.unwrap();
    let certificate = ssh_key::Certificate::from_openssh(issued.line()).unwrap();
    assert!(
        certificate
            .critical_options()
            .iter()
            .any(|(name, _)| name == "verify-required")
    );
}
