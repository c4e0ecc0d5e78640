//! A host: a room with an address on the lab's network, a real sshd on port 22, and the log that it writes.
//!
//! What makes it an EC2 instance (metadata service, hardware tag, console) is added when the lab has AWS stand-ins.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use crate::aws::{ACCOUNT, REGION};
use crate::binaries;
use crate::ca::Ca;
use crate::deadline::wait_for;
use crate::error::{Context, Result};
use crate::lab::Lab;
use crate::openssh::Release;
use crate::process::{Output, RoomCommand};
use crate::room::{Account, Furniture, Hardware, Role, Room};
use crate::standin::Metadata;

mod agent;
mod service;
mod sshd;
mod syslog;

use agent::Agent;
pub use service::AgentService;
use sshd::Sshd;
use syslog::Syslog;

/// The account of sshd's commands and of the agent's service.
const SERVICE_ACCOUNT: u32 = 991;

/// Accounts of every host: two people, the image's default user, and those that sshd's commands run as.
fn default_accounts() -> Vec<Account> {
    vec![
        Account::person("ubuntu", 1000),
        Account::person("alice", 1001),
        Account::person("bob", 1002),
        Account::system("ec2-instance-connect", 990),
        Account::system("eic", SERVICE_ACCOUNT),
    ]
}

/// What AWS knows a host as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// `i-` and 17 hexadecimal digits.
    pub id: String,
    /// Twelve digits.
    pub account: String,
    /// `us-east-1` and the like.
    pub region: String,
    /// `us-east-1a` and the like.
    pub availability_zone: String,
    /// Its address in the lab's network.
    pub private_ip: Ipv4Addr,
}

impl Instance {
    /// A line of hosts(5) with the names that a VPC's DNS gives an instance by its id.
    fn names(&self) -> String {
        let domain = match self.region.as_str() {
            "us-east-1" => "ec2.internal".to_owned(),
            region => format!("{region}.compute.internal"),
        };
        format!("{} {id} {id}.{domain}\n", self.private_ip, id = self.id)
    }
}

/// A host that is being described.
#[derive(Debug)]
pub struct HostBuilder {
    lab: Lab,
    name: String,
    accounts: Vec<Account>,
    authorized_keys: Vec<(String, String)>,
    sshd_config: String,
    hardware: Option<Hardware>,
    tags: Vec<(String, String)>,
    aws_account: String,
    region: String,
    agent: Option<Agent>,
    release: Option<&'static Release>,
}

/// A running host.
#[derive(Debug)]
pub struct Host {
    name: String,
    release: Option<&'static Release>,
    instance: Instance,
    sshd: Sshd,
    syslog: Syslog,
    metadata: Option<Metadata>,
    room: Room,
    lab: Lab,
}

impl HostBuilder {
    pub(crate) fn new(lab: Lab, name: &str) -> HostBuilder {
        HostBuilder {
            lab,
            name: name.to_owned(),
            accounts: default_accounts(),
            authorized_keys: Vec::new(),
            sshd_config: String::new(),
            hardware: None,
            tags: vec![("Name".into(), name.into())],
            aws_account: ACCOUNT.into(),
            region: REGION.into(),
            agent: None,
            release: None,
        }
    }

    /// Adds a person's account.
    #[must_use]
    pub fn account(mut self, name: &str, id: u32) -> Self {
        self.accounts.push(Account::person(name, id));
        self
    }

    /// Puts a public key into a user's authorized_keys file.
    #[must_use]
    pub fn authorized_key(mut self, user: &str, key: &str) -> Self {
        self.authorized_keys.push((user.to_owned(), key.to_owned()));
        self
    }

    /// Adds lines to sshd's configuration, as `/etc/ssh/sshd_config.d/50-lab.conf`.
    #[must_use]
    pub fn sshd_config(mut self, lines: &str) -> Self {
        self.sshd_config.push_str(lines);
        self.sshd_config.push('\n');
        self
    }

