//! Tests of the parent module.

use ed25519_dalek::{Signer as _, SigningKey};
use eic_protocol::api::instance::InstancesQuery;
use eic_protocol::api::session::NameStanding;
use eic_protocol::grant::Nonce;
use eic_protocol::proof::{Fields, Route};
use eic_protocol::request_id::RequestId;
use ssh_key::{Algorithm, EcdsaCurve, Signature};

use super::*;
use crate::caller::{OidcIdentity, Proven, TokenClaims, WebIdentity};
use crate::policy::json;
use eic_protocol::sshsig::Namespace;
use eic_protocol::wire::Writer;

const NOW: u64 = 1_800_000_000;

fn audience() -> Audience {
    "https://ca.example".parse().unwrap()
}

fn secret(byte: u8) -> GrantSecret {
    GrantSecret::new(vec![byte; 32]).unwrap()
}

fn sessions(mode: SessionMode) -> Sessions {
    Sessions::new(audience(), vec![secret(1)], mode, 900)
}

/// Both steps, as a request takes them.
fn authorize<R: Signed>(
    sessions: &Sessions,
    authorization: &Authorization,
    request: &R,
    key: Option<&SubjectKey>,
    now: u64,
) -> Result<Authorized, SessionError> {
    let presented = sessions.recognise(authorization.clone(), now)?;
    sessions.authorize(&presented, request, key, now)
}

fn caller() -> Caller {
    Caller::new(Proven {
        arn: "arn:aws:sts::111122223333:assumed-role/Dev/alice"
            .parse()
            .unwrap(),
        user_id: "AROA0123456789ABCDEF:alice".to_owned(),
        standing: NameStanding::Claimed,
        access_key_id: "ASIAABCDEFGHIJKLMNOP".parse().unwrap(),
        session_id: RequestId::from_random([7; 16]),
    })
}

fn key(byte: u8) -> (SigningKey, SubjectKey) {
    let key = SigningKey::from_bytes(&[byte; 32]);
    let line = ssh_key::PublicKey::from(ssh_key::public::Ed25519PublicKey(
        key.verifying_key().to_bytes(),
    ));
    (key, line.to_openssh().unwrap().parse().unwrap())
}

fn query(host: &str) -> InstancesQuery {
    InstancesQuery {
        host: Some(host.to_owned()),
        after: None,
    }
}

fn nonce(byte: u8) -> Nonce {
    Nonce::from_random([byte; 16])
}

/// `request`, signed by key number `signer` for the holder of `token`.
fn signed<R: Signed>(
    token: &GrantToken,
    signer: u8,
    time: u64,
    nonce: Nonce,
    request: &R,
) -> Authorization {
    let (private, public) = key(signer);
    let message = CanonicalRequest::of_granted(&audience(), time, nonce.as_bytes(), request);
    let signature = private.sign(&sshsig::signed_data(Namespace::Request, message.as_slice()));
    let signature = Signature::new(Algorithm::Ed25519, signature.to_bytes().to_vec()).unwrap();
    let signature = sshsig::blob(Namespace::Request, &public, &signature).unwrap();
    Authorization {
        grant: token.clone(),
        time,
        nonce,
        signature,
    }
}

fn opened(sessions: &Sessions) -> GrantToken {
    sessions.open(&caller(), &key(1).1, NOW).unwrap().token
}

fn refused(result: Result<Authorized, SessionError>) -> SessionError {
    result.map(|_| ()).unwrap_err()
}

#[test]
fn a_request_signed_by_another_key_is_refused() {
    //
    let sessions = sessions(SessionMode::On);
    let token = opened(&sessions);
    let by_another = signed(&token, 2, NOW, nonce(1), &query("web"));
    assert_eq!(
        refused(authorize(&sessions, &by_another, &query("web"), None, NOW)),
        SessionError::OtherKey
    );
    // The bound key is named, but another one signed.
    let (_, bound) = key(1);
    let error = refused(authorize(
        &sessions,
        &by_another,
        &query("web"),
        Some(&bound),
        NOW,
    ));
    assert_eq!(error, SessionError::OtherKey);
    // The bound key signed, and the request asks for another.
    let by_bound = signed(&token, 1, NOW, nonce(1), &query("web"));
    assert_eq!(
        refused(authorize(
            &sessions,
            &by_bound,
            &query("web"),
            Some(&key(2).1),
            NOW
        )),
        SessionError::OtherKey
    );
}

