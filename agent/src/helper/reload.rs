//! Having sshd read its files again: only after `sshd -t` has accepted them, and only where it needs telling.

use crate::install::SshdOptions;
use crate::install::reload::{self, ReloadError};
use crate::run::settings;
use crate::sshd::{Sshd, SshdError, Version};

/// From here on a connection's process keeps what the listener read (the sshd-session split); an older
/// sshd reads host certificates anew for each connection.
const NEEDS_TELLING: Version = Version { major: 9, minor: 8 };

/// Tests the configuration and, from 9.8 on, reloads; says what was done.
///
/// # Errors
/// sshd refuses its configuration (it is then not touched), or cannot be told.
pub(super) fn reload(settings: &settings::Sshd) -> Result<String, NotReloaded> {
    let sshd = Sshd::find(&settings.program, &settings.config_dir)?;
    sshd.test()?;
    if sshd.version < NEEDS_TELLING {
        return Ok(format!("{} needs no reload", sshd.version));
    }
    let options = SshdOptions {
        config_dir: settings.config_dir.clone(),
        program: settings.program.clone(),
        pid_file: settings.pid_file.clone(),
        reload: true,
    };
    Ok(reload::reload(&options, false)?)
}

/// Why sshd was not told.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotReloaded {
    /// It refuses its configuration.
    #[error(transparent)]
    Sshd(#[from] SshdError),
    /// It could not be told.
    #[error(transparent)]
    Reload(#[from] ReloadError),
}
