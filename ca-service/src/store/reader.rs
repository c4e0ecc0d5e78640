//! Read-only connections, for queries beside the writer (WAL: readers and the writer do not wait for each other).
//! Nothing here can change the store: the connections are opened read-only and `query_only`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use super::error::StoreError;

/// Connections kept for the next query.
const KEPT: usize = 4;

/// Opens and keeps read-only connections.
#[derive(Clone)]
pub struct Reader {
    path: Arc<PathBuf>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Reader {
    /// A reader of the store in this file; it is opened at the first query.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self {
            path: Arc::new(path.to_owned()),
            idle: Arc::default(),
        }
    }

    /// Runs a query on this thread.
    ///
    /// # Errors
    /// The query's, or that the file cannot be opened.
    pub fn query<T>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let connection = self.connection()?;
        let answer = query(&connection);
        self.keep(connection);
        Ok(answer?)
    }

    /// Runs a query on a thread of its own: SQLite reads from disk, which threads that serve requests must not.
    ///
    /// # Errors
    /// The query's; [`StoreError::Closed`] while the process ends.
    pub(super) async fn aside<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let reader = self.clone();
        let read = tokio::task::spawn_blocking(move || query(&reader)).await;
        read.map_err(|_| StoreError::Closed)?
    }

    /// Whether there is a store yet; one that cannot be looked at is there.
    pub(crate) fn is_there(&self) -> bool {
        let found = std::fs::metadata(self.path.as_path());
        !found.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    }

    /// The key that is pinned under this name.
    pub(super) fn pinned(&self, name: &str) -> Result<Option<String>, StoreError> {
        let sql = "SELECT public_key FROM ca_keys WHERE name = ?1";
        self.query(|connection| {
            let found = connection.query_row(sql, [name], |row| row.get(0));
            found.optional()
        })
    }

    fn connection(&self) -> Result<Connection, StoreError> {
        let kept = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        match kept {
            Some(connection) => Ok(connection),
            None if self.is_there() => open_read_only(&self.path),
            None => Err(StoreError::Absent(self.path.to_path_buf())),
        }
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push(connection);
        }
    }
}

fn open_read_only(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(2))?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}
