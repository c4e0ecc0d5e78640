//! A person's machine: an account of the control room with a home of its own, from which ssh and our client run.
//!
//! It is unprivileged, unless the test asks for root. Nothing of the machine's user reaches it: no ~/.ssh, no AWS_*.

use std::path::PathBuf;

use crate::aws::Credentials as AwsCredentials;
use crate::error::{Context, Result};
use crate::lab::Lab;
use crate::process::{Credentials, Output, RoomCommand};
use crate::room::{Account, add_account, make_folder};

/// One person.
#[derive(Clone)]
pub struct Client {
    lab: Lab,
    account: Account,
    env: Vec<(String, String)>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({})", self.account.name)
    }
}

impl Client {
    /// Makes the account in the control room. Names are unique in a lab.
    pub(crate) fn new(lab: Lab, name: &str, id: u32) -> Result<Client> {
        let account = Account::person(name, id);
        add_account(lab.control().folder(), &account)?;
        let client = Client {
            lab,
            account,
            env: Vec::new(),
        };
        client.make_runtime_folder()?;
        Ok(client)
    }

    /// Root of the control room.
    pub(crate) fn root(lab: Lab) -> Result<Client> {
        let client = Client {
            lab,
            account: Account::person("root", 0),
            env: Vec::new(),
        };
        client.make_runtime_folder()?;
        Ok(client)
    }

    /// Gives this person AWS credentials, and the lab's stand-ins as AWS.
    ///
    /// # Errors
    /// When the lab was opened without AWS.
    pub fn credentials(mut self, credentials: &AwsCredentials) -> Result<Self> {
        let env = self.lab.aws()?.env(credentials);
        self.env.extend(
            env.into_iter()
                .map(|(name, value)| (name.to_owned(), value)),
        );
        Ok(self)
    }

    /// Sets a variable for everything that this person runs.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// The login name.
    pub fn name(&self) -> &str {
        &self.account.name
    }

    /// The home folder as the machine sees it; `/home/NAME` or `/root` inside.
    pub fn home(&self) -> PathBuf {
        let inside = self.home_inside();
        self.lab
            .control()
            .folder()
            .join(inside.trim_start_matches('/'))
    }

    /// A command that this person runs, in the home folder.
    pub fn command(&self, program: impl Into<String>) -> RoomCommand {
        let home = self.home_inside();
        let command = self
            .lab
            .command(program)
            .user(Credentials {
                id: self.account.id,
            })
            .current_dir(&home)
            .env("HOME", &home)
            .env("USER", &self.account.name)
            .env("LOGNAME", &self.account.name)
            .env("SHELL", "/bin/bash")
            .env("XDG_RUNTIME_DIR", self.runtime_folder());
        self.env
            .iter()
            .fold(command, |command, (name, value)| command.env(name, value))
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    /// When it cannot be started; a failing exit status is in the output.
    pub fn run<S: Into<String>>(
        &self,
        program: &str,
        args: impl IntoIterator<Item = S>,
    ) -> Result<Output> {
        self.command(program).args(args).run()
    }

    /// Makes an Ed25519 key without a passphrase in `~/.ssh` and returns its public line.
    ///
    /// # Errors
    /// When ssh-keygen fails.
    pub fn make_key(&self, name: &str) -> Result<String> {
        let file = format!(".ssh/{name}");
        self.run("mkdir", ["-p", "-m", "700", ".ssh"])?.success()?;
        self.run(
            "ssh-keygen",
            ["-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", &file],
        )?
        .success()?;
        let public = self.home().join(format!("{file}.pub"));
        std::fs::read_to_string(&public).context(|| format!("read `{}`", public.display()))
    }

    /// As this person sees it.
    fn home_inside(&self) -> String {
        match self.account.id {
            0 => "/root".to_owned(),
            _ => format!("/home/{}", self.account.name),
        }
    }

    /// `/run/user/UID`, as systemd-logind would have made it.
    fn runtime_folder(&self) -> String {
        format!("/run/user/{}", self.account.id)
    }

    fn make_runtime_folder(&self) -> Result<()> {
        let folder = self.lab.control().path(self.runtime_folder());
        make_folder(&folder, 0o700)?;
        std::os::unix::fs::chown(&folder, Some(self.account.id), Some(self.account.id))
            .context(|| "give a client its runtime folder")
    }
}
