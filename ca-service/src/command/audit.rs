//! `eic-ca audit verify|query|tail`: reads the audit beside a running service; changes nothing.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::config_file::ConfigFile;
use crate::audit::{self, Checkpoint, Entry, EventName, Filter, NotCheckpoint, TailError};
use crate::clock::Clock;
use crate::config::ConfigError;
use crate::keys::{FileError, files};
use crate::store::{Reader, StoreError};

/// What to do with the audit.
#[derive(Debug, Args)]
pub struct AuditArgs {
    #[command(flatten)]
    config: ConfigFile,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Check that no record was deleted, reordered, altered or cut off.
    Verify(VerifyArgs),
    /// Print the records that a filter admits, oldest first.
    Query(QueryArgs),
    /// Print the latest records, and with --follow each new one.
    Tail(TailArgs),
}

#[derive(Debug, Args)]
struct VerifyArgs {
    /// Compare with a checkpoint of earlier (a file that --write-checkpoint made).
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Write where the chains stand now; keep it where the service cannot change it.
    #[arg(long, value_name = "FILE")]
    write_checkpoint: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct FilterArgs {
    /// Only this event, e.g. IssueUserCertificate.
    #[arg(long, value_name = "NAME", value_parser = event_name)]
    event: Option<String>,
    /// Only this caller: ARN, unique id, user name or role name, in full.
    #[arg(long, value_name = "WHO")]
    caller: Option<String>,
    /// Only this request.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Only the certificate with this serial.
    #[arg(long, value_name = "NUMBER")]
    serial: Option<String>,
    /// Only this host.
    #[arg(long, value_name = "INSTANCE")]
    instance: Option<String>,
    /// Only refusals and failures.
    #[arg(long)]
    errors: bool,
    /// One JSON object in each line, as it was recorded.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct QueryArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Not before: 2026-11-22T01:55:29Z, or an age such as 90s, 30m, 2h, 7d.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Before: as --since.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// At most so many, the newest.
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    limit: usize,
}

#[derive(Debug, Args)]
struct TailArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// How many of the latest to begin with.
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 10)]
    lines: usize,
    /// Go on with each new record until interrupted.
    #[arg(long, short = 'f')]
    follow: bool,
}

/// Runs the command. Flaws in a chain end it with exit code 1.
///
/// # Errors
/// [`AuditCommandError`]
pub fn run(args: &AuditArgs) -> Result<ExitCode, AuditCommandError> {
    let reader = Reader::new(&args.config.load()?.store);
    match &args.verb {
        Verb::Verify(verify) => run_verify(&reader, verify),
        Verb::Query(query) => run_query(&reader, query, Clock::system().now()),
        Verb::Tail(tail) => run_tail(&reader, tail),
    }
}

