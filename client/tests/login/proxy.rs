//! D19: the proxy of the configuration, and no other: who is asked through it, and what is told where it refuses.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use eic_aws::http_client::HttpError;
use eic_aws::proxy::Proxy;
use eic_login::ca::CaError;
use eic_login::cause::Cause;
use eic_login::exit_code::{self, Failure};
use eic_login::oidc::{self, Person, Registration, Tokens, Way};
use eic_protocol::secret::Secret;

use crate::credentials::{CredentialsError, Selection, TokenSource, resolve_in_child};
use crate::paths::Paths;
use crate::real_ssh::{program, said};
use crate::tls::{Server, discover_by, server};

/// `u:p@ss`, and as it is sent.
const USER: &str = "u:p%40ss@";
const BASIC: &str = "proxy-authorization: basic dtpwqhnz";

/// A proxy that connects whoever says who he is, and nobody where it is closed.
struct StandIn {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl StandIn {
    fn open() -> Self {
        Self::start(true)
    }

    fn closed() -> Self {
        Self::start(false)
    }

    fn start(connects: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heads = Arc::clone(&asked);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let heads = Arc::clone(&heads);
                std::thread::spawn(move || serve(client, connects, &heads));
            }
        });
        Self { address, asked }
    }

    fn url(&self) -> String {
        format!("http://{USER}{}", self.address)
    }

    fn proxy(&self, except: &[&str]) -> Proxy {
        let except: Vec<String> = except.iter().map(|e| (*e).to_owned()).collect();
        Proxy::new(&self.url(), &except).unwrap()
    }

    /// Where connections were asked for by those who said who they are, since the last time.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

fn serve(mut client: TcpStream, connects: bool, heads: &Mutex<Vec<String>>) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if client.read_exact(&mut byte).is_err() {
            return;
        }
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let place = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let known = head.contains(BASIC);
    if known {
        heads.lock().unwrap().push(place.clone());
    }
    let refusal = match (known, connects) {
        (false, _) => "407 Proxy Authentication Required",
        (true, false) => "403 Forbidden",
        (true, true) => return carry(&client, &TcpStream::connect(place).unwrap()),
    };
    let _ = client.write_all(format!("HTTP/1.1 {refusal}\r\n\r\n").as_bytes());
}

fn carry(mut client: &TcpStream, server: &TcpStream) {
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| copy(client, server));
        scope.spawn(|| copy(server, client));
    });
}

fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

/// A home with this configuration; the environment names a proxy that is not there.
struct Home(tempfile::TempDir);

impl Home {
    fn new(config: &str) -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        crate::files::private_dir(&home.paths().config_dir).unwrap();
        home.configure(config);
        home
    }

    fn configure(&self, config: &str) {
        let run_dir = self.0.path().join("run");
        let text = format!("run_dir = '{}'\n{config}", run_dir.display());
        crate::files::write_atomic(&self.paths().config_file(), text.as_bytes(), 0o600).unwrap();
    }

    fn paths(&self) -> Paths {
        let home = self.0.path().to_path_buf();
        Paths::from_lookup(|name| (name == "HOME").then(|| home.clone().into())).unwrap()
    }

    async fn run(&self, args: &[&str]) -> Output {
        let mut command = self.command(args);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        output.await.unwrap()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .args(args)
            .env_clear()
            .env("HOME", self.0.path())
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "canary")
            .env("AWS_REGION", "eu-west-1")
            .env("HTTPS_PROXY", "http://127.0.0.1:1")
            .env("ALL_PROXY", "http://127.0.0.1:1")
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = self.command(&["logout"]).stdout(Stdio::null()).status();
    }
}

fn named(proxy: &StandIn) -> String {
    format!("proxy = '{}'\n", proxy.url())
}

