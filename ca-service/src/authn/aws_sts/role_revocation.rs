//! Whether the sessions of a role were revoked in IAM (threats A-36).
//!
//! IAM revokes sessions by an inline policy `AWSRevokeOlderSessions` that denies everything to sessions
//! that began before a moment (IAM user guide, "Revoking IAM role temporary security credentials").
//! GetCallerIdentity answers in spite of it and does not say when a session began, so for as long as
//! an older session can live, no session of that role is taken.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use eic_aws::error::AwsError;
use eic_aws::query::call;
use eic_aws::sigv4::Scope;
use eic_protocol::arn::{AccountId, CallerArn, Identity, Partition};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::transport::unavailable;
use crate::authn::{AuthnError, Refusal};
use crate::aws_access::{AwsAccess, iam_endpoint};

const POLICY_NAME: &str = "AWSRevokeOlderSessions";
/// How long an answer of IAM is used. Seconds.
const MAX_AGE: u64 = 60;
/// Longest life of a role session (IAM: MaxSessionDuration is at most 12 hours). Seconds.
const MAX_SESSION: u64 = 12 * 3600;
/// Roles that are remembered; beyond that all are asked for again.
const MAX_ROLES: usize = 4096;
/// From the wait for a turn to the last byte read.
const DEADLINE: Duration = Duration::from_secs(5);
/// Calls at once: the requests of one busy second must not all ask.
const TURNS: usize = 4;

/// Asks IAM, at most once a minute for each role.
pub struct RoleRevocations {
    access: std::sync::Arc<AwsAccess>,
    endpoint_override: Option<String>,
    known: Mutex<HashMap<Role, Known>>,
    turns: Semaphore,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Role {
    partition: Partition,
    account: AccountId,
    name: String,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    asked_at: u64,
    /// Sessions that began before this moment are revoked. Unix seconds.
    revoked_before: Option<u64>,
}

impl RoleRevocations {
    /// Over the accounts that `access` has credentials for.
    #[must_use]
    pub fn new(access: std::sync::Arc<AwsAccess>, endpoint_override: Option<String>) -> Self {
        Self {
            access,
            endpoint_override,
            known: Mutex::default(),
            turns: Semaphore::new(TURNS),
        }
    }

    /// Refuses a role's session that may be older than the role's revocation.
    ///
    /// # Errors
    /// [`Refusal::RoleRevoked`], or [`AuthnError::StsUnavailable`] where IAM does not say.
    pub async fn check(&self, caller: &CallerArn, now: u64) -> Result<(), AuthnError> {
        let Identity::AssumedRole { role, .. } = caller.identity() else {
            return Ok(());
        };
        let role = Role {
            partition: caller.partition(),
            account: caller.account().clone(),
            name: role.clone(),
        };
        let revoked_before = match self.remembered(&role, now) {
            Some(known) => known.revoked_before,
            None => self.ask(role, now).await?,
        };
        match revoked_before {
            Some(moment) if now < moment.saturating_add(MAX_SESSION) => {
                Err(AuthnError::Refused(Refusal::RoleRevoked))
            }
            _ => Ok(()),
        }
    }

    fn remembered(&self, role: &Role, now: u64) -> Option<Known> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .get(role)
            .copied()
            .filter(|known| known.asked_at.abs_diff(now) < MAX_AGE)
    }

    async fn ask(&self, role: Role, now: u64) -> Result<Option<u64>, AuthnError> {
        let answer = tokio::time::timeout(DEADLINE, self.ask_in_turn(role, now)).await;
        answer.unwrap_or_else(|_| Err(unavailable("IAM did not answer in time")))
    }

    async fn ask_in_turn(&self, role: Role, now: u64) -> Result<Option<u64>, AuthnError> {
        let _turn = self
            .turns
            .acquire()
            .await
            .map_err(|_| unavailable("the service ends"))?;
        // Whoever had the turn before may have asked for the same role.
        if let Some(known) = self.remembered(&role, now) {
            return Ok(known.revoked_before);
        }
        let document = self.policy(&role, now).await.map_err(|e| {
            unavailable(format!(
                "IAM does not say whether role {} is revoked: {e}",
                role.name
            ))
        })?;
        let revoked_before = match document {
            None => None,
            Some(text) => Some(revoked_before(&text).ok_or_else(|| {
                unavailable(format!(
                    "the policy {POLICY_NAME} of role {} is of an unknown form",
                    role.name
                ))
            })?),
        };
        self.remember(
            role,
            Known {
                asked_at: now,
                revoked_before,
            },
        );
        Ok(revoked_before)
    }

