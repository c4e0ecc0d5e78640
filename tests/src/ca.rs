//! A CA service in the control room: our real program with the configuration that its own `init` writes, changed only
//! where the test says so.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Request;
use hyper::body::Bytes;
use rustix::process::Signal;

use crate::aws::{ACCOUNT, Credentials, REGION};
use crate::binaries;
use crate::clock::Clock;
use crate::error::{Context, Result, unexpected};
use crate::exchange::exchange_blocking;
use crate::host::Host;
use crate::lab::Lab;
use crate::pki::{Certificate, Period, Subject};
use crate::process::{Process, RoomCommand};
use crate::room::{make_folder, write};

/// How long the CA may take to be ready or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// The bridge's address in the control room, for a CA that hosts reach, too.
const BRIDGE: [u8; 4] = [10, 77, 0, 1];

/// Dotted keys and their values.
type Settings = Vec<(String, toml::Value)>;

/// A CA that is being described.
#[derive(Debug)]
pub struct CaBuilder {
    lab: Lab,
    name: String,
    port: u16,
    settings: Settings,
    files: Vec<(String, String)>,
    env: Vec<(String, String)>,
    tls: Option<Tls>,
}

/// The certificate of an HTTPS listener.
#[derive(Debug)]
struct Tls {
    root: String,
    certificate: String,
    key: String,
}

/// A CA, running or stopped.
#[derive(Debug)]
pub struct Ca {
    lab: Lab,
    folder: PathBuf,
    config: PathBuf,
    address: SocketAddr,
    env: Vec<(String, String)>,
    process: Option<Process>,
    tls_root: Option<String>,
    root_fingerprint: String,
}

impl CaBuilder {
    pub(crate) fn new(lab: Lab) -> CaBuilder {
        let name = "ca".to_owned();
        CaBuilder {
            lab,
            name,
            port: 8443,
            settings: Vec::new(),
            files: Vec::new(),
            env: Vec::new(),
            tls: None,
        }
    }

    /// A second CA in one lab needs another name and port.
    #[must_use]
    pub fn named(mut self, name: &str, port: u16) -> Self {
        (self.name, self.port) = (name.to_owned(), port);
        self
    }

    /// Sets one key of the configuration by its dotted path, such as `aws_sts.endpoint_override`.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<toml::Value>) -> Self {
        self.settings.push((key.to_owned(), value.into()));
        self
    }

    /// Writes a file into the CA's folder, over what `init` put there.
    #[must_use]
    pub fn file(mut self, name: &str, text: &str) -> Self {
        self.files.push((name.to_owned(), text.to_owned()));
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Serves HTTPS, by a certificate for 127.0.0.1, `localhost` and the bridge's 10.77.0.1.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn https(mut self) -> Result<Self> {
        let now = Clock::default().now();
        let period = Period::around(now, 30);
        let root = Certificate::self_signed(&Subject::authority("Lab TLS Root", period))?;
        let names = ["localhost", "127.0.0.1", "10.77.0.1"];
        let server = root.issue(&Subject::server(&names, period))?;
        self.tls = Some(Tls {
            root: root.pem(),
            certificate: server.pem(),
            key: server.key_pem(),
        });
        Ok(self)
    }

    /// The policy, in place of the sample that `init` writes.
    #[must_use]
    pub fn policy(self, json: &str) -> Self {
        self.file("policy.json", json)
    }

    /// Gives it AWS credentials of its own, and the lab's stand-ins as AWS.
    ///
    /// # Errors
    /// When the lab was opened without AWS.
    pub fn credentials(mut self, credentials: &Credentials) -> Result<Self> {
        for (name, value) in self.lab.aws()?.env(credentials) {
            self = self.env(name, value);
        }
        Ok(self)
    }

    /// Asks the lab's AWS with these credentials: STS for identities, EC2 for the instances of the first account.
    ///
    /// # Errors
    /// When the lab was opened without AWS.
    pub fn on_aws(self, credentials: &Credentials) -> Result<Self> {
        let endpoint = self.lab.aws()?.endpoint();
        let ec2 = toml::toml! { account = "" regions = ["us-east-1"] endpoint_override = "" };
        let ec2 = filled(
            ec2,
            &[("account", ACCOUNT), ("endpoint_override", &endpoint)],
        );
        let with_credentials = self.credentials(credentials)?;
        Ok(with_credentials
            .set("aws_sts.endpoint_override", endpoint)
            .set("inventory.ec2", vec![toml::Value::from(ec2)]))
    }

    /// Signs user certificates with a KMS key of the lab.
    ///
    /// # Errors
    /// When the lab was opened without AWS.
    pub fn kms_user_ca(self, arn: &str) -> Result<Self> {
        let endpoint = self.lab.aws()?.endpoint();
        let key = toml::toml! { signer = "kms" arn = "" region = "" endpoint = "" };
        let key = filled(
            key,
            &[("arn", arn), ("region", REGION), ("endpoint", &endpoint)],
        );
        Ok(self.set("keys.user_ca", key))
    }

    /// Runs `eic-ca init`, changes the configuration and starts the CA.
    ///
    /// # Errors
    /// When `eic-ca` is not built, refuses the configuration, or is not ready in time.
    pub fn start(self) -> Result<Ca> {
        let mut ca = self.prepare()?;
        ca.start()?;
        Ok(ca)
    }

    /// The same without starting it.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn prepare(self) -> Result<Ca> {
        binaries::find("eic-ca")?;
        let folder = self.lab.folder().join(&self.name);
        // A plain listener stays on loopback: eic-ca refuses it elsewhere.
        let ip = if self.tls.is_some() {
            BRIDGE
        } else {
            [127, 0, 0, 1]
        };
        let address = SocketAddr::from((ip, self.port));
        let command = self
            .lab
            .command("eic-ca")
            .args(["init", &folder.display().to_string()]);
        let init = command.run()?.success()?;
        let config = find_config(&folder)?;
        change(&config, &self.server_settings(address, &folder)?)?;
        change(&config, &self.settings)?;
        for (name, text) in &self.files {
            fs::write(folder.join(name), text).context(|| format!("write the CA's `{name}`"))?;
        }
        let ca = Ca {
            root_fingerprint: fingerprint(&init.stdout)
                .context(|| "read the root key's fingerprint")?,
            lab: self.lab,
            folder,
            config,
            address,
            env: self.env,
            process: None,
            tls_root: self.tls.map(|tls| tls.root),
        };
        // `init` signed a root document for the keys that it made; a test may have named others.
        let config = ca.config.display().to_string();
        ca.command(["root", "update", "--config", &config])
            .run()?
            .success()?;
        Ok(ca)
    }

    /// Where it listens and what it is called.
    fn server_settings(&self, address: SocketAddr, folder: &Path) -> Result<Settings> {
        let mut settings = vec![("server.listen".into(), address.to_string().into())];
        let Some(tls) = &self.tls else {
            settings.push((
                "server.public_url".into(),
                format!("http://{address}").into(),
            ));
            return Ok(settings);
        };
        settings.push((
            "server.public_url".into(),
            format!("https://{address}").into(),
        ));
        for (key, name, text) in [
            ("server.tls.certificate", "server.crt", &tls.certificate),
            ("server.tls.key", "server.key", &tls.key),
        ] {
            write(&folder.join(name), text, 0o600)?;
            settings.push((key.into(), folder.join(name).display().to_string().into()));
        }
        Ok(settings)
    }
}

