//! Session grants: who the caller is, bound to one public key, for at most 15 minutes.
//!
//! A grant is stateless (payload and HMAC) and opens nothing by itself: each request is signed by the bound
//! key over its route, audience, time, nonce and fields. Whether the caller is revoked, whether the nonce
//! was used and what policy says is checked on every request by whoever holds the store and the policy.

use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use eic_protocol::api::discovery::SessionMode;
use eic_protocol::grant::{Authorization, GrantToken, MAX_GRANT_TTL, MAX_REQUEST_AGE};
use eic_protocol::proof::{Audience, CanonicalRequest, Signed};
use eic_protocol::sshsig::{self, InvalidSignature};
use eic_protocol::subject_key::SubjectKey;
use eic_protocol::wire::Reader;
use sha2::{Digest as _, Sha256};

use crate::caller::Caller;
use crate::store::ReplayClaim;

mod bound_key;
mod busy_keys;
mod known;
mod payload;
mod secret;

use bound_key::{BoundKey, Desk};
use busy_keys::BusyKeys;
use known::KnownGrants;
use payload::Life;
pub use secret::{GrantSecret, SecretError};

/// Makes and reads grants.
pub struct Sessions {
    audience: Audience,
    secrets: Vec<GrantSecret>,
    mode: SessionMode,
    ttl: u64,
    known: KnownGrants,
    busy: BusyKeys,
}

/// Why a granted request does not count. The text is for the person who sent it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// No `Authorization` header.
    #[error("the request has no `Authorization: EIC …` header; open a session first")]
    Required,
    /// Not a grant of ours.
    #[error("the grant was not made by this CA, or its secret was replaced; open a new session")]
    Invalid,
    /// Its time is over.
    #[error("the grant has ended; open a new session")]
    Expired,
    /// The time that was signed is off.
    #[error(
        "the request's time is {0} s away from the CA's clock, more than {MAX_REQUEST_AGE} s; check the clock of your machine"
    )]
    Stale(u64),
    /// The request was signed by, or asks for, another key than the bound one.
    #[error("the request is not about the key that the grant is bound to")]
    OtherKey,
    /// The signature does not hold.
    #[error("{0}")]
    Signature(InvalidSignature),
}

/// A grant and its end.
#[derive(Debug)]
pub struct OpenedGrant {
    /// For the client.
    pub token: GrantToken,
    /// In Unix seconds.
    pub expires_at: u64,
}

/// A request whose grant and signature hold; its claim is still to be made.
pub struct Authorized {
    grant: Arc<Grant>,
    key: SubjectKey,
    claim: ReplayClaim,
}

/// An authorization whose grant is this CA's and has not ended; its signature is still to be checked.
pub struct Presented {
    authorization: Authorization,
    grant: Arc<Grant>,
}

impl Authorized {
    /// Who asks.
    #[must_use]
    pub fn caller(&self) -> &Arc<Caller> {
        &self.grant.caller
    }

    /// The key that the grant is bound to, which signed the request.
    #[must_use]
    pub fn key(&self) -> &SubjectKey {
        &self.key
    }

    /// To be made durable before the request has any effect.
    #[must_use]
    pub fn claim(&self) -> ReplayClaim {
        self.claim
    }
}

impl Sessions {
    /// Grants for `audience`. The first secret makes them, all of them verify.
    #[must_use]
    pub fn new(audience: Audience, secrets: Vec<GrantSecret>, mode: SessionMode, ttl: u64) -> Self {
        Self {
            audience,
            secrets,
            mode,
            ttl: ttl.min(MAX_GRANT_TTL),
            known: KnownGrants::default(),
            busy: BusyKeys::default(),
        }
    }

    /// Whom every proof and every request must be meant for.
    #[must_use]
    pub fn audience(&self) -> &Audience {
        &self.audience
    }

