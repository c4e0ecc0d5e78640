//! Instance Connect's verification of files that somebody has already fetched (`eic_parse_authorized_keys`):
//! the same chain, staples and records as from the metadata service, without any network.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::RecordCheck;
use super::place::SignerName;
use super::roots::Roots;
use super::signer::{Chain, UntrustedSigner};
use crate::official::ParseOptions;
use crate::syslog::Log;

/// Largest file of records in bytes, four times what the metadata service may send.
const MAX_RECORDS: u64 = 256 * 1024;
/// Largest bundle of trust anchors; distributions' have 250 KiB.
const MAX_ANCHORS: u64 = 4 * 1024 * 1024;
/// Largest staple; honest ones have 500 bytes to 3 KiB.
const MAX_STAPLE: u64 = 64 * 1024;

/// The key lines for sshd; empty where no record is good. `pinned` takes the place of the stated anchors.
///
/// # Errors
/// [`Unusable`]: a file is missing, or the signer is not to be trusted.
pub fn keys(
    options: &ParseOptions,
    pinned: Option<&Roots>,
    log: &dyn Log,
    now: u64,
) -> Result<String, Unusable> {
    let chain = Chain::from_pem(options.chain.as_bytes())?;
    let roots = match pinned {
        Some(roots) => roots.clone(),
        None => stated_roots(&options.anchors, &chain).ok_or(Unusable::Anchors)?,
    };
    let name = SignerName::stated(&options.signer).ok_or(UntrustedSigner::Name)?;
    let path = chain.verify(&roots, &name, now)?;
    let links = path.links().iter();
    let staples: Vec<Vec<u8>> = links
        .map(|link| read(&options.staples.join(link.staple_name()), MAX_STAPLE))
        .collect::<Option<_>>()
        .ok_or(UntrustedSigner::Staples)?;
    let signer = path.unrevoked(&staples, now)?;
    let records = read(&options.records, MAX_RECORDS).ok_or(Unusable::Records)?;
    let fingerprint = options.fingerprint.map(|wanted| wanted.to_string());
    let check = RecordCheck {
        signer: &signer,
        instance: &options.instance,
        extra_key_types: &std::collections::BTreeSet::new(),
        fingerprint: fingerprint.as_deref(),
        now,
    };
    Ok(check.lines(&records, log))
}

/// A bundle as it is; of a folder the file that is named for the chain's root, with `_` for blanks, as
/// distributions name them.
fn stated_roots(anchors: &Path, chain: &Chain) -> Option<Roots> {
    if !anchors.is_dir() {
        return Roots::from_bundle(&read(anchors, MAX_ANCHORS)?).ok();
    }
    let names = chain.root_names();
    let mut files = names.iter().filter_map(|name| file_name(name));
    files.find_map(|file| Roots::from_bundle(&read(&anchors.join(file), MAX_ANCHORS)?).ok())
}

/// A common name as a file's name; `None` where it would lead elsewhere.
fn file_name(common_name: &str) -> Option<String> {
    let plain = !common_name.is_empty()
        && !common_name.starts_with('.')
        && !common_name.contains(['/', '\0']);
    plain.then(|| format!("{}.pem", common_name.replace(' ', "_")))
}

fn read(path: &Path, cap: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(path)
        .ok()?
        .take(cap + 1)
        .read_to_end(&mut bytes)
        .ok()?;
    (u64::try_from(read).ok()? <= cap).then_some(bytes)
}

/// Why no record was looked at.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The signer.
    #[error(transparent)]
    Signer(#[from] UntrustedSigner),
    /// `-a` holds no certificate for the chain's root.
    #[error("find the root of the signer's chain among the trust anchors")]
    Anchors,
    /// `-p` cannot be read.
    #[error("read the records: no such file, or larger than {MAX_RECORDS} bytes")]
    Records,
}

#[cfg(test)]
mod tests;
