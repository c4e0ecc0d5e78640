//! `eic-login setup`: pin a CA's root keys, write the configuration, tell ssh. Every change is shown first;
//! a second run changes nothing; `--undo` takes all of it back.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use eic_aws::proxy::{InvalidProxy, Proxy};
use eic_protocol::api::discovery::Discovery;
use eic_protocol::proof::Audience;
use eic_protocol::secret::Secret;
use eic_protocol::trust::envelope::Envelope;

use super::{paths, runtime};
use crate::ca::CaClient;
use crate::config::{CaConfig, Config, ConfigError, RootChain};
use crate::control::client::Agent;
use crate::control::message::Ask;
use crate::control::run_folder;
use crate::credentials::IdTokenConfig;
use crate::exit_code::{self, Failure};
use crate::files::{self, FileError};
use crate::host_cache::HostCache;
use crate::oidc::IssuerUrl;
use crate::paths::Paths;
use crate::ssh_config::block::Block;
use crate::ssh_config::installation::{Change, Installation};
use crate::ssh_config::version::SshVersion;
use crate::ssh_config::{home, host_users};
use crate::terminal;
use crate::transport::{slots, winner};

/// What this program is called where it is installed.
const PROGRAM: &str = "eic-login";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The CA's URL, e.g. https://ca.example.
    #[arg(required_unless_present_any = ["no_ca", "undo"], conflicts_with_all = ["no_ca", "undo"])]
    url: Option<Audience>,
    /// Fingerprint of a root key (SHA256:…), from whoever runs the CA; without it, it is shown and asked for.
    #[arg(long, value_name = "SHA256:…", value_parser = parse_fingerprint)]
    fingerprint: Vec<String>,
    /// Further hosts that are reached this way, e.g. 'web-*'.
    #[arg(long = "match", value_name = "PATTERN")]
    patterns: Vec<String>,
    /// PEM file with the only authorities that the CA's TLS certificate may chain to.
    #[arg(long, value_name = "PEM", requires = "url")]
    ca_file: Option<PathBuf>,
    /// The issuer at which people without AWS credentials sign in, exactly as its tokens have it in `iss`.
    #[arg(long, value_name = "URL", requires = "url")]
    issuer: Option<IssuerUrl>,
    /// What this program is called there [default: as configured for that issuer, else the CA's URL].
    #[arg(long, value_name = "ID", requires = "issuer")]
    client_id: Option<String>,
    /// What HTTPS goes through, http://[user:password@]host:port [default: as configured].
    #[arg(long, value_name = "URL", conflicts_with = "undo", value_parser = parse_proxy)]
    proxy: Option<String>,
    /// Without a CA: EC2 Instance Connect only.
    #[arg(long, conflicts_with_all = ["fingerprint", "ca_file"])]
    no_ca: bool,
    /// Take everything back.
    #[arg(long, conflicts_with_all = ["no_ca", "fingerprint", "patterns", "ca_file"])]
    undo: bool,
    /// Do not ask on a terminal before changing files; without a terminal nothing is asked.
    #[arg(long)]
    yes: bool,
}

fn parse_fingerprint(text: &str) -> Result<String, String> {
    let digest = text.strip_prefix("SHA256:").unwrap_or_default();
    // 32 bytes in base64 without padding, as ssh-keygen -l shows them.
    let form = digest.len() == 43
        && digest
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+/".contains(&b));
    if form {
        Ok(text.to_owned())
    } else {
        Err("expected `SHA256:` and 43 characters, as ssh-keygen -l shows it".to_owned())
    }
}

fn parse_proxy(text: &str) -> Result<String, InvalidProxy> {
    Proxy::new(text, &[]).map(|_| text.to_owned())
}

impl Arguments {
    /// What was configured before, with the proxy that is named now: the first call goes by it.
    fn over(&self, before: Config) -> Config {
        let named = self.proxy.clone().map(Secret::new);
        Config {
            proxy: named.or_else(|| before.proxy.clone()),
            ..before
        }
    }

