//! Hosts that get nothing any more: removed, blocked before they ever came, terminated.

use std::process::Command;
use std::time::Duration;

use eic_protocol::api::problem::ProblemCode;

use super::aws::{HOST, HostWorld, MANAGED};
use super::enrolment::revoked;
use super::reports::{post, report, sign};
use super::requests::{Ask, with_key, with_token};
use crate::client::Client;
use crate::program::real_now;
use crate::world::code;

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_hosts_certificates_are_revoked() {
    // E-08
    let world = HostWorld::new("evidence").await;
    let host = Client::new(1);
    world.certified(&world.with_document(&Ask::of(&host))).await;
    assert!(revoked(&world).is_empty());
    world.hosts(&["remove", HOST]).unwrap();
    assert_eq!(revoked(&world), ["serial"]);
    // Its next certificate is another one.
    world.certified(&world.with_document(&Ask::of(&host))).await;
    assert_eq!(revoked(&world), ["serial"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_never_enrolled_stays_out_until_it_is_unblocked() {
    let world = HostWorld::new("evidence").await;
    let host = Client::new(1);
    let block = ["block", HOST, "--reason", "stolen"];
    let commands: [&[&str]; 2] = [
        &["hosts", "block", HOST, "--reason", "stolen"],
        &["revoke", "host", HOST, "--reason", "stolen"],
    ];
    for command in commands {
        world.eic_ca(command).unwrap();
        assert!(world.hosts(&block).is_err(), "it is blocked");
        let answer = world
            .post_certificate(&world.with_document(&Ask::of(&host)))
            .await;
        assert_eq!(code(&answer), ProblemCode::HostNotEnrolled);
        world.hosts(&["unblock", HOST]).unwrap();
    }
    world.certified(&world.with_document(&Ask::of(&host))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_revoked_is_certified_no_more_and_vouches_for_none() {
    // D-14: whoever stole it would have his own certified in the host's name.
    let world = HostWorld::new("token").await;
    let (host, thief) = (Client::new(1), Client::new(2));
    let managed = |key| Ask {
        instance: MANAGED,
        ..Ask::of(key)
    };
    let token = world.hosts(&["token", "--name", MANAGED, "--ttl", "1"]);
    let token = token.unwrap().parse().unwrap();
    world.certified(&with_token(&managed(&host), &token)).await;
    let print = host.public.fingerprint();
    world
        .eic_ca(&["revoke", "key", &print, "--reason", "leaked"])
        .unwrap();
    let end = std::time::Instant::now() + Duration::from_secs(10);
    let refused = loop {
        let answer = world.post_certificate(&with_key(&managed(&host))).await;
        if answer.status != 200 {
            break answer;
        }
        assert!(std::time::Instant::now() < end, "it is still certified");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(code(&refused), ProblemCode::KeyNotAccepted);
    let reported = sign(&host, report(MANAGED, Vec::new()));
    let answer = post(&world, &reported).await;
    assert_eq!(code(&answer), ProblemCode::KeyNotAccepted);
    let vouched = with_key(&Ask {
        previous: Some(&host),
        ..managed(&thief)
    });
    let answer = world.post_certificate(&vouched).await;
    assert_eq!(code(&answer), ProblemCode::HostNotEnrolled);
    // Enrolled anew, by whoever may.
    let token = world.hosts(&["token", "--name", MANAGED, "--ttl", "1"]);
    let token = token.unwrap().parse().unwrap();
    let fresh = Client::new(3);
    world.certified(&with_token(&managed(&fresh), &token)).await;
}

fn managed(key: &Client) -> Ask<'_> {
    Ask {
        instance: MANAGED,
        ..Ask::of(key)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_makes_new_keys_again_and_again_does_not_fill_the_list_of_all_hosts() {
    let world = HostWorld::new("token").await;
    let token = world.hosts(&["token", "--name", MANAGED, "--ttl", "1"]);
    let token = token.unwrap().parse().unwrap();
    let mut key = Client::new(10);
    world.certified(&with_token(&managed(&key), &token)).await;
    let refused = loop {
        let next = Client::new(11 + u8::try_from(revoked(&world).len()).unwrap());
        let answer = world
            .post_certificate(&with_key(&Ask {
                previous: Some(&key),
                ..managed(&next)
            }))
            .await;
        let told = String::from_utf8_lossy(&answer.body).into_owned();
        match answer.status {
            200 => key = next,
            429 if !told.contains("changed its keys") => {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            _ => break answer,
        }
    };
    assert_eq!(code(&refused), ProblemCode::TooManyRequests);
    assert_eq!(revoked(&world), ["key"; 16]);
    // The key that it has goes on, at the host's next turn.
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while world
        .post_certificate(&with_key(&managed(&key)))
        .await
        .status
        != 200
    {
        assert!(std::time::Instant::now() < end, "its own key is refused");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_hosts_certificates_are_revoked_by_themselves() {
    // E-12
    let often = |config: String| config.replace("[hosts]\n", "[hosts]\nwatch_seconds = 1\n");
    let world = HostWorld::configured("evidence", often).await;
    let host = Client::new(1);
    world.certified(&world.with_document(&Ask::of(&host))).await;
    world.aws.lock().unwrap().state = "terminated";
    // The inventory's listing is at most 30 s old.
    world
        .world
        .until_within(Duration::from_secs(45), |world| {
            world.audit().contains("EndHost")
        })
        .await;
    assert_eq!(revoked(&world), ["serial"]);
    let listed = world.hosts(&["list"]).unwrap();
    assert!(listed.contains("gone"), "{listed}");
    world.aws.lock().unwrap().state = "running";
    world.certified(&world.with_document(&Ask::of(&host))).await;
    assert!(!world.hosts(&["list"]).unwrap().contains("gone"));
}

#[tokio::test]
async fn a_certificate_of_a_ca_that_never_served_is_not_revoked_in_vain() {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca");
    eic_ca::command::init::init(&ca, real_now()).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_eic-ca"));
        let output = command.args(arguments).current_dir(&ca).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).unwrap();
        (output.status.success(), text)
    };
    let key = Client::new(1).public.to_string();
    std::fs::write(ca.join("host.pub"), key).unwrap();
    let state = [
        "host-state",
        "--instance",
        HOST,
        "--host-key",
        "host.pub",
        "--out",
        "state",
    ];
    let (made, text) = run(&state);
    assert!(made, "{text}");
    let serial = text.split("serial ").nth(1).unwrap();
    let serial = serial.split(',').next().unwrap();
    let (revoked, text) = run(&["revoke", "serial", serial, "--reason", "x"]);
    assert!(
        !revoked && text.contains("start `eic-ca serve` once"),
        "{text}"
    );
}
