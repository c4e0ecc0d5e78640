//! Putting the block in place and taking it away again: `~/.ssh/eic.config`, and one line at the top of `~/.ssh/config`.
//! Everything else in the user's file stays byte for byte; what was made here is removed by undo.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::block;
use crate::files::{self, FileError};

/// The line; relative to `~/.ssh` (ssh_config(5), `Include`).
const INCLUDE: &str = "Include eic.config\n";
/// Remembered in our file: the user had no configuration before.
const MADE_CONFIG: &str = "# made by setup: config\n";
/// Remembered in our file: the user had no `~/.ssh` before.
const MADE_FOLDER: &str = "# made by setup: folder\n";
/// Remembered in our file: a folder above ours that was not there, one line each.
const MADE_PARENT: &str = "# made by setup: parent ";
/// Largest ssh configuration that is edited. Bytes.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// The user's ssh configuration.
#[derive(Clone, Debug)]
pub struct Installation {
    ssh_dir: PathBuf,
}

/// A file before and after. `None`: not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The file.
    pub path: PathBuf,
    /// Its bytes now.
    pub before: Option<Vec<u8>>,
    /// Its bytes then.
    pub after: Option<Vec<u8>>,
    mode: u32,
}

impl Installation {
    /// For a `~/.ssh`.
    #[must_use]
    pub fn new(ssh_dir: &Path) -> Self {
        Self {
            ssh_dir: ssh_dir.to_owned(),
        }
    }

    /// Whether ssh reads our file.
    #[must_use]
    pub fn is_in_place(&self) -> bool {
        let config = files::read_capped(&self.ssh_dir.join("config"), MAX_FILE);
        let included = config.is_ok_and(|bytes| bytes.is_some_and(|bytes| is_included(&bytes)));
        included && self.ssh_dir.join("eic.config").exists()
    }

    /// The folder of sockets that ssh was told.
    #[must_use]
    pub fn run_dir(&self) -> Option<PathBuf> {
        let bytes = files::read_capped(&self.ssh_dir.join("eic.config"), MAX_FILE).ok()??;
        let told = block::run_dir_of(&String::from_utf8_lossy(&bytes));
        told.filter(|_| self.is_in_place())
    }

    /// What putting `block` in place changes; nothing where it is there already. `parents` are folders that come
    /// to be with it elsewhere, for undo to remember.
    ///
    /// # Errors
    /// [`FileError`] where a file is not safe to edit (H-04).
    pub fn plan(&self, block: &str, parents: &[PathBuf]) -> Result<Vec<Change>, FileError> {
        self.check_folder()?;
        let ours = self.read(&self.ssh_dir.join("eic.config"))?;
        let users = self.read(&self.config_file()?)?;
        let header = self.header(ours.before.as_deref(), users.before.is_none(), parents);
        let ours = ours.becoming(Some(format!("{header}{block}").into_bytes()));
        let kept = users.before.clone().unwrap_or_default();
        let wanted = if is_included(&kept) {
            kept
        } else {
            [INCLUDE.as_bytes(), &without_include(&kept)].concat()
        };
        Ok(changes([ours, users.becoming(Some(wanted))]))
    }

