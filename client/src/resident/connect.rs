//! One login: resolve the host, tell `connect` the addresses, get the certificate meanwhile, push a key where the
//! rules allow it, open the login's socket.

use std::sync::Arc;

use eic_protocol::api::event::{ClientEvent, PushCause};
use eic_protocol::api::instance::{Enrolment, InstanceView};
use eic_protocol::instance_id::InstanceId;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;

use super::certificates::Issued;
use super::event_queue::{Pusher, Waiting};
use super::login_board::Entry;
use super::resolve::{Source, Target};
use super::settings::Setting;
use super::{LoginError, Resident};
use crate::ca::CaError;
use crate::config::HostProfile;
use crate::control::frame;
use crate::control::message::{ConnectAsk, NotReached, Reply, RouteWays};
use crate::credentials::Selection;
use crate::fallback::{self, CaOutcome, Push, Situation, stricter};
use crate::key::{EphemeralKey, KeyType};
use crate::ssh_agent::conversation::Login;
use crate::ssh_config::host_users::is_covered;
use crate::transport::{Via, Way};

/// sshd's default port: where ssh was given no other, the host's own counts.
const DEFAULT_PORT: u16 = 22;
/// How long a login's socket stays open. Seconds.
const SOCKET_LIFE: u64 = 120;

/// What the login's socket will offer.
pub(super) struct Prepared {
    pub(super) key: Arc<EphemeralKey>,
    pub(super) offered: Vec<(Vec<u8>, String)>,
    pub(super) target: Target,
    pub(super) notes: Vec<String>,
    /// Whether a key was pushed, which is good for 60 s.
    pub(super) is_pushed: bool,
}

type Certificate = JoinHandle<Result<Arc<Issued>, LoginError>>;

/// A login of which is known whether a key is pushed, and why.
pub(super) struct Decided {
    pub(super) ask: Arc<ConnectAsk>,
    pub(super) setting: Arc<Setting>,
    pub(super) profile: HostProfile,
    pub(super) target: Target,
    absent: Option<CaError>,
    issued: Option<Arc<Issued>>,
    pub(super) push: Push,
}

/// A login whose host is resolved; its certificate is on its way.
pub(super) struct Begun {
    ask: Arc<ConnectAsk>,
    setting: Arc<Setting>,
    pub(super) profile: HostProfile,
    target: Target,
    absent: Option<CaError>,
    certificate: Option<Certificate>,
}

impl Resident {
    /// Answers [`Reply::Route`] and [`Reply::Ready`] on `stream`.
    pub(super) async fn connect(
        self: &Arc<Self>,
        ask: ConnectAsk,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    ) -> Result<(), LoginError> {
        let host = ask.host.clone();
        let begun = self.begin(ask).await?;
        let route = begun.route(self.is_its_own_bastion(&begun).await);
        let _ = frame::write_async(stream, &route).await;
        let notes = self.finish(begun).await?;
        let _ = frame::write_async(stream, &Reply::Ready { notes }).await;
        if frame::read_async::<NotReached>(stream).await.is_ok() {
            self.routes.forget(&host);
        }
        Ok(())
    }

    /// Whether the profile names the very host as its bastion: one profile may cover both.
    async fn is_its_own_bastion(&self, begun: &Begun) -> bool {
        let Some(bastion) = &begun.profile.bastion else {
            return false;
        };
        let (host, config) = (bastion.host(), &begun.setting.config);
        let id = begun.target.view.id.as_str();
        if [id, begun.ask.host.as_str()].contains(&host.as_str()) {
            return true;
        }
        // ssh comes back here for covered names only; others are not looked up.
        if !is_covered(host, config) {
            return false;
        }
        let selection = &begun.ask.selection;
        let found = self.resolve(&begun.setting, selection, host).await;
        found.is_ok_and(|(target, _)| target.view.id.as_str() == id)
    }

    /// Resolves the host, and starts what does not depend on it.
    pub(super) async fn begin(self: &Arc<Self>, ask: ConnectAsk) -> Result<Begun, LoginError> {
        let ask = Arc::new(ConnectAsk {
            selection: ask.selection.clone().filtered(),
            ..ask
        });
        let setting = self.settings.current()?;
        let profile = setting.config.profile(ask.host.as_str());
        // An id needs no look-up before its certificate: both at once.
        let early = ask
            .host
            .as_str()
            .parse()
            .ok()
            .and_then(|id| self.start_certificate(&setting, &ask, id, &profile));
        let (target, absent) = self
            .resolve_given(&setting, &ask.selection, &ask.host, ask.given.as_ref())
            .await
            .and_then(|found| user_is_named(&ask, &profile, &found.0).map(|()| found))
            .inspect_err(|_| abort(early.as_ref()))?;
        let certificate = early
            .or_else(|| self.start_certificate(&setting, &ask, target.view.id.clone(), &profile));
        Ok(Begun {
            ask,
            setting,
            profile,
            target,
            absent,
            certificate,
        })
    }

