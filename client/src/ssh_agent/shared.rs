//! One connection to the socket of `eic-login exec`: several identities, any host of theirs, as long as the command
//! runs. As a state machine without input or output. It signs logins only, as the sockets of single logins do;
//! which host key is good is the business of the tool that uses it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use eic_protocol::os_user::OsUser;

use super::conversation::{Step, flags_fit};
use super::lock::AgentLock;
use super::message::{self, Request};
use super::session_bind;
use super::userauth::UserauthRequest;
use crate::key::EphemeralKey;

/// One account somewhere, and what opens it.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The account; nothing is signed for another one.
    pub user: OsUser,
    /// The key of all blobs.
    pub key: Arc<EphemeralKey>,
    /// Certificate and plain key with their comments, in the order in which they are offered.
    pub offered: Vec<(Vec<u8>, String)>,
    /// Whether a client took it away.
    pub withdrawal: Withdrawal,
}

impl Identity {
    fn offers(&self, blob: &[u8]) -> bool {
        self.offered.iter().any(|(offered, _)| offered == blob)
    }
}

/// Whether `ssh-add -d` or `-D` took an identity away: in all its forms, and for as long as the command runs.
/// Its clones stand for the same identity.
#[derive(Clone, Debug, Default)]
pub struct Withdrawal(Arc<AtomicBool>);

impl Withdrawal {
    /// Whether it was taken away.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn withdraw(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A connection.
#[derive(Debug, Default)]
pub struct SharedConversation {
    lock: Arc<AgentLock>,
    session: Session,
    /// Whether the asking ssh has logged in by another connection already.
    is_after_login: bool,
    has_signed_unbound: bool,
}

#[derive(Debug, Default)]
enum Session {
    /// A library that sends no binding, or one that has not sent it yet.
    #[default]
    Unbound,
    /// Of this session only.
    Bound(Vec<u8>),
    /// A second or a false binding: nothing is offered or signed any more.
    Refused,
}

impl SharedConversation {
    /// A new connection to a socket with this lock. `is_after_login`: of an ssh that has logged in without binding its
    /// connection. ssh before 8.9 marks nothing, and asks its agent again only for a host that it forwards it to (H-20).
    #[must_use]
    pub fn new(lock: Arc<AgentLock>, is_after_login: bool) -> Self {
        Self {
            lock,
            session: Session::Unbound,
            is_after_login,
            has_signed_unbound: false,
        }
    }

    /// Whether a login was signed although the connection is not bound.
    #[must_use]
    pub fn has_signed_unbound(&self) -> bool {
        self.has_signed_unbound
    }

    /// Takes one message with the identities of this moment.
    #[must_use]
    pub fn step(&mut self, message: &[u8], identities: &[Identity]) -> Step {
        let Ok(request) = Request::parse(message) else {
            return Step::Answer(message::failure());
        };
        if let Request::SessionBind(body) = request {
            return self.bind(body);
        }
        if self.is_after_login && matches!(self.session, Session::Unbound) {
            return Step::Forward;
        }
        // A connection with a false binding has no business with the lock either.
        let decided = match &self.session {
            Session::Refused => None,
            _ => self.lock.decide(&request),
        };
        decided.unwrap_or_else(|| self.answer(&request, identities))
    }

    fn answer(&mut self, request: &Request<'_>, identities: &[Identity]) -> Step {
        match request {
            Request::Identities => self.list(identities),
            Request::Sign { blob, data, flags } => {
                let signature = self.sign(identities, blob, data, *flags);
                let unbound = matches!(self.session, Session::Unbound);
                self.has_signed_unbound |= unbound && signature.is_some();
                Step::Answer(signature.map_or_else(message::failure, |s| message::signature(&s)))
            }
            Request::Remove(blob) => self.remove(identities, |identity| identity.offers(blob)),
            Request::RemoveAll => self.remove(identities, |_| true),
            _ => Step::Answer(message::failure()),
        }
    }

    /// A connection that is forwarded for a host belongs to the user's own agent (H-20).
    fn bind(&mut self, body: &[u8]) -> Step {
        if session_bind::is_forwarding(body) == Ok(true) {
            return Step::Forward;
        }
        let binding = session_bind::verify(body).ok();
        match (&self.session, binding) {
            (Session::Unbound, Some(binding)) => {
                self.session = Session::Bound(binding.session_id);
                Step::Answer(message::success())
            }
            _ => {
                self.session = Session::Refused;
                Step::Answer(message::failure())
            }
        }
    }

