//! One CA in a folder of its own, with a listener on a free port and a clock that stands still.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use eic_aws::http_client::{Answer, HttpClient, Limits};
use eic_ca::app::{App, StartError};
use eic_ca::audit::{Filter, query};
use eic_ca::clock::Clock;
use eic_ca::command::init::init;
use eic_ca::config::Config;
use eic_ca::http::router;
use eic_ca::http::server::Server;
use eic_ca::store::StoreError;
use eic_protocol::api::problem::{Problem, ProblemCode};
use http::Request;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::http_stub::HttpStub;
use crate::sts;

pub(crate) const NOW: u64 = 1_800_000_000;
/// What clients are set up with; the tests connect elsewhere.
pub(crate) const AUDIENCE: &str = "http://127.0.0.1:8443";

const POLICY: &str = r#"{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "Dev", "Effect": "Allow",
      "Principal": { "AWS": "arn:aws:iam::111122223333:role/Dev" },
      "Action": "ec2-instance-connect:SendSSHPublicKey",
      "Resource": "arn:aws:ec2:*:111122223333:instance/*",
      "Condition": { "StringEquals": { "ec2:osuser": ["ubuntu", "deploy"], "aws:ResourceTag/env": ["dev", "frozen"] } }
    },
    {
      "Sid": "Office", "Effect": "Allow",
      "Principal": { "AWS": "arn:aws:iam::111122223333:role/Dev" },
      "Action": "ec2-instance-connect:SendSSHPublicKey",
      "Resource": "*",
      "Condition": {
        "StringEquals": { "ec2:osuser": "ubuntu", "aws:ResourceTag/env": "office" },
        "IpAddress": { "aws:SourceIp": "198.51.100.0/24" }
      }
    },
    {
      "Sid": "Frozen", "Effect": "Deny", "Principal": "*",
      "Action": "ec2-instance-connect:SendSSHPublicKey", "Resource": "*",
      "Condition": { "StringEquals": { "aws:ResourceTag/env": "frozen" } }
    },
    {
      "Sid": "Fleets", "Effect": "Allow",
      "Principal": { "AWS": "arn:aws:iam::111122223333:role/Dev" },
      "Action": "eic:IssueFleetCertificate",
      "Resource": ["arn:aws:eic:::fleet/web", "arn:aws:eic:::fleet/ice"],
      "Condition": { "StringEquals": { "ec2:osuser": "deploy" } }
    }
  ]
}"#;

const HOSTS: &str = r#"
[[instance]]
id = "i-00000000000000001"
account = "111122223333"
region = "eu-west-1"
addresses = ["192.0.2.1"]
enrolment = "enrolled"
users = ["ubuntu"]
tags = { Name = "web-1", env = "dev" }

[[instance]]
id = "i-00000000000000002"
account = "111122223333"
region = "eu-west-1"
tags = { Name = "db-1", env = "prod" }

[[instance]]
id = "i-00000000000000003"
account = "111122223333"
region = "eu-west-1"
tags = { Name = "ice-1", env = "frozen" }

[[instance]]
id = "i-00000000000000004"
account = "111122223333"
region = "eu-west-1"
tags = { Name = "desk-1", env = "office" }

[[instance]]
id = "i-00000000000000005"
account = "444455556666"
region = "eu-west-1"
tags = { Name = "theirs-1", env = "dev" }
"#;

pub(crate) const WEB: &str = "i-00000000000000001";
pub(crate) const PROD: &str = "i-00000000000000002";
pub(crate) const FROZEN: &str = "i-00000000000000003";
pub(crate) const OFFICE: &str = "i-00000000000000004";
pub(crate) const THEIRS: &str = "i-00000000000000005";
pub(crate) const NOBODYS: &str = "i-0000000000000dead";

const FLEETS: &str = r#"
[fleets.web]
accounts = ["111122223333"]
tags = { env = "dev" }

[fleets.ice]
accounts = ["111122223333"]
tags = { env = "frozen" }
"#;

/// The service under test.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) clock: Clock,
    pub(crate) sts: HttpStub,
    pub(crate) address: std::net::SocketAddr,
    http: HttpClient,
    running: Option<Running>,
}

