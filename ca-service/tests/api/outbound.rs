//! D19: the service's own calls go through the proxy of its configuration, and through no other.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};

use eic_protocol::api::problem::ProblemCode;

use crate::client::Client;
use crate::program::real_now;
use crate::sts::ALICE;
use crate::trust_bundle::enrol;
use crate::world::{NOBODYS, WEB, World};

/// A proxy that refuses everything, and who asked it in the name of `u:p@ss` for what.
struct Closed {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Closed {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heads = Arc::clone(&asked);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                refuse(client, &heads);
            }
        });
        Self { address, asked }
    }

    fn table(&self) -> String {
        let address = self.address;
        format!("\n[outbound]\nproxy = \"http://u:p%40ss@{address}\"\n")
    }

    /// Each place once.
    fn asked(&self) -> Vec<String> {
        let mut asked = self.asked.lock().unwrap().clone();
        asked.sort();
        asked.dedup();
        asked
    }
}

fn refuse(mut client: TcpStream, heads: &Mutex<Vec<String>>) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if client.read_exact(&mut byte).is_err() {
            return;
        }
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    if head.contains("proxy-authorization: basic dtpwqhnz") {
        let place = head.split(' ').nth(1).unwrap_or_default();
        heads.lock().unwrap().push(place.to_owned());
    }
    let _ = client.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n");
}

/// Runs a command that comes to nothing, and gives what it says. The environment names a proxy that is not there.
async fn refused(world: &World, more: &str, args: &[&str], identity: &[(&str, &str)]) -> String {
    let config = std::fs::read_to_string(world.path("eic-ca.toml")).unwrap();
    world.write("outbound.toml", &(config + more));
    let mut command = Command::new(env!("CARGO_BIN_EXE_eic-ca"));
    command
        .args(args)
        .args(["--config", "outbound.toml"])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HTTPS_PROXY", "http://127.0.0.1:1")
        .env("ALL_PROXY", "http://127.0.0.1:1")
        .envs(identity.iter().copied())
        .current_dir(world.path("."));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{told}");
    assert!(!told.contains("p%40ss"), "{told}");
    told
}

const KEYS: [(&str, &str); 2] = [
    ("AWS_ACCESS_KEY_ID", "AKIAABCDEFGHIJKLMNOP"),
    ("AWS_SECRET_ACCESS_KEY", "not-a-secret"),
];
const PUBLISH: [&str; 4] = ["bundle", "publish", "--to", "www"];

#[tokio::test]
async fn kms_and_the_credentials_for_it_are_asked_through_the_proxy() {
    let world = World::new().await;
    let config = std::fs::read_to_string(world.path("eic-ca.toml")).unwrap();
    let local = "user_ca = { signer = \"local\", file = \"keys/user-ca\" }";
    let arn = "arn:aws:kms:eu-west-1:111122223333:key/00000000-0000-0000-0000-000000000001";
    let kms = format!("user_ca = {{ signer = \"kms\", arn = \"{arn}\", region = \"eu-west-1\" }}");
    assert!(config.contains(local));
    world.write("eic-ca.toml", &config.replace(local, &kms));
    let proxy = Closed::start();
    refused(&world, &proxy.table(), &PUBLISH, &KEYS).await;
    assert_eq!(proxy.asked(), ["kms.eu-west-1.amazonaws.com:443"]);
    world.write("token", "e30.e30.e30");
    let token = world.path("token");
    let role = [
        ("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/Ca"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
        ("AWS_MAX_ATTEMPTS", "1"),
    ];
    let proxy = Closed::start();
    refused(&world, &proxy.table(), &PUBLISH, &role).await;
    assert_eq!(proxy.asked(), ["sts.eu-west-1.amazonaws.com:443"]);
}

#[tokio::test]
async fn ec2_its_roles_and_s3_are_asked_through_the_proxy() {
    let world = World::new().await;
    world.clock.set(real_now());
    for host in [WEB, NOBODYS] {
        enrol(&world, host).await;
    }
    let ec2 = "\n[[inventory.ec2]]\naccount = \"111122223333\"\nregions = [\"eu-west-1\"]\n";
    let role = "assume_role = \"arn:aws:iam::111122223333:role/Look\"\n";
    for (table, asked) in [
        (ec2.to_owned(), "ec2.eu-west-1.amazonaws.com:443"),
        (format!("{ec2}{role}"), "sts.eu-west-1.amazonaws.com:443"),
    ] {
        let proxy = Closed::start();
        refused(&world, &(table + &proxy.table()), &PUBLISH, &KEYS).await;
        assert_eq!(proxy.asked(), [asked]);
    }
    let proxy = Closed::start();
    let to_s3 = ["--to", "s3://eic-trust/prod", "--region", "eu-west-1"];
    let to_s3 = [&PUBLISH[..2], &to_s3].concat();
    let told = refused(&world, &proxy.table(), &to_s3, &KEYS).await;
    assert_eq!(proxy.asked(), ["eic-trust.s3.eu-west-1.amazonaws.com:443"]);
    assert!(told.contains(&proxy.address.to_string()), "{told}");
}

#[tokio::test]
async fn sts_is_asked_about_callers_through_the_proxy_and_without_it_where_that_is_said() {
    let proxy = Closed::start();
    let world = World::with(|config| without_stand_in(config) + &proxy.table()).await;
    let refused = Client::new(1).try_to_sign_in(&world, ALICE).await;
    let problem = refused.err().unwrap();
    assert_eq!(problem.code, ProblemCode::StsUnavailable);
    let asked = proxy.asked();
    assert!(
        matches!(asked.as_slice(), [sts] if sts.starts_with("sts.") && sts.ends_with(".amazonaws.com:443")),
        "{asked:?}"
    );
    let proxy = Closed::start();
    let direct = format!("{}no_proxy = [\"amazonaws.com\"]\n", proxy.table());
    let world = World::with(|config| without_stand_in(config) + &direct).await;
    let refused = Client::new(1).try_to_sign_in(&world, ALICE).await;
    assert!(refused.is_err() && proxy.asked().is_empty());
}

/// STS at its own place.
fn without_stand_in(config: String) -> String {
    let lines = config
        .lines()
        .filter(|line| !line.starts_with("endpoint_override"));
    lines.map(|line| format!("{line}\n")).collect()
}
