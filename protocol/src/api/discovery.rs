//! `GET /.well-known/eic`: what a client must know before it asks for anything.
//! Nothing in it is trusted by itself: the root document counts by its pinned fingerprint,
//! and the audience is the URL that the user gave, never one from here.

use serde::{Deserialize, Serialize};

use crate::arn::AccountId;
use crate::trust::envelope::Envelope;
use crate::version::VersionRange;

/// The discovery document. Unknown members are ignored: newer servers may say more.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Discovery {
    /// Name and version of the server.
    pub server: String,
    /// Protocol versions that it serves.
    pub protocol: VersionRange,
    /// Ways to prove an identity, best first.
    pub auth: Vec<AuthMethod>,
    /// The signed root document: CA keys with their scopes.
    pub root: Envelope,
    /// Whether a grant serves several requests.
    pub sessions: SessionMode,
    /// The trust bundle's sequence, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle_sequence: Option<u64>,
}

/// A way to prove an identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum AuthMethod {
    /// A signed sts:GetCallerIdentity.
    AwsSts {
        /// Accounts whose identities are accepted; empty: policy alone decides.
        accounts: Vec<AccountId>,
        /// Accounts of which a token of sts:GetWebIdentityToken is taken, and may be demanded, beside it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        web_identity: Vec<AccountId>,
    },
    /// A token of one of these issuers, for this CA's URL as its audience.
    Oidc {
        /// `iss`, exactly.
        issuers: Vec<String>,
    },
    /// A method of a newer server.
    #[serde(other)]
    Unknown,
}

/// Whether a grant serves several requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionMode {
    /// Until it ends.
    On,
    /// One request.
    Off,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_of_newer_and_older_servers_are_read() {
        let read = |text: &str| serde_json::from_str::<AuthMethod>(text).unwrap();
        assert_eq!(read(r#"{"type":"passkey","x":1}"#), AuthMethod::Unknown);
        assert!(matches!(
            read(r#"{"type":"aws-sts","accounts":[]}"#),
            AuthMethod::AwsSts { web_identity, .. } if web_identity.is_empty()
        ));
        assert!(matches!(
            read(r#"{"type":"oidc","issuers":["https://i.example"],"new":1}"#),
            AuthMethod::Oidc { issuers } if issuers == ["https://i.example"]
        ));
    }
}
