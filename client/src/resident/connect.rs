//! One login: resolve the host, tell `connect` the addresses, get the certificate meanwhile, push a key where the
//! rules allow it, open the login's socket.

use std::sync::Arc;

use eic_protocol::api::event::{ClientEvent, PushCause};
use eic_protocol::api::instance::{Enrolment, InstanceView};
use eic_protocol::instance_id::InstanceId;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;

use super::certificates::Issued;
use super::event_queue::Waiting;
use super::login_board::Entry;
use super::resolve::{Source, Target};
use super::settings::Setting;
use super::{LoginError, Resident};
use crate::ca::CaError;
use crate::config::HostProfile;
use crate::control::frame;
use crate::control::message::{ConnectAsk, NotReached, Reply};
use crate::fallback::{self, CaOutcome, Push, Situation, stricter};
use crate::key::EphemeralKey;
use crate::ssh_agent::conversation::Login;

/// sshd's default port: where ssh was given no other, the host's own counts.
const DEFAULT_PORT: u16 = 22;
/// How long a login's socket stays open. Seconds.
const SOCKET_LIFE: u64 = 120;

/// What the login's socket will offer.
struct Prepared {
    key: Arc<EphemeralKey>,
    offered: Vec<(Vec<u8>, String)>,
    view: InstanceView,
    notes: Vec<String>,
}

type Certificate = JoinHandle<Result<Arc<Issued>, LoginError>>;

/// A login whose host is resolved; its certificate is on its way.
pub(super) struct Begun {
    ask: Arc<ConnectAsk>,
    setting: Arc<Setting>,
    profile: HostProfile,
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
        let _ = frame::write_async(stream, &begun.route()).await;
        let notes = self.finish(begun).await?;
        let _ = frame::write_async(stream, &Reply::Ready { notes }).await;
        if frame::read_async::<NotReached>(stream).await.is_ok() {
            self.routes.forget(&host);
        }
        Ok(())
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
            .resolve(&setting, &ask.selection, &ask.host)
            .await
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
        self.renew_in_background(&setting, &ask, &profile);
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

