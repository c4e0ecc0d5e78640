//! `eic-ca keys list|announce|activate|retire`: every key that a root names, and the life of the user-CA keys.
//! Announcing and retiring make a new root; activating does not, so that a failover touches no host.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use eic_protocol::api::certificate::Reason;
use eic_protocol::key_fingerprint::KeyFingerprint;
use eic_protocol::krl::Target;
use eic_protocol::subject_key::CaKey;
use eic_protocol::trust::root::Root;
use serde_json::json;

use super::config_file::ConfigFile;
use super::root::{RootCommandError, ceremony};
use super::runtime::block_on;
use crate::audit::{Actor, Event, EventName, OnceError, Operator, Recorder};
use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::keys::{KeysError, RootError, RootHistory, RootKeys, root, root_history};
use crate::log;
use crate::moment;
use crate::random::{self, NoEntropy};
use crate::rotation::{Candidate, Circumstances, NotYet, choose, judge};
use crate::signer::document::{DocumentError, RootKey};
use crate::signer::local::LocalKeyError;
use crate::store::trust::{RevocationOrder, Signing, TrustBook, What};
use crate::store::{Store, StoreConfig, StoreError};

mod list;

use list::Role;

/// What to do with the user-CA keys.
#[derive(Debug, Args)]
pub struct KeysArgs {
    #[command(flatten)]
    config: ConfigFile,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print every key: its role, its state, which one signs, and what exchanges it.
    List,
    /// Name the configured spare keys in the next root, so that hosts know them before they sign.
    Announce(RootOutput),
    /// Have this key sign from now on; refused while hosts may not know it.
    Activate {
        /// Its fingerprint, as `eic-ca keys list` prints it.
        fingerprint: KeyFingerprint,
        /// Why; for the audit.
        #[arg(long, value_name = "TEXT")]
        reason: Reason,
    },
    /// Have hosts trust this key no more; refused while certificates of it are good.
    Retire {
        /// Its fingerprint.
        fingerprint: KeyFingerprint,
        /// Why; for the audit.
        #[arg(long, value_name = "TEXT")]
        reason: Reason,
        /// At once, whatever is out: the key is revoked as well.
        #[arg(long)]
        now: bool,
        #[command(flatten)]
        output: RootOutput,
    },
}

/// Who signs the next root.
#[derive(Debug, Args)]
struct RootOutput {
    /// The root key, where the configuration names none because it is kept offline.
    #[arg(long, value_name = "FILE", conflicts_with = "draft")]
    root_key: Option<PathBuf>,
    /// Write an unsigned root instead, for `eic-ca root sign` and `eic-ca root install`.
    #[arg(long, value_name = "FILE")]
    draft: Option<PathBuf>,
}

/// What the commands work with.
struct Desk {
    config: Config,
    roots: RootHistory,
    keys: RootKeys,
    /// Those in KMS that do not answer now.
    silent: Vec<CaKey>,
    recorder: Recorder,
    book: TrustBook,
    now: u64,
}

/// Runs the command.
///
/// # Errors
/// [`KeysCommandError`]
pub fn run(args: &KeysArgs) -> Result<ExitCode, KeysCommandError> {
    let config = args.config.load()?;
    log::start(tracing::Level::WARN);
    block_on(carry_out(config, &args.verb))?
}

