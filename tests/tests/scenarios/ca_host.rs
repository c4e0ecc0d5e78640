//! A host that trusts a CA, with the real agent and installer, judged without our CA: trust documents and certificates
//! are made by ssh-keygen, so that both sides of the wire forms have been written twice.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use eic_lab::error::Result;
use eic_lab::process::Output;
use eic_lab::room::Hardware;
use eic_lab::{Client, Host, Lab};
use serde_json::{Value, json};

/// Root, bundle and user-CA keys as files, and ssh-keygen to sign with them.
#[derive(Clone)]
struct HandMadeCa {
    folder: PathBuf,
}

impl HandMadeCa {
    fn new(lab: &Lab, name: &str) -> HandMadeCa {
        let ca = HandMadeCa {
            folder: lab.folder().join(name),
        };
        std::fs::create_dir(&ca.folder).unwrap();
        for key in ["root", "bundle", "user-ca"] {
            ca.keygen(&["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key]);
        }
        ca
    }

    fn keygen(&self, args: &[&str]) -> String {
        let output = Command::new("ssh-keygen")
            .args(args)
            .current_dir(&self.folder)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn public(&self, key: &str) -> String {
        let line = std::fs::read_to_string(self.folder.join(format!("{key}.pub"))).unwrap();
        line.trim().to_owned()
    }

    fn fingerprint(&self) -> String {
        let line = self.keygen(&["-l", "-f", "root.pub"]);
        line.split_whitespace().nth(1).unwrap().to_owned()
    }

    fn write_envelope(&self, file: &str, key: &str, namespace: &str, document: &Value) {
        let signed = document.to_string();
        std::fs::write(self.folder.join("document"), &signed).unwrap();
        let _ = std::fs::remove_file(self.folder.join("document.sig"));
        self.keygen(&["-q", "-Y", "sign", "-f", key, "-n", namespace, "document"]);
        let armored = std::fs::read_to_string(self.folder.join("document.sig")).unwrap();
        let signature: String = armored
            .lines()
            .filter(|line| !line.starts_with("-----"))
            .collect();
        let envelope = json!({
            "signed": STANDARD.encode(signed),
            "signatures": [{"key": self.public(key), "signature": signature}],
        });
        std::fs::write(self.folder.join(file), envelope.to_string()).unwrap();
    }

    /// The folder of trust documents for a host with this id.
    fn state_for(&self, instance: &str) -> PathBuf {
        let root = json!({
            "version": 1, "issued": 1_700_000_000, "threshold": 1,
            "root_keys": [self.public("root")], "bundle_keys": [self.public("bundle")],
            "user_cas": [{"key": self.public("user-ca"), "state": "active"}], "host_cas": [],
        });
        self.write_envelope("root.json", "root", "eic-root-v1", &root);
        let view = json!({
            "version": 1, "instance": instance, "fleets": [{"name": "web"}], "stage": "hybrid",
            "root_version": 1, "issued": 1_700_000_000, "refresh_after": 4_000_000_000_u64,
        });
        self.write_envelope("host-view.json", "bundle", "eic-host-view-v1", &view);
        let state = self.folder.join(format!("state-{instance}"));
        std::fs::create_dir_all(&state).unwrap();
        for file in ["root.json", "host-view.json"] {
            std::fs::copy(self.folder.join(file), state.join(file)).unwrap();
        }
        state
    }

    /// Certifies a client's key for a principal.
    fn certify(&self, client: &Client, principal: &str) {
        let ssh = client.home().join(".ssh");
        let copy = self.folder.join("subject.pub");
        std::fs::copy(ssh.join("id_ed25519.pub"), &copy).unwrap();
        let id = ["-I", "eic:alice:0123456789abcdef", "-z", "7"];
        let args = [
            "-q",
            "-s",
            "user-ca",
            "-n",
            principal,
            "-V",
            "-1m:+5m",
            "subject.pub",
        ];
        self.keygen(&[id.as_slice(), args.as_slice()].concat());
        std::fs::copy(
            self.folder.join("subject-cert.pub"),
            ssh.join("id_ed25519-cert.pub"),
        )
        .unwrap();
    }
}

/// `ssh` by certificate; returns whatever came of it.
fn ssh(client: &Client, user: &str, host: &Host) -> Result<Output> {
    let target = format!("{user}@{}", host.address());
    let options = [
        "-o",
        "StrictHostKeyChecking=accept-new",
        "-o",
        "BatchMode=yes",
    ];
    client
        .command("ssh")
        .args(options)
        .args([&target, "id -un"])
        .run()
}

fn refused(output: &Output) -> bool {
    output.status.code() == Some(255) && output.stderr.contains("Permission denied")
}

fn enrolled(lab: &Lab, name: &str, ca: &HandMadeCa) -> Result<Host> {
    let maker = ca.clone();
    lab.host(name)
        .enrolled(
            &ca.fingerprint(),
            move |host| Ok(maker.state_for(host.id())),
        )
        .start()
}

/// J-01, J-06: only names of this host, only by a CA that its root document names.
#[test]
fn certificate_opens_the_named_user_of_the_named_host_only() -> Result<()> {
    let lab = Lab::without_aws()?;
    let (ca, stranger) = (
        HandMadeCa::new(&lab, "ours"),
        HandMadeCa::new(&lab, "stranger"),
    );
    let host = enrolled(&lab, "web-1", &ca)?;
    let alice = lab.client("alice")?;
    alice.make_key("id_ed25519")?;
    let id = host.id().to_owned();

    for principal in [
        "ubuntu@i-0123456789abcdef0",
        "ubuntu",
        &format!("alice@{id}"),
        "ubuntu@fleet/db",
    ] {
        ca.certify(&alice, principal);
        assert!(refused(&ssh(&alice, "ubuntu", &host)?), "{principal}");
    }
    stranger.certify(&alice, &format!("ubuntu@{id}"));
    assert!(
        refused(&ssh(&alice, "ubuntu", &host)?),
        "a CA that the host does not know"
    );

    for principal in [format!("ubuntu@{id}"), "ubuntu@fleet/web".to_owned()] {
        ca.certify(&alice, &principal);
        assert_eq!(
            ssh(&alice, "ubuntu", &host)?.success()?.stdout,
            "ubuntu\n",
            "{principal}"
        );
    }
    host.log_line(
        "ID eic:alice:0123456789abcdef (serial 7) CA ED25519",
        Duration::from_secs(30),
    )?;
    Ok(())
}

/// J-16: a disk that was copied to another instance opens for nobody.
#[test]
fn cloned_image_opens_for_no_certificate() -> Result<()> {
    let lab = Lab::without_aws()?;
    let ca = HandMadeCa::new(&lab, "ours");
    let origin = "i-0123456789abcdef0";
    let maker = ca.clone();
    let mut host = lab
        .host("origin")
        .hardware(Hardware::Nitro(origin.into()))
        .enrolled(&ca.fingerprint(), move |_| Ok(maker.state_for(origin)))
        .start()?;
    let alice = lab.client("alice")?;
    alice.make_key("id_ed25519")?;
    ca.certify(&alice, &format!("ubuntu@{origin}"));
    assert_eq!(ssh(&alice, "ubuntu", &host)?.success()?.stdout, "ubuntu\n");

    host.set_hardware_id("i-0fedcba9876543210")?;
    assert!(refused(&ssh(&alice, "ubuntu", &host)?), "a clone");
    Ok(())
}

#[test]
fn uninstalled_agent_leaves_sshd_as_it_was() -> Result<()> {
    let lab = Lab::without_aws()?;
    let ca = HandMadeCa::new(&lab, "ours");
    let mut host = enrolled(&lab, "web-1", &ca)?;
    let alice = lab.client("alice")?;
    alice.make_key("id_ed25519")?;
    ca.certify(&alice, &format!("ubuntu@{}", host.id()));
    host.exec("eic-agent", ["uninstall", "--no-reload"])?;
    host.reload_sshd()?;
    assert!(refused(&ssh(&alice, "ubuntu", &host)?));
    let left = host.exec("ls", ["/etc/ssh/sshd_config.d"])?.stdout;
    assert_eq!(left, "", "drop-ins left");
    Ok(())
}
