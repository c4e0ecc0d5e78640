//! The trust bundle: made from the store, signed, and kept in memory as it is answered.
//!
//! 1. [`Press`] makes an [`Edition`]: the list of what is revoked, pruned and merged, its numbers durable
//!    before anybody sees them, signed by the bundle key.
//! 2. An [`Edition`] answers every host: roots and bundle once for all, the host's view behind them.
//! 3. [`HostViews`] remembers the latest signed view of each host.
//!
//! When a new edition is due is decided in `app::trust_bundle`; HTTP's forms are `http`'s.

mod edition;
mod press;
pub mod publication;
pub mod shares;
mod views;

pub use edition::{Answer, Edition, SealedView};
pub use press::{BundleError, Press, first_bundle_with_all};
pub use views::{HostFacts, HostViews};
