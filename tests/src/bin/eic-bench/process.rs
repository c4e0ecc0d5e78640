//! Times of short processes, and what a durable write costs on this disk.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use eic_lab::process::{Output, RoomCommand};

/// Median wall and CPU time of one run, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// From start to end.
    pub(crate) wall: f64,
    /// User and system time of the process and its children.
    pub(crate) cpu: f64,
}

/// `eic-bench time COUNT PROGRAM ARGS…`: runs inside a room, so that entering the room is not measured.
/// Prints `WALL CPU`, medians in milliseconds.
pub(crate) fn time_command(args: &[String]) -> Result<(), String> {
    let (count, rest) = args.split_first().ok_or("how often?")?;
    let (program, rest) = rest.split_first().ok_or("which program?")?;
    let count: usize = count.parse().map_err(|_| "the count is a number")?;
    let mut walls = Vec::new();
    let before = children_cpu();
    for _ in 0..count {
        let mut command = Command::new(program);
        command
            .args(rest)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let started = Instant::now();
        let status = command.status().map_err(|e| format!("{program}: {e}"))?;
        walls.push(started.elapsed());
        if !status.success() {
            return Err(format!("{program}: {status}"));
        }
    }
    let runs = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    println!(
        "{} {}",
        ms(median(walls)),
        ms(children_cpu().saturating_sub(before)) / runs
    );
    Ok(())
}

/// CPU time of all children that ended so far (proc(5): cutime and cstime, in ticks of 10 ms).
pub(crate) fn children_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<u64> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(|f| f.parse().unwrap_or(0))
        .collect();
    let ticks = fields.get(13).copied().unwrap_or(0) + fields.get(14).copied().unwrap_or(0);
    Duration::from_millis(ticks * 10)
}

/// Runs a command in a room to its end, which must be a good one.
pub(crate) fn done(command: &RoomCommand) -> Result<Output, String> {
    command
        .run()
        .and_then(Output::success)
        .map_err(|e| e.to_string())
}

/// Runs `eic-bench time` by a prepared command and reads its answer.
pub(crate) fn timed(command: &RoomCommand) -> Result<Times, String> {
    let output = done(command)?;
    let mut numbers = output.stdout.split_whitespace().map(str::parse::<f64>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(wall)), Some(Ok(cpu))) => Ok(Times { wall, cpu }),
        _ => Err(format!("unexpected: {}", output.stdout)),
    }
}

/// Median of several durations.
pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// In milliseconds.
pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// 99th percentile of write-and-fsync of 4 KiB in `folder`: what a durable record costs here and now.
pub(crate) fn fsync_p99(folder: &std::path::Path) -> Result<Duration, String> {
    use std::io::Write as _;
    let mut file = std::fs::File::create(folder.join("fsync-probe")).map_err(|e| e.to_string())?;
    let mut times = Vec::new();
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(1) {
        let one = Instant::now();
        file.write_all(&[0; 4096])
            .and_then(|()| file.sync_data())
            .map_err(|e| e.to_string())?;
        times.push(one.elapsed());
    }
    times.sort_unstable();
    Ok(times
        .get(times.len() * 99 / 100)
        .copied()
        .unwrap_or_default())
}
