//! The TrustedUserCAKeys file: one plain key per line, and only types that this sshd can parse.
//! sshd stops reading at the first line that it cannot parse, so one new type could hide the keys after it.

use eic_protocol::subject_key::CaKey;
use eic_protocol::trust::root::Root;

use super::sshd::Version;

/// The file's text; `None` when no key is left, since an empty file would only look like a set-up.
pub(super) fn text(root: &Root, version: Version) -> Option<String> {
    let lines: Vec<String> = root
        .trusted_user_cas()
        .map(|ca| &ca.key)
        .filter(|key| version >= first_version(key))
        .map(|key| format!("{key}\n"))
        .collect();
    (!lines.is_empty()).then(|| lines.concat())
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
        assert_eq!(text(&root, Version { major: 6, minor: 4 }), None);
        root.user_cas[0].state = KeyState::Retired;
        assert_eq!(text(&root, V9_2), None);
    }

    #[test]
    fn active_and_announced_keys_stand_one_in_a_line() {
        let mut root = Documents::new().root;
        root.user_cas.push(ca(60));
        root.user_cas[1].state = KeyState::Announced;
        assert_eq!(
            text(&root, V9_2).unwrap(),
            format!("{}\n{}\n", public(3), public(60))
        );
    }
}
