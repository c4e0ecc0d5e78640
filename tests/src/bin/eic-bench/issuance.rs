//! Issuance through HTTP: certificates per second, CPU per certificate, latency and memory, beside OpenBao's
//! `ssh/sign` in alternating rounds; and sign-ins per second.
//!
//! Judged beside callers that have signed in to OpenBao and that it asks its policies for, as ours are. What it does for
//! callers without its `default` policy, for its root token, and where it keeps a record, is printed beside it.

use std::path::Path;
use std::time::Duration;

use eic_lab::load::ca::{LoadedCa, fresh_key, public};
use eic_lab::load::server::Server;
use eic_lab::load::{Round, key_service, run};

use crate::openbao::{Callers, OpenBao, Record};
use crate::process::{fsync_p99, ms};
use crate::summary::{Goal, Row};

const CONNECTIONS: usize = 32;
const REQUESTS: usize = 20_000;
const WARM_UP: usize = 2_000;
const ROUNDS: usize = 3;
/// What one call takes.
const KMS_TAKES: Duration = Duration::from_millis(20);
const PEER: &str = "OpenBao 2.7.2";

struct Measured {
    round: Round,
    cpu_ms: f64,
}

/// What three of the rows are called: they are there for a local key and for keys in memory.
struct Names {
    rate: &'static str,
    cpu: &'static str,
    p99: &'static str,
}

/// A peer that is only printed: who asks it, what it keeps, and what its rows are called.
struct Beside {
    callers: Callers,
    record: Record,
    peer: &'static str,
    rate: &'static str,
    cpu: &'static str,
}

const BESIDE: [Beside; 3] = [
    Beside {
        callers: Callers::SignedIn,
        record: Record::File,
        peer: "OpenBao, audit file",
        rate: "certificates/s beside a peer that records",
        cpu: "CPU per certificate beside a peer that records",
    },
    Beside {
        callers: Callers::WithoutDefault,
        record: Record::None,
        peer: "OpenBao, no default",
        rate: "certificates/s beside callers of one policy",
        cpu: "CPU per certificate beside callers of one policy",
    },
    Beside {
        callers: Callers::Root,
        record: Record::None,
        peer: "OpenBao, root token",
        rate: "certificates/s beside a root token",
        cpu: "CPU per certificate beside a root token",
    },
];

/// Rows of issuance.
pub(crate) async fn certificates(
    binaries: &Path,
    cache: &Path,
    folder: &Path,
) -> Result<Vec<Row>, String> {
    let ca = LoadedCa::start(&binaries.join("eic-ca"), folder, Duration::ZERO, None).await?;
    let bao = OpenBao::start(cache, folder, Record::None).await?;
    let (us, them) = rounds(&ca, &bao, Callers::SignedIn).await?;
    let fsync = fsync_p99(folder)?;
    println!(
        "  {PEER} is asked by callers who signed in by AppRole, by its `default` policy and one for the role, where no other is named"
    );
    println!(
        "  fsync p99 of this disk right now: {:.2} ms; {ROUNDS} rounds of {REQUESTS}, the median of each",
        ms(fsync)
    );
    let names = Names {
        rate: "certificates/s, HTTP keep-alive, 32 connections",
        cpu: "CPU per certificate",
        p99: "p99 under that load",
    };
    let mut rows = judged(&names, &us, &them);
    rows.extend(beside(
        &us,
        &them,
        ca.server.peak_mib(),
        bao.server.peak_mib(),
        fsync,
    ));
    drop(bao);
    for peer in &BESIDE {
        rows.extend(printed(&ca, cache, folder, peer).await?);
    }
    Ok(rows)
}

async fn printed(
    ca: &LoadedCa,
    cache: &Path,
    folder: &Path,
    beside: &Beside,
) -> Result<[Row; 2], String> {
    let place = tempfile::tempdir_in(folder).map_err(|e| e.to_string())?;
    let bao = OpenBao::start(cache, place.path(), beside.record).await?;
    let (us, them) = rounds(ca, &bao, beside.callers).await?;
    let row = |name, unit, value: fn(&Measured) -> f64| {
        let peer = Some((beside.peer, of(&them, value)));
        Row::new(name, of(&us, value), unit, peer, (Goal::None, "printed"))
    };
    Ok([
        row(beside.rate, "1/s", |m| m.round.rate),
        row(beside.cpu, "ms", |m| m.cpu_ms),
    ])
}

/// The same where KMS has the CA's key and takes 20 ms, and keys in memory sign.
pub(crate) async fn endorsed(
    binaries: &Path,
    cache: &Path,
    folder: &Path,
) -> Result<Vec<Row>, String> {
    let place = folder.join("endorsed");
    std::fs::create_dir_all(&place).map_err(|e| e.to_string())?;
    let ca = LoadedCa::start(&binaries.join("eic-ca"), &place, Duration::ZERO, None).await?;
    let kms = key_service::start(KMS_TAKES).await?;
    let mut signer = toml::toml! { signer = "kms" region = "us-east-1" };
    signer.insert("arn".into(), key_service::ARN.into());
    signer.insert("endpoint".into(), format!("http://{kms}").into());
    let in_memory = toml::toml! { propagation_seconds = 0 };
    let keys = [
        ("keys", "user_ca", signer.into()),
        ("keys", "endorsed", in_memory.into()),
    ];
    ca.set(&keys)?;
    // Its KMS is on this thread.
    let ca = tokio::task::spawn_blocking(move || ca.run(&["root", "update"]).map(|_| ca));
    ca_with_keys_in_memory(&mut ca.await.map_err(|e| e.to_string())??, cache, &place).await
}

