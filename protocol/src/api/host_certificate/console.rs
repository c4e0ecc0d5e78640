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

/// Whether the console's output holds that line: at the end of a line, after a blank where the kernel
/// or journal put something before it.
#[must_use]
pub fn is_written<'a>(
    output: &str,
    instance: &InstanceId,
    challenge: &Nonce,
    keys: impl IntoIterator<Item = &'a SubjectKey>,
) -> bool {
    let wanted = line(instance, challenge, keys);
    output.lines().any(|found| {
        let before = found.trim_end().strip_suffix(&wanted);
        before.is_some_and(|before| before.is_empty() || before.ends_with(' '))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cert::tests::{private_key, subject};

    #[test]
    fn another_host_challenge_or_key_is_not_the_line() {
        // E-11
        let (a, b) = (subject(&private_key()), subject(&private_key()));
        let here: InstanceId = "i-0123456789abcdef0".parse().unwrap();
        let other: InstanceId = "i-0123456789abcdef1".parse().unwrap();
        let (now, old) = (Nonce::from_random([1; 16]), Nonce::from_random([2; 16]));
        let output = format!("boot\r\n[  3.2] {}\r\nlogin:", line(&here, &now, [&a, &b]));
        assert!(is_written(&output, &here, &now, [&b, &a]));
        assert!(!is_written(&output, &other, &now, [&a, &b]));
        assert!(!is_written(&output, &here, &old, [&a, &b]));
        assert!(!is_written(&output, &here, &now, [&a]));
        assert!(!is_written(
            &output.replace("] eic", "]eic"),
            &here,
            &now,
            [&a, &b]
        ));
        assert!(!is_written(
            &output.replace("\r\nlogin", "x"),
            &here,
            &now,
            [&a, &b]
        ));
    }
}