    fn remove(&self, identities: &[Identity], wanted: impl Fn(&Identity) -> bool) -> Step {
        let refused = matches!(self.session, Session::Refused);
        let fitting = identities.iter().filter(|i| !refused && wanted(i));
        let removed = fitting.inspect(|i| i.withdrawal.withdraw()).count();
        Step::Answer(match removed {
            0 => message::failure(),
            _ => message::success(),
        })
    }

    fn list(&self, identities: &[Identity]) -> Step {
        if matches!(self.session, Session::Refused) {
            return Step::Answer(message::identities(&[]));
        }
        let left = identities.iter().filter(|i| !i.withdrawal.is_final());
        let offered = left.flat_map(|identity| &identity.offered);
        let offered: Vec<_> = offered.cloned().collect();
        Step::Answer(message::identities(&offered))
    }

    fn sign(
        &self,
        identities: &[Identity],
        blob: &[u8],
        data: &[u8],
        flags: u32,
    ) -> Option<Vec<u8>> {
        let request = UserauthRequest::parse(data).ok()?;
        let session_fits = match &self.session {
            Session::Unbound => true,
            Session::Bound(id) => request.session_id == id,
            Session::Refused => false,
        };
        if !session_fits || request.blob != blob || !flags_fit(request.hash, flags) {
            return None;
        }
        let fits = |identity: &&Identity| {
            let ours = identity.offers(blob) && !identity.withdrawal.is_final();
            ours && request.user == identity.user.as_str().as_bytes()
        };
        let identity = identities.iter().find(fits)?;
        identity.key.sign(data, request.hash).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyType;
    use eic_protocol::wire::Writer;

    fn identity(user: &str) -> Identity {
        let key = Arc::new(EphemeralKey::generate(KeyType::Ed25519).unwrap());
        Identity {
            user: user.parse().unwrap(),
            offered: vec![(key.public().blob().to_vec(), user.to_owned())],
            key,
            withdrawal: Withdrawal::default(),
        }
    }

    fn login(session: &[u8], user: &str, blob: &[u8]) -> Vec<u8> {
        let mut w = Writer::new();
        w.string(session)
            .byte(50)
            .string(user.as_bytes())
            .string(b"ssh-connection")
            .string(b"publickey")
            .byte(1)
            .string(b"ssh-ed25519")
            .string(blob);
        w.into_bytes()
    }

    fn sign_request(blob: &[u8], data: &[u8]) -> Vec<u8> {
        let mut w = Writer::new();
        w.byte(13).string(blob).string(data).u32(0);
        w.into_bytes()
    }

    /// By a host key of the test's own.
    fn bind(session: &[u8], forwarding: u8) -> Vec<u8> {
        let host = EphemeralKey::generate(KeyType::Ed25519).unwrap();
        let signature = host
            .sign(session, crate::key::SignatureHash::OfKey)
            .unwrap();
        let mut w = Writer::new();
        w.byte(27)
            .string(b"session-bind@openssh.com")
            .string(host.public().blob())
            .string(session)
            .string(&signature)
            .byte(forwarding);
        w.into_bytes()
    }

    fn is_signed(step: &Step) -> bool {
        matches!(step, Step::Answer(answer) if answer.get(4) == Some(&14))
    }

    #[test]
    fn anything_but_a_login_of_its_own_user_is_not_signed() {
        // H-19
        let (web, db) = (identity("ubuntu"), identity("postgres"));
        let (blob, identities) = (web.offered[0].0.clone(), [web, db]);
        for (name, data) in [
            ("another user", login(b"s", "postgres", &blob)),
            ("another key in it", login(b"s", "ubuntu", b"x")),
            ("no login", b"SSHSIG\0\0\0\x04file".to_vec()),
            ("no session", login(b"", "ubuntu", &blob)),
        ] {
            let step = SharedConversation::default().step(&sign_request(&blob, &data), &identities);
            assert!(!is_signed(&step), "{name}");
        }
        let good = sign_request(&blob, &login(b"s", "ubuntu", &blob));
        assert!(is_signed(
            &SharedConversation::default().step(&good, &identities)
        ));
    }

    #[test]
    fn a_bound_connection_signs_for_its_session_only_and_is_bound_once() {
        // H-19
        let identities = [identity("ubuntu")];
        let blob = &identities[0].offered[0].0;
        let request = |session: &[u8]| sign_request(blob, &login(session, "ubuntu", blob));
        let mut bound = SharedConversation::default();
        assert_eq!(
            bound.step(&bind(b"one", 0), &identities),
            Step::Answer(message::success())
        );
        assert!(!is_signed(&bound.step(&request(b"two"), &identities)));
        assert!(is_signed(&bound.step(&request(b"one"), &identities)));
        assert_eq!(
            bound.step(&bind(b"two", 0), &identities),
            Step::Answer(message::failure())
        );
        assert!(!is_signed(&bound.step(&request(b"one"), &identities)));
        let none = Step::Answer(message::identities(&[]));
        assert_eq!(bound.step(&[11], &identities), none);
    }

    #[test]
    fn a_forwarded_connection_belongs_to_the_users_own_agent() {
        // H-20
        let mut conversation = SharedConversation::default();
        let step = conversation.step(&bind(b"s", 1), &[identity("ubuntu")]);
        assert_eq!(step, Step::Forward);
    }

    #[test]
    fn after_the_login_of_an_ssh_that_marks_nothing_an_unbound_connection_is_a_forwarded_one() {
        // H-20
        let identities = [identity("ubuntu")];
        let blob = &identities[0].offered[0].0;
        let good = sign_request(blob, &login(b"s", "ubuntu", blob));
        let mut first = SharedConversation::default();
        assert!(!first.has_signed_unbound());
        assert!(is_signed(&first.step(&good, &identities)) && first.has_signed_unbound());
        for request in [&[11][..], &good, &with_text(22, b"word")] {
            let mut second = SharedConversation::new(Arc::default(), true);
            assert_eq!(second.step(request, &identities), Step::Forward);
        }
        // One that binds says itself what it is.
        let mut bound = SharedConversation::new(Arc::default(), true);
        let _ = bound.step(&bind(b"s", 0), &identities);
        assert!(is_signed(&bound.step(&good, &identities)) && !bound.has_signed_unbound());
    }

    #[test]
    fn adding_keys_is_refused_with_constraints_and_without() {
        // H-06: no key is taken, so that no constraint can be lost.
        let refused = Step::Answer(message::failure());
        for number in [17, 20, 21, 25, 26] {
            let step = SharedConversation::default().step(&[number], &[identity("ubuntu")]);
            assert_eq!(step, refused, "{number}");
        }
    }

    fn with_text(number: u8, text: &[u8]) -> Vec<u8> {
        let mut w = Writer::new();
        w.byte(number).string(text);
        w.into_bytes()
    }

    #[test]
    fn a_removed_identity_is_neither_listed_nor_signed_with_and_others_stay() {
        let identities = [identity("ubuntu"), identity("postgres")];
        let blob = &identities[0].offered[0].0;
        let mut conversation = SharedConversation::default();
        let mut step = |message: &[u8]| conversation.step(message, &identities);
        let failure = Step::Answer(message::failure());
        assert_eq!(step(&with_text(18, b"unknown")), failure);
        assert_eq!(step(&with_text(18, blob)), Step::Answer(message::success()));
        let left = Step::Answer(message::identities(&identities[1].offered));
        assert_eq!(step(&[11]), left);
        assert!(!is_signed(&step(&sign_request(
            blob,
            &login(b"s", "ubuntu", blob)
        ))));
        assert_eq!(step(&[19]), Step::Answer(message::success()));
        assert_eq!(step(&[11]), Step::Answer(message::identities(&[])));
    }

    #[test]
    fn a_locked_socket_lists_and_signs_nothing_on_any_connection() {
        let identities = [identity("ubuntu")];
        let blob = &identities[0].offered[0].0;
        let lock = Arc::new(AgentLock::default());
        let mut one = SharedConversation::new(Arc::clone(&lock), false);
        let mut other = SharedConversation::new(Arc::clone(&lock), false);
        let locked = one.step(&with_text(22, b"word"), &identities);
        assert_eq!(locked, Step::Answer(message::success()));
        let none = Step::Answer(message::identities(&[]));
        let good = sign_request(blob, &login(b"s", "ubuntu", blob));
        assert_eq!(other.step(&[11], &identities), none);
        assert!(!is_signed(&other.step(&good, &identities)));
        // A forwarded connection is one also while the lock is on.
        assert_eq!(other.step(&bind(b"s", 1), &identities), Step::Forward);
        // A connection with a false binding cannot open it.
        let mut refused = SharedConversation::new(lock, false);
        let _ = refused.step(&with_text(27, b"session-bind@openssh.com"), &identities);
        let step = refused.step(&with_text(23, b"word"), &identities);
        assert_eq!(step, Step::Answer(message::failure()));
        let opened = one.step(&with_text(23, b"word"), &identities);
        assert_eq!(opened, Step::Answer(message::success()));
        assert!(is_signed(&one.step(&good, &identities)));
    }
}
