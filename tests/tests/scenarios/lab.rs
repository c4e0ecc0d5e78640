//! The lab itself: namespaces, a plain ssh login, the AWS stand-ins, and that nothing is left behind.

use std::time::Duration;

use eic_lab::Lab;
use eic_lab::error::Result;

/// What every ssh here needs: a host that nobody has seen before.
const NEW_HOST: [&str; 4] = ["-o", "StrictHostKeyChecking=accept-new", "-o", "BatchMode=yes"];

#[test]
fn key_that_the_host_does_not_list_is_refused() -> Result<()> {
    let lab = Lab::without_aws()?;
    let alice = lab.client("alice")?;
    alice.make_key("id_ed25519")?;
    let web = lab.host("web-1").start()?;
    let target = format!("ubuntu@{}", web.address());
    let output = alice.command("ssh").args(NEW_HOST).args([&target, "id"]).run()?;
    assert_eq!(output.status.code(), Some(255), "{}", output.stderr);
    assert!(output.stderr.contains("Permission denied (publickey"), "{}", output.stderr);
    Ok(())
}

#[test]
fn ordinary_login_by_an_authorized_keys_file_works_through_the_namespaces() -> Result<()> {
    let lab = Lab::without_aws()?;
    let alice = lab.client("alice")?;
    let key = alice.make_key("id_ed25519")?;
    let web = lab.host("web-1").authorized_key("ubuntu", &key).start()?;
    let target = format!("ubuntu@{}", web.address());
    let output = alice.command("ssh").args(NEW_HOST).args([&target, "id -un; hostname -I;"]).run()?.success()?;
    assert!(output.stdout.starts_with(&format!("ubuntu\n{}", web.address())), "{}", output.stdout);
    web.log_line("Accepted publickey for ubuntu from 10.77.0.1", Duration::from_secs(5))?;
    Ok(())
}
