//! A host's keys on its serial console: only the host's root can write there, nobody who merely holds the
//! instance role's credentials. Read back by ec2:GetConsoleOutput (with `Latest`), never told by the host.
//!
//! Two forms count: one line that the agent wrote for the challenge that this CA gave, or, for a host's first
//! keys, the block that cloud-init printed at the first boot: for other keys it says nothing, since a
//! console shows keys that were replaced for as long as nothing else is written. A line counts only whole: log
//! lines that repeat foreign text begin with something else. So does what the kernel logs: any user can have it log text
//! of theirs with a line break in it, and each line then stands behind a time stamp (threats E-11).

use eic_protocol::api::host_certificate::console::line;
use eic_protocol::grant::Nonce;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::subject_key::SubjectKey;

const BEGIN: &str = "-----BEGIN SSH HOST KEY KEYS-----";
const END: &str = "-----END SSH HOST KEY KEYS-----";

/// Why a console proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// Neither the line nor a block is there (yet).
    #[error("the console does not show the host's keys (yet)")]
    Absent,
    /// It shows other keys as well.
    #[error("the console shows other keys for this host as well")]
    Conflicting,
}

/// Whether the console shows just these keys: for this challenge, or, where they are the host's `first`
/// ones, in cloud-init's block.
///
/// # Errors
/// [`Unproven`]
pub fn check(
    console: &str,
    instance: &InstanceId,
    challenge: Option<&Nonce>,
    keys: &[SubjectKey],
    first: bool,
) -> Result<(), Unproven> {
    let line = challenge.map(|challenge| check_line(console, instance, challenge, keys));
    match line.unwrap_or(Err(Unproven::Absent)) {
        Err(Unproven::Absent) if first => check_block(console, keys),
        decided => decided,
    }
}

fn check_line(
    console: &str,
    instance: &InstanceId,
    challenge: &Nonce,
    keys: &[SubjectKey],
) -> Result<(), Unproven> {
    let wanted = line(instance, challenge, keys);
    let start = line(instance, challenge, []);
    let mut found = console
        .lines()
        .map(str::trim_end)
        .filter(|line| line.starts_with(&start));
    let first = found.next().ok_or(Unproven::Absent)?;
    if first == wanted && found.all(|line| line == wanted) {
        Ok(())
    } else {
        Err(Unproven::Conflicting)
    }
}

/// Every key must be in the block; the block may hold keys that the host does not ask for.
fn check_block(console: &str, keys: &[SubjectKey]) -> Result<(), Unproven> {
    let mut blocks = blocks(console).into_iter();
    let first = blocks.next().ok_or(Unproven::Absent)?;
    if blocks.any(|block| block != first) {
        return Err(Unproven::Conflicting);
    }
    let all = keys.iter().all(|key| first.contains(key));
    (all && !keys.is_empty())
        .then_some(())
        .ok_or(Unproven::Absent)
}