    /// A grant for `caller`, bound to `key`; it never outlives a token that the caller showed.
    /// `now` is in Unix seconds.
    ///
    /// # Errors
    /// [`SessionError::Invalid`] where there is no secret, or the caller's names are too long for a grant.
    pub fn open(
        &self,
        caller: &Caller,
        key: &SubjectKey,
        now: u64,
    ) -> Result<OpenedGrant, SessionError> {
        let secret = self.secrets.first().ok_or(SessionError::Invalid)?;
        let ttl = now.saturating_add(self.ttl);
        let expires_at = caller.token_ends_at().map_or(ttl, |end| end.min(ttl));
        let life = Life {
            from: now,
            until: expires_at,
        };
        let payload = payload::encode(secret.id(), caller, key, life);
        let tag = secret.tag(&payload);
        let token = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(&payload),
            URL_SAFE_NO_PAD.encode(tag)
        );
        Ok(OpenedGrant {
            token: token.parse().map_err(|_| SessionError::Invalid)?,
            expires_at,
        })
    }

    /// Checks the grant alone, so that nothing of a stranger's body is read. `now` is in Unix seconds.
    ///
    /// # Errors
    /// [`SessionError::Invalid`] or [`SessionError::Expired`]
    pub fn recognise(
        &self,
        authorization: Authorization,
        now: u64,
    ) -> Result<Presented, SessionError> {
        let token = &authorization.grant;
        let grant = self.known.get(token, now, || self.read(token));
        let grant = grant.ok_or(SessionError::Invalid)?;
        let life = grant.issued_at.saturating_sub(MAX_REQUEST_AGE)..grant.expires_at;
        if life.contains(&now) {
            Ok(Presented {
                authorization,
                grant,
            })
        } else {
            Err(SessionError::Expired)
        }
    }

    /// Checks time and signature of `request`. `key` is the key that the request names, if it
    /// names one; otherwise the one in the signature. `now` is in Unix seconds.
    ///
    /// # Errors
    /// [`SessionError`]
    pub fn authorize<R: Signed>(
        &self,
        presented: &Presented,
        request: &R,
        key: Option<&SubjectKey>,
        now: u64,
    ) -> Result<Authorized, SessionError> {
        let Presented {
            authorization,
            grant,
        } = presented;
        let age = authorization.time.abs_diff(now);
        if age > MAX_REQUEST_AGE {
            return Err(SessionError::Stale(age));
        }
        let bound = grant.bound_key(key, &authorization.signature)?;
        let nonce = authorization.nonce.as_bytes();
        let message =
            CanonicalRequest::of_granted(&self.audience, authorization.time, nonce, request);
        let busy = &self.busy;
        let desk = Desk { busy, now };
        bound
            .verify(message.as_slice(), &authorization.signature, desk)
            .map_err(|error| match error {
                InvalidSignature::OtherKey => SessionError::OtherKey,
                other => SessionError::Signature(other),
            })?;
        Ok(Authorized {
            claim: self.claim(authorization, grant),
            grant: Arc::clone(grant),
            key: bound.key().clone(),
        })
    }

    /// With sessions on, a request counts once; with sessions off, the whole grant does.
    /// The signature's bytes are no part of it: ECDSA has two for one message (threats A-38).
    fn claim(&self, authorization: &Authorization, grant: &Grant) -> ReplayClaim {
        let mut hash = Sha256::new();
        match self.mode {
            SessionMode::On => {
                hash.update(b"eic-request-claim\0");
                hash.update(grant.key_hash);
                hash.update(authorization.nonce.as_bytes());
                ReplayClaim::of_signed_time(
                    hash.finalize().into(),
                    authorization.time,
                    MAX_REQUEST_AGE,
                )
            }
            SessionMode::Off => {
                hash.update(b"eic-grant-claim\0");
                hash.update(authorization.grant.reveal());
                // Never the configured lifetime: with another one the claim would be another one.
                ReplayClaim::of_signed_time(hash.finalize().into(), grant.issued_at, MAX_GRANT_TTL)
            }
        }
    }

    fn read(&self, token: &GrantToken) -> Option<Grant> {
        let (payload, tag) = token.reveal().split_once('.')?;
        let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
        let mut reader = Reader::new(&payload);
        let (form, id) = payload::secret_id(&mut reader)?;
        let secret = self.secrets.iter().find(|s| s.id() == id)?;
        // Nothing else of the payload is looked at before this.
        secret.is_tag(&payload, &tag).then_some(())?;
        payload::decode(form, reader, self.audience.as_str())
    }
}

/// What a grant says.
struct Grant {
    caller: Arc<Caller>,
    key_hash: [u8; 32],
    issued_at: u64,
    expires_at: u64,
    /// The key with that hash, once a request has shown it.
    bound: OnceLock<BoundKey>,
}

impl Grant {
    /// The bound key, if that is the one that is named: by the request, else by the signature.
    fn bound_key(
        &self,
        named: Option<&SubjectKey>,
        signature: &[u8],
    ) -> Result<&BoundKey, SessionError> {
        if let Some(bound) = self.bound.get() {
            let same = named.is_none_or(|named| named.blob() == bound.key().blob());
            return same.then_some(bound).ok_or(SessionError::OtherKey);
        }
        let key = match named {
            Some(named) => named.clone(),
            None => sshsig::claimed_key(signature).map_err(SessionError::Signature)?,
        };
        if key_hash(&key) != self.key_hash {
            return Err(SessionError::OtherKey);
        }
        Ok(self.bound.get_or_init(|| BoundKey::of(key)))
    }
}

fn key_hash(key: &SubjectKey) -> [u8; 32] {
    Sha256::digest(key.blob()).into()
}

#[cfg(test)]
mod tests;
