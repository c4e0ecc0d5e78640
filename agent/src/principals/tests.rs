//! Which names are not printed, then which are.

use super::*;
use crate::trust_state::tests::{CA_KEY, Documents, INSTANCE, NOW, ca, fingerprint};
use eic_protocol::trust::root::KeyState;

fn ask(documents: &Documents, user: &str, ca_seed: u8) -> String {
    let local = Local {
        passwd: Path::new("/etc/passwd"),
        trusted: &Trusted::system(),
        bare_principals: false,
    };
    let question = Question {
        user: user.to_owned(),
        ca: fingerprint(ca_seed),
    };
    lines(&question, &documents.state(), &local, NOW).unwrap()
}

fn changed(user: &str, change: impl FnOnce(&mut Documents)) -> String {
    let mut documents = Documents::new();
    change(&mut documents);
    ask(&documents, user, CA_KEY)
}

fn target(user: &str) -> String {
    format!("{user}@{INSTANCE}\n")
}

#[test]
fn keys_that_the_root_does_not_name_open_nothing() {
    // J-06: still in TrustedUserCAKeys, no longer in the root
    assert_eq!(ask(&Documents::new(), "ubuntu", 77), "");
    assert_eq!(changed("ubuntu", |d| d.root.user_cas.clear()), "");
    assert_eq!(
        changed("ubuntu", |d| d.root.user_cas[0].state = KeyState::Retired),
        ""
    );
}

#[test]
fn host_ca_root_and_bundle_keys_open_nothing() {
    for seed in [1, 2, 4] {
        assert_eq!(ask(&Documents::new(), "ubuntu", seed), "");
    }
}

#[test]
fn a_key_outside_its_hours_opens_nothing() {
    // J-17
    assert_eq!(
        changed("ubuntu", |d| d.root.user_cas[0].scope.not_before =
            Some(NOW + 1)),
        ""
    );
    assert_eq!(
        changed("ubuntu", |d| d.root.user_cas[0].scope.not_after = Some(NOW)),
        ""
    );
    let within = changed("ubuntu", |d| {
        d.root.user_cas[0].scope.not_before = Some(NOW);
        d.root.user_cas[0].scope.not_after = Some(NOW + 1);
    });
    assert!(within.starts_with(&target("ubuntu")));
}

#[test]
fn an_endorsed_key_opens_no_uid_0_and_no_kms_only_fleet() {
    // J-17
    let endorsed = |d: &mut Documents| {
        d.root.user_cas[0].scope.endorsed = true;
        d.view.fleets[0].kms_only = true;
    };
    assert_eq!(changed("root", endorsed), "");
    // Neither by the host's own name nor by its other fleet.
    assert_eq!(changed("nobody", endorsed), "");
    let unguarded = |d: &mut Documents| d.root.user_cas[0].scope.endorsed = true;
    assert_eq!(changed("root", unguarded), "");
    assert!(changed("nobody", unguarded).starts_with(&target("nobody")));
    // The same fleet opens for a key that is not held in memory.
    let kms = changed("nobody", |d| d.view.fleets[0].kms_only = true);
    assert!(kms.contains("nobody@fleet/web\n"));
    assert!(changed("root", |_| {}).starts_with(&target("root")));
}

#[test]
fn a_second_name_of_root_is_closed_to_an_endorsed_key() {
    // J-17
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path().canonicalize().unwrap();
    std::fs::write(
        top.join("passwd"),
        "toor:x:0:0::/root:/bin/sh\nubuntu:x:1000:1000:::\n",
    )
    .unwrap();
    let trusted = Trusted::under(&top, rustix::process::geteuid().as_raw());
    let mut documents = Documents::new();
    documents.root.user_cas[0].scope.endorsed = true;
    let passwd = top.join("passwd");
    let local = Local {
        passwd: &passwd,
        trusted: &trusted,
        bare_principals: false,
    };
    let ask = |user: &str| {
        lines(
            &Question {
                user: user.to_owned(),
                ca: fingerprint(CA_KEY),
            },
            &documents.state(),
            &local,
            NOW,
        )
    };
    assert_eq!(ask("toor").unwrap(), "");
    assert!(ask("ubuntu").unwrap().starts_with(&target("ubuntu")));
    std::fs::remove_file(&passwd).unwrap();
    assert!(ask("ubuntu").is_err());
}

