//! One connection to a login's socket, as a state machine without input or output: a message in, an answer out.
//!
//! INVARIANT (forwarding): once a connection is forwarded it stays so, and nothing of ours is offered or signed on it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use eic_protocol::os_user::OsUser;
use eic_protocol::subject_key::SubjectKey;

use super::lock::AgentLock;
use super::message::{self, Request};
use super::session_bind::{self, Binding};
use super::userauth::UserauthRequest;
use crate::key::{EphemeralKey, SignatureHash};

/// One login: who, where, with which identities, until when. Shared by the connections of its socket.
#[derive(Debug)]
pub struct Login {
    user: OsUser,
    key: Arc<EphemeralKey>,
    offered: Vec<(Vec<u8>, String)>,
    closes_at: u64,
    state: Mutex<LoginState>,
}

/// What becomes known while the login goes on.
#[derive(Debug, Default)]
struct LoginState {
    verified_host_key: Option<SubjectKey>,
    has_signed: bool,
    /// What `ssh-add -d` took away.
    removed: Vec<Vec<u8>>,
}

/// What to do with a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this back.
    Answer(Vec<u8>),
    /// Send this back after a pause: it was a guess at a passphrase.
    AnswerAfter(Duration, Vec<u8>),
    /// This message and all that follow belong to the user's own agent.
    Forward,
}

/// A connection.
#[derive(Debug)]
pub struct Conversation {
    candidates: Vec<Arc<Login>>,
    lock: Arc<AgentLock>,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// No binding yet.
    Unbound,
    /// Bound to one login's host key and session.
    Bound { login: Arc<Login>, binding: Binding },
    /// A binding that fits no login: nothing is offered or signed any more.
    Refused,
}

impl Login {
    /// A login that offers `offered` (blobs, first one first) until `closes_at` (Unix seconds).
    #[must_use]
    pub fn new(
        user: OsUser,
        key: Arc<EphemeralKey>,
        offered: Vec<(Vec<u8>, String)>,
        closes_at: u64,
    ) -> Self {
        Self {
            user,
            key,
            offered,
            closes_at,
            state: Mutex::default(),
        }
    }

    /// KnownHostsCommand found that this key is the host's.
    pub fn trust_host_key(&self, key: SubjectKey) {
        self.state().verified_host_key = Some(key);
    }

    /// Whether its identities may still be used.
    #[must_use]
    pub fn is_open(&self, now: u64) -> bool {
        now < self.closes_at
    }

    fn fits(&self, binding: &Binding) -> bool {
        self.state().verified_host_key.as_ref() == Some(&binding.host_key)
    }

    fn has_signed(&self) -> bool {
        self.state().has_signed
    }

    fn offered(&self) -> Vec<(Vec<u8>, String)> {
        let state = self.state();
        let left = self
            .offered
            .iter()
            .filter(|(blob, _)| !state.removed.contains(blob));
        left.cloned().collect()
    }

    fn offers(&self, blob: &[u8]) -> bool {
        self.offered().iter().any(|(offered, _)| offered == blob)
    }

    fn remove(&self, blob: &[u8]) -> bool {
        let there = self.offers(blob);
        if there {
            self.state().removed.push(blob.to_vec());
        }
        there
    }

    fn remove_all(&self) {
        let all = self.offered.iter().map(|(blob, _)| blob.clone());
        self.state().removed = all.collect();
    }

    fn state(&self) -> MutexGuard<'_, LoginState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Conversation {
    /// A new connection that may belong to any of these logins, the latest one last, on a socket with this lock.
    #[must_use]
    pub fn new(candidates: Vec<Arc<Login>>, lock: Arc<AgentLock>) -> Self {
        Self {
            candidates,
            lock,
            phase: Phase::Unbound,
        }
    }

    /// Takes one message. `now` is in Unix seconds.
    #[must_use]
    pub fn step(&mut self, message: &[u8], now: u64) -> Step {
        let Ok(request) = Request::parse(message) else {
            return Step::Answer(message::failure());
        };
        if let Request::SessionBind(body) = request {
            return self.bind(body, now);
        }
        if self.is_forwarded_unmarked(now) {
            return Step::Forward;
        }
        if matches!(self.phase, Phase::Refused) {
            return Self::nothing(&request);
        }
        let decided = self.lock.decide(&request);
        decided.unwrap_or_else(|| self.answer(&request, now))
    }

    fn answer(&self, request: &Request<'_>, now: u64) -> Step {
        match request {
            Request::Identities => self.identities(now),
            Request::Sign { blob, data, flags } => self.sign(blob, data, *flags, now),
            Request::Remove(blob) => self.remove(now, |login| login.remove(blob)),
            Request::RemoveAll => self.remove(now, |login| {
                login.remove_all();
                true
            }),
            _ => Step::Answer(message::failure()),
        }
    }

