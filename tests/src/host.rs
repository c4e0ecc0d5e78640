//! A host: a room with an address on the lab's network, a real sshd on port 22, and the log that it writes.
//!
//! What makes it an EC2 instance (metadata service, hardware tag, console) is added when the lab has AWS stand-ins.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use crate::deadline::wait_for;
use crate::error::{Context, Result};
use crate::lab::Lab;
use crate::process::{Output, RoomCommand};
use crate::room::{Account, Furniture, Hardware, Role, Room};

mod sshd;
mod syslog;

use sshd::Sshd;
use syslog::Syslog;

/// Accounts of every host: two people, the image's default user, and those that sshd's commands run as.
fn default_accounts() -> Vec<Account> {
    vec![
        Account::person("ubuntu", 1000),
        Account::person("alice", 1001),
        Account::person("bob", 1002),
        Account::system("ec2-instance-connect", 990),
        Account::system("eic", 991),
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

/// A host that is being described.
#[derive(Debug)]
pub struct HostBuilder {
    lab: Lab,
    name: String,
    accounts: Vec<Account>,
    authorized_keys: Vec<(String, String)>,
    sshd_config: String,
    hardware: Option<Hardware>,
}

/// A running host.
#[derive(Debug)]
pub struct Host {
    name: String,
    instance: Instance,
    sshd: Sshd,
    syslog: Syslog,
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

    /// Starts it and waits until its sshd answers.
    ///
    /// # Errors
    /// When its room, its network or its sshd does not come up.
    pub fn start(self) -> Result<Host> {
        let number = self.lab.next_host();
        let instance = made_up_instance(number)?;
        let room = Room::open(self.lab.folder(), &self.name, Role::Guest, &self.furniture(&instance))?;
        connect(&self.lab, &room, number, instance.private_ip)?;
        let syslog = Syslog::start(room.folder())?;
        sshd::configure(&room, &self.sshd_config)?;
        for (user, key) in &self.authorized_keys {
            self.authorize(&room, user, key)?;
        }
        let mut sshd = Sshd::start(&room)?;
        sshd.wait((instance.private_ip, 22).into(), self.lab.control())?;
        Ok(Host { name: self.name, instance, sshd, syslog, room, lab: self.lab })
    }

    fn furniture(&self, instance: &Instance) -> Furniture {
        let hardware = self.hardware.clone().unwrap_or_else(|| Hardware::Nitro(instance.id.clone()));
        Furniture { accounts: self.accounts.clone(), hardware: Some(hardware), ..Furniture::default() }
    }

    fn authorize(&self, room: &Room, user: &str, key: &str) -> Result<()> {
        let account = self.accounts.iter().find(|account| account.name == user);
        let account = account.context(|| format!("find the account `{user}` on the host `{}`", self.name))?;
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
    pub fn exec<S: Into<String>>(&self, program: &str, args: impl IntoIterator<Item = S>) -> Result<Output> {
        self.command(program).args(args).run()?.success()
    }

    /// Where the machine sees one of the host's files.
    pub fn file(&self, path: &str) -> PathBuf {
        self.room.path(path)
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

    /// Waits until a line of the log contains `text`, and returns that line.
    ///
    /// # Errors
    /// When there is none in time; the message holds the log.
    pub fn log_line(&self, text: &str, limit: Duration) -> Result<String> {
        let found = wait_for(&format!("`{text}` in the log of {}", self.name), limit, || {
            self.log().lines().find(|line| line.contains(text)).map(str::to_owned)
        });
        found.map_err(|cause| crate::error::unexpected(&cause.to_string(), self.log()))
    }

    /// Makes sshd read its configuration again, and waits until it listens again.
    ///
    /// # Errors
    /// When the configuration is wrong or sshd does not come back.
    pub fn reload_sshd(&mut self) -> Result<()> {
        self.exec("/usr/sbin/sshd", ["-t"])?;
        let before = self.listened();
        self.sshd.reload()?;
        wait_for("sshd to listen again", Duration::from_secs(10), || (self.listened() > before).then_some(()))
    }

    /// How often sshd said that it listens.
    fn listened(&self) -> usize {
        self.log().matches("Server listening on 0.0.0.0 port 22").count()
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
    room.ip(&format!("addr add {address}/16 dev eth0\nlink set eth0 up\n"))
}

/// For a lab without AWS: an id that no other host has.
fn made_up_instance(number: u32) -> Result<Instance> {
    let mut random = [0u8; 8];
    getrandom::fill(&mut random).map_err(|cause| crate::error::unexpected("draw a random instance id", cause))?;
    let low = u8::try_from(number).ok().context(|| "number a host: a lab has at most 255")?;
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