    /// Gives it other hardware than an instance with its id has: a cloned image, or no instance at all.
    #[must_use]
    pub fn hardware(mut self, hardware: Hardware) -> Self {
        self.hardware = Some(hardware);
        self
    }

    /// Adds a tag of the instance; `Name` is set already.
    #[must_use]
    pub fn tag(mut self, key: &str, value: &str) -> Self {
        self.tags.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Puts the instance into another account.
    #[must_use]
    pub fn aws_account(mut self, account: &str) -> Self {
        self.aws_account = account.to_owned();
        self
    }

    /// Puts the instance into another region.
    #[must_use]
    pub fn region(mut self, region: &str) -> Self {
        self.region = region.to_owned();
        self
    }

    /// Runs the sshd and everything else of another release on it.
    #[must_use]
    pub fn openssh(mut self, release: &'static Release) -> Self {
        self.release = Some(release);
        self
    }

    /// Configures `eic-agent authorized-keys` by hand, as the official package does its scripts: a legacy host, which
    /// knows Instance Connect and no CA.
    #[must_use]
    pub fn instance_connect_only(mut self) -> Self {
        self.agent = Some(Agent::InstanceConnectOnly);
        self
    }

    /// Trusts a CA of the lab: its `host-state`, installed by `eic-agent install`. `args` go to `host-state`, such as
    /// `--fleet=web`.
    #[must_use]
    pub fn trusting(self, ca: &Ca, args: &[&str]) -> Self {
        let (signer, args) = (
            ca.signer(),
            args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>(),
        );
        let fingerprint = ca.root_fingerprint().to_owned();
        self.enrolled(&fingerprint, move |host| signer.host_state(host, &args))
    }

    /// Installs the agent by `eic-agent install`, trusting the root key with this fingerprint. `state` is called with
    /// the running host and returns a folder of the machine with `root.json`, `host-view.json` and, if the host is to
    /// have one, `host-cert.pub` for it.
    #[must_use]
    pub fn enrolled(
        mut self,
        root_fingerprint: &str,
        state: impl FnOnce(&Host) -> Result<PathBuf> + 'static,
    ) -> Self {
        self.agent = Some(Agent::Enrolled {
            root_fingerprint: root_fingerprint.to_owned(),
            state: Box::new(state),
        });
        self
    }

    /// Starts it and waits until its sshd answers.
    ///
    /// # Errors
    /// When its room, its network or its sshd does not come up.
    pub fn start(mut self) -> Result<Host> {
        let number = self.lab.next_host();
        let instance = self.make_instance(number)?;
        let room = Room::open(
            self.lab.folder(),
            &self.name,
            Role::Guest,
            &self.furniture(&instance)?,
        )?;
        connect(&self.lab, &room, number, instance.private_ip)?;
        self.lab.introduce(room.folder(), &instance.names())?;
        let metadata = self.start_metadata(&room, &instance)?;
        let syslog = Syslog::start(room.folder())?;
        let has_include = self.release.is_none_or(Release::has_include);
        sshd::configure(&room, &self.sshd_config, has_include)?;
        for (user, key) in &self.authorized_keys {
            self.authorize(&room, user, key)?;
        }
        self.print_console(&room, &instance)?;
        let mut sshd = Sshd::start(&room)?;
        sshd.wait((instance.private_ip, 22).into(), self.lab.control())?;
        let agent = self.agent.take();
        let mut host = Host {
            release: self.release,
            name: self.name,
            instance,
            sshd,
            syslog,
            metadata,
            room,
            lab: self.lab,
        };
        if let Some(agent) = agent {
            agent.set_up(&mut host)?;
        }
        Ok(host)
    }

    fn make_instance(&self, number: u32) -> Result<Instance> {
        match self.lab.aws_if_any() {
            Some(aws) => aws
                .account(&self.aws_account)
                .instance(&self.region, &self.tags),
            None => made_up_instance(number),
        }
    }

    fn start_metadata(&self, room: &Room, instance: &Instance) -> Result<Option<Metadata>> {
        let Some(aws) = self.lab.aws_if_any() else {
            return Ok(None);
        };
        let chain = aws.signer_chain(&instance.region)?;
        Metadata::start(room, aws.standin(), instance, chain).map(Some)
    }

    /// cloud-init prints the host keys to the console at first boot.
    fn print_console(&self, room: &Room, instance: &Instance) -> Result<()> {
        let Some(aws) = self.lab.aws_if_any() else {
            return Ok(());
        };
        let keys = sshd::host_keys(room)?.join(&format!(" root@{}\n", self.name));
        let text = format!(
            "[    9.1] cloud-init[512]: Cloud-init finished\r\n-----BEGIN SSH HOST KEY KEYS-----\n{keys} root@{}\n-----END SSH HOST KEY KEYS-----\n",
            self.name
        );
        aws.standin().set_console(
            &instance.id,
            &text.replace('\n', "\r\n").replace("\r\r", "\r"),
        );
        Ok(())
    }

    fn furniture(&self, instance: &Instance) -> Result<Furniture> {
        let hardware = self
            .hardware
            .clone()
            .unwrap_or_else(|| Hardware::Nitro(instance.id.clone()));
        let distribution = self.release.map(Release::folder).transpose()?;
        Ok(Furniture {
            accounts: self.accounts.clone(),
            loose: self.release.is_some_and(|release| !release.has_pdeathsig()),
            hardware: Some(hardware),
            distribution,
            ..Furniture::default()
        })
    }

    fn authorize(&self, room: &Room, user: &str, key: &str) -> Result<()> {
        let account = self.accounts.iter().find(|account| account.name == user);
        let account =
            account.context(|| format!("find the account `{user}` on the host `{}`", self.name))?;
        sshd::authorize(room, account, key)
    }
}

impl Host {
    /// The name that the test gave it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its instance id.
    pub fn id(&self) -> &str {
        &self.instance.id
    }

