//! The lock of a socket (`ssh-add -x`, `ssh-add -X`; RFC 9987 §3.7): while it is on, nothing is listed, signed or
//! removed. It is for the time away from the keyboard, and no defence against a program of the same user that
//! can read this process's memory.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::pbkdf2;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::conversation::Step;
use super::message::{self, Request};

/// Only the memory of this process ever holds the result: it is kept so that the passphrase itself is not.
const ROUNDS: NonZeroU32 = NonZeroU32::MIN.saturating_add(999);
/// Pause after the first wrong passphrase; each further one adds as much.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What a client wants to lock or unlock with. Not shown by `Debug`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Passphrase<'a>(pub &'a [u8]);

/// One socket's lock. Shared by its connections.
#[derive(Debug, Default)]
pub struct AgentLock(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    locked_with: Option<Verifier>,
    wrong: u32,
}

struct Verifier {
    salt: [u8; 16],
    derived: Zeroizing<[u8; 32]>,
}

impl AgentLock {
    /// The answer to a request that the lock decides; none where it has nothing to do with it.
    #[must_use]
    pub fn decide(&self, request: &Request<'_>) -> Option<Step> {
        let mut state = self.state();
        match (request, state.locked_with.is_some()) {
            (Request::Lock(passphrase), false) => Some(state.lock(*passphrase)),
            (Request::Unlock(passphrase), true) => Some(state.unlock(*passphrase)),
            // A connection that is bound while the lock is on stays bound afterwards: forwarded ones are known as such.
            (Request::SessionBind(_), _) => None,
            (Request::Identities, true) => Some(Step::Answer(message::identities(&[]))),
            (_, true) | (Request::Unlock(_), false) => Some(Step::Answer(message::failure())),
            (_, false) => None,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn lock(&mut self, passphrase: Passphrase<'_>) -> Step {
        self.locked_with = Verifier::new(passphrase);
        self.wrong = 0;
        Step::Answer(match self.locked_with {
            Some(_) => message::success(),
            None => message::failure(),
        })
    }

    fn unlock(&mut self, passphrase: Passphrase<'_>) -> Step {
        let fits = self
            .locked_with
            .as_ref()
            .is_some_and(|with| with.fits(passphrase));
        if fits {
            self.locked_with = None;
            return Step::Answer(message::success());
        }
        self.wrong = self.wrong.saturating_add(1);
        let pause = PAUSE.saturating_mul(self.wrong).min(LONGEST_PAUSE);
        Step::AnswerAfter(pause, message::failure())
    }
}

impl Passphrase<'_> {
    /// HMAC takes a key and the same key with zeros behind it for one (RFC 2104 §2); their digests differ.
    fn digest(self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(Sha256::digest(self.0).into())
    }
}

impl Verifier {
    /// None where the system has no randomness: then nothing is locked, and the client is told so.
    fn new(passphrase: Passphrase<'_>) -> Option<Self> {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).ok()?;
        let mut derived = Zeroizing::new([0; 32]);
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            ROUNDS,
            &salt,
            passphrase.digest().as_slice(),
            derived.as_mut_slice(),
        );
        Some(Self { salt, derived })
    }

    /// In constant time.
    fn fits(&self, passphrase: Passphrase<'_>) -> bool {
        let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
        let (secret, derived) = (passphrase.digest(), self.derived.as_slice());
        pbkdf2::verify(algorithm, ROUNDS, &self.salt, secret.as_slice(), derived).is_ok()
    }
}

impl fmt::Debug for Passphrase<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(passphrase: &[u8]) -> Request<'_> {
        Request::Lock(Passphrase(passphrase))
    }

    fn unlock(passphrase: &[u8]) -> Request<'_> {
        Request::Unlock(Passphrase(passphrase))
    }

    fn success() -> Option<Step> {
        Some(Step::Answer(message::success()))
    }

    fn failure() -> Option<Step> {
        Some(Step::Answer(message::failure()))
    }

    #[test]
    fn a_wrong_passphrase_opens_nothing_and_each_costs_more_time() {
        let held = AgentLock::default();
        assert_eq!(held.decide(&lock(b"open sesame")), success());
        for (wrong, expected) in [
            (&b""[..], 100),
            (b"open sesam", 200),
            (b"open sesame\0", 300),
        ] {
            let Some(Step::AnswerAfter(pause, answer)) = held.decide(&unlock(wrong)) else {
                panic!("{wrong:?}")
            };
            assert_eq!(
                (pause, answer),
                (Duration::from_millis(expected), message::failure())
            );
        }
        held.state().wrong = u32::MAX;
        let Some(Step::AnswerAfter(pause, _)) = held.decide(&unlock(b"x")) else {
            panic!()
        };
        assert_eq!(pause, LONGEST_PAUSE);
        assert_eq!(held.decide(&unlock(b"open sesame")), success());
        assert_eq!(held.decide(&Request::Identities), None);
    }

    #[test]
    fn a_lock_cannot_be_replaced_and_an_open_one_cannot_be_opened() {
        let held = AgentLock::default();
        assert_eq!(held.decide(&unlock(b"")), failure());
        assert_eq!(held.decide(&lock(b"mine")), success());
        assert_eq!(held.decide(&lock(b"theirs")), failure());
        assert_eq!(held.decide(&unlock(b"mine")), success());
    }

    #[test]
    fn while_it_is_on_nothing_is_listed_signed_or_removed_and_bindings_are_still_seen() {
        let held = AgentLock::default();
        let sign = Request::Sign {
            blob: b"",
            data: b"",
            flags: 0,
        };
        assert_eq!(held.decide(&sign), None);
        assert_eq!(held.decide(&lock(b"mine")), success());
        let none = Some(Step::Answer(message::identities(&[])));
        assert_eq!(held.decide(&Request::Identities), none);
        for request in [
            sign,
            Request::Remove(b"x"),
            Request::RemoveAll,
            Request::Other,
        ] {
            assert_eq!(held.decide(&request), failure(), "{request:?}");
        }
        assert_eq!(held.decide(&Request::SessionBind(b"")), None);
    }

    #[test]
    fn passphrases_are_not_shown() {
        let held = AgentLock::default();
        assert_eq!(held.decide(&lock(b"secret")), success());
        let shown = format!("{held:?} {:?}", lock(b"secret"));
        assert!(
            !shown.contains("secret") && !shown.contains("115, 101"),
            "{shown}"
        );
    }
}