    fn remember(&self, role: Role, answer: Known) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_ROLES {
            known.clear();
        }
        known.insert(role, answer);
    }

    /// The role's revocation policy; none when it has none.
    async fn policy(&self, role: &Role, now: u64) -> Result<Option<String>, String> {
        let (endpoint, region) = iam_endpoint(role.partition, self.endpoint_override.as_deref())?;
        let credentials = self
            .access
            .credentials(&role.account, now)
            .await
            .map_err(|e| e.to_string())?;
        let scope = Scope {
            credentials: &credentials,
            region,
            service: "iam",
            now,
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let parameters = [
            pair("Action", "GetRolePolicy"),
            pair("Version", "2010-05-08"),
            pair("RoleName", &role.name),
            pair("PolicyName", POLICY_NAME),
        ];
        match call(self.access.client(), &endpoint, &scope, &parameters).await {
            Ok(answer) => {
                let document = answer.find("PolicyDocument").map(|d| d.text().to_owned());
                document
                    .map(Some)
                    .ok_or_else(|| "no PolicyDocument in the answer".to_owned())
            }
            Err(error) if error.code() == Some("NoSuchEntity") => Ok(None),
            Err(
                error @ (AwsError::Http(_)
                | AwsError::Service { .. }
                | AwsError::Malformed(_)
                | AwsError::Signing(_)),
            ) => Err(error.to_string()),
        }
    }
}

/// The latest moment before which the policy denies sessions; none when the document is not understood.
fn revoked_before(document: &str) -> Option<u64> {
    let text = percent_decoded(document)?;
    let value: Value = serde_json::from_str(&text).ok()?;
    let statements = match value.get("Statement")? {
        Value::Array(statements) => statements.iter().collect(),
        single => vec![single],
    };
    statements.into_iter().filter_map(denied_before).max()
}

fn denied_before(statement: &Value) -> Option<u64> {
    if statement.get("Effect")?.as_str()? != "Deny" {
        return None;
    }
    let moment = statement
        .get("Condition")?
        .get("DateLessThan")?
        .get("aws:TokenIssueTime")?;
    let text = match moment {
        Value::Array(moments) => moments.iter().filter_map(Value::as_str).max()?,
        single => single.as_str()?,
    };
    u64::try_from(text.parse::<jiff::Timestamp>().ok()?.as_second()).ok()
}

