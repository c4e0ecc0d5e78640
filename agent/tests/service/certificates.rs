//! The host certificate: what is asked with which evidence, what is taken, what is not.

use std::sync::{Arc, Mutex};

use eic_protocol::api::host_certificate::{
    HostCertificateRequest, HostCertificateResponse, HostEvidence, IssuedHostCertificate, console,
};
use eic_protocol::grant::Nonce;
use eic_protocol::proof::Audience;
use eic_protocol::request_id::RequestId;
use eic_protocol::serial::Serial;
use eic_protocol::subject_key::SubjectKey;
use eic_protocol::validity::Validity;
use ssh_key::certificate::{Builder, CertType};

use crate::documents::{CA_KEY, HOST_CA_KEY, INSTANCE, key};
use crate::imds::{Answer, Imds};
use crate::sandbox::{now, wait_until};
use crate::standin::{Asked, Reply};
use crate::station::Station;

/// What a certificate is made of; every part can be wrong.
pub(crate) struct Made<'a> {
    pub(crate) public: &'a SubjectKey,
    pub(crate) ca: u8,
    pub(crate) name: &'a str,
    pub(crate) kind: CertType,
    pub(crate) begins: u64,
    pub(crate) ends: u64,
    pub(crate) serial: u64,
}

impl<'a> Made<'a> {
    pub(crate) fn right(public: &'a SubjectKey) -> Self {
        Self {
            public,
            ca: HOST_CA_KEY,
            name: INSTANCE,
            kind: CertType::Host,
            begins: now() - 30,
            ends: now() + 7200,
            serial: 77,
        }
    }

    pub(crate) fn line(&self) -> String {
        let key_data = self.public.key_data().clone();
        let mut builder = Builder::new(vec![7; 16], key_data, self.begins, self.ends).unwrap();
        builder.serial(self.serial).unwrap();
        builder.cert_type(self.kind).unwrap();
        builder
            .key_id("host")
            .unwrap()
            .valid_principal(self.name)
            .unwrap();
        builder.sign(&key(self.ca)).unwrap().to_openssh().unwrap()
    }
}

pub(crate) fn issued(certificate: String) -> Reply {
    Reply::json(&HostCertificateResponse::Issued {
        certificates: vec![IssuedHostCertificate {
            certificate,
            serial: Serial::new(77).unwrap(),
            validity: Validity::new(now() - 30, now() + 7200).unwrap(),
        }],
        renew_after: now() + 3600,
        server_time: now(),
        request_id: RequestId::from_random([1; 16]),
    })
}

/// A certificate that fits this key.
pub(crate) fn issued_for(public: &SubjectKey) -> Reply {
    issued(Made::right(public).line())
}

/// Instance metadata with an identity document and a role.
pub(crate) fn instance_metadata() -> Imds {
    let document = format!("{{\"instanceId\":\"{INSTANCE}\",\"region\":\"eu-west-1\"}}");
    let role = "/latest/meta-data/iam/security-credentials/";
    let credentials = "{\"Code\":\"Success\",\"AccessKeyId\":\"ASIAEXAMPLEEXAMPLE12\",\"SecretAccessKey\":\"canary-secret\",\"Token\":\"canarytoken\"}";
    let identity = "/latest/dynamic/instance-identity";
    Imds::start()
        .with(
            "GET",
            &format!("{identity}/document"),
            Answer::ok(&document),
        )
        .with(
            "GET",
            &format!("{identity}/rsa2048"),
            Answer::ok("MIAG\nCSqG"),
        )
        .with("GET", role, Answer::ok("web-role"))
        .with("GET", &format!("{role}web-role"), Answer::ok(credentials))
}

/// The request in a body, its signatures checked.
pub(crate) fn asked_for(asked: &Asked, audience: &str) -> HostCertificateRequest {
    let request = HostCertificateRequest::parse(&asked.body).unwrap();
    let audience: Audience = audience.parse().unwrap();
    request.check_possession(&audience).unwrap();
    request
}

const TOKEN: &str = "eic-enrol-0000000000000000000000000000000000000000000000000000000000000000";

pub(crate) fn with_token() -> Option<Station> {
    let station =
        Station::new("enrolment_token = \"/etc/eic/token\"\nevidence = \"enrolment-token\"")?;
    station.host.write("etc/eic/token", format!("{TOKEN}\n"));
    station.with_host_certificates();
    station.ca.serve(station.authority.response());
    Some(station)
}

