//! AWS credentials of the lab's users and sessions.

use std::fmt;

/// An access key, of a user or of a session.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// `AKIA…` or `ASIA…`.
    pub access_key_id: String,
    /// The secret half.
    pub secret_access_key: String,
    /// Present for sessions.
    pub session_token: Option<String>,
}

impl Credentials {
    /// The variables by which AWS programs take them.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        let token = self
            .session_token
            .clone()
            .map(|token| ("AWS_SESSION_TOKEN", token));
        [
            ("AWS_ACCESS_KEY_ID", self.access_key_id.clone()),
            ("AWS_SECRET_ACCESS_KEY", self.secret_access_key.clone()),
        ]
        .into_iter()
        .chain(token)
        .collect()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.access_key_id)
    }
}
