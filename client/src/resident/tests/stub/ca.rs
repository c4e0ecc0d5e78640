//! The CA: answers as the state says, and verifies nothing.

use eic_protocol::api::certificate::{
    CertificateScope, UserCertificateRequest, UserCertificateResponse,
};
use eic_protocol::api::discovery::{Discovery, SessionMode};
use eic_protocol::api::event::EventRequest;
use eic_protocol::api::instance::InstancesResponse;
use eic_protocol::api::problem::{Problem, ProblemCode};
use eic_protocol::api::session::{
    CallerView, NameStanding, Proof, SessionRequest, SessionResponse,
};
use eic_protocol::api::trust_bundle::TrustBundleResponse;
use eic_protocol::cert::options::Extension;
use eic_protocol::validity::Validity;
use eic_protocol::version::VersionRange;
use ssh_key::certificate::{Builder, CertType};

use super::{
    INSTANCE, OTHER_INSTANCE, STRANGER, State, USER_CA, private, public, root, unix_now, view,
};

type Answer = (u16, Vec<u8>);

pub(super) fn answer(head: &str, body: &[u8], state: &mut State) -> Answer {
    if state.absent {
        return problem(ProblemCode::Overloaded);
    }
    if let Some(grant) = head.split("grant=").nth(1) {
        let grant = grant.split([',', '\r']).next().unwrap().to_owned();
        let spent = state.sessions_mode == SessionMode::Off && state.grants.contains(&grant);
        state.grants.push(grant);
        if spent {
            return problem(ProblemCode::GrantInvalid);
        }
    }
    let target = head.split(' ').nth(1).unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    match path {
        "/.well-known/eic" => discovery(state),
        "/v1/sessions" => session(body, state),
        "/v1/instances" => instances(query, state),
        "/v1/certificates/user" => certificate(body, state),
        "/v1/trust-bundle" => trust_bundle(state),
        "/v1/events" => event(body, state),
        _ => problem(ProblemCode::NotFound),
    }
}

fn json(value: &impl serde::Serialize) -> Answer {
    (200, serde_json::to_vec(value).unwrap())
}

fn instances(query: &str, state: &State) -> Answer {
    if state.blind {
        return problem(ProblemCode::InventoryUnavailable);
    }
    let of = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name));
    let (host, after) = (of("host="), of("after="));
    let named = host.and_then(|host| state.by_name.get(host));
    let mut ids: Vec<&String> = named.unwrap_or(&state.instances).iter().collect();
    let is_other = |id: &str| host.is_some_and(|host| host.starts_with("i-") && host != id);
    ids.sort();
    ids.retain(|id| !is_other(id) && after.is_none_or(|after| id.as_str() > after));
    let more = ids.len() > state.page;
    ids.truncate(state.page);
    json(&InstancesResponse {
        next: ids.last().filter(|_| more).map(|id| id.parse().unwrap()),
        instances: ids.into_iter().map(|id| view(id, state)).collect(),
        truncated: more,
    })
}

fn trust_bundle(state: &State) -> Answer {
    if state.kept_roots.is_empty() && state.bundle.is_none() {
        return problem(ProblemCode::NotFound);
    }
    json(&TrustBundleResponse {
        roots: state.kept_roots.clone(),
        bundle: state.bundle.clone().unwrap_or_else(root),
        view: None,
    })
}

fn event(body: &[u8], state: &mut State) -> Answer {
    let request: EventRequest = serde_json::from_slice(body).unwrap();
    state.events.push(request.event);
    let told = br#"{"request_id":"00112233445566778899aabbccddeeff"}"#;
    (200, told.to_vec())
}

fn problem(code: ProblemCode) -> Answer {
    let problem = Problem::new(
        code,
        "told by the stand-in",
        "00112233445566778899aabbccddeeff".parse().unwrap(),
    );
    (code.status(), serde_json::to_vec(&problem).unwrap())
}

fn discovery(state: &mut State) -> Answer {
    state.discoveries += 1;
    json(&Discovery {
        server: "stub".to_owned(),
        protocol: VersionRange::OURS,
        auth: state.auth.clone(),
        root: state.root.clone(),
        sessions: state.sessions_mode,
        bundle_sequence: None,
    })
}

