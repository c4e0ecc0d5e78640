//! Trust that travels: what is revoked, exchanged, lost or damaged at the CA reaches live hosts with `eic-agent run`,
//! and people who log in meanwhile notice nothing but what was meant.
//!
//! Short forms run with `make test`; the `#[ignore]`d long ones with `make soak`.

mod company;
mod compromise;
mod endorsed;
mod failover;
mod faults;
mod replacements;
mod revocation;
mod rotation;
mod traffic;
mod web_folder;