    /// What AWS knows it as.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// Its address in the lab's network.
    pub fn address(&self) -> IpAddr {
        IpAddr::V4(self.instance.private_ip)
    }

    /// Its namespaces and files.
    pub fn room(&self) -> &Room {
        &self.room
    }

    /// A command that will run on the host as root.
    pub fn command(&self, program: impl Into<String>) -> RoomCommand {
        self.room.command(program)
    }

    /// Runs a program on the host as root.
    ///
    /// # Errors
    /// When it cannot run or fails.
    pub fn exec<S: Into<String>>(
        &self,
        program: &str,
        args: impl IntoIterator<Item = S>,
    ) -> Result<Output> {
        self.command(program).args(args).run()?.success()
    }

    /// Where the machine sees one of the host's files.
    pub fn file(&self, path: &str) -> PathBuf {
        self.room.path(path)
    }

    /// Changes what the hardware says the instance id is, as when a disk is moved.
    ///
    /// # Errors
    /// When the host has no such hardware.
    pub fn set_hardware_id(&mut self, id: &str) -> Result<()> {
        let tag = self
            .room
            .folder()
            .join("sys/devices/virtual/dmi/id/board_asset_tag");
        fs::write(&tag, format!("{id}\n")).context(|| "write the hardware's tag")
    }

    /// One of our programs that runs here: the released one where the C library is older than this machine's.
    pub(crate) fn program(&self, name: &str) -> Result<PathBuf> {
        if self.release.is_some_and(Release::is_older) {
            binaries::portable(name)
        } else {
            binaries::find(name)
        }
    }

    /// The host's public keys, one `type base64` a line.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn host_keys(&self) -> Result<Vec<String>> {
        sshd::host_keys(&self.room)
    }

    /// All that the host's programs sent to /dev/log so far.
    pub fn log(&self) -> String {
        self.syslog.text()
    }

    /// Where the host's own programs find that log.
    pub fn log_path(&self) -> PathBuf {
        self.syslog.path()
    }

