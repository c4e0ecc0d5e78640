//! What moto's KMS lacks: Ed25519 keys, disabled keys that refuse, RAW messages of at most 4096 bytes, ARNs in answers.
//!
//! An Ed25519 key is a P-256 key in moto, which keeps its id, state, aliases and tags, beside a private key here, which
//! signs. `MessageType` DIGEST is refused: moto hashes a digest again, so its signatures would be wrong.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer, SigningKey};
use http::Response;
use hyper::body::Bytes;
use serde_json::{Value, json};

use crate::aws::Call;
use crate::error::{Context, Result};
use crate::standin::answer::{self, error};
use crate::standin::signed_request::SignedRequest;
use crate::standin::{Shared, locked};

/// AWS's name of the key spec, and of its one algorithm that is SSH's (below).
pub(crate) const SPEC: &str = "ECC_NIST_EDWARDS25519";
pub(crate) const ALGORITHM: &str = "ED25519_SHA_512";

/// SubjectPublicKeyInfo of RFC 8410 up to the 32 bytes of the key.
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// Longest RAW message (API page of Sign).
const LONGEST_MESSAGE: usize = 4096;

/// moto knows no Ed25519; its complaint about the spec says that the caller may make keys.
pub(crate) async fn create_key(
    shared: &Shared,
    request: &SignedRequest,
    verdict: Response<Bytes>,
) -> Response<Bytes> {
    let mut body = request.json();
    if body.get("KeySpec").and_then(Value::as_str) != Some(SPEC) || verdict.status() == 403 {
        return verdict;
    }
    put(&mut body, "KeySpec", json!("ECC_NIST_P256"));
    match make_key(shared, request, &body).await {
        Ok(metadata) => answer::json(&metadata),
        Err(cause) => error("kms", 500, "KMSInternalException", &cause.to_string()),
    }
}

async fn make_key(shared: &Shared, request: &SignedRequest, body: &Value) -> Result<Value> {
    let mut made = ask(shared, request, "CreateKey", body).await?;
    let arn = arn_of(&made).context(|| "make a key: moto named no ARN")?;
    let mut secret = [0u8; 32];
    getrandom::fill(&mut secret).map_err(|cause| crate::error::unexpected("draw a key", cause))?;
    locked(&shared.ed25519).insert(arn, SigningKey::from_bytes(&secret));
    patch_metadata(&mut made);
    Ok(made)
}

/// The description of an Ed25519 key names its spec.
pub(crate) fn describe_key(shared: &Shared, verdict: Response<Bytes>) -> Response<Bytes> {
    let mut body: Value = serde_json::from_slice(verdict.body()).unwrap_or_default();
    let ours = arn_of(&body).is_some_and(|arn| locked(&shared.ed25519).contains_key(&arn));
    if !ours {
        return verdict;
    }
    patch_metadata(&mut body);
    answer::json(&body)
}

/// The public half of a key: ours for Ed25519, under its ARN for all.
pub(crate) async fn get_public_key(
    shared: &Shared,
    request: &SignedRequest,
    verdict: Response<Bytes>,
) -> Response<Bytes> {
    if verdict.status() != 200 {
        return verdict;
    }
    let key = match usable_key(shared, request).await {
        Ok(key) => key,
        Err(refusal) => return refusal,
    };
    let mut body: Value = serde_json::from_slice(verdict.body()).unwrap_or_default();
    put(&mut body, "KeyId", json!(key.arn));
    // moto leaves these out.
    for name in ["KeySpec", "KeyUsage", "SigningAlgorithms"] {
        if let Some(value) = key.metadata.get(name) {
            put(&mut body, name, value.clone());
        }
    }
    if let Some(signing_key) = key.ed25519 {
        put(&mut body, "PublicKey", json!(public_text(&signing_key)));
        patch(&mut body);
    }
    answer::json(&body)
}

/// The public half as GetPublicKey gives it.
pub(crate) fn public_text(key: &SigningKey) -> String {
    let verifying = key.verifying_key();
    STANDARD.encode([SPKI_PREFIX.as_slice(), verifying.as_bytes()].concat())
}

/// A signature, by us for Ed25519 and by moto for the rest.
pub(crate) async fn sign(
    shared: &Shared,
    request: &SignedRequest,
    verdict: Response<Bytes>,
) -> Response<Bytes> {
    // 403 is moto's word on signature and policy; its other complaints may be about an Ed25519 algorithm.
    if verdict.status() == 403 {
        return verdict;
    }
    let key = match usable_key(shared, request).await {
        Ok(key) => key,
        Err(refusal) => return refusal,
    };
    let message = match raw_message(&request.json()) {
        Ok(message) => message,
        Err(complaint) => return error("kms", 400, "ValidationException", complaint),
    };
    match key.ed25519 {
        Some(signing_key) => sign_ed25519(&key.arn, &signing_key, &request.json(), &message),
        None => with_arn(&key.arn, verdict),
    }
}

