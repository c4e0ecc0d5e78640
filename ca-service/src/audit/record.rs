//! An audit record with CloudTrail's field names (AWS CloudTrail user guide, "CloudTrail record contents"),
//! so that what reads CloudTrail reads these. A field is null only where `nullReasons` says why.

use std::collections::BTreeMap;
use std::net::IpAddr;

use eic_protocol::api::session::NameStanding;
use eic_protocol::arn::{CallerArn, Identity};
use eic_protocol::request_id::RequestId;
use serde::Serialize;
use serde_json::Value;

use super::event::{Actor, Event, EventError, EventName, HostActor, Operator, Origin};
use super::json;
use crate::caller::Caller;
use crate::issuance::{Kind, Meaning};
use crate::moment;
use crate::random::{self, NoEntropy};
use crate::store::write::AuditEntry;

/// Version of this record form; it grows when a field changes its meaning.
const EVENT_VERSION: &str = "1.0";

/// What every record has.
struct Subject<'a> {
    name: EventName,
    actor: &'a Actor,
    origin: &'a Origin,
    request_id: RequestId,
    region: Option<&'a str>,
    account: Option<&'a str>,
    error: Option<&'a EventError>,
}

/// The bytes of an event's record. `now` is in Unix seconds.
///
/// # Errors
/// [`RecordFailure`].
pub(crate) fn of_event(event: &Event, now: u64) -> Result<AuditEntry, RecordFailure> {
    let subject = Subject {
        name: event.name,
        actor: &event.actor,
        origin: &event.origin,
        request_id: event.request_id,
        region: event.region.map(|r| r.as_str()),
        account: event.account.as_ref().map(|a| a.as_str()),
        error: event.error.as_ref(),
    };
    let parameters = event.parameters.as_ref().map(bounded);
    let response = event.response.as_ref().map(bounded);
    let additional = event.additional.as_ref().map(bounded);
    of(
        &subject,
        parameters.as_ref(),
        response.as_ref(),
        additional.as_ref(),
        now,
    )
}

/// The bytes of an issuance's record; with `error`: of its failure.
///
/// # Errors
/// [`RecordFailure`].
pub(crate) fn of_issuance<K: Kind>(
    meaning: &Meaning<K>,
    origin: &Origin,
    error: Option<&EventError>,
    now: u64,
) -> Result<AuditEntry, RecordFailure> {
    let subject = Subject {
        name: K::EVENT,
        actor: meaning.actor(),
        origin,
        request_id: meaning.request_id(),
        region: meaning.region(),
        account: meaning.account(),
        error,
    };
    let response = meaning.response();
    of(
        &subject,
        Some(meaning.parameters()),
        Some(&response),
        Some(&meaning.additional()),
        now,
    )
}

/// The bytes of a record with these typed parts.
///
/// # Errors
/// [`RecordFailure`].
fn of<P: Serialize, R: Serialize, A: Serialize>(
    subject: &Subject<'_>,
    parameters: Option<&P>,
    response: Option<&R>,
    additional: Option<&A>,
    now: u64,
) -> Result<AuditEntry, RecordFailure> {
    let account = subject.account.or_else(|| actors_account(subject.actor));
    let record = Record {
        event_version: EVENT_VERSION,
        event_id: random::uuid()?,
        event_type: event_type(subject.actor),
        event_time: moment::rfc3339(now),
        event_source: "eic",
        event_name: subject.name.as_str(),
        aws_region: subject.region,
        recipient_account_id: account,
        user_identity: UserIdentity::of(subject.actor),
        source_ip_address: subject.origin.source,
        user_agent: subject.origin.user_agent.as_deref().map(json::bounded),
        request_parameters: parameters,
        response_elements: response,
        error_code: subject.error.map(|e| json::bounded(&e.code)),
        error_message: subject.error.map(|e| json::bounded(&e.message)),
        request_id: subject.request_id,
        additional_event_data: Additional {
            event: additional,
            null_reasons: null_reasons(subject, account, parameters.is_none(), response.is_none()),
        },
    };
    Ok(AuditEntry {
        time: now,
        json: json::line(&record)?,
    })
}

fn event_type(actor: &Actor) -> &'static str {
    match actor {
        Actor::Caller(_) | Actor::Host(_) | Actor::Unproven { .. } => "EicApiCall",
        Actor::Operator(_) => "EicOperatorAction",
        Actor::Service => "EicServiceEvent",
    }
}

fn actors_account(actor: &Actor) -> Option<&str> {
    match actor {
        Actor::Caller(caller) => Some(caller.account()?.as_str()),
        Actor::Host(host) => Some(host.account.as_str()),
        _ => None,
    }
}

fn null_reasons(
    subject: &Subject<'_>,
    account: Option<&str>,
    no_parameters: bool,
    no_response: bool,
) -> BTreeMap<&'static str, &'static str> {
    let local = matches!(subject.actor, Actor::Operator(_) | Actor::Service);
    let absent = [
        (
            "awsRegion",
            subject.region.is_none(),
            "no AWS resource is named",
        ),
        (
            "recipientAccountId",
            account.is_none(),
            "no AWS account is known",
        ),
        (
            "sourceIPAddress",
            subject.origin.source.is_none(),
            "not a request over the network",
        ),
        (
            "userAgent",
            subject.origin.user_agent.is_none(),
            if local {
                "not a request over the network"
            } else {
                "the client sent none"
            },
        ),
        ("requestParameters", no_parameters, "the event has none"),
        (
            "responseElements",
            no_response,
            if subject.error.is_some() {
                "it was refused"
            } else {
                "the event has none"
            },
        ),
    ];
    absent
        .into_iter()
        .filter(|(_, null, _)| *null)
        .map(|(field, _, reason)| (field, reason))
        .collect()
}

