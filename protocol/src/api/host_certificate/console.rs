//! The line that a host writes to its serial console at first enrolment, for the CA to read back by
//! ec2:GetConsoleOutput: role credentials that have left the instance cannot write there.

use crate::grant::Nonce;
use crate::instance_id::InstanceId;
use crate::subject_key::SubjectKey;

const MARK: &str = "eic-host-proof-v1";

/// `eic-host-proof-v1 <instance> <challenge> <fingerprints, joined by commas>`
#[must_use]
pub fn line<'a>(
    instance: &InstanceId,
    challenge: &Nonce,
    keys: impl IntoIterator<Item = &'a SubjectKey>,
) -> String {
    let mut fingerprints: Vec<_> = keys.into_iter().map(SubjectKey::fingerprint).collect();
    fingerprints.sort_unstable();
    format!("{MARK} {instance} {challenge} {}", fingerprints.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cert::tests::{private_key, subject};

    #[test]
    fn another_host_challenge_or_key_is_another_line() {
        // E-11
        let (a, b) = (subject(&private_key()), subject(&private_key()));
        let here: InstanceId = "i-0123456789abcdef0".parse().unwrap();
        let other: InstanceId = "i-0123456789abcdef1".parse().unwrap();
        let (now, old) = (Nonce::from_random([1; 16]), Nonce::from_random([2; 16]));
        let wanted = line(&here, &now, [&a, &b]);
        assert_eq!(wanted, line(&here, &now, [&b, &a]));
        for different in [
            line(&other, &now, [&a, &b]),
            line(&here, &old, [&a, &b]),
            line(&here, &now, [&a]),
        ] {
            assert_ne!(wanted, different);
        }
    }
}
