//! One ephemeral key for each CA, credential selection, access key and kind of key. Never shared, never stored.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use eic_protocol::proof::Audience;

use super::lock;
use crate::credentials::SelectionId;
use crate::key::{EphemeralKey, KeyError, KeyType};

/// Longest use of one key. Seconds.
pub(super) const MAX_AGE: u64 = 12 * 3_600;
/// Most keys at a time; a person has a handful of profiles.
const MAX_KEYS: usize = 256;

/// Whose key: none for the CA means Instance Connect only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Owner {
    pub(super) ca: Option<Audience>,
    pub(super) selection: SelectionId,
    pub(super) kind: KeyType,
}

#[derive(Debug, Default)]
pub(super) struct Keyring {
    keys: Mutex<HashMap<Owner, Held>>,
    /// Why the memory of some key could not be locked.
    not_locked: Mutex<Option<String>>,
}

#[derive(Debug)]
struct Held {
    key: Arc<EphemeralKey>,
    access_key_id: String,
    made_at: u64,
}

impl Keyring {
    /// The owner's key for these credentials; a new one where they changed or the old one is 12 hours old.
    pub(super) fn key(
        &self,
        owner: &Owner,
        access_key_id: &str,
        now: u64,
    ) -> Result<Arc<EphemeralKey>, KeyError> {
        let mut keys = lock(&self.keys);
        if let Some(held) = keys.get(owner).filter(|held| held.fits(access_key_id, now)) {
            return Ok(Arc::clone(&held.key));
        }
        let key = self.generate(owner.kind)?;
        keys.retain(|_, held| now.saturating_sub(held.made_at) < MAX_AGE);
        if keys.len() >= MAX_KEYS {
            keys.clear();
        }
        let held = Held {
            key: Arc::clone(&key),
            access_key_id: access_key_id.to_owned(),
            made_at: now,
        };
        keys.insert(owner.clone(), held);
        Ok(key)
    }

    /// A new key, which is kept elsewhere.
    pub(super) fn generate(&self, kind: KeyType) -> Result<Arc<EphemeralKey>, KeyError> {
        let key = EphemeralKey::generate(kind)?;
        if let Some(why) = key.not_locked() {
            *lock(&self.not_locked) = Some(why.to_owned());
        }
        Ok(Arc::new(key))
    }

    /// Why keys may be swapped out; none: all were in locked memory.
    pub(super) fn not_locked(&self) -> Option<String> {
        lock(&self.not_locked).clone()
    }

    pub(super) fn clear(&self) {
        lock(&self.keys).clear();
    }
}

impl Held {
    fn fits(&self, access_key_id: &str, now: u64) -> bool {
        self.access_key_id == access_key_id && now.saturating_sub(self.made_at) < MAX_AGE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Selection;

    fn owner(profile: &str, ca: Option<&str>) -> Owner {
        let selection = Selection::from_variables([("AWS_PROFILE".to_owned(), profile.to_owned())]);
        Owner {
            ca: ca.map(|url| url.parse().unwrap()),
            selection: selection.id(),
            kind: KeyType::Ed25519,
        }
    }

    #[test]
    fn another_identity_ca_or_day_gets_another_key() {
        // H-14
        let ring = Keyring::default();
        let dev = owner("dev", Some("https://ca.example"));
        let key = ring.key(&dev, "AKIA1", 0).unwrap();
        assert_eq!(
            ring.key(&dev, "AKIA1", MAX_AGE - 1).unwrap().public(),
            key.public()
        );
        for (other, id) in [
            (owner("prod", Some("https://ca.example")), "AKIA1"),
            (owner("dev", None), "AKIA1"),
            (dev.clone(), "AKIA2"),
        ] {
            assert_ne!(
                ring.key(&other, id, 0).unwrap().public(),
                key.public(),
                "{other:?} {id}"
            );
        }
        let key = ring.key(&dev, "AKIA1", 0).unwrap();
        assert_ne!(
            ring.key(&dev, "AKIA1", MAX_AGE).unwrap().public(),
            key.public()
        );
        ring.clear();
        assert!(lock(&ring.keys).is_empty());
    }
}