/// Certificates that do not fit, each with what its refusal names.
fn unfit(own: &SubjectKey, foreign: &SubjectKey) -> Vec<(&'static str, String)> {
    let right = || Made::right(own);
    let made = |reason, made: Made<'_>| (reason, made.line());
    vec![
        made("public key", Made::right(foreign)),
        // D-08, E-10: what no list could revoke, and what outlives a day.
        made(
            "serial",
            Made {
                serial: 0,
                ..right()
            },
        ),
        made(
            "lifetime",
            Made {
                ends: now() + 25 * 3600,
                ..right()
            },
        ),
        made(
            "",
            Made {
                ca: CA_KEY,
                ..right()
            },
        ),
        made(
            "",
            Made {
                name: "i-0fedcba9876543210",
                ..right()
            },
        ),
        made(
            "",
            Made {
                kind: CertType::User,
                ..right()
            },
        ),
        made(
            "",
            Made {
                ends: now() - 1,
                ..right()
            },
        ),
        ("", "garbage".to_owned()),
        ("not one line", format!("{}\nHostKey /x", right().line())),
    ]
}

#[test]
fn a_certificate_that_does_not_fit_is_not_installed() {
    let Some(station) = with_token() else {
        return;
    };
    let own = station.host_key("ed25519");
    let foreign = crate::documents::public(30);
    let wrong = Arc::new(Mutex::new(String::new()));
    let told = Arc::clone(&wrong);
    station
        .ca
        .otherwise(move |_| issued(told.lock().unwrap().clone()));
    let mut service = None;
    for (reason, line) in unfit(&own, &foreign) {
        *wrong.lock().unwrap() = line.clone();
        drop(service.take());
        service = Some(station.service());
        station.wait_for_problem("host certificate", "helper");
        station.wait_for_problem("host certificate", reason);
        assert!(
            !station.host.path("var-lib/eic/host-cert.pub").exists(),
            "{line}"
        );
        std::fs::remove_file(station.host.path("run/eic/status.json")).unwrap();
    }
}

#[test]
fn a_host_outside_ec2_enrols_by_its_token_and_renews_by_its_key() {
    let Some(station) = with_token() else {
        return;
    };
    let audience = station.ca.url();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let requests = Arc::clone(&seen);
    let lifetime = Arc::new(Mutex::new(20));
    let seconds = Arc::clone(&lifetime);
    station.ca.otherwise(move |asked| {
        assert_eq!(asked.line, "POST /v1/certificates/host");
        let request = asked_for(asked, &audience);
        let public = request.host_keys[0].public_key.clone();
        requests.lock().unwrap().push(request);
        let ends = now() + *seconds.lock().unwrap();
        issued(
            Made {
                ends,
                ..Made::right(&public)
            }
            .line(),
        )
    });
    let service = station.service();
    wait_until("a certificate", || {
        station.host.path("var-lib/eic/host-cert.pub").exists()
    });
    wait_until("the state", || {
        station.status().host_certificate_ends.is_some()
    });
    drop(service);
    let first = seen.lock().unwrap()[0].clone();
    let HostEvidence::EnrolmentToken(token) = &first.evidence else {
        panic!("{first:?}")
    };
    assert_eq!(token.reveal(), TOKEN);
    assert!(!format!("{first:?}{}", station.said()).contains("0000000000"));
    // The next start, near its end: by the certified key, not by the token.
    *lifetime.lock().unwrap() = 7200;
    let _service = station.service();
    wait_until("a renewal", || {
        let seen = seen.lock().unwrap();
        seen.iter()
            .any(|request| matches!(request.evidence, HostEvidence::EnrolledKey {}))
    });
    wait_until("its end", || {
        station
            .status()
            .host_certificate_ends
            .is_some_and(|ends| ends > now() + 3600)
    });
    // This host was installed without one, so sshd does not name the file.
    station.wait_for_problem("shown host certificate", "run `eic-agent install` again");
    // Documents older than what the service has are refused.
    let mut newer = station.authority.installed.clone();
    newer.view.version = 50;
    station.host.documents(&newer);
    crate::sandbox::ok(&station.host.install(&["--no-reload"]));
    let shown = station.host.read("etc/ssh/sshd_config.d/10-eic.conf");
    assert!(
        shown.contains("HostCertificate /var/lib/eic/host-cert.pub"),
        "{shown}"
    );
}