/// Every text of a value cut to its bound, and members that are null left out: what was not given
/// is absent. The number of members is bounded by the requests that they come from.
fn bounded(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(json::bounded(text)),
        Value::Array(items) => Value::Array(items.iter().map(bounded).collect()),
        Value::Object(members) => {
            let given = members.iter().filter(|(_, value)| !value.is_null());
            Value::Object(
                given
                    .map(|(name, value)| (json::bounded(name), bounded(value)))
                    .collect(),
            )
        }
        other => other.clone(),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a, P: Serialize, R: Serialize, A: Serialize> {
    event_version: &'static str,
    #[serde(rename = "eventID")]
    event_id: String,
    event_type: &'static str,
    event_time: String,
    event_source: &'static str,
    event_name: &'static str,
    aws_region: Option<&'a str>,
    recipient_account_id: Option<&'a str>,
    user_identity: UserIdentity<'a>,
    #[serde(rename = "sourceIPAddress")]
    source_ip_address: Option<IpAddr>,
    user_agent: Option<String>,
    request_parameters: Option<&'a P>,
    response_elements: Option<&'a R>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_message: Option<String>,
    #[serde(rename = "requestID")]
    request_id: RequestId,
    additional_event_data: Additional<'a, A>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Additional<'a, A: Serialize> {
    #[serde(flatten)]
    event: Option<&'a A>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    null_reasons: BTreeMap<&'static str, &'static str>,
}

/// CloudTrail's `userIdentity`, plus whether somebody other than the caller vouches for the name.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct UserIdentity<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_key_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity_provider: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_context: Option<SessionContext<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_standing: Option<NameStanding>,
    #[serde(skip_serializing_if = "Option::is_none", rename = "sessionRequestID")]
    session_request_id: Option<RequestId>,
}

/// What GetCallerIdentity lets know of a role session. The role's ARN is left out: its path is not known.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SessionContext<'a> {
    session_issuer: SessionIssuer<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SessionIssuer<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    principal_id: &'a str,
    account_id: &'a str,
    user_name: &'a str,
}

impl<'a> UserIdentity<'a> {
    fn of(actor: &'a Actor) -> Self {
        match actor {
            Actor::Caller(caller) => Self::of_caller(caller),
            Actor::Host(host) => Self::of_host(host),
            Actor::Operator(operator) => Self::of_operator(operator),
            Actor::Service => Self::nobody("Service"),
            Actor::Unproven { access_key_id } => {
                let access_key_id = access_key_id.as_deref().map(json::bounded);
                Self {
                    access_key_id,
                    ..Self::nobody("Unknown")
                }
            }
        }
    }

    fn of_caller(caller: &'a Caller) -> Self {
        let arn = caller.arn();
        Self {
            kind: arn.map_or("WebIdentityUser", |arn| identity_type(arn.identity())),
            principal_id: Some(caller.user_id().to_owned()),
            arn: arn.map(ToString::to_string),
            account_id: caller.account().map(|account| account.as_str()),
            access_key_id: caller.access_key_id().map(|id| id.as_str().to_owned()),
            user_name: arn.map_or_else(
                || Some(caller.name().to_owned()),
                |arn| user_name(arn.identity()),
            ),
            identity_provider: caller.oidc().map(|identity| identity.issuer.provider()),
            session_context: arn.and_then(|arn| session_context(caller, arn)),
            name_standing: Some(caller.standing()),
            session_request_id: Some(caller.session_id()),
        }
    }

    fn of_host(host: &'a HostActor) -> Self {
        Self {
            principal_id: Some(host.instance.to_string()),
            arn: host.arn.as_deref().map(json::bounded),
            account_id: Some(host.account.as_str()),
            ..Self::nobody("Host")
        }
    }

    fn of_operator(operator: &Operator) -> Self {
        let principal_id = Some(format!("uid:{}", operator.uid));
        Self {
            principal_id,
            user_name: operator.name.as_deref().map(json::bounded),
            ..Self::nobody("LocalOperator")
        }
    }

    fn nobody(kind: &'static str) -> Self {
        Self {
            kind,
            principal_id: None,
            arn: None,
            account_id: None,
            access_key_id: None,
            user_name: None,
            identity_provider: None,
            session_context: None,
            name_standing: None,
            session_request_id: None,
        }
    }
}

/// CloudTrail's names for the kinds of identity.
fn identity_type(identity: &Identity) -> &'static str {
    match identity {
        Identity::Root => "Root",
        Identity::User { .. } => "IAMUser",
        Identity::AssumedRole { .. } => "AssumedRole",
        Identity::FederatedUser { .. } => "FederatedUser",
    }
}

/// CloudTrail gives `userName` for IAM users and web identities; a session's name is in its ARN and principal id.
fn user_name(identity: &Identity) -> Option<String> {
    match identity {
        Identity::User { name, .. } => Some(name.clone()),
        _ => None,
    }
}

fn session_context<'a>(caller: &'a Caller, arn: &'a CallerArn) -> Option<SessionContext<'a>> {
    let Identity::AssumedRole { role, .. } = arn.identity() else {
        return None;
    };
    let principal_id = caller
        .user_id()
        .split_once(':')
        .map_or(caller.user_id(), |(id, _)| id);
    let account_id = arn.account().as_str();
    Some(SessionContext {
        session_issuer: SessionIssuer {
            kind: "Role",
            principal_id,
            account_id,
            user_name: role,
        },
    })
}

/// A record could not be made; nothing is issued without one.
#[derive(Debug, thiserror::Error)]
pub enum RecordFailure {
    /// No event id.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// Not JSON.
    #[error("write the audit record: {0}")]
    Json(#[from] serde_json::Error),
}
