//! Who asks: an identity that somebody other than the caller vouched for.
//! Made only by `authn` (from a proof) and by `session` (from a grant that this CA signed); never parsed from a request.

use eic_protocol::api::session::{CallerView, NameStanding};
use eic_protocol::arn::{AccountId, CallerArn, Identity};
use eic_protocol::proof::aws_sts::AccessKeyId;
use eic_protocol::request_id::RequestId;

/// An authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    arn: CallerArn,
    user_id: String,
    name: String,
    standing: NameStanding,
    access_key_id: AccessKeyId,
    session_id: RequestId,
}

/// What an authenticator learned of a caller.
pub(crate) struct Proven {
    pub(crate) arn: CallerArn,
    pub(crate) user_id: String,
    pub(crate) standing: NameStanding,
    pub(crate) access_key_id: AccessKeyId,
    pub(crate) session_id: RequestId,
}

impl Caller {
    /// To be called by an authenticator only.
    pub(crate) fn new(proven: Proven) -> Self {
        let Proven {
            arn,
            user_id,
            standing,
            access_key_id,
            session_id,
        } = proven;
        let name = name_of(&arn);
        Self {
            arn,
            user_id,
            name,
            standing,
            access_key_id,
            session_id,
        }
    }

    /// The ARN that STS answered.
    #[must_use]
    pub fn arn(&self) -> &CallerArn {
        &self.arn
    }

    /// The caller's account.
    #[must_use]
    pub fn account(&self) -> &AccountId {
        self.arn.account()
    }

    /// The unique id that STS answered.
    #[must_use]
    pub fn user_id(&self) -> &str {
        &self.user_id
    }

    /// The human-readable name within the ARN.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether somebody other than the caller vouches for the name.
    #[must_use]
    pub fn standing(&self) -> NameStanding {
        self.standing
    }

    /// The access key id that the proof was signed with.
    #[must_use]
    pub fn access_key_id(&self) -> &AccessKeyId {
        &self.access_key_id
    }

    /// How the identity was proven.
    #[must_use]
    pub fn method(&self) -> &'static str {
        "aws-sts"
    }

    /// The request id under which the session was opened.
    #[must_use]
    pub fn session_id(&self) -> RequestId {
        self.session_id
    }

    /// Whom a budget is counted for: a name that the caller cannot choose anew. Sessions whose names
    /// nobody vouches for share that of their role.
    #[must_use]
    pub fn accountable_id(&self) -> &str {
        match (self.standing, self.user_id.split_once(':')) {
            (NameStanding::Claimed, Some((role, _))) => role,
            _ => &self.user_id,
        }
    }

    /// Whether the proof was signed with a long-term key (IAM user guide, "Unique identifiers": `AKIA`).
    #[must_use]
    pub fn has_long_term_key(&self) -> bool {
        self.access_key_id.as_str().starts_with("AKIA")
    }

    /// The caller as shown to himself.
    #[must_use]
    pub fn view(&self) -> CallerView {
        CallerView {
            arn: self.arn.clone(),
            user_id: self.user_id.clone(),
            name: self.name.clone(),
            name_standing: self.standing,
        }
    }
}

fn name_of(arn: &CallerArn) -> String {
    match arn.identity() {
        Identity::Root => "root".to_owned(),
        Identity::User { name, .. } | Identity::FederatedUser { name } => name.clone(),
        Identity::AssumedRole { session, .. } => session.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(arn: &str, key: &str) -> Caller {
        Caller::new(Proven {
            arn: arn.parse().unwrap(),
            user_id: "AROA0123456789ABCDEF:alice".to_owned(),
            standing: NameStanding::Claimed,
            access_key_id: key.parse().unwrap(),
            session_id: RequestId::from_random([1; 16]),
        })
    }

    #[test]
    fn only_an_akia_key_is_long_term() {
        let arn = "arn:aws:sts::111122223333:assumed-role/Dev/alice";
        assert!(!caller(arn, "ASIAABCDEFGHIJKLMNOP").has_long_term_key());
        assert!(caller(arn, "AKIAABCDEFGHIJKLMNOP").has_long_term_key());
    }

    #[test]
    fn a_session_name_of_ones_own_choice_is_no_new_budget() {
        let mut alice = caller(
            "arn:aws:sts::111122223333:assumed-role/Dev/alice",
            "ASIAABCDEFGHIJKLMNOP",
        );
        assert_eq!(alice.accountable_id(), "AROA0123456789ABCDEF");
        alice.standing = NameStanding::Attested;
        assert_eq!(alice.accountable_id(), "AROA0123456789ABCDEF:alice");
    }

    #[test]
    fn the_name_is_that_of_the_session_or_user() {
        assert_eq!(
            caller(
                "arn:aws:sts::111122223333:assumed-role/Dev/alice",
                "ASIAABCDEFGHIJKLMNOP"
            )
            .name(),
            "alice"
        );
        assert_eq!(
            caller(
                "arn:aws:iam::111122223333:user/x/bob",
                "AKIAABCDEFGHIJKLMNOP"
            )
            .name(),
            "bob"
        );
        assert_eq!(
            caller("arn:aws:iam::111122223333:root", "AKIAABCDEFGHIJKLMNOP").name(),
            "root"
        );
    }
}
