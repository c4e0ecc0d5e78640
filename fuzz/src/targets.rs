//! What strangers send, given to the code that reads it. Each function must return, whatever the bytes are.
//! Used by the libFuzzer targets and by the replay of the corpus in `make test`.

use eic_protocol::api::certificate::UserCertificateRequest;
use eic_protocol::api::session::SessionRequest;
use eic_protocol::subject_key::SubjectKey;
use eic_protocol::trust::envelope::Envelope;

/// Takes whatever bytes it is given.
pub type Target = fn(&[u8]);

/// Every target by the name of its corpus folder.
pub const ALL: [(&str, Target); 5] = [
    ("names", names),
    ("blobs", blobs),
    ("documents", documents),
    ("records", records),
    ("agent_messages", agent_messages),
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
    let _ = eic_agent::instance_connect::signer::Chain::from_pem(data);
}

/// Requests to a login's agent socket.
pub fn agent_messages(data: &[u8]) {
    let _ = eic_login::ssh_agent::message::Request::parse(data);
}
