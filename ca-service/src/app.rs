//! The service put together: what each request needs, owned once and shared by all connections.
//! The flows beside this file know nothing of HTTP's forms; `http` parses and answers.

use std::sync::Arc;

use ::http::HeaderMap;
use ::http::header::AUTHORIZATION;
use arc_swap::ArcSwap;
use axum::body::Bytes;
use eic_protocol::proof::{Audience, Signed};
use eic_protocol::subject_key::SubjectKey;

mod certificates;
mod events;
pub(crate) mod facts;
mod fleets;
mod hosts;
mod instances;
mod listings;
mod refused_proofs;
mod reload;
mod revocations;
mod sessions;
mod start;
mod trust_bundle;

pub use hosts::{DeskError, HostRefusal};
pub use start::{StartError, policy_sources};
pub(crate) use start::{access, inventory};
pub(crate) use trust_bundle::{NotPublished, NotPut, TrustAnswer, ViewDesk, publish};

use crate::audit::{Actor, Event, EventName, Recorder};
use crate::authn::Authenticator;
use crate::authn::aws_sts::clock_skew::ClockSkew;
use crate::authn::aws_sts::role_revocation::RoleRevocations;
use crate::caller::Caller;
use crate::clock::Clock;
use crate::config::certificates::FleetConfig;
use crate::config::limits::LimitsConfig;
use crate::http::body::LargeBodies;
use crate::http::context::Context;
use crate::inventory::Inventory;
use crate::issuance::Issuer;
use crate::policy::{Cidr, NatRule, PolicyStore};
use crate::rate::Buckets;
use crate::refusal::Refusal;
use crate::session::{Authorized, Presented, SessionError, Sessions};
use crate::store::{ReplayGuard, Revocations, Store};

/// Callers whose rate is remembered at a time.
const MAX_CALLERS: usize = 16_384;

/// Everything that requests share.
pub struct App {
    pub(crate) clock: Clock,
    pub(crate) limits: LimitsConfig,
    pub(crate) trusted_proxies: Vec<Cidr>,
    pub(crate) large_bodies: LargeBodies,
    pub(crate) discovery: ArcSwap<Bytes>,
    nat: Vec<NatRule>,
    fleets: Vec<FleetConfig>,
    authn: Authenticator,
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
    /// Of all sessions whose names nobody vouches for, by role: a name chosen anew is no new budget (G-13).
    roles: Buckets<String>,
    /// What callers revoke of their own without permission to revoke, by role.
    own_revocations: Buckets<String>,
    /// Certificates among it.
    own_certificates: Buckets<String>,
    /// Listings of all hosts.
    listings: listings::Listings,
    hosts: hosts::HostDesk,
    trust: trust_bundle::TrustDesk,
    refused_proofs: refused_proofs::RefusedProofs,
    discovery_source: start::DiscoverySource,
    policy_files: Vec<std::path::PathBuf>,
    /// What the policy was last refused for: an alarm is raised once for each mistake.
    policy_mistake: std::sync::Mutex<Option<String>>,
    store: Store,
}

impl App {
    /// The authorization in a request's headers, with a grant that this CA made and that has not ended:
    /// exactly one header, of exactly one form (threats A-15). Its signature is checked with the body.
    pub(crate) fn authorization(
        &self,
        context: &Context,
        headers: &HeaderMap,
    ) -> Result<Presented, SessionError> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = values.next().ok_or(SessionError::Required)?;
        let text = value.to_str().map_err(|_| SessionError::Invalid)?;
        if values.next().is_some() {
            return Err(SessionError::Invalid);
        }
        let authorization = text.parse().map_err(|_| SessionError::Invalid)?;
        self.sessions.recognise(authorization, context.now)
    }

    /// Checks the grant and signature of a request, and that its caller may still ask.
    /// The claim that makes the request count once is still to be made.
    async fn admit<R: Signed>(
        &self,
        context: &Context,
        presented: &Presented,
        request: &R,
        key: Option<&SubjectKey>,
    ) -> Result<Authorized, Refusal> {
        let authorized = self
            .sessions
            .authorize(presented, request, key, context.now)?;
        let caller = authorized.caller();
        self.take_callers_turn(caller)?;
        self.check_not_revoked(caller, context.now).await?;
        if self.trust.book.watch().revokes(authorized.key()) {
            return Err(Refusal::Revoked);
        }
        Ok(authorized)
    }

    /// One request of the caller's rate and, where his name is only claimed, one of his role's. His own
    /// comes first, so that one session's storm does not use up its role's.
    fn take_callers_turn(&self, caller: &Caller) -> Result<(), Refusal> {
        self.take_turn(caller.user_id())?;
        let role = caller.accountable_id();
        let may = role == caller.user_id() || self.roles.take(role, std::time::Instant::now());
        may.then_some(()).ok_or(Refusal::TooMany)
    }

    /// So many more of the caller's rate (and his role's), for a request that turned out to be dear.
    fn charge_caller(&self, caller: &Caller, turns: usize) {
        let turns = u32::try_from(turns).unwrap_or(u32::MAX);
        let now = std::time::Instant::now();
        self.callers.charge(caller.user_id(), turns, now);
        let role = caller.accountable_id();
        if role != caller.user_id() {
            self.roles.charge(role, turns, now);
        }
    }

    /// Whether the caller (and his role) has paid for what was dear.
    fn check_paid(&self, caller: &Caller) -> Result<(), Refusal> {
        let now = std::time::Instant::now();
        let (own, role) = (caller.user_id(), caller.accountable_id());
        let owes = self.callers.owes(own, now) || self.roles.owes(role, now);
        (!owes).then_some(()).ok_or(Refusal::TooMany)
    }

    /// One request of the caller's (or account's) rate.
    fn take_turn(&self, who: &str) -> Result<(), Refusal> {
        let may = self.callers.take(who, std::time::Instant::now());
        may.then_some(()).ok_or(Refusal::TooMany)
    }

    /// At the CA itself, and in IAM where the configuration says so.
    async fn check_not_revoked(&self, caller: &Caller, now: u64) -> Result<(), Refusal> {
        if self.revocations.covers(caller) {
            return Err(Refusal::Revoked);
        }
        if let (Some(revocations), Some(arn)) = (&self.role_revocations, caller.arn()) {
            revocations.check(arn, now).await?;
        }
        Ok(())
    }

    /// The origin that clients are set up with.
    pub(crate) fn audience(&self) -> &Audience {
        self.sessions.audience()
    }

    /// Whether the service can issue: its store writes, its policy is not too old, its CA keys answer.
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
            .map_err(|_| "the clock disagrees with AWS")?;
        self.trust.readiness(&self.issuer.ca())
    }

    /// An event that a caller caused.
    fn event(&self, name: EventName, caller: &Arc<Caller>, context: &Context) -> Event {
        Event::new(
            name,
            Actor::Caller(Arc::clone(caller)),
            context.origin(),
            context.request_id,
        )
    }
}
