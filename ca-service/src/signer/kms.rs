//! Private keys in AWS KMS: the bytes go to kms:Sign as they are (`MessageType=RAW`, at most 4096).
//!
//! The key is named by its ARN, never by an alias that somebody could point elsewhere, and its public
//! key is read once and compared. Calls have a deadline and a bounded number under way; only
//! throttling is tried again, within the same deadline, since any other failure may have signed.
//! A key that is known from before can be waited for: a service that starts while KMS is away goes on without
//! signatures. (AWS KMS API reference: Sign, GetPublicKey.)

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use aws_sdk_kms::Client;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kms::operation::get_public_key::GetPublicKeyOutput;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeyUsageType, MessageType, SigningAlgorithmSpec};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use eic_protocol::cert::MAX_TBS;
use eic_protocol::subject_key::{CaKey, InvalidKey, SubjectKey};
use eic_protocol::text::printable;
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, EcdsaCurve, HashAlg, PublicKey, Signature};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::SignerError;
use super::local::ecdsa_data;
use crate::config::keys::KmsKey;
use crate::random;

/// Longest signature, throttling included: the client waits 10 s for its certificate.
const SIGN_DEADLINE: Duration = Duration::from_secs(2);
/// Longest start.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// Signatures under way. KMS answers in 10 to 20 ms: about 3,000/s, above the usual quota.
const AT_ONCE: usize = 64;
/// Signatures that may wait for one of those.
const WAITING: usize = 512;
/// First pause after throttling; doubles, with as much again at random.
const FIRST_PAUSE: Duration = Duration::from_millis(25);

/// A key in KMS.
pub struct KmsSigner {
    client: Client,
    arn: String,
    public: CaKey,
    algorithm: SigningAlgorithmSpec,
    under_way: Semaphore,
    admitted: Semaphore,
    deadline: Duration,
    /// Why KMS has told nothing of the key yet; none: it has.
    unreached: ArcSwapOption<String>,
}

impl KmsSigner {
    /// Finds the key with the credentials of this machine (environment, profile, container, instance).
    ///
    /// # Errors
    /// [`KmsError`]: not reachable, not a signing key, or not the public key that the configuration names.
    pub async fn connect(config: &KmsKey) -> Result<Self, KmsError> {
        Self::connect_with(config, &shared(config).await).await
    }

    /// A key whose public half is known from before, and of which KMS does not answer: nothing is signed until
    /// [`Self::reach`] finds it.
    ///
    /// # Errors
    /// [`KmsError::Spec`]
    pub async fn awaited(
        config: &KmsKey,
        public: CaKey,
        reason: &KmsError,
    ) -> Result<Self, KmsError> {
        Self::awaited_with(config, &shared(config).await, public, reason)
    }

    fn awaited_with(
        config: &KmsKey,
        shared: &aws_config::SdkConfig,
        public: CaKey,
        reason: &KmsError,
    ) -> Result<Self, KmsError> {
        let arn = config.arn.to_string();
        let algorithm = algorithm_of(&public).ok_or_else(|| KmsError::Spec(arn.clone()))?;
        let client = client(config, shared);
        let signer = Self::new(client, arn, (public, algorithm));
        signer.unreached.store(Some(Arc::new(reason.to_string())));
        Ok(signer)
    }

