//! One connection to the socket of `eic-login exec`: several identities, any host of theirs, as long as the command
//! runs. As a state machine without input or output. It signs logins only, as the sockets of single logins do;
//! which host key is good is the business of the tool that uses it.

use std::sync::Arc;

use eic_protocol::os_user::OsUser;

use super::conversation::{Step, flags_fit};
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
}

/// A connection.
#[derive(Debug, Default)]
pub struct SharedConversation {
    session: Session,
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
    /// Takes one message with the identities of this moment.
    #[must_use]
    pub fn step(&mut self, message: &[u8], identities: &[Identity]) -> Step {
        match Request::parse(message) {
            Ok(Request::SessionBind(body)) => self.bind(body),
            Ok(Request::Identities) => self.list(identities),
            Ok(Request::Sign { blob, data, flags }) => {
                let signature = self.sign(identities, blob, data, flags);
                Step::Answer(signature.map_or_else(message::failure, |s| message::signature(&s)))
            }
            Ok(Request::Other) | Err(_) => Step::Answer(message::failure()),
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

    fn list(&self, identities: &[Identity]) -> Step {
        if matches!(self.session, Session::Refused) {
            return Step::Answer(message::identities(&[]));
        }
        let offered = identities.iter().flat_map(|identity| &identity.offered);
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
            let ours = identity.offered.iter().any(|(offered, _)| offered == blob);
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
    fn adding_removing_and_locking_are_refused() {
        let refused = Step::Answer(message::failure());
        for number in [17, 18, 19, 22, 23, 25] {
            let step = SharedConversation::default().step(&[number], &[identity("ubuntu")]);
            assert_eq!(step, refused, "{number}");
        }
    }
}
