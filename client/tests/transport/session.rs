//! Plain ssh through Session Manager: what is refused, a login, bulk data over a channel that loses messages.

use crate::scene::{Scene, output, said};
use crate::session_service::started;
use crate::stub::{INSTANCE, wait_for};

async fn scene(agent: &'static str) -> Scene {
    let scene = Scene::new().await;
    scene
        .world
        .state()
        .aws_answers
        .insert("StartSession", started());
    scene.service.state().agent = agent;
    scene
}

#[tokio::test]
async fn sessions_that_cannot_carry_ssh_are_refused_with_the_reason() {
    for (agent, told) in [
        ("encrypted", "encrypt sessions with a KMS key"),
        ("no port", "nothing listens on that port"),
    ] {
        let scene = scene(agent).await;
        let out = scene.echo("--via ssm").await;
        assert!(
            !out.status.success() && said(&out).contains(told),
            "{agent}: {}",
            said(&out)
        );
    }
    let scene = scene("").await;
    let elsewhere = started().replace(
        "ssmmessages.eu-west-1.amazonaws.com",
        "ssmmessages.eu-west-1.example.com",
    );
    scene
        .world
        .state()
        .aws_answers
        .insert("StartSession", elsewhere);
    let out = scene.echo("--via ssm").await;
    assert!(
        said(&out).contains("nothing is sent there"),
        "{}",
        said(&out)
    );
    assert!(scene.service.state().connects.is_empty());
}

#[tokio::test]
async fn a_login_through_session_manager_ends_its_session() {
    let scene = scene("").await;
    let out = scene.echo("--via ssm").await;
    assert!(
        out.status.success() && out.stdout == b"in\n",
        "{}",
        said(&out)
    );
    let asked = scene.world.state().sessions_started.clone();
    assert!(
        asked[0].contains(INSTANCE) && asked[0].contains("AWS-StartSSHSession"),
        "{asked:?}"
    );
    assert!(
        asked[0].contains(&format!("[\"{}\"]", scene.port)),
        "{asked:?}"
    );
    let state = std::sync::Arc::clone(&scene.service.state);
    wait_for(|| state.lock().unwrap().flags.contains(&2)).await;
}

#[tokio::test]
async fn bulk_data_survives_lost_and_swapped_messages() {
    let scene = scene("lossy").await;
    let (from, to) = (
        scene.world.dir.path().join("from"),
        scene.world.dir.path().join("to"),
    );
    let bytes: Vec<u8> = (0..2_000_000_usize)
        .map(|n| u8::try_from(n % 251).unwrap())
        .collect();
    std::fs::write(&from, &bytes).unwrap();
    let remote = format!("{INSTANCE}:{}", to.display());
    let up =
        output(scene.through("scp", "--via ssm", &["-q", from.to_str().unwrap(), &remote])).await;
    assert!(up.status.success(), "{}", said(&up));
    assert!(std::fs::read(&to).unwrap() == bytes);
    std::fs::remove_file(&from).unwrap();
    let down =
        output(scene.through("scp", "--via ssm", &["-q", &remote, from.to_str().unwrap()])).await;
    assert!(down.status.success(), "{}", said(&down));
    assert!(std::fs::read(&from).unwrap() == bytes);
}

#[tokio::test]
async fn the_reason_for_the_end_of_a_session_reaches_the_user() {
    let scene = scene("closes").await;
    let out = scene
        .ssh("--via ssm", &[INSTANCE, "head -c 1000000 /dev/zero"])
        .await;
    let told = String::from_utf8_lossy(&out.stderr);
    assert!(
        !out.status.success() && told.contains("maximum session duration"),
        "{told}"
    );
}