    /// Where people sign in, where that is said; what was configured before stays otherwise, and so does what was
    /// written beside the same issuer.
    fn id_token(&self, before: Option<&IdTokenConfig>) -> Result<Option<IdTokenConfig>, Failure> {
        let Some(issuer) = &self.issuer else {
            return Ok(None);
        };
        let same = before.filter(|before| before.issuer.as_ref() == Some(issuer));
        let mut id_token = same.cloned().unwrap_or_default();
        id_token.issuer = Some(issuer.clone());
        id_token.client_id = self.client_id.clone().or(id_token.client_id);
        id_token.check().map_err(Failure::usage)?;
        Ok(Some(id_token))
    }
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let paths = paths()?;
    if arguments.undo {
        return undo(&paths, arguments.yes);
    }
    let before = arguments.over(Config::load(&paths)?);
    let id_token = arguments.id_token(before.id_token.as_ref())?;
    SshVersion::installed().map_err(|e| Failure::usage(e.to_string()))?;
    let pinned = match &arguments.url {
        Some(url) => Some(pin(url, arguments, &paths, &before)?),
        None => None,
    };
    let program = std::env::current_exe()
        .map_err(|e| Failure::of(&e).context("cannot tell which program this is"))?;
    let program = std::env::var_os("PATH")
        .and_then(|path| named_in(&path, &program))
        .filter(|named| Block::new(named, &paths.run_dir, &[]).is_ok())
        .unwrap_or(program);
    let pinned = pinned.map(|pinned| pinned.after(&paths)).transpose()?;
    let plan = Plan::make(&paths, &program, pinned, arguments, id_token)?;
    plan.carry_out(&paths, arguments.yes)
}

/// This very file as `PATH` names it: what it is a link to may be gone with the next update.
fn named_in(path: &OsStr, program: &Path) -> Option<PathBuf> {
    let identity = |file: &Path| {
        let meta = std::fs::metadata(file).ok()?;
        Some((meta.dev(), meta.ino()))
    };
    let ours = identity(program)?;
    let folders = std::env::split_paths(path).filter(|folder| folder.is_absolute());
    let mut files = folders.map(|folder| folder.join(PROGRAM));
    files.find(|file| identity(file) == Some(ours))
}

/// A verified root and what is remembered of its CA.
#[derive(Debug)]
struct Pinned {
    ca: CaConfig,
    roots: RootChain,
    root: Envelope,
}

impl Pinned {
    /// Where this CA is set up already, its new root must follow from the installed one: a second setup is no way
    /// around the threshold, nor back to an older root. A CA with other keys needs an undo first.
    fn after(self, paths: &Paths) -> Result<Self, Failure> {
        let before = Config::load(paths)?.ca;
        let Some(before) = before.filter(|before| before.url == self.ca.url) else {
            return Ok(self);
        };
        let Ok(installed) = RootChain::load(paths, &before) else {
            return Ok(self);
        };
        let ca = CaConfig {
            root_fingerprints: before.root_fingerprints,
            ..self.ca
        };
        let roots = if installed.ends_with(&self.root) {
            installed
        } else {
            installed
                .followed_by(self.root.clone())
                .map_err(|e| not_following(&e))?
        };
        Ok(Self { ca, roots, ..self })
    }
}

fn not_following(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        exit_code::UNTRUSTED,
        format!(
            "the CA's root document does not follow from the installed one: {error}; \
             if you know why, run `eic-login setup --undo` first"
        ),
    )
}

