//! `eic-agent keys list`: every way in that sshd would accept here.

use super::CommandError;
use crate::config::Config;
use crate::trusted_file::Trusted;
use crate::ways_in::{self, ListOptions};

/// The list.
///
/// # Errors
/// Not root, an unknown account, a configuration that cannot be used.
pub(super) fn run(options: &ListOptions) -> Result<String, CommandError> {
    let config = Config::load(None, &Trusted::system())?;
    Ok(ways_in::list(options, &config)?)
}
