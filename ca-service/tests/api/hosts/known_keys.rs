//! Keys that a legacy host makes known: not for strangers, not against an enrolled host, and told to who logs in.

use eic_protocol::api::host_certificate::console;
use eic_protocol::api::host_keys::{HostKeysRequest, HostKeysResponse};
use eic_protocol::api::instance::{InstanceView, InstancesQuery, InstancesResponse};
use eic_protocol::api::problem::ProblemCode;

use super::aws::{HOST, HostWorld, MANAGED, OTHER};
use super::requests::{Ask, for_known_keys, with_key, with_token};
use crate::client::{Client, fresh_nonce};
use crate::sts::ALICE;
use crate::world::{code, read};

async fn refused(world: &HostWorld, request: &HostKeysRequest) -> ProblemCode {
    code(&world.post_keys(request).await)
}

/// The host as somebody sees it who may log in there.
async fn seen(world: &HostWorld) -> InstanceView {
    let client = Client::new(99);
    let grant = client.sign_in(&world.world, ALICE).await.grant;
    let query = InstancesQuery {
        host: Some(HOST.to_owned()),
        ..InstancesQuery::default()
    };
    let now = world.world.clock.now();
    let header = client.authorization(&grant, &query, now, fresh_nonce());
    let path = format!("/v1/instances?host={HOST}");
    let headers = [("authorization", header)];
    let answer = world.world.send("GET", &path, &headers, Vec::new()).await;
    let mut found: InstancesResponse = read(&answer).unwrap();
    found.instances.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_whose_rule_is_evidence_alone_makes_no_keys_known_by_itself() {
    // E-11: whoever reads the role's credentials could name a key of his own.
    let world = HostWorld::new("evidence").await;
    let key = Client::new(1);
    let ask = Ask::of(&key);
    let request = for_known_keys(&ask, world.with_web_identity(&ask, |_| {}));
    assert_eq!(
        refused(&world, &request).await,
        ProblemCode::InstanceNotAccepted
    );
    assert!(!world.asked().contains(&"DescribeInstances".to_owned()));
    assert!(seen(&world).await.host_keys.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_for_certificates_makes_no_keys_known() {
    let world = HostWorld::new("approval").await;
    let (key, other) = (Client::new(1), Client::new(2));
    let ask = Ask::of(&key);
    let elsewhere = HostKeysRequest(world.with_web_identity(&ask, |_| {}));
    let mut stolen = for_known_keys(&ask, world.with_web_identity(&ask, |_| {}));
    stolen.0.host_keys[0].public_key = other.public.clone();
    for request in [elsewhere, stolen] {
        assert_eq!(
            refused(&world, &request).await,
            ProblemCode::PossessionNotProven
        );
    }
    assert!(world.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_aws_vouches_for_a_legacy_host() {
    let world = HostWorld::new("approval").await;
    let key = Client::new(1);
    let ask = Ask {
        instance: MANAGED,
        ..Ask::of(&key)
    };
    let token = world.hosts(&["token", "--name", MANAGED]).unwrap();
    let by_token = with_token(&ask, &token.parse().unwrap());
    for request in [by_token, with_key(&ask)] {
        let request = for_known_keys(&ask, request);
        assert_eq!(
            refused(&world, &request).await,
            ProblemCode::EvidenceRefused
        );
    }
    assert!(!world.hosts(&["list"]).unwrap().contains(MANAGED));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_count_only_as_first_keys_would_and_are_told_to_who_may_log_in() {
    let world = HostWorld::new("approval").await;
    let (host, thief) = (Client::new(1), Client::new(2));
    let Ok(HostKeysResponse::AwaitingApproval { enrolment, .. }) =
        world.harvest(&Ask::of(&host)).await
    else {
        panic!("no approval was asked for")
    };
    assert!(seen(&world).await.host_keys.is_empty());
    world.hosts(&["approve", &enrolment.to_string()]).unwrap();
    let known = world.harvest(&Ask::of(&host)).await.unwrap();
    let HostKeysResponse::Known { keys, .. } = known else {
        panic!("{known:?}")
    };
    assert_eq!(keys, std::slice::from_ref(&host.public));
    assert_eq!(seen(&world).await.host_keys, keys);
    // Again, and with another key in place of it.
    let again = world.harvest(&Ask::of(&host)).await.unwrap();
    assert!(matches!(again, HostKeysResponse::Known { .. }));
    let other = world.harvest(&Ask::of(&thief)).await.unwrap();
    assert!(matches!(other, HostKeysResponse::AwaitingApproval { .. }));
    assert_eq!(seen(&world).await.host_keys, keys);
    let vouched = Ask {
        previous: Some(&host),
        ..Ask::of(&thief)
    };
    world.harvest(&vouched).await.unwrap();
    let now = seen(&world).await.host_keys;
    assert_eq!(now, std::slice::from_ref(&thief.public));
    let listed = world.hosts(&["list"]).unwrap();
    assert!(listed.contains("legacy"), "{listed}");
    let audit = world.world.audit();
    assert!(audit.contains("KnowHostKeys") && !audit.contains("EnrolHost"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_legacy_hosts_console_shows_its_keys() {
    let world = HostWorld::new("console").await;
    let host = Client::new(1);
    let Ok(HostKeysResponse::WriteToConsole { challenge, .. }) =
        world.harvest(&Ask::of(&host)).await
    else {
        panic!("no challenge")
    };
    let line = console::line(&HOST.parse().unwrap(), &challenge, [&host.public]);
    world.aws.lock().unwrap().console = format!("{line}\n");
    let ask = Ask {
        challenge: Some(challenge),
        ..Ask::of(&host)
    };
    let known = world.harvest(&ask).await.unwrap();
    assert!(matches!(known, HostKeysResponse::Known { .. }), "{known:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enrolled_host_is_known_by_its_certificate_alone() {
    // E-08, H-18
    let on = |config: String| config.replace("issuer =", "harvest = true\nissuer =");
    let world = HostWorld::configured("evidence", on).await;
    let (host, thief) = (Client::new(1), Client::new(2));
    world.harvest(&Ask::of(&host)).await.unwrap();
    // What it is known by makes a first enrolment with another key need more than the evidence.
    let other = world.ask(&world.with_document(&Ask::of(&thief))).await;
    assert!(
        matches!(
            other,
            Ok(
                eic_protocol::api::host_certificate::HostCertificateResponse::AwaitingApproval { .. }
            )
        ),
        "{other:?}"
    );
    world.certified(&world.with_document(&Ask::of(&host))).await;
    for key in [&host, &thief] {
        let answer = world.harvest(&Ask::of(key)).await.unwrap();
        assert!(matches!(answer, HostKeysResponse::Enrolled { .. }));
    }
    assert!(seen(&world).await.host_keys.is_empty());
    // The thief's key for another host, and that of the enrolled one.
    let clone = Ask {
        instance: OTHER,
        ..Ask::of(&host)
    };
    let problem = world.harvest(&clone).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::HostNotEnrolled);
}