/// `config` has the CA as it is configured now: what was pinned of the same one stays pinned where nothing else is said,
/// from the first connection on.
fn pin(
    url: &Audience,
    arguments: &Arguments,
    paths: &Paths,
    config: &Config,
) -> Result<Pinned, Failure> {
    let before = config.ca.as_ref().filter(|before| before.url == *url);
    let ca_file = arguments
        .ca_file
        .as_ref()
        .map(std::fs::canonicalize)
        .transpose();
    let ca_file = ca_file.map_err(|e| Failure::usage(format!("--ca-file: {e}")))?;
    let mut ca = CaConfig {
        url: url.clone(),
        root_fingerprints: BTreeSet::new(),
        ca_file: ca_file.or_else(|| before.and_then(|before| before.ca_file.clone())),
    };
    let proxy = config.proxy().map_err(ConfigError::from)?;
    let client = CaClient::new(&ca, proxy.as_ref())?;
    let discovery = runtime()?.block_on(client.discovery())?;
    ca.root_fingerprints = match (arguments.fingerprint.as_slice(), before) {
        ([], Some(before)) => before.root_fingerprints.clone(),
        ([], None) => ask_for_fingerprints(&discovery)?,
        (given, _) => given.iter().cloned().collect(),
    };
    // An installed chain decides about the next root, see `after`: its first keys need not be the CA's any more.
    let installed = before.filter(|_| arguments.fingerprint.is_empty());
    if let Some(roots) = installed.and_then(|before| RootChain::load(paths, before).ok()) {
        return Ok(Pinned {
            ca,
            roots,
            root: discovery.root,
        });
    }
    let untrusted = |e| {
        Failure::new(
            exit_code::UNTRUSTED,
            format!("the CA at {url} is not the one with this fingerprint: {e}"),
        )
    };
    let roots = RootChain::pin(discovery.root.clone(), &ca).map_err(untrusted)?;
    Ok(Pinned {
        ca,
        roots,
        root: discovery.root,
    })
}

/// Shows what the server claims; only a person who compares it can make it count.
fn ask_for_fingerprints(discovery: &Discovery) -> Result<BTreeSet<String>, Failure> {
    let claimed: BTreeSet<String> = discovery
        .root
        .signatures
        .iter()
        .map(|s| s.key.fingerprint())
        .collect();
    let shown: Vec<&str> = claimed.iter().map(String::as_str).collect();
    terminal::note(&format!(
        "the server claims these root keys: {}",
        shown.join(" ")
    ));
    let refused = |what: &str| Failure::new(exit_code::UNTRUSTED, what.to_owned());
    match terminal::confirm(
        "Compare them with what your platform team published. Are they the same?",
    ) {
        Some(true) => Ok(claimed),
        Some(false) => Err(refused("nothing was changed")),
        None => Err(refused(
            "there is no terminal to confirm the root key on: give --fingerprint SHA256:... from a source that you trust",
        )),
    }
}

/// Everything that setup writes, decided before the first byte.
#[derive(Debug)]
struct Plan {
    config: Config,
    root: Option<(RootChain, Envelope)>,
    installation: Installation,
    changes: Vec<Change>,
    config_text: String,
    shown_text: String,
    config_differs: bool,
    /// What was configured and will not be.
    lost: Vec<String>,
}

impl Plan {
    fn make(
        paths: &Paths,
        program: &Path,
        pinned: Option<Pinned>,
        arguments: &Arguments,
        id_token: Option<IdTokenConfig>,
    ) -> Result<Self, Failure> {
        let before = Config::load(paths)?;
        // A second setup without --match keeps the patterns of the first.
        let patterns = match arguments.patterns.as_slice() {
            [] => before.patterns.clone(),
            given => given.to_vec(),
        };
        // Only somebody's own choice is kept: the default is this session's, and earlier setups wrote it down.
        let chosen = before.run_dir.clone().filter(|dir| *dir != paths.run_dir);
        let run_dir = chosen.clone().unwrap_or_else(|| paths.run_dir.clone());
        let block =
            Block::new(program, &run_dir, &patterns).map_err(|e| Failure::usage(e.to_string()))?;
        let (ca, root) = pinned.map(|p| (p.ca, (p.roots, p.root))).unzip();
        let config = Config {
            run_dir: chosen,
            patterns,
            ca,
            id_token: id_token.or_else(|| before.id_token.clone()),
            ..arguments.over(before.clone())
        };
        let installation = Installation::new(&paths.ssh_dir);
        let changes = installation
            .plan(&block.render(), &missing_parents(paths, &run_dir))
            .map_err(|e| Failure::usage(e.to_string()))?;
        let config_text = config.to_toml()?;
        let shown_text = config.without_password().to_toml()?;
        let config_differs = config != before;
        let lost = lost(&before, &config);
        Ok(Self {
            config,
            root,
            installation,
            changes,
            config_text,
            shown_text,
            config_differs,
            lost,
        })
    }

