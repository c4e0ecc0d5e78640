//! A certificate ready to be recorded: encoded, linted, nothing signed.
//! It is made here only, and only audit takes it further.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use eic_protocol::cert::lint::{self, LintError, Linted};
use eic_protocol::cert::tbs::CertNonce;
use eic_protocol::cert::{HostCertificate, Profile, UserCertificate};
use eic_protocol::key_id::KeyId;
use eic_protocol::request_id::RequestId;
use eic_protocol::serial::Serial;
use eic_protocol::subject_key::{CaKey, SubjectKey};
use eic_protocol::validity::{InvalidValidity, MAX_BACKDATE, MAX_HOST_TTL, Validity};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::grant::{DecisionRecord, Grant, HostGrant};
use super::kind::{Host, Kind, User};
use crate::audit::Actor;
use crate::caller::OidcIdentity;
use crate::random::{self, NoEntropy};
use crate::store::ReplayClaim;
use crate::store::write::JournalEntry;

/// A linted body with all that must be recorded before it is signed.
#[derive(Debug)]
pub struct Prepared<K: Kind> {
    linted: Linted,
    meaning: Meaning<K>,
}

/// What the body means: its fields, who asked, who decided. It stays when the body has been signed.
#[derive(Debug)]
pub(crate) struct Meaning<K: Kind> {
    profile: Profile,
    facts: Facts,
    tbs_hash: [u8; 32],
    ca: String,
    now: u64,
    kind: PhantomData<K>,
}

/// What the records say beside the certificate's own fields.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) actor: Actor,
    pub(super) request_id: RequestId,
    pub(super) replay: Option<ReplayClaim>,
    pub(super) parameters: Parameters,
    pub(super) decision: Option<DecisionRecord>,
}

/// The values that chance gives: drawn outside, so that preparing stays a pure function.
#[derive(Debug)]
pub struct Draw {
    /// The serial.
    pub serial: Serial,
    /// The certificate's nonce.
    pub nonce: CertNonce,
}

impl Draw {
    /// Fresh values of the operating system.
    ///
    /// # Errors
    /// [`NoEntropy`].
    pub fn fresh() -> Result<Self, NoEntropy> {
        Ok(Self {
            serial: random::serial()?,
            nonce: random::cert_nonce()?,
        })
    }
}

/// The CA key that will sign, and when it ends.
#[derive(Clone, Copy, Debug)]
pub struct ActiveCa<'a> {
    /// Its public key.
    pub key: &'a CaKey,
    /// First second at which hosts do not trust it any more.
    pub not_after: Option<u64>,
}

/// Prepares a user certificate. `now` is in Unix seconds.
///
/// # Errors
/// [`PrepareError`]; nothing was recorded or signed.
pub fn prepare_user(
    grant: Grant,
    draw: &Draw,
    ca: ActiveCa<'_>,
    now: u64,
) -> Result<Prepared<User>, PrepareError> {
    let validity = within(
        Validity::starting_at(now, grant.ttl, grant.max_ttl)?,
        ca,
        now,
    )?;
    let validity = within_token(validity, grant.caller.oidc())?;
    let principal = grant.request.scope.principal();
    let profile = Profile::User(UserCertificate {
        subject: grant.request.public_key.clone(),
        serial: draw.serial,
        key_id: KeyId::new(&grant.caller.short(), grant.request_id),
        principals: [principal].into(),
        validity,
        restrictions: grant.restrictions.clone(),
        extensions: grant.extensions.clone(),
    });
    let facts = Facts {
        parameters: Parameters::of_user(&grant),
        actor: Actor::Caller(grant.caller),
        request_id: grant.request_id,
        replay: Some(grant.replay),
        decision: Some(grant.decision),
    };
    Prepared::new(profile, &draw.nonce, ca.key, facts, now)
}

/// Prepares a host certificate. `now` is in Unix seconds.
///
/// # Errors
/// [`PrepareError`]; nothing was recorded or signed.
pub fn prepare_host(
    grant: HostGrant,
    draw: &Draw,
    ca: ActiveCa<'_>,
    now: u64,
) -> Result<Prepared<Host>, PrepareError> {
    let validity = within(
        Validity::starting_at(now, grant.ttl, MAX_HOST_TTL)?,
        ca,
        now,
    )?;
    let profile = Profile::Host(HostCertificate {
        subject: grant.subject.clone(),
        serial: draw.serial,
        key_id: KeyId::new(&format!("host/{}", grant.instance), grant.request_id),
        instance: grant.instance.clone(),
        validity,
    });
    let parameters = Parameters::of_host(&grant);
    let facts = Facts {
        actor: grant.actor,
        request_id: grant.request_id,
        replay: None,
        parameters,
        decision: grant.decision,
    };
    Prepared::new(profile, &draw.nonce, ca.key, facts, now)
}

