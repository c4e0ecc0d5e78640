//! docs/hosts.md is true: its configuration is read, and its commands run.

use std::path::Path;

use eic_ca::config::Config;
use eic_protocol::api::host_certificate::HostCertificateResponse;

use super::aws::{HOST, HostWorld, OTHER, document};
use super::requests::Ask;
use crate::client::Client;
use crate::sts::OTHER_INSTANCE;
use crate::world::World;

const PAGE: &str = include_str!("../../../../docs/hosts.md");

/// The blocks of one language.
fn blocks(language: &str) -> Vec<&'static str> {
    let start = format!("```{language}\n");
    let parts = PAGE.split(start.as_str()).skip(1);
    parts
        .filter_map(|part| part.split("\n```").next())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_page_runs() {
    let world = HostWorld::new("approval").await;
    let (host, other) = (Client::new(1), Client::new(2));
    let request = world.with_document(&Ask::of(&host));
    let mine = enrolment(&world.ask(&request).await.unwrap());
    let ask = Ask {
        instance: OTHER,
        document: document(OTHER, "2026-02-16T00:38:27Z"),
        identity: OTHER_INSTANCE,
        ..Ask::of(&other)
    };
    let theirs = enrolment(&world.ask(&world.with_document(&ask)).await.unwrap());
    let commands: Vec<&str> = blocks("sh")
        .iter()
        .flat_map(|block| block.lines())
        .collect();
    assert_eq!(commands.len(), 11, "{commands:?}");
    for command in commands {
        let line = command
            .replace("00112233445566778899aabbccddeeff", &mine)
            .replace("ffeeddccbbaa99887766554433221100", &theirs)
            .replace("\"disk was copied\"", "disk");
        let arguments: Vec<&str> = line.split(' ').collect();
        let Some(arguments) = arguments.strip_prefix(&["eic-ca", "hosts"]) else {
            panic!("{command}")
        };
        if let Err(error) = world.hosts(arguments) {
            panic!("{command}: {error}");
        }
        if command.starts_with("eic-ca hosts approve") {
            world.certified(&world.with_document(&Ask::of(&host))).await;
        }
    }
    assert!(world.hosts(&["show", HOST]).is_err(), "it was removed");
}

fn enrolment(answer: &HostCertificateResponse) -> String {
    match answer {
        HostCertificateResponse::AwaitingApproval { enrolment, .. } => enrolment.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_configuration_of_the_page_is_read_and_its_mistakes_are_named() {
    let world = World::new().await;
    let config = std::fs::read_to_string(world.path("eic-ca.toml")).unwrap();
    let inventory = "\n[[inventory.ec2]]\naccount = \"111122223333\"\nregions = [\"eu-west-1\"]\n";
    let page = blocks("toml").concat();
    let read = |text: &str| Config::parse(Path::new("eic-ca.toml"), text);
    let whole = format!("{config}{inventory}{page}");
    assert_eq!(read(&whole).unwrap().hosts.accounts.len(), 1);
    for (wrong, key) in [
        (format!("{config}{page}"), "needs an [[inventory.ec2]]"),
        (
            whole.replace("first_enrolment = \"console\"", ""),
            "first_enrolment",
        ),
        (whole.replace("\"console\"", "\"trust\""), "first_enrolment"),
        (whole.replace("\"console\"", "\"token\""), "harvest"),
        (whole.replace("= 60 ", "= 0 "), "watch_seconds"),
        (
            whole.replace("identity_certificates =", "# "),
            "identity_certificates",
        ),
        (whole.replace("issuer =", "# "), "issuer"),
        (
            whole.replace("\"web-identity\"", "\"host-key\""),
            "evidence",
        ),
        (whole.replace("86400", "86401"), "certificate_ttl_seconds"),
        (
            whole.replace("issuer = \"https://", "issuer = \"http://"),
            "issuer",
        ),
    ] {
        let error = read(&wrong).unwrap_err().to_string();
        assert!(error.contains(key), "{key}: {error}");
    }
}
