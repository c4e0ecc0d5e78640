//! OpenSSH 10 from Debian trixie, for rooms whose programs are to be newer than the machine's.
//!
//! Not a chroot and not an installation: trixie's packages are unpacked into the build cache, and a room shows their
//! /usr in place of the machine's. Nothing is configured, so only what needs no configuration works.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::binaries;
use crate::cache::{kept, step};
use crate::error::{Context, Error, Result};

/// The packages that a room needs; apt adds what they depend on.
const PACKAGES: &str = "bash coreutils curl dash diffutils findutils git grep hostname iproute2 login mount openssh-client \
    openssh-server openssh-sftp-server openssl passwd procps rsync sed tar util-linux";

/// Where Debian is, unless the machine's own sources name a mirror.
const MIRROR: &str = "http://deb.debian.org/debian";

/// Debian's archive keys, trixie's among them since bookworm's first point release.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The folder whose `usr` is trixie's, fetched and unpacked on first use (about 60 MB and half a minute).
///
/// # Errors
/// When apt cannot fetch it, or the machine's /bin is not a link into /usr.
pub fn distribution() -> Result<PathBuf> {
    if !fs::symlink_metadata("/bin").is_ok_and(|bin| bin.is_symlink()) {
        return Err(Error::Unexpected(
            "use OpenSSH 10: this machine's /bin is not a link to /usr/bin".into(),
        ));
    }
    binaries::on_path("apt-get", "apt")?;
    Ok(kept("openssh-10", PACKAGES, unpack)?.join("root"))
}

fn unpack(folder: &Path) -> Result<()> {
    let (apt, root) = (folder.join("apt"), folder.join("root"));
    let options = prepare(&apt)?;
    apt_get(&options, &["update"])?;
    let install = [
        "install",
        "--yes",
        "--download-only",
        "--no-install-recommends",
    ];
    apt_get(
        &options,
        &[
            install.as_slice(),
            &PACKAGES.split_whitespace().collect::<Vec<_>>(),
        ]
        .concat(),
    )?;
    fs::create_dir_all(root.join("usr/local/bin")).context(|| "make a folder for trixie")?;
    link_into_usr(&root)?;
    for entry in fs::read_dir(apt.join("archives")).context(|| "read the fetched packages")? {
        let package = entry.context(|| "read the fetched packages")?.path();
        if package
            .extension()
            .is_some_and(|extension| extension == "deb")
        {
            step(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&root))?;
        }
    }
    fs::remove_dir_all(&apt).context(|| "remove the fetched packages")
}

/// Folders and options with which apt works beside the machine's own state, as if nothing were installed.
fn prepare(apt: &Path) -> Result<Vec<String>> {
    for folder in ["lists/partial", "archives/partial", "state"] {
        fs::create_dir_all(apt.join(folder)).context(|| "make apt's folders")?;
    }
    fs::write(apt.join("status"), "").context(|| "make apt's state")?;
    let sources = format!("deb [signed-by={KEYRING}] {} trixie main\n", mirror());
    fs::write(apt.join("sources.list"), sources).context(|| "write apt's sources")?;
    let place = |name: &str| apt.join(name).display().to_string();
    Ok(vec![
        format!("Dir::Etc::SourceList={}", place("sources.list")),
        "Dir::Etc::SourceParts=-".into(),
        "Dir::Etc::Preferences=-".into(),
        "Dir::Etc::PreferencesParts=-".into(),
        format!("Dir::State={}", place("state")),
        format!("Dir::State::Lists={}", place("lists")),
        format!("Dir::State::status={}", place("status")),
        format!("Dir::Cache={}", apt.display()),
        format!("Dir::Cache::archives={}", place("archives")),
        "APT::Sandbox::User=root".into(),
        "Acquire::Languages=none".into(),
    ])
}

fn apt_get(options: &[String], args: &[&str]) -> Result<String> {
    let mut command = Command::new("apt-get");
    command
        .arg("-q")
        .args(options.iter().flat_map(|option| ["-o", option.as_str()]))
        .args(args);
    step(command.env("DEBIAN_FRONTEND", "noninteractive"))
}

/// dpkg-deb unpacks `/bin/…` of old packages through these, as on an installed system.
fn link_into_usr(root: &Path) -> Result<()> {
    for name in ["bin", "sbin", "lib", "lib64"] {
        fs::create_dir_all(root.join("usr").join(name)).context(|| "make a folder for trixie")?;
        std::os::unix::fs::symlink(format!("usr/{name}"), root.join(name))
            .context(|| "link a folder of trixie")?;
    }
    Ok(())
}

/// The first Debian mirror of the machine's own sources.
fn mirror() -> String {
    let folder = fs::read_dir("/etc/apt/sources.list.d")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()));
    let files = [PathBuf::from("/etc/apt/sources.list")]
        .into_iter()
        .chain(folder);
    let texts: Vec<String> = files
        .filter_map(|file| fs::read_to_string(file).ok())
        .collect();
    let words = texts.iter().flat_map(|text| text.split_whitespace());
    let mirror = words
        .filter(|word| word.starts_with("http"))
        .find(|url| url.trim_end_matches('/').ends_with("/debian"));
    mirror.unwrap_or(MIRROR).trim_end_matches('/').to_owned()
}
