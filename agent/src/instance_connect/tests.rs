//! A whole run against a metadata service: what it must refuse, what it prints, what it logs.

use super::key::tests::rsa_line;
use super::roots::Roots;
use super::test_imds::{Answer, Imds};
use super::test_pki::{
    INSTANCE, NOW, Staple, World, ed25519_line, good_record, pem, record, sign_pss, signer_key,
    unsigned, wrapped,
};
use super::*;
use crate::machine;
use std::cell::RefCell;
use std::time::Duration;

#[derive(Default)]
struct Lines(RefCell<Vec<String>>);

impl Log for Lines {
    fn info(&self, message: &str) {
        self.0.borrow_mut().push(message.to_owned());
    }
}

impl Lines {
    fn contain(&self, part: &str) -> bool {
        self.0.borrow().iter().any(|line| line.contains(part))
    }
}

/// A host with one user, `ubuntu`, whose records are `records`.
struct Stage {
    world: World,
    imds: Imds,
    sys: tempfile::TempDir,
    machine: Machine,
    extra: BTreeSet<ExtraKeyType>,
}

const KEYS: &str = "/latest/meta-data/managed-ssh-keys/active-keys/ubuntu/";
const CERT: &str = "/latest/meta-data/managed-ssh-keys/signer-cert/";
const ZONE: &str = "/latest/meta-data/placement/availability-zone/";
const ID: &str = "/latest/meta-data/instance-id/";

impl Stage {
    fn with(records: &str) -> Self {
        let world = World::new();
        let sys = tempfile::tempdir().unwrap();
        let machine = machine::tests::nitro(sys.path(), &format!("{INSTANCE}\n"));
        let imds = Imds::start()
            .with("GET", ID, Answer::ok(INSTANCE))
            .with("GET", ZONE, Answer::ok("us-east-1a"))
            .with(
                "GET",
                "/latest/meta-data/services/domain/",
                Answer::ok("amazonaws.com"),
            )
            .with("GET", CERT, Answer::ok(&world.chain()))
            .with("HEAD", KEYS, Answer::ok(""))
            .with("GET", KEYS, Answer::ok(records));
        let stage = Self {
            world,
            imds,
            sys,
            machine,
            extra: BTreeSet::new(),
        };
        let staples = stage.world.staples();
        let (leaf, intermediate) = (
            stage.world.leaf.clone(),
            stage.world.intermediate.der.clone(),
        );
        stage
            .staple(&leaf, Answer::ok(&wrapped(&staples[0])))
            .staple(&intermediate, Answer::ok(&wrapped(&staples[1])))
    }

    fn serving(self, method: &str, path: &str, answer: Answer) -> Self {
        Self {
            imds: self.imds.with(method, path, answer),
            ..self
        }
    }

    fn staple(self, certificate: &[u8], answer: Answer) -> Self {
        let hash = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, certificate);
        let name: String = hash
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        self.serving(
            "GET",
            &format!("/latest/meta-data/managed-ssh-keys/signer-ocsp/{name}"),
            answer,
        )
    }

    fn ask(&self, user: &str, fingerprint: Option<&str>) -> (Result<String, NoKeys>, Lines) {
        // For answers that come: a busy machine may take long for them.
        self.ask_within(Duration::from_secs(10), user, fingerprint)
    }

    fn ask_within(
        &self,
        time: Duration,
        user: &str,
        fingerprint: Option<&str>,
    ) -> (Result<String, NoKeys>, Lines) {
        let settings = Settings {
            roots: RootsSource::Given(
                Roots::from_pem(pem(&[&self.world.root.der]).as_bytes()).unwrap(),
            ),
            endpoint: self.imds.url().parse().unwrap(),
            extra_key_types: self.extra.clone(),
        };
        let question = Question {
            user: user.to_owned(),
            fingerprint: fingerprint.map(str::to_owned),
        };
        let log = Lines::default();
        let deadline = Deadline::after(time);
        let answer = authorized_keys(&question, &settings, &self.machine, &log, NOW, deadline);
        (answer.map(super::Answer::into_lines), log)
    }

    fn lines(&self) -> String {
        self.ask("ubuntu", None).0.unwrap()
    }
}

fn with_expiry(expiry: &str, key_line: &str) -> String {
    record(
        &[
            &format!("#Timestamp={expiry}"),
            &format!("#Instance={INSTANCE}"),
        ],
        key_line,
    )
}

#[test]
fn names_that_could_change_a_path_make_no_request() {
    // I-01
    let stage = Stage::with(&good_record(&ed25519_line(1)));
    for user in [
        "",
        "..",
        "a/../../iam/security-credentials/x",
        "a%2fb",
        "a?b",
        "a#b",
        "-x",
        "DOMAIN\\user",
        &"a".repeat(300),
    ] {
        assert_eq!(stage.ask(user, None).0.unwrap(), "", "{user}");
    }
    assert_eq!(stage.imds.connections(), 0);
}