    /// What a connection with a binding that fits no login gets.
    fn nothing(request: &Request<'_>) -> Step {
        Step::Answer(match request {
            Request::Identities => message::identities(&[]),
            _ => message::failure(),
        })
    }

    /// Of the logins that this connection could use.
    fn remove(&self, now: u64, take: impl Fn(&Login) -> bool) -> Step {
        let removed = match &self.phase {
            Phase::Bound { login, .. } => take(login),
            Phase::Unbound => {
                let open = self.candidates.iter().filter(|login| login.is_open(now));
                open.filter(|login| take(login)).count() > 0
            }
            Phase::Refused => false,
        };
        Step::Answer(match removed {
            true => message::success(),
            false => message::failure(),
        })
    }

    /// ssh before 8.9 marks nothing: a connection that was not bound and comes after the login was signed
    /// is one that it forwards (H-20). The same where every login of the socket is over.
    fn is_forwarded_unmarked(&self, now: u64) -> bool {
        let unbound = matches!(self.phase, Phase::Unbound);
        unbound
            && self
                .candidates
                .iter()
                .all(|login| login.has_signed() || !login.is_open(now))
    }

    fn bind(&mut self, body: &[u8], now: u64) -> Step {
        match session_bind::is_forwarding(body) {
            Ok(true) => return Step::Forward,
            Ok(false) => {}
            Err(_) => return self.refuse(),
        }
        // A second binding would move identities of one session to another.
        if !matches!(self.phase, Phase::Unbound) {
            return self.refuse();
        }
        let Ok(binding) = session_bind::verify(body) else {
            return self.refuse();
        };
        let fitting = self
            .candidates
            .iter()
            .rev()
            .find(|login| login.is_open(now) && login.fits(&binding));
        match fitting.cloned() {
            Some(login) => {
                self.phase = Phase::Bound { login, binding };
                Step::Answer(message::success())
            }
            None => self.refuse(),
        }
    }

    fn refuse(&mut self) -> Step {
        self.phase = Phase::Refused;
        Step::Answer(message::failure())
    }

    fn identities(&self, now: u64) -> Step {
        let offered = self
            .login(now)
            .map(|login| login.offered())
            .unwrap_or_default();
        Step::Answer(message::identities(&offered))
    }

    fn sign(&self, blob: &[u8], data: &[u8], flags: u32, now: u64) -> Step {
        let signature = self
            .login(now)
            .and_then(|login| self.signature(login, blob, data, flags));
        Step::Answer(
            signature.map_or_else(message::failure, |signature| message::signature(&signature)),
        )
    }

    fn signature(
        &self,
        login: &Arc<Login>,
        blob: &[u8],
        data: &[u8],
        flags: u32,
    ) -> Option<Vec<u8>> {
        let request = UserauthRequest::parse(data).ok()?;
        let ours = login.offers(blob) && request.blob == blob;
        let expected_user = request.user == login.user.as_str().as_bytes();
        let hash_fits = flags_fit(request.hash, flags);
        if !(ours && expected_user && hash_fits && self.session_fits(login, &request)) {
            return None;
        }
        let signature = login.key.sign(data, request.hash).ok()?;
        login.state().has_signed = true;
        Some(signature)
    }

    /// Of a bound connection: the very session and host key. Of an unbound one: what the request itself names.
    fn session_fits(&self, login: &Login, request: &UserauthRequest<'_>) -> bool {
        let host_key = request.host_key.as_ref();
        match &self.phase {
            Phase::Bound { binding, .. } => {
                request.session_id == binding.session_id
                    && host_key.is_none_or(|key| *key == binding.host_key)
            }
            Phase::Unbound => {
                host_key.is_none_or(|key| login.state().verified_host_key.as_ref() == Some(key))
            }
            Phase::Refused => false,
        }
    }

    fn login(&self, now: u64) -> Option<&Arc<Login>> {
        let login = match &self.phase {
            Phase::Bound { login, .. } => Some(login),
            Phase::Unbound => self
                .candidates
                .iter()
                .rev()
                .find(|login| login.is_open(now) && !login.has_signed()),
            Phase::Refused => None,
        };
        login.filter(|login| login.is_open(now))
    }
}

/// ssh asks by flags for the hash that the request itself names; another one would not verify.
pub(super) fn flags_fit(hash: SignatureHash, flags: u32) -> bool {
    match hash {
        SignatureHash::OfKey => true,
        SignatureHash::RsaSha256 => flags & message::FLAG_RSA_SHA2_256 != 0,
        SignatureHash::RsaSha512 => flags & message::FLAG_RSA_SHA2_512 != 0,
    }
}

#[cfg(test)]
mod tests;
