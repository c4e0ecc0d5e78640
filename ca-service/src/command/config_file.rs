//! `--config FILE`, as every command takes it that works on a CA.

use std::path::PathBuf;

use clap::Args;

use crate::config::{Config, ConfigError};

/// Which CA.
#[derive(Debug, Args)]
pub(super) struct ConfigFile {
    /// The service's configuration file.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "eic-ca.toml",
        global = true
    )]
    config: PathBuf,
}

impl ConfigFile {
    /// Reads it.
    pub(super) fn load(&self) -> Result<Config, ConfigError> {
        Config::load(&self.config)
    }
}