#[test]
fn machines_outside_ec2_make_no_request() {
    // I-22
    let mut stage = Stage::with(&good_record(&ed25519_line(1)));
    stage.machine = Machine::at(stage.sys.path().join("empty"));
    let (outcome, log) = stage.ask("ubuntu", None);
    assert_eq!(outcome.unwrap(), "");
    assert!(log.contain("EC2 Instance Connect was invoked on a non-instance and will do nothing."));
    assert_eq!(stage.imds.connections(), 0);
}

#[test]
fn a_service_that_is_not_there_gives_no_keys_and_no_error() {
    // I-22
    let stage = Stage::with("");
    let settings = Settings {
        roots: RootsSource::Amazon,
        endpoint: "http://127.0.0.1:1".parse().unwrap(),
        extra_key_types: BTreeSet::new(),
    };
    let question = Question {
        user: "ubuntu".to_owned(),
        fingerprint: None,
    };
    let deadline = Deadline::after(Duration::from_secs(2));
    let outcome = authorized_keys(
        &question,
        &settings,
        &stage.machine,
        &Lines::default(),
        NOW,
        deadline,
    );
    assert_eq!(outcome.unwrap(), super::Answer::NoService);
}

#[test]
fn a_host_whose_hypervisor_names_another_instance_gets_no_keys() {
    // I-08
    let mut stage = Stage::with(&good_record(&ed25519_line(1)));
    stage.machine = machine::tests::nitro(stage.sys.path(), "i-0fedcba9876543210\n");
    assert!(matches!(
        stage.ask("ubuntu", None).0,
        Err(NoKeys::OtherInstance)
    ));
}

#[test]
fn instance_ids_of_another_form_give_no_keys() {
    for id in [
        "",
        "i-",
        "ami-0123456789abcdef0",
        "i-0123456789ABCDEF0",
        "mi-0123456789abcdef0",
        "i-0123456789abcdef0\ni-2",
    ] {
        let stage = Stage::with(&good_record(&ed25519_line(1))).serving("GET", ID, Answer::ok(id));
        assert!(
            matches!(stage.ask("ubuntu", None).0, Err(NoKeys::OtherInstance)),
            "{id:?}"
        );
    }
}

#[test]
fn xen_instances_take_the_services_word_but_for_hybrid_ids() {
    let mut stage = Stage::with(&good_record(&ed25519_line(1)));
    stage.machine = machine::tests::xen(stage.sys.path(), "ec2e1916-9099\n");
    assert_eq!(stage.lines(), format!("{}\n", ed25519_line(1)));
    let stage = stage.serving("GET", ID, Answer::ok("mi-0123456789abcdef0"));
    assert!(matches!(
        stage.ask("ubuntu", None).0,
        Err(NoKeys::OtherInstance)
    ));
}

#[test]
fn no_active_key_ends_after_three_requests() {
    for status in [404, 403, 500, 301] {
        let stage = Stage::with("").serving("HEAD", KEYS, Answer::status(status, ""));
        assert_eq!(stage.lines(), "", "{status}");
        let requests = stage.imds.requests();
        assert_eq!(
            requests,
            [
                "PUT /latest/api/token".to_owned(),
                format!("GET {ID}"),
                format!("HEAD {KEYS}")
            ]
        );
        assert_eq!(stage.imds.connections(), 1);
    }
}

#[test]
fn every_failing_answer_gives_no_keys() {
    // I-05
    let body = good_record(&ed25519_line(1));
    for path in [ID, ZONE, "/latest/meta-data/services/domain/", CERT, KEYS] {
        for answer in [
            Answer::status(500, &body),
            Answer::status(404, &body),
            Answer::Hangup,
            Answer::ok(""),
        ] {
            let stage = Stage::with(&body).serving("GET", path, answer);
            let (outcome, _) = stage.ask("ubuntu", None);
            assert!(
                outcome.is_err() || outcome.is_ok_and(|lines| lines.is_empty()),
                "{path}"
            );
        }
    }
}

#[test]
fn the_signer_of_another_region_is_refused() {
    // I-10
    let stage =
        Stage::with(&good_record(&ed25519_line(1))).serving("GET", ZONE, Answer::ok("eu-west-1a"));
    let (outcome, log) = stage.ask("ubuntu", None);
    assert!(matches!(
        outcome,
        Err(NoKeys::Signer(UntrustedSigner::Name))
    ));
    assert!(log.contain("No keys have been trusted."));
}