/// IAM answers policy documents percent-encoded (RFC 3986).
pub(crate) fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing::http_stub::{HttpStub, response};

    const NOW: u64 = 1_800_000_000;
    const SESSION: &str = "arn:aws:sts::111122223333:assumed-role/Dev/alice";

    fn revoked_at(moment: u64) -> String {
        let moment = jiff::Timestamp::from_second(i64::try_from(moment).unwrap()).unwrap();
        let document = format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Deny","Action":["*"],"Resource":["*"],"Condition":{{"DateLessThan":{{"aws:TokenIssueTime":"{moment}"}}}}}}]}}"#
        );
        let encoded: String = document.bytes().map(|b| format!("%{b:02X}")).collect();
        let result = format!(
            "<GetRolePolicyResult><PolicyDocument>{encoded}</PolicyDocument></GetRolePolicyResult>"
        );
        format!(
            "<GetRolePolicyResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\">{result}</GetRolePolicyResponse>"
        )
    }

    fn error(code: &str) -> String {
        format!(
            "<ErrorResponse><Error><Code>{code}</Code><Message>m</Message></Error></ErrorResponse>"
        )
    }

    async fn asking(status: u16, body: String) -> (HttpStub, RoleRevocations) {
        let iam = HttpStub::start(move |_| response(status, NOW, &body)).await;
        let access = Arc::new(AwsAccess::fixed(&"111122223333".parse().unwrap()));
        let revocations = RoleRevocations::new(access, Some(iam.origin().to_owned()));
        (iam, revocations)
    }

    #[tokio::test]
    async fn sessions_that_may_be_older_than_the_revocation_are_refused() {
        // A-36: for as long as a session of before can live.
        let (iam, revocations) = asking(200, revoked_at(NOW - 60)).await;
        let caller: CallerArn = SESSION.parse().unwrap();
        let refused = revocations.check(&caller, NOW).await;
        assert!(
            matches!(refused, Err(AuthnError::Refused(Refusal::RoleRevoked))),
            "{refused:?}"
        );
        assert!(
            revocations
                .check(&caller, NOW - 60 + MAX_SESSION - 1)
                .await
                .is_err()
        );
        assert!(
            revocations
                .check(&caller, NOW - 60 + MAX_SESSION)
                .await
                .is_ok()
        );
        let sent = iam.received();
        assert!(
            sent[0].body.contains("RoleName=Dev")
                && sent[0].body.contains("PolicyName=AWSRevokeOlderSessions")
        );
        assert_eq!(sent[0].header("host").unwrap(), "iam.amazonaws.com");
    }

    #[tokio::test]
    async fn what_iam_does_not_say_is_no_leave() {
        for (status, body) in [
            (403, error("AccessDenied")),
            (500, error("NoSuchEntity-not")),
            (200, "<x/>".to_owned()),
            (
                200,
                "<a><PolicyDocument>%7B%7D</PolicyDocument></a>".to_owned(),
            ),
        ] {
            let (_iam, revocations) = asking(status, body).await;
            let answer = revocations.check(&SESSION.parse().unwrap(), NOW).await;
            assert!(
                matches!(answer, Err(AuthnError::StsUnavailable(_))),
                "{status} {answer:?}"
            );
        }
        let (_iam, revocations) = asking(404, error("NoSuchEntity")).await;
        let elsewhere = "arn:aws:sts::999922223333:assumed-role/Dev/alice"
            .parse()
            .unwrap();
        assert!(
            revocations.check(&elsewhere, NOW).await.is_err(),
            "no credentials for that account"
        );
    }

    #[tokio::test]
    async fn iam_is_asked_once_a_minute_for_each_role_and_never_for_users() {
        let (iam, revocations) = asking(404, error("NoSuchEntity")).await;
        let caller: CallerArn = SESSION.parse().unwrap();
        for later in [0, 1, 59] {
            revocations.check(&caller, NOW + later).await.unwrap();
        }
        assert_eq!(iam.received().len(), 1);
        iam.answer_with(|_| response(200, NOW, &revoked_at(NOW + 30)));
        assert!(revocations.check(&caller, NOW + 60).await.is_err());
        let user = "arn:aws:iam::111122223333:user/alice".parse().unwrap();
        revocations.check(&user, NOW).await.unwrap();
        assert_eq!(iam.received().len(), 2);
    }

    #[test]
    fn a_revocation_that_is_not_understood_is_none() {
        for bad in [
            "",
            "{}",
            "%7B",
            r#"{"Statement":[{"Effect":"Allow","Condition":{"DateLessThan":{"aws:TokenIssueTime":"2026-01-01T00:00:00Z"}}}]}"#,
            r#"{"Statement":[{"Effect":"Deny","Condition":{"DateLessThan":{"aws:TokenIssueTime":"soon"}}}]}"#,
            r#"{"Statement":[{"Effect":"Deny"}]}"#,
        ] {
            assert_eq!(revoked_before(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_latest_moment_of_a_revocation_counts() {
        // A-36, as IAM writes and encodes it.
        let statement = |moment: &str| {
            format!(
                r#"{{"Effect":"Deny","Action":["*"],"Resource":["*"],"Condition":{{"DateLessThan":{{"aws:TokenIssueTime":"{moment}"}}}}}}"#
            )
        };
        let document = format!(
            r#"{{"Version":"2012-10-17","Statement":[{},{}]}}"#,
            statement("1970-01-01T00:00:10.500Z"),
            statement("1970-01-01T00:01:00.000Z")
        );
        assert_eq!(revoked_before(&document), Some(60));
        let encoded: String = document.bytes().map(|b| format!("%{b:02X}")).collect();
        assert_eq!(revoked_before(&encoded), Some(60));
    }
}
