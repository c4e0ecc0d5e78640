//! AuthorizedPrincipalsCommand: the names by which a certificate may open an account on this host.
//!
//! The names come from this host's own signed state, for the user and the CA key that sshd names;
//! nothing of the certificate is read, let alone echoed (sshd does not compare the user name itself
//! once this command is configured). No network, no clock of its own, no output on any doubt.

use std::path::Path;

use eic_protocol::key_fingerprint::KeyFingerprint;
use eic_protocol::os_user::OsUser;
use eic_protocol::principal::Principal;
use eic_protocol::trust::root::ScopedCa;

use crate::passwd;
use crate::trust_state::TrustState;
use crate::trusted_file::{Trusted, UntrustedFile};

/// What sshd asks.
#[derive(Clone, Debug)]
pub struct Question {
    /// The account, sshd's `%u`.
    pub user: String,
    /// The CA key's fingerprint, sshd's `%F`.
    pub ca: KeyFingerprint,
}

/// The local facts that are needed besides the signed state.
#[derive(Clone, Debug)]
pub struct Local<'a> {
    /// `/etc/passwd`.
    pub passwd: &'a Path,
    /// Whose files are believed.
    pub trusted: &'a Trusted,
    /// Whether a certificate that names only the user opens this host.
    pub bare_principals: bool,
}

/// The lines for sshd, one name each; empty means that no certificate of this CA opens the account.
///
/// # Errors
/// The password file is needed and cannot be believed.
pub fn lines(
    question: &Question,
    state: &TrustState,
    local: &Local<'_>,
    now: u64,
) -> Result<String, UntrustedFile> {
    // No certificate of ours can name another kind of user.
    let Ok(user) = question.user.parse::<OsUser>() else {
        return Ok(String::new());
    };
    let fingerprint = question.ca.to_string();
    let cas = state
        .user_cas()
        .filter(|ca| ca.key.fingerprint() == fingerprint);
    // A key may have several scopes, each good by itself; a name that two of them give is printed once.
    let mut found: Vec<Principal> = Vec::new();
    for ca in cas {
        // Only a scoped key needs to know who is uid 0.
        let uid0 =
            ca.scope.endorsed && passwd::is_uid0(user.as_str(), local.passwd, local.trusted)?;
        if ca.scope.admits(&user, uid0, now) {
            let names = names(&user, ca, state, local.bare_principals);
            let new = names.into_iter().filter(|name| !found.contains(name));
            found.extend(new.collect::<Vec<_>>());
        }
    }
    Ok(found.iter().map(|name| format!("{name}\n")).collect())
}

/// Their characters are `a-z0-9_.@/-` by type: no `#` at which sshd would cut, no blank before
/// which it would read key options, no CR that it would keep.
fn names(user: &OsUser, ca: &ScopedCa, state: &TrustState, bare: bool) -> Vec<Principal> {
    let fleets = &state.view.fleets;
    // By its own name too, or by another of its fleets: else the mark would protect nothing from a key that leaked.
    if ca.scope.endorsed && fleets.iter().any(|fleet| fleet.kms_only) {
        return Vec::new();
    }
    let mut names = vec![Principal::Target(user.clone(), state.view.instance.clone())];
    names.extend(
        fleets
            .iter()
            .map(|fleet| Principal::Fleet(user.clone(), fleet.name.clone())),
    );
    if bare {
        names.push(Principal::Bare(user.clone()));
    }
    names
}

#[cfg(test)]
mod tests;
