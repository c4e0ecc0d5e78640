//! `eic-ca revoke`: certificates, keys, callers, hosts and CA keys, beside a running service.
//! The service puts them into its next bundle within a second; without one, the next start does.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use eic_protocol::api::certificate::Reason;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::key_fingerprint::KeyFingerprint;
use eic_protocol::krl::{RevokedKey, Target};
use eic_protocol::request_id::RequestId;
use eic_protocol::serial::Serial;
use eic_protocol::subject_key::{CaKey, SubjectKey};
use eic_protocol::validity::{MAX_BACKDATE, MAX_HOST_TTL};
use serde_json::{Value, json};

use super::config_file::ConfigFile;
use super::runtime::block_on;
use crate::audit::{AppendError, Event, EventName, OnceError, Operator, Recorder};
use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::keys::{RootError, RootHistory};
use crate::random::{self, NoEntropy};
use crate::store::trust::{IssuedRow, RevocationOrder, TrustBook, What};
use crate::store::{Revocation, RevokedCaller, Store, StoreConfig, StoreError};

/// Largest key file that is read. Bytes.
const MAX_KEY_FILE: u64 = 64 * 1024;

/// What to revoke.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    #[command(flatten)]
    config: ConfigFile,
    #[command(subcommand)]
    what: Order,
}

#[derive(Debug, Subcommand)]
enum Order {
    /// A person, a job, or a role with all its sessions.
    Caller(CallerArgs),
    /// One certificate by its serial.
    Serial {
        /// The serial, as in the audit and in sshd's log.
        serial: Serial,
        #[command(flatten)]
        how: How,
    },
    /// The certificate of one request.
    Request {
        /// The request's id, as in the audit and in the certificate's key id.
        id: RequestId,
        #[command(flatten)]
        how: How,
    },
    /// A public key and every certificate of it.
    Key {
        /// A file with one OpenSSH public key, or its fingerprint (`SHA256:…`).
        key: String,
        #[command(flatten)]
        how: How,
    },
    /// A host: the certificates that it has, and no new ones until `eic-ca hosts unblock`.
    Host {
        /// The host.
        instance: InstanceId,
        /// Why; for the audit.
        #[arg(long, value_name = "TEXT")]
        reason: Reason,
    },
    /// A CA key: everything that it ever signed.
    CaKey {
        /// Its fingerprint, as `eic-ca root show` prints it.
        fingerprint: KeyFingerprint,
        #[command(flatten)]
        how: How,
    },
}

#[derive(Debug, Args)]
struct How {
    /// Why; for the audit.
    #[arg(long, value_name = "TEXT")]
    reason: Reason,
    /// Take the revocation back; hosts are told that it is meant.
    #[arg(long)]
    undo: bool,
}

#[derive(Debug, Args)]
struct CallerArgs {
    /// ARN of a user, role or role session, a unique id (AIDA…, AROA…, AROA…:session), or `https://issuer#subject`.
    who: RevokedCaller,
    /// Why; for the audit.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// End the revocation; certificates that it ended stay so.
    #[arg(long)]
    undo: bool,
}

/// Runs the command. Undoing what is not revoked ends it with exit code 1.
///
/// # Errors
/// [`RevokeError`]
pub fn run(args: &RevokeArgs) -> Result<ExitCode, RevokeError> {
    let config = args.config.load()?;
    let clock = Clock::system();
    let store = Store::open(&StoreConfig::at(&config.store))?;
    let desk = Desk {
        recorder: Recorder::new(&store, clock.clone()),
        book: store.trust_book(),
        now: clock.now(),
    };
    block_on(desk.carry_out(&config, &args.what))?
}

/// What an operator's revocation works with.
struct Desk {
    recorder: Recorder,
    book: TrustBook,
    now: u64,
}