    /// What taking it away changes.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn plan_undo(&self) -> Result<Vec<Change>, FileError> {
        if !self.ssh_dir.exists() {
            return Ok(Vec::new());
        }
        self.check_folder()?;
        let ours = self.read(&self.ssh_dir.join("eic.config"))?;
        let users = self.read(&self.config_file()?)?;
        let made = ours
            .before
            .as_ref()
            .is_some_and(|b| contains(b, MADE_CONFIG));
        let rest = users.before.as_deref().map(without_include);
        let rest = rest.filter(|rest| !(made && rest.is_empty()));
        Ok(changes([users.becoming(rest), ours.becoming(None)]))
    }

    /// Carries out what was planned; the order of the plan keeps ssh's configuration whole at every step.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn apply(&self, changes: &[Change]) -> Result<(), FileError> {
        if changes.is_empty() {
            return Ok(());
        }
        files::private_dir_unless_there(&self.ssh_dir)?;
        for change in changes {
            match &change.after {
                Some(bytes) => files::write_atomic(&change.path, bytes, change.mode)?,
                None => files::remove(&change.path)?,
            }
        }
        Ok(())
    }

    /// Removes `~/.ssh` where setup made it and nothing else came into it.
    pub fn remove_empty_folder(&self, made: bool) {
        if made {
            // Refused by the system where something is in it, as it should be.
            let _ = std::fs::remove_dir(&self.ssh_dir);
        }
    }

    /// The folders that an earlier setup brought with it, the innermost first.
    #[must_use]
    pub fn made_parents(&self) -> Vec<PathBuf> {
        let ours = files::read_capped(&self.ssh_dir.join("eic.config"), MAX_FILE);
        let mut parents = ours
            .ok()
            .flatten()
            .map(|bytes| remembered_parents(&bytes))
            .unwrap_or_default();
        parents.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
        parents
    }

    /// Whether setup made the folder.
    #[must_use]
    pub fn made_folder(&self) -> bool {
        let ours = files::read_capped(&self.ssh_dir.join("eic.config"), MAX_FILE);
        ours.is_ok_and(|bytes| bytes.is_some_and(|b| contains(&b, MADE_FOLDER)))
    }

    /// What undo must know, kept from an earlier setup or found now.
    fn header(&self, ours: Option<&[u8]>, no_config: bool, parents: &[PathBuf]) -> String {
        let kept = |line: &str| ours.is_some_and(|bytes| contains(bytes, line));
        let mut header = String::new();
        if kept(MADE_CONFIG) || (ours.is_none() && no_config) {
            header.push_str(MADE_CONFIG);
        }
        if kept(MADE_FOLDER) || (ours.is_none() && !self.ssh_dir.exists()) {
            header.push_str(MADE_FOLDER);
        }
        let found = || parents.to_vec();
        for parent in ours.map_or_else(found, remembered_parents) {
            header.push_str(&format!("{MADE_PARENT}{}\n", parent.display()));
        }
        header
    }

    /// The file that holds the user's configuration: behind a link (dotfiles), the real one.
    fn config_file(&self) -> Result<PathBuf, FileError> {
        let path = self.ssh_dir.join("config");
        let is_link = std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_symlink());
        if !is_link {
            return Ok(path);
        }
        let real = std::fs::canonicalize(&path)
            .map_err(|_| refused(&path, "it is a link that leads nowhere"))?;
        let folder = real
            .parent()
            .ok_or_else(|| refused(&path, "it is a link to a folder"))?;
        check_owned(folder)?;
        Ok(real)
    }

    fn check_folder(&self) -> Result<(), FileError> {
        if let Some(home) = self.ssh_dir.parent() {
            check_owned(home)?;
        }
        match std::fs::symlink_metadata(&self.ssh_dir) {
            Err(_) => Ok(()),
            Ok(meta) if meta.is_symlink() => Err(refused(&self.ssh_dir, "it is a symbolic link")),
            Ok(_) => check_owned(&self.ssh_dir),
        }
    }

    fn read(&self, path: &Path) -> Result<Change, FileError> {
        let meta = std::fs::symlink_metadata(path).ok();
        if meta.as_ref().is_some_and(|meta| !meta.is_file()) {
            return Err(refused(path, "it is not a regular file"));
        }
        if meta
            .as_ref()
            .is_some_and(|meta| meta.uid() != rustix::process::geteuid().as_raw())
        {
            return Err(refused(path, "it belongs to somebody else"));
        }
        let mode = meta.map_or(0o600, |meta| meta.permissions().mode() & 0o777);
        let before = files::read_capped(path, MAX_FILE)?;
        Ok(Change {
            path: path.to_owned(),
            after: before.clone(),
            before,
            mode,
        })
    }
}

impl Change {
    fn becoming(self, after: Option<Vec<u8>>) -> Self {
        Self { after, ..self }
    }

    /// The change in lines, `+` for what comes and `-` for what goes.
    #[must_use]
    pub fn diff(&self) -> String {
        let text = |bytes: &Option<Vec<u8>>| {
            String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()).into_owned()
        };
        let (before, after) = (text(&self.before), text(&self.after));
        let (old, new): (Vec<&str>, Vec<&str>) =
            (before.lines().collect(), after.lines().collect());
        let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
        let tail = old
            .iter()
            .skip(head)
            .rev()
            .zip(new.iter().skip(head).rev())
            .take_while(|(a, b)| a == b)
            .count();
        let middle = |lines: &[&str], sign: char| -> String {
            let end = lines.len().saturating_sub(tail);
            let changed = lines.iter().take(end).skip(head);
            changed
                .map(|line| format!("  {sign} {}\n", crate::terminal::one_line(line)))
                .collect()
        };
        format!(
            "{}\n{}{}",
            self.path.display(),
            middle(&old, '-'),
            middle(&new, '+')
        )
    }
}

