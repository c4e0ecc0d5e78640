//! Tokens whose signature is good and that must not count all the same.

use serde_json::{Value, json};

use super::*;
use crate::testing::token_issuer::TokenIssuer;
use crate::web_token::jwt;

const NOW: u64 = 1_800_000_000;
const AUDIENCE: &str = "https://ca.example";

struct Desk {
    keys: TokenIssuer,
    issuer: Issuer,
}

impl Desk {
    fn new() -> Self {
        Self {
            keys: TokenIssuer::new(),
            issuer: "https://issuer.example".parse().unwrap(),
        }
    }

    fn check(&self, token: &str) -> Result<Verified, InvalidToken> {
        let rules = TokenRules {
            issuer: &self.issuer,
            audiences: &[AUDIENCE],
            algorithms: &[Algorithm::Es384, Algorithm::Es256, Algorithm::Rs256],
        };
        verify(
            &Jwt::parse(token)?,
            &rules,
            &jwt::tests::set(&self.keys),
            NOW,
        )
    }

    fn with(&self, name: &str, value: Value) -> Result<Verified, InvalidToken> {
        let mut claims = good();
        claims[name] = value;
        self.check(&self.keys.token(&claims))
    }

    fn without(&self, name: &str) -> Result<Verified, InvalidToken> {
        let mut claims = good();
        claims.as_object_mut().unwrap().remove(name);
        self.check(&self.keys.token(&claims))
    }
}

fn good() -> Value {
    json!({ "iss": "https://issuer.example", "aud": AUDIENCE, "sub": "job", "iat": NOW, "exp": NOW + 300, "jti": "1" })
}

#[test]
fn other_audiences_prefixes_and_lists_are_refused() {
    // B-08
    let desk = Desk::new();
    for audience in [
        json!("https://ca.example.evil"),
        json!("https://ca.exampl"),
        json!("https://ca.example/"),
        json!("sts.amazonaws.com"),
        json!([AUDIENCE, "https://other.example"]),
        json!(["https://other.example", AUDIENCE]),
        json!([AUDIENCE, AUDIENCE]),
        json!([]),
        json!({}),
        json!(null),
        json!(vec![AUDIENCE; 300]),
    ] {
        assert_eq!(
            desk.with("aud", audience.clone()).unwrap_err(),
            InvalidToken::Audience,
            "{audience}"
        );
    }
    assert_eq!(desk.without("aud").unwrap_err(), InvalidToken::Audience);
    assert!(desk.with("aud", json!([AUDIENCE])).is_ok());
}

#[test]
fn issuers_that_only_look_like_ours_are_refused() {
    // B-09, B-24
    let desk = Desk::new();
    for issuer in [
        "https://issuer.example/",
        "https://ISSUER.example",
        "http://issuer.example",
        "https://issuer.example.evil",
        "https://x@issuer.example",
        "https://issuer\u{3002}example",
        "issuer.example",
    ] {
        assert_eq!(
            desk.with("iss", json!(issuer)).unwrap_err(),
            InvalidToken::Issuer,
            "{issuer}"
        );
    }
    assert_eq!(desk.without("iss").unwrap_err(), InvalidToken::Issuer);
}

#[test]
fn tokens_out_of_their_time_are_refused() {
    // B-11
    let desk = Desk::new();
    let refused = |name: &str, value: u64| desk.with(name, json!(value)).unwrap_err();
    assert_eq!(refused("iat", NOW - 901), InvalidToken::Old(901));
    assert_eq!(refused("iat", NOW + 61), InvalidToken::Future);
    assert_eq!(refused("nbf", NOW + 600), InvalidToken::Future);
    assert_eq!(refused("exp", NOW), InvalidToken::Ended);
    assert_eq!(refused("exp", NOW - 1), InvalidToken::Ended);
    for name in ["iat", "exp", "nbf"] {
        for value in [
            json!("1800000000"),
            json!(null),
            json!(1.8e9 + 0.5),
            json!(-1),
            json!([]),
        ] {
            let refused = desk.with(name, value.clone()).unwrap_err();
            let told = refused.to_string();
            assert!(
                told.contains("not a whole number"),
                "{name} {value}: {told}"
            );
        }
    }
    assert!(desk.with("iat", json!(1.8e9)).is_ok(), "the same number");
    // A long life is the issuer's business; its age is ours.
    assert!(desk.with("exp", json!(NOW + 86_400)).is_ok());
    assert!(desk.with("iat", json!(NOW - 900)).is_ok());
}

