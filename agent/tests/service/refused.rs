//! Documents and answers that a host must not take: each is refused with its reason, and what sshd reads stays.

use eic_agent::helper::request::Offer;
use eic_protocol::sshsig::Namespace;

use crate::authority::{
    Authority, BOTH_ROOT_KEYS, FOREIGN_KEY, NEXT_BUNDLE_KEY, NEXT_ROOT_KEY, envelope, list,
};
use crate::documents::{BUNDLE_KEY, ROOT_KEY, public, signed};
use crate::sandbox::{now, wait_until};
use crate::standin::Reply;
use crate::station::Station;

/// Offers what `change` makes of the next documents and returns the refusal.
fn refusal(station: &Station, change: impl FnOnce(&mut Authority) -> Option<Offer>) -> String {
    let before = station.files();
    let mut authority = station.authority.clone();
    authority.next();
    let offer = change(&mut authority);
    let honest = || {
        let response = authority.response();
        Offer {
            roots: response.roots,
            bundle: Some(response.bundle),
            view: response.view,
        }
    };
    let answer = station.install_offer(offer.unwrap_or_else(honest));
    assert_eq!(station.files(), before, "{:?}", answer.refused);
    assert!(answer.changed.is_empty(), "{answer:?}");
    answer.refused.expect("it was taken")
}

/// A host with a revocation list of three entries in place.
fn with_revocations() -> Option<Station> {
    let mut station = Station::new("")?;
    station.authority.revoke(&[7, 8, 9]);
    assert_eq!(station.install().refused, None);
    Some(station)
}

#[test]
fn documents_that_are_not_signed_as_they_must_be_are_refused_with_their_reason() {
    let Some(station) = with_revocations() else {
        return;
    };
    let check = |reason: &str, change: &dyn Fn(&mut Authority) -> Option<Offer>| {
        let told = refusal(&station, change);
        assert!(told.contains(reason), "{reason:?}: {told}");
    };
    // F-18: nobody's key, a root key, a signature for something else
    for (key, namespace) in [
        (FOREIGN_KEY, Namespace::Bundle),
        (ROOT_KEY, Namespace::Bundle),
        (BUNDLE_KEY, Namespace::HostView),
    ] {
        check("0 of 1 needed signatures", &move |a: &mut Authority| {
            let bytes = serde_json::to_vec(&a.bundle).unwrap();
            Some(Offer {
                bundle: Some(envelope(&signed(namespace, &bytes, &[key]))),
                ..Offer::default()
            })
        });
    }
    // F-18: one byte
    check("signatures", &|a| {
        let mut bundle = a.bundle_envelope();
        bundle.signed.0[20] ^= 1;
        Some(Offer {
            bundle: Some(bundle),
            ..Offer::default()
        })
    });
    // F-18: what is signed is malformed: duplicate members, unknown members
    for extra in ["\"sequence\":99,", "\"more\":1,"] {
        check("malformed", &move |a: &mut Authority| {
            let text = serde_json::to_string(&a.bundle).unwrap();
            let text = text.replacen('{', &format!("{{{extra}"), 1);
            Some(Offer {
                bundle: Some(envelope(&signed(
                    Namespace::Bundle,
                    text.as_bytes(),
                    &[BUNDLE_KEY],
                ))),
                ..Offer::default()
            })
        });
    }
}

#[test]
fn documents_that_are_old_foreign_or_incomplete_are_refused_with_their_reason() {
    let Some(station) = with_revocations() else {
        return;
    };
    let check = |reason: &str, change: &dyn Fn(&mut Authority) -> Option<Offer>| {
        let told = refusal(&station, change);
        assert!(told.contains(reason), "{reason:?}: {told}");
    };
    // F-07
    check("older than the installed", &|a| {
        a.bundle.sequence = 5;
        a.bundle.revocations.number = 5;
        a.bundle.revocations = list(&Default::default(), 5);
        None
    });
    check("jumps by", &|a| {
        a.bundle.sequence += 1_000_000_000;
        None
    });
    // F-06
    check("lacks 3 installed entries", &|a| {
        a.bundle.revocations = list(&Default::default(), a.bundle.sequence);
        None
    });
    // Mix and match
    check("goes with root 6", &|a| {
        a.bundle.root_version = 6;
        None
    });
    // Freeze
    check("hard stop has passed", &|a| {
        a.bundle.issued = now() - 15;
        a.bundle.refresh_after = now() - 10;
        a.bundle.hard_stop = Some(now() - 5);
        None
    });
    // Equivocation: one sequence, two bundles
    check("two different documents", &|a| {
        a.bundle.sequence -= 1;
        a.bundle.refresh_after += 1;
        None
    });
}

