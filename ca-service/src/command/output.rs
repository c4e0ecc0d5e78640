//! What commands print: a reader that has seen enough (`| head`) ends nothing.

use std::fmt::Display;
use std::io::Write as _;

/// Writes to stdout.
pub(super) fn print(text: impl Display) {
    let mut stdout = std::io::stdout().lock();
    // The outcome is in the exit code; nobody is left to read of a closed pipe.
    let _ = write!(stdout, "{text}").and_then(|()| stdout.flush());
}
