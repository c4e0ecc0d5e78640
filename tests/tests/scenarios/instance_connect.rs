//! Instance Connect on a legacy host: the real agent in front of a real sshd, keys by SendSSHPublicKey.

use std::time::Duration;

use eic_lab::aws::Credentials;
use eic_lab::error::Result;
use eic_lab::process::Output;
use eic_lab::standin::MetadataFault;
use eic_lab::{Client, Host, Lab};

use crate::aws_calls::{INSTANCE_CONNECT, push};

/// A legacy host, a person with a key, and AWS credentials that may push it.
struct Scene {
    lab: Lab,
    host: Host,
    alice: Client,
    key: String,
    credentials: Credentials,
}

impl Scene {
    fn set_up() -> Result<Scene> {
        let lab = Lab::new()?;
        let credentials = lab.aws()?.user("alice", INSTANCE_CONNECT)?;
        let alice = lab.client("alice")?;
        let key = alice.make_key("id_ed25519")?;
        let host = lab.host("legacy").instance_connect_only().start()?;
        Ok(Scene {
            lab,
            host,
            alice,
            key,
            credentials,
        })
    }

    fn push(&self, user: &str) -> Result<()> {
        let call = push(self.host.id(), user, &self.key);
        self.lab.aws()?.call(&self.credentials, &call).map(drop)
    }

    fn ssh(&self, user: &str) -> Result<Output> {
        let target = format!("{user}@{}", self.host.address());
        self.alice
            .command("ssh")
            .args([
                "-o",
                "StrictHostKeyChecking=accept-new",
                "-o",
                "BatchMode=yes",
                &target,
                "id -un",
            ])
            .run()
    }

    fn assert_refused(&self, user: &str, why: &str) -> Result<()> {
        let output = self.ssh(user)?;
        assert_eq!(output.status.code(), Some(255), "{why}: {}", output.stdout);
        assert!(
            output.stderr.contains("Permission denied"),
            "{why}: {}",
            output.stderr
        );
        Ok(())
    }
}

#[test]
fn pushed_key_opens_one_user_of_one_host_for_a_minute() -> Result<()> {
    let scene = Scene::set_up()?;
    scene.assert_refused("ubuntu", "nothing was pushed")?;
    scene.push("ubuntu")?;
    scene.assert_refused("alice", "the key is for another user")?;
    assert_eq!(scene.ssh("ubuntu")?.success()?.stdout, "ubuntu\n");
    scene.host.log_line(
        "Providing ssh key from EC2 Instance Connect with fingerprint",
        Duration::from_secs(30),
    )?;
    scene.lab.clock().advance(61);
    scene.assert_refused("ubuntu", "the key has expired")
}

/// I-02, I-04, I-05, I-06: whatever instance metadata does wrong, no key is trusted.
#[test]
fn key_is_not_trusted_when_instance_metadata_is_wrong() -> Result<()> {
    let scene = Scene::set_up()?;
    let faults = [
        (
            "meta-data/managed-ssh-keys/active-keys/",
            MetadataFault::WrongSignature,
        ),
        (
            "meta-data/managed-ssh-keys/active-keys/",
            MetadataFault::Status(500),
        ),
        (
            "meta-data/managed-ssh-keys/active-keys/",
            MetadataFault::Oversized(200_000),
        ),
        (
            "meta-data/managed-ssh-keys/signer-ocsp",
            MetadataFault::Status(404),
        ),
        ("api/token", MetadataFault::Status(403)),
        ("api/token", MetadataFault::Silent),
        (
            "meta-data/managed-ssh-keys/signer-cert",
            MetadataFault::Drip(Duration::from_millis(200)),
        ),
        (
            "meta-data/managed-ssh-keys/signer-cert",
            MetadataFault::Redirect("http://169.254.169.254/latest/".into()),
        ),
    ];
    for (path, fault) in faults {
        scene.push("ubuntu")?;
        scene.host.metadata()?.set_fault(path, fault.clone());
        scene.assert_refused("ubuntu", &format!("{path}: {fault:?}"))?;
        scene.host.metadata()?.clear();
    }
    scene.push("ubuntu")?;
    assert_eq!(
        scene.ssh("ubuntu")?.success()?.stdout,
        "ubuntu\n",
        "right again"
    );
    Ok(())
}
