//! What first keys still need: the console, an operator, a token. Each is asked for with an answer that says
//! what to do, and uses itself up when it is there.

use eic_protocol::api::host_certificate::HostCertificateResponse;
use eic_protocol::api::host_keys::HostKeysResponse;
use eic_protocol::grant::Nonce;
use eic_protocol::request_id::RequestId;
use serde_json::json;

use super::refusal::HostRefusal;
use super::{App, Asking};
use crate::audit::{Event, EventName};
use crate::host_identity::console;
use crate::host_identity::enrolment::{Need, Standing};
use crate::random;
use crate::refusal::Refusal;
use crate::store::hosts::{HostChange, HostRequest, RequestState, Uses};

/// How long a challenge may be written to the console. Seconds; EC2 shows a console within seconds on the
/// Nitro system, and minutes after a boot elsewhere.
const CHALLENGE_LIFE: u64 = 3_600;
/// A challenge with less time left is replaced. Seconds.
const CHALLENGE_REST: u64 = 600;
/// When to ask again for an operator's approval. Seconds.
const RETRY: u64 = 60;

/// What a host is asked for.
pub(super) enum Wanted {
    /// Its keys on the console, for this challenge, which counts until then (Unix seconds).
    Console { challenge: Nonce, expires_at: u64 },
    /// An operator's approval; to be asked for again then (Unix seconds).
    Approval {
        enrolment: RequestId,
        retry_after: u64,
    },
}

impl Wanted {
    /// As the answer to a request for certificates.
    pub(super) fn for_certificates(self, request_id: RequestId) -> HostCertificateResponse {
        match self {
            Self::Console {
                challenge,
                expires_at,
            } => HostCertificateResponse::WriteToConsole {
                challenge,
                expires_at,
                request_id,
            },
            Self::Approval {
                enrolment,
                retry_after,
            } => HostCertificateResponse::AwaitingApproval {
                enrolment,
                retry_after,
                request_id,
            },
        }
    }

    /// As the answer to a legacy host that makes its keys known.
    pub(super) fn for_known_keys(self, request_id: RequestId) -> HostKeysResponse {
        match self {
            Self::Console {
                challenge,
                expires_at,
            } => HostKeysResponse::WriteToConsole {
                challenge,
                expires_at,
                request_id,
            },
            Self::Approval {
                enrolment,
                retry_after,
            } => HostKeysResponse::AwaitingApproval {
                enrolment,
                retry_after,
                request_id,
            },
        }
    }
}

type Needed = Result<Uses, Wanted>;

impl App {
    pub(super) async fn meet(
        &self,
        asking: &Asking<'_>,
        standing: Standing,
        need: Need,
    ) -> Result<Needed, Refusal> {
        match need {
            Need::Nothing => {
                let token = asking.shown.token.clone();
                let now = asking.sent.context.now;
                Ok(Ok(
                    token.map_or(Uses::Nothing, |digest| Uses::Token(digest, now))
                ))
            }
            Need::Console => self.meet_console(asking, standing).await,
            Need::Approval => self.meet_approval(asking).await,
            Need::Token => Err(HostRefusal::TokenNeeded.into()),
        }
    }

    async fn waiting(&self, asking: &Asking<'_>) -> Result<Option<HostRequest>, Refusal> {
        let (instance, keys) = (asking.instance(), &asking.keys);
        let waiting = self.hosts.book.request(instance, keys).await?;
        match waiting {
            Some(request) if request.state == RequestState::Rejected => {
                Err(HostRefusal::Rejected.into())
            }
            other => Ok(other),
        }
    }

