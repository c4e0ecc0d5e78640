//! Login sessions: a grant of the CA and the key that it is bound to, renewed before it ends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use eic_aws::error::AwsError;
use eic_aws::sts;
use eic_protocol::api::discovery::SessionMode;
use eic_protocol::api::problem::ProblemCode;
use eic_protocol::api::session::{CallerView, SessionResponse};
use eic_protocol::arn::AccountId;
use eic_protocol::grant::GrantToken;
use eic_protocol::proof::Audience;
use eic_protocol::proof::oidc::{IdToken, token_digest};
use eic_protocol::text::printable;
use serde::Deserialize;

use super::aws::scope;
use super::keyring::Owner;
use super::people::Turn;
use super::settings::{Announced, Ca};
use super::{LoginError, Resident, lock};
use crate::ca::{CaError, Granted, Shown};
use crate::control::message::SessionStatus;
use crate::credentials::{Resolved, Selection, TokenError, TokenSource};
use crate::key::{EphemeralKey, KeyType};
use crate::oidc::Registration;

/// A session that ends sooner is renewed while it is still used. Seconds.
const RENEW_BEFORE: u64 = 180;
/// A session that ends sooner is not used any more: the request must arrive in time. Seconds.
const MARGIN: u64 = 20;
/// How long a CA that was absent is not asked again. Seconds.
const ABSENCE_KEPT: u64 = 5;

/// A session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) key: Arc<EphemeralKey>,
    grant: GrantToken,
    pub(super) caller: CallerView,
    /// When it ends by our clock, in Unix seconds.
    pub(super) expires_at: u64,
    /// The CA's clock minus ours, in seconds.
    clock_offset: i64,
    pub(super) protocol: u32,
    /// `sessions = "off"` at the CA: good for one request, that of the task which opened it.
    single_use: bool,
    /// Whether another one may be had without anybody doing anything.
    pub(super) renews: bool,
    /// Of the credentials that proved the identity; [`NO_ACCESS_KEY`] where a token did.
    pub(super) access_key_id: String,
    label: String,
}

/// An owner's place: the session, and the turn of who opens the next one. Reading never waits for a renewal.
#[derive(Debug, Default)]
struct Slot {
    current: Mutex<Option<Arc<Session>>>,
    /// The token that the CA took last: it takes each once.
    spent: Mutex<Option<[u8; 32]>>,
    absent: Mutex<Option<(u64, CaError)>>,
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
pub(super) struct Sessions {
    slots: Mutex<HashMap<Owner, Arc<Slot>>>,
}

impl Session {
    /// What a request of this moment is signed with.
    pub(super) fn granted(&self, now: u64) -> Granted<'_> {
        let time = now.saturating_add_signed(self.clock_offset);
        Granted {
            grant: &self.grant,
            key: &self.key,
            time,
        }
    }

    /// Whether a task that did not open it may use it too. A single-use one is its opener's from the first moment:
    /// there is no time at which two tasks could find it free.
    fn is_shared(&self, now: u64) -> bool {
        !self.single_use && now.saturating_add(MARGIN) < self.expires_at
    }

    fn wants_renewal(&self, now: u64) -> bool {
        self.renews && !self.single_use && now.saturating_add(RENEW_BEFORE) >= self.expires_at
    }
}

impl Slot {
    fn get(&self) -> Option<Arc<Session>> {
        lock(&self.current).clone()
    }

    /// Keeps a new session, or the CA's absence for a moment: logins that wait for their turn do not wait
    /// for one time-out after the other.
    fn put(&self, opened: &Result<Arc<Session>, LoginError>, now: u64) {
        match opened {
            Ok(session) => *lock(&self.current) = Some(Arc::clone(session)),
            Err(LoginError::Ca(error)) => {
                *lock(&self.absent) = error.as_absence().map(|error| (now, error))
            }
            Err(_) => {}
        }
    }

    fn absence(&self, now: u64) -> Option<CaError> {
        let absent = lock(&self.absent);
        let recent = absent
            .as_ref()
            .filter(|(since, _)| now.saturating_sub(*since) < ABSENCE_KEPT);
        recent.and_then(|(_, error)| error.as_absence())
    }
}

impl Sessions {
    fn slot(&self, owner: &Owner) -> Arc<Slot> {
        let mut slots = lock(&self.slots);
        if slots.len() > 256 {
            slots.clear();
        }
        Arc::clone(slots.entry(owner.clone()).or_default())
    }

    /// The owner's session as it is, ended or not: certificates outlive it.
    pub(super) fn peek(&self, owner: &Owner) -> Option<Arc<Session>> {
        let slot = lock(&self.slots).get(owner).cloned()?;
        slot.get()
    }

