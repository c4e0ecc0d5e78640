//! Hosts behind other hosts of ours: the ssh that leads to the bastion starts this program again.

use std::process::Output;
use std::time::{Duration, Instant};

use eic_login::transport::{Via, Way};

use crate::config::HostProfile;
use crate::scene::{STOP_PARENT, Scene, output, said};
use crate::stub::{INSTANCE, OTHER_INSTANCE};
use crate::testing::write_program;

/// Two instances, both this machine; the inner ssh reads the scene's configuration, as a user's own would.
async fn scene() -> Scene {
    let scene = Scene::new().await;
    scene.world.state().address = "127.0.0.1".to_owned();
    scene.world.state().by_filter =
        [(OTHER_INSTANCE.to_owned(), vec![OTHER_INSTANCE.to_owned()])].into();
    std::fs::create_dir(scene.world.dir.path().join("bin")).unwrap();
    inner_ssh(&scene, "");
    scene
}

/// The ssh to the bastion, which does `first` before it begins.
fn inner_ssh(scene: &Scene, first: &str) {
    let shim = format!(
        "#!/bin/sh\n{first}exec /usr/bin/ssh -F {} \"$@\"\n",
        scene.config().display()
    );
    write_program(&scene.world.dir.path().join("bin/ssh"), &shim);
}

fn profile(scene: &Scene, pattern: &str, bastion: &str) -> HostProfile {
    let bastion = format!("{}@{bastion}:{}", scene.user, scene.port);
    HostProfile {
        pattern: pattern.to_owned(),
        via: Via::Only(Way::Bastion),
        bastion: Some(bastion.parse().unwrap()),
        ..HostProfile::default()
    }
}

async fn echo(scene: &Scene, via: &str, host: &str) -> Output {
    let bin = scene.world.dir.path().join("bin");
    let mut command = scene.through("/usr/bin/ssh", via, &[host, "echo in"]);
    command.env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
    output(command).await
}

#[tokio::test]
async fn bastions_that_lead_back_to_the_host_end_with_one_clear_error() {
    let scene = scene().await;
    let profiles = vec![
        profile(&scene, INSTANCE, OTHER_INSTANCE),
        profile(&scene, OTHER_INSTANCE, INSTANCE),
    ];
    scene.world.configure(None, profiles);
    let begun = Instant::now();
    let refused = echo(&scene, "", INSTANCE).await;
    let told = format!("{INSTANCE} behind {OTHER_INSTANCE} behind {INSTANCE}");
    let text = said(&refused);
    assert!(!refused.status.success(), "{text}");
    assert_eq!(text.matches(&told).count(), 1, "{text}");
    assert!(begun.elapsed() < Duration::from_secs(30), "{text}");
    // By hand too.
    scene.world.configure(None, Vec::new());
    let nobody = format!("--via bastion --bastion {INSTANCE}");
    let refused = echo(&scene, &nobody, INSTANCE).await;
    assert!(!refused.status.success(), "{}", said(&refused));
}

#[tokio::test]
async fn a_profile_that_covers_its_own_bastion_leads_through_it() {
    let scene = scene().await;
    let profiles = vec![profile(&scene, "i-*", OTHER_INSTANCE)];
    scene.world.configure(None, profiles);
    let out = echo(&scene, "", INSTANCE).await;
    assert!(out.stdout == b"in\n", "{}", said(&out));
    let pushes = scene.world.state().pushes.clone();
    let of = |id: &str| format!("{}@{id}", scene.user);
    assert_eq!(pushes.len(), 2, "{pushes:?}");
    assert!(pushes.contains(&of(INSTANCE)) && pushes.contains(&of(OTHER_INSTANCE)));
}

#[tokio::test]
async fn a_login_that_is_stopped_and_goes_on_waits_for_its_bastion_as_before() {
    let scene = scene().await;
    inner_ssh(&scene, STOP_PARENT);
    scene
        .world
        .configure(None, vec![profile(&scene, INSTANCE, OTHER_INSTANCE)]);
    let out = echo(&scene, "", INSTANCE).await;
    assert!(out.stdout == b"in\n", "{}", said(&out));
}

#[tokio::test]
async fn a_host_behind_a_bastion_is_reached_through_it() {
    let scene = scene().await;
    let bastion = format!(
        "--via bastion --bastion {}@{OTHER_INSTANCE}:{}",
        scene.user, scene.port
    );
    let out = echo(&scene, &bastion, INSTANCE).await;
    assert!(
        out.status.success() && out.stdout == b"in\n",
        "{}",
        said(&out)
    );
    // Once for the bastion, once for the host behind it.
    assert_eq!(scene.world.state().pushes.len(), 2);
    let none = scene.echo("--via bastion").await;
    assert!(
        said(&none).contains("no bastion is named"),
        "{}",
        said(&none)
    );
}