    /// Waits until a line of the log contains `text`, and returns that line.
    ///
    /// # Errors
    /// When there is none in time; the message holds the log.
    pub fn log_line(&self, text: &str, limit: Duration) -> Result<String> {
        let found = wait_for(
            &format!("`{text}` in the log of {}", self.name),
            limit,
            || {
                self.log()
                    .lines()
                    .find(|line| line.contains(text))
                    .map(str::to_owned)
            },
        );
        found.map_err(|cause| crate::error::unexpected(&cause.to_string(), self.log()))
    }

    /// Its metadata service, to make it wrong or to see what was asked.
    ///
    /// # Errors
    /// When the lab was opened without AWS.
    pub fn metadata(&self) -> Result<&Metadata> {
        self.metadata
            .as_ref()
            .context(|| "use instance metadata: this lab was opened by `Lab::without_aws`")
    }

    /// Lets the metadata service refuse connections.
    ///
    /// # Errors
    /// When it still takes them after 5 s.
    pub fn stop_metadata(&mut self) -> Result<()> {
        self.metadata
            .as_mut()
            .context(|| "stop instance metadata: there is none")?
            .refuse();
        let address = std::net::SocketAddr::from(([169, 254, 169, 254], 80));
        wait_for("instance metadata to end", Duration::from_secs(5), || {
            self.room
                .in_network(|| std::net::TcpStream::connect(address).is_err())
                .ok()?
                .then_some(())
        })
    }

    /// Lets the metadata service take connections again.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn start_metadata(&mut self) -> Result<()> {
        let aws = self.lab.aws()?;
        let metadata = self
            .metadata
            .as_mut()
            .context(|| "start instance metadata: there is none")?;
        metadata.listen(&self.room, &aws.standin().runtime)
    }

    /// Makes sshd read its configuration again, and waits until it listens again.
    ///
    /// # Errors
    /// When the configuration is wrong or sshd does not come back.
    pub fn reload_sshd(&mut self) -> Result<()> {
        self.exec("/usr/sbin/sshd", ["-t"])?;
        let before = self.listened();
        self.sshd.reload()?;
        wait_for("sshd to listen again", Duration::from_secs(10), || {
            (self.listened() > before).then_some(())
        })
    }

    /// How often sshd said that it listens.
    fn listened(&self) -> usize {
        self.log()
            .matches("Server listening on 0.0.0.0 port 22")
            .count()
    }

    /// Starts `eic-agent run` and its helper, with `more` in `[service]`, and waits for the first trust bundle.
    ///
    /// # Errors
    /// When it does not get one from this CA.
    pub fn start_agent_service(&self, ca: &Ca, more: &str) -> Result<AgentService> {
        AgentService::start(self, ca, more)
    }

    /// The lab that it belongs to.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }
}

/// Ties a room to the control room's bridge by a pair of virtual cables.
fn connect(lab: &Lab, room: &Room, number: u32, address: Ipv4Addr) -> Result<()> {
    let pid = room.pid();
    lab.control().ip(&format!(
        "link add veth{number} type veth peer name eth0 netns {pid}\nlink set veth{number} master br0\nlink set veth{number} up\n"
    ))?;
    room.ip(&format!(
        "addr add {address}/16 dev eth0\nlink set eth0 up\n"
    ))
}

/// For a lab without AWS: an id that no other host has.
fn made_up_instance(number: u32) -> Result<Instance> {
    let mut random = [0u8; 8];
    getrandom::fill(&mut random)
        .map_err(|cause| crate::error::unexpected("draw a random instance id", cause))?;
    let low = u8::try_from(number)
        .ok()
        .context(|| "number a host: a lab has at most 255")?;
    Ok(Instance {
        id: format!("i-0{}", hex::encode(random)),
        account: "123456789012".into(),
        region: "us-east-1".into(),
        availability_zone: "us-east-1a".into(),
        private_ip: Ipv4Addr::new(10, 77, 255, low),
    })
}

/// Reads a text file with its name in the error.
pub(crate) fn read(path: PathBuf) -> Result<String> {
    fs::read_to_string(&path).context(|| format!("read `{}`", path.display()))
}