    /// Forgets all; returns how many there were.
    pub(super) fn clear(&self) -> usize {
        let slots = std::mem::take(&mut *lock(&self.slots));
        slots.values().filter(|slot| slot.get().is_some()).count()
    }

    pub(super) fn status(&self) -> Vec<SessionStatus> {
        let slots = lock(&self.slots);
        let held = slots
            .iter()
            .filter_map(|(owner, slot)| Some((owner, slot.get()?)));
        held.map(|(owner, session)| SessionStatus {
            ca: owner
                .ca
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            selection: session.label.clone(),
            caller: session.caller.clone(),
            expires_at: session.expires_at,
            key: session.key.public().fingerprint(),
        })
        .collect()
    }
}

impl Resident {
    pub(super) fn owner(&self, ca: Option<&Ca>, selection: &Selection, kind: KeyType) -> Owner {
        Owner {
            ca: ca.map(|ca| ca.config.url.clone()),
            selection: selection.id(),
            kind,
        }
    }

    /// A session that can be used now, for one request where the CA wants it so.
    pub(super) async fn session(
        &self,
        ca: &Ca,
        selection: &Selection,
        kind: KeyType,
    ) -> Result<Arc<Session>, LoginError> {
        let slot = self.sessions.slot(&self.owner(Some(ca), selection, kind));
        let usable = || slot.get().filter(|session| session.is_shared(self.now()));
        if let Some(session) = usable() {
            return Ok(session);
        }
        let _turn = slot.turn.lock().await;
        // Somebody else may have opened one in the meantime.
        if let Some(session) = usable() {
            return Ok(session);
        }
        if let Some(error) = slot.absence(self.now()) {
            return Err(error.into());
        }
        let opened = self.open_session(ca, selection, kind).await;
        slot.put(&opened, self.now());
        opened
    }

    /// A new session in any case: at sign-in, for renewal, and where the CA does not know the grant any more.
    pub(super) async fn renew_session(
        &self,
        ca: &Ca,
        selection: &Selection,
        kind: KeyType,
    ) -> Result<Arc<Session>, LoginError> {
        let slot = self.sessions.slot(&self.owner(Some(ca), selection, kind));
        let _turn = slot.turn.lock().await;
        let opened = self.open_session(ca, selection, kind).await;
        slot.put(&opened, self.now());
        opened
    }

    /// Whether the session of this login should be renewed in the background.
    pub(super) fn wants_renewal(&self, ca: &Ca, selection: &Selection, kind: KeyType) -> bool {
        let session = self.sessions.peek(&self.owner(Some(ca), selection, kind));
        session.is_some_and(|session| session.wants_renewal(self.now()))
    }

    /// The session as it is, where it can still be used.
    pub(super) fn open_now(
        &self,
        ca: &Ca,
        selection: &Selection,
        kind: KeyType,
    ) -> Option<Arc<Session>> {
        let session = self.sessions.peek(&self.owner(Some(ca), selection, kind));
        session.filter(|session| session.is_shared(self.now()))
    }

    async fn open_session(
        &self,
        ca: &Ca,
        selection: &Selection,
        kind: KeyType,
    ) -> Result<Arc<Session>, LoginError> {
        let setting = self.settings.current()?;
        let config = setting.config.id_token.as_ref();
        let source = TokenSource::of(selection, config);
        // Credentials first: where there are none, nobody is asked anything.
        let by_credentials = match &source {
            Some(_) => None,
            None => Some(self.credentials(selection).await?),
        };
        let announced = ca.announced().await?;
        let opening = Opening {
            ca,
            selection,
            owner: self.owner(Some(ca), selection, kind),
            announced: &announced,
        };
        match (source, by_credentials) {
            (Some(source), _) if announced.takes_tokens => {
                let registration = config.and_then(|c| c.registration(&ca.config.url));
                self.open_by_token(&opening, &source, registration).await
            }
            (Some(source), _) if !source.is_offer() => Err(TokenError::NotTaken.into()),
            (_, Some(credentials)) => self.open_by_credentials(&opening, &credentials).await,
            (_, None) => {
                let credentials = self.credentials(selection).await?;
                self.open_by_credentials(&opening, &credentials).await
            }
        }
    }

