//! All policies of one moment: compiled, immutable, with the digest that audit records carry.

use std::fmt;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use eic_protocol::arn::AccountId;
use sha2::{Digest as _, Sha256};

use super::document::{self, Cause, LoadError, MAX_STATEMENTS, Origin, Unread};
use super::json::MAX_FILE_BYTES;
use super::principal::AttachedTo;
use super::settings::Settings;
use super::statement::{Effect, Statement};

/// Which files hold policies, and what the configuration says about them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Documents with principals of their own (the resource-based form).
    pub files: Vec<PathBuf>,
    /// Identity policies and whom they are attached to.
    pub attachments: Vec<Attachment>,
    /// Settings of the engine.
    pub settings: Settings,
}

/// An identity policy, pasted from IAM, attached to principals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The document; it has no `Principal`.
    pub file: PathBuf,
    /// Whom it is attached to.
    pub principal: AttachedPrincipal,
    /// Accounts that it reaches besides the principal's own.
    pub accounts: Vec<AccountId>,
}

/// The callers that an identity policy is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttachedPrincipal {
    /// An account, a unique id (`AROA…`), or an ARN such as `arn:aws:iam::111122223333:role/Dev*`,
    /// in which only the name may hold wildcards.
    Aws(String),
    /// Callers of an OIDC issuer; the attachment must list accounts.
    Oidc {
        /// `https://…`, exactly.
        issuer: String,
        /// A pattern; a `*` must follow `:` or `/`.
        subject: String,
    },
}

impl fmt::Display for AttachedPrincipal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aws(principal) => f.write_str(principal),
            Self::Oidc { issuer, subject } => write!(f, "{issuer} {subject}"),
        }
    }
}

/// The digest of all sources and settings of a policy set: SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PolicyDigest([u8; 32]);

impl fmt::Display for PolicyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for PolicyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PolicyDigest({self})")
    }
}

/// Compiled policies. Nothing in it changes; a reload makes another one.
#[derive(Debug)]
pub struct PolicySet {
    pub(super) denies: Vec<Statement>,
    pub(super) allows: Vec<Statement>,
    pub(super) settings: Settings,
    unread: Vec<Unread>,
    digest: PolicyDigest,
}

impl PolicySet {
    /// Reads and compiles every source. One mistake anywhere refuses all of it.
    ///
    /// # Errors
    /// A file that cannot be read, is unsafe or too large, or a statement that is not understood.
    pub fn load(sources: &Sources) -> Result<Self, LoadError> {
        Self::compile(sources, read_file)
    }

    /// What refuses these sources: the first mistake of every statement, in every file.
    #[must_use]
    pub fn mistakes(sources: &Sources) -> Vec<LoadError> {
        Builder::of(sources, read_file).mistakes
    }

    /// Compiles with documents from elsewhere than the file system.
    ///
    /// # Errors
    /// What `read` answers, or a statement that is not understood.
    pub(super) fn compile(
        sources: &Sources,
        read: impl Fn(&Path) -> Result<Vec<u8>, Cause>,
    ) -> Result<Self, LoadError> {
        let mut builder = Builder::of(sources, read);
        let first = builder.mistakes.drain(..).next();
        first.map_or_else(|| Ok(builder.finish()), Err)
    }

    /// The digest of the sources, for audit records.
    #[must_use]
    pub fn digest(&self) -> PolicyDigest {
        self.digest
    }

    /// The settings that the set was compiled with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The statements that cannot match anything here.
    #[must_use]
    pub fn unread(&self) -> &[Unread] {
        &self.unread
    }

    /// How many statements can match.
    #[must_use]
    pub fn statement_count(&self) -> usize {
        self.denies.len().saturating_add(self.allows.len())
    }

    pub(super) fn statements(&self) -> impl Iterator<Item = &Statement> {
        self.denies.iter().chain(&self.allows)
    }
}

impl Attachment {
    fn target(&self, settings: &Settings) -> Result<AttachedTo, Cause> {
        let accounts = self.accounts.clone();
        let to = match &self.principal {
            AttachedPrincipal::Aws(principal) => AttachedTo::aws(principal, accounts)?,
            AttachedPrincipal::Oidc { issuer, subject } => {
                AttachedTo::oidc(issuer, subject, accounts)?
            }
        };
        if to.is_broad() && !settings.whole_account {
            return Err(Cause::WholeAccount);
        }
        Ok(to)
    }
}

struct Builder {
    set: PolicySet,
    hasher: Sha256,
    mistakes: Vec<LoadError>,
}

impl Builder {
    fn of(sources: &Sources, read: impl Fn(&Path) -> Result<Vec<u8>, Cause>) -> Self {
        let mut builder = Self::new(sources.settings.clone());
        for file in &sources.files {
            let name = file.display().to_string();
            match read(file) {
                Ok(bytes) => builder.add(&name, &bytes, None),
                Err(cause) => builder.refuse(&name, cause),
            }
        }
        for attachment in &sources.attachments {
            let name = attachment.file.display().to_string();
            let target = attachment.target(&sources.settings);
            match read(&attachment.file).and_then(|bytes| Ok((bytes, target?))) {
                Ok((bytes, to)) => {
                    let principal = attachment.principal.to_string();
                    builder.add(&name, &bytes, Some((&principal, &to)));
                }
                Err(cause) => builder.refuse(&name, cause),
            }
        }
        builder
    }

    fn refuse(&mut self, file: &str, cause: Cause) {
        self.mistakes.push(LoadError::of_file(file, cause));
    }

    fn new(settings: Settings) -> Self {
        let mut hasher = Sha256::new();
        absorb(&mut hasher, b"eic-policy-v1");
        absorb(&mut hasher, settings.canonical().as_bytes());
        let digest = PolicyDigest([0; 32]);
        Self {
            set: PolicySet {
                denies: vec![],
                allows: vec![],
                settings,
                unread: vec![],
                digest,
            },
            hasher,
            mistakes: Vec::new(),
        }
    }

    fn add(&mut self, file: &str, bytes: &[u8], attached: Option<(&str, &AttachedTo)>) {
        absorb(&mut self.hasher, file.as_bytes());
        absorb(
            &mut self.hasher,
            attached
                .map_or(String::new(), |(_, to)| format!("{to:?}"))
                .as_bytes(),
        );
        absorb(&mut self.hasher, bytes);
        let (loaded, mistakes) = document::load(
            Origin {
                file,
                attached,
                settings: &self.set.settings,
            },
            bytes,
        );
        self.mistakes.extend(mistakes);
        self.set.unread.extend(loaded.unread);
        for statement in loaded.statements {
            match statement.effect {
                Effect::Allow => self.set.allows.push(statement),
                Effect::Deny => self.set.denies.push(statement),
            }
        }
        let total = self
            .set
            .statement_count()
            .saturating_add(self.set.unread.len());
        if total > MAX_STATEMENTS {
            self.refuse(file, Cause::TooManyStatements);
        }
    }

    fn finish(mut self) -> PolicySet {
        self.set.digest = PolicyDigest(self.hasher.finalize().into());
        self.set
    }
}

/// With its length before it, so that no two lists of parts give the same bytes.
fn absorb(hasher: &mut Sha256, part: &[u8]) {
    hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
    hasher.update(part);
}

fn read_file(path: &Path) -> Result<Vec<u8>, Cause> {
    // Not blocking: a FIFO in place of the file must not hang a reload.
    let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(nonblock)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.mode() & 0o002 != 0 {
        return Err(Cause::Unsafe);
    }
    let limit = u64::try_from(MAX_FILE_BYTES)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}
