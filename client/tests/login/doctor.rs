//! `eic-login doctor` over set-ups that are broken in one place each: it must name that place.

use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use eic_login::credentials::IdTokenConfig;
use eic_protocol::api::discovery::AuthMethod;
use eic_protocol::api::instance::{Enrolment, InstanceConnectMode};
use eic_protocol::api::problem::ProblemCode;

use crate::config::Config;
use crate::real_ssh::{Scene, said};
use crate::stub::{INSTANCE, OTHER_INSTANCE, STRANGER, public, root_of};

/// One set-up.
struct Case {
    cause: &'static str,
    /// The instance that the host's certificate names; none: it shows a plain key.
    certificate: Option<&'static str>,
    host: &'static str,
    breaks: fn(&Scene),
    environment: fn(&mut Command),
}

const GOOD: Case = Case {
    cause: "",
    certificate: Some(INSTANCE),
    host: "web-1",
    breaks: |_| {},
    environment: |_| {},
};

fn case(cause: &'static str, breaks: fn(&Scene)) -> Case {
    Case {
        cause,
        breaks,
        ..GOOD
    }
}

/// A legacy host, which shows a plain key.
fn legacy(cause: &'static str, breaks: fn(&Scene)) -> Case {
    Case {
        cause,
        breaks,
        certificate: None,
        ..GOOD
    }
}

/// The finding's word; empty where the login works.
async fn examined(case: &Case) -> (String, String) {
    let scene = Scene::new(case.certificate).await;
    if case.certificate.is_none() && case.cause != "host-certificate-missing" {
        scene.world.state().enrolment = Enrolment::Legacy;
    }
    let config = scene.world.paths.config_file();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("patterns = [\"web-*\"]\n{text}")).unwrap();
    (case.breaks)(&scene);
    let file = scene.world.dir.path().join("ssh_config");
    let mut command = scene.eic(&["doctor", "--json", "-F", file.to_str().unwrap(), case.host]);
    (case.environment)(&mut command);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    let text = format!("{}\n{}", said(&output), scene.sshd_log());
    let Ok(told) = serde_json::from_slice::<serde_json::Value>(&output.stdout) else {
        return ("no JSON".to_owned(), text);
    };
    let word = told["finding"]["cause"].as_str().unwrap_or_default();
    let works = told["finding"].is_null();
    assert_eq!(output.status.success(), works, "{text}");
    (word.to_owned(), text)
}

async fn check(cases: Vec<Case>) {
    let mut wrong = Vec::new();
    for case in cases {
        let (word, text) = examined(&case).await;
        if word != case.cause {
            wrong.push(format!("{}: {word}\n{text}", case.cause));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n---\n"));
}

fn refuse(scene: &Scene, code: ProblemCode) {
    scene.world.state().refuse = Some(code);
}

fn refuse_session(scene: &Scene, code: ProblemCode) {
    scene.world.state().refuse_session = Some(code);
}

fn ca_at(scene: &Scene, url: &str) {
    scene.world.configure(Some(url), Vec::new());
}

/// As people without AWS credentials do, of whom nobody has.
fn sign_in_at_an_issuer(scene: &Scene) {
    let mut config = Config::load(&scene.world.paths).unwrap();
    config.id_token = Some(IdTokenConfig {
        issuer: "https://issuer.example".parse().ok(),
        ..IdTokenConfig::default()
    });
    std::fs::write(scene.world.paths.config_file(), config.to_toml().unwrap()).unwrap();
    let issuers = Vec::new();
    scene.world.state().auth.push(AuthMethod::Oidc { issuers });
}

fn without_ca(scene: &Scene) {
    scene.world.configure(None, Vec::new());
}

/// A port where every connection is told this.
fn port_saying(what: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.write_all(what);
        }
    });
    port
}

/// Where nobody listens; a port that was free a moment ago may be somebody's.
const NOBODYS_PORT: u16 = 1;

/// Lines before everything else in ssh's configuration.
fn before_ours(scene: &Scene, lines: &str) {
    let file = scene.world.dir.path().join("ssh_config");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(file, format!("{lines}\n{text}")).unwrap();
}

fn console_shows(scene: &Scene, keys: &[u8]) {
    let block = |seed: &u8| {
        format!(
            "-----BEGIN SSH HOST KEY KEYS-----\n{} root@x\n-----END SSH HOST KEY KEYS-----\n",
            public(*seed)
        )
    };
    scene.world.state().console = keys.iter().map(block).collect();
}