    async fn open_by_credentials(
        &self,
        opening: &Opening<'_>,
        credentials: &Resolved,
    ) -> Result<Arc<Session>, LoginError> {
        let access_key_id = credentials.credentials.access_key_id();
        let key = self
            .keyring
            .key(&opening.owner, access_key_id, self.now())?;
        let mut token = match self.may_want_token(opening) {
            true => self.web_identity(opening, credentials).await,
            false => Ok(None),
        };
        let shown = shown(credentials, &token);
        let mut opened = self.open(opening, &key, shown).await;
        if matches!(token, Ok(None)) && opened.as_ref().is_err_and(wants_web_identity) {
            token = self.web_identity(opening, credentials).await;
            if matches!(token, Ok(Some(_))) {
                opened = self
                    .open(opening, &key, self::shown(credentials, &token))
                    .await;
            }
        }
        let opened = opened.map_err(|error| match token {
            Err(cause) if wants_web_identity(&error) => TokenError::WebIdentity(cause).into(),
            _ => self.sign_in_error(opening.selection, error),
        })?;
        Ok(Arc::new(Session {
            renews: true,
            access_key_id: access_key_id.to_owned(),
            label: opening.selection.label(),
            ..opened
        }))
    }

    /// Whether the CA takes a token of the caller's account, as far as is known: the last session tells the account. Where
    /// it has changed since and the CA demands a token, it says so.
    fn may_want_token(&self, opening: &Opening<'_>) -> bool {
        let accounts = &opening.announced.web_identity;
        let last = self.sessions.peek(&opening.owner);
        let listed = |session: Arc<Session>| {
            let arn = session.caller.arn.as_ref();
            arn.is_none_or(|arn| accounts.contains(arn.account()))
        };
        !accounts.is_empty() && last.is_none_or(listed)
    }

    /// A token of sts:GetWebIdentityToken, where the CA takes one of the credentials' account. Where AWS gives none, the CA
    /// decides whether that matters.
    async fn web_identity(
        &self,
        opening: &Opening<'_>,
        with: &Resolved,
    ) -> Result<Option<IdToken>, AwsError> {
        let (client, endpoint) = self
            .aws
            .target(with, with.sts.as_ref(), "sts", with.region)?;
        let scope = scope(with, with.region, "sts", self.now());
        let audience = &opening.ca.config.url;
        let token = sts::get_web_identity_token(&client, &endpoint, &scope, audience).await?;
        let accounts = &opening.announced.web_identity;
        let taken = account_of(&token).is_some_and(|account| accounts.contains(&account));
        Ok(taken.then_some(token))
    }

    async fn open_by_token(
        &self,
        opening: &Opening<'_>,
        source: &TokenSource,
        registration: Option<Registration>,
    ) -> Result<Arc<Session>, LoginError> {
        if let Some(person) = registration.filter(|_| source.is_person()) {
            return self.open_as_person(opening, source, &person).await;
        }
        let audience = &opening.ca.config.url;
        let token = source
            .token(audience, opening.selection, opening.ca.proxy.as_ref())
            .await?;
        let key = self
            .keyring
            .key(&opening.owner, NO_ACCESS_KEY, self.now())?;
        let session = self.show(opening, source, &key, &token).await?;
        Ok(Arc::new(Session {
            renews: source.gives_more(),
            ..session
        }))
    }

    async fn open_as_person(
        &self,
        opening: &Opening<'_>,
        source: &TokenSource,
        person: &Registration,
    ) -> Result<Arc<Session>, LoginError> {
        let audience = &opening.ca.config.url;
        loop {
            let mut turn = self
                .people
                .turn(audience, person, opening.ca.proxy.as_ref(), self.now())
                .await?;
            let opened = self.open_in_turn(opening, source, &mut turn).await;
            // Its answer to a token that was kept may have been lost, or the token has become stale: a fresh one tells.
            if matches!(opened, Err(LoginError::Token(_))) && turn.may_try_again() {
                continue;
            }
            return Ok(Arc::new(Session {
                renews: turn.renews(),
                ..opened?
            }));
        }
    }

    async fn open_in_turn(
        &self,
        opening: &Opening<'_>,
        source: &TokenSource,
        turn: &mut Turn,
    ) -> Result<Session, LoginError> {
        // The nonce binds the token to this key; another kind needs a token without one.
        let key = match turn.key().kind() == opening.owner.kind {
            true => Arc::clone(turn.key()),
            false => self
                .keyring
                .key(&opening.owner, NO_ACCESS_KEY, self.now())?,
        };
        let opened = self.show(opening, source, &key, turn.token()).await;
        // An absent CA has not taken it: the person's one token is shown again.
        if matches!(opened, Ok(_) | Err(LoginError::Token(_))) {
            turn.spend();
        }
        opened
    }

