//! What can go wrong in the store. Every case refuses: nothing is signed that was not recorded.

use std::path::PathBuf;
use std::sync::Arc;

/// Why something was not written or read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The queue is full.
    #[error("record the request: too many requests wait for the store")]
    Overloaded,
    /// Not durable in time. It is not written later either, or closed as abandoned.
    #[error("record the request within {0} ms: the store's disk may be stuck")]
    Timeout(u128),
    /// The writer has ended.
    #[error("record the request: the store is closed")]
    Closed,
    /// The database refused: disk full, locked by another process, I/O error.
    #[error("use the database: {0}")]
    Database(#[from] Arc<rusqlite::Error>),
    /// Another service uses the database.
    #[error("lock `{0}`: another `eic-ca serve` uses this store")]
    InUse(PathBuf),
    /// The file cannot be made or locked.
    #[error("open `{path}`: {cause}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: Arc<std::io::Error>,
    },
    /// There is no store yet.
    #[error("read the store `{0}`: there is none yet; `eic-ca serve` makes it at its first start")]
    Absent(PathBuf),
    /// Written by a newer release.
    #[error(
        "open the store: its schema {found} is newer than this program's {known}; install the newer release"
    )]
    Newer {
        /// In the file.
        found: i64,
        /// Known here.
        known: i64,
    },
    /// The operating system gave no random bytes.
    #[error("get random bytes from the operating system")]
    NoEntropy,
    /// An outcome that does not belong to its action.
    #[error("use the store: an answer did not fit its question")]
    Confused,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(Arc::new(error))
    }
}