    fn carry_out(&self, paths: &Paths, yes: bool) -> Result<(), Failure> {
        let same_root = match (&self.root, &self.config.ca) {
            (Some((_, root)), Some(ca)) => {
                RootChain::load(paths, ca).is_ok_and(|stored| stored.ends_with(root))
            }
            _ => true,
        };
        if !self.config_differs && self.changes.is_empty() && same_root {
            terminal::print("Everything is in place already; nothing was changed.\n");
            return Ok(());
        }
        terminal::print(&self.shown(paths));
        agree(yes)?;
        self.write(paths)
            .map_err(|e| e.context("setup was not completed"))?;
        terminal::print(
            "Done. Sign in with `eic-login`, then use ssh, scp, rsync and git as usual.\n",
        );
        if let Some(told) = home::not_read(&paths.ssh_dir) {
            terminal::note(&told);
        }
        Ok(())
    }

    fn shown(&self, paths: &Paths) -> String {
        let mut text = String::from("This will change:\n");
        for change in &self.changes {
            text.push_str(&change.diff());
        }
        if self.config_differs {
            let lines = self
                .shown_text
                .lines()
                .map(|line| format!("  | {}\n", terminal::one_line(line)));
            text.push_str(&format!(
                "{}\n{}",
                paths.config_file().display(),
                lines.collect::<String>()
            ));
        }
        for what in &self.lost {
            text.push_str(&format!("  - {what} is removed\n"));
        }
        if self.root.is_some() {
            text.push_str(&format!(
                "{}\n  | the pinned root document\n",
                paths.root_file().display()
            ));
        }
        text
    }

    /// ssh's own configuration last: it never points to a client that is not configured.
    fn write(&self, paths: &Paths) -> Result<(), Failure> {
        let failed = |e: FileError| Failure::of(&e);
        files::private_dir(&paths.config_dir).map_err(failed)?;
        if let Some((roots, _)) = &self.root {
            roots.store(paths)?;
        }
        files::write_atomic(&paths.config_file(), self.config_text.as_bytes(), 0o600)
            .map_err(failed)?;
        if self.root.is_none() {
            files::remove(&paths.root_file()).map_err(failed)?;
        }
        self.installation.apply(&self.changes).map_err(failed)
    }
}

/// What was configured before and is not after: no pin and no key of [id_token] is lost silently.
fn lost(before: &Config, after: &Config) -> Vec<String> {
    let of_ca = lost_pins(before.ca.as_ref(), after.ca.as_ref());
    let of_token = lost_keys(before.id_token.as_ref(), after.id_token.as_ref());
    let of_token = of_token.into_iter();
    of_ca
        .into_iter()
        .chain(of_token.map(|name| format!("`{name}` in [id_token]")))
        .collect()
}

fn lost_pins(before: Option<&CaConfig>, after: Option<&CaConfig>) -> Vec<String> {
    let Some(before) = before else {
        return Vec::new();
    };
    let mut lost = Vec::new();
    if after.is_none_or(|after| after.url != before.url) {
        lost.push(format!("the CA {}", before.url));
    }
    let file = after.and_then(|after| after.ca_file.as_ref());
    if let Some(gone) = before.ca_file.as_ref().filter(|gone| file != Some(gone)) {
        let shown = terminal::one_line(&gone.display().to_string());
        lost.push(format!("the TLS pin `{shown}`"));
    }
    lost
}

