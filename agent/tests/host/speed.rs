//! How long sshd's commands take as whole processes. Prints; decides nothing (a debug build on a busy machine would lie).
//! Run: `EIC_AGENT_BINARY=$PWD/target/release/eic-agent cargo test -p eic-agent --test host -- --ignored --nocapture speed`
//! (without the variable it is the debug build that is measured)

use std::process::Command;
use std::time::{Duration, Instant};

use crate::documents::{CA_KEY, ca, public};
use crate::imds::Answer;
use crate::login::instance_connect;
use crate::pki::ed25519_line;
use crate::sandbox::{Host, current, ok, succeed};
use eic_protocol::trust::root::ScopedCa;

const RUNS: usize = 200;

/// Median and minimum of whole runs, start to end; the mount namespace is entered once for all of them.
fn measure(host: &Host, what: &str, arguments: &str) {
    let script = format!(
        "i=0; while [ $i -lt {RUNS} ]; do s=$(date +%s%N); /usr/local/bin/eic-agent {arguments} >/dev/null; e=$(date +%s%N); \
         echo $((e - s)); i=$((i + 1)); done"
    );
    let started = Instant::now();
    let output = ok(&host.command("sh").args(["-c", &script]).output().unwrap());
    let mut times: Vec<u64> = output.lines().map(|line| line.parse().unwrap()).collect();
    times.sort_unstable();
    let show = |nanoseconds: u64| Duration::from_nanos(nanoseconds);
    println!(
        "{what}: median {:?}, least {:?} ({RUNS} runs, {:?})",
        show(times[RUNS / 2]),
        show(times[0]),
        started.elapsed()
    );
}

#[test]
#[ignore = "a measurement for people"]
fn speed_of_the_commands() {
    let Some(host) = Host::new() else { return };
    if let Ok(other) = std::env::var("EIC_AGENT_BINARY") {
        host.copy(other, "bin/eic-agent");
    }
    host.documents(&current());
    let imds = instance_connect(&host, "ubuntu", &ed25519_line(5));
    measure(&host, "--version (floor)", "--version");
    measure(&host, "authorized-keys, one key", "authorized-keys ubuntu");
    let imds = imds.with(
        "HEAD",
        "/latest/meta-data/managed-ssh-keys/active-keys/ubuntu/",
        Answer::status(404, ""),
    );
    measure(&host, "authorized-keys, no key", "authorized-keys ubuntu");
    drop(imds);
    ok(&host.install(&[]));
    let ca = public(CA_KEY).fingerprint();
    let arguments = format!("authorized-principals ubuntu {ca}");
    measure(&host, "authorized-principals", &arguments);
    let mut documents = current();
    documents.root.user_cas.extend([rsa_ca(3072), rsa_ca(4096)]);
    host.documents(&documents);
    ok(&host.install(&[]));
    measure(&host, "authorized-principals, RSA CAs too", &arguments);
}

/// A CA key as KMS makes them.
fn rsa_ca(bits: u32) -> ScopedCa {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let mut keygen = Command::new("ssh-keygen");
    let bits = bits.to_string();
    keygen
        .args(["-q", "-t", "rsa", "-b", &bits, "-N", "", "-f"])
        .arg(&path);
    succeed(&mut keygen);
    let line = std::fs::read_to_string(path.with_extension("pub")).unwrap();
    ScopedCa {
        key: line.trim_end().parse().unwrap(),
        ..ca(CA_KEY)
    }
}
