//! Host keys in an instance's console output, as cloud-init prints them between two marker lines
//! (cloud-init, cc_keys_to_console). Only the instance's root and EC2 itself can write there.

use std::collections::BTreeMap;

use eic_protocol::subject_key::SubjectKey;

const BEGIN: &str = "-----BEGIN SSH HOST KEY KEYS-----";
const END: &str = "-----END SSH HOST KEY KEYS-----";

/// What the console says about host keys.
#[derive(Debug, PartialEq, Eq)]
pub enum ConsoleKeys {
    /// Nothing.
    None,
    /// These keys.
    Keys(Vec<SubjectKey>),
    /// Blocks that differ: somebody printed a second one, or the image was reused. Nothing counts.
    Contradicting,
}

/// Reads the host keys out of a console output.
#[must_use]
pub fn parse(output: &str) -> ConsoleKeys {
    let mut blocks = blocks(output).into_iter();
    let Some(first) = blocks.next() else {
        return ConsoleKeys::None;
    };
    if blocks.any(|other| !other.keys().eq(first.keys())) {
        return ConsoleKeys::Contradicting;
    }
    if first.is_empty() {
        ConsoleKeys::None
    } else {
        ConsoleKeys::Keys(first.into_values().collect())
    }
}

/// Complete blocks only: the console's buffer of 64 KiB may begin or end in the middle of one.
fn blocks(output: &str) -> Vec<BTreeMap<Vec<u8>, SubjectKey>> {
    let mut found = Vec::new();
    let mut open: Option<BTreeMap<Vec<u8>, SubjectKey>> = None;
    for line in output
        .lines()
        .map(|line| line.trim().trim_start_matches("ec2: "))
    {
        match line {
            BEGIN => open = Some(BTreeMap::new()),
            END => found.extend(open.take()),
            _ => {
                if let (Some(block), Ok(key)) = (&mut open, line.parse::<SubjectKey>()) {
                    block.insert(key.blob().to_vec(), key);
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{EphemeralKey, KeyType};

    fn key() -> SubjectKey {
        EphemeralKey::generate(KeyType::Ed25519)
            .unwrap()
            .public()
            .clone()
    }

    fn block(keys: &[&SubjectKey]) -> String {
        let lines: String = keys
            .iter()
            .map(|key| format!("{key} root@ip-10-0-0-5\r\n"))
            .collect();
        format!("[   12.1] cloud-init\r\n{BEGIN}\r\n{lines}{END}\r\nlogin: \r\n")
    }

    #[test]
    fn two_blocks_that_differ_contradict_each_other() {
        let (a, b) = (key(), key());
        assert_eq!(
            parse(&(block(&[&a]) + &block(&[&b]))),
            ConsoleKeys::Contradicting
        );
        assert_eq!(
            parse(&(block(&[&a]) + &block(&[&a, &b]))),
            ConsoleKeys::Contradicting
        );
        assert_eq!(
            parse(&(block(&[&a]) + &block(&[]))),
            ConsoleKeys::Contradicting
        );
    }

    #[test]
    fn text_that_only_looks_like_a_block_does_not_count() {
        let a = key();
        for output in [
            String::new(),
            format!("{a}\n"),
            format!("{BEGIN}\n{a}\n"),
            format!("{a}\n{END}\n"),
            format!("user said {BEGIN}\n{a}\n{END}\n"),
            block(&[]),
        ] {
            assert_eq!(parse(&output), ConsoleKeys::None, "{output:?}");
        }
    }

    #[test]
    fn a_block_printed_at_each_boot_counts_once() {
        let (a, b) = (key(), key());
        let ConsoleKeys::Keys(keys) = parse(&(block(&[&a, &b]) + &block(&[&b, &a]))) else {
            panic!()
        };
        assert!(keys.len() == 2 && keys.contains(&a) && keys.contains(&b));
    }
}
