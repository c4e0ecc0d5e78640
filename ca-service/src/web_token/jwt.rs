//! JSON Web Tokens (RFC 7519) in the one form that is taken: compact, signed with RS256, ES256, ES384 or EdDSA by a
//! key of the issuer's set. Which algorithms count is the configuration's word, never the token's.

use std::collections::HashMap;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// Longest token that is looked at. Bytes; AWS's stay under 4 KiB.
const MAX_TOKEN: usize = 16 * 1024;
/// Longest key id. Bytes.
const MAX_KEY_ID: usize = 256;
/// Most keys of a set.
const MAX_KEYS: usize = 32;
/// Moduli that are taken. Bytes: 2048 to 8192 bits.
const MODULUS: std::ops::RangeInclusive<usize> = 256..=1024;
/// Bytes of a coordinate of P-256 and of P-384 (RFC 7518 §6.2.1.2).
const P256_COORDINATE: usize = 32;
const P384_COORDINATE: usize = 48;

/// A signature algorithm (RFC 7518 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// EdDSA on Ed25519 (RFC 8037 §3.1).
    EdDsa,
}

impl Algorithm {
    /// All, by their names.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("RS256", Self::Rs256),
        ("ES256", Self::Es256),
        ("ES384", Self::Es384),
        ("EdDSA", Self::EdDsa),
    ];

    fn named(name: &str) -> Option<Self> {
        let found = Self::NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, algorithm)| *algorithm)
    }
}

/// Why a token does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidJwt {
    /// Longer than any that is taken.
    #[error("the token is longer than {MAX_TOKEN} bytes")]
    TooLong,
    /// Not three parts of base64url, or not the JSON that they must hold.
    #[error("the token is not a compact JSON Web Token")]
    Malformed,
    /// A header that brings a key along, demands an extension, or says that another token is inside.
    #[error(
        "the token's header carries a key, an extension or another token; only issuer's published keys count"
    )]
    Header,
    /// Made for something else than to show who somebody is.
    #[error(
        "the token's header says in `typ` that it is neither a JWT nor an access token; only these show who somebody is"
    )]
    Type,
    /// Not an algorithm that the configuration names.
    #[error(
        "the token's algorithm is not one that the configuration takes; the CA's operator names those of each issuer in `algorithms`"
    )]
    Algorithm,
    /// Not one of the issuer's keys.
    #[error(
        "the issuer publishes no such key; get a fresh token, and where its keys were just replaced, try again in a minute"
    )]
    UnknownKey,
    /// The signature is wrong.
    #[error("the token's signature does not verify")]
    Signature,
}

/// What a token says that it is for (`typ`; RFC 8725 §3.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenType {
    /// Nothing in particular, as ID tokens and those of jobs: no `typ`, `JWT`, or `JOSE` (SPIFFE).
    Plain,
    /// `at+jwt` (RFC 9068 §2.1): for the service that its `aud` names, and never an ID token.
    Access,
}