    async fn prepare(self: &Arc<Self>, begun: Begun) -> Result<Prepared, LoginError> {
        let Begun {
            ask,
            setting,
            profile,
            target,
            mut absent,
            certificate,
        } = begun;
        let issued = match certificate {
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
        let target = fresher(target, issued.as_deref());
        if target.source == Source::Ca {
            self.memory().learn(&target.view, self.now())?;
        }
        let situation = self.situation(&setting, &target, issued.as_deref(), &profile);
        match fallback::decide(&situation) {
            Err(reason) => Err(LoginError::NoPush { reason, ca: absent }),
            Ok(Push::NotNeeded) => certified(&ask, target.view, issued),
            Ok(Push::OnlyWay) => {
                self.pushed(&setting, &ask, target.view, issued, None, &profile)
                    .await
            }
            Ok(Push::Because(cause)) => {
                self.pushed(
                    &setting,
                    &ask,
                    target.view,
                    issued,
                    Some((cause, absent)),
                    &profile,
                )
                .await
            }
        }
    }

    fn situation(
        &self,
        setting: &Setting,
        target: &Target,
        issued: Option<&Issued>,
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
            ca: match (&setting.ca, issued) {
                (None, _) => CaOutcome::NotConfigured,
                (Some(_), Some(issued)) => CaOutcome::Issued {
                    restricted: issued.restricted,
                },
                (Some(_), None) => CaOutcome::Absent,
            },
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
        view: InstanceView,
        issued: Option<Arc<Issued>>,
        cause: Option<(PushCause, Option<CaError>)>,
        profile: &HostProfile,
    ) -> Result<Prepared, LoginError> {
        let credentials = self.aws.credentials(&ask.selection, self.now()).await?;
        let owner = self.owner(setting.ca.as_ref(), &ask.selection, profile.key_type);
        let key = match &issued {
            Some(issued) => Arc::clone(&issued.key),
            None => {
                self.keyring
                    .key(&owner, credentials.credentials.access_key_id(), self.now())?
            }
        };
        let pushed = self
            .aws
            .push(&credentials, &view, &ask.user, key.public(), self.now())
            .await;
        let doing = "cannot push the key (ec2-instance-connect:SendSSHPublicKey)";
        let aws_request_id =
            pushed.map_err(|cause| self.aws_error(&ask.selection, doing, cause))?;
        let notes = vec![note(&ask.user.to_string(), &view, cause.as_ref())];
        if let Some((cause, _)) = cause {
            self.report(setting, ask, &view, &key, cause, aws_request_id)?;
        }
        // The certificate first: the host may have been enrolled a minute ago.
        let certificate =
            issued.map(|issued| (issued.blob.clone(), comment(ask, &view, "certificate")));
        let plain = (
            key.public().blob().to_vec(),
            comment(ask, &view, "pushed key"),
        );
        Ok(Prepared {
            key,
            offered: certificate.into_iter().chain([plain]).collect(),
            view,
            notes,
        })
    }

    /// For the audit: at once where the CA can be reached, and queued on disk until it can.
    fn report(
        self: &Arc<Self>,
        setting: &Arc<Setting>,
        ask: &ConnectAsk,
        view: &InstanceView,
        key: &EphemeralKey,
        cause: PushCause,
        aws_request_id: String,
    ) -> Result<(), LoginError> {
        let Some(ca) = &setting.ca else { return Ok(()) };
        let event = ClientEvent::KeyPushed {
            instance: view.id.clone(),
            user: ask.user.clone(),
            fingerprint: key.public().fingerprint(),
            cause,
            aws_request_id,
        };
        let waiting = Waiting {
            ca: ca.config.url.clone(),
            selection: ask.selection.label(),
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
            view: prepared.view.clone(),
            login: Arc::new(login),
        };
        self.logins.open(entry)
    }

    /// Renewal before the session ends, and events that wait: after the login was served.
    fn renew_in_background(
        self: &Arc<Self>,
        setting: &Arc<Setting>,
        ask: &Arc<ConnectAsk>,
        profile: &HostProfile,
    ) {
        let Some(ca) = &setting.ca else { return };
        let wants_renewal = self.wants_renewal(ca, &ask.selection, profile.key_type);
        if !wants_renewal && self.events.len() == 0 {
            return;
        }
        let (resident, setting, ask, kind) = (
            Arc::clone(self),
            Arc::clone(setting),
            Arc::clone(ask),
            profile.key_type,
        );
        tokio::spawn(async move {
            let Some(ca) = &setting.ca else { return };
            let session = if wants_renewal {
                resident.renew_session(ca, &ask.selection, kind).await
            } else {
                resident.session(ca, &ask.selection, kind).await
            };
            // An absent CA is no news here: the next login tries again.
            if let Ok(session) = session {
                resident
                    .send_events(ca, &session, &ask.selection.label())
                    .await;
            }
        });
    }
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
    fn route(&self) -> Reply {
        let view = &self.target.view;
        let port = if self.ask.port == DEFAULT_PORT {
            view.ssh_port
        } else {
            self.ask.port
        };
        Reply::Route {
            instance: view.id.clone(),
            addresses: view.addresses.clone(),
            port,
        }
    }
}

/// The newer of the two views: a kept certificate's may be the older one.
fn fresher(target: Target, issued: Option<&Issued>) -> Target {
    let newer = issued.filter(|issued| issued.at > target.at);
    match newer
        .and_then(|issued| issued.instance.clone())
        .filter(|view| view.id == target.view.id)
    {
        Some(view) if target.source == Source::Ca => Target { view, ..target },
        _ => target,
    }
}

fn certified(
    ask: &ConnectAsk,
    view: InstanceView,
    issued: Option<Arc<Issued>>,
) -> Result<Prepared, LoginError> {
    let issued = issued.ok_or_else(no_task)?;
    let offered = vec![(issued.blob.clone(), comment(ask, &view, "certificate"))];
    Ok(Prepared {
        key: Arc::clone(&issued.key),
        offered,
        view,
        notes: Vec::new(),
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
