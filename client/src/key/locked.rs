//! Memory for one private key: pages of its own, kept out of swap where the system allows it, wiped when dropped.
//! Not for what a signature needs for a moment: that is on the stack, and is wiped there.

use region::LockGuard;
use zeroize::Zeroize as _;

/// Longest secret. Bytes: an RSA key of 3072 bits has some 1,800 in PKCS #8.
const MAX_SECRET: usize = 2_048;

/// Pages have 4 KiB on x86-64 and up to 64 KiB elsewhere. Nothing else may lie on one of these: locks are by page and not
/// counted, so that whoever goes first would unlock the other's.
#[cfg_attr(target_arch = "x86_64", repr(align(4096)))]
#[cfg_attr(not(target_arch = "x86_64"), repr(align(65536)))]
struct Page([u8; MAX_SECRET]);

/// A secret of fixed length, at one address for all its life.
pub(super) struct LockedSecret {
    // Dropped before the page: afterwards the addresses may be another secret's.
    guard: Result<LockGuard, String>,
    page: Box<Page>,
    length: usize,
}

impl LockedSecret {
    /// Zeros to be filled in place; no more than [`MAX_SECRET`]. Where the system locks nothing, [`Self::refusal`] says so.
    pub(super) fn zeroed(length: usize) -> Self {
        let page = Box::new(Page([0; MAX_SECRET]));
        let guard = region::lock(std::ptr::from_ref(&*page), MAX_SECRET);
        Self {
            guard: guard.map_err(|e| e.to_string()),
            page,
            length: length.min(MAX_SECRET),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.page.0.get(..self.length).unwrap_or_default()
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        self.page.0.get_mut(..self.length).unwrap_or_default()
    }

    /// Why the page may be swapped out; none: it is locked.
    pub(super) fn refusal(&self) -> Option<&str> {
        self.guard.as_ref().err().map(String::as_str)
    }
}

impl Drop for LockedSecret {
    fn drop(&mut self) {
        self.page.0.zeroize();
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    /// `Locked:` of the mapping that this secret lies in, in KiB (proc(5), `smaps`).
    fn locked(secret: &LockedSecret) -> u64 {
        let address = std::ptr::from_ref(&*secret.page).addr();
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        for line in maps.lines() {
            let range = line.split(' ').next().unwrap().split_once('-');
            let range = range.and_then(|(start, end)| Some((hex(start)?, hex(end)?)));
            match range {
                Some((start, end)) => inside = (start..end).contains(&address),
                None if inside && line.starts_with("Locked:") => {
                    return line.split_whitespace().nth(1).unwrap().parse().unwrap();
                }
                None => {}
            }
        }
        panic!("no mapping has {address:x}");
    }

    fn hex(text: &str) -> Option<usize> {
        usize::from_str_radix(text, 16).ok()
    }

    #[test]
    fn a_secret_is_locked_as_long_as_it_lives_whatever_becomes_of_others() {
        // H-05. Few pages: old systems allow 64 KiB to ordinary users.
        let mut secrets: Vec<_> = (0..4).map(|_| LockedSecret::zeroed(32)).collect();
        if let Some(why) = secrets.iter().find_map(LockedSecret::refusal) {
            panic!("this machine locks no memory: {why}");
        }
        secrets.remove(1);
        secrets.remove(0);
        for secret in &secrets {
            assert!(locked(secret) >= 4, "{}", locked(secret));
        }
    }

    #[test]
    fn a_secret_of_a_process_that_may_lock_nothing_is_kept_and_told() {
        // In a process of its own: neither limit nor capability come back.
        if std::env::var_os("EIC_TEST_MEMLOCK").is_none() {
            let status = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "key::locked::tests::a_secret_of_a_process_that_may_lock_nothing_is_kept_and_told"])
                .env("EIC_TEST_MEMLOCK", "1")
                .status();
            assert!(status.unwrap().success());
            return;
        }
        use rustix::process::{Resource, Rlimit, setrlimit};
        use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
        let mut sets = capabilities(None).unwrap();
        sets.effective.remove(CapabilitySet::IPC_LOCK);
        set_capabilities(None, sets).unwrap();
        let none = Rlimit {
            current: Some(0),
            maximum: Some(0),
        };
        setrlimit(Resource::Memlock, none).unwrap();
        let mut secret = LockedSecret::zeroed(32);
        secret.bytes_mut().fill(7);
        assert!(secret.refusal().is_some());
        assert_eq!((secret.bytes(), locked(&secret)), (&[7; 32][..], 0));
    }
}