impl TokenType {
    /// Media types are compared without regard to case, and `application/` may be left out (RFC 7515 §4.1.9).
    fn of(typ: Option<&str>) -> Option<Self> {
        let named = typ.unwrap_or("JWT").to_ascii_lowercase();
        match named.strip_prefix("application/").unwrap_or(&named) {
            "jwt" | "jose" => Some(Self::Plain),
            "at+jwt" => Some(Self::Access),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
    typ: Option<String>,
    crit: Option<IgnoredAny>,
    jwk: Option<IgnoredAny>,
    jku: Option<IgnoredAny>,
    x5u: Option<IgnoredAny>,
    x5c: Option<IgnoredAny>,
    b64: Option<IgnoredAny>,
    cty: Option<IgnoredAny>,
    zip: Option<IgnoredAny>,
    enc: Option<IgnoredAny>,
}

/// A token, taken apart; nothing of it is verified.
#[derive(Debug)]
pub struct Jwt<'t> {
    signed: &'t str,
    payload: Vec<u8>,
    signature: Vec<u8>,
    algorithm: Algorithm,
    token_type: TokenType,
    key_id: String,
}

impl<'t> Jwt<'t> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// [`InvalidJwt`]
    pub fn parse(token: &'t str) -> Result<Self, InvalidJwt> {
        if token.len() > MAX_TOKEN {
            return Err(InvalidJwt::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(InvalidJwt::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(InvalidJwt::Malformed)?;
        let header: Header =
            serde_json::from_slice(&decode(header)?).map_err(|_| InvalidJwt::Malformed)?;
        if header.carries_more() {
            return Err(InvalidJwt::Header);
        }
        if !(1..=MAX_KEY_ID).contains(&header.kid.len()) {
            return Err(InvalidJwt::Malformed);
        }
        Ok(Self {
            signed,
            payload: decode(payload)?,
            signature: decode(signature)?,
            algorithm: Algorithm::named(&header.alg).ok_or(InvalidJwt::Algorithm)?,
            token_type: TokenType::of(header.typ.as_deref()).ok_or(InvalidJwt::Type)?,
            key_id: header.kid,
        })
    }

    /// The key that the token says it was signed with: only ever a name to look for.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// What its header says that it is for; signed, and so true only of a token that is [verified](Self::verified).
    #[must_use]
    pub fn token_type(&self) -> TokenType {
        self.token_type
    }

    /// The part of the text that is signed.
    #[must_use]
    pub fn signed_text(&self) -> &str {
        self.signed
    }

    /// The payload as the token claims it: good for finding the issuer, for nothing else.
    #[must_use]
    pub fn unverified_payload(&self) -> &[u8] {
        &self.payload
    }

    /// The payload, where a key of `keys` signed it with one of `algorithms`.
    ///
    /// # Errors
    /// [`InvalidJwt`]
    pub fn verified(&self, keys: &KeySet, algorithms: &[Algorithm]) -> Result<&[u8], InvalidJwt> {
        if !algorithms.contains(&self.algorithm) {
            return Err(InvalidJwt::Algorithm);
        }
        let key = keys.0.get(&self.key_id).ok_or(InvalidJwt::UnknownKey)?;
        if key.algorithm() != self.algorithm {
            return Err(InvalidJwt::Algorithm);
        }
        if key.verifies(self.signed.as_bytes(), &self.signature) {
            Ok(&self.payload)
        } else {
            Err(InvalidJwt::Signature)
        }
    }
}

impl Header {
    fn carries_more(&self) -> bool {
        let extras = [
            &self.crit, &self.jwk, &self.jku, &self.x5u, &self.x5c, &self.b64, &self.cty,
            &self.zip, &self.enc,
        ];
        extras.iter().any(|extra| extra.is_some())
    }
}

/// One canonical text for each value: padding and loose last bits are refused.
fn decode(part: &str) -> Result<Vec<u8>, InvalidJwt> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| InvalidJwt::Malformed)
}

/// An issuer's public keys (RFC 7517), those that can be used here.
#[derive(Clone, Debug, Default)]
pub struct KeySet(HashMap<String, Key>);

#[derive(Clone, Debug)]
enum Key {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519([u8; 32]),
}

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<RawKey>,
}

#[derive(Deserialize)]
struct RawKey {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads a set. Keys that cannot be used here are left out, and so is every key whose id occurs twice.
    /// None where it is not a set, has more than 32 keys, or none that can be used.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let set: RawSet = serde_json::from_slice(bytes).ok()?;
        if set.keys.len() > MAX_KEYS {
            return None;
        }
        let ids: Vec<_> = set.keys.iter().map(|key| key.kid.clone()).collect();
        let once = |id: &str| ids.iter().filter(|kid| kid.as_deref() == Some(id)).count() == 1;
        let mut keys = HashMap::new();
        for raw in &set.keys {
            let Some(id) = raw.kid.as_deref().filter(|id| once(id)) else {
                continue;
            };
            if let Some(key) = raw.usable() {
                keys.insert(id.to_owned(), key);
            }
        }
        (!keys.is_empty()).then_some(Self(keys))
    }

    /// Whether there is a key of this id.
    #[must_use]
    pub fn has(&self, key_id: &str) -> bool {
        self.0.contains_key(key_id)
    }
}

