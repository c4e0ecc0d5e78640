//! `POST /v1/sessions`: an identity proof in, a session grant out.

use serde::{Deserialize, Serialize};

use crate::arn::CallerArn;
use crate::base64_text::Base64Bytes;
use crate::grant::{GrantToken, Nonce};
use crate::proof::aws_sts::AwsStsProof;
use crate::proof::oidc::{AwsWebIdentityProof, IdToken, OidcProof, token_digest};
use crate::proof::{Audience, CanonicalRequest, Fields, Route, Signed};
use crate::request_id::RequestId;
use crate::subject_key::SubjectKey;

/// Asks for a grant that is bound to `public_key`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionRequest {
    /// Protocol version that the client speaks.
    pub protocol: u32,
    /// The key that all further requests are signed by, and that gets certified.
    pub public_key: SubjectKey,
    /// Makes two requests of one second different.
    pub nonce: Nonce,
    /// Who the caller is.
    pub proof: Proof,
    /// SSHSIG by `public_key` over the canonical request (namespace `eic-request-v1`).
    pub key_signature: Base64Bytes,
}

/// The identity proof, one member named for its kind.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Proof {
    /// A signed sts:GetCallerIdentity.
    AwsSts(AwsStsProof),
    /// The same, with a token of sts:GetWebIdentityToken of the same principal.
    AwsWebIdentity(AwsWebIdentityProof),
    /// A token of an OpenID Connect issuer.
    Oidc(OidcProof),
}

impl Proof {
    /// The kind as in JSON.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::AwsSts(_) => "aws-sts",
            Self::AwsWebIdentity(_) => "aws-web-identity",
            Self::Oidc(_) => "oidc",
        }
    }

    /// The part that is AWS's.
    #[must_use]
    pub fn sts(&self) -> Option<&AwsStsProof> {
        match self {
            Self::AwsSts(sts) | Self::AwsWebIdentity(AwsWebIdentityProof { sts, .. }) => Some(sts),
            Self::Oidc(_) => None,
        }
    }

    /// The token, where there is one.
    #[must_use]
    pub fn token(&self) -> Option<&IdToken> {
        match self {
            Self::AwsSts(_) => None,
            Self::AwsWebIdentity(AwsWebIdentityProof { token, .. })
            | Self::Oidc(OidcProof { token }) => Some(token),
        }
    }
}

/// The part of a [`SessionRequest`] that is signed: all but the signatures themselves.
#[derive(Clone, Copy, Debug)]
pub struct SessionBinding<'a> {
    /// [`SessionRequest::protocol`]
    pub protocol: u32,
    /// [`SessionRequest::public_key`]
    pub public_key: &'a SubjectKey,
    /// [`SessionRequest::nonce`]
    pub nonce: &'a Nonce,
}

impl SessionRequest {
    /// What is signed.
    #[must_use]
    pub fn binding(&self) -> SessionBinding<'_> {
        SessionBinding {
            protocol: self.protocol,
            public_key: &self.public_key,
            nonce: &self.nonce,
        }
    }

    /// The bytes that `public_key` signs, for this audience.
    #[must_use]
    pub fn canonical(&self, audience: &Audience) -> CanonicalRequest {
        let binding = self.binding();
        match self.proof.token() {
            None => CanonicalRequest::of(audience, &binding),
            Some(token) => CanonicalRequest::of(audience, &TokenBinding { binding, token }),
        }
    }
}

/// A [`SessionBinding`] with a token, whose hash is signed too: another token is another request.
#[derive(Clone, Copy, Debug)]
pub struct TokenBinding<'a> {
    /// Key and nonce.
    pub binding: SessionBinding<'a>,
    /// The token that is sent with them.
    pub token: &'a IdToken,
}

impl Signed for TokenBinding<'_> {
    const ROUTE: Route = Route::Sessions;

    fn fields(&self, fields: &mut Fields) {
        self.binding.fields(fields);
        fields.required(token_digest(self.token));
    }
}

impl Signed for SessionBinding<'_> {
    const ROUTE: Route = Route::Sessions;

    fn fields(&self, fields: &mut Fields) {
        fields
            .required(self.protocol.to_be_bytes())
            .required(self.public_key.blob())
            .required(self.nonce.as_bytes());
    }
}

/// A grant and whom it names.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionResponse {
    /// Sent back with each further request.
    pub grant: GrantToken,
    /// When the grant ends, in Unix seconds.
    pub expires_at: u64,
    /// Who the CA says the caller is.
    pub caller: CallerView,
    /// The CA's clock, in Unix seconds.
    pub server_time: u64,
    /// The request's id, as in the audit.
    pub request_id: RequestId,
}