/// No certificate outlives its CA key (D-08); it is cut, and refused where nothing useful is left.
fn within(validity: Validity, ca: ActiveCa<'_>, now: u64) -> Result<Validity, PrepareError> {
    let Some(end) = ca.not_after.filter(|end| *end < validity.before()) else {
        return Ok(validity);
    };
    if end <= now.saturating_add(MAX_BACKDATE) {
        return Err(PrepareError::CaRetires);
    }
    Ok(Validity::new(validity.after(), end)?)
}

/// Who is known by a token alone is known no longer than it lasts (C-13); grants end with it too.
fn within_token(
    validity: Validity,
    identity: Option<&OidcIdentity>,
) -> Result<Validity, InvalidValidity> {
    match identity {
        Some(identity) if identity.ends_at < validity.before() => {
            Validity::new(validity.after(), identity.ends_at)
        }
        _ => Ok(validity),
    }
}

impl<K: Kind> Prepared<K> {
    fn new(
        profile: Profile,
        nonce: &CertNonce,
        ca: &CaKey,
        facts: Facts,
        now: u64,
    ) -> Result<Self, PrepareError> {
        let linted = lint::prepare(&profile, nonce, ca, now)?;
        let tbs_hash = Sha256::digest(linted.as_slice()).into();
        let meaning = Meaning {
            profile,
            facts,
            tbs_hash,
            ca: ca.fingerprint(),
            now,
            kind: PhantomData,
        };
        Ok(Self { linted, meaning })
    }

    /// The same certificate with another serial and nonce, where the first serial was taken.
    pub(crate) fn redraw(self, draw: &Draw) -> Result<Self, PrepareError> {
        let Meaning {
            mut profile,
            facts,
            now,
            ..
        } = self.meaning;
        match &mut profile {
            Profile::User(user) => user.serial = draw.serial,
            Profile::Host(host) => host.serial = draw.serial,
        }
        Self::new(profile, &draw.nonce, self.linted.ca(), facts, now)
    }

    pub(crate) fn meaning(&self) -> &Meaning<K> {
        &self.meaning
    }

    pub(crate) fn replay(&self) -> Option<ReplayClaim> {
        self.meaning.facts.replay
    }

    /// For the signer, which can get here through a record only.
    pub(crate) fn into_parts(self) -> (Linted, Meaning<K>) {
        (self.linted, self.meaning)
    }

    /// Puts another linted body in, as a defect between lint and signature would (D-22).
    #[cfg(test)]
    pub(crate) fn swap_body(&mut self, other: Self) {
        self.linted = other.linted;
    }
}

impl<K: Kind> Meaning<K> {
    /// Who asked.
    pub(crate) fn actor(&self) -> &Actor {
        &self.facts.actor
    }

    /// The request.
    pub(crate) fn request_id(&self) -> RequestId {
        self.facts.request_id
    }

    pub(crate) fn account(&self) -> Option<&str> {
        self.facts.decision.as_ref()?.account.as_deref()
    }

    pub(crate) fn region(&self) -> Option<&str> {
        self.facts.decision.as_ref()?.region.as_deref()
    }

    /// SHA-256 of the bytes that were prepared.
    pub(crate) fn tbs_hash(&self) -> [u8; 32] {
        self.tbs_hash
    }

    /// When it was prepared, in Unix seconds.
    pub(crate) fn prepared_at(&self) -> u64 {
        self.now
    }

    pub(crate) fn profile(&self) -> &Profile {
        &self.profile
    }

    pub(crate) fn parameters(&self) -> &Parameters {
        &self.facts.parameters
    }

    pub(crate) fn journal(&self) -> JournalEntry {
        let fields = Fields::of(&self.profile);
        let (caller, caller_id) = journal_caller(&self.facts.actor);
        JournalEntry {
            serial: fields.serial,
            request_id: self.facts.request_id,
            kind: K::NAME,
            caller,
            caller_id,
            principals: fields.principals.join(","),
            tbs_hash: self.tbs_hash,
            ca: self.ca.clone(),
            valid_before: fields.validity.before(),
            prepared_at: self.now,
        }
    }

    pub(crate) fn response(&self) -> Response {
        Response::of(Fields::of(&self.profile), K::NAME)
    }

    pub(crate) fn additional(&self) -> Additional<'_> {
        let decision = self.facts.decision.as_ref();
        Additional {
            tbs_sha256: hex::encode(self.tbs_hash),
            ca_fingerprint: &self.ca,
            policy_hash: decision
                .map(|d| d.policy_hash.as_str())
                .filter(|hash| !hash.is_empty()),
            statement: decision.map(|d| d.statement.as_str()),
            tags: decision.map(|d| &d.tags).filter(|tags| !tags.is_empty()),
        }
    }
}

