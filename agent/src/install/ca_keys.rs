//! The TrustedUserCAKeys file: one plain key per line, and only types that this sshd can parse.
//! sshd stops reading at the first line that it cannot parse, so one new type could hide the keys after it.

use std::collections::BTreeSet;

use eic_protocol::subject_key::CaKey;
use eic_protocol::trust::root::ScopedCa;

use crate::sshd::Version;

/// The file's text for the CAs that count; `None` when no key is left, since an empty file would only look
/// like a set-up. Sorted and once each: a key may have several scopes.
pub(super) fn text<'a>(
    cas: impl Iterator<Item = &'a ScopedCa>,
    version: Version,
) -> Option<String> {
    let keys: BTreeSet<&CaKey> = cas.map(|ca| &ca.key).collect();
    lines(keys.into_iter(), version)
}

/// One line for each key that this sshd can parse; `None` when none is left.
pub(crate) fn lines<'a>(keys: impl Iterator<Item = &'a CaKey>, version: Version) -> Option<String> {
    let readable = keys.filter(|key| version >= first_version(key));
    let text: String = readable.map(|key| format!("{key}\n")).collect();
    (!text.is_empty()).then_some(text)
}

/// The first sshd that parses a key of this type (release notes of 5.7 and 6.5); a type that is not
/// in the list has not been tried with any.
fn first_version(key: &CaKey) -> Version {
    let (major, minor) = match key.key().algorithm_name().as_str() {
        "ssh-rsa" => (2, 0),
        "ecdsa-sha2-nistp256" | "ecdsa-sha2-nistp384" => (5, 7),
        "ssh-ed25519" => (6, 5),
        _ => (u32::MAX, 0),
    };
    Version { major, minor }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust_state::tests::{Documents, ca, public};
    use eic_protocol::trust::root::KeyState;

    const V9_2: Version = Version { major: 9, minor: 2 };

    #[test]
    fn retired_keys_and_keys_that_this_sshd_cannot_read_are_left_out() {
        let mut root = Documents::new().root;
        assert_eq!(
            text(root.trusted_user_cas(), Version { major: 6, minor: 4 }),
            None
        );
        root.user_cas[0].state = KeyState::Retired;
        assert_eq!(text(root.trusted_user_cas(), V9_2), None);
    }

    #[test]
    fn active_and_announced_keys_stand_one_in_a_line_and_once() {
        let mut root = Documents::new().root;
        root.user_cas.push(ca(60));
        root.user_cas.push(ca(60));
        root.user_cas[1].state = KeyState::Announced;
        let text = text(root.trusted_user_cas(), V9_2).unwrap();
        let lines: BTreeSet<&str> = text.lines().collect();
        let expected = [public(3), public(60)].map(|key| key.to_string());
        assert_eq!(lines, expected.iter().map(String::as_str).collect());
        assert_eq!(text.lines().count(), 2);
    }
}