/// Whether our line comes before every setting: nothing but comments and blank lines stands above it.
fn is_included(users: &[u8]) -> bool {
    let mut lines = users.split_inclusive(|byte| *byte == b'\n');
    let is_setting = |line: &&[u8]| {
        let text = line.trim_ascii();
        !text.is_empty() && !text.starts_with(b"#")
    };
    lines.find(is_setting).is_some_and(is_include)
}

fn without_include(users: &[u8]) -> Vec<u8> {
    let lines = users.split_inclusive(|byte| *byte == b'\n');
    lines
        .filter(|line| !is_include(line))
        .flatten()
        .copied()
        .collect()
}

fn is_include(line: &[u8]) -> bool {
    line.trim_ascii() == INCLUDE.trim_end().as_bytes()
}

fn remembered_parents(bytes: &[u8]) -> Vec<PathBuf> {
    let text = String::from_utf8_lossy(bytes);
    let named = text
        .lines()
        .filter_map(|line| line.strip_prefix(MADE_PARENT));
    named.map(PathBuf::from).collect()
}

fn changes(candidates: [Change; 2]) -> Vec<Change> {
    candidates
        .into_iter()
        .filter(|change| change.before != change.after)
        .collect()
}

fn contains(bytes: &[u8], line: &str) -> bool {
    String::from_utf8_lossy(bytes).contains(line)
}

/// Of ours, and nobody else can put something into it.
fn check_owned(folder: &Path) -> Result<(), FileError> {
    let meta = std::fs::metadata(folder).map_err(|_| refused(folder, "it is not there"))?;
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(refused(folder, "it belongs to somebody else"));
    }
    if meta.mode() & 0o022 != 0 {
        return Err(refused(
            folder,
            "others can write into it: run chmod go-w on it",
        ));
    }
    Ok(())
}