    async fn meet_console(
        &self,
        asking: &Asking<'_>,
        standing: Standing,
    ) -> Result<Needed, Refusal> {
        let now = asking.sent.context.now;
        let described = asking.shown.described.as_ref();
        let described = described.ok_or(HostRefusal::TokenNeeded)?;
        let waiting = self.waiting(asking).await?;
        let challenge = waiting
            .as_ref()
            .filter(|waiting| waiting.challenge_ends > now)
            .map(|waiting| waiting.challenge)
            .filter(|challenge| asking.sent.request.challenge == Some(*challenge));
        let console = self.hosts.look_up.console(described, now).await;
        let console = console.map_err(HostRefusal::LookUp)?;
        let instance = asking.instance();
        let first = standing == Standing::First;
        match console::check(&console, instance, challenge.as_ref(), &asking.keys, first) {
            Ok(()) => {
                Ok(Ok(waiting.map_or(Uses::Nothing, |waiting| {
                    Uses::Request(waiting.enrolment)
                })))
            }
            Err(console::Unproven::Absent) => {
                let asked = self.ask(asking, waiting).await?;
                Ok(Err(Wanted::Console {
                    challenge: asked.challenge,
                    expires_at: asked.challenge_ends,
                }))
            }
            Err(console::Unproven::Conflicting) => {
                tracing::error!(%instance, request_id = %asking.sent.context.request_id,
                    "ALARM: somebody asks for a host's certificate with keys that its console does not show");
                Err(HostRefusal::Console.into())
            }
        }
    }

    async fn meet_approval(&self, asking: &Asking<'_>) -> Result<Needed, Refusal> {
        let waiting = self.waiting(asking).await?;
        match waiting {
            Some(request) if request.state == RequestState::Approved => {
                Ok(Ok(Uses::Request(request.enrolment)))
            }
            waiting => {
                let asked = self.ask(asking, waiting).await?;
                Ok(Err(Wanted::Approval {
                    enrolment: asked.enrolment,
                    retry_after: asking.sent.context.now.saturating_add(RETRY),
                }))
            }
        }
    }

    /// Writes the request down; the audit has it once for each set of keys.
    async fn ask(
        &self,
        asking: &Asking<'_>,
        waiting: Option<HostRequest>,
    ) -> Result<HostRequest, Refusal> {
        let event = waiting.is_none().then(|| asking_event(asking));
        let request = request_after(asking, waiting)?;
        let change = HostChange::Ask(request.clone());
        let claim = Some(asking.shown.claim);
        let written = self
            .recorder
            .change_host(&self.hosts.book, change, event.as_ref(), claim)
            .await?;
        if !written {
            tracing::error!(instance = %asking.instance(), "ALARM: a host is asked for with ever new keys");
            return Err(Refusal::TooMany);
        }
        Ok(request)
    }
}

fn request_after(
    asking: &Asking<'_>,
    waiting: Option<HostRequest>,
) -> Result<HostRequest, Refusal> {
    let (evidence, now) = (&asking.shown.evidence, asking.sent.context.now);
    let mut request = match waiting {
        Some(waiting) => waiting,
        None => HostRequest {
            enrolment: random::request_id()?,
            instance: evidence.instance().clone(),
            account: evidence.account().clone(),
            region: evidence.region(),
            evidence: evidence.kind(),
            keys: asking.keys.clone(),
            challenge: fresh_challenge()?,
            challenge_ends: now.saturating_add(CHALLENGE_LIFE),
            state: RequestState::Waiting,
            asked_at: now,
            decided_by: None,
        },
    };
    if request.challenge_ends <= now.saturating_add(CHALLENGE_REST) {
        request.challenge = fresh_challenge()?;
        request.challenge_ends = now.saturating_add(CHALLENGE_LIFE);
    }
    request.asked_at = now;
    Ok(request)
}

fn fresh_challenge() -> Result<Nonce, Refusal> {
    Ok(Nonce::from_random(random::bytes()?))
}

fn asking_event(asking: &Asking<'_>) -> Event {
    let mut event = asking.event(EventName::RequestHostEnrolment);
    let stored = &asking.sent.stored;
    event.additional = Some(json!({
        "enrolledWithOtherKeys": stored.enrolled.is_some(),
        "knownWithOtherKeys": stored.legacy.is_some(),
    }));
    event
}