async fn carry_out(config: Config, verb: &Verb) -> Result<ExitCode, KeysCommandError> {
    let clock = Clock::system();
    let store = Store::open(&StoreConfig::at(&config.store))?;
    let (keys, signers) = RootKeys::open(&config.keys, &store.key_pins(), clock.now()).await?;
    let cas = signers.user_cas.iter().chain([&signers.host_ca]);
    let silent = cas.filter(|ca| ca.unreached().is_some());
    let desk = Desk {
        roots: RootHistory::read(&config.keys.root_document)?,
        keys,
        silent: silent.map(|ca| ca.public().clone()).collect(),
        recorder: Recorder::new(&store, clock.clone()),
        book: store.trust_book(),
        now: clock.now(),
        config,
    };
    match verb {
        Verb::List => desk.list().await?,
        Verb::Announce(output) => desk.announce(output).await?,
        Verb::Activate {
            fingerprint,
            reason,
        } => desk.activate(&fingerprint.to_string(), reason).await?,
        Verb::Retire {
            fingerprint,
            reason,
            now,
            output,
        } => {
            let print = fingerprint.to_string();
            desk.retire(&print, reason, *now, output).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Desk {
    fn configured(&self) -> impl Iterator<Item = &CaKey> {
        std::iter::once(&self.keys.user_ca).chain(&self.keys.spares)
    }

    fn present(&self) -> Result<&Root, KeysCommandError> {
        self.roots.present().ok_or(KeysCommandError::NoRoot)
    }

    fn circumstances<'a>(&'a self, signing: &'a Signing) -> Circumstances<'a> {
        Circumstances {
            roots: &self.roots,
            chosen: signing.chosen.as_deref(),
            last: signing.last.as_deref(),
            served: &signing.served,
            propagation: self.config.keys.propagation_seconds,
            now: self.now,
        }
    }

    fn candidate<'a>(&self, key: &'a CaKey) -> Candidate<'a> {
        Candidate {
            key,
            revoked: self.book.watch().revokes(key.key()),
            // A key that fell silent after the service's start still is the one that the service asks.
            answers: true,
        }
    }

    /// Whether the key may sign, as the service judges it.
    fn gate(&self, key: &CaKey, signing: &Signing) -> Result<(), NotYet> {
        judge(&self.candidate(key), &self.circumstances(signing))
    }

    /// The key that signs, as the service chooses it.
    fn signer(&self, signing: &Signing) -> Option<String> {
        let candidates: Vec<_> = self.configured().map(|key| self.candidate(key)).collect();
        let signer = choose(&candidates, &self.circumstances(signing)).signer?;
        candidates.get(signer).map(|ca| ca.key.fingerprint())
    }

    async fn announce(&self, output: &RootOutput) -> Result<(), KeysCommandError> {
        match root::next(self.present()?, &self.keys, self.now) {
            Some(next) => self.make_root(next, output).await,
            None => {
                println!("the root names every configured key already");
                Ok(())
            }
        }
    }

    async fn activate(&self, print: &str, reason: &Reason) -> Result<(), KeysCommandError> {
        let key = self.configured().find(|ca| ca.fingerprint() == print);
        let key = key.ok_or_else(|| self.unsuited("activate", print))?;
        let signing = self.book.signing().await?;
        self.gate(key, &signing)
            .map_err(|flaw| KeysCommandError::NotYet {
                key: print.to_owned(),
                flaw,
                now: self.now,
            })?;
        let mut event = Event::of_operator(EventName::ActivateKey)?;
        event.parameters = Some(json!({ "caKey": print, "reason": reason.as_str() }));
        event.additional = Some(json!({ "before": self.signer(&signing) }));
        self.recorder
            .choose_signer(&self.book, print.to_owned(), &event)
            .await?;
        println!("{print} signs from now on; a running service takes it within a second");
        Ok(())
    }

    async fn retire(
        &self,
        print: &str,
        reason: &Reason,
        now: bool,
        output: &RootOutput,
    ) -> Result<(), KeysCommandError> {
        let present = self.present()?;
        let key = present
            .user_cas
            .iter()
            .find(|ca| ca.key.fingerprint() == print);
        let key = key.ok_or_else(|| self.unsuited("retire", print))?;
        let signing = self.book.signing().await?;
        let signer = self.signer(&signing);
        if signer.as_deref() == Some(print) {
            return Err(KeysCommandError::Signs(print.to_owned()));
        }
        if !now && self.may_stand_in(&key.key, signer.as_deref(), &signing) {
            return Err(KeysCommandError::MayStandIn {
                key: print.to_owned(),
                silent: signer.unwrap_or_default(),
            });
        }
        let end = self.book.last_end(print.to_owned(), self.now).await?;
        if let Some(end) = end.filter(|_| !now) {
            return Err(KeysCommandError::StillGood {
                key: print.to_owned(),
                end: moment::seen_from(self.now, end),
            });
        }
        let next = root::with_retired(present, print, signer.as_deref(), self.now);
        let next = next.ok_or_else(|| KeysCommandError::NotNamed(print.to_owned()))?;
        // Recorded first: a root without a record would be worse than the other way round.
        self.record_retirement(&key.key, reason, now).await?;
        self.make_root(next, output).await
    }

    /// Why a key that is no user CA of ours is not activated or retired.
    fn unsuited(&self, verb: &'static str, print: &str) -> KeysCommandError {
        let key = print.to_owned();
        match Role::of(&self.roots, print) {
            Some(role) => KeysCommandError::NoUserCa {
                verb,
                key,
                role: role.name(),
                instead: role.instead(),
            },
            None if verb == "activate" => KeysCommandError::NotConfigured(key),
            None => KeysCommandError::NotNamed(key),
        }
    }

    /// Whether a service may sign with this key because the one that is to sign does not answer.
    fn may_stand_in(&self, key: &CaKey, signer: Option<&str>, signing: &Signing) -> bool {
        let mut silent = self.silent.iter().map(CaKey::fingerprint);
        silent.any(|print| Some(print.as_str()) == signer)
            && self.configured().any(|ca| ca == key)
            && self.gate(key, signing).is_ok()
    }

    /// With `now` the key enters the revocation list: older roots count on hosts that are slow.
    async fn record_retirement(
        &self,
        key: &CaKey,
        reason: &Reason,
        now: bool,
    ) -> Result<(), KeysCommandError> {
        let mut event = Event::of_operator(EventName::RetireKey)?;
        let (print, reason) = (key.fingerprint(), reason.as_str());
        event.parameters = Some(json!({ "caKey": print, "reason": reason, "now": now }));
        if !now {
            return Ok(self
                .recorder
                .append(&event)
                .await
                .map_err(OnceError::from)?);
        }
        let order = RevocationOrder {
            id: random::request_id()?,
            what: What::Entry(Target::CaKey(key.clone()), None),
            by: Operator::current().label(),
            reason: Some(reason.to_owned()),
            at: self.now,
        };
        self.recorder
            .revoke_target(&self.book, order, &event, None)
            .await?;
        println!("{print} is revoked with the next bundle");
        Ok(())
    }

    async fn make_root(&self, next: Root, output: &RootOutput) -> Result<(), KeysCommandError> {
        if let Some(draft) = &output.draft {
            ceremony::write(draft, &ceremony::unsigned(draft, &next)?)?;
            println!(
                "wrote {}; sign it with `eic-ca root sign`, then `eic-ca root install`",
                draft.display()
            );
            return Ok(());
        }
        let file = output.root_key.as_ref().or(self.config.keys.root.as_ref());
        let root_key = RootKey::load(file.ok_or(RootCommandError::NoRootKey)?)?;
        let path: &Path = &self.config.keys.root_document;
        let sealed = root_key.seal(&next)?;
        self.record_root(&next).await?;
        let installed = root_history::succeed(path, &sealed)?;
        println!(
            "wrote {} version {}; a running service serves it within a second",
            path.display(),
            installed.version
        );
        Ok(())
    }

    async fn record_root(&self, next: &Root) -> Result<(), KeysCommandError> {
        let event = root::installation(next, Actor::Operator(Operator::current()))?;
        let recorded = self.recorder.append(&event).await;
        Ok(recorded.map_err(OnceError::from)?)
    }
}

/// Why nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum KeysCommandError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The configured keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The root document.
    #[error(transparent)]
    Root(#[from] RootError),
    /// A draft.
    #[error(transparent)]
    Draft(#[from] RootCommandError),
    /// The root key.
    #[error(transparent)]
    RootKey(#[from] LocalKeyError),
    /// The signature.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The record.
    #[error(transparent)]
    Record(#[from] OnceError),
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// No root.
    #[error("use the root document: there is none; see `eic-ca root init`")]
    NoRoot,
    /// Not ours to sign with.
    #[error(
        "activate `{0}`: it is not configured as `user_ca` or among `spare_user_cas`; see `eic-ca keys list`"
    )]
    NotConfigured(String),
    /// Hosts would refuse it.
    #[error("activate `{key}`: {}", flaw.told_at(*now))]
    NotYet {
        /// The key.
        key: String,
        /// Why.
        flaw: NotYet,
        /// When, in Unix seconds.
        now: u64,
    },
    /// A key of the root with another purpose.
    #[error("{verb} `{key}`: it is {role}, no user CA's; {instead}")]
    NoUserCa {
        /// What was wanted.
        verb: &'static str,
        /// The key.
        key: String,
        /// What it is.
        role: &'static str,
        /// What to do.
        instead: &'static str,
    },
    /// Not in the root.
    #[error(
        "retire `{0}`: the root does not name it; see `eic-ca keys list` (a key in memory ends by `eic-ca revoke ca-key`)"
    )]
    NotNamed(String),
    /// It signs.
    #[error("retire `{0}`: it signs; activate another one first (`eic-ca keys activate`)")]
    Signs(String),
    /// It may sign in the place of a key that does not answer.
    #[error(
        "retire `{key}`: KMS does not answer for `{silent}`, which is to sign, so that this key may be standing in; have one that answers sign first (`eic-ca keys activate`), wait for KMS, or give `--now` where the key is compromised"
    )]
    MayStandIn {
        /// The key.
        key: String,
        /// The one that is to sign.
        silent: String,
    },
    /// Logins would fail.
    #[error(
        "retire `{key}`: certificates of it are good until {end}; wait, or give `--now` where the key is compromised"
    )]
    StillGood {
        /// The key.
        key: String,
        /// The end of the last one.
        end: String,
    },
    /// No runtime.
    #[error("start: {0}")]
    Runtime(#[from] std::io::Error),
}