#[test]
fn a_host_that_is_certified_by_an_older_key_signs_with_both() {
    let Some(station) = with_token() else {
        return;
    };
    let (new, old) = (station.host_key("ed25519"), station.host_key("rsa"));
    let ending = Made {
        ends: now() + 20,
        ..Made::right(&old)
    };
    station.put_certificate(&ending.line());
    let audience = station.ca.url();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let requests = Arc::clone(&seen);
    station.ca.otherwise(move |asked| {
        let request = asked_for(asked, &audience);
        let reply = issued_for(&request.host_keys[0].public_key);
        requests.lock().unwrap().push(request);
        reply
    });
    let _service = station.service();
    wait_until("a certificate of the new key", || {
        station.certified() == Some(new.clone())
    });
    let seen = seen.lock().unwrap();
    let asked: Vec<_> = seen[0]
        .host_keys
        .iter()
        .map(|key| &key.public_key)
        .collect();
    assert_eq!(asked, [&new]);
    let previous = seen[0].previous_key.as_ref();
    assert_eq!(previous.map(|proof| &proof.public_key), Some(&old));
}

#[test]
fn an_instance_shows_its_document_and_its_roles_proof() {
    // D20, E-13
    let Some(station) = Station::new("") else {
        return;
    };
    let document = format!("{{\"instanceId\":\"{INSTANCE}\",\"region\":\"eu-west-1\"}}");
    let imds = instance_metadata();
    station.with_host_certificates();
    station.with_metadata(&imds.url());
    station.ca.serve(station.authority.response());
    let audience = station.ca.url();
    let seen = Arc::new(Mutex::new(None));
    let requests = Arc::clone(&seen);
    station.ca.otherwise(move |asked| {
        let request = asked_for(asked, &audience);
        let public = request.host_keys[0].public_key.clone();
        *requests.lock().unwrap() = Some(request);
        issued(Made::right(&public).line())
    });
    let _service = station.service();
    wait_until("a certificate", || {
        station.host.path("var-lib/eic/host-cert.pub").exists()
    });
    let request = seen.lock().unwrap().clone().unwrap();
    let HostEvidence::InstanceIdentity {
        document: shown,
        proof,
        ..
    } = &request.evidence
    else {
        panic!("{request:?}")
    };
    assert_eq!(shown.as_slice(), document.as_bytes());
    assert_eq!(proof.region.to_string(), "eu-west-1");
    let body = String::from_utf8(station.ca.asked().last().unwrap().body.clone()).unwrap();
    assert!(!body.contains("canary-secret") && !station.said().contains("canary"));
}

#[test]
fn a_host_whose_sshd_tells_ports_apart_renews_all_the_same() {
    let Some(station) = with_token() else {
        return;
    };
    station.host.write(
        "etc/ssh/sshd_config.d/60-ports.conf",
        "Match LocalPort 2222\n  X11Forwarding no\nMatch LocalAddress 10.0.0.1\n  X11Forwarding no\n",
    );
    station.ca.otherwise(|asked| {
        let request = HostCertificateRequest::parse(&asked.body).unwrap();
        issued(Made::right(&request.host_keys[0].public_key).line())
    });
    let _service = station.service();
    wait_until("a certificate", || {
        station.host.path("var-lib/eic/host-cert.pub").exists()
    });
}

