//! What hosts cost the CA: trust bundles that have not changed, views of many hosts, handshakes; and what a bundle with
//! a year's revocations costs a host to check.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use eic_ca::store::{Store, StoreConfig};
use eic_lab::load::ca::{INSTANCE, LoadedCa, public, sign_as};
use eic_lab::load::server::pin;
use eic_lab::load::{Connection, request, run_for};
use eic_protocol::api::trust_bundle::TrustBundleResponse;
use eic_protocol::base64_text::Base64Bytes;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::sshsig::Namespace;
use eic_protocol::trust::bundle::{Bundle, RevocationList};
use eic_protocol::trust::envelope::{Envelope, EnvelopeSignature};
use eic_protocol::trust::root::Root;
use ssh_key::PrivateKey;

use crate::process::{median, ms};
use crate::revoked::{NOW, a_year_of_revocations, encoded};
use crate::summary::{Goal, Row};

const CONNECTIONS: usize = 32;
const UNCHANGED: usize = 100_000;
const HOSTS: usize = 100_000;
/// For one write of many hosts, on whatever disk this is.
const PATIENCE: Duration = Duration::from_secs(60);
/// Hosts that are made known to the CA at once.
const AT_ONCE: usize = 2_000;
/// The CA's core, and that of whoever asks it.
const CORES: (usize, usize) = (0, 1);
const HANDSHAKE_SECONDS: &str = "3";
const CHECKS: usize = 50;

/// Rows of the CA's side.
pub(crate) async fn rows(binaries: &Path, folder: &Path) -> Result<Vec<Row>, String> {
    let program = binaries.join("eic-ca");
    let place = folder.join("trust");
    std::fs::create_dir_all(&place).map_err(|e| e.to_string())?;
    let mut ca = LoadedCa::start(&program, &place, Duration::ZERO, None).await?;
    let out = place.join("state").display().to_string();
    std::fs::create_dir_all(&out).map_err(|e| e.to_string())?;
    ca.run(&["host-state", "--instance", INSTANCE, "--out", &out])?;
    let hosts = hosts()?;
    ca.server.kill();
    make_known(&ca, &hosts).await?;
    ca.restart_with(&[]).await?;
    // A machine with one core shares it; the rate is then the smaller.
    let pinned = ca.server.pin(CORES.0).is_ok() && pin(None, CORES.1).is_ok();
    println!(
        "  the CA has one core of its own: {}",
        if pinned { "yes" } else { "no" }
    );
    let mut rows = unchanged(&ca).await?;
    rows.extend(views(&ca, &hosts).await?);
    rows.extend(handshakes(&mut ca, &place).await?);
    rows.push(check(&ca)?);
    Ok(rows)
}

fn question(host: &str, tag: Option<&str>) -> Vec<u8> {
    let path = format!("/v1/trust-bundle?root=1&host={host}");
    let known = tag.map(|tag| ("if-none-match", tag));
    request("GET", &path, known.as_slice(), b"")
}

async fn asked(ca: &LoadedCa, host: &str) -> Result<TrustBundleResponse, String> {
    let mut connection = Connection::open(ca.address).await?;
    let (status, body) = connection.call(&question(host, None)).await?;
    TrustBundleResponse::parse(&body).map_err(|e| format!("{status}: {e}"))
}

/// One host of which the CA has the view asks again and again.
async fn unchanged(ca: &LoadedCa) -> Result<Vec<Row>, String> {
    let tag = asked(ca, INSTANCE).await?.entity_tag().to_string();
    let requests = vec![question(INSTANCE, Some(&tag)); UNCHANGED];
    let before = ca.server.cpu();
    let round = run_for(304, ca.address, requests, CONNECTIONS).await?;
    let cpu = ca.server.cpu().saturating_sub(before).as_secs_f64();
    let count = f64::from(u32::try_from(round.answers).unwrap_or(u32::MAX));
    Ok(vec![
        Row::new(
            "trust bundle not modified, kept connections, one core",
            round.rate,
            "1/s",
            None,
            (Goal::AtLeast(20_000.0), ">= 20,000/s"),
        ),
        Row::new(
            "the same by the CA's CPU time",
            count / cpu,
            "1/s",
            None,
            (Goal::None, "printed"),
        ),
    ])
}