#[test]
fn a_signature_over_anything_else_is_refused() {
    //
    struct OtherRoute;
    impl Signed for OtherRoute {
        const ROUTE: Route = Route::Events;
        fn fields(&self, fields: &mut Fields) {
            fields.optional(Some("web"));
        }
    }
    let sessions = sessions(SessionMode::On);
    let token = opened(&sessions);
    let good = signed(&token, 1, NOW, nonce(1), &query("web"));
    let wrong = SessionError::Signature(InvalidSignature::Wrong);
    let other_route = signed(&token, 1, NOW, nonce(1), &OtherRoute);
    assert_eq!(
        refused(authorize(&sessions, &other_route, &query("web"), None, NOW)),
        wrong
    );
    assert_eq!(
        refused(authorize(&sessions, &good, &query("db"), None, NOW)),
        wrong
    );
    let later = Authorization {
        time: NOW + 1,
        ..good.clone()
    };
    assert_eq!(
        refused(authorize(&sessions, &later, &query("web"), None, NOW)),
        wrong
    );
    let renamed = Authorization {
        nonce: nonce(2),
        ..good.clone()
    };
    assert_eq!(
        refused(authorize(&sessions, &renamed, &query("web"), None, NOW)),
        wrong
    );
    let elsewhere = Sessions::new(
        "https://staging.example".parse().unwrap(),
        vec![secret(1)],
        SessionMode::On,
        900,
    );
    assert_eq!(
        refused(authorize(&elsewhere, &good, &query("web"), None, NOW)),
        wrong
    );
    assert!(authorize(&sessions, &good, &query("web"), None, NOW).is_ok());
}

#[test]
fn a_grant_that_was_changed_or_made_with_another_secret_is_refused() {
    let sessions = sessions(SessionMode::On);
    let token = opened(&sessions);
    let (payload, tag) = token.reveal().split_once('.').unwrap();
    let mut bytes = URL_SAFE_NO_PAD.decode(payload).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let changed = URL_SAFE_NO_PAD.encode(&bytes);
    let foreign = Sessions::new(audience(), vec![secret(2)], SessionMode::On, 900);
    for bad in [
        format!("{changed}.{tag}"),
        format!("{payload}."),
        format!("{payload}.{}", &tag[..tag.len() - 2]),
        format!("{payload}.{}", URL_SAFE_NO_PAD.encode([0; 32])),
        payload.to_owned(),
        format!("{payload}.{tag}.{tag}"),
        "a.b".to_owned(),
        opened(&foreign).reveal().to_owned(),
    ] {
        let forged: GrantToken = bad.parse().unwrap();
        let request = signed(&forged, 1, NOW, nonce(1), &query("web"));
        assert_eq!(
            refused(authorize(&sessions, &request, &query("web"), None, NOW)),
            SessionError::Invalid,
            "{bad}"
        );
    }
}

#[test]
fn a_grant_ends_after_its_time_and_is_not_good_before_it() {
    //
    let sessions = sessions(SessionMode::On);
    let token = opened(&sessions);
    let at = |now: u64| {
        authorize(
            &sessions,
            &signed(&token, 1, now, nonce(1), &query("web")),
            &query("web"),
            None,
            now,
        )
    };
    assert_eq!(refused(at(NOW + 900)), SessionError::Expired);
    assert_eq!(refused(at(NOW - 61)), SessionError::Expired);
    assert!(at(NOW + 899).is_ok() && at(NOW - 60).is_ok());
    let endless = Sessions::new(audience(), vec![secret(1)], SessionMode::On, u64::MAX);
    assert_eq!(
        endless.open(&caller(), &key(1).1, NOW).unwrap().expires_at,
        NOW + MAX_GRANT_TTL
    );
}

#[test]
fn a_request_of_another_minute_is_refused() {
    let sessions = sessions(SessionMode::On);
    let token = opened(&sessions);
    for time in [NOW - 61, NOW + 61, 0, u64::MAX] {
        let request = signed(&token, 1, time, nonce(1), &query("web"));
        let error = refused(authorize(&sessions, &request, &query("web"), None, NOW));
        assert_eq!(error, SessionError::Stale(time.abs_diff(NOW)));
    }
}

#[test]
fn a_nonce_counts_once_whatever_else_differs() {
    // one claim for one nonce of one key, at one time.
    let sessions = sessions(SessionMode::On);
    let token = opened(&sessions);
    let claim = |request: &Authorization, host: &str| {
        authorize(&sessions, request, &query(host), None, NOW)
            .unwrap()
            .claim()
    };
    let first = claim(&signed(&token, 1, NOW, nonce(1), &query("web")), "web");
    assert_eq!(
        first,
        claim(&signed(&token, 1, NOW, nonce(1), &query("db")), "db")
    );
    assert_ne!(
        first,
        claim(&signed(&token, 1, NOW, nonce(2), &query("web")), "web")
    );
}