fn no_principals(scene: &Scene) {
    std::fs::write(scene.world.dir.path().join("principals"), "nobody\n").unwrap();
}

fn remembers_another_key(scene: &Scene) {
    let state = &scene.world.paths.state_dir;
    crate::files::private_dir(state).unwrap();
    let text = format!(
        r#"{{"version":1,"hosts":{{"{INSTANCE}":{{"keys":["{}"],"source":"first-use"}}}}}}"#,
        public(77)
    );
    std::fs::write(state.join("hosts.json"), text).unwrap();
}

#[tokio::test]
async fn a_login_that_works_has_no_cause() {
    check(vec![
        GOOD,
        Case {
            host: INSTANCE,
            ..GOOD
        },
        legacy("", |_| {}),
        // Without a CA, sshd's port is a tag's.
        legacy("", |scene| {
            without_ca(scene);
            let port = scene.world.state().port.to_string();
            scene.world.tag("eic:ssh-port", &port);
        }),
        Case {
            environment: |command| {
                command.env("USER", "nobody-here");
            },
            ..case("", |scene| {
                scene.world.state().users = vec!["ubuntu".to_owned()]
            })
        },
    ])
    .await;
}

#[tokio::test]
async fn what_is_wrong_on_this_machine_is_named() {
    check(vec![
        Case {
            environment: |command| {
                command.env("PATH", "/nonexistent");
            },
            ..case("ssh-version", |_| {})
        },
        case("configuration", |scene| {
            std::fs::write(scene.world.paths.config_file(), "patterns = 1").unwrap();
        }),
        case("ssh-configuration", |scene| {
            before_ours(scene, "FooBar yes")
        }),
        case("ssh-options-overridden", |scene| {
            before_ours(scene, "Host web-1\n    IdentityAgent none");
        }),
        case("ssh-options-overridden", |scene| {
            before_ours(scene, "Host web-1\n    ProxyCommand nc %h %p");
        }),
        Case {
            host: "db-1",
            ..case("host-not-covered", |_| {})
        },
        case("no-common-algorithm", |scene| {
            before_ours(
                scene,
                "Host web-1\n    KexAlgorithms diffie-hellman-group1-sha1",
            );
        }),
        case("resident-agent", |scene| {
            let dir = &scene.world.paths.run_dir;
            crate::files::private_dir(dir).unwrap();
            std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        }),
        Case {
            environment: |command| {
                command
                    .env_remove("AWS_ACCESS_KEY_ID")
                    .env_remove("AWS_SECRET_ACCESS_KEY")
                    .env("AWS_EC2_METADATA_DISABLED", "true");
            },
            ..case("credentials-missing", |_| {})
        },
    ])
    .await;
}

