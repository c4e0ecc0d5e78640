//! What `eic-ca keys list` prints: every key of the present root and of the configuration, one a line: its role, its
//! state, and what it does. User CAs come first; the last line tells what exchanges which.

use eic_protocol::subject_key::{CaKey, SubjectKey};
use eic_protocol::trust::root::{KeyState, Root};

use super::{Desk, KeysCommandError};
use crate::command::output::print;
use crate::command::root::state;
use crate::keys::RootHistory;
use crate::moment;
use crate::rotation::{NotYet, standing};
use crate::store::trust::{Endorsed, Signing};

/// What exchanges the keys of each role.
const EXCHANGES: &str = "a user CA is exchanged by `eic-ca keys announce`, `activate` and `retire`; the host CA and the bundle \
     key by a new one in the configuration, `eic-ca root update` and a restart; root keys by `eic-ca root init --root-key`, \
     `sign` and `install`\n";

/// What a key of the root that is no user CA is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Signs host certificates.
    HostCa,
    /// Signs bundles and host views.
    Bundle,
    /// Signs roots.
    Root,
}

impl Role {
    /// That of the key with this fingerprint in any root; none: it has none of these.
    pub(super) fn of(roots: &RootHistory, print: &str) -> Option<Self> {
        roots.iter().find_map(|(root, _)| Self::within(root, print))
    }

    fn within(root: &Root, print: &str) -> Option<Self> {
        let is = |key: &SubjectKey| key.fingerprint() == print;
        let host = root.host_cas.iter().any(|ca| is(ca.key()));
        let bundle = root.bundle_keys.iter().any(is);
        let signs = root.root_keys.iter().any(is);
        [
            (host, Self::HostCa),
            (bundle, Self::Bundle),
            (signs, Self::Root),
        ]
        .into_iter()
        .find_map(|(found, role)| found.then_some(role))
    }

    /// In a sentence.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::HostCa => "a host CA's key",
            Self::Bundle => "a bundle key",
            Self::Root => "a root key",
        }
    }

    /// What to do instead of retiring it.
    pub(super) fn instead(self) -> &'static str {
        match self {
            Self::HostCa => {
                "name a new key as `host_ca`, run `eic-ca root update` and restart the service; where the old one is stolen, end it with `eic-ca revoke ca-key` then (docs/rotation.md, \"A host CA that is stolen\")"
            }
            Self::Bundle => {
                "name a new key as `bundle`, run `eic-ca root update` and restart the service; where the old one is stolen, do so twice (docs/rotation.md, \"Host CA and bundle keys\")"
            }
            Self::Root => {
                "make a root without it with `eic-ca root init --root-key`, `eic-ca root sign` and `eic-ca root install` (docs/rotation.md, \"Roots that several people sign\")"
            }
        }
    }

    fn column(self) -> &'static str {
        match self {
            Self::HostCa => "host CA",
            Self::Bundle => "bundle",
            Self::Root => "root",
        }
    }
}

impl Desk {
    /// Prints all of them.
    pub(super) async fn list(&self) -> Result<(), KeysCommandError> {
        let signing = self.book.signing().await?;
        let signer = self.signer(&signing);
        let root = self.present()?;
        let named = root.user_cas.iter().map(|ca| &ca.key);
        let unnamed = self
            .configured()
            .filter(|key| standing(&self.roots, key).is_none());
        for key in named.chain(unnamed) {
            self.user_ca(key, signer.as_deref(), &signing);
        }
        for key in self.book.endorsed(self.now).await? {
            self.endorsed(&key);
        }
        self.host_cas(root);
        self.bundle_keys(root);
        root_keys(root);
        print(EXCHANGES);
        Ok(())
    }