fn journal_caller(actor: &Actor) -> (String, String) {
    match actor {
        Actor::Caller(caller) => (caller.identity().to_owned(), caller.user_id().to_owned()),
        Actor::Host(host) => ("host".to_owned(), host.instance.to_string()),
        Actor::Operator(operator) => ("operator".to_owned(), format!("uid:{}", operator.uid)),
        Actor::Unproven { .. } | Actor::Service => ("service".to_owned(), String::new()),
    }
}

/// The fields that both kinds have.
struct Fields<'a> {
    serial: Serial,
    key_id: &'a KeyId,
    principals: Vec<String>,
    validity: Validity,
    extensions: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    fn of(profile: &'a Profile) -> Self {
        match profile {
            Profile::User(user) => Self {
                serial: user.serial,
                key_id: &user.key_id,
                principals: user.principals.iter().map(ToString::to_string).collect(),
                validity: user.validity,
                extensions: user.extensions.iter().map(|e| e.as_str()).collect(),
            },
            Profile::Host(host) => Self {
                serial: host.serial,
                key_id: &host.key_id,
                principals: vec![host.instance.to_string()],
                validity: host.validity,
                extensions: Vec::new(),
            },
        }
    }
}

/// `requestParameters` of an issuance: what was asked for, the public key included.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Parameters {
    public_key: SubjectKey,
    public_key_fingerprint: String,
    /// CloudTrail's own name in its SendSSHPublicKey events, as `instanceId` is.
    #[serde(skip_serializing_if = "Option::is_none")]
    os_user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fleet: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    force_command: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_addresses: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extensions: Option<Vec<&'static str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Parameters {
    fn of_user(grant: &Grant) -> Self {
        use eic_protocol::api::certificate::CertificateScope as Scope;
        let request = &grant.request;
        let (instance_id, fleet) = match &request.scope {
            Scope::Target { instance, .. } => (Some(instance.to_string()), None),
            Scope::Fleet { fleet, .. } => (None, Some(fleet.to_string())),
        };
        Self {
            public_key_fingerprint: request.public_key.fingerprint(),
            public_key: request.public_key.clone(),
            os_user: Some(request.scope.os_user().to_string()),
            instance_id,
            fleet,
            ttl_seconds: request.ttl_seconds,
            force_command: request
                .force_command
                .as_ref()
                .map(|c| c.as_str().to_owned()),
            source_addresses: request
                .source_addresses
                .as_ref()
                .map(|s| s.iter().map(str::to_owned).collect()),
            extensions: request
                .extensions
                .as_ref()
                .map(|e| e.iter().map(|e| e.as_str()).collect()),
            reason: request.reason.as_ref().map(|r| r.as_str().to_owned()),
        }
    }

    fn of_host(grant: &HostGrant) -> Self {
        Self {
            public_key_fingerprint: grant.subject.fingerprint(),
            public_key: grant.subject.clone(),
            os_user: None,
            instance_id: Some(grant.instance.to_string()),
            fleet: None,
            ttl_seconds: Some(grant.ttl),
            force_command: None,
            source_addresses: None,
            extensions: None,
            reason: None,
        }
    }
}

/// `responseElements` of an issuance: what the certificate will say.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Response {
    certificate_type: &'static str,
    serial: Serial,
    key_id: String,
    principals: Vec<String>,
    valid_after: u64,
    valid_before: u64,
    extensions: Vec<&'static str>,
}

impl Response {
    fn of(fields: Fields<'_>, kind: &'static str) -> Self {
        Self {
            certificate_type: kind,
            serial: fields.serial,
            key_id: fields.key_id.to_string(),
            principals: fields.principals,
            valid_after: fields.validity.after(),
            valid_before: fields.validity.before(),
            extensions: fields.extensions,
        }
    }
}

/// `additionalEventData` of an issuance.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Additional<'a> {
    tbs_sha256: String,
    ca_fingerprint: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_hash: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    statement: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<&'a BTreeMap<String, String>>,
}

/// Why a certificate cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// A field does not hold.
    #[error(transparent)]
    Lint(#[from] LintError),
    /// The lifetime is out of bounds.
    #[error(transparent)]
    Validity(#[from] InvalidValidity),
    /// The CA key is about to end.
    #[error("make a certificate: the CA key is about to retire; switch to the next one")]
    CaRetires,
    /// The key is one of the CA's own.
    #[error("certify the key `{0}`: it is one of the CA's own")]
    SpecialKey(String),
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
}
