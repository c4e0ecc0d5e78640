//! Tokens that others issue: taking them apart, verifying them, and the keys that issuers publish for it.
//! What a verified token means is not decided here: for callers that is `authn`, for hosts `host_identity`.

pub mod claims;
pub mod issuer;
pub mod jwt;
pub mod key_sets;
