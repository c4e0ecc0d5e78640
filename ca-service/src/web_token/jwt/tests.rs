//! Tokens that must not count.

use serde_json::json;

use super::*;
use crate::testing::token_issuer::{TokenIssuer, encode};

const BOTH: &[Algorithm] = &[Algorithm::Es384, Algorithm::Rs256];

pub(crate) fn set(issuer: &TokenIssuer) -> KeySet {
    KeySet::parse(issuer.key_set().to_string().as_bytes()).unwrap()
}

fn check(issuer: &TokenIssuer, token: &str, algorithms: &[Algorithm]) -> Result<(), InvalidJwt> {
    Jwt::parse(token)?
        .verified(&set(issuer), algorithms)
        .map(drop)
}

#[test]
fn algorithms_other_than_the_configured_ones_are_refused() {
    // B-01, B-02, B-03
    let issuer = TokenIssuer::new();
    let claims = json!({ "iss": "x" });
    for alg in [
        "none", "None", "HS256", "HS384", "RS512", "PS256", "", "es384",
    ] {
        for kid in ["ec", "rsa"] {
            let token = issuer.sign(&json!({ "alg": alg, "kid": kid }), &claims);
            assert_eq!(
                check(&issuer, &token, BOTH),
                Err(InvalidJwt::Algorithm),
                "{alg}"
            );
        }
    }
    for (alg, kid) in [
        ("RS256", "ec"),
        ("ES256", "ec"),
        ("ES384", "p256"),
        ("ES256", "rsa"),
        ("EdDSA", "ec"),
        ("ES256", "ed"),
    ] {
        let all = Algorithm::NAMES.map(|(_, algorithm)| algorithm);
        let crossed = issuer.sign(&json!({ "alg": alg, "kid": kid }), &claims);
        let refused = check(&issuer, &crossed, &all);
        assert_eq!(refused, Err(InvalidJwt::Algorithm), "{alg} {kid}");
    }
    let p256 = issuer.sign(&json!({ "alg": "ES256", "kid": "p256" }), &claims);
    assert_eq!(check(&issuer, &p256, &[Algorithm::Es256]), Ok(()));
    assert_eq!(check(&issuer, &p256, BOTH), Err(InvalidJwt::Algorithm));
    let ed = issuer.sign(&json!({ "alg": "EdDSA", "kid": "ed" }), &claims);
    assert_eq!(check(&issuer, &ed, &[Algorithm::EdDsa]), Ok(()));
    assert_eq!(check(&issuer, &ed, BOTH), Err(InvalidJwt::Algorithm));
    let rsa = issuer.sign(&json!({ "alg": "RS256", "kid": "rsa" }), &claims);
    assert_eq!(check(&issuer, &rsa, BOTH), Ok(()));
    assert_eq!(
        check(&issuer, &rsa, &[Algorithm::Es384]),
        Err(InvalidJwt::Algorithm)
    );
}

#[test]
fn headers_that_bring_keys_or_extensions_are_refused() {
    // B-06, B-07
    let issuer = TokenIssuer::new();
    for (name, value) in [
        ("jwk", issuer.key_set()["keys"][0].clone()),
        ("jku", json!("https://evil.example/keys")),
        ("x5u", json!("https://evil.example/chain")),
        ("x5c", json!(["AAAA"])),
        ("crit", json!([])),
        ("crit", json!(["exp2"])),
        ("b64", json!(false)),
        ("cty", json!("JWT")),
        ("zip", json!("DEF")),
        ("enc", json!("A256GCM")),
    ] {
        let mut header = json!({ "alg": "ES384", "kid": "ec" });
        header[name] = value;
        let token = issuer.sign(&header, &json!({}));
        assert_eq!(
            check(&issuer, &token, BOTH),
            Err(InvalidJwt::Header),
            "{name}"
        );
    }
}

#[test]
fn tokens_that_say_they_are_for_something_else_are_refused() {
    // B-24: several kinds of token come from one issuer, signed by one key (CVE-2020-16251).
    let issuer = TokenIssuer::new();
    let typed = |typ| {
        let header = json!({ "alg": "ES384", "kid": "ec", "typ": typ });
        issuer.sign(&header, &json!({}))
    };
    for typ in [
        "logout+jwt",
        "secevent+jwt",
        "application/dpop+jwt",
        "oauth-authz-req+jwt",
        "kb+jwt",
        "JWS",
        "",
    ] {
        let refused = check(&issuer, &typed(json!(typ)), BOTH);
        assert_eq!(refused, Err(InvalidJwt::Type), "{typ}");
    }
    assert!(check(&issuer, &typed(json!(["JWT"])), BOTH).is_err());
    for (typ, is) in [
        ("JWT", TokenType::Plain),
        ("application/jwt", TokenType::Plain),
        ("JOSE", TokenType::Plain),
        ("at+JWT", TokenType::Access),
        ("application/at+jwt", TokenType::Access),
    ] {
        let token = typed(json!(typ));
        assert_eq!(check(&issuer, &token, BOTH), Ok(()), "{typ}");
        assert_eq!(Jwt::parse(&token).unwrap().token_type(), is, "{typ}");
    }
}

