//! Whether this host's own certificate is revoked, by the list that sshd reads and by the installed bundle's.
//! The service and its root helper ask here, so that they are of one opinion. Logins are sshd's to judge, not ours.

use eic_protocol::trust::state::TrustState;
use ssh_key::Certificate;

use crate::config::Trust;
use crate::trust_store;
use crate::trusted_file::Trusted;

/// Whether one of the lists names the certificate, its key or its CA. sshd's file may be newer than the bundle, and
/// lacks fingerprints where sshd is older than 7.9.
pub(crate) fn is_revoked(
    certificate: &Certificate,
    state: &TrustState,
    trust: &Trust,
    trusted: &Trusted,
) -> bool {
    let bundle = state.bundle().map(|bundle| &bundle.document.revocations);
    let bundles = bundle.and_then(|list| list.read().ok());
    let lists = [bundles, trust_store::installed_list(&trust.state, trusted)];
    let mut lists = lists.into_iter().flatten();
    lists.any(|list| list.is_revoked(certificate))
}
