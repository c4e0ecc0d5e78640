//! `mssh`, `msftp` and `eic-login ssh --instance-id`: exit codes and messages first, then real logins.

use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use crate::scene::{Scene, output, program, said};
use crate::stub::{INSTANCE, OTHER_INSTANCE};

/// This program under another name.
fn named(scene: &Scene, name: &str, args: &[&str]) -> Command {
    let link = scene.world.dir.path().join(name);
    if !link.exists() {
        symlink(program(), &link).unwrap();
    }
    let mut command = Command::new(link);
    command.args(args);
    scene.environment(&mut command);
    command
}

fn login(scene: &Scene) -> String {
    format!("{}@{INSTANCE}", scene.user)
}

#[tokio::test]
async fn wrong_lines_and_unknown_instances_end_as_documented_and_start_no_ssh() {
    let scene = Scene::new().await;
    scene.world.state().instances.clear();
    for (args, code, stdout, stderr) in [
        (&[][..], 1, "Missing target\nusage: mssh", ""),
        (
            &["-i", "key", INSTANCE],
            1,
            "'-i' is not supported when using mssh",
            "",
        ),
        (
            &["-r"],
            2,
            "",
            "mssh: error: argument -r/--region: expected one argument",
        ),
        (&["-h"], 0, "usage: mssh", ""),
        (
            &[OTHER_INSTANCE],
            1,
            "An error occurred (InvalidInstanceID.NotFound) when calling the DescribeInstances operation: ",
            "",
        ),
    ] {
        let out = output(named(&scene, "mssh", args)).await;
        assert_eq!(out.status.code(), Some(code), "{args:?}: {}", said(&out));
        assert!(
            String::from_utf8_lossy(&out.stdout).contains(stdout),
            "{args:?}: {}",
            said(&out)
        );
        assert!(
            String::from_utf8_lossy(&out.stderr).contains(stderr),
            "{args:?}: {}",
            said(&out)
        );
    }
    assert!(scene.world.state().pushes.is_empty());
}

#[tokio::test]
async fn words_of_the_remote_command_never_meet_a_local_shell_and_its_exit_code_is_ours() {
    // H-03
    let scene = Scene::new().await;
    let (port, login) = (scene.port.to_string(), login(&scene));
    let mark = scene.world.dir.path().join("local");
    let command = format!("echo \"$SSH_CONNECTION\" > {}; exit 7", mark.display());
    let out = output(named(&scene, "mssh", &["-p", &port, &login, &command])).await;
    assert_eq!(out.status.code(), Some(7), "{}", said(&out));
    // Run by the remote shell, which has a connection.
    assert!(
        std::fs::read_to_string(&mark)
            .unwrap()
            .contains("127.0.0.1")
    );
    assert_eq!(scene.world.state().pushes, [login]);
}

#[tokio::test]
async fn an_address_of_ones_own_is_used_instead_of_the_instances() {
    let scene = Scene::new().await;
    let (port, user) = (scene.port.to_string(), format!("{}@127.0.0.1", scene.user));
    let out = output(named(
        &scene,
        "mssh",
        &["-t", INSTANCE, "-p", &port, &user, "echo", "in"],
    ))
    .await;
    assert!(
        out.status.success() && out.stdout == b"in\n",
        "{}",
        said(&out)
    );
    assert!(scene.service.state().tunnels.is_empty());
}

/// A role that may push and nothing else.
fn forbid(scene: &Scene) {
    let refused = ("DescribeInstances", "UnauthorizedOperation");
    scene.world.state().aws_refuses = Some(refused);
}