#[test]
fn other_encodings_of_a_token_are_refused() {
    // B-13, B-14, B-26
    let issuer = TokenIssuer::new();
    let token = issuer.token(&json!({ "iss": "x" }));
    assert_eq!(check(&issuer, &token, BOTH), Ok(()));
    let last = if token.ends_with('A') { "B" } else { "A" };
    for bad in [
        String::new(),
        "..".to_owned(),
        format!("{token}="),
        format!(" {token}"),
        format!("{token}\n"),
        format!("{token}.{token}"),
        format!("{}{last}", &token[..token.len() - 1]),
        token.replacen('.', "..", 1),
        json!({ "payload": "e30", "signatures": [] }).to_string(),
        issuer.sign_text(r#"{"alg":"none","alg":"ES384","kid":"ec"}"#, "{}"),
        issuer.sign_text(r#"{"alg":"ES384","kid":"ec","kid":"rsa"}"#, "{}"),
        format!("{}.{}.x", encode(b"{}"), "a".repeat(17_000)),
        format!("{}.e30.e30", encode("[".repeat(10_000).as_bytes())),
    ] {
        assert!(
            check(&issuer, &bad, BOTH).is_err(),
            "{}",
            &bad[..bad.len().min(60)]
        );
    }
}

#[test]
fn signatures_out_of_range_or_of_another_issuer_are_refused() {
    // B-24, B-27
    let (issuer, other) = (TokenIssuer::new(), TokenIssuer::new());
    let token = other.token(&json!({ "iss": "x" }));
    assert_eq!(check(&issuer, &token, BOTH), Err(InvalidJwt::Signature));
    let (signed, _) = token.rsplit_once('.').unwrap();
    for signature in [
        vec![0; 96],
        vec![0xff; 96],
        vec![1; 95],
        vec![1; 97],
        vec![],
        vec![0x30, 0x06, 2, 1, 1, 2, 1, 1],
    ] {
        let forged = format!("{signed}.{}", encode(&signature));
        assert_eq!(check(&other, &forged, BOTH), Err(InvalidJwt::Signature));
    }
    for (alg, kid, algorithm) in [
        ("ES256", "p256", Algorithm::Es256),
        ("EdDSA", "ed", Algorithm::EdDsa),
    ] {
        let token = other.sign(&json!({ "alg": alg, "kid": kid }), &json!({}));
        let (signed, _) = token.rsplit_once('.').unwrap();
        for signature in [
            vec![0; 64],
            vec![0xff; 64],
            vec![1; 63],
            vec![1; 65],
            vec![0x30, 0x06, 2, 1, 1, 2, 1, 1],
        ] {
            let forged = format!("{signed}.{}", encode(&signature));
            let refused = check(&other, &forged, &[algorithm]);
            assert_eq!(refused, Err(InvalidJwt::Signature), "{alg}");
        }
    }
}

#[test]
fn hostile_key_ids_find_nothing() {
    // B-05
    let issuer = TokenIssuer::new();
    for kid in ["../../etc/passwd", "ec\0", "EC", "unknown"] {
        let token = issuer.sign(&json!({ "alg": "ES384", "kid": kid }), &json!({}));
        assert_eq!(
            check(&issuer, &token, BOTH),
            Err(InvalidJwt::UnknownKey),
            "{kid}"
        );
    }
    for kid in [String::new(), "k".repeat(257)] {
        let token = issuer.sign(&json!({ "alg": "ES384", "kid": kid }), &json!({}));
        assert_eq!(check(&issuer, &token, BOTH), Err(InvalidJwt::Malformed));
    }
}

#[test]
fn weak_odd_and_ambiguous_keys_of_a_set_are_left_out() {
    // B-03, B-05, B-16
    let issuer = TokenIssuer::new();
    let good = issuer.key_set();
    let rsa = &good["keys"][1];
    let ec = &good["keys"][0];
    let ed = &good["keys"][3];
    let changed = |key: &serde_json::Value, name: &str, value: serde_json::Value| {
        let mut key = key.clone();
        key[name] = value;
        json!({ "keys": [key] }).to_string()
    };
    for bad in [
        changed(rsa, "n", json!(encode(&[0xff; 128]))),
        changed(rsa, "n", json!(encode(&[0xff; 2048]))),
        changed(rsa, "n", json!(encode(&[0xfe; 256]))),
        changed(rsa, "e", json!(encode(&[1]))),
        changed(rsa, "e", json!(encode(&[4]))),
        changed(rsa, "e", json!(encode(&[0xff; 64]))),
        changed(rsa, "use", json!("enc")),
        changed(rsa, "key_ops", json!(["sign"])),
        changed(rsa, "alg", json!("ES384")),
        changed(rsa, "kty", json!("oct")),
        changed(rsa, "kid", json!(null)),
        changed(ec, "crv", json!("P-256")),
        changed(ec, "x", json!(encode(&[0; 48]))),
        changed(ec, "x", json!(encode(&[1; 47]))),
        changed(ed, "crv", json!("Ed448")),
        changed(ed, "crv", json!("X25519")),
        changed(ed, "alg", json!("ES256")),
        changed(ed, "x", json!(encode(&[1; 31]))),
        // The identity, and a point of order 4: small order.
        changed(ed, "x", json!(encode(&identity_point()))),
        changed(ed, "x", json!(encode(&[0; 32]))),
        json!({ "keys": [ec, ec] }).to_string(),
        json!({ "keys": [] }).to_string(),
        json!({}).to_string(),
        "<html>".to_owned(),
        json!({ "keys": vec![ec; 33] }).to_string(),
    ] {
        assert!(KeySet::parse(bad.as_bytes()).is_none(), "{bad}");
    }
    let set = KeySet::parse(json!({ "keys": [ec, ec, rsa] }).to_string().as_bytes()).unwrap();
    assert!(
        set.has("rsa") && !set.has("ec"),
        "one id, two keys: neither counts"
    );
}

fn identity_point() -> [u8; 32] {
    let mut point = [0; 32];
    point[0] = 1;
    point
}