/// Whole blocks only; lines that are no keys of a kind that is taken are left out of them.
fn blocks(console: &str) -> Vec<Vec<SubjectKey>> {
    let mut blocks = Vec::new();
    let mut open: Option<Vec<SubjectKey>> = None;
    for line in console.lines().map(str::trim_end) {
        match (line, &mut open) {
            (BEGIN, _) => open = Some(Vec::new()),
            (END, Some(_)) => blocks.extend(open.take()),
            (line, Some(keys)) => keys.extend(line.parse::<SubjectKey>()),
            _ => {}
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> InstanceId {
        "i-0123456789abcdef0".parse().unwrap()
    }

    fn challenge() -> Nonce {
        Nonce::from_random([1; 16])
    }

    fn check_here(console: &str, keys: &[SubjectKey]) -> Result<(), Unproven> {
        check(console, &here(), Some(&challenge()), keys, true)
    }

    fn written(keys: &[SubjectKey]) -> String {
        line(&here(), &challenge(), keys)
    }

    fn key(seed: u8) -> SubjectKey {
        let private = ed25519_dalek::SigningKey::from_bytes(&[seed; 32]);
        let public = ssh_key::public::Ed25519PublicKey(private.verifying_key().to_bytes());
        ssh_key::PublicKey::from(public)
            .to_openssh()
            .unwrap()
            .parse()
            .unwrap()
    }

    #[test]
    fn a_line_that_is_only_a_part_of_a_line_proves_nothing() {
        // E-11: what a log repeats of foreign text stands behind its own words.
        let line = written(&[key(1)]);
        for console in [
            String::new(),
            format!("[   12.0] sshd[7]: Invalid user {line} from 192.0.2.1"),
            format!(" {line}"),
            format!("[sshd] {line}"),
            line.replace("i-0123456789abcdef0", "i-0123456789abcdef1"),
            line.replace("0101", "0102"),
            line.to_uppercase(),
            line.replace("SHA256:", ""),
        ] {
            assert_ne!(check_here(&console, &[key(1)]), Ok(()), "{console}");
        }
        assert_eq!(check_here(&line, &[key(2)]), Err(Unproven::Conflicting));
        assert_eq!(
            check_here(&line, &[key(1), key(2)]),
            Err(Unproven::Conflicting)
        );
    }

    #[test]
    fn what_the_kernel_logs_proves_nothing() {
        // E-11: the kernel logs text of any user, and stamps each line of it.
        let forged = format!("[   12.345678] {}\r\n", written(&[key(1)]));
        assert_eq!(check_here(&forged, &[key(1)]), Err(Unproven::Absent));
        let two = format!("[   12.345678] comm: x\r\n{forged}");
        assert_eq!(check_here(&two, &[key(1)]), Err(Unproven::Absent));
        let beside = format!("{forged}{}\r\n", written(&[key(2)]));
        assert_eq!(check_here(&beside, &[key(1)]), Err(Unproven::Conflicting));
        assert_eq!(check_here(&beside, &[key(2)]), Ok(()));
        let block = format!("[   12.3] {BEGIN}\n[   12.3] {}\n[   12.3] {END}\n", key(1));
        assert_eq!(check_here(&block, &[key(1)]), Err(Unproven::Absent));
    }

    #[test]
    fn two_differing_statements_refuse() {
        let both = format!("{}\n{}\n", written(&[key(1)]), written(&[key(2)]));
        assert_eq!(check_here(&both, &[key(1)]), Err(Unproven::Conflicting));
        let block = |key: SubjectKey| format!("{BEGIN}\n{key} root@host\n{END}\n");
        let blocks = block(key(1)) + &block(key(2));
        assert_eq!(check_here(&blocks, &[key(1)]), Err(Unproven::Conflicting));
        let torn = format!("{BEGIN}\n{}\n", key(1));
        assert_eq!(check_here(&torn, &[key(1)]), Err(Unproven::Absent));
    }

    #[test]
    fn the_agents_line_and_cloud_inits_block_prove_the_keys() {
        let console = format!("boot\r\n{}\r\nlogin: ", written(&[key(2), key(1)]));
        assert_eq!(check_here(&console, &[key(1), key(2)]), Ok(()));
        let block = format!(
            "ci-info\n{BEGIN}\n{} root@web\nssh-dss AAAA x\n{} root@web\n{END}\n",
            key(1),
            key(2)
        );
        assert_eq!(check_here(&block, &[key(1)]), Ok(()));
        assert_eq!(check_here(&block, &[key(3)]), Err(Unproven::Absent));
        assert_eq!(check_here(&block, &[]), Err(Unproven::Absent));
    }

    #[test]
    fn keys_that_were_replaced_are_not_proven_by_the_first_boots_block() {
        // E-08: whoever took the old key asks for it once more.
        let block = format!("{BEGIN}\n{} root@web\n{END}\n", key(1));
        let again = check(&block, &here(), Some(&challenge()), &[key(1)], false);
        assert_eq!(again, Err(Unproven::Absent));
        let console = format!("{block}{}\n", written(&[key(2)]));
        let new = check(&console, &here(), Some(&challenge()), &[key(2)], false);
        assert_eq!(new, Ok(()));
    }
}
