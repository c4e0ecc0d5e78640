//! Is it that host? What a host shows is verified here and compared with what AWS says of it, until there is
//! [`HostEvidence`](evidence::HostEvidence) or a reason why not; and what its keys still need is decided.
//!
//! It issues nothing, stores nothing and knows nothing of HTTP: `app::hosts` walks the line
//! `evidence → need → record → certificate`.

pub mod aws_look_up;
mod ber;
pub mod console;
pub mod enrolment;
pub mod evidence;
pub mod identity_document;
pub mod region_certificates;
pub mod role_trust;
pub mod signed_data;
pub mod web_identity;

pub use crate::web_token::{jwt, key_sets};
