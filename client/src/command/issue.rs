//! `eic-login issue`: a key and its certificate as files, for a job that cannot use the resident agent.
//! The only place where a private key touches a disk; it says so.

use std::path::{Path, PathBuf};

use clap::Args;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::os_user::OsUser;
use eic_protocol::principal::Principal;
use eic_protocol::validity::{MAX_TARGET_TTL, MIN_TTL};

use super::{moment, paths, runtime, sign_in};
use crate::config::Config;
use crate::credentials::Selection;
use crate::exit_code::Failure;
use crate::files;
use crate::key::protect_memory;
use crate::resident::{IssuedFiles, Resident};
use crate::terminal;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Whom and where: USER@INSTANCE, e.g. deploy@i-0123456789abcdef0.
    #[arg(long, value_name = "USER@INSTANCE", value_parser = parse_target)]
    target: (OsUser, InstanceId),
    /// A new or empty folder for the files.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Lifetime in seconds, 5 to 3600 [default: the CA's].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(MIN_TTL..=MAX_TARGET_TTL))]
    ttl: Option<u64>,
}

fn parse_target(text: &str) -> Result<(OsUser, InstanceId), String> {
    match text.parse::<Principal>() {
        Ok(Principal::Target(user, instance)) => Ok((user, instance)),
        _ => Err("expected USER@INSTANCE, e.g. deploy@i-0123456789abcdef0".to_owned()),
    }
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    protect_memory().map_err(|e| Failure::of(&e).context("core dumps cannot be switched off"))?;
    let paths = paths()?;
    let program = std::env::current_exe().map_err(|e| Failure::of(&e))?;
    let out = std::path::absolute(&arguments.out).map_err(|e| Failure::of(&e))?;
    // Before the CA is asked: a certificate that cannot be stored would be in its audit for nothing.
    let place = Place::prepare(&out).map_err(|e| Failure::of(&e))?;
    let resident = Resident::new(&paths, &paths.run_dir, program)?;
    Config::in_force(&paths)
        .map_err(Failure::from)
        .and_then(|config| sign_in::for_this_command(&resident, &config))
        .inspect_err(|_| place.give_up())?;
    let (user, instance) = &arguments.target;
    let issued = runtime()?
        .block_on(resident.issue(Selection::from_env(), user, instance, arguments.ttl))
        .map_err(sign_in::failure_of_this_command)
        .and_then(|issued| match place.write(&issued) {
            Ok(()) => Ok(issued),
            Err(e) => Err(Failure::of(&e)),
        })
        .inspect_err(|_| place.give_up())?;
    terminal::note(&format!(
        "the private key is in {} (mode 0600): remove the folder when the job is done",
        place.key.display()
    ));
    terminal::print(&place.told(&issued, user, instance));
    Ok(())
}

/// The files.
#[derive(Debug)]
struct Place {
    key: PathBuf,
    certificate: PathBuf,
    known_hosts: PathBuf,
    /// The folders that were made for it, the innermost first.
    made: Vec<PathBuf>,
}

impl Place {
    fn prepare(out: &Path) -> Result<Self, files::FileError> {
        let missing = out.ancestors().take_while(|folder| !folder.exists());
        let made = missing.map(Path::to_owned).collect();
        files::private_dir(out)?;
        let place = Self {
            made,
            key: out.join("id"),
            certificate: out.join("id-cert.pub"),
            known_hosts: out.join("known_hosts"),
        };
        for file in [&place.key, &place.certificate, &place.known_hosts] {
            if std::fs::symlink_metadata(file).is_ok() {
                return Err(files::FileError::Unsafe {
                    path: file.clone(),
                    why: "it is there already: name a new folder",
                });
            }
        }
        Ok(place)
    }

    fn write(&self, issued: &IssuedFiles) -> Result<(), files::FileError> {
        files::create_new(
            &self.certificate,
            format!("{}\n", issued.certificate).as_bytes(),
            0o600,
        )?;
        files::create_new(&self.known_hosts, issued.known_hosts.as_bytes(), 0o600)?;
        files::create_new(&self.key, issued.private_key.as_bytes(), 0o600)
    }

    /// Leaves no folder behind that was made for nothing; one with something in it stays.
    fn give_up(&self) {
        for folder in &self.made {
            let _ = std::fs::remove_dir(folder);
        }
    }

    fn told(&self, issued: &IssuedFiles, user: &OsUser, instance: &InstanceId) -> String {
        let host = issued
            .address
            .map_or_else(|| instance.to_string(), |address| address.to_string());
        format!(
            "Certificate for {user}@{instance} until {}.\n\
             ssh -F none {key} -o {certificate} -o IdentitiesOnly=yes -o IdentityAgent=none \
             -o {known} -o GlobalKnownHostsFile=/dev/null -o StrictHostKeyChecking=yes \
             -o HostKeyAlias={instance} -p {port} {user}@{host}\n",
            moment(issued.valid_before),
            key = identity(&self.key),
            certificate = option("CertificateFile", &self.certificate),
            known = option("UserKnownHostsFile", &self.known_hosts),
            port = issued.port,
        )
    }
}

/// `-i` takes its file by two rules at once where there is a `%` in it: only plain ones are given so.
fn identity(path: &Path) -> String {
    let text = path.display().to_string();
    if is_plain(&text) {
        format!("-i {text}")
    } else {
        format!("-o {}", option("IdentityFile", path))
    }
}

