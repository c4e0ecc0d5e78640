//! What the issuer refuses, one thing wrong at a time.

use super::*;

const NOW: u64 = 1_000_000;
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
/// RFC 7636 appendix B.
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const REDIRECT: &str = "http://127.0.0.1:1234/callback";

fn people() -> (SignIns, String) {
    let mut people = SignIns::default();
    let ann = Person {
        subject: "00u1".into(),
        email: "ann@acme.example".into(),
        email_verified: true,
        groups: Vec::new(),
    };
    let session = people.enrol(ann).unwrap();
    (people, session)
}

/// A right form with one parameter changed.
fn form(right: &[(&str, &str)], name: &str, value: &str) -> Form {
    let pairs = right.iter().map(|(other, old)| match *other == name {
        true => format!("{other}={value}"),
        false => format!("{other}={old}"),
    });
    let text = pairs.collect::<Vec<_>>().join("&");
    let known = right.iter().any(|(other, _)| *other == name) || name.is_empty();
    let more = if known {
        String::new()
    } else {
        format!("&{name}={value}")
    };
    Form::parse(&format!("{text}{more}")).unwrap()
}

fn page(name: &str, value: &str) -> Form {
    let right = [
        ("response_type", "code"),
        ("client_id", CLIENT_ID),
        ("redirect_uri", REDIRECT),
        ("scope", "openid%20email"),
        ("state", "s"),
        ("nonce", "n"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    form(&right, name, value)
}

fn redemption(code: &str, name: &str, value: &str) -> Form {
    let right = [
        ("grant_type", "authorization_code"),
        ("client_id", CLIENT_ID),
        ("redirect_uri", REDIRECT),
        ("code", code),
        ("code_verifier", VERIFIER),
    ];
    form(&right, name, value)
}

#[test]
fn a_page_that_a_real_issuer_would_not_show_is_refused() {
    let (mut people, session) = people();
    let mut ask = |name: &str, value: &str| {
        let asked = page(name, value);
        people.authorize(&asked, &session, NOW).unwrap()
    };
    for (name, value) in [
        ("client_id", "other"),
        ("redirect_uri", "http://127.0.0.1.evil.example/callback"),
        ("redirect_uri", "http://127.0.0.1:1234/elsewhere"),
        ("redirect_uri", "http://127.0.0.1:99999/callback"),
        ("redirect_uri", "https://evil.example/callback"),
    ] {
        let refused = ask(name, value).unwrap_err();
        assert!(matches!(refused, Refusal::Page(_)), "{name}: {refused:?}");
    }
    for (name, value, error) in [
        ("response_type", "token", "unsupported_response_type"),
        ("code_challenge_method", "plain", "invalid_request"),
        ("code_challenge", "short", "invalid_request"),
        ("state", "", "invalid_request"),
        ("scope", "email", "invalid_scope"),
    ] {
        assert_eq!(
            ask(name, value).unwrap_err(),
            Refusal::Error(error),
            "{name}"
        );
    }
    assert!(ask("", "").is_ok());
    let stranger = people.authorize(&page("", ""), "guessed", NOW).unwrap();
    assert_eq!(stranger.unwrap_err(), Refusal::Page("sign in first"));
}

#[test]
fn a_code_counts_once_soon_and_for_who_began_the_sign_in() {
    let (mut people, session) = people();
    for (name, value, at, error) in [
        ("code_verifier", "another", NOW, "invalid_grant"),
        (
            "redirect_uri",
            "http://127.0.0.1:1/callback",
            NOW,
            "invalid_grant",
        ),
        ("code", "guessed", NOW, "invalid_grant"),
        ("", "", NOW + CODE_LIFETIME, "invalid_grant"),
        ("client_id", "other", NOW, "invalid_client"),
        ("client_secret", "x", NOW, "invalid_client"),
        ("grant_type", "password", NOW, "unsupported_grant_type"),
    ] {
        let code = people
            .authorize(&page("", ""), &session, NOW)
            .unwrap()
            .unwrap();
        let refused = people.redeem(&redemption(&code, name, value), at);
        assert_eq!(refused, Err(error), "{name}");
    }
    let code = people
        .authorize(&page("", ""), &session, NOW)
        .unwrap()
        .unwrap();
    let right = redemption(&code, "", "");
    let signed_in = people.redeem(&right, NOW).unwrap();
    assert_eq!(signed_in.person.subject, "00u1");
    assert_eq!(signed_in.nonce.as_deref(), Some("n"));
    assert!(signed_in.scopes.email && !signed_in.scopes.groups);
    assert_eq!(people.redeem(&right, NOW), Err("invalid_grant"));
    // Whoever shows a code with another verifier has spoilt it for all.
    let code = people
        .authorize(&page("", ""), &session, NOW)
        .unwrap()
        .unwrap();
    let stolen = people.redeem(&redemption(&code, "code_verifier", "another"), NOW);
    assert_eq!(stolen, Err("invalid_grant"));
    let late = people.redeem(&redemption(&code, "", ""), NOW);
    assert_eq!(late, Err("invalid_grant"));
}

#[test]
fn a_device_waits_asks_no_faster_than_told_and_is_served_once() {
    let (mut people, session) = people();
    let asks = |client: &str| Form::parse(&format!("client_id={client}&scope=openid")).unwrap();
    let refused = people.begin_device(&asks("other"), NOW).unwrap();
    assert_eq!(refused, Err("invalid_client"));
    let (code, user_code) = people.begin_device(&asks(CLIENT_ID), NOW).unwrap().unwrap();
    assert_eq!(user_code.len(), 9, "{user_code}");
    let asked = format!(
        "grant_type=urn:ietf:params:oauth:grant-type:device_code&client_id={CLIENT_ID}&device_code={code}"
    );
    let asked = Form::parse(&asked).unwrap();
    assert_eq!(people.redeem(&asked, NOW), Err("authorization_pending"));
    assert_eq!(people.redeem(&asked, NOW), Err("slow_down"));
    assert_eq!(people.pending(), 1);
    assert!(!people.enter("BBBB-BBBB-", &session, NOW));
    assert!(!people.enter(&user_code, "guessed", NOW));
    assert!(!people.enter(&user_code, &session, NOW + DEVICE_LIFETIME));
    assert!(people.enter(&user_code, &session, NOW));
    assert!(!people.enter(&user_code, &session, NOW), "a second person");
    assert_eq!(
        people.redeem(&asked, NOW + DEVICE_LIFETIME),
        Err("expired_token")
    );
    let signed_in = people.redeem(&asked, NOW + INTERVAL).unwrap();
    assert_eq!(
        (signed_in.person.subject.as_str(), signed_in.nonce),
        ("00u1", None)
    );
    assert_eq!(people.redeem(&asked, NOW + 9), Err("invalid_grant"));
}