#[test]
fn views_and_roots_of_others_are_refused_with_their_reason() {
    let Some(station) = Station::new("") else {
        return;
    };
    assert_eq!(station.install().refused, None);
    let only_view = |a: &Authority| Offer {
        view: Some(a.view_envelope()),
        ..Offer::default()
    };
    let only_roots = |a: &Authority| Offer {
        roots: a.roots.clone(),
        ..Offer::default()
    };
    let check = |reason: &str, change: &dyn Fn(&mut Authority) -> Option<Offer>| {
        let told = refusal(&station, change);
        assert!(told.contains(reason), "{reason:?}: {told}");
    };
    check("not for this host", &|a| {
        a.view.instance = "i-0fedcba9876543210".parse().unwrap();
        Some(only_view(a))
    });
    check("older than the installed", &|a| {
        a.view.version = 1;
        Some(only_view(a))
    });
    check("signatures", &|a| {
        a.bundle_key = FOREIGN_KEY;
        Some(only_view(a))
    });
    check("signatures", &|a| {
        a.succeed(&[FOREIGN_KEY], |_| {});
        Some(only_roots(a))
    });
    // The new root key alone has not been named by the old one.
    check("signatures", &|a| {
        a.succeed(&[FOREIGN_KEY], |root| {
            root.root_keys = vec![public(FOREIGN_KEY)]
        });
        Some(only_roots(a))
    });
    check("after 5 comes the next", &|a| {
        a.root.version += 1;
        a.succeed(&[ROOT_KEY], |_| {});
        Some(only_roots(a))
    });
    check("no longer trusts the key", &|a| {
        a.succeed(&[ROOT_KEY], |root| {
            root.bundle_keys = vec![public(NEXT_BUNDLE_KEY)]
        });
        Some(only_roots(a))
    });
}

#[test]
fn a_deleted_state_does_not_make_an_old_bundle_good() {
    // F-07
    let Some(mut station) = Station::new("") else {
        return;
    };
    let old = station.offer();
    station.authority.revoke(&[7]);
    assert_eq!(station.install().refused, None);
    for file in ["documents.json", "trust.json"] {
        std::fs::remove_file(station.host.path(&format!("var-lib/eic/{file}"))).unwrap();
    }
    let answer = station.install_offer(old);
    assert!(answer.refused.unwrap().contains("older than the installed"));
    assert!(!station.logs_in(7));
    assert!(station.logs_in(8));
}

#[test]
fn documents_of_an_older_backup_do_not_bring_the_older_list_back() {
    // F-07
    let Some(mut station) = Station::new("") else {
        return;
    };
    assert_eq!(station.install().refused, None);
    let backup = std::fs::read(station.host.path(DOCUMENTS)).unwrap();
    station.authority.revoke(&[7]);
    assert_eq!(station.install().refused, None);
    let newest = list_in_place(&station);
    station.host.write(DOCUMENTS, backup);
    let told = station.repair();
    assert!(
        told.warnings
            .concat()
            .contains("is newer than the installed bundle"),
        "{told:?}"
    );
    assert_eq!(list_in_place(&station), newest);
    assert!(!station.logs_in(7));
}