async fn asked_ca(server: &Server, authority: &Path, proxy: &Proxy) -> CaError {
    discover_by(server.port, Some(authority), Some(proxy)).await
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_without_its_password_and_is_no_absence_of_the_ca() {
    // H-18
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path(), "localhost", 4000).await;
    let closed = StandIn::closed();
    let stranger = format!("http://u:canary@{}", closed.address);
    for proxy in [closed.proxy(&[]), Proxy::new(&stranger, &[]).unwrap()] {
        let error = asked_ca(&server, &server.authority, &proxy).await;
        assert!(
            matches!(error, CaError::Http(HttpError::Proxy(_))),
            "{error}"
        );
        assert!(!error.is_absence());
        let failure = Failure::from(error);
        let place = closed.address.to_string();
        assert!(failure.message.contains(&place), "{failure:?}");
        for secret in ["canary", "p%40ss", "p@ss"] {
            assert!(!failure.message.contains(secret), "{failure:?}");
        }
        let told = (failure.code, failure.cause);
        assert_eq!(told, (exit_code::UNREACHABLE, Cause::Proxy));
    }
    assert_eq!(server.received(), 0);
}

#[tokio::test]
async fn the_ca_proves_itself_through_the_proxy_too() {
    // H-02
    let dir = tempfile::tempdir().unwrap();
    let right = server(dir.path(), "localhost", 4000).await;
    let other = server(dir.path(), "ca.example", 4000).await;
    let proxy = StandIn::open();
    let place = format!("localhost:{}", right.port);
    let error = asked_ca(&right, &other.authority, &proxy.proxy(&[])).await;
    assert_eq!(Failure::from(error).code, exit_code::UNTRUSTED);
    assert_eq!((right.received(), proxy.asked()), (0, vec![place.clone()]));
    let answered = asked_ca(&right, &right.authority, &proxy.proxy(&[])).await;
    assert!(matches!(answered, CaError::Status(404)), "{answered}");
    assert_eq!(proxy.asked(), [place]);
    assert!(right.received() > 0);
    for except in ["localhost", "LOCALHOST", "*"] {
        let direct = asked_ca(&right, &right.authority, &proxy.proxy(&[except])).await;
        assert!(matches!(direct, CaError::Status(404)), "{direct}");
    }
    assert!(proxy.asked().is_empty());
}

#[tokio::test]
async fn setup_goes_by_the_proxy_of_the_configuration_or_by_the_one_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path(), "localhost", 4000).await;
    let url = format!("https://localhost:{}", server.port);
    let authority = server.authority.to_str().unwrap();
    let (first, second) = (StandIn::open(), StandIn::open());
    let home = Home::new(&named(&first));
    let setup = ["setup", &url, "--ca-file", authority];
    let by_first = home.run(&setup).await;
    // The server is no CA, but it was reached.
    assert!(said(&by_first).contains("HTTP 404"), "{}", said(&by_first));
    let place = vec![url.replace("https://", "")];
    assert_eq!((first.asked(), second.asked()), (place.clone(), vec![]));
    let told = second.url();
    let by_second = home.run(&[&setup[..], &["--proxy", &told]].concat()).await;
    assert!(
        said(&by_second).contains("HTTP 404"),
        "{}",
        said(&by_second)
    );
    assert_eq!((first.asked(), second.asked()), (vec![], place));
    home.configure(&format!("{}no_proxy = ['localhost']\n", named(&first)));
    let direct = home.run(&setup).await;
    assert!(said(&direct).contains("HTTP 404"), "{}", said(&direct));
    assert!(first.asked().is_empty());
}

#[tokio::test]
async fn aws_is_asked_through_the_proxy_that_is_configured_now() {
    let (first, second) = (StandIn::closed(), StandIn::closed());
    let home = Home::new(&named(&first));
    for (proxy, other) in [(&first, &second), (&second, &first)] {
        // The agent lives on meanwhile.
        home.configure(&named(proxy));
        let refused = home.run(&["hosts"]).await;
        let told = said(&refused);
        assert_eq!(refused.status.code(), Some(5), "{told}");
        assert!(told.contains(&proxy.address.to_string()), "{told}");
        assert!(
            !told.contains("p%40ss") && !told.contains("canary"),
            "{told}"
        );
        assert_eq!(proxy.asked(), ["ec2.eu-west-1.amazonaws.com:443"]);
        assert!(other.asked().is_empty());
    }
    let refused = home.run(&["allowlist", "--region", "eu-west-1"]).await;
    assert_eq!(refused.status.code(), Some(5), "{}", said(&refused));
    assert_eq!(second.asked(), ["ip-ranges.amazonaws.com:443"]);
}