/// As many other hosts as a large company has.
fn hosts() -> Result<Vec<InstanceId>, String> {
    let names = (0..HOSTS).map(|n| format!("i-0f{n:015x}"));
    let parsed = names.map(|name| name.parse().map_err(|e| format!("{name}: {e}")));
    parsed.collect()
}

/// As `eic-ca host-state` for each would: the CA signs views only for hosts that it knows.
async fn make_known(ca: &LoadedCa, hosts: &[InstanceId]) -> Result<(), String> {
    let config = StoreConfig {
        deadline: PATIENCE,
        ..StoreConfig::at(ca.config.with_file_name("eic-ca.db"))
    };
    let store = Store::open(&config).map_err(|e| e.to_string())?;
    for some in hosts.chunks(AT_ONCE) {
        let mut under_way = tokio::task::JoinSet::new();
        for host in some {
            let (register, host) = (store.host_register(), host.clone());
            under_way.spawn(async move { register.next_view(&host, NOW).await });
        }
        while let Some(done) = under_way.join_next().await {
            let version = done.map_err(|e| e.to_string())?;
            version.map_err(|e| e.to_string())?;
        }
    }
    Ok(())
}

/// Each host asks for the first time, and once more with what it got.
async fn views(ca: &LoadedCa, hosts: &[InstanceId]) -> Result<Vec<Row>, String> {
    let named = hosts.iter().map(|host| (host.to_string(), None));
    let (first, made) = ask_each(ca.address, named.collect()).await?;
    if first.iter().any(|asked| asked.tag.is_none()) {
        return Err("a host got no view".to_owned());
    }
    let again = first.into_iter().map(|asked| (asked.host, asked.tag));
    let (second, heard) = ask_each(ca.address, again.collect()).await?;
    let same = second.iter().filter(|asked| asked.status == 304).count();
    let number = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    let rate = |time: Duration| number(hosts.len()) / time.as_secs_f64();
    Ok(vec![
        Row::new(
            "host views made, 100,000 hosts at their first question",
            rate(made),
            "1/s",
            None,
            (Goal::None, "printed"),
        ),
        Row::new(
            "of them not modified at their second question",
            100.0 * number(same) / number(hosts.len()),
            "%",
            None,
            (Goal::AtLeast(99.0), "all but none"),
        ),
        Row::new(
            "the second questions",
            rate(heard),
            "1/s",
            None,
            (Goal::None, "printed"),
        ),
        Row::new(
            "resident memory of the CA with them (peak)",
            ca.server.peak_mib(),
            "MiB",
            None,
            (Goal::None, "printed"),
        ),
    ])
}

/// What a host heard.
struct Asked {
    host: String,
    status: u16,
    /// Of documents that came with a view.
    tag: Option<String>,
}

/// Hosts with the tags that they know. Answers are read, so that the time is that of both ends.
async fn ask_each(
    address: SocketAddr,
    hosts: Vec<(String, Option<String>)>,
) -> Result<(Vec<Asked>, Duration), String> {
    let started = Instant::now();
    let mut workers = tokio::task::JoinSet::new();
    for some in hosts.chunks(hosts.len().div_ceil(CONNECTIONS)) {
        workers.spawn(ask_some(address, some.to_vec()));
    }
    let mut all = Vec::with_capacity(hosts.len());
    while let Some(done) = workers.join_next().await {
        all.extend(done.map_err(|e| e.to_string())??);
    }
    Ok((all, started.elapsed()))
}

async fn ask_some(
    address: SocketAddr,
    hosts: Vec<(String, Option<String>)>,
) -> Result<Vec<Asked>, String> {
    let mut connection = Connection::open(address).await?;
    let mut all = Vec::with_capacity(hosts.len());
    for (host, known) in hosts {
        let (status, body) = connection.call(&question(&host, known.as_deref())).await?;
        let documents = TrustBundleResponse::parse(&body).ok();
        let with_view = documents.filter(|documents| documents.view.is_some());
        let tag = with_view.map(|documents| documents.entity_tag().to_string());
        all.push(Asked { host, status, tag });
    }
    Ok(all)
}

