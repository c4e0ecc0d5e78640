//! One lab: a folder, a control room and everything that is started in it.
//!
//! The control room holds the AWS stand-ins, the CA and the clients; each host is a room of its own on the control
//! room's bridge. Nothing is written outside the lab's folder and the build cache.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use crate::aws::Aws;
use crate::binaries;
use crate::ca::CaBuilder;
use crate::client::Client;
use crate::clock::Clock;
use crate::error::{Context, Error, Result};
use crate::host::HostBuilder;
use crate::openssh::Release;
use crate::other_programs;
use crate::process::RoomCommand;
use crate::room::{Furniture, Role, Room, append};
use crate::standin::{Tunnels, locked};

/// Where labs live: root-owned all the way up, as sshd demands of its commands' paths.
const PLACE: &str = "/run";

/// The control room's address on the bridge; each subnet of the lab's network is inside.
const BRIDGE: &str = "10.77.0.1/16";

/// A running lab. It goes with its last part: hosts and clients keep it alive.
#[derive(Clone, Debug)]
pub struct Lab {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    aws: Option<Aws>,
    control: Room,
    clock: Arc<Clock>,
    hosts: AtomicU32,
    clients: AtomicU32,
    /// Each host's /etc/hosts, with the line by which the others know it.
    names: Mutex<Vec<(PathBuf, String)>>,
    folder: Folder,
}

/// The lab's folder. It says what to keep; the control room's holder removes it.
#[derive(Debug)]
struct Folder(PathBuf);

impl Lab {
    /// A lab with AWS stand-ins. It takes about three seconds, most of them Python's.
    ///
    /// # Errors
    /// Without root, and when the machine lacks a program that the lab needs.
    pub fn new() -> Result<Lab> {
        Lab::open(true, Furniture::default())
    }

    /// A lab with AWS stand-ins whose clients find other people's programs below /opt.
    ///
    /// # Errors
    /// As [`Lab::new`], and when the programs cannot be fetched.
    pub fn with_other_programs() -> Result<Lab> {
        let furniture = Furniture {
            tools: Some(other_programs::folder()?),
            ..Furniture::default()
        };
        Lab::open(true, furniture)
    }

    /// A lab with AWS stand-ins whose clients run another release's ssh, and everything else of it. Not for releases
    /// whose C library is older than this machine's: the CA would not start.
    ///
    /// # Errors
    /// As [`Lab::new`], and when the release's packages cannot be fetched.
    pub fn with_openssh(release: &Release) -> Result<Lab> {
        let furniture = Furniture {
            distribution: Some(release.folder()?),
            ..Furniture::default()
        };
        Lab::open(true, furniture)
    }

    /// A lab with AWS stand-ins whose clients find another release's programs below /opt, beside the machine's.
    ///
    /// # Errors
    /// As [`Lab::with_openssh`].
    pub fn beside_openssh(release: &Release) -> Result<Lab> {
        let furniture = Furniture {
            tools: Some(release.folder()?),
            ..Furniture::default()
        };
        Lab::open(true, furniture)
    }

    /// A lab without AWS stand-ins: hosts get made-up instance ids and no metadata service.
    ///
    /// # Errors
    /// As [`Lab::new`].
    pub fn without_aws() -> Result<Lab> {
        Lab::open(false, Furniture::default())
    }

    /// The control room shows this furniture and our programs.
    fn open(with_aws: bool, furniture: Furniture) -> Result<Lab> {
        demand_root()?;
        demand_programs()?;
        let folder = Folder(make_folder()?);
        let furniture = Furniture {
            programs: binaries::built(),
            ..furniture
        };
        let control = Room::open(&folder.0, "control", Role::Keeper, &furniture)?;
        control.ip(&format!(
            "link add br0 type bridge\naddr add {BRIDGE} dev br0\nlink set br0 up\n"
        ))?;
        let clock = Arc::default();
        let aws = with_aws
            .then(|| Aws::start(&control, Arc::clone(&clock)))
            .transpose()?;
        let shared = Shared {
            aws,
            control,
            clock,
            hosts: AtomicU32::new(1),
            clients: AtomicU32::new(1),
            names: Mutex::default(),
            folder,
        };
        Ok(Lab {
            shared: Arc::new(shared),
        })
    }

