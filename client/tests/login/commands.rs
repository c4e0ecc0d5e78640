//! The commands for people and jobs, as they are typed, against the stand-ins.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Output;

use eic_protocol::api::instance::Enrolment;

use crate::real_ssh::{Scene, said};
use crate::stub::{INSTANCE, public};

async fn run(scene: &Scene, args: &[&str]) -> Output {
    let mut command = scene.eic(args);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    output.await.unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", said(output)))
}

#[tokio::test]
async fn hosts_inventory_and_completion_go_on_without_the_network() {
    let scene = Scene::new(Some(INSTANCE)).await;
    scene.world.state().users = vec!["ubuntu".to_owned()];
    let listed = json(&run(&scene, &["hosts", "--json", "web"]).await);
    assert_eq!(listed[0]["id"], INSTANCE);
    assert_eq!(listed[0]["ways_in"], serde_json::json!(["certificate"]));
    let inventory = json(&run(&scene, &["inventory", "--list"]).await);
    let host = &inventory["_meta"]["hostvars"][INSTANCE];
    assert_eq!(host["ansible_user"], "ubuntu");
    // From here on nothing answers.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    scene.world.configure(Some(&nobody), Vec::new());
    for args in [&["hosts", "--json", "--cached"][..], &["hosts", "--cached"]] {
        let cached = run(&scene, args).await;
        assert!(said(&cached).contains(INSTANCE), "{}", said(&cached));
    }
    let one = run(&scene, &["inventory", "--cached", "--host", INSTANCE]).await;
    assert_eq!(json(&one)["ansible_host"], INSTANCE);
    let completed = run(&scene, &["complete-host", "ubuntu@we"]).await;
    assert_eq!(String::from_utf8_lossy(&completed.stdout), "ubuntu@web-1\n");
    let none = run(&scene, &["hosts", "--cached", "db"]).await;
    assert!(said(&none).contains("no such host"), "{}", said(&none));
}

#[tokio::test]
async fn a_key_of_ones_own_is_pushed_under_the_rules_of_a_login() {
    // H-13, H-18
    let scene = Scene::new(None).await;
    scene.world.state().enrolment = Enrolment::Unknown;
    let file = scene.world.dir.path().join("own.pub");
    std::fs::write(&file, format!("{} alice@laptop\n", public(50))).unwrap();
    let key = format!("file://{}", file.display());
    let refused = run(&scene, &["push", "ubuntu@web-1", "--key", &key]).await;
    assert_eq!(refused.status.code(), Some(4), "{}", said(&refused));
    assert!(
        said(&refused).contains("a certificate opens"),
        "{}",
        said(&refused)
    );
    scene.world.configure(None, Vec::new());
    for args in [
        &["push", "ubuntu@web-1", "--key", &key, "--json"][..],
        &[
            "push",
            "--instance-id",
            INSTANCE,
            "--instance-os-user",
            "ubuntu",
            "--ssh-public-key",
            &key,
            "--json",
        ],
    ] {
        let pushed = run(&scene, args).await;
        assert_eq!(json(&pushed)["Success"], true, "{}", said(&pushed));
    }
    let console = run(
        &scene,
        &["push", "web-1", "--serial-console", "--key", &key],
    )
    .await;
    let address = format!("{INSTANCE}.port0@serial-console.ec2-instance-connect.eu-west-1.aws");
    assert!(said(&console).contains(&address), "{}", said(&console));
    let pushes = scene.world.state().pushes.clone();
    let ubuntu = format!("ubuntu@{INSTANCE}");
    assert_eq!(
        pushes,
        [ubuntu.clone(), ubuntu, format!("console 0@{INSTANCE}")]
    );
    scene.world.tag("eic:enrolled", "true");
    // Another name: what was found under the first one is kept for a moment.
    let enrolled = run(&scene, &["push", "ubuntu@web-2", "--key", &key]).await;
    assert_eq!(enrolled.status.code(), Some(4), "{}", said(&enrolled));
    assert_eq!(scene.world.state().pushes.len(), 3);
    let nobody = run(&scene, &["push", "web-1", "--key", &key]).await;
    assert_eq!(nobody.status.code(), Some(2), "{}", said(&nobody));
}