#[test]
fn a_deleted_state_makes_no_old_bundle_good_after_a_change_of_bundle_keys_either() {
    // F-07: the installed root's key is gone, the list is by the next one.
    let Some(mut station) = Station::new("") else {
        return;
    };
    assert_eq!(station.install().refused, None);
    let (old, next) = (public(BUNDLE_KEY), public(NEXT_BUNDLE_KEY));
    // The last root that a pinned key signed names the old one only.
    station.authority.succeed(&BOTH_ROOT_KEYS, |root| {
        root.root_keys = vec![public(NEXT_ROOT_KEY)];
    });
    for keys in [vec![next.clone(), old], vec![next]] {
        station
            .authority
            .succeed(&[NEXT_ROOT_KEY], |root| root.bundle_keys = keys);
    }
    station.authority.bundle.root_version = station.authority.root.version;
    station.authority.bundle_key = NEXT_BUNDLE_KEY;
    station.authority.next();
    assert_eq!(station.install().refused, None);
    let before = station.offer();
    station.authority.revoke(&[7]);
    assert_eq!(station.install().refused, None);
    let newest = list_in_place(&station);
    std::fs::remove_file(station.host.path(DOCUMENTS)).unwrap();
    let answer = station.install_offer(before);
    let refused = answer.refused.unwrap_or_default();
    assert!(refused.contains("older than the installed"), "{refused}");
    assert_eq!(list_in_place(&station), newest);
    assert!(!station.logs_in(7));
    assert_eq!(station.install().refused, None);
}

#[test]
fn a_root_that_retires_every_ca_closes_the_host_and_brings_its_revocations() {
    let Some(mut station) = Station::new("") else {
        return;
    };
    assert_eq!(station.install().refused, None);
    assert!(station.logs_in(7));
    station.authority.succeed(&[ROOT_KEY], |root| {
        for ca in &mut root.user_cas {
            ca.state = eic_protocol::trust::root::KeyState::Retired;
        }
    });
    station.authority.bundle.root_version = station.authority.root.version;
    station.authority.revoke(&[9]);
    let answer = station.install();
    assert_eq!(answer.refused, None);
    assert!(
        answer.warnings.concat().contains("names no user CA"),
        "{answer:?}"
    );
    let wanted = station.authority.bundle.revocations.krl.as_slice();
    assert_eq!(list_in_place(&station), wanted);
    assert!(!station.host.read("var-lib/eic/user-ca-keys").is_empty());
    assert!(!station.logs_in(7));
    assert!(station.repair().changed.is_empty());
}

const DOCUMENTS: &str = "var-lib/eic/documents.json";
const LIST: &str = "var-lib/eic/revoked-keys";

fn list_in_place(station: &Station) -> Vec<u8> {
    std::fs::read(station.host.path(LIST)).unwrap()
}

/// A host with the list of somebody who has the bundle key, run up to a number that the CA will not reach, and the
/// CA's answer to it: another bundle key, by which the sequence begins anew.
fn with_a_thiefs_list() -> Option<(Station, Authority)> {
    let mut station = Station::new("")?;
    let mut recovered = station.authority.clone();
    station.authority.bundle.sequence = 90_000;
    station.authority.revoke(&[8]);
    assert_eq!(station.install().refused, None);
    assert!(!station.logs_in(8));
    recovered.succeed(&[ROOT_KEY], |root| {
        root.bundle_keys = vec![public(NEXT_BUNDLE_KEY)]
    });
    recovered.bundle_key = NEXT_BUNDLE_KEY;
    recovered.view.version += 1;
    recovered.bundle.sequence = 1;
    recovered.revoke(&[7]);
    Some((station, recovered))
}

#[test]
fn a_list_by_replaced_bundle_keys_gives_way_whatever_its_number() {
    let Some((mut station, recovered)) = with_a_thiefs_list() else {
        return;
    };
    station.authority = recovered;
    let answer = station.install();
    assert_eq!((answer.refused, answer.warnings), (None, Vec::new()));
    let wanted = station.authority.bundle.revocations.krl.as_slice();
    assert_eq!(list_in_place(&station), wanted);
    assert!(station.logs_in(8));
    assert!(!station.logs_in(7));
    assert!(station.repair().changed.is_empty());
    // The new key's numbers count among themselves.
    station.authority.bundle.sequence -= 1;
    station.authority.bundle.revocations = list(&Default::default(), 1);
    let old = station.install().refused.unwrap();
    assert!(old.contains("older than the installed"), "{old}");
}