#[test]
fn with_sessions_off_the_whole_grant_counts_once() {
    let sessions = sessions(SessionMode::Off);
    let token = opened(&sessions);
    let claim = |byte: u8, time: u64| {
        let request = signed(&token, 1, time, nonce(byte), &query("web"));
        authorize(&sessions, &request, &query("web"), None, NOW)
            .unwrap()
            .claim()
    };
    assert_eq!(claim(1, NOW), claim(2, NOW + 5));
    let another = sessions.open(&caller(), &key(1).1, NOW + 1).unwrap().token;
    let request = signed(&another, 1, NOW, nonce(1), &query("web"));
    assert_ne!(
        claim(1, NOW),
        authorize(&sessions, &request, &query("web"), None, NOW)
            .unwrap()
            .claim()
    );
}

#[test]
fn another_lifetime_in_the_configuration_does_not_make_a_used_grant_new() {
    let long = Sessions::new(audience(), vec![secret(1)], SessionMode::Off, 900);
    let short = Sessions::new(audience(), vec![secret(1)], SessionMode::Off, 300);
    let request = signed(&opened(&long), 1, NOW, nonce(1), &query("web"));
    let claim = |sessions: &Sessions| {
        let authorized = authorize(sessions, &request, &query("web"), None, NOW);
        authorized.unwrap().claim()
    };
    assert_eq!(claim(&long), claim(&short));
}

#[test]
fn the_other_spelling_of_an_ecdsa_signature_is_the_same_claim() {
    // (r, s) and (r, n − s) both verify.
    let private = p256::ecdsa::SigningKey::from_slice(&[9; 32]).unwrap();
    let public = ssh_key::public::EcdsaPublicKey::from(*private.verifying_key());
    let public: SubjectKey = ssh_key::PublicKey::from(ssh_key::public::KeyData::Ecdsa(public))
        .to_openssh()
        .unwrap()
        .parse()
        .unwrap();
    let sessions = sessions(SessionMode::On);
    let token = sessions.open(&caller(), &public, NOW).unwrap().token;
    let message =
        CanonicalRequest::of_granted(&audience(), NOW, nonce(1).as_bytes(), &query("web"));
    let signature: p256::ecdsa::Signature =
        private.sign(&sshsig::signed_data(Namespace::Request, message.as_slice()));
    let twin = p256::ecdsa::Signature::from_scalars(
        signature.r().to_bytes(),
        (-*signature.s()).to_bytes(),
    )
    .unwrap();
    let claims: Vec<_> = [signature, twin]
        .into_iter()
        .map(|signature| {
            let mut data = Writer::new();
            data.mpint(&signature.r().to_bytes())
                .mpint(&signature.s().to_bytes());
            let algorithm = Algorithm::Ecdsa {
                curve: EcdsaCurve::NistP256,
            };
            let signature = Signature::new(algorithm, data.into_bytes()).unwrap();
            let signature = sshsig::blob(Namespace::Request, &public, &signature).unwrap();
            let request = Authorization {
                grant: token.clone(),
                time: NOW,
                nonce: nonce(1),
                signature,
            };
            authorize(&sessions, &request, &query("web"), None, NOW)
                .unwrap()
                .claim()
        })
        .collect();
    assert_eq!(claims[0], claims[1]);
}

#[test]
fn a_replaced_secret_still_verifies_until_it_is_gone() {
    let old = sessions(SessionMode::On);
    let token = opened(&old);
    let request = signed(&token, 1, NOW, nonce(1), &query("web"));
    let both = Sessions::new(audience(), vec![secret(2), secret(1)], SessionMode::On, 900);
    let authorized = authorize(&both, &request, &query("web"), None, NOW).unwrap();
    assert_eq!(**authorized.caller(), caller());
    let gone = Sessions::new(audience(), vec![secret(2)], SessionMode::On, 900);
    assert_eq!(
        refused(authorize(&gone, &request, &query("web"), None, NOW)),
        SessionError::Invalid
    );
}

#[test]
fn a_grant_that_is_known_already_still_ends_and_still_needs_each_signature() {
    // what is remembered is that the grant is ours, nothing else.
    let sessions = sessions(SessionMode::On);
    let token = opened(&sessions);
    let good = signed(&token, 1, NOW, nonce(1), &query("web"));
    for _ in 0..2 {
        assert!(authorize(&sessions, &good, &query("web"), None, NOW).is_ok());
    }
    let by_another = signed(&token, 2, NOW, nonce(1), &query("web"));
    assert_eq!(
        refused(authorize(&sessions, &by_another, &query("web"), None, NOW)),
        SessionError::OtherKey
    );
    let other = Some(&key(2).1);
    for (request, host, key) in [(&good, "db", None), (&good, "web", other)] {
        assert!(authorize(&sessions, request, &query(host), key, NOW).is_err());
    }
    let later = signed(&token, 1, NOW + 900, nonce(2), &query("web"));
    assert_eq!(
        refused(authorize(&sessions, &later, &query("web"), None, NOW + 900)),
        SessionError::Expired
    );
    // Not even by one character.
    let (payload, tag) = token.reveal().split_once('.').unwrap();
    let first = if tag.starts_with('A') { "B" } else { "A" };
    let forged = format!("{payload}.{first}{}", &tag[1..]).parse().unwrap();
    let forged = signed(&forged, 1, NOW, nonce(3), &query("web"));
    assert_eq!(
        refused(authorize(&sessions, &forged, &query("web"), None, NOW)),
        SessionError::Invalid
    );
}

