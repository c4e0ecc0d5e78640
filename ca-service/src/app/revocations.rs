//! `POST /v1/revocations`: what is meant, who may, the record, and the bundle that holds it; in this order.

use eic_protocol::api::revocation::{RevocationRequest, RevocationResponse, RevocationTarget};
use eic_protocol::krl::{RevokedKey, Target};
use eic_protocol::serial::Serial;
use eic_protocol::subject_key::CaKey;
use eic_protocol::validity::{MAX_BACKDATE, MAX_FLEET_TTL, MAX_HOST_TTL};
use serde_json::json;
use ssh_key::public::KeyData;
use ssh_key::{Certificate, HashAlg};

use super::App;
use super::certificates::{decision_facts, permitted};
use super::facts::{Facts, resource};
use crate::audit::EventName;
use crate::authn::aws_sts::check_version;
use crate::caller::Caller;
use crate::http::context::Context;
use crate::policy::{Action, Asked, Resource};
use crate::random;
use crate::rate::Buckets;
use crate::refusal::{Denied, Refusal};
use crate::session::{Authorized, Presented};
use crate::store::RevokedCaller;
use crate::store::trust::{IssuedRow, RevocationOrder, What};

/// How long a key stays listed that its own bearer revoked: longer than any certificate of it. Seconds.
const OWN_KEY_LISTED: u64 = MAX_FLEET_TTL + 2 * MAX_BACKDATE;

/// What a request is about, once looked up.
enum Meant {
    /// A certificate of the journal.
    Issued(IssuedRow),
    /// Anything else.
    Other(What),
    /// No certificate of ours: told only to who may revoke.
    Nothing,
}

impl App {
    /// Revokes.
    ///
    /// # Errors
    /// [`Refusal`]; a denial is in the audit with its real reason.
    pub(crate) async fn revoke(
        &self,
        context: &Context,
        presented: &Presented,
        request: &RevocationRequest,
    ) -> Result<RevocationResponse, Refusal> {
        check_version(request.protocol)?;
        let authorized = self.admit(context, presented, request, None).await?;
        let ca = self.named_ca(&request.target).await?;
        let permitted = self.may_revoke(context, &authorized, request, ca.as_ref());
        let permitted = permitted.await;
        if let Err(Refusal::Denied(_)) = permitted
            && matches!(request.target, RevocationTarget::RequestId(_))
        {
            take_own_turn(&self.own_revocations, authorized.caller())?;
        }
        let meant = match ca {
            Some(ca) => Meant::Other(What::Entry(Target::CaKey(ca), None)),
            None => self.meant(&request.target, context.now).await?,
        };
        let own = is_own(&authorized, &request.target, &meant);
        if let Err(refusal) = permitted
            && !(own
                && self
                    .may_by_himself(&authorized, &meant, context.now)
                    .await?)
        {
            if let Refusal::Denied(denied) = &refusal {
                self.audit_denied_revocation(context, &authorized, request, denied)
                    .await?;
            }
            return Err(refusal);
        }
        let what = self.what(meant, own, context.now).await?;
        self.record_revocation(context, &authorized, request, what)
            .await
    }

    /// What is one's own needs no permission. An entry that no certificate is behind costs every host something, and a
    /// list has an end: so many of those in a time, and of keys only where somebody has certificates.
    async fn may_by_himself(
        &self,
        authorized: &Authorized,
        meant: &Meant,
        now: u64,
    ) -> Result<bool, Refusal> {
        let caller = authorized.caller();
        if matches!(meant, Meant::Issued(_)) {
            return take_own_turn(&self.own_certificates, caller).map(|()| true);
        }
        take_own_turn(&self.own_revocations, caller)?;
        if !matches!(meant, Meant::Other(What::Entry(..))) {
            return Ok(true);
        }
        let (arn, id) = (caller.identity().to_owned(), caller.user_id().to_owned());
        Ok(self.trust.book.has_living(arn, id, now).await?)
    }

