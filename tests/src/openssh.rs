//! Other releases of OpenSSH than the machine's, from Debian and Ubuntu, for rooms whose programs are to be older or
//! newer.
//!
//! Not a chroot and not an installation: a release's packages are unpacked into the build cache, and a room shows
//! their /usr in place of the machine's. Nothing is configured, so only what needs no configuration works.

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

/// Where Ubuntu is.
const UBUNTU_MIRROR: &str = "http://archive.ubuntu.com/ubuntu";

/// Debian's archive keys; apt takes no list that none of them signed.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The suite of Debian whose package `ubuntu-archive-keyring` has Ubuntu's archive keys: none is trusted unseen.
const KEYRING_SUITE: &str = "trixie";

/// Whose release it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Archive {
    Debian,
    Ubuntu,
}

/// One release, as far as rooms show it.
#[derive(Debug)]
pub struct Release {
    /// Its folder of the build cache.
    name: &'static str,
    archive: Archive,
    suite: &'static str,
    /// What its openssh-server begins with; anything else in the archive is refused.
    openssh: &'static str,
    /// Beside [`PACKAGES`].
    more: &'static str,
    /// Whether programs that were built on this machine may need a newer C library than it has.
    is_older: bool,
    /// Whether its sshd reads further files (`Include`, from 8.2 on).
    has_include: bool,
    /// Whether its setpriv ties a program to its parent (util-linux 2.33).
    has_pdeathsig: bool,
}

/// OpenSSH 7.6 of Ubuntu 18.04: before `Include` (8.2), so that the agent's lines stand in sshd_config itself.
pub static BIONIC: Release = Release {
    name: "openssh-7.6",
    archive: Archive::Ubuntu,
    suite: "bionic",
    openssh: "7.6p1",
    more: " setpriv",
    has_pdeathsig: false,
    is_older: true,
    has_include: false,
};

/// OpenSSH 8.4 of Debian 11: before KnownHostsCommand (8.5), `PubkeyAcceptedAlgorithms` (8.5) and session-bind (8.9).
pub static BULLSEYE: Release = Release {
    name: "openssh-8.4",
    archive: Archive::Debian,
    suite: "bullseye",
    openssh: "8.4p1",
    more: "",
    is_older: true,
    has_include: true,
    has_pdeathsig: true,
};

/// OpenSSH 8.9 of Ubuntu 22.04: the first with session-bind.
pub static JAMMY: Release = Release {
    name: "openssh-8.9",
    archive: Archive::Ubuntu,
    suite: "jammy",
    openssh: "8.9p1",
    more: "",
    is_older: true,
    has_include: true,
    has_pdeathsig: true,
};

/// OpenSSH 10.0 of Debian 13: sshd in three programs, no DSA.
pub static TRIXIE: Release = Release {
    name: "openssh-10.0",
    archive: Archive::Debian,
    suite: "trixie",
    openssh: "10.0p",
    more: "",
    is_older: false,
    has_include: true,
    has_pdeathsig: true,
};

/// The newest OpenSSH 10 that Debian had when it was fetched (`make clean` forgets it): another one each month, so
/// nothing that must be repeatable uses it.
pub static SID: Release = Release {
    name: "openssh-newest",
    archive: Archive::Debian,
    suite: "sid",
    openssh: "10.",
    more: "",
    is_older: false,
    has_include: true,
    has_pdeathsig: true,
};

/// Debian 13 with AWS's own client (2.23), which the bench measures.
pub static AWS_CLI: Release = Release {
    name: "awscli",
    archive: Archive::Debian,
    suite: "trixie",
    openssh: "10.0p",
    more: " awscli",
    is_older: false,
    has_include: true,
    has_pdeathsig: true,
};

impl Release {
    /// How an ssh or sshd of this release begins its version.
    pub fn banner(&self) -> String {
        format!("OpenSSH_{}", self.openssh)
    }

    /// Whether its setpriv knows `--pdeathsig`.
    pub(crate) fn has_pdeathsig(&self) -> bool {
        self.has_pdeathsig
    }

    /// Whether its sshd reads further files.
    pub(crate) fn has_include(&self) -> bool {
        self.has_include
    }

    /// Whether rooms with it take our released programs, which run with any glibc from 2.17 on.
    pub(crate) fn is_older(&self) -> bool {
        self.is_older
    }

    /// The folder whose `usr` is the release's, fetched and unpacked on first use (about 60 MB and ten seconds).
    ///
    /// # Errors
    /// When apt cannot fetch it, the archive has another OpenSSH, or the machine's /bin is not a link into /usr.
    pub fn folder(&self) -> Result<PathBuf> {
        if !fs::symlink_metadata("/bin").is_ok_and(|bin| bin.is_symlink()) {
            return Err(Error::Unexpected(
                "use another OpenSSH: this machine's /bin is not a link to /usr/bin".into(),
            ));
        }
        binaries::on_path("apt-get", "apt")?;
        let recipe = format!("{} {}", self.suite, self.packages());
        Ok(kept(self.name, &recipe, |folder| self.unpack(folder))?.join("root"))
    }

    fn packages(&self) -> String {
        format!("{PACKAGES}{}", self.more)
    }