async fn ca_with_keys_in_memory(
    ca: &mut LoadedCa,
    cache: &Path,
    place: &Path,
) -> Result<Vec<Row>, String> {
    ca.restart_with(&[]).await?;
    ca.signs_in_memory().await?;
    let bao = OpenBao::start(cache, place, Record::None).await?;
    let (us, them) = rounds(ca, &bao, Callers::SignedIn).await?;
    let names = Names {
        rate: "certificates/s by keys in memory, KMS of 20 ms",
        cpu: "CPU per certificate by keys in memory",
        p99: "p99 by keys in memory",
    };
    Ok(judged(&names, &us, &them))
}

async fn rounds(
    ca: &LoadedCa,
    bao: &OpenBao,
    callers: Callers,
) -> Result<(Vec<Measured>, Vec<Measured>), String> {
    ours(ca, WARM_UP).await?;
    theirs(bao, callers, WARM_UP).await?;
    let (mut us, mut them) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        them.push(theirs(bao, callers, REQUESTS).await?);
        us.push(ours(ca, REQUESTS).await?);
    }
    Ok((us, them))
}

fn of(measured: &[Measured], value: fn(&Measured) -> f64) -> f64 {
    median(measured.iter().map(value).collect())
}

/// The rows that have goals of their own.
fn judged(names: &Names, us: &[Measured], them: &[Measured]) -> Vec<Row> {
    let peer = |value: fn(&Measured) -> f64| Some((PEER, of(them, value)));
    vec![
        Row::new(
            names.rate,
            of(us, |m| m.round.rate),
            "1/s",
            peer(|m| m.round.rate),
            (Goal::RatioAtLeast(2.5), "ratio >= 2.5"),
        ),
        Row::new(
            names.cpu,
            of(us, |m| m.cpu_ms),
            "ms",
            peer(|m| m.cpu_ms),
            (Goal::RatioAtMost(0.4), "ratio <= 0.4"),
        ),
        Row::new(
            names.p99,
            of(us, |m| ms(m.round.p99)),
            "ms",
            peer(|m| ms(m.round.p99)),
            (Goal::RatioAtMost(0.5), "ratio <= 0.5"),
        ),
    ]
}

fn beside(
    us: &[Measured],
    them: &[Measured],
    our_mib: f64,
    their_mib: f64,
    fsync: Duration,
) -> Vec<Row> {
    vec![
        Row::new(
            "p50 under that load",
            of(us, |m| ms(m.round.p50)),
            "ms",
            Some((PEER, of(them, |m| ms(m.round.p50)))),
            (Goal::None, "printed"),
        ),
        Row::new(
            "fsync p99 of the disk beside it",
            ms(fsync),
            "ms",
            None,
            (Goal::None, "printed"),
        ),
        Row::new(
            "resident memory under that load (peak)",
            our_mib,
            "MiB",
            Some((PEER, their_mib)),
            (Goal::AtMost(48.0), "<= 48 MiB"),
        ),
    ]
}

async fn ours(ca: &LoadedCa, count: usize) -> Result<Measured, String> {
    let mut sessions = Vec::new();
    for _ in 0..CONNECTIONS {
        sessions.push(ca.session().await?);
    }
    let requests: Result<_, _> = sessions
        .iter()
        .cycle()
        .take(count)
        .map(|session| ca.certificate_request(session))
        .collect();
    measure(&ca.server, ca.address, requests?).await
}

async fn theirs(bao: &OpenBao, callers: Callers, count: usize) -> Result<Measured, String> {
    let tokens = bao.tokens(callers, CONNECTIONS).await?;
    let callers: Result<Vec<_>, String> = tokens
        .iter()
        .map(|token| Ok((token, public(&fresh_key()?)?.to_string())))
        .collect();
    let requests = callers?
        .iter()
        .cycle()
        .take(count)
        .map(|(token, key)| OpenBao::sign_request(token, key))
        .collect();
    measure(&bao.server, bao.address, requests).await
}

async fn measure(
    server: &Server,
    address: std::net::SocketAddr,
    requests: Vec<Vec<u8>>,
) -> Result<Measured, String> {
    let before = server.cpu();
    let round = run(address, requests, CONNECTIONS).await?;
    let count = f64::from(u32::try_from(round.answers).unwrap_or(u32::MAX));
    let cpu_ms = ms(server.cpu().saturating_sub(before)) / count;
    Ok(Measured { round, cpu_ms })
}

/// Rows of sign-in, with an STS that takes no time and one that takes 50 ms.
pub(crate) async fn sessions(binaries: &Path, folder: &Path) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for (name, delay) in [
        ("sessions/s, STS at 0 ms", 0),
        ("sessions/s, STS at 50 ms", 50),
    ] {
        let place = folder.join(format!("sts-{delay}"));
        std::fs::create_dir_all(&place).map_err(|e| e.to_string())?;
        let ca = LoadedCa::start(
            &binaries.join("eic-ca"),
            &place,
            Duration::from_millis(delay),
            None,
        )
        .await?;
        let requests: Result<Vec<_>, String> =
            (0..2_000).map(|_| Ok(ca.session_request()?.1)).collect();
        let round = run(ca.address, requests?, CONNECTIONS).await?;
        rows.push(Row::new(
            name,
            round.rate,
            "1/s",
            None,
            (Goal::None, "printed; bounded by STS"),
        ));
    }
    Ok(rows)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
