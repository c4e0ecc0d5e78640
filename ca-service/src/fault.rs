//! Named points at which a test may kill the service, to prove that no certificate leaves without its record.
//! Without the cargo feature `fault-injection` every point is empty and nothing reads the environment.

/// Kills this process with SIGKILL where `EIC_FAULT=<point>:<n>` names this point and it is passed
/// for the n-th time. Points in the order of one issuance: `before-record`, `in-transaction`,
/// `after-commit`, `after-record`, `after-sign`, `after-check`, `before-answer`.
#[cfg(feature = "fault-injection")]
pub fn point(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static FAULT: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let fault = FAULT.get_or_init(|| {
        let text = std::env::var("EIC_FAULT").ok()?;
        let (point, count) = text.split_once(':')?;
        Some((point.to_owned(), count.parse().ok()?))
    });
    let Some((wanted, count)) = fault else { return };
    if wanted == name && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *count {
        // Not abort: a core dump would hold keys, and SIGKILL runs no handler.
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// Does nothing: the feature `fault-injection` is off.
#[cfg(not(feature = "fault-injection"))]
#[inline]
pub fn point(_name: &str) {}
