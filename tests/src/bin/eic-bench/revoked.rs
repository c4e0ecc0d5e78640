//! What revocations cost a host: a login under the list that a large company has after a year, and under the largest
//! list that is made without an alarm; the memory of the service that fetches it.

use std::path::Path;
use std::time::Duration;

use eic_lab::load::ca::{fresh_key, public};
use eic_lab::{Host, Lab, small_fleet};
use eic_protocol::krl::{Comment, RevocationSet, RevokedKey, SIZE_BUDGET, Target};
use eic_protocol::serial::Serial;
use eic_protocol::subject_key::CaKey;

use crate::login::Job;
use crate::process::{median, ms};
use crate::summary::{Goal, Row};

/// When the year ends, in Unix seconds.
pub(crate) const NOW: u64 = 1_800_000_000;
const YEAR: u64 = 365 * 24 * 3_600;
/// 5,000 hosts with 200 each.
const IN_A_YEAR: u64 = 1_000_000;
/// Keys that are revoked for good.
const STOLEN: usize = 300;
/// Lives of certificates: a third are for fleets.
const LIVES: [u64; 3] = [3_600, 3_600, 12 * 3_600];
const LOGINS: usize = 30;
/// sshd's `RevokedKeys`.
const LIST: &str = "/var/lib/eic/revoked-keys";

/// What is left at a year's end of all its revocations, under these CAs in turn.
pub(crate) fn a_year_of_revocations(cas: &[CaKey]) -> Result<RevocationSet, String> {
    let mut set = RevocationSet::new();
    for _ in 0..STOLEN {
        let key = public(&fresh_key()?)?;
        set.insert(Target::Key(RevokedKey::from(&key)), None);
    }
    let drawn = (0..IN_A_YEAR)
        .zip(LIVES.iter().cycle())
        .zip(cas.iter().cycle());
    for ((n, life), ca) in drawn {
        let at = NOW - YEAR + n * YEAR / IN_A_YEAR;
        set.insert(Target::serial(ca.clone(), serial()?), Some(at + life));
        if n % 1_000 == 0 {
            set.prune(at);
        }
    }
    set.prune(NOW);
    Ok(set)
}

/// As the CA draws it: 63 random bits, never 0.
fn serial() -> Result<Serial, String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|e| e.to_string())?;
    let drawn = (u64::from_be_bytes(bytes) >> 1).max(1);
    Serial::new(drawn).ok_or_else(|| "draw a serial: it is 0".to_owned())
}

/// The list in sshd's form.
pub(crate) fn encoded(set: &RevocationSet) -> Result<Vec<u8>, String> {
    let krl = set.krl(10, NOW, Comment::default());
    Ok(krl.encode().map_err(|e| e.to_string())?.bytes)
}

/// Just as many serials as fit the budget.
fn at_the_budget(ca: &CaKey) -> Result<Vec<u8>, String> {
    let mut set = RevocationSet::new();
    // A random serial takes 8 bytes; the rest is the list's own frame.
    for _ in 0..SIZE_BUDGET / 8 - 64 {
        set.insert(Target::serial(ca.clone(), serial()?), None);
    }
    encoded(&set)
}

/// Rows of the host's side.
pub(crate) fn rows() -> Result<Vec<Row>, String> {
    let said = |e: eic_lab::error::Error| e.to_string();
    let lab = Lab::new().map_err(said)?;
    let ca = small_fleet::ca(&lab)
        .and_then(|ca| ca.https()?.start())
        .map_err(said)?;
    let host = small_fleet::enrolled_host(&lab, &ca, "web-1").map_err(said)?;
    let other = small_fleet::enrolled_host(&lab, &ca, "web-2").map_err(said)?;
    let service = other
        .start_agent_service(&ca, "host_certificates = false\n")
        .map_err(said)?;
    let roots = lab.folder().join("tls-root.pem");
    std::fs::write(&roots, ca.tls_root().unwrap_or_default()).map_err(|e| e.to_string())?;
    let alice = small_fleet::person(&lab, "alice").map_err(said)?;
    let alice = alice.env("SSL_CERT_FILE", roots.display().to_string());
    small_fleet::set_up(&alice, &ca).map_err(said)?;
    let job = Job::issued(&alice, &host)?;

    let user_ca = ca_key(&ca.folder().join("keys/user-ca.pub"))?;
    let lists = [
        encoded(&RevocationSet::new())?,
        encoded(&a_year_of_revocations(std::slice::from_ref(&user_ca))?)?,
        at_the_budget(&user_ca)?,
    ];
    let mut times: [Vec<Duration>; 3] = Default::default();
    for _ in 0..LOGINS {
        for (times, list) in times.iter_mut().zip(&lists) {
            put(&host, list)?;
            times.push(job.login(&alice, &host)?);
        }
    }
    let (all, own) = service.resident_kib().map_err(said)?;
    let [_, year, budget] = lists.map(|list| kib(list.len()));
    Ok(table(
        year,
        budget,
        times.map(|times| ms(median(times))),
        all,
        own,
    ))
}

fn table(year: f64, budget: f64, logins: [f64; 3], all: u32, own: u32) -> Vec<Row> {
    let [none, with_year, with_budget] = logins;
    let row = |name, value, unit, goal| Row::new(name, value, unit, None, goal);
    vec![
        row(
            "revocation list after a year of 1,000,000",
            year,
            "KiB",
            (Goal::AtMost(128.0), "<= 128 KiB"),
        ),
        row(
            "a login under it, more than under an empty one",
            with_year - none,
            "ms",
            (Goal::AtMost(50.0), "<= 50 ms"),
        ),
        row(
            "the largest list without an alarm",
            budget,
            "KiB",
            (Goal::None, "printed"),
        ),
        row(
            "a login under that, more than under an empty one",
            with_budget - none,
            "ms",
            (Goal::AtMost(50.0), "<= 50 ms"),
        ),
        row(
            "resident memory of eic-agent run",
            f64::from(all) / 1024.0,
            "MiB",
            (Goal::AtMost(8.0), "<= 8 MiB"),
        ),
        row(
            "of it not its program's file",
            f64::from(own) / 1024.0,
            "MiB",
            (Goal::None, "printed"),
        ),
    ]
}

fn kib(bytes: usize) -> f64 {
    f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) / 1024.0
}

fn ca_key(file: &Path) -> Result<CaKey, String> {
    let line = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let key = line
        .trim()
        .parse()
        .map_err(|e| format!("{}: {e}", file.display()))?;
    CaKey::new(key).map_err(|e| e.to_string())
}

/// As the agent puts it there: in one step.
fn put(host: &Host, list: &[u8]) -> Result<(), String> {
    let new = host.file("/var/lib/eic/.bench");
    std::fs::write(&new, list)
        .and_then(|()| std::fs::rename(&new, host.file(LIST)))
        .map_err(|e| format!("{LIST}: {e}"))
}
