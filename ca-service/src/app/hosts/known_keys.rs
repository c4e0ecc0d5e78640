//! `POST /v1/hosts/keys`: a legacy host's own keys, under the rule of its account's first enrolments. They are told
//! to clients only; whoever is enrolled has a certificate, which nothing here touches.

use eic_protocol::api::host_keys::{HostKeysRequest, HostKeysResponse};
use eic_protocol::api::instance::InstanceView;
use eic_protocol::subject_key::SubjectKey;

use super::refusal::HostRefusal;
use super::{App, Asking, Met, Sent};
use crate::host_identity::enrolment::{NotEnrolled, Purpose, keys_after};
use crate::http::context::Context;
use crate::refusal::Refusal;
use crate::store::hosts::HostChange;

impl App {
    /// Takes a legacy host's keys, or says what is still needed.
    ///
    /// # Errors
    /// [`Refusal`]; that of a host which AWS confirmed is in the audit.
    pub(crate) async fn know_host_keys(
        &self,
        context: &Context,
        request: &HostKeysRequest,
    ) -> Result<HostKeysResponse, Refusal> {
        self.check_host_request(context, &request.0)?;
        let possession = request.check_possession(self.audience());
        possession.map_err(HostRefusal::PossessionNotProven)?;
        self.skew.check()?;
        let sent = Sent {
            context,
            request: &request.0,
            purpose: Purpose::KnownKeys,
            canonical: request.canonical(self.audience()),
            stored: self.hosts.book.stored(&request.0.instance).await?,
            previous: self.unrevoked_previous(&request.0),
        };
        let asking = Asking::of(&sent, self.show_host(&sent).await?);
        if sent.stored.enrolled.is_some() {
            return self.leave_enrolled(&asking).await;
        }
        match self.enrol(&asking).await? {
            Met::Recorded(standing) => Ok(HostKeysResponse::Known {
                keys: keys_after(standing, &asking.keys, asking.known()),
                server_time: context.now,
                request_id: context.request_id,
            }),
            Met::Wanted(wanted) => Ok(wanted.for_known_keys(context.request_id)),
        }
    }

    /// Its certificate speaks for it: what it is known by must not be had with less.
    async fn leave_enrolled(&self, asking: &Asking<'_>) -> Result<HostKeysResponse, Refusal> {
        if asking.sent.stored.blocked {
            let refusal = HostRefusal::NotEnrolled(NotEnrolled::Blocked);
            self.audit_host_refusal(asking, &refusal).await?;
            return Err(refusal.into());
        }
        let claim = Some(asking.shown.claim);
        self.recorder
            .change_host(&self.hosts.book, HostChange::Nothing, None, claim)
            .await?;
        Ok(HostKeysResponse::Enrolled {
            request_id: asking.sent.context.request_id,
        })
    }

    /// The keys by which clients know a legacy host; none of a host that is enrolled, blocked or gone.
    pub(in crate::app) async fn legacy_keys(
        &self,
        host: &InstanceView,
    ) -> Result<Vec<SubjectKey>, Refusal> {
        let stored = self.hosts.book.stored(&host.id).await?;
        let legacy = stored.legacy.filter(|legacy| {
            // An id that is another account's or Region's by now is another host.
            let same = legacy.account == host.account && legacy.region == host.region;
            same && legacy.ended_at.is_none()
        });
        let tell = stored.enrolled.is_none() && !stored.blocked;
        Ok(legacy
            .filter(|_| tell)
            .map(|known| known.keys)
            .unwrap_or_default())
    }
}