    /// Waits for the certificate, pushes a key where the rules say so, opens the socket; returns lines for stderr.
    pub(super) async fn finish(self: &Arc<Self>, begun: Begun) -> Result<Vec<String>, LoginError> {
        let (ask, setting, profile) = (
            Arc::clone(&begun.ask),
            Arc::clone(&begun.setting),
            begun.profile.clone(),
        );
        let prepared = self.prepare(begun).await?;
        self.open_socket(&ask, &setting, &prepared)?;
        self.renew_in_background(&setting, &ask.selection, profile.key_type);
        self.report_in_background(&setting, prepared.target.with, profile.key_type);
        Ok(prepared.notes)
    }

    fn start_certificate(
        self: &Arc<Self>,
        setting: &Arc<Setting>,
        ask: &Arc<ConnectAsk>,
        instance: InstanceId,
        profile: &HostProfile,
    ) -> Option<Certificate> {
        setting.ca.as_ref()?;
        let (resident, setting, ask, profile) = (
            Arc::clone(self),
            Arc::clone(setting),
            Arc::clone(ask),
            profile.clone(),
        );
        Some(tokio::spawn(async move {
            let Some(ca) = &setting.ca else {
                return Err(no_task());
            };
            resident
                .certificate(ca, &ask.selection, &ask.user, &instance, &profile)
                .await
        }))
    }

    pub(super) async fn prepare(self: &Arc<Self>, begun: Begun) -> Result<Prepared, LoginError> {
        let decided = self.decide(begun).await?;
        let cause = match decided.push {
            Push::NotNeeded => return certified(&decided.ask, decided.target, decided.issued),
            Push::OnlyWay => None,
            Push::Because(cause) => Some((cause, decided.absent)),
        };
        let Decided {
            ask,
            setting,
            profile,
            target,
            issued,
            ..
        } = decided;
        self.pushed(&setting, &ask, target, issued, cause, &profile)
            .await
    }

    /// Waits for the certificate and asks the rules; an error is a login that does not happen.
    pub(super) async fn decide(self: &Arc<Self>, begun: Begun) -> Result<Decided, LoginError> {
        let mut absent = begun.absent;
        let issued = match begun.certificate {
            None => None,
            Some(task) => match task.await.unwrap_or_else(|_| Err(no_task())) {
                Ok(issued) => Some(issued),
                Err(LoginError::Ca(error)) if error.is_absence() => {
                    absent.get_or_insert(error);
                    None
                }
                // A CA that said no is not absent, whatever its other answers were (H-18).
                Err(other) => return Err(other),
            },
        };
        let target = fresher(begun.target, issued.as_deref());
        if target.source == Source::Ca {
            self.memory().learn(&target.view, self.now())?;
        }
        let outcome = match (&begun.setting.ca, &issued) {
            (None, _) => CaOutcome::NotConfigured,
            (Some(_), Some(issued)) => CaOutcome::Issued {
                restricted: issued.restricted,
            },
            (Some(_), None) => CaOutcome::Absent,
        };
        let situation = self.situation(&target, outcome, &begun.profile);
        match fallback::decide(&situation) {
            Err(reason) => Err(LoginError::NoPush { reason, ca: absent }),
            Ok(push) => Ok(Decided {
                ask: begun.ask,
                setting: begun.setting,
                profile: begun.profile,
                target,
                absent,
                issued,
                push,
            }),
        }
    }

    pub(super) fn situation(
        &self,
        target: &Target,
        outcome: CaOutcome,
        profile: &HostProfile,
    ) -> Situation {
        let (view, memory) = (&target.view, self.memory());
        let record = memory.get(&view.id);
        // While the CA is absent its inventory is too: keys that only legacy hosts are remembered by stand in for it.
        let known_legacy = target.source == Source::Ec2
            && record.is_some_and(|r| !r.enrolled && !r.keys.is_empty());
        let remembered = record
            .and_then(|record| record.instance_connect)
            .unwrap_or(view.instance_connect);
        Situation {
            ca: outcome,
            enrolment: if known_legacy {
                Enrolment::Legacy
            } else {
                view.enrolment
            },
            seen_enrolled: record.is_some_and(|record| record.enrolled),
            mode: stricter(
                stricter(view.instance_connect, remembered),
                profile.instance_connect,
            ),
            restrictions_asked: profile.is_restricted(),
            managed: view.id.is_managed(),
        }
    }