    /// As [`Self::connect`], with credentials and HTTP client of the caller's choice.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_with(
        config: &KmsKey,
        shared: &aws_config::SdkConfig,
    ) -> Result<Self, KmsError> {
        let client = client(config, shared);
        let arn = config.arn.to_string();
        let key = described(&client, &arn, config.public_key.as_ref()).await?;
        Ok(Self::new(client, arn, key))
    }

    fn new(
        client: Client,
        arn: String,
        (public, algorithm): (CaKey, SigningAlgorithmSpec),
    ) -> Self {
        Self {
            client,
            arn,
            public,
            algorithm,
            under_way: Semaphore::new(AT_ONCE),
            admitted: Semaphore::new(AT_ONCE + WAITING),
            deadline: SIGN_DEADLINE,
            unreached: ArcSwapOption::empty(),
        }
    }

    /// Why nothing can be signed yet; none: KMS has shown this key.
    #[must_use]
    pub fn unreached(&self) -> Option<Arc<String>> {
        self.unreached.load_full()
    }

    /// Asks KMS once more about a key that is awaited.
    ///
    /// # Errors
    /// [`KmsError`]; nothing is signed still.
    pub async fn reach(&self) -> Result<(), KmsError> {
        match described(&self.client, &self.arn, Some(&self.public)).await {
            Ok(_) => self.unreached.store(None),
            Err(error) => {
                self.unreached.store(Some(Arc::new(error.to_string())));
                return Err(error);
            }
        }
        Ok(())
    }

    /// The key's ARN.
    #[must_use]
    pub fn arn(&self) -> &str {
        &self.arn
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> &CaKey {
        &self.public
    }

    pub(super) async fn sign(&self, bytes: &[u8]) -> Result<Signature, SignerError> {
        if let Some(reason) = self.unreached() {
            return Err(SignerError::Unreached(reason));
        }
        // The lint refuses longer ones; nothing falls back to a digest (D-19).
        if bytes.len() > MAX_TBS {
            return Err(SignerError::Kms(
                "the bytes exceed the limit of kms:Sign".to_owned(),
            ));
        }
        let _admitted = self
            .admitted
            .try_acquire()
            .map_err(|_| SignerError::Overloaded)?;
        // Waiting for a turn counts too.
        let end = Instant::now() + self.deadline;
        let turn = tokio::time::timeout_at(end, self.under_way.acquire()).await;
        let _turn = turn
            .map_err(|_| SignerError::Overloaded)?
            .map_err(|_| SignerError::Overloaded)?;
        let answer = until(end, self.deadline, || self.request(bytes)).await?;
        if answer
            .key_id()
            .is_some_and(|id| !is_same_key(&self.arn, id))
        {
            return Err(SignerError::Answer("KMS signed with another key"));
        }
        let signature = answer
            .signature()
            .ok_or(SignerError::Answer("KMS sent no signature"))?;
        ssh_signature(&self.algorithm, signature.as_ref())
    }

    fn request(
        &self,
        bytes: &[u8],
    ) -> impl Future<
        Output = Result<
            aws_sdk_kms::operation::sign::SignOutput,
            SdkError<aws_sdk_kms::operation::sign::SignError>,
        >,
    > {
        self.client
            .sign()
            .key_id(&self.arn)
            .message(Blob::new(bytes))
            .message_type(MessageType::Raw)
            .signing_algorithm(self.algorithm.clone())
            .send()
    }
}

async fn shared(config: &KmsKey) -> aws_config::SdkConfig {
    let region = aws_types::region::Region::new(config.region.as_str());
    let mut loader = aws_config::defaults(aws_config::BehaviorVersion::latest()).region(region);
    if let Some(proxy) = &config.proxy {
        loader = loader.http_client(proxy.sdk_client());
    }
    loader.load().await
}

/// What KMS tells of the key: its public half, which must be the expected one, and how it signs.
async fn described(
    client: &Client,
    arn: &str,
    expected: Option<&CaKey>,
) -> Result<(CaKey, SigningAlgorithmSpec), KmsError> {
    let call = || client.get_public_key().key_id(arn).send();
    let answer = until(Instant::now() + CONNECT_DEADLINE, CONNECT_DEADLINE, call)
        .await
        .map_err(|e| KmsError::Unreachable(arn.to_owned(), e))?;
    let public = public_key(arn, &answer)?;
    if let Some(expected) = expected.filter(|expected| **expected != public) {
        return Err(KmsError::OtherKey {
            arn: arn.to_owned(),
            expected: expected.fingerprint(),
            found: public.fingerprint(),
        });
    }
    let algorithm = algorithm_of(&public);
    let offered = algorithm.filter(|algorithm| answer.signing_algorithms().contains(algorithm));
    let algorithm = offered.ok_or_else(|| KmsError::Spec(arn.to_owned()))?;
    Ok((public, algorithm))
}

/// Retries and time-outs are ours: the SDK's would repeat a signature whose answer was lost.
fn client(config: &KmsKey, shared: &aws_config::SdkConfig) -> Client {
    let mut builder = aws_sdk_kms::config::Builder::from(shared)
        .region(aws_types::region::Region::new(config.region.as_str()))
        .retry_config(RetryConfig::disabled())
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(Duration::from_secs(1))
                .build(),
        );
    if let Some(endpoint) = &config.endpoint {
        builder = builder.endpoint_url(endpoint);
    }
    Client::from_conf(builder.build())
}

