//! Which AWS credentials, or which ID token, a command means, and how they are obtained.
//!
//! The caller's environment names them ([`Selection`]); a short-lived child process whose environment is
//! exactly that selection resolves them ([`resolve_in_child`]), so that the resident agent never reads `AWS_*` of its own.

mod child;
mod id_token;
mod printed;
mod remedy;
mod resolve;
mod selection;

pub(crate) use child::PROXIED;
pub use child::{CredentialsError, Resolved, resolve_in_child};
pub use id_token::{IdTokenConfig, TokenError, TokenSource};
pub use resolve::answer_parent;
pub use selection::{Selection, SelectionId};