/// `NAME=PATH` for a shell and then for ssh, which splits at blanks and knows tokens (ssh_config(5)).
fn option(name: &str, path: &Path) -> String {
    let text = path.display().to_string();
    if is_plain(&text) {
        return format!("{name}={text}");
    }
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    let text = text.replace('%', "%%").replace('\'', "'\\''");
    format!("'{name}=\"{text}\"'")
}

fn is_plain(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._+-".contains(&b);
    text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    fn issued() -> IssuedFiles {
        IssuedFiles {
            private_key: zeroize::Zeroizing::new("private".to_owned()),
            certificate: "ssh-ed25519-cert-v01@openssh.com AAAA".to_owned(),
            known_hosts: "@cert-authority i-01234567 ssh-ed25519 AAAA\n".to_owned(),
            valid_before: 0,
            address: Some("10.0.0.5".parse().unwrap()),
            port: 22,
        }
    }

    #[test]
    fn existing_files_links_and_open_folders_are_refused() {
        // H-04
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("job");
        Place::prepare(&out).unwrap();
        symlink("/tmp/elsewhere", out.join("id")).unwrap();
        assert!(Place::prepare(&out).is_err());
        let open = dir.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        assert!(Place::prepare(&open).is_err());
    }

    #[test]
    fn a_failed_issue_leaves_no_folder_that_it_made() {
        let dir = tempfile::tempdir().unwrap();
        Place::prepare(&dir.path().join("a/job")).unwrap().give_up();
        assert!(!dir.path().join("a").exists());
        let there = dir.path().join("there");
        files::private_dir(&there).unwrap();
        Place::prepare(&there).unwrap().give_up();
        assert!(there.exists(), "the user's own folder");
        let place = Place::prepare(&dir.path().join("b")).unwrap();
        place.write(&issued()).unwrap();
        place.give_up();
        assert!(place.key.exists());
    }

    #[test]
    fn lifetimes_that_no_certificate_has_are_refused_before_the_ca_is_asked() {
        use clap::Parser;
        #[derive(Parser)]
        struct Cli {
            #[command(flatten)]
            _arguments: Arguments,
        }
        let parsed = |ttl: &str| {
            let words = ["x", "--target", "a@i-01234567", "--out", "o", "--ttl", ttl];
            Cli::try_parse_from(words).is_ok()
        };
        assert!(parsed("5") && parsed("3600"));
        assert!(!parsed("4") && !parsed("3601") && !parsed("1h"));
    }

    #[test]
    fn a_link_planted_after_the_check_is_not_followed() {
        // H-04
        let dir = tempfile::tempdir().unwrap();
        let place = Place::prepare(&dir.path().join("job")).unwrap();
        symlink(dir.path().join("stolen"), &place.key).unwrap();
        assert!(place.write(&issued()).is_err());
        assert!(!dir.path().join("stolen").exists());
    }

    #[test]
    fn the_private_key_is_readable_by_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::prepare(&dir.path().join("a job")).unwrap();
        place.write(&issued()).unwrap();
        assert_eq!(std::fs::metadata(&place.key).unwrap().mode() & 0o777, 0o600);
        let (user, instance) = parse_target("deploy@i-01234567").unwrap();
        let told = place.told(&issued(), &user, &instance);
        assert!(
            told.contains("HostKeyAlias=i-01234567")
                && told.contains("a job/id\"'")
                && told.ends_with("deploy@10.0.0.5\n"),
            "{told}"
        );
        assert!(!told.contains("private\n"));
    }

    #[test]
    fn the_command_names_the_files_of_any_folder_as_ssh_reads_them() {
        let (user, instance) = parse_target("deploy@i-01234567").unwrap();
        let dir = tempfile::tempdir().unwrap();
        for name in ["job", "a job", "it's 100% \"mine\""] {
            let place = Place::prepare(&dir.path().join(name)).unwrap();
            place.write(&issued()).unwrap();
            let told = place.told(&issued(), &user, &instance);
            let command = told.lines().last().unwrap().replacen("ssh ", "ssh -G ", 1);
            let shell = std::process::Command::new("sh")
                .args(["-c", &command])
                .output();
            let shown = String::from_utf8(shell.unwrap().stdout).unwrap();
            // `-G` shows `%` before it is expanded.
            let told = |path: &Path| path.display().to_string().replace('%', "%%");
            for (option, path) in [
                ("identityfile", &place.key),
                ("certificatefile", &place.certificate),
            ] {
                let line = format!("{option} {}\n", told(path));
                assert!(shown.contains(&line), "{line}: {command}\n{shown}");
            }
            let known = shown.lines().find(|l| l.starts_with("userknownhostsfile "));
            let path = place.known_hosts.display().to_string();
            assert!(known.unwrap().ends_with(&path), "{known:?}");
        }
    }

    #[test]
    fn targets_that_are_no_user_on_an_instance_are_refused() {
        for bad in [
            "deploy",
            "deploy@fleet/web",
            "@i-01234567",
            "deploy@web-1",
            "$(id)@i-01234567",
            "",
        ] {
            assert!(parse_target(bad).is_err(), "{bad:?}");
        }
    }
}