#[test]
fn missing_and_broken_staples_give_no_keys() {
    // I-15
    let leaf = |stage: &Stage| stage.world.leaf.clone();
    for answer in [
        Answer::status(404, ""),
        Answer::ok("not base64!"),
        Answer::ok(""),
        Answer::ok("MAMKAQA="),
    ] {
        let stage = Stage::with(&good_record(&ed25519_line(1)));
        let certificate = leaf(&stage);
        assert!(
            stage
                .staple(&certificate, answer)
                .ask("ubuntu", None)
                .0
                .is_err()
        );
    }
    let stage = Stage::with(&good_record(&ed25519_line(1)));
    let mut revoked = Staple::new(&stage.world.leaf, &stage.world.intermediate);
    revoked.status = Staple::revoked();
    let answer = Answer::ok(&wrapped(&revoked.der(&stage.world.intermediate.key)));
    let certificate = leaf(&stage);
    let (outcome, log) = stage.staple(&certificate, answer).ask("ubuntu", None);
    assert!(matches!(
        outcome,
        Err(NoKeys::Signer(UntrustedSigner::Revocation { .. }))
    ));
    assert!(log.contain("No keys have been trusted."));
}

#[test]
fn names_from_the_staple_listing_are_never_used() {
    // I-15: the listing is not even read
    let listing = "/latest/meta-data/managed-ssh-keys/signer-ocsp/";
    let stage = Stage::with(&good_record(&ed25519_line(1))).serving(
        "GET",
        listing,
        Answer::ok(&"../../x\n".repeat(10_000)),
    );
    assert_eq!(stage.lines(), format!("{}\n", ed25519_line(1)));
    assert!(!stage.imds.requests().contains(&format!("GET {listing}")));
}

#[test]
fn records_for_another_instance_or_past_their_time_are_dropped() {
    // I-08, I-09
    let other = record(
        &[
            &format!("#Timestamp={}", NOW + 60),
            "#Instance=i-0fedcba9876543210",
        ],
        &ed25519_line(2),
    );
    let text = [
        other,
        with_expiry(&(NOW - 1).to_string(), &ed25519_line(3)),
        with_expiry(&NOW.to_string(), &ed25519_line(4)),
        with_expiry("0", &ed25519_line(5)),
        with_expiry(&(NOW + 1).to_string(), &ed25519_line(6)),
        with_expiry(&u64::MAX.to_string(), &ed25519_line(7)),
    ]
    .concat();
    // No upper bound: AWS signed the time, and this instance's clock may lag.
    assert_eq!(
        Stage::with(&text).lines(),
        format!("{}\n{}\n", ed25519_line(6), ed25519_line(7))
    );
}

#[test]
fn a_bad_record_never_takes_a_good_one_with_it() {
    // I-06, I-07: before and after each kind of bad record there is a good one
    let expiry = format!("#Timestamp={}", NOW + 60);
    let instance = format!("#Instance={INSTANCE}");
    let text = unsigned(&[&expiry, &instance], &ed25519_line(9));
    let signature = sign_pss(signer_key(), text.as_bytes());
    for (flaw, bad) in [
        (
            "wrong signature",
            format!("{text}{}\n\n", wrapped(&sign_pss(signer_key(), b"x"))),
        ),
        ("no signature", format!("{text}\n")),
        ("empty signature", format!("{text}=\n\n")),
        ("headers only", format!("{expiry}\n{instance}\n\n")),
        (
            "CRLF",
            format!("{text}{}\n\n", wrapped(&signature)).replace('\n', "\r\n"),
        ),
        (
            "repeated header",
            record(&[&expiry, &expiry, &instance], &ed25519_line(9)),
        ),
        (
            "repeated instance",
            record(
                &[&expiry, "#Instance=i-0fedcba9876543210", &instance],
                &ed25519_line(9),
            ),
        ),
        (
            "leading blank",
            format!(" {text}{}\n\n", wrapped(&signature)),
        ),
        (
            "trailing blank",
            format!(
                "{}{}\n\n",
                text.replace("\nssh", " \nssh"),
                wrapped(&signature)
            ),
        ),
        (
            "changed key",
            format!(
                "{}{}\n\n",
                unsigned(&[&expiry, &instance], &ed25519_line(8)),
                wrapped(&signature)
            ),
        ),
    ] {
        let all = [
            good_record(&ed25519_line(1)),
            bad,
            good_record(&ed25519_line(2)),
        ]
        .concat();
        assert_eq!(
            Stage::with(&all).lines(),
            format!("{}\n{}\n", ed25519_line(1), ed25519_line(2)),
            "{flaw}"
        );
    }
}