#[tokio::test]
async fn what_is_wrong_between_here_and_the_ca_is_named() {
    check(vec![
        case("ca-name", |scene| ca_at(scene, "https://ca.invalid")),
        case("ca-unreachable", |scene| {
            ca_at(scene, &format!("http://127.0.0.1:{NOBODYS_PORT}"));
        }),
        case("ca-unavailable", |scene| scene.world.state().absent = true),
        case("ca-tls", |scene| {
            let port = port_saying(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
            ca_at(scene, &format!("https://127.0.0.1:{port}"));
        }),
        case("not-a-ca", |scene| {
            let page =
                b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\nconnection: close\r\n\r\nnone";
            ca_at(scene, &format!("http://127.0.0.1:{}", port_saying(page)));
        }),
        case("clock", |scene| {
            refuse_session(scene, ProblemCode::ProofStale)
        }),
        case("credentials-rejected", |scene| {
            refuse_session(scene, ProblemCode::ProofRefused);
        }),
        Case {
            environment: |command| {
                command.env_remove("AWS_ACCESS_KEY_ID");
                command.env_remove("AWS_SECRET_ACCESS_KEY");
            },
            ..case("sign-in", sign_in_at_an_issuer)
        },
        case("account-not-accepted", |scene| {
            refuse_session(scene, ProblemCode::AccountNotAccepted);
        }),
        case("aws-unreachable", |scene| {
            without_ca(scene);
            scene.world.state().aws_refuses = Some(("DescribeInstances", "RequestLimitExceeded"));
        }),
    ])
    .await;
}

#[tokio::test]
async fn what_the_ca_or_aws_does_not_allow_is_named() {
    check(vec![
        case("not-allowed", |scene| {
            refuse(scene, ProblemCode::NotAllowed)
        }),
        case("conditions-not-met", |scene| {
            refuse(scene, ProblemCode::ConditionsNotMet);
        }),
        case("caller-revoked", |scene| {
            refuse(scene, ProblemCode::CallerRevoked)
        }),
        case("too-many-requests", |scene| {
            refuse(scene, ProblemCode::TooManyRequests);
        }),
        case("root-behind", |scene| {
            let mut state = scene.world.state();
            (state.root, state.tamper) = (root_of(3, STRANGER), Some("signature key"));
        }),
        case("wrong-certificate", |scene| {
            scene.world.state().tamper = Some("extra principal");
        }),
        case("no-permission-describe", |scene| {
            without_ca(scene);
            scene.world.state().aws_refuses = Some(("DescribeInstances", "UnauthorizedOperation"));
        }),
        legacy("no-permission-push", |scene| {
            scene.world.state().aws_refuses = Some(("SendSSHPublicKey", "AuthException"));
        }),
        legacy("instance-not-ready", |scene| {
            scene.world.state().aws_refuses =
                Some(("SendSSHPublicKey", "EC2InstanceStateInvalidException"));
        }),
        legacy("restricted", |scene| scene.world.state().restricted = true),
        case("enrolled-without-ca", |scene| {
            without_ca(scene);
            scene.world.tag("eic:enrolled", "true");
        }),
        legacy("instance-connect-off", |scene| {
            scene.world.state().mode = InstanceConnectMode::Off;
        }),
        legacy("break-glass-only", |scene| {
            scene.world.state().mode = InstanceConnectMode::BreakGlass;
        }),
    ])
    .await;
}

#[tokio::test]
async fn what_is_wrong_with_the_name_or_the_account_is_named() {
    check(vec![
        case("unknown-host", |scene| {
            scene.world.state().instances.clear()
        }),
        case("ambiguous-name", |scene| {
            let both = [INSTANCE, OTHER_INSTANCE].map(str::to_owned);
            scene.world.state().instances = both.into();
        }),
        Case {
            host: "nowhere/web-1",
            ..case("unknown-place", |_| {})
        },
        Case {
            environment: |command| {
                command.env("USER", "root").env("LOGNAME", "root");
            },
            ..case("which-user", |scene| {
                // ssh goes by the account database, whatever the environment says.
                before_ours(scene, "Host web-1\n    User root");
                scene.world.state().users = vec!["ubuntu".to_owned()];
            })
        },
    ])
    .await;
}

#[tokio::test]
async fn what_is_wrong_at_the_host_is_named() {
    check(vec![
        case("connection-refused", |scene| {
            scene.world.state().port = NOBODYS_PORT;
        }),
        case("not-ssh", |scene| {
            scene.world.state().port = port_saying(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }),
        case("closed-early", |scene| {
            scene.world.state().port = port_saying(b"")
        }),
        Case {
            certificate: Some(OTHER_INSTANCE),
            ..case("host-certificate", |_| {})
        },
        legacy("host-certificate-missing", |_| {}),
        legacy("host-key-changed", remembers_another_key),
        legacy("host-key-not-on-console", |scene| {
            console_shows(scene, &[77])
        }),
        legacy("console-contradicts", |scene| {
            console_shows(scene, &[77, 78])
        }),
        legacy("console-unreadable", |scene| {
            scene.world.state().aws_refuses = Some(("GetConsoleOutput", "RequestLimitExceeded"));
        }),
        case("certificate-refused", no_principals),
        legacy("pushed-key-refused", |scene| {
            no_principals(scene);
            scene.world.state().authorized_keys = None;
        }),
    ])
    .await;
}

#[tokio::test]
async fn a_configuration_in_a_home_that_ssh_does_not_read_is_named() {
    let scene = Scene::new(Some(INSTANCE)).await;
    let ssh = &scene.world.paths.ssh_dir;
    crate::files::private_dir(ssh).unwrap();
    std::fs::write(ssh.join("config"), "Include eic.config\n").unwrap();
    let block = scene.world.dir.path().join("ssh_config");
    std::fs::copy(block, ssh.join("eic.config")).unwrap();
    for args in [&["doctor", "web-1"][..], &["status"]] {
        let mut command = scene.eic(args);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        let text = said(&output.await.unwrap());
        let told = format!("ssh -F {}/config", ssh.display());
        assert!(
            text.contains("ssh reads ") && text.contains(&told),
            "{text}"
        );
    }
}