    /// Shows a token, once: the CA takes none a second time.
    async fn show(
        &self,
        opening: &Opening<'_>,
        source: &TokenSource,
        key: &Arc<EphemeralKey>,
        token: &IdToken,
    ) -> Result<Session, LoginError> {
        let slot = self.sessions.slot(&opening.owner);
        let digest = token_digest(token);
        if *lock(&slot.spent) == Some(digest) {
            let (label, remedy) = (source.label(), source.fresh());
            return Err(TokenError::Spent { label, remedy }.into());
        }
        let opened = self.open(opening, key, Shown::Token(token)).await;
        if opened.as_ref().map_or_else(is_replay, |_| true) {
            *lock(&slot.spent) = Some(digest);
        }
        let audience = &opening.ca.config.url;
        let session = opened.map_err(|error| token_error(source, audience, error))?;
        Ok(Session {
            label: source.label(),
            ..session
        })
    }

    /// Opens a session with what proves the identity, and takes the CA's news meanwhile.
    async fn open(
        &self,
        opening: &Opening<'_>,
        key: &Arc<EphemeralKey>,
        shown: Shown<'_>,
    ) -> Result<Session, CaError> {
        let Opening { ca, announced, .. } = opening;
        // The clock again: credentials may have taken a minute, a proof is good for five.
        let now = self.now();
        let opened = ca.client.open_session(announced.protocol, key, shown, now);
        let (opened, ()) = tokio::join!(opened, ca.refresh(now));
        Ok(Session::new(Arc::clone(key), opened?, announced, now))
    }
}

/// A session that is being opened: where, whose, and how.
struct Opening<'a> {
    ca: &'a Ca,
    selection: &'a Selection,
    owner: Owner,
    announced: &'a Announced,
}

fn shown<'a>(credentials: &'a Resolved, token: &'a Result<Option<IdToken>, AwsError>) -> Shown<'a> {
    match token {
        Ok(Some(token)) => Shown::Both(credentials, token),
        _ => Shown::Credentials(credentials),
    }
}

/// In place of an access key id where a token was shown: the id of no AWS credentials.
pub(super) const NO_ACCESS_KEY: &str = "";

impl Session {
    fn new(
        key: Arc<EphemeralKey>,
        opened: SessionResponse,
        announced: &Announced,
        now: u64,
    ) -> Self {
        let clock_offset =
            i64::try_from(opened.server_time).unwrap_or(0) - i64::try_from(now).unwrap_or(0);
        Self {
            key,
            grant: opened.grant,
            caller: opened.caller,
            expires_at: opened
                .expires_at
                .saturating_add_signed(clock_offset.saturating_neg()),
            clock_offset,
            protocol: announced.protocol,
            single_use: announced.sessions == SessionMode::Off,
            renews: false,
            access_key_id: NO_ACCESS_KEY.to_owned(),
            label: String::new(),
        }
    }
}

fn wants_web_identity(error: &CaError) -> bool {
    matches!(error, CaError::Problem(problem) if problem.code == ProblemCode::WebIdentityRequired)
}

fn is_replay(error: &CaError) -> bool {
    matches!(error, CaError::Problem(problem) if problem.code == ProblemCode::ProofReplayed)
}

/// What the CA says of the token itself, with what to do about it; other errors as they are.
fn token_error(source: &TokenSource, audience: &Audience, error: CaError) -> LoginError {
    match error {
        CaError::Problem(problem)
            if matches!(
                problem.code,
                ProblemCode::ProofRefused | ProblemCode::ProofReplayed | ProblemCode::ProofStale
            ) =>
        {
            TokenError::Refused {
                label: source.label(),
                remedy: source.remedy(&problem, audience),
                told: printable(&problem.detail),
            }
            .into()
        }
        other => other.into(),
    }
}

/// The account of a token of sts:GetWebIdentityToken, to choose whether to send it: the CA verifies it.
fn account_of(token: &IdToken) -> Option<AccountId> {
    #[derive(Deserialize)]
    struct Claims {
        #[serde(rename = "https://sts.amazonaws.com/")]
        aws: Aws,
    }
    #[derive(Deserialize)]
    struct Aws {
        aws_account: AccountId,
    }
    let payload = URL_SAFE_NO_PAD
        .decode(token.reveal().split('.').nth(1)?)
        .ok()?;
    let claims: Claims = serde_json::from_slice(&payload).ok()?;
    Some(claims.aws.aws_account)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_of_what_is_no_token_of_aws_is_none() {
        let of = |payload: &str| {
            let text = format!("aA.{}.aA", URL_SAFE_NO_PAD.encode(payload));
            account_of(&text.parse().unwrap()).map(|account| account.to_string())
        };
        for bad in [
            "x",
            "{}",
            r#"{"https://sts.amazonaws.com/":{"aws_account":"1"}}"#,
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
        let good = r#"{"https://sts.amazonaws.com/":{"aws_account":"111122223333","x":1}}"#;
        assert_eq!(of(good).as_deref(), Some("111122223333"));
    }
}
