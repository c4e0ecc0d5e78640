//! Sign-ins of people at their issuers: the tokens that came of them and the keys that they are bound to, in memory only,
//! and their renewal.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use eic_aws::proxy::Proxy;
use eic_protocol::proof::Audience;
use eic_protocol::proof::oidc::IdToken;
use eic_protocol::subject_key::SubjectKey;
use tokio::sync::OwnedMutexGuard;

use super::keyring::MAX_AGE;
use super::lock;
use crate::credentials::TokenError;
use crate::key::EphemeralKey;
use crate::oidc::{self, IssuerUrl, Registration, Tokens};

/// Longest sign-in. Seconds: the key that it is bound to lives for half a day, and was made up to 10 minutes before.
const LIFE: u64 = MAX_AGE - 900;
/// Most sign-ins at a time; a person has one.
const MAX_PEOPLE: usize = 16;

/// One sign-in for each CA, issuer and client; a new one takes the place of the old.
#[derive(Debug, Default)]
pub(super) struct People {
    signed_in: Mutex<HashMap<Client, Held>>,
    /// Keys of sign-ins that are being made: one that is given up leaves the one before it as it was.
    expected: Mutex<HashMap<SubjectKey, Arc<EphemeralKey>>>,
}

/// CA, issuer and client id: no key serves two CAs (H-14).
type Client = (Audience, IssuerUrl, String);

type Held = Arc<tokio::sync::Mutex<SignIn>>;

#[derive(Debug)]
struct SignIn {
    tokens: Tokens,
    key: Arc<EphemeralKey>,
    /// Unix seconds.
    since: u64,
    /// Whether a CA has decided on the ID token: it serves one session.
    spent: bool,
}

/// A sign-in whose ID token is being shown. Nobody else shows one of it meanwhile.
pub(super) struct Turn {
    sign_in: OwnedMutexGuard<SignIn>,
    /// Whether the token was made for this turn.
    is_fresh: bool,
}

impl People {
    /// A key for a sign-in that is about to be made.
    pub(super) fn expect(&self, key: Arc<EphemeralKey>) -> SubjectKey {
        let public = key.public().clone();
        let mut expected = lock(&self.expected);
        if expected.len() >= MAX_PEOPLE {
            expected.clear();
        }
        expected.insert(public.clone(), key);
        public
    }

    /// Somebody signed in, bound to `key`, which was made for it here. `now` is in Unix seconds.
    pub(super) fn welcome(
        &self,
        ca: &Audience,
        tokens: Tokens,
        key: &SubjectKey,
        now: u64,
    ) -> Result<(), TokenError> {
        let unknown = || TokenError::SignInLost(tokens.registration.issuer.clone());
        let key = lock(&self.expected).remove(key).ok_or_else(unknown)?;
        let client = client(ca, &tokens.registration);
        let sign_in = Arc::new(tokio::sync::Mutex::new(SignIn {
            tokens,
            key,
            since: now,
            spent: false,
        }));
        let mut people = lock(&self.signed_in);
        if people.len() >= MAX_PEOPLE {
            people.clear();
        }
        people.insert(client, sign_in);
        Ok(())
    }

    /// An ID token that no CA has decided on: that of the sign-in, else a fresh one. `now` is in Unix seconds.
    pub(super) async fn turn(
        &self,
        ca: &Audience,
        registration: &Registration,
        proxy: Option<&Proxy>,
        now: u64,
    ) -> Result<Turn, TokenError> {
        let client = client(ca, registration);
        let held = lock(&self.signed_in).get(&client).cloned();
        let nobody = || TokenError::NobodySignedIn(registration.issuer.clone());
        let held = held.ok_or_else(nobody)?;
        // One at a time: an issuer that replaces refresh tokens takes the second use of one for theft.
        let mut sign_in = Arc::clone(&held).lock_owned().await;
        let is_fresh = sign_in.spent || sign_in.tokens.is_past(now);
        if is_fresh {
            if !sign_in.renews(now) {
                return Err(nobody());
            }
            let renewed = oidc::renew(&sign_in.tokens, proxy, now).await;
            sign_in.tokens = renewed.map_err(|cause| self.not_renewed(&client, &held, cause))?;
            sign_in.spent = false;
        }
        Ok(Turn { sign_in, is_fresh })
    }

    /// Forgets a sign-in that has ended at the issuer, and not one that took its place meanwhile.
    fn not_renewed(&self, client: &Client, held: &Held, cause: oidc::OidcError) -> TokenError {
        if !cause.is_final() {
            return TokenError::NotRenewed(cause);
        }
        let mut people = lock(&self.signed_in);
        let current = people.get(client);
        if current.is_some_and(|current| Arc::ptr_eq(current, held)) {
            people.remove(client);
        }
        let issuer = client.1.clone();
        TokenError::SignInOver { issuer, cause }
    }

    /// Whether a sign-in would be lost with this process. `now` is in Unix seconds.
    pub(super) fn is_waiting(&self, now: u64) -> bool {
        let people = lock(&self.signed_in);
        // One that is being renewed at this moment counts too.
        let waits = |held: &Held| held.try_lock().map_or(true, |sign_in| sign_in.renews(now));
        people.values().any(waits)
    }

    pub(super) fn clear(&self) {
        lock(&self.expected).clear();
        lock(&self.signed_in).clear();
    }
}