    async fn pushed(
        self: &Arc<Self>,
        setting: &Arc<Setting>,
        ask: &ConnectAsk,
        target: Target,
        issued: Option<Arc<Issued>>,
        cause: Option<(PushCause, Option<CaError>)>,
        profile: &HostProfile,
    ) -> Result<Prepared, LoginError> {
        let view = &target.view;
        let credentials = self.credentials(&target.with).await?;
        let access_key_id = credentials.credentials.access_key_id();
        let owner = self.owner(setting.ca.as_ref(), &ask.selection, profile.key_type);
        let key = match &issued {
            Some(issued) => Arc::clone(&issued.key),
            None => self.keyring.key(&owner, access_key_id, self.now())?,
        };
        let pushed = self
            .aws
            .push(&credentials, view, &ask.user, key.public(), self.now())
            .await;
        let doing = "cannot push the key (ec2-instance-connect:SendSSHPublicKey)";
        let aws_request_id = pushed.map_err(|cause| self.aws_error(&target.with, doing, cause))?;
        let mut notes = target.notes.clone();
        notes.push(note(ask.user.as_str(), view, cause.as_ref()));
        if let Some((cause, _)) = cause {
            let event = ClientEvent::KeyPushed {
                instance: view.id.clone(),
                user: ask.user.clone(),
                fingerprint: key.public().fingerprint(),
                cause,
                aws_request_id,
            };
            let kind = profile.key_type;
            self.report_push(setting, &target.with, kind, access_key_id, event)?;
        }
        // The certificate first: the host may have been enrolled a minute ago.
        let certificate =
            issued.map(|issued| (issued.blob.clone(), comment(ask, view, "certificate")));
        let plain = (
            key.public().blob().to_vec(),
            comment(ask, view, "pushed key"),
        );
        Ok(Prepared {
            key,
            offered: certificate.into_iter().chain([plain]).collect(),
            target,
            notes,
            is_pushed: true,
        })
    }

    /// A push for the audit.
    pub(super) fn report_push(
        &self,
        setting: &Setting,
        with: &Selection,
        kind: KeyType,
        access_key_id: &str,
        event: ClientEvent,
    ) -> Result<(), LoginError> {
        let owner = self.owner(setting.ca.as_ref(), with, kind);
        let pusher = self.pusher(&owner, access_key_id);
        self.report(setting, pusher, event)
    }

    /// For the audit: queued on disk, and told as soon as the CA can be reached.
    fn report(
        &self,
        setting: &Setting,
        pusher: Pusher,
        event: ClientEvent,
    ) -> Result<(), LoginError> {
        let Some(ca) = &setting.ca else { return Ok(()) };
        let waiting = Waiting {
            ca: ca.config.url.clone(),
            selection: String::new(),
            pusher,
            at: self.now(),
            event,
        };
        self.events
            .add(waiting)
            .map_err(|e| LoginError::Events(e.to_string()))
    }

    fn open_socket(
        &self,
        ask: &Arc<ConnectAsk>,
        setting: &Arc<Setting>,
        prepared: &Prepared,
    ) -> Result<(), LoginError> {
        let closes_at = self.now().saturating_add(SOCKET_LIFE);
        let login = Login::new(
            ask.user.clone(),
            Arc::clone(&prepared.key),
            prepared.offered.clone(),
            closes_at,
        );
        let entry = Entry {
            ask: Arc::clone(ask),
            setting: Arc::clone(setting),
            view: prepared.target.view.clone(),
            with: prepared.target.with.clone(),
            login: Arc::new(login),
        };
        self.logins.open(entry)
    }

    /// Renewal before the session ends: after the login was served.
    fn renew_in_background(
        self: &Arc<Self>,
        setting: &Arc<Setting>,
        selection: &Selection,
        kind: KeyType,
    ) {
        let Some(ca) = &setting.ca else { return };
        if !self.wants_renewal(ca, selection, kind) {
            return;
        }
        let (resident, setting) = (Arc::clone(self), Arc::clone(setting));
        let selection = selection.clone();
        tokio::spawn(async move {
            let Some(ca) = &setting.ca else { return };
            // An absent CA is no news here: the next login tries again.
            let _ = resident.renew_session(ca, &selection, kind).await;
        });
    }