#[test]
fn tokens_without_the_claims_of_an_id_token_are_refused() {
    // B-22: a legacy service account token has neither audience nor end.
    let desk = Desk::new();
    for name in ["sub", "iat", "exp"] {
        assert!(
            matches!(desk.without(name).unwrap_err(), InvalidToken::Claims(_)),
            "{name}"
        );
    }
    for subject in [
        json!(""),
        json!("a\nb"),
        json!("\u{e9}"),
        json!("s".repeat(513)),
        json!(7),
        json!(["job"]),
    ] {
        assert!(
            matches!(
                desk.with("sub", subject.clone()).unwrap_err(),
                InvalidToken::Claims(_)
            ),
            "{subject}"
        );
    }
}

#[test]
fn a_report_of_security_events_signs_nobody_in() {
    // B-24: a logout token, which need not say so in its header.
    let desk = Desk::new();
    let event = "http://schemas.openid.net/event/backchannel-logout";
    for events in [json!({ event: {} }), json!({}), json!(null)] {
        let refused = desk.with("events", events.clone()).unwrap_err();
        assert!(matches!(refused, InvalidToken::Claims(_)), "{events}");
    }
}

#[test]
fn repeated_members_are_refused_wherever_they_are() {
    // B-13
    let desk = Desk::new();
    let rest = format!(
        r#""iss":"https://issuer.example","aud":"{AUDIENCE}","iat":{NOW},"exp":{}"#,
        NOW + 300
    );
    let header = r#"{"alg":"ES384","kid":"ec"}"#;
    let sign = |claims: &str| desk.keys.sign_text(header, claims);
    assert!(
        desk.check(&sign(&format!(r#"{{{rest},"sub":"a"}}"#)))
            .is_ok()
    );
    for claims in [
        format!(r#"{{{rest},"sub":"a","sub":"b"}}"#),
        format!(r#"{{{rest},"sub":"a","iat":{NOW}}}"#),
        format!(r#"{{{rest},"sub":"a","x":1,"x":2}}"#),
        format!(r#"{{{rest},"sub":"a","x":{{"y":1,"y":2}}}}"#),
        format!(r#"{{{rest},"sub":"a"}} "#).replace("} ", "}{}"),
        format!(r#"[{{{rest},"sub":"a"}}]"#),
        // B-14
        format!(
            r#"{{{rest},"sub":"a","x":{}{}}}"#,
            "[".repeat(2_000),
            "]".repeat(2_000)
        ),
    ] {
        let token = sign(&claims);
        assert!(
            desk.check(&token).is_err(),
            "{}",
            &claims[..claims.len().min(200)]
        );
    }
}

#[test]
fn a_token_counts_once_whatever_its_signature_looks_like() {
    // B-12
    let desk = Desk::new();
    let claim = |token: &str| desk.check(token).unwrap().claim;
    let mut without_id = good();
    without_id.as_object_mut().unwrap().remove("jti");
    // ECDSA signatures are random: two tokens of the same claims differ in nothing else.
    let (first, second) = (desk.keys.token(&without_id), desk.keys.token(&without_id));
    assert_ne!(first, second);
    assert_eq!(claim(&first), claim(&second));
    // The same id is the same token, in whatever other words.
    let mut other_words = good();
    other_words["x"] = json!("y");
    assert_eq!(
        claim(&desk.keys.token(&good())),
        claim(&desk.keys.token(&other_words))
    );
    let mut other = good();
    other["jti"] = json!("2");
    assert_ne!(
        claim(&desk.keys.token(&good())),
        claim(&desk.keys.token(&other))
    );
}