    fn unpack(&self, folder: &Path) -> Result<()> {
        let (apt, root) = (folder.join("apt"), folder.join("root"));
        let source = match self.archive {
            Archive::Debian => debian(self.suite),
            Archive::Ubuntu => {
                let keys = ubuntu_keyring()?;
                let keys = keys.display();
                format!(
                    "deb [signed-by={keys}] {UBUNTU_MIRROR} {} main universe\n",
                    self.suite
                )
            }
        };
        let fetched = fetch(&apt, &source, &self.packages())?;
        self.check(&fetched)?;
        link_into_usr(&root)?;
        for package in &fetched {
            unpack_package(package, &root)?;
        }
        fs::create_dir_all(root.join("usr/local/bin")).context(|| "make a folder of a release")?;
        fs::remove_dir_all(&apt).context(|| "remove the fetched packages")
    }

    /// The tests are named for a version: another one must not pass for it.
    fn check(&self, fetched: &[PathBuf]) -> Result<()> {
        // apt writes the colon of a version's epoch as %3a.
        let start = format!("openssh-server_1%3a{}", self.openssh);
        let named = |package: &PathBuf| {
            let name = package.file_name().unwrap_or_default();
            name.to_string_lossy().starts_with(&start)
        };
        if fetched.iter().any(named) {
            return Ok(());
        }
        Err(Error::Unexpected(format!(
            "use OpenSSH {}: {} has another one now",
            self.openssh, self.suite
        )))
    }
}

/// A line of apt's sources.
fn debian(suite: &str) -> String {
    format!("deb [signed-by={KEYRING}] {} {suite} main\n", mirror())
}

/// Ubuntu's archive keys, from a package that Debian signed.
fn ubuntu_keyring() -> Result<PathBuf> {
    let folder = kept("ubuntu-keyring", KEYRING_SUITE, |folder| {
        let (apt, root) = (folder.join("apt"), folder.join("root"));
        fs::create_dir_all(&root).context(|| "make a folder for keys")?;
        for package in fetch(&apt, &debian(KEYRING_SUITE), "ubuntu-archive-keyring")? {
            unpack_package(&package, &root)?;
        }
        fs::remove_dir_all(&apt).context(|| "remove the fetched packages")
    })?;
    Ok(folder.join("root/usr/share/keyrings/ubuntu-archive-keyring.gpg"))
}

/// Fetches packages and what they depend on, as if nothing were installed.
fn fetch(apt: &Path, source: &str, packages: &str) -> Result<Vec<PathBuf>> {
    let options = prepare(apt, source)?;
    apt_get(&options, &["update"])?;
    let install = [
        "install",
        "--yes",
        "--download-only",
        "--no-install-recommends",
    ];
    let packages: Vec<&str> = packages.split_whitespace().collect();
    apt_get(&options, &[&install, packages.as_slice()].concat())?;
    fetched(&apt.join("archives"))
}

/// Folders and options with which apt works beside the machine's own state.
fn prepare(apt: &Path, source: &str) -> Result<Vec<String>> {
    for folder in ["lists/partial", "archives/partial", "state"] {
        fs::create_dir_all(apt.join(folder)).context(|| "make apt's folders")?;
    }
    fs::write(apt.join("status"), "").context(|| "make apt's state")?;
    fs::write(apt.join("sources.list"), source).context(|| "write apt's sources")?;
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
        // A mirror that stands still is as good: what counts is the signature, and the version is checked.
        "Acquire::Check-Valid-Until=false".into(),
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

fn fetched(archives: &Path) -> Result<Vec<PathBuf>> {
    let mut packages = Vec::new();
    for entry in fs::read_dir(archives).context(|| "read the fetched packages")? {
        let package = entry.context(|| "read the fetched packages")?.path();
        if package.extension().is_some_and(|ending| ending == "deb") {
            packages.push(package);
        }
    }
    Ok(packages)
}

/// By tar: dpkg-deb itself would put folders in place of the links that [`link_into_usr`] made.
fn unpack_package(package: &Path, root: &Path) -> Result<()> {
    let script = "dpkg-deb --fsys-tarfile \"$1\" | tar -x --keep-directory-symlink -C \"$2\"";
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", script, "unpack"]);
    step(command.arg(package).arg(root)).map(drop)
}

/// What old packages put below `/bin/…` lands in `usr`, as on an installed system.
fn link_into_usr(root: &Path) -> Result<()> {
    for name in ["bin", "sbin", "lib", "lib64"] {
        fs::create_dir_all(root.join("usr").join(name)).context(|| "make a folder of a release")?;
        std::os::unix::fs::symlink(format!("usr/{name}"), root.join(name))
            .context(|| "link a folder of a release")?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_openssh_than_the_named_one_is_refused() {
        let newer = PathBuf::from("/a/openssh-server_1%3a9.2p1-2+deb12u7_amd64.deb");
        let right = PathBuf::from("/a/openssh-server_1%3a8.4p1-5+deb11u3_amd64.deb");
        let client = PathBuf::from("/a/openssh-client_1%3a8.4p1-5+deb11u3_amd64.deb");
        assert!(BULLSEYE.check(&[newer.clone(), client]).is_err());
        assert!(BULLSEYE.check(&[newer, right]).is_ok());
    }
}
