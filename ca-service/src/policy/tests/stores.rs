//! The running policy: first load, reload, what stays when a reload fails.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use super::context::{NOW, World};
use super::fixture::{allow, policy};
use crate::policy::{
    Decision, DenialKind, PolicyStore, Reloaded, Settings, Sources, UNIFORM_DENIAL,
};

struct Folder {
    folder: tempfile::TempDir,
}

impl Folder {
    fn with(document: &str) -> Self {
        let own = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        own.write(document);
        own
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("policy.json")
    }

    /// Replaces the file in one step, as an administrator's tool would.
    fn write(&self, document: &str) {
        let new = self.folder.path().join("policy.json.new");
        fs::write(&new, document).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o644)).unwrap();
        fs::rename(new, self.file()).unwrap();
    }

    fn sources(&self) -> Sources {
        let settings = Settings {
            max_stale_seconds: 3600,
            ..Settings::default()
        };
        Sources {
            files: vec![self.file()],
            attachments: Vec::new(),
            settings,
        }
    }
}

fn document(user: &str) -> String {
    let statement = allow(&format!(r#"{{"StringEquals":{{"ec2:osuser":"{user}"}}}}"#));
    format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#)
}

fn is_allowed(store: &PolicyStore, request: &str) -> bool {
    World::new(request).ask(|request| matches!(store.decide(request), Decision::Allow(_)))
}

#[test]
fn without_a_readable_policy_there_is_no_start() {
    // C-01
    let folder = Folder::with(&document("ubuntu"));
    let mut sources = folder.sources();
    sources
        .files
        .push(folder.folder.path().join("missing.json"));
    let error = PolicyStore::open(sources).unwrap_err();
    assert!(error.to_string().contains("missing.json"), "{error}");
    let mut of_folder = folder.sources();
    of_folder.files = vec![folder.folder.path().to_owned()];
    assert!(PolicyStore::open(of_folder).is_err(), "a directory");
}

#[test]
fn a_file_that_anyone_may_write_is_refused() {
    let folder = Folder::with(&document("ubuntu"));
    fs::set_permissions(folder.file(), fs::Permissions::from_mode(0o666)).unwrap();
    let error = PolicyStore::open(folder.sources()).unwrap_err();
    assert!(error.to_string().contains("may write to it"), "{error}");
}

#[test]
fn an_empty_set_denies_everything() {
    // C-01
    let store = PolicyStore::open(Sources::default()).unwrap();
    assert!(!is_allowed(&store, ""));
}

#[test]
fn a_deleted_or_broken_file_leaves_the_running_policy_for_a_limited_time() {
    // C-01, C-03
    let folder = Folder::with(&document("ubuntu"));
    let store = PolicyStore::open(folder.sources()).unwrap();
    let digest = store.current().digest();
    fs::remove_file(folder.file()).unwrap();
    assert!(store.reload(NOW).is_err());
    folder.write(r#"{"Version":"2012-10-17","Statement":[{"Effect":"allow"}]}"#);
    assert!(store.reload(NOW + 60).is_err());
    assert_eq!(store.current().digest(), digest);
    assert_eq!(store.failing_since(), Some(NOW), "the first failure counts");
    assert!(is_allowed(&store, &format!("now={}", NOW + 3600)));
    let late = World::new(&format!("now={}", NOW + 3601));
    let Decision::Deny(denial) = late.ask(|request| store.decide(request)) else {
        panic!("allowed")
    };
    assert_eq!(
        (denial.kind(), denial.caller_text().as_str()),
        (&DenialKind::Stale, UNIFORM_DENIAL)
    );
}

#[test]
fn a_good_reload_ends_the_alarm() {
    let folder = Folder::with(&document("ubuntu"));
    let store = PolicyStore::open(folder.sources()).unwrap();
    folder.write("{");
    assert!(store.reload(NOW).is_err());
    folder.write(&document("ubuntu"));
    assert_eq!(store.reload(NOW + 1).unwrap(), Reloaded::Unchanged);
    assert_eq!(store.failing_since(), None);
    assert!(!store.is_stale(NOW + 1_000_000));
}

#[test]
fn a_reload_replaces_everything_at_once() {
    let folder = Folder::with(&document("ubuntu"));
    let store = PolicyStore::open(folder.sources()).unwrap();
    let before = store.current().digest();
    folder.write(&document("admin"));
    let Reloaded::Replaced { before: from, now } = store.reload(NOW).unwrap() else {
        panic!("unchanged")
    };
    assert_eq!(from, before);
    assert_eq!(now, store.current().digest());
    assert!(!is_allowed(&store, "os=ubuntu"));
    assert!(is_allowed(&store, "os=admin"));
}

#[test]
fn each_decision_uses_exactly_one_version_while_the_policy_flips() {
    // C-17: a decision's digest always belongs to the policy that gives that answer.
    let folder = Folder::with(&document("ubuntu"));
    let store = PolicyStore::open(folder.sources()).unwrap();
    let ubuntu = store.current().digest();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| watch(&store, &done, ubuntu)))
            .collect();
        for round in 0..200 {
            folder.write(&document(if round % 2 == 0 { "admin" } else { "ubuntu" }));
            store.reload(NOW).unwrap();
        }
        done.store(true, Ordering::Release);
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
}

fn watch(store: &PolicyStore, done: &AtomicBool, ubuntu: crate::policy::PolicyDigest) -> usize {
    let world = World::new("os=ubuntu");
    let mut decisions = 0;
    while !done.load(Ordering::Acquire) {
        decisions += 1;
        match world.ask(|request| store.decide(request)) {
            Decision::Allow(permit) => assert_eq!(permit.policy(), ubuntu),
            Decision::Deny(denial) => assert_ne!(denial.policy(), Some(ubuntu)),
        }
    }
    decisions
}

#[test]
fn the_digest_changes_with_any_source_or_setting() {
    let base = policy(&allow("{}")).digest();
    assert_eq!(policy(&allow("{}")).digest(), base);
    assert_ne!(policy(&allow("{ }")).digest(), base, "even by a space");
    let named = |name: &str, settings: Settings| {
        let document = format!(
            r#"{{"Version":"2012-10-17","Statement":[{}]}}"#,
            allow("{}")
        );
        super::fixture::compile_with(settings, &[(name, &document)])
            .unwrap()
            .digest()
    };
    assert_eq!(named("policy.json", Settings::default()), base);
    assert_ne!(named("other.json", Settings::default()), base);
    assert_ne!(
        named(
            "policy.json",
            Settings {
                whole_account: true,
                ..Settings::default()
            }
        ),
        base
    );
}

#[test]
fn all_questions_of_one_decision_are_answered_by_one_policy() {
    // C-17: a fleet's name is asked about, then each of its members.
    let folder = Folder::with(&document("ubuntu"));
    let store = PolicyStore::open(folder.sources()).unwrap();
    let snapshot = store.snapshot(NOW);
    folder.write(&document("deploy"));
    store.reload(NOW).unwrap();
    let allows = |user: &str| {
        World::new(&format!("os={user}"))
            .ask(|request| matches!(snapshot.decide(request), Decision::Allow(_)))
    };
    assert!(allows("ubuntu") && !allows("deploy"));
    assert!(is_allowed(&store, "os=deploy") && !is_allowed(&store, "os=ubuntu"));
}

#[test]
fn a_snapshot_of_a_policy_that_is_too_old_allows_nothing() {
    let folder = Folder::with(&document("ubuntu"));
    let store = PolicyStore::open(folder.sources()).unwrap();
    folder.write("{");
    assert!(store.reload(NOW).is_err());
    let late = store.snapshot(NOW + 3601);
    let decision = World::new("os=ubuntu").ask(|request| late.decide(request));
    assert!(matches!(decision, Decision::Deny(denial) if *denial.kind() == DenialKind::Stale));
}
