//! Plain ssh through Session Manager: what is refused, a login, bulk data over a channel that loses messages.

use eic_login::config::HostProfile;
use eic_login::transport::ssm::SessionBy;

use crate::scene::{STOP_PARENT, Scene, output, said};
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

/// A stand-in for AWS's plugin of this version, in a folder of its own: writes down how it was started, has the login
/// stopped and go on, and connects stdin and stdout to the scene's sshd.
fn with_plugin(scene: &Scene, version: &str) -> String {
    let folder = scene.world.dir.path().join("plugin");
    std::fs::create_dir(&folder).unwrap();
    let log = folder.join("started").display().to_string();
    let script = format!(
        "#!/bin/bash\n\
         [ \"$1\" = --version ] && {{ export > {log}.asked; echo {version}; exit; }}\n\
         {{ printf '%s\\n' \"$@\"; echo \"$AWS_SSM_START_SESSION_RESPONSE\"; echo \"$AWS_ACCESS_KEY_ID\"; }} > {log}\n\
         {STOP_PARENT}\
         printf '\\nStarting session with SessionId: alice-0a1b\\n'\n\
         exec 3<>/dev/tcp/127.0.0.1/{}\n\
         cat <&3 &\n\
         cat >&3\n\
         kill $!\n",
        scene.port
    );
    let program = folder.join("session-manager-plugin");
    crate::testing::write_program(&program, &script);
    let path = std::env::var("PATH").unwrap();
    format!("{}:{path}", folder.display())
}

async fn echo(scene: &Scene, path: &str) -> std::process::Output {
    let mut command = scene.through("ssh", "--via ssm", &[INSTANCE, "echo in"]);
    command.env("PATH", path);
    output(command).await
}

fn started_as(scene: &Scene) -> Vec<String> {
    let log = scene.world.dir.path().join("plugin/started");
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_plugin_that_shows_the_token_to_everybody_is_not_started() {
    // H-05
    let scene = scene("encrypted").await;
    let path = with_plugin(&scene, "1.2.497.0");
    let out = echo(&scene, &path).await;
    let told = said(&out);
    assert!(
        !out.status.success() && told.contains("after 1.2.497.0 is needed"),
        "{told}"
    );
    assert!(started_as(&scene).is_empty());
}

#[tokio::test]
async fn without_the_plugin_that_is_configured_no_session_is_started() {
    let scene = scene("").await;
    by_plugin(&scene);
    let out = scene.echo("--via ssm").await;
    let told = said(&out);
    assert!(
        !out.status.success() && told.contains("session-manager-plugin is not installed"),
        "{told}"
    );
    assert!(scene.world.state().sessions_started.is_empty());
}

fn by_plugin(scene: &Scene) {
    let profile = HostProfile {
        pattern: "i-*".to_owned(),
        ssm: SessionBy::Plugin,
        ..HostProfile::default()
    };
    scene.world.configure(None, vec![profile]);
}

#[tokio::test]
async fn the_plugin_is_started_as_awss_own_client_does() {
    let scene = scene("").await;
    by_plugin(&scene);
    let path = with_plugin(&scene, "1.2.707.0");
    let out = echo(&scene, &path).await;
    assert!(
        out.status.success() && out.stdout == b"in\n",
        "{}",
        said(&out)
    );
    // AWS CLI v2, `ssm start-session`; the token is in the environment only.
    let parameters: serde_json::Value = serde_json::json!({
        "Target": INSTANCE, "DocumentName": "AWS-StartSSHSession",
        "Parameters": { "portNumber": [scene.port.to_string()] },
    });
    let told = started_as(&scene);
    let [
        name,
        region,
        operation,
        profile,
        asked,
        endpoint,
        response,
        key,
    ] = told.as_slice()
    else {
        panic!("{told:?}")
    };
    assert_eq!(
        [name, region, operation, profile],
        [
            "AWS_SSM_START_SESSION_RESPONSE",
            "eu-west-1",
            "StartSession",
            ""
        ]
    );
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(json(asked), parameters);
    assert_eq!(*endpoint, scene.world.aws);
    assert_eq!(json(response), json(&started()));
    assert_eq!(key, "AKIAIOSFODNN7EXAMPLE");
    // Who is only asked for a version gets no credentials.
    let asked = scene.world.dir.path().join("plugin/started.asked");
    let asked = std::fs::read_to_string(asked).unwrap();
    assert!(
        asked.contains("PATH=") && !asked.contains("AWS_"),
        "{asked}"
    );
    assert_eq!(scene.world.state().sessions_started.len(), 1);
    assert!(scene.service.state().connects.is_empty());
}

#[tokio::test]
async fn an_encrypted_session_goes_through_the_installed_plugin() {
    let scene = scene("encrypted").await;
    let path = with_plugin(&scene, "1.2.707.0");
    let out = echo(&scene, &path).await;
    assert!(
        out.status.success() && out.stdout == b"in\n",
        "{}",
        said(&out)
    );
    assert_eq!(scene.world.state().sessions_started.len(), 2);
    // The one that was started in vain is not left to time out.
    assert_eq!(scene.service.state().declined, 1);
}