impl SignIn {
    fn renews(&self, now: u64) -> bool {
        self.tokens.refresh_token.is_some() && now.saturating_sub(self.since) < LIFE
    }
}

impl Turn {
    /// The token to show.
    pub(super) fn token(&self) -> &IdToken {
        &self.sign_in.tokens.id_token
    }

    /// What the sign-in is bound to.
    pub(super) fn key(&self) -> &Arc<EphemeralKey> {
        &self.sign_in.key
    }

    /// Whether another token can be had without the person.
    pub(super) fn renews(&self) -> bool {
        self.sign_in.tokens.refresh_token.is_some()
    }

    /// Whether another token may fare better than this one, which was kept.
    pub(super) fn may_try_again(&self) -> bool {
        self.renews() && !self.is_fresh
    }

    /// The CA has decided on the token: it is not shown again.
    pub(super) fn spend(&mut self) {
        self.sign_in.spent = true;
    }
}

fn client(ca: &Audience, registration: &Registration) -> Client {
    (
        ca.clone(),
        registration.issuer.clone(),
        registration.client_id.clone(),
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::key::KeyType;
    use crate::oidc::OidcError;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use eic_protocol::secret::Secret;

    const NOW: u64 = 1_000_000;

    fn ca() -> Audience {
        "https://ca.example".parse().unwrap()
    }

    fn registration() -> Registration {
        Registration {
            issuer: "https://issuer.example".parse().unwrap(),
            client_id: "client".to_owned(),
            client_secret: None,
            scopes: Vec::new(),
        }
    }

    fn tokens(exp: u64, refresh: Option<&str>) -> Tokens {
        let claims = format!(r#"{{"iss":"i","sub":"alice","aud":"client","exp":{exp}}}"#);
        let token = format!("aA.{}.aA", URL_SAFE_NO_PAD.encode(claims));
        Tokens {
            registration: registration(),
            token_endpoint: "https://issuer.example/token".to_owned(),
            subject: "alice".to_owned(),
            nonce: None,
            id_token: token.parse().unwrap(),
            refresh_token: refresh.map(|text| Secret::new(text.to_owned())),
        }
    }

    fn sign_in(people: &People, tokens: Tokens, now: u64) {
        let key = people.expect(Arc::new(EphemeralKey::generate(KeyType::Ed25519).unwrap()));
        people.welcome(&ca(), tokens, &key, now).unwrap();
    }

    /// Somebody whose sign-in renews itself.
    pub(in crate::resident) fn welcome_somebody(people: &People, now: u64) {
        sign_in(people, tokens(now + 300, Some("refresh")), now);
    }

    fn held(people: &People) -> Option<Held> {
        let client = client(&ca(), &registration());
        lock(&people.signed_in).get(&client).cloned()
    }

    #[tokio::test]
    async fn a_token_that_is_past_is_not_shown_and_neither_is_one_that_was_spent() {
        let people = People::default();
        let turn = async |now| people.turn(&ca(), &registration(), None, now).await;
        sign_in(&people, tokens(NOW + 300, None), NOW);
        drop(turn(NOW + 299).await.unwrap());
        let past = turn(NOW + 300).await.err().unwrap();
        assert!(matches!(past, TokenError::NobodySignedIn(_)), "{past}");
        turn(NOW).await.unwrap().spend();
        let spent = turn(NOW).await.err().unwrap();
        assert!(matches!(spent, TokenError::NobodySignedIn(_)), "{spent}");
    }

    #[tokio::test]
    async fn a_sign_in_for_one_ca_serves_no_other() {
        // H-14
        let people = People::default();
        welcome_somebody(&people, NOW);
        let other = "https://other.example".parse().unwrap();
        let refused = people.turn(&other, &registration(), None, NOW).await.err();
        assert!(matches!(refused, Some(TokenError::NobodySignedIn(_))));
    }

    #[test]
    fn a_sign_in_with_a_key_that_was_not_made_here_is_refused() {
        let people = People::default();
        let stray = EphemeralKey::generate(KeyType::Ed25519).unwrap();
        let refused = people.welcome(&ca(), tokens(NOW, None), stray.public(), NOW);
        assert!(matches!(refused, Err(TokenError::SignInLost(_))));
        assert!(held(&people).is_none());
    }

    #[test]
    fn an_old_sign_in_that_has_ended_does_not_take_the_new_one_with_it() {
        let people = People::default();
        let client = client(&ca(), &registration());
        let over = || OidcError::Refused {
            code: "invalid_grant".to_owned(),
            told: String::new(),
        };
        welcome_somebody(&people, NOW);
        let old = held(&people).unwrap();
        welcome_somebody(&people, NOW);
        let new = held(&people).unwrap();
        people.not_renewed(&client, &old, over());
        people.not_renewed(&client, &new, OidcError::Status("x", 429));
        assert!(held(&people).is_some_and(|held| Arc::ptr_eq(&held, &new)));
        people.not_renewed(&client, &new, over());
        assert!(held(&people).is_none());
    }

    #[test]
    fn only_a_sign_in_that_can_be_renewed_is_waited_for() {
        let people = People::default();
        assert!(!people.is_waiting(NOW));
        sign_in(&people, tokens(NOW + 300, None), NOW);
        assert!(!people.is_waiting(NOW));
        welcome_somebody(&people, NOW);
        assert!(people.is_waiting(NOW + LIFE - 1) && !people.is_waiting(NOW + LIFE));
    }
}
