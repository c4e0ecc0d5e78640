//! The policy engine: IAM JSON policy documents, evaluated as AWS documents it.
//!
//! A statement written for EC2 Instance Connect works for certificates.
//! The differences from AWS are these, and no others:
//! - an OS user with uid 0 must be named literally by the Allow;
//! - a key that the caller's proof cannot carry is *unknowable*: a statement that turns on it never allows
//!   and always denies;
//! - an attached identity policy reaches the principal's own account and the accounts that its attachment lists, and
//!   the CA itself only where it names an action of `eic:`;
//! - a negated operator in an Allow needs the key to be present (or `…IfExists`);
//! - root and federated users need a statement that names their type, and a whole account a setting.
//!
//! It knows neither HTTP nor the store, reads no clock, and changes nothing:
//! [`PolicyStore`] swaps whole sets, [`evaluate`] is a function of a set and a request.

mod action;
mod caller;
mod check;
mod condition;
mod date;
mod decision;
mod document;
mod evaluate;
mod explain;
mod extension;
mod glob;
mod hint;
pub(crate) mod json;
mod key;
mod network;
mod number;
mod operator;
mod principal;
mod request;
mod resource;
mod set;
mod settings;
mod statement;
mod store;
mod template;
mod truth;
mod value;

pub use action::Action;
pub use caller::{Caller, HiddenClaims};
pub use check::{Finding, Severity, check};
pub use decision::{Decision, Denial, DenialKind, Permit, UNIFORM_DENIAL};
pub use document::{LoadError, Unread, UnreadReason};
pub use evaluate::{Reach, concerns, evaluate, reach};
pub use explain::{ElementReport, Explanation, StatementReport, explain};
pub use extension::ExtensionSet;
pub use hint::{Hint, Need};
pub use key::Proof;
pub use network::{Cidr, InvalidCidr, NatRule, Source};
pub use request::{Asked, Claims, Fact, Request, Resource, Tags, Tunnel};
pub use set::{AttachedPrincipal, Attachment, PolicyDigest, PolicySet, Sources};
pub use settings::{Lifetime, Settings};
pub use statement::{Effect, StatementId};
pub use store::{PolicySnapshot, PolicyStore, Reloaded};
pub use truth::Truth;

#[cfg(test)]
mod tests;
