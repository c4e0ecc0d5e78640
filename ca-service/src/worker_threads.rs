//! The service's runtime: one worker for each core, which stays there.
//!
//! Left to the scheduler, both workers of a machine with two cores share one of them for stretches of time: each wakes
//! the other where it runs itself, and the second core, which the store's writer leaves for a moment at each commit,
//! does not idle for long enough to be given one. Worth 6 % of the certificates a second.

use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::runtime::{Builder, Runtime};

/// Longest wait for the workers to take their places: a thread for blocking work that came first would have one of them.
const START: Duration = Duration::from_secs(1);
/// Who sets the number of workers (tokio's own variable) knows better than this file.
const CHOSEN: &str = "TOKIO_WORKER_THREADS";

/// The runtime of the service.
///
/// # Errors
/// When the system gives no threads.
pub fn runtime() -> std::io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    builder.enable_all();
    let Some(cores) = whole_cores() else {
        return builder.build();
    };
    let workers = cores.len();
    let free = Mutex::new(cores.clone());
    let (take, taken) = channel();
    let start = move || {
        let own = free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        // Threads for blocking work come later and would begin with the place of the worker that wants one.
        stay_on(own.as_ref().map_or(&cores, std::slice::from_ref));
        let _ = take.send(());
    };
    let runtime = builder
        .worker_threads(workers)
        .on_thread_start(start)
        .build()?;
    for _ in 0..workers {
        let _ = taken.recv_timeout(START);
    }
    Ok(runtime)
}

/// The cores of this process, where it has several and may use the whole of each: with a quota of processor time (a
/// container's) there are fewer workers than cores, and nobody knows which of them will be busy with others' work.
fn whole_cores() -> Option<Vec<usize>> {
    let cores = allowed_cores()?;
    let usable = std::thread::available_parallelism().ok()?.get();
    let whole = cores.len() > 1 && cores.len() == usable && std::env::var_os(CHOSEN).is_none();
    whole.then_some(cores)
}

/// Those that the calling thread may run on.
fn allowed_cores() -> Option<Vec<usize>> {
    let set = sched_getaffinity(None).ok()?;
    let all = 0..CpuSet::MAX_CPU;
    Some(all.filter(|core| set.is_set(*core)).collect())
}

/// Where it is refused (a sandbox), the scheduler chooses.
fn stay_on(cores: &[usize]) {
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    let _ = sched_setaffinity(None, &set);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::{Arc, Barrier};

    use super::*;

    /// Where the workers of a new runtime are.
    fn places(cores: &[usize]) -> Vec<usize> {
        let runtime = runtime().unwrap();
        let everywhere =
            runtime.block_on(async { tokio::task::spawn_blocking(allowed_cores).await });
        assert_eq!(everywhere.unwrap().unwrap(), cores);
        // As many tasks that wait for each other as there are workers: one on each.
        let meeting = Arc::new(Barrier::new(cores.len()));
        let tasks: Vec<_> = (0..cores.len())
            .map(|_| {
                let meeting = Arc::clone(&meeting);
                runtime.spawn(async move {
                    meeting.wait();
                    allowed_cores()
                })
            })
            .collect();
        let mut found = BTreeSet::new();
        for task in tasks {
            let own = runtime.block_on(task).unwrap().unwrap();
            assert_eq!(own.len(), 1, "{own:?}");
            found.extend(own);
        }
        found.into_iter().collect()
    }

    #[test]
    fn each_worker_has_a_core_and_threads_for_blocking_work_have_all() {
        let Some(cores) = whole_cores() else {
            return;
        };
        // A machine whose cores are managed from outside may move a thread once (cpusets): the next one stays.
        let found = (0..3).map(|_| places(&cores)).find(|found| *found == cores);
        assert_eq!(found.as_ref(), Some(&cores));
        assert_eq!(
            allowed_cores().unwrap(),
            cores,
            "the thread that asks stays free"
        );
    }
}