#[test]
fn a_web_identity_token_is_got_from_sts_for_this_ca_only() {
    // D20
    let Some(station) = Station::new("evidence = \"web-identity\"") else {
        return;
    };
    let imds = instance_metadata();
    station.with_host_certificates();
    station.with_metadata(&imds.url());
    station.configure(|toml| format!("{toml}sts = \"{}\"\n", station.ca.url()));
    station.ca.serve(station.authority.response());
    let audience = station.ca.url();
    let seen = Arc::new(Mutex::new(None));
    let requests = Arc::clone(&seen);
    station.ca.otherwise(move |asked| {
        if asked.line == "POST /" {
            let body = String::from_utf8_lossy(&asked.body);
            let escaped = audience.replace(':', "%3A").replace('/', "%2F");
            assert!(
                body.contains(&format!("&Audience.member.1={escaped}&")),
                "{body}"
            );
            assert!(body.starts_with("Action=GetWebIdentityToken&"));
            let head = asked.head.to_lowercase();
            assert!(
                head.contains("authorization: aws4-hmac-sha256 credential=asiaexampleexample12/")
            );
            assert!(head.contains("x-amz-security-token: canarytoken"));
            return Reply::status(200, "<R><WebIdentityToken>aa.bb.cc</WebIdentityToken></R>");
        }
        let request = asked_for(asked, &audience);
        let public = request.host_keys[0].public_key.clone();
        *requests.lock().unwrap() = Some(request);
        issued(Made::right(&public).line())
    });
    let _service = station.service();
    wait_until("a certificate", || {
        station.host.path("var-lib/eic/host-cert.pub").exists()
    });
    let request = seen.lock().unwrap().clone().unwrap();
    let HostEvidence::WebIdentity(token) = &request.evidence else {
        panic!("{request:?}")
    };
    assert_eq!(token.reveal(), "aa.bb.cc");
}

#[test]
fn the_challenge_reaches_the_console_with_the_hosts_own_names() {
    // E-11
    let Some(station) = with_token() else {
        return;
    };
    let challenge = Nonce::from_random([9; 16]);
    let audience = station.ca.url();
    station.ca.otherwise(move |asked| {
        asked_for(asked, &audience);
        Reply::json(&HostCertificateResponse::WriteToConsole {
            challenge,
            expires_at: now() + 600,
            request_id: RequestId::from_random([1; 16]),
        })
    });
    station.host.write("run/console", "boot\n");
    station.configure(|toml| format!("{toml}console = \"/run/console\"\n"));
    let _service = station.service();
    station.wait_for_problem("host certificate", "console");
    let own = station.host_key("ed25519");
    let instance = INSTANCE.parse().unwrap();
    let console = station.host.read("run/console");
    let wanted = console::line(&instance, &challenge, [&own]);
    assert!(console.lines().any(|line| line == wanted), "{console}");
}

#[test]
fn a_ca_that_refuses_or_wants_an_operator_is_told_with_its_words() {
    let Some(station) = with_token() else {
        return;
    };
    station.ca.otherwise(|_| {
        Reply::status(
            401,
            "{\"title\":\"the enrolment token is not known\",\"detail\":\"ask\\u001b[31m again\"}",
        )
    });
    let service = station.service();
    station.wait_for_problem("host certificate", "401: the enrolment token is not known");
    assert!(!station.said().contains('\u{1b}'));
    drop(service);
    station.ca.otherwise(|_| {
        Reply::json(&HostCertificateResponse::AwaitingApproval {
            enrolment: RequestId::from_random([2; 16]),
            retry_after: now() + 60,
            request_id: RequestId::from_random([1; 16]),
        })
    });
    let _service = station.service();
    station.wait_for_problem("host certificate", "an operator must approve");
}

/// Has the CA answer by the evidence; what was shown, in order.
fn answered(
    station: &Station,
    answer: impl Fn(&HostEvidence, usize) -> Option<u16> + Send + 'static,
) -> Arc<Mutex<Vec<HostEvidence>>> {
    let audience = station.ca.url();
    let shown = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&shown);
    station.ca.otherwise(move |asked| {
        let request = asked_for(asked, &audience);
        let mut seen = seen.lock().unwrap();
        let refused = answer(&request.evidence, seen.len());
        seen.push(request.evidence);
        match refused {
            Some(status) => Reply::status(status, "{\"title\":\"no\"}"),
            None => issued_for(&request.host_keys[0].public_key),
        }
    });
    shown
}

fn is_token(evidence: &HostEvidence, text: &str) -> bool {
    matches!(evidence, HostEvidence::EnrolmentToken(token) if token.reveal() == text)
}

#[test]
fn a_token_that_was_used_is_not_shown_again_and_again() {
    let Some(station) = with_token() else {
        return;
    };
    let shown = answered(&station, |_, _| Some(401));
    let _service = station.service();
    station.wait_for_problem("host certificate", "401: no");
    let by_key = |shown: &[HostEvidence]| {
        let keys = shown
            .iter()
            .filter(|evidence| matches!(evidence, HostEvidence::EnrolledKey {}));
        keys.count()
    };
    wait_until("two requests after it", || {
        by_key(&shown.lock().unwrap()) >= 2
    });
    let shown = shown.lock().unwrap();
    let tokens = shown.iter().filter(|evidence| is_token(evidence, TOKEN));
    assert_eq!(tokens.count(), 1, "{shown:?}");
}