/// AWS names the key by its ARN; moto repeats what it was asked by, without the ARN around the id.
fn with_arn(arn: &str, verdict: Response<Bytes>) -> Response<Bytes> {
    if verdict.status() != 200 {
        return verdict;
    }
    let mut body: Value = serde_json::from_slice(verdict.body()).unwrap_or_default();
    put(&mut body, "KeyId", json!(arn));
    answer::json(&body)
}

/// A signature with one bit flipped, for the test of who checks it.
pub(crate) fn with_wrong_signature(verdict: Response<Bytes>) -> Response<Bytes> {
    let mut body: Value = serde_json::from_slice(verdict.body()).unwrap_or_default();
    let signature = body
        .get("Signature")
        .and_then(Value::as_str)
        .and_then(|text| STANDARD.decode(text).ok());
    let Some(mut signature) = signature else {
        return verdict;
    };
    if let Some(last) = signature.last_mut() {
        *last ^= 1;
    }
    put(&mut body, "Signature", json!(STANDARD.encode(signature)));
    answer::json(&body)
}

struct Key {
    arn: String,
    /// DescribeKey's KeyMetadata.
    metadata: Value,
    ed25519: Option<SigningKey>,
}

/// The key that a request names by id, ARN or alias, unless it is disabled.
async fn usable_key(
    shared: &Shared,
    request: &SignedRequest,
) -> std::result::Result<Key, Response<Bytes>> {
    let id = request.json().get("KeyId").cloned().unwrap_or_default();
    let described = ask(shared, request, "DescribeKey", &json!({"KeyId": id})).await;
    let described = described.map_err(|_| {
        error(
            "kms",
            400,
            "NotFoundException",
            &format!("Key {id} does not exist"),
        )
    })?;
    let arn = arn_of(&described).unwrap_or_default();
    let state = described
        .pointer("/KeyMetadata/KeyState")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    match state.as_str() {
        "Enabled" => Ok(Key {
            ed25519: locked(&shared.ed25519).get(&arn).cloned(),
            metadata: described.get("KeyMetadata").cloned().unwrap_or_default(),
            arn,
        }),
        "Disabled" => Err(error(
            "kms",
            400,
            "DisabledException",
            &format!("{arn} is disabled."),
        )),
        _ => Err(error(
            "kms",
            400,
            "KMSInvalidStateException",
            &format!("{arn} is {state}."),
        )),
    }
}

/// The message of a Sign request, if AWS would take it.
fn raw_message(body: &Value) -> std::result::Result<Vec<u8>, &'static str> {
    if body
        .get("MessageType")
        .and_then(Value::as_str)
        .unwrap_or("RAW")
        != "RAW"
    {
        return Err("the lab signs MessageType RAW only: moto hashes a DIGEST a second time");
    }
    let message = body
        .get("Message")
        .and_then(Value::as_str)
        .and_then(|text| STANDARD.decode(text).ok());
    let message = message.ok_or("Message is not valid base64")?;
    if (1..=LONGEST_MESSAGE).contains(&message.len()) {
        Ok(message)
    } else {
        Err("Message must have 1 to 4096 bytes")
    }
}

fn sign_ed25519(arn: &str, key: &SigningKey, body: &Value, message: &[u8]) -> Response<Bytes> {
    if body.get("SigningAlgorithm").and_then(Value::as_str) != Some(ALGORITHM) {
        return error(
            "kms",
            400,
            "InvalidKeyUsageException",
            &format!("Algorithm is incompatible with key spec {SPEC}."),
        );
    }
    let signature = STANDARD.encode(key.sign(message).to_bytes());
    answer::json(&json!({"KeyId": arn, "Signature": signature, "SigningAlgorithm": ALGORITHM}))
}

/// Says of a P-256 key's description that it is an Ed25519 key.
fn patch(description: &mut Value) {
    put(description, "KeySpec", json!(SPEC));
    put(description, "CustomerMasterKeySpec", json!(SPEC));
    put(description, "SigningAlgorithms", json!([ALGORITHM]));
}

fn patch_metadata(answer: &mut Value) {
    if let Some(metadata) = answer.get_mut("KeyMetadata") {
        patch(metadata);
    }
}

/// Sets a member of an object; anything else stays as it is.
fn put(object: &mut Value, name: &str, value: Value) {
    if let Some(members) = object.as_object_mut() {
        members.insert(name.to_owned(), value);
    }
}

fn arn_of(answer: &Value) -> Option<String> {
    answer
        .get("KeyMetadata")?
        .get("Arn")?
        .as_str()
        .map(str::to_owned)
}

/// Asks moto as the administrator of the caller's account.
async fn ask(
    shared: &Shared,
    request: &SignedRequest,
    action: &str,
    body: &Value,
) -> Result<Value> {
    let caller = shared
        .caller(&request.access_key_id)
        .context(|| "find the owner of an access key")?;
    let call = Call::json("kms", action, body).region(&request.region);
    let answer = shared.ask(&caller.account, &call).await?;
    serde_json::from_str(&answer)
        .map_err(|cause| crate::error::unexpected("read moto's answer", cause))
}