#[test]
fn so_many_grants_are_remembered_and_no_more() {
    // G-14
    let sessions = sessions(SessionMode::On);
    let (_, bound) = key(1);
    for n in 0..5_000 {
        let grant = sessions.open(&caller(), &bound, NOW + n).unwrap().token;
        let request = Authorization {
            grant,
            time: NOW,
            nonce: nonce(1),
            signature: Vec::new(),
        };
        assert!(sessions.recognise(request, NOW + n).is_ok());
    }
    assert!(sessions.known.len() <= known::MOST);
}

#[test]
fn grants_that_are_over_are_forgotten() {
    let sessions = sessions(SessionMode::On);
    let (_, bound) = key(1);
    let recognised = |now| {
        let grant = sessions.open(&caller(), &bound, now).unwrap().token;
        let request = Authorization {
            grant,
            time: now,
            nonce: nonce(1),
            signature: Vec::new(),
        };
        assert!(sessions.recognise(request, now).is_ok());
        sessions.known.len()
    };
    for n in 0..20 {
        recognised(NOW + n);
    }
    assert!(
        recognised(NOW + MAX_GRANT_TTL + 20) > 20,
        "some of them live still"
    );
    assert_eq!(recognised(NOW + 2 * MAX_GRANT_TTL + 20), 2);
}

fn job(ends_at: u64) -> Caller {
    let identity = OidcIdentity {
        issuer: "https://issuer.example".parse().unwrap(),
        subject: "repo:acme/app".to_owned(),
        claims: TokenClaims::default(),
        ends_at,
    };
    Caller::of_oidc(
        identity,
        audience().as_str(),
        RequestId::from_random([7; 16]),
    )
}

fn with_token(ends_at: u64) -> Caller {
    caller().with_web_identity(WebIdentity {
        role_path: Some("/teams/".to_owned()),
        tags: Some([("team".to_owned(), "x".to_owned())].into()),
        organization: None,
        ends_at,
    })
}

#[test]
fn a_grant_never_outlives_the_token_that_was_shown() {
    // C-13
    let sessions = sessions(SessionMode::On);
    for (who, ends_at) in [
        (job(NOW + 60), NOW + 60),
        (with_token(NOW + 60), NOW + 60),
        (job(NOW + 86_400), NOW + 900),
    ] {
        let opened = sessions.open(&who, &key(1).1, NOW).unwrap();
        assert_eq!(opened.expires_at, ends_at, "{}", who.method());
        let late = signed(&opened.token, 1, ends_at, nonce(1), &query("web"));
        let refusal = refused(authorize(&sessions, &late, &query("web"), None, ends_at));
        assert_eq!(refusal, SessionError::Expired);
    }
}

#[test]
fn a_caller_with_a_token_comes_back_as_he_was_and_as_nobody_else() {
    let sessions = sessions(SessionMode::On);
    for who in [job(NOW + 60), with_token(NOW + 60), caller()] {
        let token = sessions.open(&who, &key(1).1, NOW).unwrap().token;
        let request = signed(&token, 1, NOW, nonce(1), &query("web"));
        let authorized = authorize(&sessions, &request, &query("web"), None, NOW).unwrap();
        assert_eq!(**authorized.caller(), who);
    }
}

#[test]
fn the_longest_names_and_claims_still_make_a_grant() {
    let members: Vec<_> = (0..30)
        .map(|n| (format!("claim-{n:02}"), json::Json::Text("v".repeat(40))))
        .collect();
    let identity = OidcIdentity {
        issuer: format!("https://issuer.example/{}", "i".repeat(233))
            .parse()
            .unwrap(),
        subject: "s".repeat(512),
        claims: TokenClaims::of(&members, None).unwrap(),
        ends_at: NOW + 60,
    };
    let who = Caller::of_oidc(
        identity,
        audience().as_str(),
        RequestId::from_random([7; 16]),
    );
    assert!(sessions(SessionMode::On).open(&who, &key(1).1, NOW).is_ok());
}