fn refused(path: &Path, why: &'static str) -> FileError {
    FileError::Unsafe {
        path: path.to_owned(),
        why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct Home(tempfile::TempDir);

    impl Home {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
            Self(dir)
        }

        fn with_config(bytes: &[u8]) -> Self {
            let home = Self::new();
            files::private_dir(&home.ssh()).unwrap();
            std::fs::write(home.ssh().join("config"), bytes).unwrap();
            home
        }

        fn ssh(&self) -> PathBuf {
            self.0.path().join(".ssh")
        }

        fn config(&self) -> Vec<u8> {
            std::fs::read(self.ssh().join("config")).unwrap()
        }
    }

    fn set_up(home: &Home, block: &str) -> Vec<Change> {
        let installation = Installation::new(&home.ssh());
        let changes = installation.plan(block, &[]).unwrap();
        installation.apply(&changes).unwrap();
        changes
    }

    fn undo(home: &Home) {
        let installation = Installation::new(&home.ssh());
        let made = installation.made_folder();
        installation
            .apply(&installation.plan_undo().unwrap())
            .unwrap();
        installation.remove_empty_folder(made);
    }

    #[test]
    fn folders_that_others_write_to_and_linked_folders_are_refused() {
        // H-04
        let home = Home::with_config(b"");
        std::fs::set_permissions(home.0.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Installation::new(&home.ssh()).plan("x", &[]).is_err());
        let home = Home::new();
        std::fs::create_dir(home.0.path().join("elsewhere")).unwrap();
        symlink(home.0.path().join("elsewhere"), home.ssh()).unwrap();
        assert!(Installation::new(&home.ssh()).plan("x", &[]).is_err());
        let home = Home::with_config(b"");
        symlink("/etc/passwd", home.ssh().join("eic.config")).unwrap();
        assert!(Installation::new(&home.ssh()).plan("x", &[]).is_err());
    }

    #[test]
    fn undo_restores_every_byte() {
        for original in [
            &b"Host a\r\n  User b"[..],
            b"",
            b"\xff\xfe no utf-8\n",
            b"\n\n# x\n",
            b"Include other\n",
        ] {
            let home = Home::with_config(original);
            set_up(&home, "Host i-*\n");
            assert!(
                home.config().ends_with(original) && home.config().starts_with(INCLUDE.as_bytes())
            );
            set_up(&home, "Host i-* web-*\n");
            undo(&home);
            assert_eq!(home.config(), original);
            assert!(!home.ssh().join("eic.config").exists());
        }
    }

    #[test]
    fn undo_removes_what_setup_made() {
        let home = Home::new();
        set_up(&home, "Host i-*\n");
        set_up(&home, "Host mi-*\n");
        assert!(Installation::new(&home.ssh()).is_in_place());
        undo(&home);
        assert!(!home.ssh().exists());
        undo(&home);
        assert!(!home.ssh().exists(), "undo without setup made a folder");
        let home = Home::with_config(b"");
        set_up(&home, "x\n");
        undo(&home);
        assert!(
            home.config().is_empty(),
            "an empty file of the user's was removed"
        );
    }

    #[test]
    fn a_line_below_the_users_own_comment_is_found_and_taken_back() {
        let home = Home::with_config(b"Host a\n");
        set_up(&home, "x\n");
        let commented = b"# mine\n\nInclude eic.config\nHost a\n";
        std::fs::write(home.ssh().join("config"), commented).unwrap();
        assert!(Installation::new(&home.ssh()).is_in_place());
        assert_eq!(set_up(&home, "x\n"), Vec::new());
        undo(&home);
        assert_eq!(home.config(), b"# mine\n\nHost a\n");
    }

    #[test]
    fn a_line_below_a_setting_does_not_count_and_undo_takes_every_one() {
        let home = Home::with_config(b"Host a\nInclude eic.config\n");
        std::fs::write(home.ssh().join("eic.config"), "").unwrap();
        assert!(!Installation::new(&home.ssh()).is_in_place());
        set_up(&home, "x\n");
        assert_eq!(home.config(), b"Include eic.config\nHost a\n");
        let twice = b"Include eic.config\n# x\nInclude eic.config\nHost a\nInclude eic.config.d";
        std::fs::write(home.ssh().join("config"), twice).unwrap();
        undo(&home);
        assert_eq!(home.config(), b"# x\nHost a\nInclude eic.config.d");
    }

    #[test]
    fn a_second_setup_changes_nothing() {
        let home = Home::with_config(b"Host a\n");
        assert_eq!(set_up(&home, "Host i-*\n").len(), 2);
        assert_eq!(set_up(&home, "Host i-*\n"), Vec::new());
    }

    #[test]
    fn a_linked_configuration_is_edited_where_it_really_is() {
        let home = Home::new();
        files::private_dir(&home.ssh()).unwrap();
        let dotfiles = home.0.path().join("dotfiles");
        files::private_dir(&dotfiles).unwrap();
        std::fs::write(dotfiles.join("ssh"), b"Host a\n").unwrap();
        symlink(dotfiles.join("ssh"), home.ssh().join("config")).unwrap();
        set_up(&home, "x\n");
        assert!(
            std::fs::symlink_metadata(home.ssh().join("config"))
                .unwrap()
                .is_symlink()
        );
        assert_eq!(
            std::fs::read(dotfiles.join("ssh")).unwrap(),
            b"Include eic.config\nHost a\n"
        );
        undo(&home);
        assert_eq!(std::fs::read(dotfiles.join("ssh")).unwrap(), b"Host a\n");
    }

    #[test]
    fn files_have_the_mode_that_they_had_or_0600() {
        // H-17
        let home = Home::with_config(b"Host a\n");
        std::fs::set_permissions(
            home.ssh().join("config"),
            std::fs::Permissions::from_mode(0o644),
        )
        .unwrap();
        set_up(&home, "x\n");
        let mode = |name: &str| std::fs::metadata(home.ssh().join(name)).unwrap().mode() & 0o777;
        assert_eq!((mode("config"), mode("eic.config")), (0o644, 0o600));
    }

    #[test]
    fn the_diff_shows_the_changed_lines_only() {
        let home = Home::with_config(b"Host a\n");
        let changes = Installation::new(&home.ssh())
            .plan("Host i-*\n", &[])
            .unwrap();
        let shown: String = changes.iter().map(Change::diff).collect();
        assert!(
            shown.contains("  + Include eic.config\n") && shown.contains("  + Host i-*\n"),
            "{shown}"
        );
        assert!(!shown.contains("Host a"), "{shown}");
    }
}
