//! Whether sshd really asks us: the effective settings for some accounts, and what else may let people in.

use std::path::{Path, PathBuf};

use super::InstallError;
use super::overrides::Override;
use crate::sshd::config_file::words;
use crate::sshd::{Settings, Sshd};

/// Refuses settings on sshd's command line that would beat ours.
pub(super) fn check_overrides(
    wanted: &[(&'static str, String)],
    overrides: &[Override],
) -> Result<(), InstallError> {
    match first_override(wanted, overrides) {
        Some(found) => Err(NotEffective::CommandLine {
            keyword: found.keyword.clone(),
            source_file: found.source.clone(),
        }
        .into()),
        None => Ok(()),
    }
}

/// Refuses names of keys that our commands cannot know: `%F` and `%f` are what FingerprintHash says, the signed
/// documents and Instance Connect have SHA-256.
pub(super) fn check_fingerprints(
    settings: &Settings,
    config_dir: &Path,
) -> Result<(), InstallError> {
    let named = settings.values("FingerprintHash");
    match named
        .iter()
        .find(|hash| !hash.eq_ignore_ascii_case("SHA256"))
    {
        Some(hash) => Err(NotEffective::FingerprintHash {
            hash: (*hash).to_owned(),
            places: places("FingerprintHash", config_dir),
        }
        .into()),
        None => Ok(()),
    }
}

/// Checks that each of `wanted` is what sshd uses for each of `users`, or what a Match block of the
/// administrator's says instead (`tolerated`); returns remarks for the administrator.
pub(super) fn check(
    sshd: &Sshd,
    wanted: &[(&'static str, String)],
    users: &[String],
    tolerated: &[(String, String)],
    config_dir: &Path,
) -> Result<Vec<String>, InstallError> {
    let mut remarks = Vec::new();
    for user in users {
        let settings = sshd.effective(user)?;
        check_fingerprints(&settings, config_dir)?;
        if let Some((keyword, actual)) = mismatch(wanted, &settings, tolerated) {
            return Err(not_effective(keyword, &actual, user, config_dir).into());
        }
        if remarks.is_empty() {
            remarks = other_doors(
                &settings.values("AuthorizedKeysFile"),
                &settings.values("AuthorizedPrincipalsFile"),
            );
        }
    }
    Ok(remarks)
}

/// The first setting that another value has taken, or else one that has none: sshd before 9.4 drops
/// AuthorizedPrincipalsCommand where a foreign AuthorizedKeysCommand comes first, which is the cause to name.
fn mismatch<'a>(
    wanted: &[(&'static str, String)],
    settings: &'a Settings,
    tolerated: &[(String, String)],
) -> Option<(&'static str, Vec<&'a str>)> {
    let differing: Vec<_> = wanted
        .iter()
        .map(|(keyword, value)| (*keyword, value, settings.values(keyword)))
        .filter(|(_, value, actual)| !actual.contains(&value.as_str()))
        .filter(|(keyword, _, actual)| !is_tolerated(keyword, actual, tolerated))
        .collect();
    let taken = differing.iter().find(|(_, _, actual)| !actual.is_empty());
    let (keyword, _, actual) = taken.or(differing.first())?;
    Some((*keyword, actual.clone()))
}

fn is_tolerated(keyword: &str, actual: &[&str], tolerated: &[(String, String)]) -> bool {
    let of_keyword = |(k, _): &&(String, String)| *k == keyword.to_ascii_lowercase();
    let values: Vec<&str> = tolerated
        .iter()
        .filter(of_keyword)
        .map(|(_, value)| value.as_str())
        .collect();
    if actual.is_empty() {
        // `none` comes as no value.
        return values
            .iter()
            .any(|value| value.eq_ignore_ascii_case("none"));
    }
    actual
        .iter()
        .all(|value| values.contains(&words(value).join(" ").as_str()))
}

fn first_override<'a>(
    wanted: &[(&'static str, String)],
    overrides: &'a [Override],
) -> Option<&'a Override> {
    let differs = |found: &&Override| {
        wanted.iter().any(|(keyword, value)| {
            found.keyword == keyword.to_ascii_lowercase() && found.value != *value
        })
    };
    overrides.iter().find(differs)
}

fn not_effective(
    keyword: &'static str,
    actual: &[&str],
    user: &str,
    config_dir: &Path,
) -> NotEffective {
    NotEffective::Setting {
        keyword,
        actual: if actual.is_empty() {
            "nothing".to_owned()
        } else {
            actual.join(", ")
        },
        user: user.to_owned(),
        places: places(keyword, config_dir),
    }
}

/// The files that set a keyword, to show where to look; a Match block may be the reason as well.
pub(crate) fn places(keyword: &str, config_dir: &Path) -> String {
    let drop_ins = std::fs::read_dir(config_dir.join("sshd_config.d"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let mut files: Vec<PathBuf> = drop_ins
        .chain([config_dir.join("sshd_config")])
        .filter(|file| sets(file, keyword))
        .collect();
    files.sort();
    let shown: Vec<String> = files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    if shown.is_empty() {
        "no file here, is sshd_config.d included?".to_owned()
    } else {
        shown.join(", ")
    }
}

fn sets(file: &Path, keyword: &str) -> bool {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().any(|line| {
        line.split([' ', '\t', '='])
            .find(|word| !word.is_empty())
            .is_some_and(|w| w.eq_ignore_ascii_case(keyword))
    })
}

/// Ways in that stay open beside ours. They are the administrator's to close.
fn other_doors(keys_files: &[&str], principals_files: &[&str]) -> Vec<String> {
    let mut remarks = Vec::new();
    let own: Vec<&str> = keys_files
        .iter()
        .flat_map(|value| value.split(' '))
        .filter(|f| !f.starts_with('/') || f.contains('%'))
        .collect();
    if !own.is_empty() {
        remarks.push(format!("users can still let keys and CAs in by their own files ({}): `AuthorizedKeysFile none` ends that", own.join(" ")));
    }
    if !principals_files.is_empty() {
        remarks.push(format!(
            "AuthorizedPrincipalsFile ({}) is asked before this agent and may name anybody",
            principals_files.join(" ")
        ));
    }
    remarks
}

/// What wins over our settings.
#[derive(Debug, thiserror::Error)]
pub enum NotEffective {
    /// An option on sshd's command line.
    #[error("make `{keyword}` effective: sshd's command line sets it in `{}` (take that option out, and restart sshd)", .source_file.display())]
    CommandLine {
        /// The keyword, in lower case.
        keyword: String,
        /// Where the option stands.
        source_file: PathBuf,
    },
    /// Keys are told to our commands by another hash.
    #[error(
        "know keys by their names: sshd names them by {hash}, and this agent by SHA256 only; take FingerprintHash out (set in: {places})"
    )]
    FingerprintHash {
        /// sshd's.
        hash: String,
        /// Where it is set.
        places: String,
    },
    /// Another file, or a Match block.
    #[error("make `{keyword}` effective for `{user}`: sshd uses {actual} (set in: {places})")]
    Setting {
        /// The keyword.
        keyword: &'static str,
        /// What sshd uses.
        actual: String,
        /// For whom.
        user: String,
        /// Where it is set.
        places: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_override_with_another_value_is_found() {
        // I-21
        let wanted = [("AuthorizedKeysCommand", "/a x".to_owned())];
        let with = |value: &str| {
            [Override {
                keyword: "authorizedkeyscommand".into(),
                value: value.into(),
                source: "/u".into(),
            }]
        };
        assert!(first_override(&wanted, &with("/b y")).is_some());
        assert!(first_override(&wanted, &with("/a x")).is_none());
    }

    #[test]
    fn names_by_another_hash_than_sha256_are_refused() {
        let check = |text: &str| check_fingerprints(&Settings::parse(text), Path::new("/none"));
        for hash in ["MD5", "SHA1", "SHA512"] {
            let told = check(&format!("fingerprinthash {hash}\n")).unwrap_err();
            let told = told.to_string();
            assert!(
                told.contains(hash) && told.contains("take FingerprintHash out"),
                "{told}"
            );
        }
        for good in ["fingerprinthash SHA256\n", "fingerprinthash sha256\n", ""] {
            assert!(check(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_setting_is_missing_by_will_only_where_a_block_says_none_for_it() {
        let wanted = [("AuthorizedKeysCommand", "/a x".to_owned())];
        let off = Settings::parse("authorizedkeyscommand none\n");
        let differs = |tolerated: &[(&str, &str)]| {
            let owned = tolerated
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            let owned: Vec<_> = owned.collect();
            mismatch(&wanted, &off, &owned).is_some()
        };
        assert!(differs(&[]));
        assert!(differs(&[("authorizedkeyscommand", "/opt/git-keys %u")]));
        assert!(differs(&[("authorizedkeyscommanduser", "none")]));
        assert!(!differs(&[("authorizedkeyscommand", "none")]));
        assert!(!differs(&[("authorizedkeyscommand", "NONE")]));
    }

    #[test]
    fn files_of_the_users_own_are_remarked_on() {
        // J-09
        assert_eq!(
            other_doors(&[".ssh/authorized_keys .ssh/authorized_keys2"], &[]).len(),
            1
        );
        assert_eq!(
            other_doors(&["/etc/keys/%u"], &["/etc/principals/%u"]).len(),
            2
        );
        assert!(other_doors(&["/etc/keys/all"], &[]).is_empty());
        assert!(other_doors(&[], &[]).is_empty());
    }

    #[test]
    fn the_places_of_a_keyword_are_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sshd_config.d")).unwrap();
        std::fs::write(
            folder.path().join("sshd_config.d/00-x.conf"),
            "  authorizedkeyscommand=/x\n",
        )
        .unwrap();
        std::fs::write(
            folder.path().join("sshd_config"),
            "# AuthorizedKeysCommand /y\n",
        )
        .unwrap();
        let shown = places("AuthorizedKeysCommand", folder.path());
        assert!(shown.ends_with("00-x.conf"), "{shown}");
    }
}