#[test]
fn a_flood_of_bad_records_is_no_flood_of_log_lines() {
    let stage = Stage::with(&format!(
        "{}{}",
        "x\n\n".repeat(5000),
        good_record(&ed25519_line(1))
    ));
    let (outcome, log) = stage.ask("ubuntu", None);
    assert_eq!(outcome.unwrap(), format!("{}\n", ed25519_line(1)));
    assert!(log.contain("dropped more key records"));
    assert!(log.0.borrow().len() < 20);
}

#[test]
fn signed_keys_of_unaccepted_types_are_never_printed() {
    // I-17
    let certificate =
        ed25519_line(1).replacen("ssh-ed25519 ", "ssh-ed25519-cert-v01@openssh.com ", 1);
    for key_line in [
        &rsa_line(1024),
        "ssh-dss AAAAB3NzaC1kc3M=",
        &certificate,
        "ssh-ed25519 garbage",
        "sshfoo AAAA",
        &format!("command=\"id\" {}", ed25519_line(1)),
        "ecdsa-sha2-nistp256 AAAA",
        &format!("from=\"*\" {}", rsa_line(2048)),
    ] {
        assert_eq!(
            Stage::with(&good_record(key_line)).lines(),
            "",
            "{key_line:.40}"
        );
    }
}

#[test]
fn extra_key_types_are_printed_once_configured() {
    // I-17
    let mut w = eic_protocol::wire::Writer::new();
    w.string(b"ecdsa-sha2-nistp256")
        .string(b"nistp256")
        .string(&[&[4][..], &[7; 64]].concat());
    let line = format!("ecdsa-sha2-nistp256 {}", STANDARD.encode(w.as_slice()));
    let mut stage = Stage::with(&good_record(&line));
    assert_eq!(stage.lines(), "");
    stage.extra.insert(ExtraKeyType::P256);
    assert_eq!(stage.lines(), format!("{line}\n"));
}

#[test]
fn only_the_offered_key_is_printed() {
    // I-18
    let text = [
        good_record(&ed25519_line(1)),
        good_record(&ed25519_line(2)),
        good_record(&rsa_line(2048)),
    ]
    .concat();
    let stage = Stage::with(&text);
    let wanted = PushedKey::parse(&ed25519_line(2), &BTreeSet::new())
        .unwrap()
        .fingerprint();
    let (outcome, log) = stage.ask("ubuntu", Some(&wanted));
    assert_eq!(outcome.unwrap(), format!("{}\n", ed25519_line(2)));
    assert!(log.contain(&format!(
        "Querying EC2 Instance Connect keys for matching fingerprint: {wanted}"
    )));
    let (outcome, _) = stage.ask(
        "ubuntu",
        Some("SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"),
    );
    assert_eq!(outcome.unwrap(), "");
}

#[test]
fn a_hundred_keys_are_served_within_the_limits() {
    // I-17
    let text: String = (0..100)
        .map(|seed| good_record(&ed25519_line(seed)))
        .collect();
    assert_eq!(Stage::with(&text).lines().lines().count(), 100);
    let text = text.repeat(2);
    assert!(Stage::with(&text).ask("ubuntu", None).0.is_err());
}

#[test]
fn output_is_written_anew_without_comments() {
    let stage = Stage::with(&good_record(&format!(
        "{} user@laptop # x",
        ed25519_line(1)
    )));
    assert_eq!(stage.lines(), format!("{}\n", ed25519_line(1)));
}

#[test]
fn the_log_says_which_key_whose_request_and_whose_caller() {
    let stage = Stage::with(&good_record(&ed25519_line(1)));
    let fingerprint = PushedKey::parse(&ed25519_line(1), &BTreeSet::new())
        .unwrap()
        .fingerprint();
    let (_, log) = stage.ask("ubuntu", None);
    assert!(log.contain(&format!(
        "Providing ssh key from EC2 Instance Connect with fingerprint: {fingerprint}, request-id: abc-1, for IAM principal: \
         arn:aws:iam::123456789012:user/x"
    )));
}

#[test]
fn local_zones_use_their_regions_signer() {
    for zone in ["us-east-1-bos-1a", "us-east-1-wl1-bos-wlz-1"] {
        let stage =
            Stage::with(&good_record(&ed25519_line(1))).serving("GET", ZONE, Answer::ok(zone));
        assert_eq!(stage.lines(), format!("{}\n", ed25519_line(1)), "{zone}");
    }
}

#[test]
fn slow_services_end_within_the_deadline() {
    // I-04
    for path in [ID, CERT, KEYS] {
        let stage = Stage::with("").serving("GET", path, Answer::Silence);
        let started = std::time::Instant::now();
        let time = Duration::from_millis(500);
        assert!(stage.ask_within(time, "ubuntu", None).0.is_err());
        assert!(started.elapsed() < Duration::from_secs(10), "{path}");
    }
}
