//! This program under the names of the `ec2-instance-connect` package's three programs.

use std::os::unix::fs::symlink;
use std::process::{Output, Stdio};

use crate::documents::INSTANCE;
use crate::imds::{Answer, Imds};
use crate::login::{denied, identity_of, instance_connect, key_line, login_with};
use crate::pki::{SIGNER, Staple, World, ed25519_line, pem, record};
use crate::sandbox::{Host, now, ok, stderr};

const RUN: &str = "/usr/local/bin/eic_run_authorized_keys";
const CURL: &str = "/usr/local/bin/eic_curl_authorized_keys";
const PARSE: &str = "/usr/local/bin/eic_parse_authorized_keys";

/// A host on which the three files are links to this program.
fn host() -> Option<Host> {
    let host = Host::new()?;
    for name in [RUN, CURL, PARSE] {
        let file = name.trim_start_matches("/usr/local/");
        symlink("/usr/local/bin/eic-agent", host.path(file)).unwrap();
    }
    Some(host)
}

fn call(host: &Host, program: &str, arguments: &[&str]) -> Output {
    host.command(program).args(arguments).output().unwrap()
}

const KEYS: &str = "/latest/meta-data/managed-ssh-keys/active-keys/ubuntu/";

#[test]
fn every_failure_ends_with_the_official_code() {
    let Some(host) = host() else { return };
    let imds = instance_connect(&host, "ubuntu", &ed25519_line(5));
    for program in [RUN, CURL] {
        for (code, arguments) in [
            (1, &[][..]),
            (1, &[""]),
            (1, &["ubuntu", "SHA256:x", "extra"]),
            (0, &["nobody"]),
            (0, &["../x"]),
            (
                255,
                &[
                    "ubuntu",
                    "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                ],
            ),
        ] {
            let output = call(&host, program, arguments);
            assert_eq!(
                output.status.code(),
                Some(code),
                "{arguments:?}: {}",
                stderr(&output)
            );
            assert!(output.stdout.is_empty());
        }
    }
    let after = |imds: &Imds, method: &str, path: &str, answer: Answer| {
        imds.set(method, path, answer);
        let code = call(&host, RUN, &["ubuntu"]).status.code().unwrap();
        assert!(call(&host, RUN, &["ubuntu"]).stdout.is_empty());
        code
    };
    assert_eq!(after(&imds, "GET", KEYS, Answer::ok("x\n\n")), 255);
    let zone = "/latest/meta-data/placement/availability-zone/";
    assert_eq!(after(&imds, "GET", zone, Answer::ok("nowhere")), 255);
    assert_eq!(after(&imds, "GET", zone, Answer::ok("eu-west-1a")), 1);
    assert_eq!(after(&imds, "GET", zone, Answer::status(500, "")), 22);
    assert_eq!(after(&imds, "HEAD", KEYS, Answer::status(404, "")), 0);
    let id = "/latest/meta-data/instance-id/";
    assert_eq!(
        after(&imds, "GET", id, Answer::ok("i-0fedcba9876543210")),
        0
    );
    let token = "/latest/api/token";
    assert_eq!(after(&imds, "PUT", token, Answer::ok("")), 255);
    assert_eq!(after(&imds, "PUT", token, Answer::Hangup), 52);
    assert_eq!(
        after(
            &imds,
            "PUT",
            token,
            Answer::Raw(b"SSH-2.0\r\n\r\n".to_vec())
        ),
        8
    );
    assert_eq!(after(&imds, "PUT", token, Answer::Silence), 28);
    host.write(
        "etc/eic/agent.toml",
        "[instance_connect]\nimds_endpoint = \"http://127.0.0.1:1\"\n",
    );
    assert_eq!(call(&host, RUN, &["ubuntu"]).status.code(), Some(7));
}

#[test]
fn the_programs_print_keys_and_end_with_0() {
    let Some(host) = host() else { return };
    let _imds = instance_connect(&host, "ubuntu", &ed25519_line(5));
    for program in [RUN, CURL] {
        let lines = ok(&call(&host, program, &["ubuntu"]));
        assert_eq!(lines, format!("{}\n", ed25519_line(5)));
    }
}

#[test]
fn sshd_lets_a_pushed_key_in_through_the_official_name() {
    let Some(host) = host() else { return };
    let _imds = instance_connect(&host, "root", &key_line(44));
    let sshd =
        format!("-o 'AuthorizedKeysCommand={RUN} %%u %%f' -o AuthorizedKeysCommandUser=nobody");
    identity_of(&host, 44, None);
    assert_eq!(ok(&login_with(&host, &sshd)), "0\n");
    identity_of(&host, 45, None);
    denied(Some(login_with(&host, &sshd)));
}

/// What `eic_curl_authorized_keys` would have fetched, as files under `/etc/parse`.
struct Fetched {
    world: World,
}

impl Fetched {
    fn new(host: &Host) -> Self {
        let world = World::new();
        let headers = [
            format!("#Timestamp={}", now() + 60),
            format!("#Instance={INSTANCE}"),
        ];
        let headers = headers.each_ref().map(String::as_str);
        host.write("etc/parse/records", record(&headers, &ed25519_line(6)));
        host.write("etc/parse/anchors/Test_Root.pem", pem(&[&world.root.der]));
        for (certificate, issuer) in [
            (&world.leaf, &world.intermediate),
            (&world.intermediate.der, &world.root),
        ] {
            let mut staple = Staple::new(certificate, issuer);
            (staple.this_update, staple.next_update) = (now() - 60, Some(now() + 3600));
            let hash = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, certificate);
            let name: String = hash
                .as_ref()
                .iter()
                .map(|byte| format!("{byte:02X}"))
                .collect();
            host.write(
                &format!("etc/parse/staples/{name}"),
                staple.der(&issuer.key),
            );
        }
        Self { world }
    }

    fn parse(&self, host: &Host, stdin: Stdio, more: &[&str]) -> Output {
        let chain = self.world.chain();
        let line = [
            "-x",
            "false",
            "-p",
            "/etc/parse/records",
            "-o",
            "/usr/bin/openssl",
            "-d",
            "/nonexistent",
            "-s",
            &chain,
            "-i",
            INSTANCE,
            "-c",
            SIGNER,
            "-a",
            "/etc/parse/anchors",
            "-v",
            "/etc/parse/staples",
        ];
        let mut command = host.command(PARSE);
        command.args(line).args(more).stdin(stdin).output().unwrap()
    }
}

