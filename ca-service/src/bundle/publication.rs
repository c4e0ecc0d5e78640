//! The bundle as files in a folder, for hosts that fetch it from there or from a web server in front of it.
//! Each file is whole or not there. Views lie beside it, in `hosts`, as `eic-ca host-state` writes them.

use std::path::{Path, PathBuf};

use super::edition::Edition;
use crate::keys::FileError;
use crate::keys::files;

/// Roots and bundle, as the CA answers them without a host.
pub const BUNDLE_FILE: &str = "trust-bundle.json";
/// Folder of the views, `<instance>.json` each.
pub const HOSTS_FOLDER: &str = "hosts";

/// What cannot be published.
#[derive(Debug, thiserror::Error)]
pub enum PublicationError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A document.
    #[error("write the bundle: {0}")]
    Json(#[from] serde_json::Error),
}

/// Writes roots and bundle; returns the file.
///
/// # Errors
/// [`PublicationError`]
pub fn bundle(folder: &Path, edition: &Edition) -> Result<PathBuf, PublicationError> {
    files::make_folder(&folder.join(HOSTS_FOLDER))?;
    let file = folder.join(BUNDLE_FILE);
    files::replace(&file, &edition.answer(None, None)?.body(), files::PUBLIC)?;
    Ok(file)
}
