//! The files that a room starts with: a copy of the machine's /etc without its secrets, the lab's own accounts,
//! empty homes.
//!
//! A copy and not an overlay: an overlay needs a lower file system that allows it, which a container's often does not,
//! and plain files can be read after a failed test.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Context, Error, Result};

/// An account of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// Numeric id, also of its group.
    pub id: u32,
    /// `/home/NAME` with a shell, or no home and no shell.
    pub login: bool,
}

impl Account {
    /// A person's account.
    pub fn person(name: &str, id: u32) -> Account {
        Account {
            name: name.to_owned(),
            id,
            login: true,
        }
    }

    /// An account that commands run as.
    pub fn system(name: &str, id: u32) -> Account {
        Account {
            name: name.to_owned(),
            id,
            login: false,
        }
    }

    fn passwd_line(&self) -> String {
        let Account { name, id, login } = self;
        let (home, shell) = if *login {
            (format!("/home/{name}"), "/bin/bash")
        } else {
            ("/nonexistent".into(), "/usr/sbin/nologin")
        };
        format!("{name}:x:{id}:{id}:{name}:{home}:{shell}\n")
    }
}

/// What a room is furnished with.
#[derive(Clone, Debug, Default)]
pub struct Furniture {
    /// Accounts beside root and those that sshd needs.
    pub accounts: Vec<Account>,
    /// Programs to copy into the room's /usr/local/bin. Not shown in place: a build that replaces them must not pull
    /// them from under a running lab.
    pub programs: Vec<PathBuf>,
    /// A folder whose `usr` is shown in place of the machine's.
    pub distribution: Option<PathBuf>,
    /// Whether the distribution's setpriv lacks `--pdeathsig`: then programs end with the room only.
    pub loose: bool,
    /// A folder that is shown as the room's /opt.
    pub tools: Option<PathBuf>,
    /// What the hardware says the instance id is; `None` keeps the machine's /sys.
    pub hardware: Option<Hardware>,
}

/// What /sys of a room says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hardware {
    /// A Nitro instance: `board_asset_tag` has this text.
    Nitro(String),
    /// No DMI table, as on a server that is not an instance.
    Other,
}

/// Accounts that every room has. Passwords are `*`, not `!`: sshd refuses a locked account even with a key.
const SYSTEM_ACCOUNTS: &str = "\
root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
sshd:x:102:65534::/run/sshd:/usr/sbin/nologin
";

/// Their groups; `tty` owns terminals.
const SYSTEM_GROUPS: &str =
    "root:x:0:\ndaemon:x:1:\ntty:x:5:\nutmp:x:43:\nshadow:x:42:\nnogroup:x:65534:\n";

/// No name service beside files: a room has no network to ask.
const NSSWITCH: &str = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n";

impl Furniture {
    /// Writes everything below `room`.
    pub(crate) fn set_up(&self, room: &Path) -> Result<()> {
        for folder in [
            "etc", "home", "root", "tmp", "var", "bin", "dev/pts", "dev/shm", "log",
        ] {
            make_folder(&room.join(folder), 0o755)?;
        }
        make_folder(&room.join("root"), 0o700)?;
        make_folder(&room.join("tmp"), 0o1777)?;
        self.write_etc(&room.join("etc"))?;
        write_var(&room.join("var"))?;
        write_dev(&room.join("dev"))?;
        for account in self.accounts.iter().filter(|account| account.login) {
            make_home(room, account)?;
        }
        for program in &self.programs {
            copy_program(program, &room.join("bin"))?;
        }
        self.write_hardware(&room.join("sys"))?;
        write_name(&room.join("distribution"), self.distribution.as_deref())?;
        write_name(&room.join("tools"), self.tools.as_deref())
    }

    fn write_etc(&self, etc: &Path) -> Result<()> {
        copy_etc(etc)?;
        write(&etc.join("passwd"), &self.passwd(), 0o644)?;
        write(&etc.join("group"), &self.group(), 0o644)?;
        write(&etc.join("shadow"), &self.shadow(), 0o640)?;
        write(&etc.join("nsswitch.conf"), NSSWITCH, 0o644)?;
        write(
            &etc.join("hosts"),
            "127.0.0.1 localhost\n::1 localhost\n",
            0o644,
        )
    }

    fn passwd(&self) -> String {
        let lab: String = self.accounts.iter().map(Account::passwd_line).collect();
        format!("{SYSTEM_ACCOUNTS}{lab}")
    }

    fn group(&self) -> String {
        let lab: String = self
            .accounts
            .iter()
            .map(|a| format!("{}:x:{}:\n", a.name, a.id))
            .collect();
        format!("{SYSTEM_GROUPS}{lab}")
    }

    fn shadow(&self) -> String {
        let names = self.passwd();
        names
            .lines()
            .filter_map(|line| line.split(':').next())
            .map(|name| format!("{name}:*:20000:0:99999:7:::\n"))
            .collect()
    }