#[tokio::test]
async fn credential_providers_go_by_the_proxy() {
    let proxy = StandIn::closed();
    let home = tempfile::tempdir().unwrap();
    let token = home.path().join("token");
    std::fs::write(&token, "e30.e30.e30").unwrap();
    let variables = [
        ("HOME", home.path().to_str().unwrap()),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_MAX_ATTEMPTS", "1"),
        ("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/Dev"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let selection = Selection::from_variables(variables);
    let error = resolve_in_child(program(), &selection, Some(&proxy.proxy(&[])))
        .await
        .unwrap_err();
    let CredentialsError::Failed { message, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(proxy.asked(), ["sts.eu-west-1.amazonaws.com:443"]);
    let place = format!("by the proxy `{}`", proxy.address);
    assert!(message.contains(&place), "{message}");
    assert!(!message.contains("p%40ss"), "{message}");
}

#[tokio::test]
async fn neither_arguments_nor_environment_of_the_credentials_child_have_the_password() {
    let dir = tempfile::tempdir().unwrap();
    let child = dir.path().join("child");
    let seen = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    let at = dir.path().display();
    let answer = r#"{"Failed":{"reason":"Missing","message":""}}"#;
    let script =
        format!("#!/bin/sh\necho $@ >{at}/args\nenv >{at}/env\ncat >{at}/in\necho '{answer}'\n");
    std::fs::write(&child, script).unwrap();
    std::fs::set_permissions(&child, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let selection = Selection::from_variables([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]);
    let proxy = StandIn::closed().proxy(&["internal.example"]);
    let none = resolve_in_child(&child, &selection, None).await;
    assert!(matches!(none, Err(CredentialsError::Missing { .. })));
    assert_eq!(
        (seen("args").trim(), seen("in").as_str()),
        ("credentials", "")
    );
    let _ = resolve_in_child(&child, &selection, Some(&proxy)).await;
    assert_eq!(seen("args").trim(), "credentials --proxied");
    assert!(!seen("env").contains("p%40ss"));
    let told: Proxy = serde_json::from_str(&seen("in")).unwrap();
    assert!(told == proxy);
}

struct Nobody;

impl Person for Nobody {
    fn visit(&mut self, url: &str) {
        panic!("{url}")
    }

    fn enter(&mut self, url: &str, _: &str, _: Option<&str>) {
        panic!("{url}")
    }
}

#[tokio::test]
async fn issuers_and_github_are_asked_through_the_proxy() {
    let closed = StandIn::closed();
    let proxy = closed.proxy(&[]);
    let registration = Registration {
        issuer: "https://issuer.example".parse().unwrap(),
        client_id: "id".to_owned(),
        client_secret: None,
        scopes: Vec::new(),
    };
    let (way, nonce) = (Way::Device, "nonce");
    let by = Some(&proxy);
    let signed_in = oidc::sign_in(&registration, way, nonce, by, &mut Nobody, || 0).await;
    let failure = Failure::from(signed_in.unwrap_err());
    assert_eq!(
        (failure.code, failure.cause),
        (exit_code::UNREACHABLE, Cause::Proxy)
    );
    assert_eq!(closed.asked(), ["issuer.example:443"]);
    let tokens = Tokens {
        registration,
        token_endpoint: "https://tokens.example/token".to_owned(),
        subject: "alice".to_owned(),
        nonce: None,
        id_token: "e30.e30.e30".parse().unwrap(),
        refresh_token: Some(Secret::new("refresh".to_owned())),
    };
    assert!(oidc::renew(&tokens, by, 0).await.is_err());
    assert_eq!(closed.asked(), ["tokens.example:443"]);
    let job = TokenSource::GitHub {
        url: "https://github.example/token?x=1".to_owned(),
        bearer: Secret::new("bearer".to_owned()),
    };
    let ca = "https://ca.example".parse().unwrap();
    let nothing = Selection::from_variables([]);
    assert!(job.token(&ca, &nothing, by).await.is_err());
    assert_eq!(closed.asked(), ["github.example:443"]);
}
