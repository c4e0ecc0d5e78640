//! Whose revocations have room when a list cannot hold all: each hand has the same share, so that nobody crowds the
//! revocations of others out by many of his own. Only order here: the list is cut by `press`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use eic_protocol::krl::Target;

use crate::store::trust::HandedIn;

/// For each entry how many others of the same hand come before it: first those of small calls, since one that ends
/// thousands of certificates must not cost those that somebody named one by one; then what ends last.
#[must_use]
pub fn ranks(entries: Vec<HandedIn>) -> BTreeMap<Target, usize> {
    let mut calls: HashMap<Vec<u8>, usize> = HashMap::new();
    for entry in &entries {
        *calls.entry(entry.call.clone()).or_default() += 1;
    }
    let mut hands: HashMap<String, Vec<HandedIn>> = HashMap::new();
    for entry in entries {
        hands
            .entry(hand(&entry.by).to_owned())
            .or_default()
            .push(entry);
    }
    let mut ranks = BTreeMap::new();
    for mut entries in hands.into_values() {
        entries.sort_by_key(|entry| {
            let size = calls.get(&entry.call).copied().unwrap_or_default();
            (size, Reverse(entry.end.unwrap_or(u64::MAX)))
        });
        let ranked = entries.into_iter().enumerate();
        ranks.extend(ranked.map(|(rank, entry)| (entry.target, rank)));
    }
    ranks
}

/// A role's sessions are one hand: whoever may assume it chooses their names (`…:assumed-role/ROLE/SESSION`).
fn hand(by: &str) -> &str {
    let role = by.find(":assumed-role/").and_then(|_| by.rsplit_once('/'));
    role.map_or(by, |(role, _session)| role)
}

#[cfg(test)]
mod tests {
    use eic_protocol::serial::Serial;

    use super::*;
    use crate::issuance::tests::local_signer;
    use crate::keys::KeyType;

    const ROLE: &str = "arn:aws:sts::111122223333:assumed-role/Dev";

    #[test]
    fn many_entries_of_one_hand_come_after_the_few_of_others() {
        let ca = local_signer(KeyType::Ed25519).public().clone();
        let target = |n: u64| Target::serial(ca.clone(), Serial::new(n).unwrap());
        let entry = |n: u64, by: &str, call: u64| HandedIn {
            target: target(n),
            end: Some(1_000 + n),
            by: by.to_owned(),
            call: call.to_be_bytes().to_vec(),
        };
        // A session name for each: still one hand.
        let mut entries: Vec<_> = (100..200)
            .map(|n| entry(n, &format!("{ROLE}/s{n}"), n))
            .collect();
        let officer = format!("{}/anna", ROLE.replace("Dev", "Officer"));
        entries.extend((1..4).map(|n| entry(n, &officer, n)));
        // One call of the officer's that ends fifty certificates.
        entries.extend((300..350).map(|n| entry(n, &officer, 9)));
        let ranks = ranks(entries);
        assert_eq!(ranks.len(), 153);
        for n in 1..4 {
            assert!(ranks[&target(n)] < 3, "{n}");
        }
        assert_eq!(ranks[&target(199)], 0);
        assert_eq!(ranks[&target(100)], 99);
        assert_eq!(ranks[&target(349)], 3);
    }

    #[test]
    fn users_hosts_and_operators_are_hands_of_their_own() {
        for by in [
            "arn:aws:iam::111122223333:user/ops/anna",
            "i-0123456789abcdef0",
            "root",
            "",
        ] {
            assert_eq!(hand(by), by);
        }
        assert_eq!(hand(&format!("{ROLE}/a")), ROLE);
    }
}
