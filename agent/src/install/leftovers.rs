//! Nothing stays of an installation that was killed: temporary files that it never renamed.

use std::path::{Path, PathBuf};

/// Removes temporary files and folders of these files (`.NAME.PID.new`). The caller holds the lock, so
/// nobody is writing one.
pub(super) fn sweep<'a>(files: impl IntoIterator<Item = &'a Path>) {
    for path in files.into_iter().flat_map(temporaries) {
        // Best effort: what cannot go is only a hidden file that nobody reads.
        let _ = match std::fs::symlink_metadata(&path) {
            Ok(about) if about.is_dir() => std::fs::remove_dir_all(&path),
            _ => std::fs::remove_file(&path),
        };
    }
}

fn temporaries(file: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (file.parent(), file.file_name()) else {
        return Vec::new();
    };
    let start = format!(".{}.", name.to_string_lossy());
    let is_temporary = |name: &str| {
        name.strip_prefix(start.as_str())
            .and_then(|rest| rest.strip_suffix(".new"))
            .is_some_and(|pid| !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit()))
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_str().is_some_and(is_temporary))
        .map(|entry| entry.path())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_temporary_files_of_the_named_files_go() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("root.json");
        for name in [
            ".root.json.12.new",
            ".root.json.x.new",
            ".other.12.new",
            "root.json",
        ] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        std::fs::create_dir_all(folder.path().join(".state.7.new/inner")).unwrap();
        sweep([own.as_path(), &folder.path().join("state")]);
        let mut left: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, [".other.12.new", ".root.json.x.new", "root.json"]);
    }
}