/// Which keys of [id_token] are gone.
fn lost_keys(before: Option<&IdTokenConfig>, after: Option<&IdTokenConfig>) -> Vec<&'static str> {
    let names = |config: &IdTokenConfig| {
        [
            ("command", !config.command.is_empty()),
            ("file", config.file.is_some()),
            ("client_id", config.client_id.is_some()),
            ("client_secret", config.client_secret.is_some()),
            ("scopes", !config.scopes.is_empty()),
        ]
    };
    let (Some(before), Some(after)) = (before, after) else {
        return Vec::new();
    };
    let pairs = names(before).into_iter().zip(names(after));
    let gone = pairs.filter(|((_, was), (_, is))| *was && !is);
    gone.map(|((name, _), _)| name).collect()
}

fn agree(yes: bool) -> Result<(), Failure> {
    // Without a terminal the command line itself is the consent.
    match if yes {
        None
    } else {
        terminal::confirm("Go on?")
    } {
        Some(false) => Err(Failure::new(exit_code::FAILURE, "nothing was changed")),
        _ => Ok(()),
    }
}

fn undo(paths: &Paths, yes: bool) -> Result<(), Failure> {
    let failed = |e: FileError| Failure::of(&e);
    let installation = Installation::new(&paths.ssh_dir);
    let changes = installation.plan_undo().map_err(failed)?;
    let config = Config::load(paths);
    let run_dir = config.map_or_else(|_| paths.run_dir.clone(), |config| config.run_dir(paths));
    let files = our_files(paths, &run_dir);
    let folders = run_folder::login_folders(&run_dir);
    let mut text = String::from("This will change:\n");
    text.extend(changes.iter().map(Change::diff));
    text.extend(
        files
            .iter()
            .map(|file| format!("{}\n  - the file\n", file.display())),
    );
    terminal::print(&text);
    agree(yes)?;
    // Its keys first; an agent that cannot be asked has none that anybody could use.
    let _ = Agent::new(&run_dir).and_then(|agent| agent.ask_running(Ask::Logout));
    let (made, parents) = (installation.made_folder(), installation.made_parents());
    installation.apply(&changes).map_err(failed)?;
    for file in files {
        files::remove(&file).map_err(failed)?;
    }
    installation.remove_empty_folder(made);
    let ours = [
        paths.config_dir.clone(),
        paths.state_dir.clone(),
        paths.cache_dir.clone(),
        slots::folder(&run_dir),
        run_dir,
    ];
    for folder in folders.into_iter().chain(ours).chain(parents) {
        // Refused by the system where something of somebody else's is in it, as it should be.
        let _ = std::fs::remove_dir(folder);
    }
    terminal::print("Done: ssh is configured as before.\n");
    Ok(())
}

/// Every file that setup and the resident agent made. Others in those folders are the user's.
fn our_files(paths: &Paths, run_dir: &Path) -> Vec<PathBuf> {
    let hosts = paths.state_dir.join("hosts.json");
    let events = paths.state_dir.join("events.json");
    let mut files = vec![
        paths.config_file(),
        paths.root_file(),
        host_users::file(&paths.ssh_dir),
        HostCache::new(&paths.cache_dir).file().to_owned(),
        winner::file(&paths.cache_dir),
        hosts.clone(),
        events.clone(),
        files::lock_file(&paths.root_file()),
        files::lock_file(&hosts),
        files::lock_file(&events),
        crate::control::socket_path(run_dir),
        crate::control::lock_path(run_dir),
    ];
    files.extend(run_folder::login_entries(run_dir));
    files.extend(slots::files(run_dir));
    files.retain(|file| std::fs::symlink_metadata(file).is_ok_and(|meta| !meta.is_dir()));
    files
}

/// The folders above ours that do not exist yet: `~/.config`, `~/.local`, …
fn missing_parents(paths: &Paths, run_dir: &Path) -> Vec<PathBuf> {
    let ours = [
        paths.config_dir.as_path(),
        paths.state_dir.as_path(),
        paths.cache_dir.as_path(),
        run_dir,
    ];
    let above = ours
        .into_iter()
        .flat_map(|folder| folder.ancestors().skip(1));
    let missing: BTreeSet<PathBuf> = above
        .filter(|folder| !folder.exists())
        .map(PathBuf::from)
        .collect();
    missing.into_iter().collect()
}

#[cfg(test)]
mod tests;