    fn user_ca(&self, key: &CaKey, signer: Option<&str>, signing: &Signing) {
        let print = key.fingerprint();
        let here = self.configured().any(|ca| ca == key);
        let silent = self.silent.contains(key);
        let word = standing(&self.roots, key).map_or("unannounced", |s| state(s.state));
        let signs = Some(print.as_str()) == signer;
        let may = match self.gate(key, signing) {
            Ok(()) if !here => "not configured here".to_owned(),
            Ok(()) if signs && silent => "is to sign".to_owned(),
            Ok(()) if signs => "signs".to_owned(),
            Ok(()) => "may sign".to_owned(),
            // No spare is missed for a key that was replaced in its time.
            Err(NotYet::Retired) if !here => "hosts trust it no more".to_owned(),
            Err(not_yet) => not_yet.told_at(self.now),
        };
        line(
            &print,
            "user CA",
            word,
            &format!("{may}{}", unheard(silent)),
        );
    }

    /// Which of them a service has in memory is known to that service alone.
    fn endorsed(&self, key: &Endorsed) {
        let (word, state) = match key.known_at.map(|known| known.max(key.signs_from)) {
            _ if key.revoked => ("revoked", "signs nothing".to_owned()),
            None => ("announced", "in no bundle yet".to_owned()),
            Some(from) if self.now < from => (
                "announced",
                format!("signs from {}", moment::seen_from(self.now, from)),
            ),
            Some(_) => (
                "active",
                "may sign, where the service that made it runs".to_owned(),
            ),
        };
        let end = moment::seen_from(self.now, key.not_after);
        let what = format!("{state}; ends at {end}; by {}", key.endorser);
        line(&key.key.fingerprint(), "endorsed", word, &what);
    }

    fn host_cas(&self, root: &Root) {
        let own = &self.keys.host_ca;
        let named = root.host_cas.iter().any(|ca| ca == own);
        let unnamed = (!named).then_some(own);
        for ca in root.host_cas.iter().chain(unnamed) {
            let revoked = self.book.watch().revokes(ca.key());
            let (word, what) = match (ca == own, revoked) {
                (true, true) => (
                    "revoked",
                    "is configured and signs nothing: name another one as `host_ca`, run `eic-ca root update` and restart",
                ),
                (false, true) => ("revoked", "hosts and clients refuse what it signed"),
                (true, false) if named => ("active", "signs host certificates"),
                (true, false) => UNNAMED,
                (false, false) => REPLACED,
            };
            let silent = self.silent.contains(ca);
            let what = format!("{what}{}", unheard(silent));
            line(&ca.fingerprint(), Role::HostCa.column(), word, &what);
        }
    }

    fn bundle_keys(&self, root: &Root) {
        let own = &self.keys.bundle;
        let named = root.bundle_keys.contains(own);
        let unnamed = (!named).then_some(own);
        for key in root.bundle_keys.iter().chain(unnamed) {
            let (word, what) = match (key == own, named) {
                (true, true) => ("active", "signs bundles and host views"),
                (true, false) => UNNAMED,
                (false, _) => REPLACED,
            };
            line(&key.fingerprint(), Role::Bundle.column(), word, what);
        }
    }
}

/// Of a configured key: the service does not start with it.
const UNNAMED: (&str, &str) = (
    "unannounced",
    "the root document does not name it; run `eic-ca root update`",
);

/// Of a key that another one is configured for.
const REPLACED: (&str, &str) = (
    "trusted",
    "is not configured here; trusted until the next change of keys",
);

fn root_keys(root: &Root) {
    let all = root.root_keys.len();
    let what = format!("{} of {all} sign the next root", root.threshold);
    for key in &root.root_keys {
        let word = state(KeyState::Active);
        line(&key.fingerprint(), Role::Root.column(), word, &what);
    }
}

fn unheard(silent: bool) -> &'static str {
    if silent {
        "; KMS does not answer for it"
    } else {
        ""
    }
}

fn line(key: &str, role: &str, state: &str, what: &str) {
    print(format_args!("{key}  {role:<8}  {state:<11}  {what}\n"));
}