#[test]
fn a_key_for_named_users_opens_no_other() {
    let only_deploy = |d: &mut Documents| {
        d.root.user_cas[0].scope.users = Some(["deploy".parse().unwrap()].into())
    };
    assert_eq!(changed("ubuntu", only_deploy), "");
    assert!(changed("deploy", only_deploy).starts_with(&target("deploy")));
}

#[test]
fn users_that_no_certificate_can_name_get_nothing() {
    for user in [
        "",
        "Ubuntu",
        "a b",
        "a#b",
        "root\n",
        "-x",
        "a@b",
        "../x",
        &"a".repeat(33),
    ] {
        assert_eq!(ask(&Documents::new(), user, CA_KEY), "", "{user:?}");
    }
}

#[test]
fn the_answer_depends_on_nothing_that_a_certificate_says() {
    // J-04: whatever principals alice's certificate has, root's names are root's
    let lines = ask(&Documents::new(), "root", CA_KEY);
    assert!(lines.lines().all(|line| line.starts_with("root@")));
}

#[test]
fn names_are_user_at_instance_and_user_at_each_fleet() {
    let expected = format!("{}ubuntu@fleet/web\nubuntu@fleet/eu\n", target("ubuntu"));
    assert_eq!(ask(&Documents::new(), "ubuntu", CA_KEY), expected);
}

#[test]
fn an_announced_key_counts_like_an_active_one() {
    let lines = changed("ubuntu", |d| d.root.user_cas[0].state = KeyState::Announced);
    assert!(lines.starts_with(&target("ubuntu")));
}

#[test]
fn the_key_that_was_asked_for_decides_not_its_neighbours() {
    let mut documents = Documents::new();
    documents.root.user_cas.push(ca(50));
    documents.root.user_cas[0].scope.users = Some(["deploy".parse().unwrap()].into());
    assert_eq!(ask(&documents, "ubuntu", CA_KEY), "");
    assert!(ask(&documents, "ubuntu", 50).starts_with(&target("ubuntu")));
}

#[test]
fn bare_names_need_the_configuration() {
    let question = Question {
        user: "ubuntu".to_owned(),
        ca: fingerprint(CA_KEY),
    };
    let ask = |bare_principals| {
        let local = Local {
            passwd: Path::new("/etc/passwd"),
            trusted: &Trusted::system(),
            bare_principals,
        };
        lines(&question, &Documents::new().state(), &local, NOW).unwrap()
    };
    assert!(!ask(false).lines().any(|line| line == "ubuntu"));
    assert!(ask(true).lines().any(|line| line == "ubuntu"));
}

#[test]
fn a_key_with_two_scopes_opens_what_either_of_them_opens_once() {
    let mut documents = Documents::new();
    let mut people = ca(20);
    people.scope.users = Some(["alice".parse().unwrap()].into());
    let mut late = ca(20);
    late.scope.not_before = Some(NOW + 1);
    let mut state = documents.state();
    state.endorsed = vec![people.clone(), people, late];
    documents.view.fleets.clear();
    let local = Local {
        passwd: Path::new("/etc/passwd"),
        trusted: &Trusted::system(),
        bare_principals: false,
    };
    let ask = |user: &str| {
        let question = Question {
            user: user.to_owned(),
            ca: fingerprint(20),
        };
        lines(&question, &state, &local, NOW).unwrap()
    };
    assert_eq!(ask("bob"), "");
    assert_eq!(ask("alice").matches(INSTANCE).count(), 1);
}