    async fn record_revocation(
        &self,
        context: &Context,
        authorized: &Authorized,
        request: &RevocationRequest,
        what: What,
    ) -> Result<RevocationResponse, Refusal> {
        let order = RevocationOrder {
            id: random::request_id()?,
            what,
            by: authorized.caller().identity().to_owned(),
            reason: Some(request.reason.as_str().to_owned()),
            at: context.now,
        };
        let id = order.id;
        let name = match &order.what {
            What::Caller(_) => EventName::RevokeCaller,
            _ => EventName::Revoke,
        };
        let mut event = self.event(name, authorized.caller(), context);
        event.parameters = Some(parameters(request));
        event.additional = Some(json!({ "revocation": id.to_string() }));
        let effect = self
            .recorder
            .revoke_target(&self.trust.book, order, &event, Some(authorized.claim()))
            .await?;
        let sequence = self.trust.in_force(effect.revision).await;
        Ok(RevocationResponse {
            id,
            bundle_sequence: sequence.ok_or(Refusal::NotInForce)?,
            certificates: effect.certificates,
            request_id: context.request_id,
        })
    }

    /// The CA key that is named, in whatever form: sshd looks it up in the list like any other key, so that to revoke it as
    /// one would end every certificate (rule D23). A certificate names the key that it is for: where neither serial nor
    /// key id take it out, that key is what would be listed.
    async fn named_ca(&self, target: &RevocationTarget) -> Result<Option<CaKey>, Refusal> {
        let print = match target {
            RevocationTarget::PublicKey(key) => key.fingerprint(),
            RevocationTarget::Fingerprint(print) | RevocationTarget::CaKey(print) => {
                print.to_string()
            }
            RevocationTarget::Certificate(line) => print_of(decoded(line.as_str())?.public_key()),
            _ => return Ok(None),
        };
        Ok(self.trust.book.ca(print).await?)
    }

    /// Looks up what is named, and is no CA's key. Nothing of it is told before it is known who may.
    async fn meant(&self, target: &RevocationTarget, now: u64) -> Result<Meant, Refusal> {
        let key = |key: RevokedKey| Meant::Other(What::Entry(Target::Key(key), None));
        Ok(match target {
            RevocationTarget::Serial { ca, serial } => {
                let row = self.trust.book.by_serial(serial.value()).await?;
                let ca = ca.to_string();
                issued(row.filter(|row| row.ca == ca))
            }
            RevocationTarget::RequestId(id) => {
                let since = now.saturating_sub(MAX_HOST_TTL + 2 * MAX_BACKDATE);
                issued(self.trust.book.by_request(*id, since).await?)
            }
            RevocationTarget::PublicKey(subject) => key(RevokedKey::from(subject)),
            RevocationTarget::Fingerprint(print) => {
                Meant::Other(What::Entry(Target::Fingerprint(*print), None))
            }
            RevocationTarget::Certificate(line) => self.certificate(line.as_str()).await?,
            RevocationTarget::Caller(name) => {
                let who = name.as_str().parse::<RevokedCaller>();
                let who = who.map_err(|flaw| Refusal::Malformed(flaw.to_string()))?;
                Meant::Other(What::Caller(who))
            }
            RevocationTarget::Host(instance) => Meant::Other(What::Host(instance.clone())),
            RevocationTarget::CaKey(_) => Meant::Nothing,
        })
    }

    /// One that our key signed counts even where the journal does not know it: that is the worst case. One that it did
    /// not sign opens nothing, and can be anybody's: it must not choose what every host refuses.
    async fn certificate(&self, line: &str) -> Result<Meant, Refusal> {
        let certificate = decoded(line)?;
        let ca = print_of(certificate.signature_key());
        if self.trust.book.ca(ca.clone()).await?.is_none() || !is_signed(&certificate) {
            return Ok(Meant::Nothing);
        }
        if let Some(serial) = Serial::new(certificate.serial())
            && let Some(row) = self.trust.book.by_serial(serial.value()).await?
            && row.ca == ca
        {
            return Ok(Meant::Issued(row));
        }
        let target = Target::certificate(&certificate);
        let target = target.map_err(|flaw| Refusal::Malformed(flaw.to_string()))?;
        Ok(Meant::Other(What::Entry(target, None)))
    }

