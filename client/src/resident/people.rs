//! Sign-ins of people at their issuers: the tokens that came of them, in memory only, and their renewal.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use eic_protocol::proof::oidc::IdToken;
use eic_protocol::subject_key::SubjectKey;

use super::keyring::{MAX_AGE, Owner};
use super::lock;
use crate::credentials::TokenError;
use crate::key::{EphemeralKey, KeyError};
use crate::oidc::{self, IssuerUrl, Registration, Tokens};

/// Longest sign-in. Seconds: the key that it is bound to lives for half a day, and was made up to 10 minutes before.
const LIFE: u64 = MAX_AGE - 900;
/// Most sign-ins at a time; a person has one.
const MAX_PEOPLE: usize = 16;

/// One sign-in for each issuer and client; a new one takes the place of the old.
#[derive(Debug, Default)]
pub(super) struct People {
    signed_in: Mutex<HashMap<Client, Arc<tokio::sync::Mutex<SignIn>>>>,
    /// Keys of sign-ins that are being made: one that is given up leaves the one before it as it was.
    expected: Mutex<HashMap<Owner, Arc<EphemeralKey>>>,
}

/// Issuer and client id.
type Client = (IssuerUrl, String);

#[derive(Debug)]
struct SignIn {
    tokens: Tokens,
    /// Unix seconds.
    since: u64,
    /// Whether the ID token was given away: it serves one session.
    spent: bool,
}

impl People {
    /// A key for a sign-in that is about to be made.
    pub(super) fn expect(&self, owner: Owner) -> Result<SubjectKey, KeyError> {
        let key = Arc::new(EphemeralKey::generate(owner.kind)?);
        let public = key.public().clone();
        let mut expected = lock(&self.expected);
        if expected.len() >= MAX_PEOPLE {
            expected.clear();
        }
        expected.insert(owner, key);
        Ok(public)
    }

    /// The key that was made for the owner's sign-in, once.
    pub(super) fn key_of(&self, owner: &Owner) -> Option<Arc<EphemeralKey>> {
        lock(&self.expected).remove(owner)
    }

    /// Somebody signed in. `now` is in Unix seconds.
    pub(super) fn welcome(&self, tokens: Tokens, now: u64) {
        let client = client(&tokens.registration);
        let sign_in = SignIn {
            tokens,
            since: now,
            spent: false,
        };
        let sign_in = Arc::new(tokio::sync::Mutex::new(sign_in));
        let mut people = lock(&self.signed_in);
        if people.len() >= MAX_PEOPLE {
            people.clear();
        }
        people.insert(client, sign_in);
    }

    /// An ID token that was not given away yet: that of the sign-in, else a fresh one. `now` is in Unix seconds.
    pub(super) async fn token(
        &self,
        registration: &Registration,
        now: u64,
    ) -> Result<IdToken, TokenError> {
        let held = lock(&self.signed_in).get(&client(registration)).cloned();
        let nobody = || TokenError::NobodySignedIn(registration.issuer.clone());
        let held = held.ok_or_else(nobody)?;
        // One at a time: an issuer that replaces refresh tokens takes the second use of one for theft.
        let mut sign_in = held.lock().await;
        if sign_in.spent {
            if sign_in.tokens.refresh_token.is_none() || now.saturating_sub(sign_in.since) >= LIFE {
                return Err(nobody());
            }
            let renewed = oidc::renew(&sign_in.tokens, now).await;
            sign_in.tokens = renewed.map_err(|cause| self.not_renewed(registration, cause))?;
        }
        sign_in.spent = true;
        Ok(sign_in.tokens.id_token.clone())
    }

    fn not_renewed(&self, registration: &Registration, cause: oidc::OidcError) -> TokenError {
        if !cause.is_final() {
            return TokenError::NotRenewed(cause);
        }
        lock(&self.signed_in).remove(&client(registration));
        let issuer = registration.issuer.clone();
        TokenError::SignInOver { issuer, cause }
    }

    /// Whether another token can be had without the person.
    pub(super) async fn renews(&self, registration: &Registration) -> bool {
        let held = lock(&self.signed_in).get(&client(registration)).cloned();
        match held {
            Some(sign_in) => sign_in.lock().await.tokens.refresh_token.is_some(),
            None => false,
        }
    }

    pub(super) fn clear(&self) {
        lock(&self.expected).clear();
        lock(&self.signed_in).clear();
    }
}

fn client(registration: &Registration) -> Client {
    (registration.issuer.clone(), registration.client_id.clone())
}