/// Calls until it is answered with anything but throttling, or `end` comes, after `deadline` in all.
async fn until<T, E, F>(
    end: Instant,
    deadline: Duration,
    mut call: impl FnMut() -> F,
) -> Result<T, SignerError>
where
    F: Future<Output = Result<T, SdkError<E>>>,
    E: ProvideErrorMetadata + std::fmt::Debug,
{
    let mut pause = FIRST_PAUSE;
    loop {
        let answer = tokio::time::timeout_at(end, call())
            .await
            .map_err(|_| SignerError::Timeout(deadline.as_millis()))?;
        let error = match answer {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let wait = pause + jitter(pause);
        if !is_throttling(&error) || Instant::now() + wait >= end {
            return Err(SignerError::Kms(describe(&error)));
        }
        tokio::time::sleep(wait).await;
        pause *= 2;
    }
}

/// Up to as long again, so that those who were throttled together do not come back together.
fn jitter(pause: Duration) -> Duration {
    let [random] = random::bytes::<1>().unwrap_or_default();
    pause.mul_f64(f64::from(random) / 255.0)
}

fn is_throttling<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    let code = error
        .as_service_error()
        .and_then(ProvideErrorMetadata::code);
    matches!(
        code,
        Some(
            "ThrottlingException"
                | "LimitExceededException"
                | "RequestLimitExceeded"
                | "TooManyRequestsException"
        )
    )
}

/// The code and message of KMS, or the kind of failure; never a whole request.
fn describe<E: ProvideErrorMetadata + std::fmt::Debug>(error: &SdkError<E>) -> String {
    match error {
        SdkError::ServiceError(context) => {
            let (code, message) = (
                context.err().code().unwrap_or("unknown error"),
                context.err().message(),
            );
            printable(&format!("{code}: {}", message.unwrap_or("no message")))
        }
        SdkError::TimeoutError(_) => "it did not connect in time".to_owned(),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => {
            "it did not connect in time".to_owned()
        }
        SdkError::DispatchFailure(failure) => {
            let cause = failure.as_connector_error().map(ToString::to_string);
            printable(&format!(
                "it could not be reached: {}",
                cause.unwrap_or_default()
            ))
        }
        SdkError::ResponseError(_) => "its answer could not be read".to_owned(),
        _ => "the request could not be built (are there AWS credentials?)".to_owned(),
    }
}

/// KMS answers the ARN; KMS-compatible services answer the id within it.
fn is_same_key(arn: &str, found: &str) -> bool {
    found == arn || arn.split_once(":key/").is_some_and(|(_, id)| id == found)
}

fn public_key(arn: &str, answer: &GetPublicKeyOutput) -> Result<CaKey, KmsError> {
    let found = answer.key_id().unwrap_or("nothing");
    if !is_same_key(arn, found) {
        let (arn, found) = (arn.to_owned(), printable(found));
        return Err(KmsError::OtherArn { arn, found });
    }
    if answer.key_usage() != Some(&KeyUsageType::SignVerify) {
        return Err(KmsError::Usage(arn.to_owned()));
    }
    let der = answer
        .public_key()
        .ok_or_else(|| KmsError::Spec(arn.to_owned()))?;
    let key = key_data(der.as_ref()).ok_or_else(|| KmsError::Spec(arn.to_owned()))?;
    let blob = PublicKey::from(key)
        .to_bytes()
        .map_err(|_| KmsError::Spec(arn.to_owned()))?;
    let key = SubjectKey::from_blob(&blob).and_then(CaKey::new);
    key.map_err(|flaw| KmsError::Key {
        arn: arn.to_owned(),
        flaw,
    })
}

