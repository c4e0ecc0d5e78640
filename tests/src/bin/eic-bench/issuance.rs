//! Issuance through HTTP: certificates per second, CPU per certificate, latency and memory, beside OpenBao's
//! `ssh/sign` in alternating rounds; and sign-ins per second.

use std::path::Path;
use std::time::Duration;

use eic_lab::load::ca::{LoadedCa, fresh_key, public};
use eic_lab::load::server::Server;
use eic_lab::load::{Round, run};

use crate::openbao::OpenBao;
use crate::process::{fsync_p99, ms};
use crate::summary::{Goal, Row};

const CONNECTIONS: usize = 32;
const REQUESTS: usize = 20_000;
const WARM_UP: usize = 2_000;
const ROUNDS: usize = 3;
const PEER: &str = "OpenBao 2.7.2";

struct Measured {
    round: Round,
    cpu_ms: f64,
}

/// Rows of issuance.
pub(crate) async fn certificates(
    binaries: &Path,
    cache: &Path,
    folder: &Path,
) -> Result<Vec<Row>, String> {
    let ca = LoadedCa::start(&binaries.join("eic-ca"), folder, Duration::ZERO, None).await?;
    let bao = OpenBao::start(cache, folder).await?;
    ours(&ca, WARM_UP).await?;
    theirs(&bao, WARM_UP).await?;
    let (mut us, mut them) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        them.push(theirs(&bao, REQUESTS).await?);
        us.push(ours(&ca, REQUESTS).await?);
    }
    let fsync = fsync_p99(folder)?;
    println!(
        "  fsync p99 of this disk right now: {:.2} ms; {ROUNDS} rounds of {REQUESTS}, the median of each",
        ms(fsync)
    );
    Ok(rows(
        &us,
        &them,
        ca.server.peak_mib(),
        bao.server.peak_mib(),
        fsync,
    ))
}

fn rows(
    us: &[Measured],
    them: &[Measured],
    our_mib: f64,
    their_mib: f64,
    fsync: Duration,
) -> Vec<Row> {
    let of = |measured: &[Measured], value: fn(&Measured) -> f64| {
        median(measured.iter().map(value).collect())
    };
    let peer = |value: fn(&Measured) -> f64| Some((PEER, of(them, value)));
    vec![
        Row::new(
            "certificates/s, HTTP keep-alive, 32 connections",
            of(us, |m| m.round.rate),
            "1/s",
            peer(|m| m.round.rate),
            (Goal::RatioAtLeast(2.5), "ratio >= 2.5"),
        ),
        Row::new(
            "CPU per certificate",
            of(us, |m| m.cpu_ms),
            "ms",
            peer(|m| m.cpu_ms),
            (Goal::RatioAtMost(0.4), "ratio <= 0.4"),
        ),
        Row::new(
            "p50 under that load",
            of(us, |m| ms(m.round.p50)),
            "ms",
            peer(|m| ms(m.round.p50)),
            (Goal::None, "printed"),
        ),
        Row::new(
            "p99 under that load",
            of(us, |m| ms(m.round.p99)),
            "ms",
            peer(|m| ms(m.round.p99)),
            (Goal::RatioAtMost(0.5), "ratio <= 0.5"),
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

async fn theirs(bao: &OpenBao, count: usize) -> Result<Measured, String> {
    let keys: Result<Vec<_>, String> = (0..CONNECTIONS)
        .map(|_| Ok(public(&fresh_key()?)?.to_string()))
        .collect();
    let requests = keys?
        .iter()
        .cycle()
        .take(count)
        .map(|key| OpenBao::sign_request(key))
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