    fn write_hardware(&self, sys: &Path) -> Result<()> {
        let Some(hardware) = &self.hardware else {
            return Ok(());
        };
        make_folder(sys, 0o755)?;
        let Hardware::Nitro(tag) = hardware else {
            return Ok(());
        };
        let dmi = sys.join("devices/virtual/dmi/id");
        make_folder(&dmi, 0o755)?;
        write(&dmi.join("board_asset_tag"), &format!("{tag}\n"), 0o444)
    }
}

/// Names a folder for the holder to mount.
fn write_name(file: &Path, folder: Option<&Path>) -> Result<()> {
    match folder {
        Some(folder) => write(file, &format!("{}\n", folder.display()), 0o600),
        None => Ok(()),
    }
}

/// Adds an account to a room that is already furnished.
pub(crate) fn add_account(room: &Path, account: &Account) -> Result<()> {
    let etc = room.join("etc");
    append(&etc.join("passwd"), &account.passwd_line())?;
    append(
        &etc.join("group"),
        &format!("{}:x:{}:\n", account.name, account.id),
    )?;
    append(
        &etc.join("shadow"),
        &format!("{}:*:20000:0:99999:7:::\n", account.name),
    )?;
    if account.login {
        make_home(room, account)
    } else {
        Ok(())
    }
}

fn make_home(room: &Path, account: &Account) -> Result<()> {
    let home = room.join("home").join(&account.name);
    make_folder(&home, 0o750)?;
    chown(&home, Some(account.id), Some(account.id))
        .context(|| format!("give `{}` its home", account.name))
}

/// The machine's /etc without what is secret in it or configures a server.
fn copy_etc(etc: &Path) -> Result<()> {
    let status = Command::new("cp")
        .args(["-a", "/etc/."])
        .arg(etc)
        .status()
        .context(|| "copy /etc")?;
    if !status.success() {
        return Err(Error::Unexpected(format!(
            "copy /etc into the lab: cp ended with {status}"
        )));
    }
    for secret in [
        "shadow",
        "shadow-",
        "gshadow",
        "gshadow-",
        "ssl/private",
        "ssh",
        "eic",
        "sudoers",
    ] {
        remove(&etc.join(secret))?;
    }
    make_folder(&etc.join("ssh"), 0o755)
}

/// Copies a program into a folder, for everyone to run. Another process does: while a descriptor that writes is open,
/// in a child of another test even, nobody can run the file (execve(2), ETXTBSY).
pub(crate) fn copy_program(program: &Path, folder: &Path) -> Result<()> {
    let copying = format!("copy `{}` into the lab", program.display());
    let status = Command::new("install")
        .args(["-m", "0755"])
        .args([program, folder])
        .status()
        .context(|| copying.clone())?;
    match status.success() {
        true => Ok(()),
        false => Err(Error::Unexpected(format!(
            "{copying}: install ended with {status}"
        ))),
    }
}

fn write_var(var: &Path) -> Result<()> {
    for folder in ["log", "lib", "cache", "mail", "empty"] {
        make_folder(&var.join(folder), 0o755)?;
    }
    make_folder(&var.join("tmp"), 0o1777)?;
    symlink("/run", var.join("run")).context(|| "link /var/run")?;
    for record in ["wtmp", "lastlog", "btmp"] {
        write(&var.join("log").join(record), "", 0o660)?;
    }
    Ok(())
}

fn write_dev(dev: &Path) -> Result<()> {
    let links = [
        ("/proc/self/fd", "fd"),
        ("fd/0", "stdin"),
        ("fd/1", "stdout"),
        ("fd/2", "stderr"),
        ("pts/ptmx", "ptmx"),
    ];
    for (target, name) in links {
        symlink(target, dev.join(name)).context(|| format!("link /dev/{name}"))?;
    }
    Ok(())
}

/// Makes a folder and its parents; `mode` is the last one's.
pub(crate) fn make_folder(folder: &Path, mode: u32) -> Result<()> {
    fs::create_dir_all(folder).context(|| format!("make `{}`", folder.display()))?;
    fs::set_permissions(folder, fs::Permissions::from_mode(mode))
        .context(|| format!("set the mode of `{}`", folder.display()))
}

/// Writes a small file with a mode.
pub(crate) fn write(file: &Path, text: &str, mode: u32) -> Result<()> {
    fs::write(file, text).context(|| format!("write `{}`", file.display()))?;
    fs::set_permissions(file, fs::Permissions::from_mode(mode))
        .context(|| format!("set the mode of `{}`", file.display()))
}

/// Adds text to the end of a file.
pub(crate) fn append(file: &Path, text: &str) -> Result<()> {
    let mut open = fs::OpenOptions::new()
        .append(true)
        .open(file)
        .context(|| format!("open `{}`", file.display()))?;
    open.write_all(text.as_bytes())
        .context(|| format!("write `{}`", file.display()))
}

fn remove(path: &Path) -> Result<()> {
    let gone = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match gone {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
            Err(cause).context(|| format!("remove `{}`", path.display()))
        }
        _ => Ok(()),
    }
}