impl RawKey {
    fn usable(&self) -> Option<Key> {
        let signs = self.r#use.as_deref().is_none_or(|r#use| r#use == "sig");
        let verify = |ops: &Vec<String>| ops.iter().any(|op| op == "verify");
        if !signs || !self.key_ops.as_ref().is_none_or(verify) {
            return None;
        }
        let key = match self.kty.as_str() {
            "RSA" => rsa(self.n.as_deref()?, self.e.as_deref()?)?,
            "EC" => ec(self.crv.as_deref()?, self.x.as_deref()?, self.y.as_deref()?)?,
            "OKP" => okp(self.crv.as_deref()?, self.x.as_deref()?)?,
            _ => return None,
        };
        let named = self.alg.as_deref().map(Algorithm::named);
        let fits = named.is_none_or(|named| named == Some(key.algorithm()));
        fits.then_some(key)
    }
}

/// An even exponent or 1 signs nothing; a huge one costs whoever verifies.
fn rsa(n: &str, e: &str) -> Option<Key> {
    let (n, e) = (decode(n).ok()?, decode(e).ok()?);
    let odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
    let sound_modulus = MODULUS.contains(&n.len()) && n.first() != Some(&0) && odd(&n);
    let sound_exponent = (1..=4).contains(&e.len()) && e != [1] && e.first() != Some(&0) && odd(&e);
    (sound_modulus && sound_exponent).then_some(Key::Rsa { n, e })
}

/// Whether the point is on the curve is checked here, once, rather than with each signature.
fn ec(curve: &str, x: &str, y: &str) -> Option<Key> {
    let (x, y) = (decode(x).ok()?, decode(y).ok()?);
    let coordinate = match curve {
        "P-256" => P256_COORDINATE,
        "P-384" => P384_COORDINATE,
        _ => return None,
    };
    if x.len() != coordinate || y.len() != coordinate {
        return None;
    }
    let point = [&[4][..], &x, &y].concat();
    if coordinate == P256_COORDINATE {
        p256::ecdsa::VerifyingKey::from_sec1_bytes(&point).ok()?;
        Some(Key::P256(point))
    } else {
        p384::ecdsa::VerifyingKey::from_sec1_bytes(&point).ok()?;
        Some(Key::P384(point))
    }
}

/// Under a key of small order, anybody's signature of one message is good for others too.
fn okp(curve: &str, x: &str) -> Option<Key> {
    let x: [u8; 32] = decode(x).ok()?.try_into().ok()?;
    let key = ed25519_dalek::VerifyingKey::from_bytes(&x).ok()?;
    (curve == "Ed25519" && !key.is_weak()).then_some(Key::Ed25519(x))
}

impl Key {
    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rsa { .. } => Algorithm::Rs256,
            Self::P256(_) => Algorithm::Es256,
            Self::P384(_) => Algorithm::Es384,
            Self::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        let by = |algorithm: &'static dyn VerificationAlgorithm, key: &[u8]| {
            let key = UnparsedPublicKey::new(algorithm, key);
            key.verify(signed, signature).is_ok()
        };
        match self {
            Self::Rsa { n, e } => RsaPublicKeyComponents { n, e }
                .verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature)
                .is_ok(),
            Self::P256(point) => by(&ECDSA_P256_SHA256_FIXED, point),
            Self::P384(point) => by(&ECDSA_P384_SHA384_FIXED, point),
            Self::Ed25519(key) => by(&ED25519, key),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