impl Desk {
    async fn carry_out(&self, config: &Config, order: &Order) -> Result<ExitCode, RevokeError> {
        match order {
            Order::Caller(args) => {
                let changed = revoke_caller(&self.recorder, args, Operator::current(), self.now);
                let changed = changed.await?;
                println!("{}", outcome(args, changed));
                Ok(exit(changed))
            }
            Order::Serial { serial, how } => {
                let row = self.book.by_serial(serial.value()).await?;
                self.certificate(row, how).await
            }
            Order::Request { id, how } => {
                let since = self.now.saturating_sub(MAX_HOST_TTL + 2 * MAX_BACKDATE);
                let row = self.book.by_request(*id, since).await?;
                self.certificate(row, how).await
            }
            Order::Key { key, how } => self.entry(key_target(key)?, None, how).await,
            Order::Host { instance, reason } => {
                self.revoke(What::Host(instance.clone()), reason).await
            }
            Order::CaKey { fingerprint, how } => {
                let roots = RootHistory::read(&config.keys.root_document)?;
                let target = self.ca_target(&roots, fingerprint).await?;
                self.entry(target, None, how).await
            }
        }
    }

    /// A key of a root, or one that a key of a root named for some hours.
    async fn ca_target(
        &self,
        roots: &RootHistory,
        print: &KeyFingerprint,
    ) -> Result<Target, RevokeError> {
        let known = self.book.ca(print.to_string()).await?;
        let ca = known.or_else(|| of_a_root(roots, print));
        let ca = ca.ok_or_else(|| RevokeError::NoSuchCa(print.to_string()))?;
        Ok(Target::CaKey(ca))
    }

    async fn certificate(
        &self,
        row: Option<IssuedRow>,
        how: &How,
    ) -> Result<ExitCode, RevokeError> {
        let row = row.ok_or(RevokeError::NoCertificate)?;
        let ca = self.book.ca(row.ca).await?;
        let ca = ca.ok_or(RevokeError::NeverServed)?;
        let target = Target::serial(ca, row.serial);
        self.entry(target, Some(row.valid_before), how).await
    }

    async fn entry(
        &self,
        target: Target,
        expires: Option<u64>,
        how: &How,
    ) -> Result<ExitCode, RevokeError> {
        if how.undo {
            self.take_back(target, how).await
        } else {
            self.revoke(What::Entry(target, expires), &how.reason).await
        }
    }

    async fn revoke(&self, what: What, reason: &Reason) -> Result<ExitCode, RevokeError> {
        let order = RevocationOrder {
            id: random::request_id()?,
            by: Operator::current().label(),
            reason: Some(reason.as_str().to_owned()),
            at: self.now,
            what,
        };
        let mut event = Event::of_operator(EventName::Revoke)?;
        event.parameters =
            Some(json!({ "target": described(&order.what), "reason": reason.as_str() }));
        event.additional = Some(json!({ "revocation": order.id.to_string() }));
        let effect = self
            .recorder
            .revoke_target(&self.book, order, &event, None)
            .await?;
        println!(
            "revoked; {} certificates end with the next bundle, which a running service makes within a second",
            effect.certificates
        );
        Ok(ExitCode::SUCCESS)
    }

    async fn take_back(&self, target: Target, how: &How) -> Result<ExitCode, RevokeError> {
        let mut event = Event::of_operator(EventName::TakeBackRevocation)?;
        let described = described(&What::Entry(target.clone(), None));
        event.parameters = Some(json!({ "target": described, "reason": how.reason.as_str() }));
        let there = self.recorder.take_back(&self.book, target, &event).await?;
        println!(
            "{}",
            if there {
                "taken back with the next bundle"
            } else {
                "it was not revoked; nothing changed"
            }
        );
        Ok(exit(there))
    }
}