#[test]
fn killed_before_the_list_by_new_bundle_keys_is_in_place_the_next_start_puts_it_there() {
    // F-11: the documents took their place, and nothing after them.
    let Some((mut station, recovered)) = with_a_thiefs_list() else {
        return;
    };
    let thiefs = list_in_place(&station);
    station.authority = recovered;
    assert_eq!(station.install().refused, None);
    let whole = station.files();
    station.host.write(LIST, thiefs);
    assert_eq!(station.repair().changed, ["revoked-keys"]);
    assert_eq!(station.files(), whole);
}

#[test]
fn answers_that_are_no_bundle_change_nothing_and_make_the_host_unhealthy() {
    // F-20
    let Some(station) = Station::new("") else {
        return;
    };
    station.ca.serve(station.authority.response());
    let service = station.service();
    station.wait_for_sequence(10);
    drop(service);
    let before = station.files();
    station.ca.serve_nothing();
    let huge = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n{".to_vec();
    let bundle = serde_json::to_vec(&station.authority.response()).unwrap();
    let cut = Reply::status(200, &String::from_utf8_lossy(&bundle[..bundle.len() / 2]));
    for (reason, reply) in [
        (
            "not a trust bundle",
            Reply::status(200, "<html>login</html>"),
        ),
        ("answered 204", Reply::status(204, "")),
        (
            "answered 302",
            Reply::Honest(302, vec!["Location: http://127.0.0.1:1/".into()], vec![]),
        ),
        ("answered 503", Reply::status(503, "{}")),
        ("larger than", Reply::Raw(huge)),
        (
            "get an answer",
            Reply::Raw(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        ),
        ("not a trust bundle", cut),
    ] {
        station.ca.otherwise(move |_| reply.clone());
        // A fresh one each time: the waits after failures grow.
        let _service = station.service();
        station.wait_for_problem("trust", reason);
        assert_eq!(station.files(), before);
    }
    // And back.
    station.ca.serve(station.authority.response());
    let _service = station.service();
    wait_until("health", || station.status().healthy);
}

#[test]
fn a_refused_view_does_not_hold_revocations_up() {
    let Some(mut station) = Station::new("") else {
        return;
    };
    assert_eq!(station.install().refused, None);
    station.authority.next();
    station.authority.view.version = 1;
    station.ca.serve(station.authority.response());
    let _service = station.service();
    station.wait_for_problem("trust", "host view is not taken");
    let asked = station.ca.asked().len();
    station.authority.revoke(&[7]);
    station.authority.view.version = 1;
    station.ca.serve(station.authority.response());
    wait_until("the refusal", || !station.logs_in(7));
    assert!(station.status().problems.contains_key("trust"));
    // Long polls, not a hammering.
    assert!(station.ca.asked().len() < asked + 10);
}

#[test]
fn not_modified_without_a_tag_of_ours_is_no_answer() {
    // F-20: 304 without prior state
    let Some(station) = Station::new("") else {
        return;
    };
    station.ca.otherwise(|_| Reply::status(304, ""));
    let _service = station.service();
    station.wait_for_problem("trust", "answered 304");
}

#[test]
fn the_services_memory_stays_small_and_it_is_not_root() {
    let Some(station) = Station::new("") else {
        return;
    };
    station.ca.serve(station.authority.response());
    let service = station.service();
    station.wait_for_sequence(10);
    let pid = agent_pid(service.0.id());
    let (own, all) = resident(pid);
    println!("resident memory of the service: {own} KiB of its own, {all} KiB with its program");
    // A debug build's program alone has more pages than the goal of 8 MiB in all.
    assert!(own <= 2 * 1024, "{own} KiB");
    assert!(cfg!(debug_assertions) || all <= 8 * 1024, "{all} KiB");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(
        status
            .lines()
            .any(|line| line.starts_with("Uid:") && !line.contains("\t0\t"))
    );
}

/// Anonymous and whole resident memory in KiB.
pub(crate) fn resident(pid: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let kib = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    (kib("RssAnon:"), kib("VmRSS:"))
}

/// The process below unshare and setpriv, which both become it; or a child of it.
pub(crate) fn agent_pid(pid: u32) -> u32 {
    let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    assert!(comm.starts_with("eic-agent"), "{comm}");
    pid
}
