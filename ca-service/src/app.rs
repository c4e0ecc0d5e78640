//! The service put together: what each request needs, owned once and shared by all connections.
//! The flows beside this file know nothing of HTTP's forms; `http` parses and answers.

use std::sync::Arc;

use ::http::HeaderMap;
use ::http::header::AUTHORIZATION;
use arc_swap::ArcSwap;
use axum::body::Bytes;
use eic_protocol::grant::Authorization;
use eic_protocol::proof::{Audience, Signed};
use eic_protocol::subject_key::SubjectKey;

mod certificates;
mod events;
pub(crate) mod facts;
mod fleets;
mod instances;
mod reload;
mod sessions;
mod start;

pub use start::{StartError, policy_sources};

use crate::audit::{Actor, Event, EventName, Recorder};
use crate::authn::aws_sts::AwsSts;
use crate::authn::aws_sts::clock_skew::ClockSkew;
use crate::authn::aws_sts::role_revocation::RoleRevocations;
use crate::caller::Caller;
use crate::clock::Clock;
use crate::config::certificates::FleetConfig;
use crate::config::limits::LimitsConfig;
use crate::http::context::Context;
use crate::inventory::Inventory;
use crate::issuance::Issuer;
use crate::policy::{Cidr, NatRule, PolicyStore};
use crate::rate::Buckets;
use crate::refusal::Refusal;
use crate::session::{Authorized, SessionError, Sessions};
use crate::store::{ReplayGuard, Revocations, Store};

/// Callers whose rate is remembered at a time.
const MAX_CALLERS: usize = 16_384;

/// Everything that requests share.
pub struct App {
    pub(crate) clock: Clock,
    pub(crate) limits: LimitsConfig,
    pub(crate) trusted_proxies: Vec<Cidr>,
    pub(crate) discovery: ArcSwap<Bytes>,
    nat: Vec<NatRule>,
    fleets: Vec<FleetConfig>,
    authn: AwsSts,
    skew: Arc<ClockSkew>,
    role_revocations: Option<Arc<RoleRevocations>>,
    sessions: Sessions,
    revocations: Revocations,
    replay: ReplayGuard,
    policy: PolicyStore,
    inventory: Inventory,
    recorder: Recorder,
    issuer: Issuer,
    callers: Buckets<String>,
    discovery_source: start::DiscoverySource,
    policy_files: Vec<std::path::PathBuf>,
    store: Store,
}

impl App {
    /// The authorization in a request's headers, with a grant that this CA made and that has not ended:
    /// exactly one header, of exactly one form (threats A-15). Its signature is checked with the body.
    pub(crate) fn authorization(
        &self,
        context: &Context,
        headers: &HeaderMap,
    ) -> Result<Authorization, SessionError> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = values.next().ok_or(SessionError::Required)?;
        let text = value.to_str().map_err(|_| SessionError::Invalid)?;
        if values.next().is_some() {
            return Err(SessionError::Invalid);
        }
        let authorization = text.parse().map_err(|_| SessionError::Invalid)?;
        self.sessions.recognise(&authorization, context.now)?;
        Ok(authorization)
    }

    /// Checks the grant and signature of a request, and that its caller may still ask.
    /// The claim that makes the request count once is still to be made.
    async fn admit<R: Signed>(
        &self,
        context: &Context,
        authorization: &Authorization,
        request: &R,
        key: Option<&SubjectKey>,
    ) -> Result<Authorized, Refusal> {
        let authorized = self
            .sessions
            .authorize(authorization, request, key, context.now)?;
        let caller = authorized.caller();
        if !self
            .callers
            .take(&caller.user_id().to_owned(), std::time::Instant::now())
        {
            return Err(Refusal::TooMany);
        }
        self.check_not_revoked(caller, context.now).await?;
        Ok(authorized)
    }

    /// At the CA itself, and in IAM where the configuration says so.
    async fn check_not_revoked(&self, caller: &Caller, now: u64) -> Result<(), Refusal> {
        if self.revocations.contains(caller.arn(), caller.user_id()) {
            return Err(Refusal::Revoked);
        }
        if let Some(revocations) = &self.role_revocations {
            revocations.check(caller.arn(), now).await?;
        }
        Ok(())
    }

    /// The origin that clients are set up with.
    pub(crate) fn audience(&self) -> &Audience {
        self.sessions.audience()
    }

    /// Whether the service can issue: its store writes and its policy is not too old.
    ///
    /// # Errors
    /// What is missing, in words.
    pub fn readiness(&self) -> Result<(), &'static str> {
        if !self.store.is_alive() {
            return Err("the store's writer has ended");
        }
        if self.policy.is_stale(self.clock.now()) {
            return Err("the policy could not be loaded for too long");
        }
        self.skew
            .check()
            .map_err(|_| "the clock disagrees with AWS")
    }

    /// An event that a caller caused.
    fn event(&self, name: EventName, caller: &Caller, context: &Context) -> Event {
        Event::new(
            name,
            Actor::Caller(Box::new(caller.clone())),
            context.origin(),
            context.request_id,
        )
    }
}
