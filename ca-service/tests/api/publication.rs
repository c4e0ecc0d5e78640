//! Bundle and views in a folder: by the command, and by the service itself.

use std::process::Command;
use std::time::{Duration, Instant};

use eic_protocol::api::trust_bundle::TrustBundleResponse;

use crate::client::Client;
use crate::http_stub::{HttpStub, response};
use crate::trust_bundle::{bundle, enrol, state_of};
use crate::trust_commands::{done, refused};
use crate::world::{NOBODYS, NOW, WEB, World};

/// The documents as a host reads them from a published folder.
fn published(world: &World) -> Option<TrustBundleResponse> {
    let bytes = std::fs::read(world.path("www/trust-bundle.json")).ok()?;
    let mut response = TrustBundleResponse::parse(&bytes).unwrap();
    let view = std::fs::read(world.path(&format!("www/hosts/{WEB}.json"))).ok();
    response.view = view.map(|view| serde_json::from_slice(&view).unwrap());
    Some(response)
}

#[tokio::test]
async fn a_place_that_is_none_is_refused() {
    let world = World::new().await;
    for (args, expected) in [
        (&["bundle", "publish"][..], "name a place"),
        (&["bundle", "publish", "--to", "s3://eic-trust"], "--region"),
        (
            &[
                "bundle",
                "publish",
                "--to",
                "s3://X",
                "--region",
                "eu-west-1",
            ],
            "is not `s3://bucket/prefix`",
        ),
        (
            &["bundle", "publish", "--to", "www", "--region", "eu-west-1"],
            "this is a folder",
        ),
    ] {
        let told = refused(&world, args).await;
        assert!(told.contains(expected), "{told}");
    }
}

/// A host of which nothing is known in the file, while EC2 refuses to tell.
#[tokio::test]
async fn a_host_whose_view_is_not_known_is_named_and_the_others_are_published() {
    let ec2 = HttpStub::start(|_| response(500, NOW, "<Response/>")).await;
    let world = World::new().await;
    for host in [WEB, NOBODYS] {
        enrol(&world, host).await;
    }
    let config = std::fs::read_to_string(world.path("eic-ca.toml")).unwrap();
    let ec2 = format!(
        "\n[[inventory.ec2]]\naccount = \"111122223333\"\nregions = [\"eu-west-1\"]\nendpoint_override = \"{}\"\n",
        ec2.origin()
    );
    world.write("with-ec2.toml", &(config + &ec2));
    let mut command = Command::new(env!("CARGO_BIN_EXE_eic-ca"));
    command
        .args([
            "bundle",
            "publish",
            "--to",
            "www",
            "--config",
            "with-ec2.toml",
        ])
        .env("AWS_ACCESS_KEY_ID", "AKIAABCDEFGHIJKLMNOP")
        .env("AWS_SECRET_ACCESS_KEY", "not-a-secret")
        .current_dir(world.path("."));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains(&format!("eic-ca: {NOBODYS}: failed to renew the view")),
        "{told}"
    );
    assert!(told.contains("publish 1 host views"), "{told}");
    let www = |host: &str| world.path(&format!("www/hosts/{host}.json"));
    assert!(www(WEB).exists() && !www(NOBODYS).exists());
}

#[tokio::test]
async fn the_command_publishes_what_a_host_believes() {
    let world = World::new().await;
    world.clock.set(crate::program::real_now());
    enrol(&world, WEB).await;
    let told = done(&world, &["bundle", "publish", "--to", "www"]).await;
    assert!(told.contains("1 host views to www"), "{told}");
    let response = published(&world).unwrap();
    let state = state_of(&world, WEB, &response);
    let view = &state.view().unwrap().document;
    assert_eq!(view.instance.as_str(), WEB);
    // Hosts that are not ours have no view.
    let views = std::fs::read_dir(world.path("www/hosts")).unwrap();
    assert_eq!(views.count(), 1);
}

#[tokio::test]
async fn the_service_publishes_each_change_by_itself() {
    let world =
        World::with(|config| config + "\n[publish]\nto = \"www\"\nevery_seconds = 1\n").await;
    enrol(&world, WEB).await;
    let key = Client::new(7).public.to_string();
    done(&world, &["revoke", "key", &key, "--reason", "lost"]).await;
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let response = published(&world);
        let complete = response.is_some_and(|response| {
            let krl = bundle(&response).revocations.read().unwrap();
            response.view.is_some() && krl.count() == 1
        });
        if complete {
            break;
        }
        assert!(Instant::now() < end, "not published");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let state = state_of(&world, WEB, &published(&world).unwrap());
    assert!(state.view().is_some());
}
