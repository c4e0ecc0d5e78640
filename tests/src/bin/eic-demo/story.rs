//! The demo's steps, in the order in which a company would meet them.

use std::time::Duration;

use eic_lab::error::Result;
use eic_lab::small_fleet::{enrolled_host, person};
use eic_lab::{Ca, Client, Host, Lab, small_fleet};

use crate::teller::Teller;

const SOON: Duration = Duration::from_secs(10);

/// Tells all of it.
///
/// # Errors
/// When a step does not do what it says.
pub(crate) fn tell() -> Result<()> {
    let mut teller = Teller::new();
    teller.step("A lab on this machine: AWS stand-ins that check signatures, in network namespaces of their own");
    let lab = Lab::new()?;
    teller.say(&format!(
        "everything lives in {} and goes with it",
        lab.folder().display()
    ));

    teller
        .step("A CA with the embedded defaults: local Ed25519 keys, SQLite, an IAM policy in JSON");
    let ca = small_fleet::ca(&lab)?.start()?;
    teller.say("made by `eic-ca init`, served on loopback; alice may log in as `ubuntu` to hosts tagged team=web");

    teller.step("Two real sshds: web-1 trusts the CA (eic-agent install), legacy-1 knows Instance Connect only");
    let web = enrolled_host(&lab, &ca, "web-1")?;
    let legacy = lab
        .host("legacy-1")
        .tag("team", "web")
        .instance_connect_only()
        .start()?;
    teller.say(&format!(
        "web-1 is {}, legacy-1 is {}",
        web.id(),
        legacy.id()
    ));

    let alice = person(&lab, "alice")?;
    set_up(&mut teller, &alice, &ca)?;
    let times = log_in(&mut teller, &alice, &web, &legacy)?;
    be_denied(&mut teller, &alice, &ca, &web)?;
    show_audit(&mut teller, &ca)?;

    teller.step("From `ssh` to the end of the command");
    teller.times(&times);
    drop((web, legacy, alice, ca, lab));
    teller.say("nothing is left running");
    Ok(())
}

fn set_up(teller: &mut Teller, alice: &Client, ca: &Ca) -> Result<()> {
    teller.step(
        "alice sets up her laptop once, with the root key's fingerprint from her platform team",
    );
    let setup = [
        "setup",
        &ca.url(),
        "--fingerprint",
        ca.root_fingerprint(),
        "--match",
        "web-*",
        "--match",
        "legacy-*",
        "--yes",
    ];
    teller.run("alice", &alice.command("eic-login").args(setup))?;
    teller.step("She signs in with the AWS credentials that she has anyway");
    teller.run("alice", &alice.command("eic-login"))?;
    Ok(())
}

fn log_in(
    teller: &mut Teller,
    alice: &Client,
    web: &Host,
    legacy: &Host,
) -> Result<Vec<(String, Duration)>> {
    let mut times = Vec::new();
    let mut ssh = |teller: &Teller, name: &str, host: &Host| -> Result<()> {
        let target = format!("ubuntu@{}", host.id());
        let output = teller.run(
            "alice",
            &alice
                .command("ssh")
                .args([target.as_str(), "whoami && hostname -I"]),
        )?;
        times.push((name.to_owned(), output.elapsed));
        Ok(())
    };
    teller.step("Plain ssh to the host that trusts the CA: by a certificate for this user on this host, good for 5 minutes");
    ssh(teller, "web-1, first certificate", web)?;
    teller.quote(
        "sshd's log on web-1:",
        &web.log_line("Accepted publickey for ubuntu", SOON)?,
    );
    teller.step(
        "The same command to the legacy host: the same key, pushed through EC2 Instance Connect",
    );
    ssh(teller, "legacy-1, key pushed by Instance Connect", legacy)?;
    teller.quote(
        "eic-agent's log on legacy-1:",
        &legacy.log_line("Providing ssh key from EC2 Instance Connect with", SOON)?,
    );
    teller.step("And again to web-1: the certificate is still good");
    ssh(teller, "web-1, certificate at hand", web)?;
    Ok(times)
}

fn be_denied(teller: &mut Teller, alice: &Client, ca: &Ca, web: &Host) -> Result<()> {
    teller.step("A denial says what would do, where policy lets the caller know");
    let target = format!("root@{}", web.id());
    let output = teller.attempt(
        "alice",
        &alice.command("ssh").args([target.as_str(), "true"]),
    )?;
    if output.status.success() {
        return output.success().map(drop);
    }
    teller.step("The administrator asks which statement decided");
    let config = ca.config().display().to_string();
    let explain = [
        "policy",
        "explain",
        "--config",
        &config,
        "--caller",
        "arn:aws:iam::123456789012:user/alice",
        "--instance",
        web.id(),
        "--user",
        "root",
    ];
    teller.attempt("admin", &ca.command(explain))?;
    Ok(())
}

fn show_audit(teller: &mut Teller, ca: &Ca) -> Result<()> {
    teller.step("Everything was recorded before it happened; the records are chained");
    let config = ca.config().display().to_string();
    teller.run(
        "admin",
        &ca.command(["audit", "query", "--config", &config]),
    )?;
    teller.run(
        "admin",
        &ca.command(["audit", "verify", "--config", &config]),
    )?;
    Ok(())
}