/// A caller as shown to himself and in the audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallerView {
    /// The ARN that STS answered; absent for a caller without an AWS identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arn: Option<CallerArn>,
    /// The issuer of the token, for a caller without an AWS identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The unique id that STS answered, or `issuer:audience:subject`.
    pub user_id: String,
    /// The human-readable name within the ARN, or the token's subject.
    pub name: String,
    /// Whether somebody other than the caller vouches for the name.
    pub name_standing: NameStanding,
}

impl CallerView {
    /// Who it is in one text, as the audit and `eic-ca revoke caller` have it: the ARN, or `issuer#subject`.
    #[must_use]
    pub fn identity(&self) -> String {
        match (&self.arn, &self.issuer) {
            (Some(arn), _) => arn.to_string(),
            (None, Some(issuer)) => format!("{issuer}#{}", self.name),
            (None, None) => self.user_id.clone(),
        }
    }
}

/// Session names are chosen by the caller unless something pins them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NameStanding {
    /// An IAM user, an SSO role, an instance, a trust policy that pins the session name, an issuer's subject.
    Attested,
    /// The caller's own choice.
    Claimed,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(proof: &str) -> SessionRequest {
        let key =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKNuPrbMfSDEwKHIeOHeJOVY7tZ6b3vXv7Y1xqVrCg3w";
        let text = format!(
            r#"{{"protocol":1,"public_key":"{key}","nonce":"{}","proof":{proof},"key_signature":"AAAA"}}"#,
            "00".repeat(16)
        );
        serde_json::from_str(&text).unwrap()
    }

    const STS: &str = r#"{"region":"eu-west-1","access_key_id":"AKIAIOSFODNN7EXAMPLE","date":"20261122T013000Z","signature":"0000000000000000000000000000000000000000000000000000000000000000"}"#;

    #[test]
    fn another_token_or_none_is_another_request() {
        // A-16, D-15: a key's signature for one token never serves another.
        let audience: Audience = "https://ca.example".parse().unwrap();
        let digest = |proof: &str| request(proof).canonical(&audience).digest().to_hex();
        let digests = [
            digest(&format!(r#"{{"aws-sts":{STS}}}"#)),
            digest(r#"{"oidc":{"token":"a.b.c"}}"#),
            digest(r#"{"oidc":{"token":"a.b.d"}}"#),
        ];
        assert!(
            digests[0] != digests[1] && digests[1] != digests[2],
            "{digests:?}"
        );
    }

    #[test]
    fn a_request_without_a_token_is_signed_as_ever() {
        let audience: Audience = "https://ca.example".parse().unwrap();
        let plain = request(&format!(r#"{{"aws-sts":{STS}}}"#));
        assert_eq!(
            plain.canonical(&audience).digest(),
            CanonicalRequest::of(&audience, &plain.binding()).digest()
        );
    }

    #[test]
    fn two_proofs_or_members_beyond_a_token_are_refused_and_tokens_are_not_shown() {
        // B-26, G-11
        for bad in [
            r#"{"oidc":{}}"#,
            r#"{"oidc":{"token":"a.b"}}"#,
            r#"{"oidc":{"token":"a.b.c","issuer":"x"}}"#,
            r#"{"oidc":{"token":"a.b.c","token":"a.b.c"}}"#,
            r#"{"oidc":{"token":"a.b.c"},"oidc":{"token":"a.b.c"}}"#,
            r#"{"oidc":{"token":{"payload":"b","signatures":[]}}}"#,
        ] {
            assert!(serde_json::from_str::<Proof>(bad).is_err(), "{bad}");
        }
        let shown = format!("{:?}", request(r#"{"oidc":{"token":"a.canary.c"}}"#));
        assert!(!shown.contains("canary"), "{shown}");
    }

    #[test]
    fn a_caller_of_an_older_ca_reads_as_ever_and_each_has_one_name() {
        let old = r#"{"arn":"arn:aws:iam::111122223333:user/bob","user_id":"AIDA","name":"bob","name_standing":"attested"}"#;
        let view: CallerView = serde_json::from_str(old).unwrap();
        assert_eq!(view.identity(), "arn:aws:iam::111122223333:user/bob");
        assert_eq!(serde_json::to_string(&view).unwrap(), old);
        let job = r#"{"issuer":"https://i.example","user_id":"i.example:a:s","name":"s","name_standing":"attested"}"#;
        let view: CallerView = serde_json::from_str(job).unwrap();
        assert_eq!(view.identity(), "https://i.example#s");
    }
}