#[tokio::test]
async fn who_may_not_look_up_and_gives_no_address_reaches_nothing() {
    let scene = Scene::new().await;
    forbid(&scene);
    let login = login(&scene);
    let port = scene.port.to_string();
    let eice = ["--connection-type", "eice", "--instance-ip", "127.0.0.1"];
    let ssh = ["ssh", "--instance-id", INSTANCE, "--os-user", &scene.user];
    for (code, command) in [
        (
            1,
            named(&scene, "mssh", &["-z", "eu-west-1a", "-p", &port, &login]),
        ),
        (255, scene.eic(&ssh)),
        (
            4,
            scene.eic(&[&ssh[..], &["--private-key-file", "k"]].concat()),
        ),
        (255, scene.eic(&[&ssh[..], &eice].concat())),
    ] {
        let out = output(command).await;
        let look_up = "cannot look up the host (ec2:DescribeInstances)";
        assert!(
            out.status.code() == Some(code) && said(&out).contains(look_up),
            "{code}: {}",
            said(&out)
        );
    }
    assert!(scene.world.state().pushes.is_empty());
}

#[tokio::test]
async fn who_may_only_push_gets_in_at_an_address_of_his_own() {
    let scene = Scene::new().await;
    forbid(&scene);
    let port = scene.port.to_string();
    let user = format!("{}@127.0.0.1", scene.user);
    let line = ["-t", INSTANCE, "-z", "eu-west-1a", "-p", &port, &user];
    let out = output(named(
        &scene,
        "mssh",
        &[&line[..], &["echo", "in"]].concat(),
    ))
    .await;
    assert!(
        out.status.success() && out.stdout == b"in\n",
        "{}",
        said(&out)
    );
    let pushed_in = scene.world.state().pushed_in.clone();
    assert_eq!(pushed_in, ["eu-west-1 eu-west-1a"]);
    // No command can be named there: the shell ends with its empty input.
    let direct = ["--connection-type", "direct", "--instance-ip", "127.0.0.1"];
    let line = ["ssh", "--instance-id", INSTANCE, "--os-user", &scene.user];
    let at = ["--ssh-port", &port];
    let out = output(scene.eic(&[&line[..], &direct, &at].concat())).await;
    assert!(out.status.success(), "{}", said(&out));
    assert_eq!(scene.world.state().pushes.len(), 2);
}

#[tokio::test]
async fn msftp_fetches_a_file() {
    let scene = Scene::new().await;
    let dir = scene.world.dir.path();
    std::fs::write(dir.join("there"), "content").unwrap();
    let from = format!("{}:{}", login(&scene), dir.join("there").display());
    let mut command = named(&scene, "msftp", &["-P", &scene.port.to_string(), &from]);
    let here = tempfile::tempdir().unwrap();
    command.current_dir(here.path());
    let out = output(command).await;
    assert!(out.status.success(), "{}", said(&out));
    assert_eq!(
        std::fs::read_to_string(here.path().join("there")).unwrap(),
        "content"
    );
}

#[tokio::test]
async fn a_script_of_awss_client_changes_one_word() {
    let scene = Scene::new().await;
    let port = scene.port.to_string();
    let options = [
        "ssh",
        "--instance-id",
        INSTANCE,
        "--os-user",
        &scene.user,
        "--ssh-port",
        &port,
    ];
    let wrong = [
        &options[..],
        &[
            "--connection-type",
            "direct",
            "--eice-options",
            "endpointId=eice-01234567",
        ],
    ]
    .concat();
    let out = output(scene.eic(&wrong)).await;
    assert_eq!(out.status.code(), Some(2), "{}", said(&out));
    let right = [
        &options[..],
        &[
            "--eice-options",
            "maxTunnelDuration=120",
            "--region",
            "eu-west-1",
        ],
    ]
    .concat();
    let mut command = scene.eic(&right);
    let mut ssh = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    ssh.stdin
        .take()
        .unwrap()
        .write_all(b"echo in; exit 3\n")
        .unwrap();
    let out = tokio::task::spawn_blocking(move || ssh.wait_with_output().unwrap())
        .await
        .unwrap();
    assert!(
        out.status.code() == Some(3) && said(&out).contains("in\n"),
        "{}",
        said(&out)
    );
    assert_eq!(scene.service.state().tunnels[0]["maxTunnelDuration"], "120");
}
