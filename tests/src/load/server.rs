//! A server under load: started, measured by /proc (proc(5)), and ended with its handle.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

/// A process that ends with its handle.
#[derive(Debug)]
pub struct Server(Child);

impl Server {
    /// Starts a program with its output in `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command, log: &std::path::Path) -> Result<Self, String> {
        let file = std::fs::File::create(log).map_err(|e| e.to_string())?;
        let errors = file.try_clone().map_err(|e| e.to_string())?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn();
        child.map(Self).map_err(|e| format!("{command:?}: {e}"))
    }

    /// Has it run on one core only, with all threads that it has by now.
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn pin(&self, core: usize) -> Result<(), String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.0.id()));
        for task in tasks.map_err(|e| e.to_string())?.flatten() {
            let name = task.file_name();
            let pid = name.to_str().and_then(|name| name.parse().ok());
            pin(pid.and_then(Pid::from_raw), core)?;
        }
        Ok(())
    }

    /// Kills it, as `kill -9` does.
    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it does not within 30 s.
    pub fn wait(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.0.try_wait().map_err(|e| e.to_string())?.is_none() {
            if Instant::now() > deadline {
                return Err("the server does not end".to_owned());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// CPU time of all its threads so far, user and system.
    pub fn cpu(&self) -> Duration {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap_or_default();
        // Fields 14 and 15, counted after the parenthesised name; in clock ticks of 10 ms.
        let fields: Vec<u64> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .map(|f| f.parse().unwrap_or(0))
            .collect();
        let ticks = fields.get(11).copied().unwrap_or(0) + fields.get(12).copied().unwrap_or(0);
        Duration::from_millis(ticks * 10)
    }

    /// Peak resident memory in MiB.
    pub fn peak_mib(&self) -> f64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap_or_default();
        let line = status
            .lines()
            .find_map(|l| l.strip_prefix("VmHWM:"))
            .unwrap_or_default();
        let kib: u32 = line
            .split_whitespace()
            .next()
            .and_then(|n| n.parse().ok())
            .unwrap_or(0);
        f64::from(kib) / 1024.0
    }
}

/// Has one thread run on one core only; none: the calling one.
///
/// # Errors
/// When the system does not let us.
pub fn pin(thread: Option<Pid>, core: usize) -> Result<(), String> {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(thread, &cores).map_err(|e| format!("pin to core {core}: {e}"))
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