#[tokio::test]
async fn a_key_is_pushed_by_id_where_ec2_may_not_be_asked_and_never_by_name() {
    let scene = Scene::new(None).await;
    scene.world.configure(None, Vec::new());
    scene.world.state().aws_refuses = Some(("DescribeInstances", "UnauthorizedOperation"));
    let file = scene.world.dir.path().join("own.pub");
    std::fs::write(&file, public(50).to_string()).unwrap();
    let key = format!("file://{}", file.display());
    let push = |host| {
        let user = ["--instance-os-user", "ubuntu"];
        let key = ["--ssh-public-key", &key, "--json"];
        [&["push", "--instance-id", host][..], &user, &key].concat()
    };
    let refused = run(&scene, &push("web-1")).await;
    assert!(
        refused.status.code() == Some(4) && said(&refused).contains("ec2:DescribeInstances"),
        "{}",
        said(&refused)
    );
    // What AWS's command is told beside it counts: here it names another place than the instance's, and nobody's keys.
    for (option, value, why) in [
        ("--availability-zone", "us-east-1a", "ec2:DescribeInstances"),
        ("--availability-zone", "somewhere", "not a valid zone"),
        ("--region", "eu-west-9", "not a Region"),
        ("--profile", "nobody", "--profile nobody"),
    ] {
        let refused = run(&scene, &[&push(INSTANCE)[..], &[option, value]].concat()).await;
        assert!(!refused.status.success(), "{option} {value}");
        assert!(said(&refused).contains(why), "{}", said(&refused));
    }
    assert!(scene.world.state().pushes.is_empty());
    let there = ["--availability-zone", "eu-west-1a", "--region", "eu-west-1"];
    for options in [&[][..], &there] {
        let pushed = run(&scene, &[&push(INSTANCE)[..], options].concat()).await;
        assert_eq!(json(&pushed)["Success"], true, "{}", said(&pushed));
    }
    let once = format!("ubuntu@{INSTANCE}");
    assert_eq!(scene.world.state().pushes, [once.clone(), once]);
}

#[tokio::test]
async fn the_status_is_told_to_scripts_with_and_without_an_agent() {
    // H-05
    let scene = Scene::new(Some(INSTANCE)).await;
    let before = json(&run(&scene, &["status", "--json"]).await);
    assert!(
        before["agent"].is_null() && before["set_up"] == false,
        "{before}"
    );
    run(&scene, &["hosts"]).await;
    let status = run(&scene, &["status", "--json"]).await;
    let sessions = &json(&status)["agent"]["sessions"];
    assert_eq!(sessions[0]["caller"]["name"], "alice");
    assert!(!said(&status).contains("grant."), "{}", said(&status));
}

#[tokio::test]
async fn what_a_login_would_do_is_explained_by_name() {
    let scene = Scene::new(None).await;
    scene.world.state().enrolment = Enrolment::Legacy;
    let told = run(&scene, &["explain", "web-1", "--user", "ubuntu"]).await;
    let text = said(&told);
    assert!(
        text.contains("as the CA says") && text.contains("a key is pushed"),
        "{text}"
    );
    let told = json(&run(&scene, &["explain", "ubuntu@web-1", "--json"]).await);
    assert_eq!(told["host"]["id"], INSTANCE);
    assert!(scene.world.state().pushes.is_empty());
}

#[tokio::test]
async fn the_consoles_addresses_come_from_the_published_document() {
    let scene = Scene::new(Some(INSTANCE)).await;
    let document = r#"{"prefixes":[{"ip_prefix":"18.202.216.48/29","region":"eu-west-1","service":"EC2_INSTANCE_CONNECT"}]}"#;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/ip-ranges.json", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let length = document.len();
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
            stream.write_all((head + document).as_bytes()).unwrap();
        }
    });
    let file = scene.world.paths.config_file();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("ip_ranges_url = \"{url}\"\n{text}")).unwrap();
    let printed = run(&scene, &["allowlist", "--region", "eu-west-1"]).await;
    assert_eq!(
        String::from_utf8_lossy(&printed.stdout),
        "18.202.216.48/29\n"
    );
    let group = run(
        &scene,
        &["allowlist", "--region", "eu-west-1", "--format", "sg"],
    )
    .await;
    assert_eq!(json(&group)[0]["FromPort"], 22);
    let none = run(&scene, &["allowlist", "--region", "us-east-1"]).await;
    assert_eq!(none.status.code(), Some(1), "{}", said(&none));
}

/// The same person with another `XDG_CONFIG_HOME`, whose configuration is `text`.
async fn run_with(scene: &Scene, text: Option<&str>, args: &[&str]) -> Output {
    let home = scene.world.dir.path().join("elsewhere");
    if let Some(text) = text {
        crate::files::private_dir(&home.join("eic")).unwrap();
        std::fs::write(home.join("eic/config.toml"), text).unwrap();
    }
    let mut command = scene.eic(args);
    command.env("XDG_CONFIG_HOME", home);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    output.await.unwrap()
}

