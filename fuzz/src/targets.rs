//! What strangers send, given to the code that reads it. Each function must return, whatever the bytes are.
//! Used by the libFuzzer targets and by the replay of the corpus in `make test`.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer as _, SigningKey};
use eic_agent::instance_connect::ocsp;
use eic_agent::instance_connect::place::SignerName;
use eic_agent::instance_connect::roots::Roots;
use eic_agent::instance_connect::signer::{Chain, Path};
use eic_ca::web_token::claims;
use eic_ca::web_token::issuer::Issuer;
use eic_ca::web_token::jwt::{Algorithm, Jwt, KeySet};
use eic_protocol::api::certificate::UserCertificateRequest;
use eic_protocol::api::session::SessionRequest;
use eic_protocol::subject_key::SubjectKey;
use eic_protocol::trust::envelope::Envelope;

/// Takes whatever bytes it is given.
pub type Target = fn(&[u8]);

/// Every target by the name of its corpus folder.
pub const ALL: [(&str, Target); 11] = [
    ("names", names),
    ("blobs", blobs),
    ("documents", documents),
    ("records", records),
    ("certificates", certificates),
    ("staples", staples),
    ("configuration", configuration),
    ("agent_messages", agent_messages),
    ("trust", trust),
    ("host_identity", host_identity),
    ("web_tokens", web_tokens),
];

/// Texts: names, ARNs, headers, dates, key lines. What parses is written back as it was read.
pub fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    round_trip::<eic_protocol::principal::Principal>(text);
    round_trip::<eic_protocol::key_id::KeyId>(text);
    round_trip::<eic_protocol::arn::Arn>(text);
    round_trip::<eic_protocol::arn::CallerArn>(text);
    round_trip::<eic_protocol::proof::aws_sts::AmzDate>(text);
    let _ = text
        .parse::<eic_protocol::proof::Audience>()
        .map(|a| assert_eq!(a.as_str().parse(), Ok(a)));
    let _ = text.parse::<eic_protocol::grant::Authorization>();
    let _ = text.parse::<SubjectKey>();
    let _ = eic_protocol::text::printable(text);
}

fn round_trip<T: std::str::FromStr + std::fmt::Display>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string(), text);
    }
}

/// SSH wire data: keys, signatures, certificates.
pub fn blobs(data: &[u8]) {
    if let Ok(key) = SubjectKey::from_blob(data) {
        assert_eq!(key.blob(), data);
    }
    if let Ok(key) = eic_protocol::sshsig::claimed_key(data) {
        let _ = eic_protocol::sshsig::verify(
            eic_protocol::sshsig::Namespace::Request,
            &key,
            b"message",
            data,
        );
    }
    if let Ok(instance) = "i-0123456789abcdef0".parse() {
        let _ = eic_protocol::cert::check::host_certificate(data, &instance, &[], 0);
    }
}

/// JSON and XML: API bodies, trust documents, answers of AWS.
pub fn documents(data: &[u8]) {
    let _ = serde_json::from_slice::<SessionRequest>(data);
    let _ = serde_json::from_slice::<UserCertificateRequest>(data);
    if let Ok(envelope) = serde_json::from_slice::<Envelope>(data) {
        let _ =
            eic_protocol::trust::root::Root::pinned(&envelope, &std::collections::BTreeSet::new());
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = eic_aws::query::Element::parse(text);
        let _ = eic_login::host_trust::console::parse(text);
    }
}

/// What an agent fetches and what hosts send: revocation lists, bundles, host requests and reports.
pub fn trust(data: &[u8]) {
    if let Ok(written) = eic_protocol::krl::read(data).map(|list| list.encode()) {
        assert!(written.is_ok_and(|w| eic_protocol::krl::read(&w.bytes).is_ok()));
    }
    let _ = eic_protocol::trust::bundle::Bundle::parse(data);
    let _ = eic_protocol::api::trust_bundle::TrustBundleResponse::parse(data);
    let _ = eic_protocol::api::host_report::SignedHostReport::parse(data);
    let _ = eic_protocol::api::host_certificate::HostCertificateRequest::parse(data);
}

/// Evidence of who a host is: identity documents with their signatures, a role's trust policy.
pub fn host_identity(data: &[u8]) {
    use eic_ca::host_identity::{identity_document, role_trust, signed_data};
    let _ = identity_document::parse(data);
    let _ = signed_data::verify(data, b"content", &[]);
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = role_trust::read(text);
    }
}

