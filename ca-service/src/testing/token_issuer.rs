//! An account's outbound issuer: keys, a key set, and tokens in the form of sts:GetWebIdentityToken.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// One issuer with a key of each kind: `ec` (P-384), `p256`, `rsa` and `ed` (Ed25519).
pub(crate) struct TokenIssuer {
    ec: EcdsaKeyPair,
    p256: EcdsaKeyPair,
    rsa: RsaKeyPair,
    ed: Ed25519KeyPair,
}

impl TokenIssuer {
    pub(crate) fn new() -> Self {
        let ec = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        let p256 = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let rsa = RsaKeyPair::from_pkcs8(&pair.serialize_der()).unwrap();
        let ed = Ed25519KeyPair::generate().unwrap();
        Self { ec, p256, rsa, ed }
    }

    /// The published set.
    pub(crate) fn key_set(&self) -> Value {
        let point = self.ec.public_key().as_ref();
        let p256 = self.p256.public_key().as_ref();
        let public = self.rsa.public_key();
        json!({ "keys": [
            { "kty": "EC", "crv": "P-384", "kid": "ec", "use": "sig", "alg": "ES384",
              "x": encode(&point[1..49]), "y": encode(&point[49..97]) },
            { "kty": "RSA", "kid": "rsa", "use": "sig", "alg": "RS256",
              "n": encode(public.modulus().big_endian_without_leading_zero()),
              "e": encode(public.exponent().big_endian_without_leading_zero()) },
            { "kty": "EC", "crv": "P-256", "kid": "p256", "use": "sig", "alg": "ES256",
              "x": encode(&p256[1..33]), "y": encode(&p256[33..65]) },
            { "kty": "OKP", "crv": "Ed25519", "kid": "ed", "use": "sig", "alg": "EdDSA",
              "x": encode(self.ed.public_key().as_ref()) },
        ] })
    }

    /// A token of ES384.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.sign(
            &json!({ "alg": "ES384", "kid": "ec", "typ": "JWT" }),
            claims,
        )
    }

    /// A token with this header: signed by the key that its `kid` names.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    pub(crate) fn sign_text(&self, header: &str, claims: &str) -> String {
        let signed = format!(
            "{}.{}",
            encode(header.as_bytes()),
            encode(claims.as_bytes())
        );
        let by = |kid: &str| header.contains(&format!("\"{kid}\""));
        let message = signed.as_bytes();
        let signature = if by("rsa") {
            self.by_rsa(message)
        } else if by("ed") {
            self.ed.sign(message).as_ref().to_vec()
        } else {
            let key = if by("p256") { &self.p256 } else { &self.ec };
            let signature = key.sign(&SystemRandom::new(), message).unwrap();
            signature.as_ref().to_vec()
        };
        format!("{signed}.{}", encode(&signature))
    }

    fn by_rsa(&self, message: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.rsa.public_modulus_len()];
        let random = SystemRandom::new();
        self.rsa
            .sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
            .unwrap();
        signature
    }
}

/// The claims of a good token.
pub(crate) fn claims(issuer: &str, audience: &str, instance_arn: &str, now: u64) -> Value {
    let account = instance_arn.split(':').nth(4).unwrap();
    json!({
        "iss": issuer, "aud": audience, "sub": format!("arn:aws:iam::{account}:role/Web"),
        "iat": now, "exp": now + 300, "jti": format!("token-{now}-{instance_arn}"),
        "https://sts.amazonaws.com/": {
            "aws_account": account, "source_region": "eu-west-1", "org_id": "o-abc1234567",
            "principal_tags": { "ec2_source_instance_arn": "not this one" },
            "request_tags": { "team": "x" },
            "ec2_source_instance_arn": instance_arn,
            "ec2_instance_source_private_ipv4": "10.0.0.5",
        },
    })
}

pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