fn exit(changed: bool) -> ExitCode {
    if changed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What is revoked, for the audit.
fn described(what: &What) -> Value {
    match what {
        What::Entry(Target::Serials(ca, range), _) => {
            json!({ "serial": range.first().to_string(), "ca": ca.fingerprint() })
        }
        What::Entry(Target::KeyId(ca, id), _) => {
            json!({ "keyId": id.as_str(), "ca": ca.fingerprint() })
        }
        What::Entry(Target::Key(key), _) => {
            json!({ "publicKey": KeyFingerprint::of_blob(key.blob()) })
        }
        What::Entry(Target::Fingerprint(print), _) => json!({ "fingerprint": print }),
        What::Entry(Target::CaKey(ca), _) => json!({ "caKey": ca.fingerprint() }),
        What::Caller(who) => json!({ "caller": who.as_str() }),
        What::Host(instance) | What::HostCertificates(instance) => {
            json!({ "instanceId": instance.as_str() })
        }
    }
}

/// By its fingerprint where that is all there is; hosts before OpenSSH 7.9 heed only whole keys.
fn key_target(text: &str) -> Result<Target, RevokeError> {
    if let Ok(print) = text.parse::<KeyFingerprint>() {
        return Ok(Target::Fingerprint(print));
    }
    let key: SubjectKey = match text.parse() {
        Ok(key) => key,
        Err(_) => read_key(Path::new(text))?,
    };
    Ok(Target::Key(RevokedKey::from(&key)))
}

fn read_key(path: &Path) -> Result<SubjectKey, RevokeError> {
    let unusable = |cause: String| RevokeError::KeyFile {
        path: path.to_owned(),
        cause,
    };
    let size = std::fs::metadata(path).map_err(|e| unusable(e.to_string()))?;
    if size.len() > MAX_KEY_FILE {
        return Err(unusable("it is too large for a public key".to_owned()));
    }
    let text = std::fs::read_to_string(path).map_err(|e| unusable(e.to_string()))?;
    text.trim()
        .parse()
        .map_err(|e: eic_protocol::subject_key::InvalidKey| unusable(e.to_string()))
}

fn of_a_root(roots: &RootHistory, print: &KeyFingerprint) -> Option<CaKey> {
    let wanted = print.to_string();
    let mut cas = roots.iter().flat_map(|(root, _)| {
        let users = root.user_cas.iter().map(|ca| &ca.key);
        users.chain(&root.host_cas)
    });
    cas.find(|ca| ca.fingerprint() == wanted).cloned()
}

async fn revoke_caller(
    recorder: &Recorder,
    args: &CallerArgs,
    operator: Operator,
    now: u64,
) -> Result<bool, RevokeError> {
    let by = operator.label();
    let name = if args.undo {
        EventName::UnrevokeCaller
    } else {
        EventName::RevokeCaller
    };
    let mut event = Event::of_operator(name)?;
    event.parameters = Some(match &args.reason {
        Some(reason) => json!({ "who": args.who.as_str(), "reason": reason }),
        None => json!({ "who": args.who.as_str() }),
    });
    let revocation = Revocation {
        who: args.who.clone(),
        by,
        reason: args.reason.clone(),
        at: now,
    };
    Ok(recorder.revoke(revocation, args.undo, &event).await?)
}

fn outcome(args: &CallerArgs, changed: bool) -> String {
    match (args.undo, changed) {
        (false, _) => format!(
            "revoked {}: no session and no certificate from now on; certificates that are out end with the next bundle, which a running service makes within a second",
            args.who
        ),
        (true, true) => format!(
            "{} is not revoked any more; certificates that were ended stay so",
            args.who
        ),
        (true, false) => format!("{} was not revoked; nothing changed", args.who),
    }
}

/// Why nothing was revoked.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The record.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The record with its change.
    #[error(transparent)]
    Record(#[from] OnceError),
    /// The root document.
    #[error(transparent)]
    Root(#[from] RootError),
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// No such certificate.
    #[error(
        "revoke a certificate: the journal knows none of this serial, or none of this request that has not ended; see `eic-ca audit query`"
    )]
    NoCertificate,
    /// The CA's key is not stored.
    #[error("revoke a certificate: its CA key is not known here; start `eic-ca serve` once")]
    NeverServed,
    /// No such CA.
    #[error("revoke the CA key `{0}`: no root document names it; see `eic-ca root show`")]
    NoSuchCa(String),
    /// The key.
    #[error("use `{path}` as a public key: {cause}")]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// No runtime.
    #[error("start: {0}")]
    Runtime(#[from] std::io::Error),
}
