//! `eic-ca key generate`: a new private key in a file, for a CA or bundle that is not to be Ed25519.
//! Keys in KMS are made in KMS.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::keys::{KeyType, KeysError, new_key_file};

/// What to do with a key file.
#[derive(Debug, Args)]
pub struct KeyArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make FILE (mode 0600) and FILE.pub; nothing is overwritten.
    Generate {
        /// ed25519, ecdsa-p256, ecdsa-p384, rsa-3072 or rsa-4096.
        #[arg(long = "type", value_name = "TYPE", default_value = "ed25519")]
        kind: KeyType,
        /// Where to.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// Runs the command.
///
/// # Errors
/// [`KeysError`]
pub fn run(args: &KeyArgs) -> Result<ExitCode, KeysError> {
    let Verb::Generate { kind, file } = &args.verb;
    let key = new_key_file(file, *kind)?;
    println!("{} {}", key.public().fingerprint(), file.display());
    println!(
        "name it under `[keys]` in the configuration, then run `eic-ca root update --config FILE`, with `--root-key FILE` where the root key is kept offline"
    );
    Ok(ExitCode::SUCCESS)
}
