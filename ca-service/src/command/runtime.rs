//! Runs one command's future: a single thread suffices for what an operator types.

use std::io;

/// The future's outcome.
///
/// # Errors
/// Where the runtime cannot start.
pub(super) fn block_on<F: Future>(future: F) -> io::Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(future))
}
