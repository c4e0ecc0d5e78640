//! AuthorizedKeysFile: which files sshd reads for an account, whether it believes them (StrictModes), and the
//! keys in them.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::account::{Account, matches};
use super::further::is_on;
use super::key_line::KeyLine;
use super::{Kind, WayIn};
use crate::sshd::{Settings, Version};

/// Largest file in bytes; a thousand keys have 600 KiB at most.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// sshd expands wildcards in AuthorizedKeysFile from here on.
const WITH_GLOBS: Version = Version {
    major: 10,
    minor: 0,
};

/// The keys and authorities of an account's files.
pub(super) fn ways(account: &Account, settings: &Settings, version: Version) -> Vec<WayIn> {
    let patterns = settings.values("AuthorizedKeysFile");
    let patterns = patterns.iter().flat_map(|value| value.split(' '));
    let mut ways = Vec::new();
    for file in patterns.flat_map(|pattern| files(pattern, account, version)) {
        ways.extend(of_file(&file, account, settings));
    }
    ways
}

fn of_file(file: &Path, account: &Account, settings: &Settings) -> Vec<WayIn> {
    let Some(bytes) = read_regular(file, MAX_BYTES) else {
        return Vec::new();
    };
    let distrusted = is_on(settings, "StrictModes")
        .then(|| open_to_others(file, account))
        .flatten();
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.lines().enumerate();
    lines
        .filter_map(|(index, line)| Some((index + 1, KeyLine::parse(line)?)))
        .map(|(number, line)| {
            let kind = if line.is_authority() {
                Kind::CertificateAuthority
            } else {
                Kind::Key
            };
            let mut way = WayIn::new(kind, line.shown(), format!("{}:{number}", file.display()));
            way.options = line.options.as_deref().map(eic_protocol::text::printable);
            way.blocked(distrusted.clone())
                .blocked(refused_kind(&line, settings))
        })
        .collect()
}

/// Why sshd does not take a key of this kind.
pub(super) fn refused_kind(line: &KeyLine, settings: &Settings) -> Option<String> {
    let accepted = settings.values("PubkeyAcceptedAlgorithms");
    let older = settings.values("PubkeyAcceptedKeyTypes");
    let names: Vec<&str> = accepted
        .iter()
        .chain(&older)
        .flat_map(|list| list.split(','))
        .collect();
    let takes = |name: &str| names.contains(&name);
    let by_name = match line.kind.as_str() {
        "ssh-rsa" => ["rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"]
            .into_iter()
            .any(takes),
        kind if line.is_authority() => {
            names.iter().any(|n| n.contains("-cert-v01@")) && !kind.contains("-cert-v01@")
        }
        kind => takes(kind),
    };
    if !names.is_empty() && !by_name {
        return Some("its type is not among PubkeyAcceptedAlgorithms".to_owned());
    }
    let required = settings
        .values("RequiredRSASize")
        .first()
        .and_then(|n| n.parse().ok());
    let bits = line.rsa_bits()?;
    (bits < required.unwrap_or(1024))
        .then(|| format!("RSA of {bits} bits is below RequiredRSASize"))
}

/// A pattern's files: tokens put in, relative ones under the home, wildcards where sshd knows them.
pub(super) fn files(pattern: &str, account: &Account, version: Version) -> Vec<PathBuf> {
    let path = account.home.join(expanded(pattern, account));
    let has_wildcard = path.to_string_lossy().contains(['*', '?']);
    if !has_wildcard || version < WITH_GLOBS {
        return vec![path];
    }
    let mut found = vec![PathBuf::from("/")];
    for part in path.components().skip(1) {
        let name = part.as_os_str().to_string_lossy();
        found = found
            .iter()
            .flat_map(|folder| entries(folder, &name))
            .collect();
    }
    found
}

/// The entries of a folder that a path's part means, in order; a leading dot is not matched by a wildcard (glob(7)).
fn entries(folder: &Path, part: &str) -> Vec<PathBuf> {
    if !part.contains(['*', '?']) {
        return vec![folder.join(part)];
    }
    let names = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name());
    let mut fitting: Vec<PathBuf> = names
        .filter(|name| {
            let name = name.to_string_lossy();
            (part.starts_with('.') || !name.starts_with('.')) && matches(part, &name)
        })
        .map(|name| folder.join(name))
        .collect();
    fitting.sort();
    fitting
}

/// `%%`, `%h`, `%U` and `%u` (sshd_config(5), TOKENS of AuthorizedKeysFile and AuthorizedPrincipalsFile).
fn expanded(pattern: &str, account: &Account) -> String {
    let mut text = String::new();
    let mut characters = pattern.chars();
    while let Some(c) = characters.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        match characters.next() {
            Some('h') => text.push_str(&account.home.to_string_lossy()),
            Some('U') => text.push_str(&account.uid.to_string()),
            Some('u') => text.push_str(&account.name),
            other => text.extend(other),
        }
    }
    text
}

/// StrictModes: the file and every folder up to the home must belong to the account or root, and be writable by
/// nobody else (auth.c, safe_path).
pub(super) fn open_to_others(file: &Path, account: &Account) -> Option<String> {
    let resolved = file.canonicalize().ok()?;
    let home = account.home.canonicalize().ok();
    for part in resolved.ancestors() {
        let about = std::fs::metadata(part).ok()?;
        let owned = about.uid() == 0 || about.uid() == account.uid;
        if !owned || about.mode() & 0o022 != 0 {
            return Some(format!(
                "StrictModes: `{}` is open to others",
                part.display()
            ));
        }
        if home.as_deref() == Some(part) {
            return None;
        }
    }
    None
}

/// A regular file's bytes; whatever else lies there (a FIFO would wait for ever) is no file.
pub(super) fn read_regular(path: &Path, cap: u64) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    let count = file.take(cap + 1).read_to_end(&mut bytes).ok()?;
    (u64::try_from(count).ok()? <= cap).then_some(bytes)
}