/// What token issuers and those who show tokens send: names, key sets, tokens; and claims, as if the issuer had
/// signed these very bytes.
pub fn web_tokens(data: &[u8]) {
    let _ = KeySet::parse(data);
    if let Ok(text) = std::str::from_utf8(data) {
        if let Ok(issuer) = text.parse::<Issuer>() {
            assert!(issuer.as_str() == text && issuer.is_home_of(&issuer.discovery_url()));
        }
        judge(text);
    }
    judge(&signed_by_the_issuer(data));
}

/// The issuer's key: anybody's here.
fn issuers_key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn signed_by_the_issuer(claims: &[u8]) -> String {
    let header = br#"{"alg":"EdDSA","kid":"a"}"#;
    let signed = [&header[..], claims].map(|part| URL_SAFE_NO_PAD.encode(part));
    let signed = signed.join(".");
    let signature = issuers_key().sign(signed.as_bytes()).to_bytes();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// A token that is taken has the claims that every token must have.
fn judge(token: &str) {
    static KNOWN: OnceLock<Option<(Issuer, KeySet)>> = OnceLock::new();
    let known = KNOWN.get_or_init(|| {
        let x = URL_SAFE_NO_PAD.encode(issuers_key().verifying_key().as_bytes());
        let set = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"a","x":"{x}"}}]}}"#);
        let issuer = "https://issuer.example".parse().ok()?;
        Some((issuer, KeySet::parse(set.as_bytes())?))
    });
    let Ok(jwt) = Jwt::parse(token) else { return };
    let _ = claims::claimed_issuer(&jwt);
    assert!(known.is_some(), "the issuer and its key set are sound");
    let Some((issuer, keys)) = known else { return };
    let rules = claims::TokenRules {
        issuer,
        audiences: &["https://ca.example"],
        algorithms: &[Algorithm::EdDsa],
    };
    if let Ok(taken) = claims::verify(&jwt, &rules, keys, NOW) {
        assert!(taken.expires_at > NOW && !taken.subject.is_empty());
        assert_eq!(taken.audience, "https://ca.example");
    }
}

/// Instance metadata: Instance Connect records and the signer's chain.
pub fn records(data: &[u8]) {
    for record in eic_agent::instance_connect::record::parse(data)
        .into_iter()
        .flatten()
    {
        assert!(
            data.windows(record.key_line().len())
                .any(|w| w == record.key_line().as_bytes())
        );
    }
    let _ = Chain::from_pem(data);
}

/// 15 June 2026, noon: a time at which the certificates in `fixtures/` are valid.
const NOW: u64 = 1_781_524_800;

/// The signer of the chain in `fixtures/`.
const SIGNER: &str = "managed-ssh-signer.us-east-1.amazonaws.com";

/// A certificate in the place of Instance Connect's signer, below an intermediate and a root that are sound.
pub fn certificates(data: &[u8]) {
    let intermediate: &[u8] = include_bytes!("../fixtures/intermediate.der");
    let chains = [
        Chain::from_der(&[data, intermediate]),
        Chain::from_der(&[intermediate, data]),
    ];
    for chain in chains.into_iter().flatten() {
        let _ = chain.root_names();
        if let (Some(name), Some(roots)) = (SignerName::stated(SIGNER), roots()) {
            let _ = chain.verify(&roots, &name, NOW);
        }
    }
}

/// A revocation staple for a signer whose chain is sound.
pub fn staples(data: &[u8]) {
    static PATH: OnceLock<Option<Path>> = OnceLock::new();
    let path = PATH.get_or_init(|| {
        let chain = Chain::from_pem(include_bytes!("../fixtures/chain.pem")).ok()?;
        chain
            .verify(&roots()?, &SignerName::stated(SIGNER)?, NOW)
            .ok()
    });
    let links = path.as_ref().map(Path::links).unwrap_or_default();
    assert_eq!(links.len(), 2, "the chain in fixtures/ leads to its root");
    for link in links {
        let _ = ocsp::check(data, link, NOW);
    }
}

fn roots() -> Option<Roots> {
    Roots::from_pem(include_bytes!("../fixtures/root.pem")).ok()
}

/// The agent's configuration, and the tokens of an errand to its root helper; what is read has a command line for sshd.
pub fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let words: Vec<String> = text.lines().map(str::to_owned).collect();
    if let Ok(tokens) = eic_agent::chained::tokens::Tokens::of_a_stranger(&words) {
        assert_eq!(tokens.words().len(), words.len());
    }
    if let Ok(config) = eic_agent::config::Config::parse(text) {
        let words = config.authorized_keys.command.sshd_words();
        assert!(words.starts_with("%u %f") && !words.contains(['\n', '"']));
    }
}

/// Requests to a login's agent socket.
pub fn agent_messages(data: &[u8]) {
    let _ = eic_login::ssh_agent::message::Request::parse(data);
}