struct Running {
    end: oneshot::Sender<()>,
    server: JoinHandle<()>,
    watcher: JoinHandle<()>,
    keeper: JoinHandle<()>,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|config| config).await
    }

    /// With a changed configuration.
    pub(crate) async fn with(change: impl FnOnce(String) -> String) -> Self {
        Self::with_files(change, &[]).await
    }

    /// With further files beside it.
    pub(crate) async fn with_files(
        change: impl FnOnce(String) -> String,
        files: &[(&str, &str)],
    ) -> Self {
        let clock = Clock::manual(NOW);
        let sts = sts::start(clock.clone()).await;
        let folder = tempfile::tempdir().unwrap();
        init(&folder.path().join("ca"), NOW).unwrap();
        let world = Self {
            folder,
            clock,
            sts,
            address: ([127, 0, 0, 1], 0).into(),
            http: HttpClient::plain_only().unwrap(),
            running: None,
        };
        for (name, text) in files {
            world.write(name, text);
        }
        world.write("policy.json", POLICY);
        world.write("inventory.toml", HOSTS);
        world.write("eic-ca.toml", &change(world.config_text()));
        world.started().await
    }

    fn config_text(&self) -> String {
        let text = std::fs::read_to_string(self.path("eic-ca.toml")).unwrap();
        let sts = format!(
            "accounts = [\"111122223333\"]\nendpoint_override = \"{}\"",
            self.sts.origin()
        );
        text.replace("listen = \"127.0.0.1:8443\"", "listen = \"127.0.0.1:0\"")
            .replacen("accounts = []", &sts, 1)
            + FLEETS
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join("ca").join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(crate) async fn started(mut self) -> Self {
        let config =
            Config::load(Path::new(&self.path("eic-ca.toml"))).unwrap_or_else(|e| panic!("{e}"));
        let app = self.app(&config).await;
        let server = Server::bind(&config.server, config.limits).await.unwrap();
        self.address = server.address().unwrap();
        let (end, ended) = oneshot::channel();
        let router = router(Arc::clone(&app));
        let keeper = tokio::spawn(Arc::clone(&app).keep_bundle());
        let watcher = tokio::spawn(app.watch_files());
        let server = tokio::spawn(server.run(router, async {
            let _ = ended.await;
        }));
        self.running = Some(Running {
            end,
            server,
            watcher,
            keeper,
        });
        self
    }

    /// A program that another test is starting holds our lock until it is that program.
    async fn app(&self, config: &Config) -> Arc<App> {
        let end = std::time::Instant::now() + Duration::from_secs(5);
        loop {
            match App::start(config, self.clock.clone()).await {
                Ok(app) => return app,
                Err(StartError::Store(StoreError::InUse(_))) if std::time::Instant::now() < end => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Ends the service and starts it again on the same files.
    pub(crate) async fn restarted(self) -> Self {
        self.stopped().await.started().await
    }

    /// Makes no more bundles.
    pub(crate) fn stop_bundles(&self) {
        let running = self.running.as_ref().unwrap();
        running.keeper.abort();
    }

    /// Ends the service; its files stay.
    pub(crate) async fn stopped(mut self) -> Self {
        let running = self.running.take().unwrap();
        // Kept connections end with their client.
        self.http = HttpClient::plain_only().unwrap();
        running.watcher.abort();
        running.keeper.abort();
        let _ = running.watcher.await;
        let _ = running.keeper.await;
        let _ = running.end.send(());
        running.server.await.unwrap();
        self
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, String)],
        body: Vec<u8>,
    ) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let limits = Limits {
            deadline: Duration::from_secs(20),
            max_body: 1 << 20,
        };
        self.http
            .send(request.body(body).unwrap(), limits)
            .await
            .unwrap()
    }

    pub(crate) async fn post(
        &self,
        path: &str,
        authorization: Option<String>,
        body: &serde_json::Value,
    ) -> Answer {
        let mut headers = vec![("content-type", "application/json".to_owned())];
        headers.extend(authorization.map(|value| ("authorization", value)));
        self.send("POST", path, &headers, serde_json::to_vec(body).unwrap())
            .await
    }

    /// How many rows a table of the store has.
    pub(crate) fn rows(&self, table: &str) -> i64 {
        let reader = eic_ca::store::Reader::new(&self.path("eic-ca.db"));
        let sql = format!("SELECT count(*) FROM {table}");
        reader
            .query(|connection| connection.query_row(&sql, [], |row| row.get(0)))
            .unwrap()
    }

    /// Waits, for 10 s at most, until something is so.
    pub(crate) async fn until(&self, holds: impl Fn(&Self) -> bool) {
        self.until_within(Duration::from_secs(10), holds).await;
    }

    /// The same for what may take longer.
    pub(crate) async fn until_within(&self, patience: Duration, holds: impl Fn(&Self) -> bool) {
        let end = std::time::Instant::now() + patience;
        while !holds(self) {
            assert!(
                std::time::Instant::now() < end,
                "not in time: {}",
                self.audit()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Every audit record so far, as text.
    pub(crate) fn audit(&self) -> String {
        let reader = eic_ca::store::Reader::new(&self.path("eic-ca.db"));
        let records = query(&reader, &Filter::default()).unwrap();
        records
            .into_iter()
            .map(|entry| entry.json)
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// The answer's JSON, or its problem.
pub(crate) fn read<T: DeserializeOwned>(answer: &Answer) -> Result<T, Problem> {
    if answer.status == 200 {
        Ok(serde_json::from_slice(&answer.body).unwrap())
    } else {
        Err(serde_json::from_slice(&answer.body).unwrap_or_else(|e| {
            panic!(
                "{e}: {} {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            )
        }))
    }
}

/// The code of a refusal.
pub(crate) fn code(answer: &Answer) -> ProblemCode {
    assert_eq!(answer.headers["cache-control"], "no-store");
    match read::<serde_json::Value>(answer) {
        Ok(value) => panic!("not refused: {value}"),
        Err(problem) => {
            assert_eq!(answer.status, problem.status);
            assert_eq!(
                answer.headers["x-request-id"].to_str().unwrap(),
                problem.request_id.to_string()
            );
            problem.code
        }
    }
}