#[tokio::test]
async fn each_caller_gets_his_own_configuration_whoever_started_the_agent() {
    // D22: with the other one, a key would be pushed that no CA hears of.
    let scene = Scene::new(None).await;
    let asked = ["explain", "ubuntu@web-1", "--json"];
    let with_ca = json(&run(&scene, &asked).await);
    assert_eq!(with_ca["told_by_ca"], true, "{with_ca}");
    let without = json(&run_with(&scene, Some(""), &asked).await);
    assert_eq!(without["told_by_ca"], false, "{without}");
    let with_ca = json(&run(&scene, &asked).await);
    assert_eq!(with_ca["told_by_ca"], true, "{with_ca}");
    // The status is another's business, and stays.
    let status = run_with(&scene, None, &["status"]).await;
    assert!(
        said(&status).contains("goes by another configuration"),
        "{}",
        said(&status)
    );
    let status = json(&run(&scene, &["status", "--json"]).await);
    assert!(status["agent"]["pid"].is_number(), "{status}");
}

#[tokio::test]
async fn whoever_would_end_somebodys_login_with_another_configuration_is_refused() {
    let scene = Scene::new(Some(INSTANCE)).await;
    let login = scene.ssh(&["web-1", "true"]).await;
    assert!(login.status.success(), "{}", said(&login));
    let refused = run_with(&scene, Some(""), &["explain", "ubuntu@web-1"]).await;
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    let told = "give one of them a `run_dir` of its own";
    assert!(said(&refused).contains(told), "{}", said(&refused));
    let own = format!("run_dir = \"{}/own\"\n", scene.world.dir.path().display());
    let apart = run_with(&scene, Some(&own), &["explain", "ubuntu@web-1"]).await;
    assert!(apart.status.success(), "{}", said(&apart));
    run_with(&scene, None, &["logout"]).await;
}

/// As setup leaves it, with a block for `web-*`.
fn set_up(scene: &Scene) {
    let ssh = &scene.world.paths.ssh_dir;
    crate::files::private_dir(ssh).unwrap();
    std::fs::write(ssh.join("config"), "Include eic.config\n").unwrap();
    let block = scene.world.dir.path().join("ssh_config");
    std::fs::copy(block, ssh.join("eic.config")).unwrap();
}

#[tokio::test]
async fn the_wrapper_leads_here_for_hosts_that_no_installed_pattern_covers() {
    // H-10: plain ssh would go where DNS leads, with the user's own keys and policy.
    let scene = Scene::new(None).await;
    set_up(&scene);
    let shown = said(&run(&scene, &["ssh", "-G", "db-1.example.org"]).await);
    for told in [
        "eic-login' connect --dir ",
        "stricthostkeychecking true",
        "userknownhostsfile /dev/null",
    ] {
        assert!(shown.contains(told), "{told}: {shown}");
    }
}

#[tokio::test]
async fn a_missing_file_is_no_client_without_a_ca_where_ssh_was_set_up() {
    // D22: cron knows no XDG_CONFIG_HOME.
    let scene = Scene::new(None).await;
    set_up(&scene);
    let refused = run_with(&scene, None, &["explain", "ubuntu@web-1"]).await;
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(
        said(&refused).contains("XDG_CONFIG_HOME"),
        "{}",
        said(&refused)
    );
    let config = scene.world.dir.path().join("ssh_config");
    let mut plain = std::process::Command::new("ssh");
    plain.arg("-F").arg(config).args(["ubuntu@web-1", "true"]);
    scene.environment(&mut plain);
    plain.env("XDG_CONFIG_HOME", scene.world.dir.path().join("elsewhere"));
    let plain = tokio::task::spawn_blocking(move || plain.output().unwrap());
    let plain = plain.await.unwrap();
    assert!(said(&plain).contains("XDG_CONFIG_HOME"), "{}", said(&plain));
    assert!(scene.world.state().pushes.is_empty());
}

#[tokio::test]
async fn hosts_are_listed_where_nothing_can_be_kept() {
    let scene = Scene::new(Some(INSTANCE)).await;
    // A file where the folder would be: root may write everywhere else.
    let cache = &scene.world.paths.cache_dir;
    std::fs::create_dir_all(cache.parent().unwrap()).unwrap();
    std::fs::write(cache, "").unwrap();
    for args in [&["hosts", "--json"][..], &["inventory", "--list"]] {
        let listed = run(&scene, args).await;
        assert!(listed.status.success(), "{}", said(&listed));
        assert!(json(&listed).to_string().contains(INSTANCE));
        assert!(
            said(&listed).contains("cannot be kept"),
            "{}",
            said(&listed)
        );
    }
}