/// New connections with a whole TLS handshake each, by OpenSSL's own client.
async fn handshakes(ca: &mut LoadedCa, place: &Path) -> Result<Option<Row>, String> {
    let (certificate, key) = (place.join("tls.crt"), place.join("tls.key"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ])
        .args(["-nodes", "-subj", "/CN=localhost", "-days", "2", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output();
    let made = made.map_err(|e| format!("openssl req: {e}"))?;
    if !made.status.success() {
        return Err(String::from_utf8_lossy(&made.stderr).into_owned());
    }
    let mut tls = toml::Table::new();
    for (name, file) in [("certificate", &certificate), ("key", &key)] {
        tls.insert(name.to_owned(), file.display().to_string().into());
    }
    let url = format!("https://{}", ca.address);
    let settings = [
        ("server", "tls", tls.into()),
        ("server", "public_url", url.into()),
    ];
    ca.restart_with(&settings).await?;
    ca.server.pin(CORES.0)?;
    let timed = Command::new("openssl")
        .args(["s_time", "-new", "-time", HANDSHAKE_SECONDS, "-connect"])
        .arg(ca.address.to_string())
        .output();
    let timed = timed.map_err(|e| format!("openssl s_time: {e}"))?;
    let said = String::from_utf8_lossy(&timed.stdout);
    Ok(real_rate(&said).map(|rate| {
        Row::new(
            "TLS handshakes/s, new connections, P-256, one core",
            rate,
            "1/s",
            None,
            (Goal::None, "printed"),
        )
    }))
}

/// `1234 connections in 4 real seconds`: the other line counts the client's own CPU time.
fn real_rate(said: &str) -> Option<f64> {
    let line = said.lines().find(|line| line.contains("real seconds"))?;
    let numbers = line.split_whitespace().filter_map(|word| word.parse().ok());
    match numbers.collect::<Vec<f64>>().as_slice() {
        [connections, seconds, ..] if *seconds > 0.0 => Some(connections / seconds),
        _ => None,
    }
}

/// A host's check of a bundle: the signature under the root, the document, the revocation list.
fn check(ca: &LoadedCa) -> Result<Row, String> {
    let root = std::fs::read(ca.config.with_file_name("keys").join("root.json"));
    let root: Envelope =
        serde_json::from_slice(&root.map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
    let root: Root = serde_json::from_slice(root.signed.as_slice()).map_err(|e| e.to_string())?;
    let envelope = a_years_bundle(ca, &root)?;
    let mut times = Vec::new();
    for _ in 0..CHECKS {
        let started = Instant::now();
        let bundle = Bundle::verified(&envelope, &root, NOW).map_err(|e| e.to_string())?;
        let list = bundle.revocations.read().map_err(|e| e.to_string())?;
        times.push(started.elapsed());
        if list.count() == 0 {
            return Err("the list is empty".to_owned());
        }
    }
    Ok(Row::new(
        "check of a bundle with a year's revocations",
        ms(median(times)),
        "ms",
        None,
        (Goal::None, "printed"),
    ))
}

/// Signed by the CA's own bundle key.
fn a_years_bundle(ca: &LoadedCa, root: &Root) -> Result<Envelope, String> {
    let cas: Vec<_> = root.user_cas.iter().map(|ca| ca.key.clone()).collect();
    let set = a_year_of_revocations(&cas)?;
    let bundle = Bundle {
        sequence: 10,
        root_version: root.version,
        issued: NOW,
        refresh_after: NOW + 86_400,
        hard_stop: None,
        oldest_view: 0,
        revocations: RevocationList::new(encoded(&set)?, 10, 0, set.expiring()),
        endorsements: Vec::new(),
    };
    let signed = serde_json::to_vec(&bundle).map_err(|e| e.to_string())?;
    let file = ca.config.with_file_name("keys").join("bundle");
    let key = PrivateKey::read_openssh_file(&file).map_err(|e| e.to_string())?;
    let public = public(&key)?;
    let signature = sign_as(Namespace::Bundle, &key, &public, &signed)?;
    Ok(Envelope {
        signed: Base64Bytes(signed),
        signatures: vec![EnvelopeSignature {
            key: public,
            signature: Base64Bytes(signature),
        }],
    })
}
