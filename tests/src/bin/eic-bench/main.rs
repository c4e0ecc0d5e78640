//! `make bench`: the numbers of the design beside named peers, in one run, as ratios.
//! Bounded load on loopback and in namespaces of its own; asserts nothing, prints and writes what it measured.
//! `eic-bench policy|certificates|endorsed|sessions|login|mssh|fan_out|tunnels|trust` measures a part and writes nothing.

mod fan_out;
mod issuance;
mod login;
mod mssh;
mod openbao;
mod policy;
mod process;
mod revoked;
mod summary;
mod trust;
mod tunnels;

use std::path::PathBuf;
use std::process::ExitCode;

/// The shape of the command line that measures a short process in a room: `eic-bench time COUNT PROGRAM ARGS…`.
const TIME: &str = "time";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match args.split_first() {
        Some((verb, rest)) if verb == TIME => process::time_command(rest),
        _ => bench(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("eic-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(parts: &[String]) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let binaries = program.parent().ok_or("no folder")?.to_owned();
    let target = binaries.parent().ok_or("no target folder")?.to_owned();
    let folder = tempfile::tempdir_in(&target).map_err(|e| e.to_string())?;
    let cache = target.join("eic-lab");
    std::fs::create_dir_all(&cache).map_err(|e| e.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;

    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|p| p == part);
    let mut rows = Vec::new();
    if wanted("policy") {
        println!("policy …");
        rows.extend(policy::evaluations()?);
    }
    if wanted("certificates") {
        println!("certificates beside OpenBao …");
        rows.extend(runtime.block_on(issuance::certificates(&binaries, &cache, folder.path()))?);
    }
    if wanted("endorsed") {
        println!("certificates by keys in memory beside OpenBao …");
        rows.extend(runtime.block_on(issuance::endorsed(&binaries, &cache, folder.path()))?);
    }
    if wanted("sessions") {
        println!("sign-in …");
        rows.extend(runtime.block_on(issuance::sessions(&binaries, folder.path()))?);
    }
    if wanted("login") {
        println!("logins through real sshd …");
        rows.extend(login::rows(&program)?);
    }
    if wanted("mssh") {
        println!("mssh beside the original …");
        rows.extend(mssh::rows()?);
    }
    if wanted("fan_out") {
        println!("fan-out, AWS's client …");
        rows.extend(fan_out::rows()?);
    }
    if wanted("tunnels") {
        println!("bulk data through tunnels beside AWS's client …");
        rows.extend(tunnels::rows()?);
    }
    if wanted("trust") {
        println!("trust bundles, views, handshakes, revocations …");
        rows.extend(runtime.block_on(trust::rows(&binaries, folder.path()))?);
        rows.extend(revoked::rows()?);
    }
    println!();
    summary::print(&rows);
    if parts.is_empty() {
        let file: PathBuf = target.join("bench/summary.json");
        summary::write(&rows, &file)?;
        println!("\nwritten to {}", file.display());
    }
    Ok(())
}