impl Ca {
    /// Its origin, as `eic-login setup` takes it.
    pub fn url(&self) -> String {
        let scheme = if self.tls_root.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}", self.address)
    }

    /// The root that its HTTPS certificate chains to, in PEM.
    pub fn tls_root(&self) -> Option<&str> {
        self.tls_root.as_deref()
    }

    /// What hosts and clients pin: `SHA256:…` of the root key.
    pub fn root_fingerprint(&self) -> &str {
        &self.root_fingerprint
    }

    /// Signs what a host needs to trust this CA, by `eic-ca host-state` with these further arguments, and returns the
    /// folder with it.
    ///
    /// # Errors
    /// When the CA refuses.
    pub fn host_state(&self, host: &Host, args: &[String]) -> Result<PathBuf> {
        let out = self.folder.join("hosts").join(host.id());
        make_folder(&out, 0o700)?;
        let key = host
            .room()
            .folder()
            .join("etc/ssh/ssh_host_ed25519_key.pub");
        let text = |path: &Path| path.display().to_string();
        let fixed = [
            "host-state".to_owned(),
            format!("--config={}", text(&self.config)),
            format!("--instance={}", host.id()),
            format!("--host-key={}", text(&key)),
            format!("--out={}", text(&out)),
        ];
        self.command(fixed)
            .args(args.iter().cloned())
            .run()?
            .success()?;
        Ok(out)
    }

    /// The same CA as a value of its own that can sign but not be stopped.
    pub(crate) fn signer(&self) -> Ca {
        Ca {
            lab: self.lab.clone(),
            folder: self.folder.clone(),
            config: self.config.clone(),
            address: self.address,
            env: self.env.clone(),
            process: None,
            tls_root: self.tls_root.clone(),
            root_fingerprint: self.root_fingerprint.clone(),
        }
    }

    /// Its folder, the same on the machine and in the control room.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// An `eic-ca` command with the CA's environment, in its folder.
    pub fn command<S: Into<String>>(&self, args: impl IntoIterator<Item = S>) -> RoomCommand {
        let command = self
            .lab
            .command("eic-ca")
            .current_dir(self.folder.display().to_string())
            .args(args);
        self.env
            .iter()
            .fold(command, |command, (name, value)| command.env(name, value))
    }

    /// Runs a command with this CA's configuration to its end; what it printed.
    ///
    /// # Errors
    /// When it fails; with its outputs.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        let config = self.config.display().to_string();
        let command = self.command(args.iter().copied());
        let output = command.args(["--config", &config]).run()?;
        Ok(output.success()?.stdout)
    }

    /// Sets one key of the configuration by its dotted path; in force from the next start on.
    ///
    /// # Errors
    /// When the file cannot be changed.
    pub fn set(&self, key: &str, value: impl Into<toml::Value>) -> Result<()> {
        change(&self.config, &[(key.to_owned(), value.into())])
    }

    /// Starts it, also after it was stopped, and waits until it says that it is ready.
    ///
    /// # Errors
    /// With its outputs, when it ends; or when it is not ready in 30 s.
    pub fn start(&mut self) -> Result<()> {
        let config = self.config.display().to_string();
        let mut process = self.command(["serve", "--config", &config]).start()?;
        process.until("the CA to be ready", PATIENCE, || {
            self.is_ready().then_some(())
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// Asks it to end and waits until it has.
    ///
    /// # Errors
    /// When it does not end in 30 s.
    pub fn stop(&mut self) -> Result<()> {
        self.end(Signal::TERM)
    }

    /// Kills it without a chance to finish anything.
    ///
    /// # Errors
    /// When it is not there.
    pub fn kill(&mut self) -> Result<()> {
        self.end(Signal::KILL)
    }

    /// What it has written to its standard error since its last start.
    pub fn log(&self) -> String {
        self.process
            .as_ref()
            .map(Process::stderr)
            .unwrap_or_default()
    }

    /// Its process, while it runs.
    pub fn process(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    fn end(&mut self, signal: Signal) -> Result<()> {
        let process = self
            .process
            .as_mut()
            .context(|| "stop the CA: it does not run")?;
        process.signal(signal)?;
        process.wait(PATIENCE).map(drop)
    }

    /// By `/readyz`, or behind TLS by the listener, which is opened last.
    fn is_ready(&self) -> bool {
        if self.tls_root.is_none() {
            return self.get("/readyz").is_ok_and(|status| status == 200);
        }
        let connected = self
            .lab
            .in_network(|| TcpStream::connect(self.address).is_ok());
        connected.unwrap_or(false)
    }

    /// The status of one of its pages.
    fn get(&self, path: &str) -> Result<u16> {
        let request = Request::get(path)
            .header("host", self.address.to_string())
            .body(Bytes::new());
        let request = request.map_err(|cause| unexpected("write a request", cause))?;
        let answer = self
            .lab
            .in_network(|| exchange_blocking(self.address, request))??;
        Ok(answer.status().as_u16())
    }
}

/// The first `SHA256:…` of a text.
fn fingerprint(text: &str) -> Option<String> {
    text.split_whitespace()
        .find(|word| word.starts_with("SHA256:"))
        .map(str::to_owned)
}

/// A table with values for its empty strings.
fn filled(mut table: toml::Table, values: &[(&str, &str)]) -> toml::Table {
    for (key, value) in values {
        table.insert((*key).to_owned(), (*value).into());
    }
    table
}

/// The one TOML file of the folder that has a `[server]` table.
fn find_config(folder: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(folder)
        .context(|| "read the CA's folder")?
        .filter_map(|entry| Some(entry.ok()?.path()));
    let mut configs =
        entries.filter(|path| table(path).is_ok_and(|table| table.contains_key("server")));
    configs.next().context(|| {
        format!(
            "find the configuration that `eic-ca init` wrote in `{}`",
            folder.display()
        )
    })
}

fn table(path: &Path) -> Result<toml::Table> {
    let text = fs::read_to_string(path).context(|| format!("read `{}`", path.display()))?;
    text.parse()
        .map_err(|cause| unexpected(&format!("read `{}`", path.display()), cause))
}

fn change(config: &Path, settings: &[(String, toml::Value)]) -> Result<()> {
    let mut table = table(config)?;
    for (key, value) in settings {
        set(&mut table, key, value.clone())?;
    }
    let text = toml::to_string(&table)
        .map_err(|cause| unexpected("write the CA's configuration", cause))?;
    fs::write(config, text).context(|| format!("write `{}`", config.display()))
}

/// Sets `a.b.c`, making the tables on the way.
fn set(table: &mut toml::Table, key: &str, value: toml::Value) -> Result<()> {
    let Some((first, rest)) = key.split_once('.') else {
        table.insert(key.to_owned(), value);
        return Ok(());
    };
    let inner = table
        .entry(first)
        .or_insert_with(|| toml::Table::new().into());
    set(
        inner
            .as_table_mut()
            .context(|| format!("set `{key}`: `{first}` is not a table"))?,
        rest,
        value,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotted_key_below_a_value_is_refused() {
        let mut table: toml::Table = "[server]\nlisten = \"x\"\n".parse().unwrap();
        assert!(set(&mut table, "server.listen.port", 1.into()).is_err());
        set(&mut table, "aws_sts.accounts", vec!["1".to_owned()].into()).unwrap();
        set(&mut table, "server.listen", "y".into()).unwrap();
        assert_eq!(
            toml::to_string(&table).unwrap(),
            "[aws_sts]\naccounts = [\"1\"]\n\n[server]\nlisten = \"y\"\n"
        );
    }
}