    /// Events that wait, under the credentials that the login's own push was made with.
    pub(super) fn report_in_background(
        self: &Arc<Self>,
        setting: &Arc<Setting>,
        selection: Selection,
        kind: KeyType,
    ) {
        if setting.ca.is_none() || self.events.len() == 0 {
            return;
        }
        let (resident, setting) = (Arc::clone(self), Arc::clone(setting));
        tokio::spawn(async move {
            if let Some(ca) = &setting.ca {
                resident.send_events(ca, &selection, kind).await;
            }
        });
    }
}

/// ssh sends the laptop's user where nobody named an account: that is never tried on a host of which another one
/// is known, nor on one of which none is.
fn user_is_named(
    ask: &ConnectAsk,
    profile: &HostProfile,
    target: &Target,
) -> Result<(), LoginError> {
    let mut users = profile.user.iter().chain(&target.view.users);
    // Where a CA answered and names nobody, its policy goes by patterns: it decides.
    let left_to_the_ca = target.source == Source::Ca && users.clone().next().is_none();
    if !ask.default_user || left_to_the_ca || users.any(|user| *user == ask.user) {
        return Ok(());
    }
    Err(LoginError::WhichUser {
        host: ask.host.clone(),
        given: ask.user.clone(),
        users: profile
            .user
            .iter()
            .chain(&target.view.users)
            .cloned()
            .collect(),
    })
}

fn abort(task: Option<&Certificate>) {
    if let Some(task) = task {
        task.abort();
    }
}

/// A task that was cancelled or panicked: not a sign of an absent CA.
fn no_task() -> LoginError {
    LoginError::Ca(CaError::Malformed("the request was given up".to_owned()))
}

impl Begun {
    /// The host that is its own bastion is reached as if it had none.
    fn route(&self, own_bastion: bool) -> Reply {
        let view = &self.target.view;
        let bastion = self.profile.bastion.clone().filter(|_| !own_bastion);
        let via = match self.profile.via {
            Via::Only(Way::Bastion) if own_bastion => Via::Auto,
            via => via,
        };
        let port = if self.ask.port == DEFAULT_PORT {
            view.ssh_port
        } else {
            self.ask.port
        };
        Reply::Route {
            instance: view.id.clone(),
            addresses: view.addresses.clone(),
            port,
            ways: RouteWays {
                via,
                bastion,
                endpoint: self.profile.endpoint.clone(),
                session_by: self.profile.ssm,
                group: format!("{}/{}", view.account, view.region.as_str()),
                is_managed: view.id.is_managed(),
            },
        }
    }
}

/// With what the CA said of the host when it issued the certificate, wherever the host itself was found (H-18).
fn fresher(target: Target, issued: Option<&Issued>) -> Target {
    match issued.and_then(|issued| Some((issued.answer, issued.instance.clone()?))) {
        Some((answer, view)) => target.with_answer(answer, view),
        None => target,
    }
}

fn certified(
    ask: &ConnectAsk,
    target: Target,
    issued: Option<Arc<Issued>>,
) -> Result<Prepared, LoginError> {
    let issued = issued.ok_or_else(no_task)?;
    let offered = vec![(
        issued.blob.clone(),
        comment(ask, &target.view, "certificate"),
    )];
    Ok(Prepared {
        key: Arc::clone(&issued.key),
        offered,
        notes: target.notes.clone(),
        target,
        is_pushed: false,
    })
}

fn comment(ask: &ConnectAsk, view: &InstanceView, what: &str) -> String {
    format!("{}@{} {what}", ask.user, view.id)
}

fn note(user: &str, view: &InstanceView, cause: Option<&(PushCause, Option<CaError>)>) -> String {
    let id = &view.id;
    let pushed = format!("pushed the key for {user} by EC2 Instance Connect (60 s)");
    match cause {
        None => format!("{id}: {pushed}"),
        Some((PushCause::LegacyHost, _)) => format!("{id} does not trust the CA yet: {pushed}"),
        Some((PushCause::CaUnreachable, Some(error))) => {
            format!("{id}: {pushed}, without a certificate, because {error}")
        }
        Some((PushCause::CaUnreachable, None)) => {
            format!("{id}: {pushed}, without a certificate, because the CA is absent")
        }
    }
}