    async fn what(&self, meant: Meant, own: bool, now: u64) -> Result<What, Refusal> {
        let row = match meant {
            Meant::Issued(row) => row,
            Meant::Nothing => return Err(Refusal::NothingToRevoke),
            // A bearer's own key is good for its certificates only; it need not be listed for ever.
            Meant::Other(What::Entry(target, None)) if own => {
                let end = now.saturating_add(OWN_KEY_LISTED);
                return Ok(What::Entry(target, Some(end)));
            }
            Meant::Other(what) => return Ok(what),
        };
        let ca = self.trust.book.ca(row.ca).await?;
        let ca = ca.ok_or(Refusal::NothingToRevoke)?;
        Ok(What::Entry(
            Target::serial(ca, row.serial),
            Some(row.valid_before),
        ))
    }

    /// `eic:Revoke` on the host or the service; a CA key is the service itself: `eic:Administer`.
    async fn may_revoke(
        &self,
        context: &Context,
        authorized: &Authorized,
        request: &RevocationRequest,
        ca: Option<&CaKey>,
    ) -> Result<(), Refusal> {
        let caller = authorized.caller();
        let facts = Facts::of(caller, context, &self.nat);
        let asked = Asked {
            reason: Some(request.reason.as_str()),
            ..Asked::default()
        };
        let of_a_ca = ca.is_some() || matches!(request.target, RevocationTarget::CaKey(_));
        let action = match of_a_ca {
            true => Action::Administer,
            false => Action::Revoke,
        };
        let record = match &request.target {
            RevocationTarget::Host(id) => {
                let asker = caller.accountable_id();
                self.inventory.instance(id, asker, context.now).await?
            }
            _ => None,
        };
        let resource = match &record {
            Some(record) => resource(record),
            None => Resource::service(caller.partition()),
        };
        let decision = self
            .policy
            .decide(&facts.request(action, &resource, &asked));
        permitted(decision).map(drop)
    }

    /// The record of a denial, with the request's claim: one signed request makes one record.
    async fn audit_denied_revocation(
        &self,
        context: &Context,
        authorized: &Authorized,
        request: &RevocationRequest,
        denied: &Denied,
    ) -> Result<(), Refusal> {
        let mut event = self.event(EventName::DenyRevocation, authorized.caller(), context);
        event.parameters = Some(parameters(request));
        event.error = Some(denied.event_error());
        event.additional = Some(decision_facts(denied, None));
        let claim = authorized.claim();
        Ok(self.recorder.append_once(&event, claim).await?)
    }
}

fn take_own_turn(turns: &Buckets<String>, caller: &Caller) -> Result<(), Refusal> {
    let may = turns.take(caller.accountable_id(), std::time::Instant::now());
    may.then_some(()).ok_or(Refusal::TooManyOwn)
}

fn decoded(line: &str) -> Result<Certificate, Refusal> {
    let malformed = |_| Refusal::Malformed("the certificate cannot be read".to_owned());
    Certificate::from_openssh(line).map_err(malformed)
}

/// By the key that it says has signed it; its hours do not matter.
fn is_signed(certificate: &Certificate) -> bool {
    certificate.verify_signature().is_ok()
}

fn print_of(key: &KeyData) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

fn issued(row: Option<IssuedRow>) -> Meant {
    row.map_or(Meant::Nothing, Meant::Issued)
}

/// One's own certificates, the key that signed this request, and oneself: just this identity, never a role.
fn is_own(authorized: &Authorized, target: &RevocationTarget, meant: &Meant) -> bool {
    let caller = authorized.caller();
    match (target, meant) {
        (_, Meant::Issued(row)) => {
            row.caller == caller.identity() && row.caller_id == caller.user_id()
        }
        (RevocationTarget::PublicKey(key), _) => key == authorized.key(),
        (RevocationTarget::Fingerprint(print), _) => {
            print.to_string() == authorized.key().fingerprint()
        }
        (RevocationTarget::Caller(_), Meant::Other(What::Caller(who))) => who.is_just(caller),
        _ => false,
    }
}

fn parameters(request: &RevocationRequest) -> serde_json::Value {
    json!({ "target": request.target, "reason": request.reason.as_str() })
}
