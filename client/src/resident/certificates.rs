//! Certificates: asked for, checked against what was asked, kept while they are good.
//! Kept by CA, key (and so identity), user, host and everything that was asked: never used for another (H-14).

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use eic_protocol::api::certificate::{
    CertificateScope, UserCertificateRequest, UserCertificateResponse,
};
use eic_protocol::api::instance::InstanceView;
use eic_protocol::cert::check::{Asked, Mismatch, user_certificate};
use eic_protocol::cert::options::Extension;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::os_user::OsUser;
use eic_protocol::principal::Principal;
use eic_protocol::proof::Audience;
use eic_protocol::subject_key::CaKey;
use eic_protocol::validity::{MAX_FLEET_TTL, MAX_TARGET_TTL};
use ssh_key::Certificate;

use super::sessions::Session;
use super::settings::Ca;
use super::{LoginError, Resident, lock};
use crate::ca::CaError;
use crate::config::HostProfile;
use crate::control::message::CertificateStatus;
use crate::credentials::Selection;
use crate::key::EphemeralKey;

/// A certificate that ends sooner is not used for a new login: ssh may wait for a person. Seconds.
const MIN_REMAINING: u64 = 60;
/// Most certificates that are kept: a run over a fleet of that size still needs each once.
const MAX_KEPT: usize = 4096;

/// A checked certificate.
#[derive(Debug)]
pub(super) struct Issued {
    pub(super) key: Arc<EphemeralKey>,
    certificate: Certificate,
    /// In SSH wire form.
    pub(super) blob: Vec<u8>,
    /// With a forced command, source addresses or fewer extensions than the default.
    pub(super) restricted: bool,
    /// The host as the CA knew it then.
    pub(super) instance: Option<InstanceView>,
    /// The place of the CA's answer among all answers.
    pub(super) answer: u64,
    principal: String,
    serial: u64,
    valid_after: u64,
    /// First second at which it is not good any more.
    pub(super) valid_before: u64,
}

/// Everything that makes two certificates different ones.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Wanted {
    ca: Audience,
    key: String,
    principal: Principal,
    profile: String,
}

#[derive(Debug, Default)]
pub(super) struct Certificates(Mutex<HashMap<Wanted, Arc<Issued>>>);

impl Issued {
    /// Good for a login that begins now: another minute, or half of a shorter life.
    fn is_usable(&self, now: u64) -> bool {
        let life = self.valid_before.saturating_sub(self.valid_after);
        now.saturating_add(MIN_REMAINING.min(life / 2)) < self.valid_before
    }

    /// Whether hosts that are up to date would take it: a key that was retired, or the certificate revoked, since it was
    /// issued makes another one due.
    fn still_opens(&self, ca: &Ca, scope: &CertificateScope, now: u64) -> bool {
        let signer = self.certificate.signature_key();
        let cas = ca.trust.user_cas(scope, now);
        cas.iter().any(|ca| ca.key().key_data() == signer) && !ca.trust.revokes(&self.certificate)
    }
}

impl Certificates {
    fn get(&self, wanted: &Wanted, now: u64) -> Option<Arc<Issued>> {
        lock(&self.0)
            .get(wanted)
            .filter(|issued| issued.is_usable(now))
            .cloned()
    }

    fn keep(&self, wanted: Wanted, issued: Arc<Issued>, now: u64) {
        let mut kept = lock(&self.0);
        if kept.len() >= MAX_KEPT {
            kept.retain(|_, issued| issued.is_usable(now));
        }
        if kept.len() < MAX_KEPT {
            kept.insert(wanted, issued);
        }
    }

    pub(super) fn clear(&self) {
        lock(&self.0).clear();
    }

    pub(super) fn status(&self, now: u64) -> Vec<CertificateStatus> {
        let kept = lock(&self.0);
        let good = kept.values().filter(|issued| now < issued.valid_before);
        good.map(|issued| CertificateStatus {
            principal: issued.principal.clone(),
            serial: issued.serial,
            valid_before: issued.valid_before,
        })
        .collect()
    }
}

impl Resident {
    /// A certificate for this user on this host: the kept one, or a new one.
    pub(super) async fn certificate(
        &self,
        ca: &Ca,
        selection: &Selection,
        user: &OsUser,
        instance: &InstanceId,
        profile: &HostProfile,
    ) -> Result<Arc<Issued>, LoginError> {
        let scope = CertificateScope::Target {
            user: user.clone(),
            instance: instance.clone(),
        };
        self.certificate_of(ca, selection, &scope, profile).await
    }

