//! A key that somebody pushes by hand (`eic-login push`). The rules are those of a login: where that would push
//! nothing, this does not either (H-18).

use std::sync::Arc;

use eic_protocol::api::event::{ClientEvent, PushCause};
use eic_protocol::subject_key::SubjectKey;
use eic_protocol::text::printable;

use super::connect::Decided;
use super::resolve::Target;
use super::{LoginError, Resident};
use crate::control::message::{ConnectAsk, PushAsk, Pushed};
use crate::fallback::{CaOutcome, Push, decide_console};

impl Resident {
    /// Resolves the host and pushes the key, to sshd or to the serial console.
    pub(super) async fn push_by_hand(self: &Arc<Self>, ask: PushAsk) -> Result<Pushed, LoginError> {
        let login = ConnectAsk {
            // A push needs no address.
            given: Some(ask.login.given.unwrap_or_default()),
            ..ask.login
        };
        if ask.serial_console {
            return self.push_to_console(login, &ask.key).await;
        }
        // A certificate is asked for as for a login: where policy gives none, nobody's key is pushed.
        let begun = self.begin(login).await?;
        let decided = self.decide(begun).await?;
        let cause = match decided.push {
            Push::NotNeeded => return Err(LoginError::NotByPush(decided.target.view.id)),
            Push::OnlyWay => None,
            Push::Because(cause) => Some(cause),
        };
        let id = self.push_key(&decided, &ask.key, cause).await?;
        self.report_in_background(
            &decided.setting,
            decided.target.with.clone(),
            decided.profile.key_type,
        );
        Ok(told(decided.target, &id))
    }

    /// Pushes, and notes it for the audit where there is a CA to tell.
    async fn push_key(
        &self,
        decided: &Decided,
        key: &SubjectKey,
        cause: Option<PushCause>,
    ) -> Result<String, LoginError> {
        let (target, user) = (&decided.target, &decided.ask.user);
        let doing = "cannot push the key (ec2-instance-connect:SendSSHPublicKey)";
        let credentials = self.credentials(&target.with).await?;
        let pushed = self
            .aws
            .push(&credentials, &target.view, user, key, self.now())
            .await;
        let id = pushed.map_err(|cause| self.aws_error(&target.with, doing, cause))?;
        if let Some(cause) = cause {
            let event = ClientEvent::KeyPushed {
                instance: target.view.id.clone(),
                user: user.clone(),
                fingerprint: key.fingerprint(),
                cause,
                aws_request_id: id.clone(),
            };
            let (access_key_id, kind) = (
                credentials.credentials.access_key_id(),
                decided.profile.key_type,
            );
            self.report_push(&decided.setting, &target.with, kind, access_key_id, event)?;
        }
        Ok(id)
    }

    /// The serial console is AWS's own way in, with an IAM action of its own; what closes Instance Connect for a host
    /// closes it here too: `off`, `break-glass` while the CA answers, a profile with restrictions.
    async fn push_to_console(
        &self,
        login: ConnectAsk,
        key: &SubjectKey,
    ) -> Result<Pushed, LoginError> {
        let selection = login.selection.filtered();
        let setting = self.settings.current()?;
        let profile = setting.config.profile(login.host.as_str());
        let given = login.given.as_ref();
        let found = self.resolve_given(&setting, &selection, &login.host, given);
        let (target, ca) = found.await?;
        let outcome = match (&setting.ca, &ca) {
            (None, _) => CaOutcome::NotConfigured,
            (Some(_), Some(_)) => CaOutcome::Absent,
            (Some(_), None) => CaOutcome::Issued { restricted: false },
        };
        let situation = self.situation(&target, outcome, &profile);
        if let Err(reason) = decide_console(&situation) {
            return Err(LoginError::NoPush { reason, ca });
        }
        let credentials = self.credentials(&target.with).await?;
        let pushed = self
            .aws
            .push_to_console(&credentials, &target.view, key, self.now())
            .await;
        let doing = "cannot push the key (ec2-instance-connect:SendSerialConsoleSSHPublicKey)";
        let id = pushed.map_err(|cause| self.aws_error(&target.with, doing, cause))?;
        Ok(told(target, &id))
    }
}

fn told(target: Target, aws_request_id: &str) -> Pushed {
    Pushed {
        instance: target.view.id,
        region: target.view.region,
        aws_request_id: printable(aws_request_id),
        notes: target.notes,
    }
}