fn run_verify(reader: &Reader, args: &VerifyArgs) -> Result<ExitCode, AuditCommandError> {
    let known = args
        .checkpoint
        .as_ref()
        .map_or(Ok(Vec::new()), read_checkpoints)?;
    let report = audit::verify(reader, &known)?;
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{} by {}",
        counted(report.records, "record"),
        counted(report.heads.len(), "writer")
    )?;
    report
        .heads
        .iter()
        .try_for_each(|head| writeln!(out, "  {head}"))?;
    if !report.flaws.is_empty() {
        report
            .flaws
            .iter()
            .try_for_each(|flaw| writeln!(out, "FLAW: {flaw}"))?;
        return Ok(ExitCode::FAILURE);
    }
    writeln!(
        out,
        "the chain holds: no record was deleted, reordered or altered"
    )?;
    if let Some(file) = &args.write_checkpoint {
        let lines: String = report
            .heads
            .iter()
            .map(|head| format!("{head}\n"))
            .collect();
        files::replace(file, lines.as_bytes(), files::PUBLIC)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `1 writer`, `2 writers`
fn counted(count: impl TryInto<u64>, noun: &str) -> String {
    match count.try_into() {
        Ok(1) => format!("1 {noun}"),
        Ok(count) => format!("{count} {noun}s"),
        Err(_) => format!("too many {noun}s to count"),
    }
}

fn read_checkpoints(file: &PathBuf) -> Result<Vec<Checkpoint>, AuditCommandError> {
    let text = std::fs::read_to_string(file)?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    Ok(lines
        .map(str::parse)
        .collect::<Result<_, NotCheckpoint>>()?)
}

fn run_query(reader: &Reader, args: &QueryArgs, now: u64) -> Result<ExitCode, AuditCommandError> {
    let time = |text: &Option<String>| text.as_deref().map(|t| moment(t, now)).transpose();
    let filter = Filter {
        since: time(&args.since)?,
        until: time(&args.until)?,
        ..filter(&args.filter, Some(args.limit))
    };
    let entries = audit::query(reader, &filter)?;
    if entries.is_empty() {
        eprintln!("eic-ca: no record fits");
    }
    print(&entries, args.filter.json, true)?;
    Ok(ExitCode::SUCCESS)
}

fn run_tail(reader: &Reader, args: &TailArgs) -> Result<ExitCode, AuditCommandError> {
    let latest = audit::query(reader, &filter(&args.filter, Some(args.lines)))?;
    let newest = audit::query(
        reader,
        &Filter {
            limit: Some(1),
            ..Filter::default()
        },
    )?;
    let last = newest.last().map_or(0, |entry| entry.id);
    print(&latest, args.filter.json, true)?;
    if args.follow {
        let show = |entry: &Entry| {
            print(std::slice::from_ref(entry), args.filter.json, false).map(|()| true)
        };
        match audit::tail(reader, &filter(&args.filter, None), last, show) {
            // `eic-ca audit tail -f | head` is no failure.
            Err(TailError::Show(error)) if error.kind() == io::ErrorKind::BrokenPipe => {}
            other => other?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print(entries: &[Entry], json: bool, with_header: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        audit::print_json(&mut out, entries)?;
    } else {
        audit::print_table(
            &mut out,
            entries,
            with_header && (io::stdout().is_terminal() || !entries.is_empty()),
        )?;
    }
    out.flush()
}

fn filter(args: &FilterArgs, limit: Option<usize>) -> Filter {
    Filter {
        since: None,
        until: None,
        event: args.event.clone(),
        caller: args.caller.clone(),
        request_id: args.request_id.clone(),
        serial: args.serial.clone(),
        instance: args.instance.clone(),
        errors_only: args.errors,
        limit,
    }
}

fn event_name(text: &str) -> Result<String, String> {
    let known = EventName::ALL.iter().any(|name| name.as_str() == text);
    let names: Vec<&str> = EventName::ALL.iter().map(|name| name.as_str()).collect();
    if known {
        Ok(text.to_owned())
    } else {
        Err(format!("known events are {}", names.join(", ")))
    }
}

/// A moment in Unix seconds: RFC 3339, or an age before now.
fn moment(text: &str, now: u64) -> Result<u64, AuditCommandError> {
    let absolute = text
        .parse::<jiff::Timestamp>()
        .ok()
        .and_then(|t| u64::try_from(t.as_second()).ok());
    absolute
        .or_else(|| age(text).map(|age| now.saturating_sub(age)))
        .ok_or_else(|| AuditCommandError::Time(text.to_owned()))
}

fn age(text: &str) -> Option<u64> {
    let unit = text.chars().last()?;
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    number.checked_mul(seconds)
}

/// Why the audit was not read.
#[derive(Debug, thiserror::Error)]
pub enum AuditCommandError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Following ended.
    #[error(transparent)]
    Tail(#[from] TailError),
    /// A checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] NotCheckpoint),
    /// The new checkpoint.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file, or the output.
    #[error("read or write: {0}")]
    Io(#[from] io::Error),
    /// Not a moment.
    #[error(
        "read the time `{0}`: expected 2026-11-22T01:55:29Z, or an age such as 90s, 30m, 2h, 7d"
    )]
    Time(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_that_are_neither_a_date_nor_an_age_are_refused() {
        for bad in [
            "",
            "yesterday",
            "2h ago",
            "-2h",
            "5w",
            "h",
            "99999999999999999999d",
            "é",
        ] {
            assert!(moment(bad, 1_000_000).is_err(), "{bad:?}");
        }
        assert_eq!(moment("2h", 1_000_000).unwrap(), 992_800);
        assert_eq!(moment("1970-01-01T00:01:00Z", 1_000_000).unwrap(), 60);
    }

    #[test]
    fn unknown_events_are_refused_with_the_known_ones_named() {
        assert!(
            event_name("issueusercertificate")
                .unwrap_err()
                .contains("IssueUserCertificate")
        );
        assert!(event_name("OrphanFound").is_ok());
    }
}
