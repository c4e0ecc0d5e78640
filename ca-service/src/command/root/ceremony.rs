//! Roots that several people sign, each where his key is: a draft, signatures, and the whole put in place.
//! Only the first and the last step need the CA's configuration; a signer needs his key and the draft.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use eic_protocol::base64_text::Base64Bytes;
use eic_protocol::subject_key::SubjectKey;
use eic_protocol::trust::envelope::{Envelope, MAX_DOCUMENT};
use eic_protocol::trust::root::Root;

use super::{RootCommandError, record, shown};
use crate::clock::Clock;
use crate::config::Config;
use crate::keys::{RootKeys, files, root, root_history};
use crate::signer::document::RootKey;

use super::super::runtime::block_on;
use crate::store::{Store, StoreConfig};

/// A root to be signed.
#[derive(Debug, Args)]
pub(super) struct DraftArgs {
    /// A root key's public half (`FILE.pub`); once for each signer. Absent: the present root's keys.
    #[arg(long = "root-key", value_name = "FILE")]
    root_keys: Vec<PathBuf>,
    /// How many of them must sign; absent: as now, or 1 for the first root.
    #[arg(long, value_name = "M")]
    threshold: Option<usize>,
    /// Where the draft goes.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// One signature.
#[derive(Debug, Args)]
pub(super) struct SignArgs {
    /// The root's private key.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The draft; signed in place.
    draft: PathBuf,
}

/// A root with its signatures.
#[derive(Debug, Args)]
pub(super) struct InstallArgs {
    /// The signed draft; several copies, each signed by others, are put together.
    #[arg(required = true)]
    drafts: Vec<PathBuf>,
}

/// Writes a draft with the configured keys: the first root, or the one after the present.
pub(super) fn draft(config: &Config, args: &DraftArgs) -> Result<ExitCode, RootCommandError> {
    let clock = Clock::system();
    let store = Store::open(&StoreConfig::at(&config.store))?;
    let opened = block_on(RootKeys::open(&config.keys, &store.key_pins(), clock.now()))?;
    let (keys, _) = opened?;
    let signers = args.root_keys.iter().map(|path| public_key(path));
    let signers: Vec<SubjectKey> = signers.collect::<Result<_, _>>()?;
    let document = drafted(config, args, &keys, signers, clock.now())?;
    write(&args.out, &unsigned(&args.out, &document)?)?;
    print!("{}", shown(&document));
    println!(
        "wrote {}; {} of the root keys must sign it: `eic-ca root sign --key KEY {0}`",
        args.out.display(),
        document.threshold
    );
    Ok(ExitCode::SUCCESS)
}

/// A draft that nobody has signed.
pub(in crate::command) fn unsigned(
    path: &Path,
    document: &Root,
) -> Result<Envelope, RootCommandError> {
    let signed = serde_json::to_vec(document).map_err(|e| unusable(path, &e))?;
    Ok(Envelope {
        signed: Base64Bytes(signed),
        signatures: Vec::new(),
    })
}

fn drafted(
    config: &Config,
    args: &DraftArgs,
    keys: &RootKeys,
    signers: Vec<SubjectKey>,
    now: u64,
) -> Result<Root, RootCommandError> {
    let path = &config.keys.root_document;
    let mut document = if path.exists() {
        let (_, present) = root::read(path)?;
        let mut next = root::next(&present, keys, now).unwrap_or_else(|| present.clone());
        next.version = present.version.saturating_add(1);
        next.issued = now;
        next
    } else {
        let first = signers.first().ok_or(RootCommandError::NoSigners)?;
        root::first(keys, first, now)
    };
    if !signers.is_empty() {
        document.root_keys = signers;
    }
    document.threshold = args.threshold.unwrap_or(document.threshold);
    let distinct: BTreeSet<_> = document.root_keys.iter().map(SubjectKey::blob).collect();
    let sound = distinct.len() == document.root_keys.len()
        && (1..=distinct.len()).contains(&document.threshold);
    if sound {
        Ok(document)
    } else {
        Err(RootCommandError::Signers {
            threshold: document.threshold,
            keys: distinct.len(),
        })
    }
}

/// Adds one signature. Shows what is signed: the signer is the last who can say no.
pub(super) fn sign(args: &SignArgs) -> Result<ExitCode, RootCommandError> {
    let key = RootKey::load(&args.key)?;
    let mut envelope = read(&args.draft)?;
    let document = claimed(&args.draft, &envelope)?;
    print!("{}", shown(&document));
    key.countersign(&mut envelope)
        .map_err(|e| unusable(&args.draft, &e))?;
    write(&args.draft, &envelope)?;
    let good = envelope.signatures.len();
    println!(
        "signed by {}; {good} signatures so far",
        key.public().fingerprint()
    );
    Ok(ExitCode::SUCCESS)
}

/// Puts the copies' signatures together and the root in place, judged as a host judges it.
pub(super) fn install(config: &Config, args: &InstallArgs) -> Result<ExitCode, RootCommandError> {
    let mut whole: Option<Envelope> = None;
    for path in &args.drafts {
        let copy = read(path)?;
        match &mut whole {
            None => whole = Some(copy),
            Some(whole) if whole.signed == copy.signed => merge(whole, copy),
            Some(_) => return Err(unusable(path, &"it is another draft than the first one")),
        }
    }
    let whole = whole.ok_or(RootCommandError::NoSigners)?;
    let path = &config.keys.root_document;
    let document = if path.exists() {
        root_history::judged(path, &whole)?
    } else {
        first(path, &whole)?
    };
    let store = Store::open(&StoreConfig::at(&config.store))?;
    record(&store, &Clock::system(), &document)?;
    if path.exists() {
        root_history::succeed(path, &whole)?;
    } else {
        root::write(path, &whole)?;
    }
    println!("wrote {} version {}", path.display(), document.version);
    Ok(ExitCode::SUCCESS)
}

fn merge(whole: &mut Envelope, copy: Envelope) {
    for signature in copy.signatures {
        if !whole.signatures.iter().any(|s| s.key == signature.key) {
            whole.signatures.push(signature);
        }
    }
}

fn first(path: &Path, envelope: &Envelope) -> Result<Root, RootCommandError> {
    let named = claimed(path, envelope)?;
    let own = named
        .root_keys
        .iter()
        .map(SubjectKey::fingerprint)
        .collect();
    Root::pinned(envelope, &own).map_err(|flaw| unusable(path, &flaw))
}

fn claimed(path: &Path, envelope: &Envelope) -> Result<Root, RootCommandError> {
    serde_json::from_slice(envelope.signed.as_slice()).map_err(|e| unusable(path, &e))
}

fn public_key(path: &Path) -> Result<SubjectKey, RootCommandError> {
    let text = std::fs::read_to_string(path).map_err(|e| unusable(path, &e))?;
    text.trim()
        .parse()
        .map_err(|e: eic_protocol::subject_key::InvalidKey| unusable(path, &e))
}

fn read(path: &Path) -> Result<Envelope, RootCommandError> {
    let size = std::fs::metadata(path)
        .map_err(|e| unusable(path, &e))?
        .len();
    if size > u64::try_from(2 * MAX_DOCUMENT).unwrap_or(u64::MAX) {
        return Err(unusable(path, &"it is too large for a root document"));
    }
    let text = std::fs::read(path).map_err(|e| unusable(path, &e))?;
    serde_json::from_slice(&text).map_err(|e| unusable(path, &e))
}

pub(in crate::command) fn write(path: &Path, envelope: &Envelope) -> Result<(), RootCommandError> {
    let mut text = serde_json::to_vec_pretty(envelope).map_err(|e| unusable(path, &e))?;
    text.push(b'\n');
    files::replace(path, &text, files::PUBLIC).map_err(|e| unusable(path, &e))
}

fn unusable(path: &Path, flaw: &dyn std::fmt::Display) -> RootCommandError {
    RootCommandError::Draft {
        path: path.to_owned(),
        flaw: flaw.to_string(),
    }
}
