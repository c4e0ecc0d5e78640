//! A file of syslog lines, read on from where it was left; across one rotation to `FILE.1`.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{Cursor, MAX_BYTES, NoLog, Read, Told, split_line, told, unreadable};

pub(super) fn read(path: &Path, cursor: Option<&Cursor>) -> Result<Read, NoLog> {
    let failed = unreadable(path);
    let file = File::open(path).map_err(&failed)?;
    let about = file.metadata().map_err(&failed)?;
    let mut entries = Vec::new();
    let start = match cursor {
        Some(Cursor::File { inode, offset })
            if *inode == about.ino() && *offset <= about.size() =>
        {
            *offset
        }
        Some(Cursor::File { inode, offset }) => {
            entries.extend(rest_of_rotated(path, *inode, *offset));
            0
        }
        _ => about.size().saturating_sub(limit()),
    };
    let (more, end) = from(file, start).map_err(&failed)?;
    entries.extend(more);
    let cursor = Cursor::File {
        inode: about.ino(),
        offset: end,
    };
    Ok(Read {
        told: entries,
        cursor: Some(cursor),
    })
}

fn limit() -> u64 {
    u64::try_from(MAX_BYTES).unwrap_or(u64::MAX)
}

/// What had not been read when the file was renamed; nothing where it was not.
fn rest_of_rotated(path: &Path, inode: u64, offset: u64) -> Vec<Told> {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    let Ok(file) = File::open(PathBuf::from(name)) else {
        return Vec::new();
    };
    let same = file.metadata().is_ok_and(|about| about.ino() == inode);
    if !same {
        return Vec::new();
    }
    from(file, offset)
        .map(|(entries, _)| entries)
        .unwrap_or_default()
}

/// The logins in whole lines from `start` on, and where the last whole line ends.
fn from(mut file: File, start: u64) -> std::io::Result<(Vec<Told>, u64)> {
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(limit()).read_to_end(&mut bytes)?;
    let whole = bytes
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    bytes.truncate(whole);
    let text = String::from_utf8_lossy(&bytes);
    let entries = text.lines().filter_map(|line| {
        let (pid, message) = split_line(line)?;
        told(None, pid, message)
    });
    let read = u64::try_from(whole).unwrap_or(u64::MAX);
    Ok((entries.collect(), start.saturating_add(read)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(pid: u32) -> String {
        format!(
            "Nov 22 04:58:01 h sshd[{pid}]: Accepted password for a from 10.0.0.7 port 1 ssh2\n"
        )
    }

    fn pids(read: &Read) -> Vec<u32> {
        read.told
            .iter()
            .map(|told| match told {
                Told::Login(entry) => entry.pid,
                Told::End(end) => end.pid,
            })
            .collect()
    }

    #[test]
    fn a_missing_file_is_an_error_not_silence() {
        assert!(read(Path::new("/nonexistent/auth.log"), None).is_err());
    }

    #[test]
    fn each_line_is_read_once_and_only_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.log");
        std::fs::write(&path, format!("noise\n{}{}", line(1), &line(2)[..30])).unwrap();
        let first = read(&path, None).unwrap();
        assert_eq!(pids(&first), [1]);
        std::fs::write(&path, format!("noise\n{}{}{}", line(1), line(2), line(3))).unwrap();
        let second = read(&path, first.cursor.as_ref()).unwrap();
        assert_eq!(pids(&second), [2, 3]);
        assert!(read(&path, second.cursor.as_ref()).unwrap().told.is_empty());
    }

    #[test]
    fn a_rotation_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.log");
        std::fs::write(&path, line(1)).unwrap();
        let first = read(&path, None).unwrap();
        std::fs::write(&path, line(1) + &line(2)).unwrap();
        std::fs::rename(&path, folder.path().join("auth.log.1")).unwrap();
        std::fs::write(&path, line(3)).unwrap();
        assert_eq!(pids(&read(&path, first.cursor.as_ref()).unwrap()), [2, 3]);
    }

    #[test]
    fn a_file_that_shrank_is_read_from_its_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.log");
        std::fs::write(&path, line(1) + &line(2)).unwrap();
        let first = read(&path, None).unwrap();
        std::fs::write(&path, line(3)).unwrap();
        assert_eq!(pids(&read(&path, first.cursor.as_ref()).unwrap()), [3]);
    }
}