    /// A certificate of this scope: the kept one, or a new one.
    pub(super) async fn certificate_of(
        &self,
        ca: &Ca,
        selection: &Selection,
        scope: &CertificateScope,
        profile: &HostProfile,
    ) -> Result<Arc<Issued>, LoginError> {
        let owner = self.owner(Some(ca), selection, profile.key_type);
        let wanted = |key: &EphemeralKey| Wanted {
            ca: ca.config.url.clone(),
            key: key.public().fingerprint(),
            principal: scope.principal(),
            profile: asked_text(profile),
        };
        if let Some(kept) = self
            .sessions
            .peek(&owner)
            .and_then(|s| self.certificates.get(&wanted(&s.key), self.now()))
            .filter(|kept| kept.still_opens(ca, scope, self.now()))
        {
            return Ok(kept);
        }
        let session = self.session(ca, selection, profile.key_type).await?;
        let request = request(&session, scope, profile);
        let (session, response) = match ca.client.post(session.granted(self.now()), &request).await
        {
            Err(error) if error.wants_new_session() => {
                let session = self.renew_session(ca, selection, profile.key_type).await?;
                let request = self::request(&session, scope, profile);
                let response = ca
                    .client
                    .post(session.granted(self.now()), &request)
                    .await?;
                (session, response)
            }
            other => (session, other?),
        };
        let checked = check(ca, &session.key, &request, &response, self.now()).await?;
        let issued = Arc::new(Issued {
            answer: self.next_answer(),
            ..checked
        });
        self.certificates
            .keep(wanted(&session.key), Arc::clone(&issued), self.now());
        Ok(issued)
    }
}

fn request(
    session: &Session,
    scope: &CertificateScope,
    profile: &HostProfile,
) -> UserCertificateRequest {
    UserCertificateRequest {
        protocol: session.protocol,
        public_key: session.key.public().clone(),
        scope: scope.clone(),
        ttl_seconds: profile.ttl_seconds,
        force_command: profile.force_command.clone(),
        source_addresses: profile.source_addresses.clone(),
        extensions: profile.extensions.clone(),
        reason: profile.reason.clone(),
    }
}

/// The CA is not trusted blindly: what differs from the request is named and not used (H-01). A signature key that is
/// not known may be one that was endorsed or announced since the CA was last asked for its bundle.
async fn check(
    ca: &Ca,
    key: &Arc<EphemeralKey>,
    request: &UserCertificateRequest,
    response: &UserCertificateResponse,
    now: u64,
) -> Result<Issued, LoginError> {
    let verified = || {
        checked(
            &ca.trust.user_cas(&request.scope, now),
            request,
            response,
            now,
        )
    };
    let certificate = match verified() {
        Err(CaError::Certificate(Mismatch::Field("signature key"))) => {
            ca.refresh(now).await;
            verified()
        }
        other => other,
    };
    let certificate = certificate.map_err(|error| of_a_later_root(ca, error))?;
    let principal = request.scope.principal();
    if let (Some(told), CertificateScope::Target { instance, .. }) =
        (&response.instance, &request.scope)
        && told.id != *instance
    {
        return Err(LoginError::OtherInstance {
            asked: instance.to_string(),
            answered: told.id.clone(),
        });
    }
    Ok(Issued {
        key: Arc::clone(key),
        blob: certificate
            .to_bytes()
            .map_err(|e| CaError::Malformed(e.to_string()))?,
        restricted: response.restricted || is_restricted(&certificate),
        instance: response.instance.clone(),
        answer: 0,
        principal: principal.to_string(),
        serial: certificate.serial(),
        valid_after: certificate.valid_after(),
        valid_before: certificate.valid_before(),
        certificate,
    })
}

/// A key that is not known may be one of a root that is not installed.
fn of_a_later_root(ca: &Ca, error: CaError) -> LoginError {
    match (ca.trust.behind(), &error) {
        (Some((installed, offered)), CaError::Certificate(Mismatch::Field("signature key"))) => {
            LoginError::RootBehind { installed, offered }
        }
        _ => error.into(),
    }
}

/// The certificate of a response, where it is exactly what was asked for.
fn checked(
    cas: &[CaKey],
    request: &UserCertificateRequest,
    response: &UserCertificateResponse,
    now: u64,
) -> Result<Certificate, CaError> {
    let principal = request.scope.principal();
    let asked = Asked {
        public_key: &request.public_key,
        principal: &principal,
        // Where no lifetime was asked for, the CA's default counts: at most what any such certificate may have.
        max_ttl: request.ttl_seconds.unwrap_or(match request.scope {
            CertificateScope::Target { .. } => MAX_TARGET_TTL,
            CertificateScope::Fleet { .. } => MAX_FLEET_TTL,
        }),
        force_command: request.force_command.as_ref(),
        source_addresses: request.source_addresses.as_ref(),
        extensions: request.extensions.as_ref(),
    };
    Ok(user_certificate(&response.certificate, &asked, cas, now)?)
}

/// Read from the certificate itself, whatever the response says about it.
fn is_restricted(certificate: &Certificate) -> bool {
    let carries = |e: &Extension| {
        certificate
            .extensions()
            .iter()
            .any(|(name, _)| name.as_str() == e.as_str())
    };
    !certificate.critical_options().is_empty() || !Extension::defaults().iter().all(carries)
}

fn asked_text(profile: &HostProfile) -> String {
    let HostProfile {
        pattern: _,
        user: _,
        instance_connect: _,
        via: _,
        bastion: _,
        endpoint: _,
        ssm: _,
        key_type,
        ttl_seconds,
        extensions,
        force_command,
        source_addresses,
        reason,
    } = profile;
    format!(
        "{key_type:?} {ttl_seconds:?} {extensions:?} {force_command:?} {source_addresses:?} {reason:?}"
    )
}
