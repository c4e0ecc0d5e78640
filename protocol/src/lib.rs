//! `eic-protocol`: what two of {CA, client, agent} must agree on.
//!
//! Names and their grammars, the API's request and response types, the identity proof,
//! the certificate encoder with its lint, and the signed trust documents.
//! It holds no network, no clock, no database and no private key: time is an argument,
//! signatures come from outside as bytes.

pub mod api;
pub mod arn;
pub mod aws_region;
pub mod base64_text;
pub mod cert;
pub mod fleet;
pub mod grant;
pub mod instance_id;
pub mod key_fingerprint;
pub mod key_id;
pub mod krl;
pub mod os_user;
pub mod principal;
pub mod proof;
pub mod request_id;
pub mod secret;
pub mod serial;
pub mod sshsig;
pub mod subject_key;
pub mod text;
pub mod trust;
pub mod validity;
pub mod version;
pub mod wire;