#[test]
fn the_stated_anchor_does_not_count_under_sshd() {
    // I-11: sshd gives its commands /dev/null as stdin
    let Some(host) = host() else { return };
    let fetched = Fetched::new(&host);
    let output = fetched.parse(&host, Stdio::null(), &[]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    host.write("etc/eic/roots.pem", pem(&[&fetched.world.root.der]));
    host.write(
        "etc/eic/agent.toml",
        "[instance_connect]\nroots = \"/etc/eic/roots.pem\"\n",
    );
    assert_eq!(
        ok(&fetched.parse(&host, Stdio::null(), &[])),
        format!("{}\n", ed25519_line(6))
    );
}

#[test]
fn files_are_verified_by_hand_with_the_stated_anchor() {
    let Some(host) = host() else { return };
    let fetched = Fetched::new(&host);
    let by_hand = |more: &[&str]| fetched.parse(&host, Stdio::piped(), more);
    assert_eq!(ok(&by_hand(&[])), format!("{}\n", ed25519_line(6)));
    for (code, more) in [
        (255, &["-i", "i-0fedcba9876543210"][..]),
        (
            255,
            &["-f", "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"],
        ),
        (1, &["-c", "managed-ssh-signer.eu-west-1.amazonaws.com"]),
        (1, &["-a", "/etc/ssl"]),
        (1, &["-v", "/etc/parse"]),
        (1, &["-p", "/etc/parse/none"]),
        (1, &["-z", "x"]),
        (1, &["-f", "MD5:00"]),
    ] {
        let output = by_hand(more);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{more:?}: {}",
            stderr(&output)
        );
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.is_empty() || said.starts_with("usage: "), "{said}");
    }
    let loud = by_hand(&["-x", "true", "-c", "other"]);
    assert!(String::from_utf8_lossy(&loud.stdout).contains("unrecognized signer certificate"));
}
