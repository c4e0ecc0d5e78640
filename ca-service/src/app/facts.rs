//! Policy's facts about a request: what the proof shows, what it cannot show, what the inventory and the
//! network say. Nothing here comes from the request except the choices that policy knows as such.

use eic_protocol::api::certificate::UserCertificateRequest;
use eic_protocol::api::session::NameStanding;
use eic_protocol::arn::CallerArn;
use eic_protocol::fleet::FleetName;
use eic_protocol::os_user::OsUser;

use crate::caller::Caller;
use crate::http::context::Context;
use crate::inventory::InstanceRecord;
use crate::policy::{self, Action, Asked, Cidr, Fact, NatRule, Request, Resource, Source};

/// The caller and his circumstances: the same for every resource of one request.
pub(crate) struct Facts {
    caller: policy::Caller,
    source: Source,
    secure: bool,
    now: u64,
}

impl Facts {
    /// Of an authenticated request.
    pub(crate) fn of(caller: &Caller, context: &Context, nat: &[NatRule]) -> Self {
        Self {
            caller: policy_caller(caller),
            // The control plane's address; it never becomes `source-address` by itself.
            source: Source::of(context.source, nat),
            secure: context.secure,
            now: context.now,
        }
    }

    /// As policy knows him.
    pub(crate) fn caller(&self) -> &policy::Caller {
        &self.caller
    }

    /// One question.
    pub(crate) fn request<'a>(
        &'a self,
        action: Action,
        resource: &'a Resource<'a>,
        asked: &'a Asked<'a>,
    ) -> Request<'a> {
        Request {
            caller: &self.caller,
            action,
            resource,
            asked,
            source: self.source,
            secure_transport: self.secure,
            now: self.now,
        }
    }
}

fn policy_caller(caller: &Caller) -> policy::Caller {
    match (caller.arn(), caller.oidc()) {
        (Some(arn), _) => aws_caller(caller, arn),
        (None, Some(identity)) => {
            let (issuer, claims) = (identity.issuer.as_str(), &identity.claims);
            policy::Caller::oidc(issuer, &identity.subject, claims.told().clone())
                .with_hidden_claims(claims.hidden())
        }
        // Nobody is neither; such a one would match no principal.
        (None, None) => policy::Caller::oidc("", "", policy::Claims::new()),
    }
}

/// GetCallerIdentity shows neither tags nor MFA, organization, token time or role path: these stay unknowable,
/// but for what a web identity token told. Of a long-term key AWS itself knows no MFA and no token, so there they
/// are absent.
fn aws_caller(caller: &Caller, arn: &CallerArn) -> policy::Caller {
    let attested = caller.standing() == NameStanding::Attested;
    let shown = caller.web_identity();
    let role_path = shown.and_then(|shown| shown.role_path.as_deref());
    let mut known = policy::Caller::aws(arn.clone(), caller.user_id(), role_path, attested);
    if let Some(shown) = shown {
        known = known.with_organization(
            shown
                .organization
                .clone()
                .map_or(Fact::Absent, Fact::Present),
        );
        if let Some(tags) = &shown.tags {
            known = known.with_principal_tags(tags.clone());
        }
    }
    if caller.has_long_term_key() {
        known.with_long_term_key()
    } else {
        known
    }
}

/// A host as a resource, with the tags that the inventory read.
pub(crate) fn resource(record: &InstanceRecord) -> Resource<'_> {
    let partition = record.region().partition();
    Resource::instance(
        partition,
        record.region().as_str(),
        record.account(),
        record.id(),
        Fact::Present(record.tags()),
    )
}

/// What a certificate request chooses, in the form that policy reads; it owns what [`Asked`] borrows.
pub(crate) struct Choices<'r> {
    request: &'r UserCertificateRequest,
    sources: Vec<Cidr>,
    key_type: String,
    extensions: Option<policy::ExtensionSet>,
}

impl<'r> Choices<'r> {
    /// Of this request; none where policy cannot compare a source address.
    pub(crate) fn of(request: &'r UserCertificateRequest) -> Option<Self> {
        let blocks = request
            .source_addresses
            .iter()
            .flat_map(|blocks| blocks.iter());
        let extensions = request
            .extensions
            .as_ref()
            .map(|wanted| wanted.iter().copied().collect());
        Some(Self {
            request,
            sources: blocks
                .map(|block| block.parse().ok())
                .collect::<Option<_>>()?,
            key_type: request.public_key.algorithm_name(),
            extensions,
        })
    }

    /// For policy. `user` and `fleet` are those of the scope.
    pub(crate) fn asked<'a>(&'a self, user: &'a OsUser, fleet: Option<&'a FleetName>) -> Asked<'a> {
        Asked {
            os_user: Some(user),
            ttl_seconds: self.request.ttl_seconds,
            extensions: self.extensions,
            force_command: self
                .request
                .force_command
                .as_ref()
                .map(|command| command.as_str()),
            source_address: &self.sources,
            fleet,
            reason: self.request.reason.as_ref().map(|reason| reason.as_str()),
            approved_by: None,
            key_type: Some(&self.key_type),
            tunnel: None,
        }
    }
}

#[cfg(test)]
mod tests;