    /// The lab's folder, `/run/eic-lab.XXXXXX`; the same path inside the control room.
    pub fn folder(&self) -> &Path {
        &self.shared.folder.0
    }

    /// The room of the stand-ins, the CA and the clients.
    pub fn control(&self) -> &Room {
        &self.shared.control
    }

    /// AWS.
    ///
    /// # Errors
    /// When the lab was opened without it.
    pub fn aws(&self) -> Result<&Aws> {
        self.shared
            .aws
            .as_ref()
            .context(|| "use AWS: this lab was opened by `Lab::without_aws`")
    }

    /// AWS, if the lab has it.
    pub(crate) fn aws_if_any(&self) -> Option<&Aws> {
        self.shared.aws.as_ref()
    }

    /// The stand-ins' clock.
    pub fn clock(&self) -> &Arc<Clock> {
        &self.shared.clock
    }

    /// A command that will run in the control room as root.
    pub fn command(&self, program: impl Into<String>) -> RoomCommand {
        self.shared.control.command(program)
    }

    /// Runs `work` on a thread whose sockets are in the lab's network.
    ///
    /// # Errors
    /// When the thread cannot enter the network, or `work` panicked.
    pub fn in_network<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        self.shared.control.in_network(work)
    }

    /// A host to be.
    pub fn host(&self, name: &str) -> HostBuilder {
        HostBuilder::new(self.clone(), name)
    }

    /// A person at a machine of the lab's network.
    ///
    /// # Errors
    /// When the account cannot be made.
    pub fn client(&self, name: &str) -> Result<Client> {
        let id = 2000 + self.shared.clients.fetch_add(1, Ordering::SeqCst);
        Client::new(self.clone(), name, id)
    }

    /// Root at a machine of the lab's network.
    ///
    /// # Errors
    /// When its runtime folder cannot be made.
    pub fn root(&self) -> Result<Client> {
        Client::root(self.clone())
    }

    /// An EC2 Instance Connect Endpoint and Session Manager for this lab's hosts. At most one at a time.
    ///
    /// # Errors
    /// When the lab was opened without AWS, or they cannot listen.
    pub fn tunnels(&self) -> Result<Tunnels> {
        Tunnels::start(self.aws()?.standin(), self.control(), self.folder())
    }

    /// A CA to be.
    pub fn ca(&self) -> CaBuilder {
        CaBuilder::new(self.clone())
    }

    /// Lets a new host and those before it resolve each other's names, as a VPC's DNS does. People's machines are
    /// outside: they know no instance by name.
    pub(crate) fn introduce(&self, room: &Path, line: &str) -> Result<()> {
        let file = room.join("etc/hosts");
        let mut names = locked(&self.shared.names);
        append(&file, line)?;
        for (others_file, others_line) in names.iter() {
            append(others_file, line)?;
            append(&file, others_line)?;
        }
        names.push((file, line.to_owned()));
        Ok(())
    }

    /// The next host's number, from 1.
    pub(crate) fn next_host(&self) -> u32 {
        self.shared.hosts.fetch_add(1, Ordering::SeqCst)
    }

    /// Keeps the folder when the lab ends, and says where it is.
    pub fn keep(&self) {
        self.shared.folder.keep();
    }
}

impl Folder {
    fn keep(&self) {
        let mark = self.0.join("keep");
        if !mark.exists() && fs::write(mark, "").is_ok() {
            eprintln!("the lab's files stay in {}", self.0.display());
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if std::thread::panicking()
            || std::env::var_os("EIC_LAB_KEEP").is_some_and(|value| value == "1")
        {
            self.folder.keep();
        }
    }
}

fn demand_root() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        Ok(())
    } else {
        Err(Error::NotRoot)
    }
}

fn demand_programs() -> Result<()> {
    let needed = [
        ("sshd", "openssh-server"),
        ("ssh", "openssh-client"),
        ("ip", "iproute2"),
        ("unshare", "util-linux"),
        ("nsenter", "util-linux"),
        ("setpriv", "util-linux"),
    ];
    needed
        .into_iter()
        .try_for_each(|(program, package)| binaries::system(program, package).map(drop))
}

fn make_folder() -> Result<PathBuf> {
    let folder = tempfile::Builder::new()
        .prefix("eic-lab.")
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir_in(PLACE)
        .context(|| format!("make the lab's folder in {PLACE}"))?;
    Ok(folder.keep())
}
