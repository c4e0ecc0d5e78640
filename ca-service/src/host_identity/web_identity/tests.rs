//! Tokens that are no evidence of an instance.

use serde_json::{Value, json};

use super::*;
use crate::host_identity::jwt;
use crate::testing::token_issuer::{TokenIssuer, claims};
use crate::web_token::claims::InvalidToken as Flaw;

const NOW: u64 = 1_800_000_000;
const ISSUER: &str = "https://abc-1.tokens.sts.global.api.aws";
const AUDIENCE: &str = "https://ca.example.com";
const ARN: &str = "arn:aws:ec2:eu-west-1:111122223333:instance/i-0123456789abcdef0";
const AWS: &str = "https://sts.amazonaws.com/";

fn good() -> Value {
    claims(ISSUER, AUDIENCE, ARN, NOW)
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = good();
    claims[name] = value;
    claims
}

fn with_aws(name: &str, value: Value) -> Value {
    let mut claims = good();
    claims[AWS][name] = value;
    claims
}

struct Fixture {
    issuer: TokenIssuer,
    account: AccountId,
}

impl Fixture {
    fn new() -> Self {
        Self {
            issuer: TokenIssuer::new(),
            account: "111122223333".parse().unwrap(),
        }
    }

    fn check(&self, claims: &Value) -> Result<WebIdentity, InvalidToken> {
        self.check_text(&self.issuer.token(claims))
    }

    fn check_text(&self, token: &str) -> Result<WebIdentity, InvalidToken> {
        let issuer = ISSUER.parse().unwrap();
        let rules = TokenRules {
            issuer: &issuer,
            audience: AUDIENCE,
            account: &self.account,
            algorithms: &[Algorithm::Es384],
        };
        let jwt = Jwt::parse(token).map_err(Flaw::from)?;
        verify(&jwt, &rules, &jwt::tests::set(&self.issuer), NOW)
    }
}

fn is_unreadable(refused: &Result<WebIdentity, InvalidToken>) -> bool {
    matches!(refused, Err(InvalidToken::Token(Flaw::Claims(_))))
}

#[test]
fn another_issuer_or_audience_is_refused() {
    // B-08, B-09
    let fixture = Fixture::new();
    for iss in [
        format!("{ISSUER}/"),
        ISSUER.to_uppercase(),
        ISSUER.replace("https", "http"),
        format!("{ISSUER}.evil.example"),
        "https://x@abc-1.tokens.sts.global.api.aws".to_owned(),
    ] {
        assert_eq!(
            fixture.check(&with("iss", json!(iss))),
            Err(Flaw::Issuer.into()),
            "{iss}"
        );
    }
    for aud in [
        json!(format!("{AUDIENCE}/")),
        json!("https://ca.example"),
        json!("sts.amazonaws.com"),
        json!([AUDIENCE, "https://other.example"]),
        json!([]),
    ] {
        assert_eq!(
            fixture.check(&with("aud", aud.clone())),
            Err(Flaw::Audience.into()),
            "{aud}"
        );
    }
    assert!(fixture.check(&with("aud", json!([AUDIENCE]))).is_ok());
    assert_eq!(
        fixture.check(&with("aud", Value::Null)),
        Err(Flaw::Audience.into())
    );
}

#[test]
fn tokens_out_of_their_time_are_refused() {
    // B-11
    let fixture = Fixture::new();
    for (name, value) in [
        ("exp", NOW),
        ("exp", NOW - 1),
        ("iat", NOW + 61),
        ("nbf", NOW + 61),
        ("iat", NOW - 901),
    ] {
        let refused = fixture.check(&with(name, json!(value)));
        let is_of_time = matches!(&refused, Err(InvalidToken::Token(flaw)) if flaw.is_of_time());
        assert!(is_of_time, "{name} {value}: {refused:?}");
    }
    for bad in [json!(-1), json!("soon"), json!(1.5), Value::Null] {
        let refused = fixture.check(&with("iat", bad.clone()));
        assert!(is_unreadable(&refused), "{bad}: {refused:?}");
    }
    assert!(fixture.check(&with("iat", json!(NOW + 60))).is_ok());
    assert!(fixture.check(&with("iat", json!(NOW - 900))).is_ok());
}

#[test]
fn a_token_of_a_person_a_function_or_another_account_is_refused() {
    // V12: `request_tags` and `principal_tags` are the caller's and the account's own words.
    let fixture = Fixture::new();
    let other = ARN.replace("111122223333", "444455556666");
    for arn in [
        Value::Null,
        json!(""),
        json!(other),
        json!("arn:aws:ec2:eu-west-1:111122223333:instance/*"),
        json!("arn:aws:ec2:eu-west-1:111122223333:volume/i-0123456789abcdef0"),
        json!("arn:aws-cn:ec2:eu-west-1:111122223333:instance/i-0123456789abcdef0"),
        json!("arn:aws:ec2:nowhere-1:111122223333:instance/i-0123456789abcdef0"),
        json!("arn:aws:ec2:eu-west-1:111122223333:instance/mi-0123456789abcdef0"),
    ] {
        let refused = fixture.check(&with_aws("ec2_source_instance_arn", arn.clone()));
        assert_eq!(refused, Err(InvalidToken::NotAnInstance), "{arn}");
    }
    let refused = fixture.check(&with_aws("aws_account", json!("444455556666")));
    assert_eq!(refused, Err(InvalidToken::Account));
    let mut tagged = with_aws("ec2_source_instance_arn", Value::Null);
    tagged[AWS]["request_tags"] = json!({ "ec2_source_instance_arn": ARN });
    tagged["ec2_source_instance_arn"] = json!(ARN);
    assert_eq!(fixture.check(&tagged), Err(InvalidToken::NotAnInstance));
}

#[test]
fn claims_that_two_readers_could_read_differently_are_refused() {
    // B-13
    let fixture = Fixture::new();
    let text = good().to_string();
    for twice in [
        text.replacen('{', "{\"iss\":\"https://evil.example\",", 1),
        text.replacen('{', "{\"sub\":\"x\",", 1),
        text.replace(
            "\"aws_account\":",
            "\"aws_account\":\"444455556666\",\"aws_account\":",
        ),
    ] {
        assert_ne!(twice, text);
        let token = fixture
            .issuer
            .sign_text(r#"{"alg":"ES384","kid":"ec"}"#, &twice);
        let refused = fixture.check_text(&token);
        assert!(is_unreadable(&refused), "{twice}: {refused:?}");
    }
}

#[test]
fn one_token_makes_one_claim_however_it_is_signed() {
    // B-12
    let fixture = Fixture::new();
    let first = fixture.check(&good()).unwrap();
    let again = fixture.check(&good()).unwrap();
    assert_eq!(
        first.claim, again.claim,
        "ECDSA signs the same claims differently each time"
    );
    let other = fixture.check(&with("jti", json!("another"))).unwrap();
    assert_ne!(first.claim, other.claim);
    let without = with("jti", Value::Null);
    assert_eq!(
        fixture.check(&without).unwrap().claim,
        fixture.check(&without).unwrap().claim
    );
}

#[test]
fn awss_own_words_name_the_instance() {
    let identity = Fixture::new().check(&good()).unwrap();
    assert_eq!(identity.instance.as_str(), "i-0123456789abcdef0");
    assert_eq!(identity.private_ip, Some("10.0.0.5".parse().unwrap()));
}
