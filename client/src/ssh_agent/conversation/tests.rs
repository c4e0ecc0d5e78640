//! Conversations of a table: what ssh, an old ssh, a hostile host and a curious program send, and what they get.

use eic_protocol::wire::Writer;

use super::*;
use crate::key::{KeyType, SignatureHash};

const NOW: u64 = 1_000;
const SESSION: &[u8] = b"session-id-of-32-bytes..........";

fn conversation(logins: Vec<Arc<Login>>) -> Conversation {
    Conversation::new(logins, Arc::default())
}

struct World {
    key: Arc<EphemeralKey>,
    host: EphemeralKey,
    login: Arc<Login>,
}

fn world() -> World {
    let key = Arc::new(EphemeralKey::generate(KeyType::Ed25519).unwrap());
    let host = EphemeralKey::generate(KeyType::Ed25519).unwrap();
    let login = login(&key);
    login.trust_host_key(host.public().clone());
    World { key, host, login }
}

fn login(key: &Arc<EphemeralKey>) -> Arc<Login> {
    let offered = vec![(key.public().blob().to_vec(), "alice".to_owned())];
    Arc::new(Login::new(
        "alice".parse().unwrap(),
        Arc::clone(key),
        offered,
        NOW + 120,
    ))
}

fn bind(host: &EphemeralKey, session: &[u8], forwarding: bool) -> Vec<u8> {
    let mut w = Writer::new();
    w.byte(27)
        .string(b"session-bind@openssh.com")
        .string(host.public().blob())
        .string(session);
    w.string(&host.sign(session, SignatureHash::OfKey).unwrap())
        .byte(u8::from(forwarding));
    w.into_bytes()
}

struct Userauth<'a> {
    session: &'a [u8],
    user: &'a [u8],
    method: &'a [u8],
    host_key: Option<&'a [u8]>,
    tail: &'a [u8],
}

impl Default for Userauth<'_> {
    fn default() -> Self {
        Self {
            session: SESSION,
            user: b"alice",
            method: b"publickey",
            host_key: None,
            tail: b"",
        }
    }
}

impl Userauth<'_> {
    fn data(&self, blob: &[u8]) -> Vec<u8> {
        let mut w = Writer::new();
        w.string(self.session)
            .byte(50)
            .string(self.user)
            .string(b"ssh-connection")
            .string(self.method)
            .byte(1);
        w.string(b"ssh-ed25519").string(blob);
        if let Some(key) = self.host_key {
            w.string(key);
        }
        w.raw(self.tail);
        w.into_bytes()
    }
}

fn sign(blob: &[u8], data: &[u8]) -> Vec<u8> {
    let mut w = Writer::new();
    w.byte(13).string(blob).string(data).u32(0);
    w.into_bytes()
}

fn kind(step: &Step) -> &'static str {
    match step {
        Step::Forward => "forward",
        Step::AnswerAfter(..) => "late failure",
        Step::Answer(bytes) => match bytes[4] {
            5 => "failure",
            6 => "success",
            12 if bytes[5..9] == [0, 0, 0, 0] => "no identities",
            12 => "identities",
            14 => "signature",
            _ => "unknown",
        },
    }
}

fn bound(w: &World) -> Conversation {
    let mut conversation = self::conversation(vec![Arc::clone(&w.login)]);
    assert_eq!(
        kind(&conversation.step(&bind(&w.host, SESSION, false), NOW)),
        "success"
    );
    conversation
}