fn session(body: &[u8], state: &mut State) -> Answer {
    if let Some(code) = state.refuse_session {
        return problem(code);
    }
    let request: SessionRequest = serde_json::from_slice(body).unwrap();
    if state
        .proofs
        .iter()
        .any(|old| is_replay(old, &request.proof))
    {
        return problem(ProblemCode::ProofReplayed);
    }
    state.sessions.push(request.public_key);
    state.proofs.push(request.proof);
    if std::mem::take(&mut state.lose_session) {
        return problem(ProblemCode::Overloaded);
    }
    json(&SessionResponse {
        grant: format!("grant.{}", state.sessions.len()).parse().unwrap(),
        expires_at: unix_now() + state.session_seconds,
        caller: CallerView {
            arn: "arn:aws:iam::123456789012:user/alice".parse().ok(),
            issuer: None,
            user_id: state.user_id.clone(),
            name: "alice".to_owned(),
            name_standing: NameStanding::Attested,
        },
        server_time: unix_now(),
        request_id: "00112233445566778899aabbccddeeff".parse().unwrap(),
    })
}

/// A token is taken once.
fn is_replay(old: &Proof, new: &Proof) -> bool {
    match (old, new) {
        (Proof::Oidc(old), Proof::Oidc(new)) => old.token.reveal() == new.token.reveal(),
        _ => false,
    }
}

/// Answers a certificate request as the state says.
fn certificate(body: &[u8], state: &mut State) -> Answer {
    if let Some(code) = state.refuse {
        return problem(code);
    }
    state.certificates += 1;
    let request: UserCertificateRequest = serde_json::from_slice(body).unwrap();
    let signed = signed_certificate(&request, state.tamper.unwrap_or_default());
    let instance = match state.tamper {
        Some("instance") => OTHER_INSTANCE,
        _ => INSTANCE,
    };
    let response = UserCertificateResponse {
        certificate: signed.to_openssh().unwrap(),
        serial: "42".parse().unwrap(),
        request_id: "00112233445566778899aabbccddeeff".parse().unwrap(),
        validity: Validity::new(signed.valid_after(), signed.valid_before()).unwrap(),
        principal: request.scope.principal(),
        restricted: state.restricted,
        instance: match request.scope {
            CertificateScope::Target { .. } => Some(view(instance, state)),
            CertificateScope::Fleet { .. } => None,
        },
    };
    (200, serde_json::to_vec(&response).unwrap())
}

/// A certificate as asked for, but for the field that is tampered with.
fn signed_certificate(request: &UserCertificateRequest, tamper: &str) -> ssh_key::Certificate {
    let is = |what: &str| tamper == what;
    let now = unix_now();
    let life = if is("lifetime") {
        7_200
    } else {
        request.ttl_seconds.unwrap_or(300)
    };
    let subject = if is("public key") {
        public(STRANGER)
    } else {
        request.public_key.clone()
    };
    let nonce = vec![1; 32];
    let mut builder =
        Builder::new(nonce, subject.key_data().clone(), now - 60, now + life).unwrap();
    builder.serial(if is("serial") { 0 } else { 42 }).unwrap();
    builder
        .key_id("eic:alice:00112233445566778899aabbccddeeff")
        .unwrap();
    builder
        .cert_type(if is("type") {
            CertType::Host
        } else {
            CertType::User
        })
        .unwrap();
    let principal = request.scope.principal().to_string();
    builder
        .valid_principal(if is("wildcard") { "*" } else { &principal })
        .unwrap();
    if is("extra principal") {
        builder.valid_principal("root").unwrap();
    }
    let wanted = request
        .extensions
        .clone()
        .unwrap_or_else(Extension::defaults);
    for extension in wanted.iter().filter(|_| !is("extensions")) {
        builder.extension(extension.as_str(), "").unwrap();
    }
    if let Some(command) = request
        .force_command
        .as_ref()
        .filter(|_| !is("force-command"))
    {
        builder
            .critical_option("force-command", command.as_str())
            .unwrap();
    }
    if is("unknown critical option") {
        builder.critical_option("x@example.com", "1").unwrap();
    }
    builder
        .sign(&private(if is("signature key") {
            STRANGER
        } else {
            USER_CA
        }))
        .unwrap()
}