#[test]
fn a_token_that_a_failing_ca_has_used_is_shown_until_it_says_so_and_then_the_key_does() {
    let Some(station) = with_token() else {
        return;
    };
    let shown = answered(&station, |evidence, count| match (evidence, count) {
        (HostEvidence::EnrolmentToken(_), 0) => Some(503),
        (HostEvidence::EnrolmentToken(_), 1) => Some(429),
        (HostEvidence::EnrolmentToken(_), _) => Some(401),
        _ => None,
    });
    let _service = station.service();
    wait_until("a certificate", || {
        station.host.path("var-lib/eic/host-cert.pub").exists()
    });
    let shown = shown.lock().unwrap();
    assert_eq!(shown.len(), 4, "{shown:?}");
    assert!(
        shown[..3].iter().all(|one| is_token(one, TOKEN)),
        "{shown:?}"
    );
}

#[test]
fn a_host_whose_key_renews_nothing_shows_a_new_token_without_a_restart() {
    const NEW: &str = "eic-enrol-1111111111111111111111111111111111111111111111111111111111111111";
    let Some(station) = with_token() else {
        return;
    };
    let own = station.host_key("ed25519");
    let ending = Made {
        ends: now() + 20,
        ..Made::right(&own)
    };
    station.put_certificate(&ending.line());
    let shown = answered(&station, |evidence, _| match evidence {
        HostEvidence::EnrolledKey {} => Some(403),
        evidence => (!is_token(evidence, NEW)).then_some(401),
    });
    let _service = station.service();
    wait_until("the key, the old token, the key", || {
        shown.lock().unwrap().len() >= 3
    });
    station.host.write("etc/eic/token", format!("{NEW}\n"));
    wait_until("the renewal", || {
        let ends = station.status().host_certificate_ends;
        ends.is_some_and(|ends| ends > now() + 3600)
    });
    let shown = shown.lock().unwrap();
    let is_key = |at: usize| matches!(shown[at], HostEvidence::EnrolledKey {});
    assert!(
        is_key(0) && is_token(&shown[1], TOKEN) && is_key(2),
        "{shown:?}"
    );
    assert_eq!(shown.iter().filter(|one| is_token(one, TOKEN)).count(), 1);
    assert!(shown.last().is_some_and(|last| is_token(last, NEW)));
}

/// What a newer sshd says of itself; everything else is the installed one's.
const NEWER_SSHD: &str = "#!/bin/sh\nif [ \"$1\" = -V ]; then echo 'OpenSSH_9.9p1, OpenSSL' >&2; exit 0; fi\nexec /usr/sbin/sshd \"$@\"\n";

#[test]
fn a_newer_sshd_is_told_of_a_new_certificate() {
    let Some(station) = with_token() else {
        return;
    };
    station.host.write("bin/sshd-9.9", NEWER_SSHD);
    crate::station::mode(&station.host.path("bin/sshd-9.9"), 0o755);
    let more = "[service.sshd]\nprogram = \"/usr/local/bin/sshd-9.9\"\n";
    station.configure(|toml| toml + more);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("Port={}", free.local_addr().unwrap().port());
    drop(free);
    let mut sshd = station.host.command("/usr/sbin/sshd");
    sshd.args([
        "-D",
        "-E",
        "/run/sshd.log",
        "-o",
        &port,
        "-o",
        "ListenAddress=127.0.0.1",
    ]);
    sshd.args(["-o", "PidFile=/run/sshd.pid"]);
    let _sshd = crate::sandbox::Running(sshd.spawn().unwrap());
    wait_until("sshd", || station.host.path("run/sshd.pid").exists());
    station.ca.otherwise(|asked| {
        let request = HostCertificateRequest::parse(&asked.body).unwrap();
        issued(Made::right(&request.host_keys[0].public_key).line())
    });
    let _service = station.service();
    wait_until("the reload", || {
        station
            .host
            .read("run/sshd.log")
            .contains("Received SIGHUP; restarting.")
    });
}
