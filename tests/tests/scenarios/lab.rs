//! The lab itself: namespaces, plain ssh logins through them, and that nothing is left behind.

use std::io::BufRead;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use eic_lab::Lab;
use eic_lab::deadline::wait_for;
use eic_lab::error::Result;
use eic_lab::openssh::TRIXIE;

/// What every ssh here needs: a host that nobody has seen before.
const NEW_HOST: [&str; 4] = [
    "-o",
    "StrictHostKeyChecking=accept-new",
    "-o",
    "BatchMode=yes",
];

#[test]
fn key_that_the_host_does_not_list_is_refused() -> Result<()> {
    let lab = Lab::without_aws()?;
    let alice = lab.client("alice")?;
    alice.make_key("id_ed25519")?;
    let web = lab.host("web-1").start()?;
    let target = format!("ubuntu@{}", web.address());
    let output = alice
        .command("ssh")
        .args(NEW_HOST)
        .args([&target, "id"])
        .run()?;
    assert_eq!(output.status.code(), Some(255), "{}", output.stderr);
    assert!(
        output.stderr.contains("Permission denied (publickey"),
        "{}",
        output.stderr
    );
    Ok(())
}

#[test]
fn ordinary_login_by_an_authorized_keys_file_works_through_the_namespaces() -> Result<()> {
    let lab = Lab::without_aws()?;
    let alice = lab.client("alice")?;
    let key = alice.make_key("id_ed25519")?;
    let web = lab.host("web-1").authorized_key("ubuntu", &key).start()?;
    let target = format!("ubuntu@{}", web.address());
    let output = alice
        .command("ssh")
        .args(NEW_HOST)
        .args([&target, "id -un; hostname -I;"])
        .run()?
        .success()?;
    assert!(
        output
            .stdout
            .starts_with(&format!("ubuntu\n{}", web.address())),
        "{}",
        output.stdout
    );
    web.log_line(
        "Accepted publickey for ubuntu from 10.77.0.1",
        Duration::from_secs(30),
    )?;
    Ok(())
}

#[test]
fn openssh_10_of_trixie_logs_in_to_openssh_10() -> Result<()> {
    let lab = Lab::with_openssh(&TRIXIE)?;
    let alice = lab.client("alice")?;
    let version = alice.run("ssh", ["-V"])?.stderr;
    assert!(version.starts_with("OpenSSH_10.0"), "{version}");
    let key = alice.make_key("id_ed25519")?;
    let new = lab
        .host("new")
        .openssh(&TRIXIE)
        .authorized_key("ubuntu", &key)
        .start()?;
    let old = lab.host("old").authorized_key("ubuntu", &key).start()?;
    for (host, banner) in [(&new, "OpenSSH_10.0"), (&old, "OpenSSH_9.")] {
        let target = format!("ubuntu@{}", host.address());
        let output = alice
            .command("ssh")
            .args(NEW_HOST)
            .args(["-v", &target, "id -un"])
            .run()?
            .success()?;
        assert_eq!(output.stdout, "ubuntu\n");
        assert!(
            output
                .stderr
                .contains(&format!("remote software version {banner}")),
            "{}",
            output.stderr
        );
    }
    Ok(())
}

#[test]
fn ended_lab_leaves_no_process_and_no_folder() -> Result<()> {
    let lab = Lab::without_aws()?;
    let folder = lab.folder().to_owned();
    let web = lab.host("web-1").start()?;
    let pids = [lab.control().pid(), web.room().pid()];
    drop(web);
    drop(lab);
    assert!(!folder.exists(), "{}", folder.display());
    for pid in pids {
        assert!(
            !std::path::Path::new(&format!("/proc/{pid}")).exists(),
            "process {pid} still runs"
        );
    }
    Ok(())
}

#[test]
fn nothing_of_the_machine_can_be_written_from_a_room() -> Result<()> {
    let lab = Lab::without_aws()?;
    let outside = lab
        .command("sh")
        .args([
            "-c",
            "for f in /usr/x /opt/x /work-x /boot/x; do touch $f && echo $f; done",
        ])
        .run()?;
    assert_eq!(outside.stdout, "", "written outside the lab");
    lab.command("sh")
        .args([
            "-c",
            "touch /etc/x /root/x /tmp/x /var/lib/x /run/x /home/x",
        ])
        .run()?
        .success()?;
    for place in [
        "/etc/x",
        "/root/x",
        "/tmp/x",
        "/var/lib/x",
        "/run/x",
        "/home/x",
    ] {
        assert!(!std::path::Path::new(place).exists(), "{place}");
    }
    Ok(())
}

/// Started by the next test as a process of its own, which is then killed.
#[test]
#[ignore = "started by killed_test_leaves_no_process_and_no_folder"]
fn opens_a_lab_and_waits() -> Result<()> {
    let lab = Lab::without_aws()?;
    let web = lab.host("web-1").start()?;
    let (control, host) = (lab.control().pid(), web.room().pid());
    println!(
        "traces={} /proc/{control} /proc/{host}",
        lab.folder().display()
    );
    std::thread::sleep(Duration::from_secs(60));
    Ok(())
}

#[test]
fn killed_test_leaves_no_process_and_no_folder() -> Result<()> {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "lab::opens_a_lab_and_waits",
            "--ignored",
            "--nocapture",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(victim.stdout.take().unwrap()).lines();
    let line = lines.find_map(|line| Some(line.ok()?.split_once("traces=")?.1.to_owned()));
    let line = line.expect("the victim's lab");
    let traces: Vec<&str> = line.split(' ').collect();
    assert!(
        traces.iter().all(|trace| Path::new(trace).exists()),
        "{line}"
    );
    victim.kill().unwrap();
    victim.wait().unwrap();
    wait_for(
        "the killed test's traces to go",
        Duration::from_secs(20),
        || {
            traces
                .iter()
                .all(|trace| !Path::new(trace).exists())
                .then_some(())
        },
    )
}