/// A DER SubjectPublicKeyInfo as an SSH key.
fn key_data(der: &[u8]) -> Option<KeyData> {
    use p256::pkcs8::DecodePublicKey as _;
    if let Ok(key) = p256::ecdsa::VerifyingKey::from_public_key_der(der) {
        return Some(KeyData::Ecdsa(key.into()));
    }
    if let Ok(key) = p384::ecdsa::VerifyingKey::from_public_key_der(der) {
        return Some(KeyData::Ecdsa(key.into()));
    }
    if let Ok(key) = ed25519_dalek::VerifyingKey::from_public_key_der(der) {
        return Some(KeyData::Ed25519(key.into()));
    }
    let key = rsa::RsaPublicKey::from_public_key_der(der).ok()?;
    ssh_key::public::RsaPublicKey::try_from(key)
        .ok()
        .map(KeyData::Rsa)
}

/// One algorithm for each type of key; RSA with SHA-512 as `local` does.
fn algorithm_of(public: &CaKey) -> Option<SigningAlgorithmSpec> {
    match public.key().key_data().algorithm() {
        Algorithm::Ecdsa {
            curve: EcdsaCurve::NistP256,
        } => Some(SigningAlgorithmSpec::EcdsaSha256),
        Algorithm::Ecdsa {
            curve: EcdsaCurve::NistP384,
        } => Some(SigningAlgorithmSpec::EcdsaSha384),
        Algorithm::Ed25519 => Some(SigningAlgorithmSpec::Ed25519Sha512),
        Algorithm::Rsa { .. } => Some(SigningAlgorithmSpec::RsassaPkcs1V15Sha512),
        _ => None,
    }
}

/// KMS answers ECDSA in DER; SSH wants two mpints (RFC 5656 §3.1.2).
fn ssh_signature(
    algorithm: &SigningAlgorithmSpec,
    signature: &[u8],
) -> Result<Signature, SignerError> {
    let malformed = || SignerError::Answer("KMS sent a malformed signature");
    let (algorithm, data) = match algorithm {
        SigningAlgorithmSpec::EcdsaSha256 => {
            let fixed = p256::ecdsa::Signature::from_der(signature).map_err(|_| malformed())?;
            (
                Algorithm::Ecdsa {
                    curve: EcdsaCurve::NistP256,
                },
                ecdsa_data(&fixed.to_bytes()),
            )
        }
        SigningAlgorithmSpec::EcdsaSha384 => {
            let fixed = p384::ecdsa::Signature::from_der(signature).map_err(|_| malformed())?;
            (
                Algorithm::Ecdsa {
                    curve: EcdsaCurve::NistP384,
                },
                ecdsa_data(&fixed.to_bytes()),
            )
        }
        SigningAlgorithmSpec::Ed25519Sha512 => (Algorithm::Ed25519, signature.to_vec()),
        _ => (
            Algorithm::Rsa {
                hash: Some(HashAlg::Sha512),
            },
            signature.to_vec(),
        ),
    };
    Signature::new(algorithm, data).map_err(|_| malformed())
}

impl KmsError {
    /// Whether KMS gave no answer about the key, rather than a wrong one.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable(..))
    }
}

/// Why a key in KMS is not used.
#[derive(Debug, thiserror::Error)]
pub enum KmsError {
    /// No answer.
    #[error("read the public key of `{0}`: {1}")]
    Unreachable(String, SignerError),
    /// Another ARN answered.
    #[error("use the KMS key `{arn}`: KMS answered for `{found}`")]
    OtherArn {
        /// As configured.
        arn: String,
        /// As answered.
        found: String,
    },
    /// Not for signing.
    #[error("use the KMS key `{0}`: its KeyUsage is not SIGN_VERIFY")]
    Usage(String),
    /// A spec that no sshd takes.
    #[error(
        "use the KMS key `{0}`: its KeySpec is not ECC_NIST_P256, ECC_NIST_P384, ECC_NIST_EDWARDS25519, RSA_3072 or RSA_4096"
    )]
    Spec(String),
    /// Not a CA's key.
    #[error("use the KMS key `{arn}`: {flaw}")]
    Key {
        /// The key.
        arn: String,
        /// What is wrong.
        flaw: InvalidKey,
    },
    /// Not the public key that was configured.
    #[error(
        "use the KMS key `{arn}`: its public key is {found}, the configuration names {expected}"
    )]
    OtherKey {
        /// The key.
        arn: String,
        /// As configured.
        expected: String,
        /// As answered.
        found: String,
    },
}

#[cfg(test)]
mod tests;