/// What somebody might want signed, with its name.
fn data_of_others(blob: &[u8], other: &SubjectKey) -> Vec<(&'static str, Vec<u8>)> {
    use eic_protocol::sshsig::{Namespace, signed_data};
    let hostbound = b"publickey-hostbound-v00@openssh.com";
    let with =
        |change: fn(Userauth<'static>) -> Userauth<'static>| change(Userauth::default()).data(blob);
    let to_other_host = Userauth {
        method: hostbound,
        host_key: Some(other.blob()),
        ..Userauth::default()
    };
    vec![
        ("SSHSIG", signed_data(Namespace::Request, b"message")),
        ("plain text", b"hello".to_vec()),
        (
            "another session",
            with(|u| Userauth {
                session: b"another",
                ..u
            }),
        ),
        ("another user", with(|u| Userauth { user: b"root", ..u })),
        (
            "another method",
            with(|u| Userauth {
                method: b"hostbased",
                ..u
            }),
        ),
        ("trailing bytes", with(|u| Userauth { tail: b"x", ..u })),
        (
            "hostbound without a host key",
            Userauth {
                method: hostbound,
                ..Userauth::default()
            }
            .data(blob),
        ),
        ("bound to another host key", to_other_host.data(blob)),
        ("another key inside", Userauth::default().data(other.blob())),
    ]
}

#[test]
fn anything_but_this_login_is_not_signed() {
    // H-19
    let w = world();
    let other = EphemeralKey::generate(KeyType::Ed25519).unwrap();
    let blob = w.key.public().blob();
    for (name, data) in data_of_others(blob, other.public()) {
        let mut conversation = bound(&w);
        assert_eq!(
            kind(&conversation.step(&sign(blob, &data), NOW)),
            "failure",
            "{name}"
        );
    }
    let foreign = sign(
        other.public().blob(),
        &Userauth::default().data(other.public().blob()),
    );
    assert_eq!(kind(&bound(&w).step(&foreign, NOW)), "failure");
    assert!(!w.login.has_signed());
}

#[test]
fn a_binding_to_a_host_that_was_not_verified_gets_nothing() {
    // H-19
    let w = world();
    let other = EphemeralKey::generate(KeyType::Ed25519).unwrap();
    let mut forged = bind(&w.host, SESSION, false);
    let at = forged.len() - 2;
    forged[at] ^= 1;
    let unverified = login(&w.key);
    for (name, login, message) in [
        ("another host", &w.login, bind(&other, SESSION, false)),
        ("a forged signature", &w.login, forged),
        (
            "truncated",
            &w.login,
            bind(&w.host, SESSION, false)[..40].to_vec(),
        ),
        ("no session id", &w.login, bind(&w.host, b"", false)),
        (
            "no verified host key at all",
            &unverified,
            bind(&w.host, SESSION, false),
        ),
    ] {
        let mut conversation = self::conversation(vec![Arc::clone(login)]);
        assert_eq!(kind(&conversation.step(&message, NOW)), "failure", "{name}");
        assert_eq!(
            kind(&conversation.step(&[11], NOW)),
            "no identities",
            "{name}"
        );
        let blob = w.key.public().blob();
        assert_eq!(
            kind(&conversation.step(&sign(blob, &Userauth::default().data(blob)), NOW)),
            "failure",
            "{name}"
        );
        // Not even a good binding afterwards repairs the connection.
        assert_eq!(
            kind(&conversation.step(&bind(&w.host, SESSION, false), NOW)),
            "failure",
            "{name}"
        );
    }
}

#[test]
fn a_connection_is_bound_once() {
    let w = world();
    let mut conversation = bound(&w);
    assert_eq!(
        kind(&conversation.step(&bind(&w.host, b"second session", false), NOW)),
        "failure"
    );
    assert_eq!(kind(&conversation.step(&[11], NOW)), "no identities");
}

#[test]
fn forwarded_connections_go_to_the_users_own_agent() {
    // H-20: a new ssh marks each forwarded connection.
    let w = world();
    let hostile = EphemeralKey::generate(KeyType::Ed25519).unwrap();
    for host in [&w.host, &hostile] {
        let mut conversation = self::conversation(vec![Arc::clone(&w.login)]);
        assert_eq!(
            conversation.step(&bind(host, SESSION, true), NOW),
            Step::Forward
        );
    }
}

#[test]
fn unmarked_connections_after_the_login_count_as_forwarded() {
    // H-20: ssh before 8.9 marks nothing.
    let w = world();
    let blob = w.key.public().blob();
    let mut first = conversation(vec![Arc::clone(&w.login)]);
    assert_eq!(kind(&first.step(&[11], NOW)), "identities");
    assert_eq!(
        kind(&first.step(&sign(blob, &Userauth::default().data(blob)), NOW)),
        "signature"
    );
    for message in [vec![11], sign(blob, &Userauth::default().data(blob))] {
        let mut later = conversation(vec![Arc::clone(&w.login)]);
        assert_eq!(later.step(&message, NOW), Step::Forward);
    }
}

#[test]
fn after_two_minutes_nothing_is_offered() {
    let w = world();
    let mut conversation = bound(&w);
    assert_eq!(kind(&conversation.step(&[11], NOW + 119)), "identities");
    assert_eq!(kind(&conversation.step(&[11], NOW + 120)), "no identities");
    let blob = w.key.public().blob();
    assert_eq!(
        kind(&conversation.step(&sign(blob, &Userauth::default().data(blob)), NOW + 120)),
        "failure"
    );
    let mut late = self::conversation(vec![Arc::clone(&w.login)]);
    assert_eq!(
        kind(&late.step(&bind(&w.host, SESSION, false), NOW + 120)),
        "failure"
    );
}

#[test]
fn adding_keys_and_unknown_messages_fail() {
    let w = world();
    for message in [&[17, 0][..], &[25], &[255], &[], &[27, 0, 0, 0, 1, b'x']] {
        assert_eq!(
            kind(&bound(&w).step(message, NOW)),
            "failure",
            "{message:?}"
        );
    }
}

#[test]
fn a_login_to_the_verified_host_is_signed() {
    let w = world();
    let blob = w.key.public().blob();
    let hostbound = Userauth {
        method: b"publickey-hostbound-v00@openssh.com",
        host_key: Some(w.host.public().blob()),
        ..Userauth::default()
    };
    for data in [Userauth::default().data(blob), hostbound.data(blob)] {
        let mut conversation = bound(&w);
        assert_eq!(kind(&conversation.step(&[11], NOW)), "identities");
        let Step::Answer(answer) = conversation.step(&sign(blob, &data), NOW) else {
            panic!()
        };
        eic_protocol::sshsig::verify_raw(w.key.public(), &data, &answer[9..]).unwrap();
    }
}

#[test]
fn two_logins_on_one_socket_are_told_apart_by_the_host_key() {
    let (a, b) = (world(), world());
    let logins = vec![Arc::clone(&a.login), Arc::clone(&b.login)];
    for w in [&a, &b] {
        let mut conversation = self::conversation(logins.clone());
        assert_eq!(
            kind(&conversation.step(&bind(&w.host, SESSION, false), NOW)),
            "success"
        );
        let blob = w.key.public().blob();
        assert_eq!(
            kind(&conversation.step(&sign(blob, &Userauth::default().data(blob)), NOW)),
            "signature"
        );
    }
}

#[test]
fn rsa_keys_sign_with_sha_2_as_the_request_and_its_flags_say() {
    let key = Arc::new(EphemeralKey::generate(KeyType::Rsa3072).unwrap());
    let blob = key.public().blob();
    let host = EphemeralKey::generate(KeyType::Ed25519).unwrap();
    for (algorithm, flags, expected) in [
        (&b"ssh-rsa"[..], 0, "failure"),
        (b"ssh-rsa", 4, "failure"),
        (b"rsa-sha2-512", 2, "failure"),
        (b"rsa-sha2-256", 0, "failure"),
        (b"rsa-sha2-512", 4, "signature"),
        (b"rsa-sha2-256", 2, "signature"),
    ] {
        let login = login(&key);
        login.trust_host_key(host.public().clone());
        let mut conversation = self::conversation(vec![login]);
        let bound = conversation.step(&bind(&host, SESSION, false), NOW);
        assert_eq!(kind(&bound), "success");
        let mut data = Writer::new();
        data.string(SESSION)
            .byte(50)
            .string(b"alice")
            .string(b"ssh-connection");
        data.string(b"publickey")
            .byte(1)
            .string(algorithm)
            .string(blob);
        let mut request = Writer::new();
        request
            .byte(13)
            .string(blob)
            .string(data.as_slice())
            .u32(flags);
        let step = conversation.step(request.as_slice(), NOW);
        assert_eq!(kind(&step), expected, "{algorithm:?} {flags}");
        if let (Step::Answer(answer), "signature") = (step, expected) {
            eic_protocol::sshsig::verify_raw(key.public(), data.as_slice(), &answer[9..]).unwrap();
        }
    }
}

fn with_text(number: u8, text: &[u8]) -> Vec<u8> {
    let mut w = Writer::new();
    w.byte(number).string(text);
    w.into_bytes()
}

#[test]
fn a_locked_socket_lists_and_signs_nothing_and_still_tells_forwarded_connections() {
    let w = world();
    let lock = Arc::new(AgentLock::default());
    let on_it = || Conversation::new(vec![Arc::clone(&w.login)], Arc::clone(&lock));
    let mut conversation = on_it();
    let mut step = |message: &[u8]| kind(&conversation.step(message, NOW));
    assert_eq!(step(&with_text(22, b"word")), "success");
    assert_eq!(step(&bind(&w.host, SESSION, false)), "success");
    assert_eq!(step(&[11]), "no identities");
    let blob = w.key.public().blob();
    let good = sign(blob, &Userauth::default().data(blob));
    assert_eq!(step(&good), "failure");
    assert_eq!(step(&[19]), "failure");
    assert_eq!(
        on_it().step(&bind(&w.host, SESSION, true), NOW),
        Step::Forward
    );
    assert_eq!(step(&with_text(23, b"guess")), "late failure");
    assert_eq!(step(&with_text(23, b"word")), "success");
    assert_eq!(step(&good), "signature");
}

#[test]
fn a_connection_with_a_false_binding_can_neither_remove_nor_lock_nor_unlock() {
    let w = world();
    let other = EphemeralKey::generate(KeyType::Ed25519).unwrap();
    let mut refused = conversation(vec![Arc::clone(&w.login)]);
    let step = refused.step(&bind(&other, SESSION, false), NOW);
    assert_eq!(kind(&step), "failure");
    let blob = w.key.public().blob();
    for message in [
        with_text(22, b"word"),
        with_text(23, b"word"),
        with_text(18, blob),
        vec![19],
    ] {
        assert_eq!(kind(&refused.step(&message, NOW)), "failure");
    }
    assert!(w.login.offers(blob));
}

#[test]
fn a_removed_identity_is_neither_listed_nor_signed_with() {
    for removal in [None, Some(())] {
        let w = world();
        let blob = w.key.public().blob();
        let mut conversation = bound(&w);
        let mut step = |message: &[u8]| kind(&conversation.step(message, NOW));
        assert_eq!(step(&with_text(18, b"another")), "failure");
        let message = removal.map_or_else(|| vec![19], |()| with_text(18, blob));
        assert_eq!(step(&message), "success");
        assert_eq!(step(&[11]), "no identities");
        let good = sign(blob, &Userauth::default().data(blob));
        assert_eq!(step(&good), "failure");
    }
}
