//! `eic-login push`: what `aws ec2-instance-connect send-ssh-public-key` does, by name instead of id, and under the
//! rules of a login. Also the serial console's key.

use std::path::PathBuf;

use clap::Args;
use eic_protocol::aws_region::AwsRegion;
use eic_protocol::os_user::OsUser;
use eic_protocol::subject_key::SubjectKey;

use super::{Destination, aws_options, paths, run_dir};
use crate::control::client::Agent;
use crate::control::message::{Ask, ConnectAsk, Given, PushAsk, Pushed, Reply};
use crate::exit_code::{self, Failure};
use crate::files;
use crate::terminal;
use crate::zone::Zone;

/// Largest file that is read for a public key. Bytes.
const MAX_FILE: u64 = 16 * 1024;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Whom and where: USER@HOST.
    #[arg(
        required_unless_present = "instance_id",
        conflicts_with = "instance_id"
    )]
    destination: Option<Destination>,
    /// The same as HOST, under the name that AWS's command has for it.
    #[arg(long, value_name = "ID")]
    instance_id: Option<Destination>,
    /// The account, where the destination names none.
    #[arg(long, alias = "instance-os-user", value_name = "USER")]
    user: Option<OsUser>,
    /// File with the public key (`file://` in front is taken too).
    #[arg(long, alias = "ssh-public-key", value_name = "FILE")]
    key: String,
    /// The AWS profile.
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// The AWS Region.
    #[arg(long, value_name = "REGION")]
    region: Option<AwsRegion>,
    /// The instance's zone; it counts where nothing else names a Region, or EC2 may not be asked.
    #[arg(long, value_name = "ZONE")]
    availability_zone: Option<Zone>,
    /// For the serial console, which asks for no account here.
    #[arg(long)]
    serial_console: bool,
    /// As JSON, as AWS's command answers.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let paths = paths()?;
    let dir = run_dir(&paths)?;
    let destination = arguments
        .destination
        .as_ref()
        .or(arguments.instance_id.as_ref());
    let destination = destination.ok_or_else(|| Failure::usage("name a host: USER@HOST"))?;
    // The serial console's key is of the instance, not of an account.
    let console_user = arguments
        .serial_console
        .then(|| "root".parse().ok())
        .flatten();
    let user = arguments.user.as_ref().or(console_user.as_ref());
    let ask = PushAsk {
        login: arguments.over(destination.login(user, &dir)?),
        key: read_key(&arguments.key)?,
        serial_console: arguments.serial_console,
    };
    match Agent::new(&dir)?.ask(Ask::Push(ask))?.1 {
        Reply::Pushed(pushed) => {
            pushed.notes.iter().for_each(|note| terminal::note(note));
            terminal::print(&told(&pushed, arguments));
            Ok(())
        }
        Reply::Failed(failure) => Err(failure),
        _ => Err(Failure::new(
            exit_code::FAILURE,
            "the resident agent gave an unexpected answer",
        )),
    }
}

impl Arguments {
    /// The login with what AWS's options say over what the environment says.
    fn over(&self, login: ConnectAsk) -> ConnectAsk {
        ConnectAsk {
            selection: aws_options::selection(self.profile.as_deref(), self.region),
            given: Some(Given {
                zone: self.availability_zone.clone(),
            }),
            ..login
        }
    }
}

fn told(pushed: &Pushed, arguments: &Arguments) -> String {
    let Pushed {
        instance, region, ..
    } = pushed;
    if arguments.json {
        let answer = serde_json::json!({"RequestId": pushed.aws_request_id, "Success": true});
        return format!("{answer:#}\n");
    }
    if arguments.serial_console {
        return format!(
            "The key is good for 60 s: ssh -i PRIVATE_KEY {instance}.port0@serial-console.ec2-instance-connect.{region}.aws\n"
        );
    }
    format!("The key is good on {instance} for 60 s.\n")
}

/// One plain public key; a certificate or a private key is refused (H-13).
fn read_key(file: &str) -> Result<SubjectKey, Failure> {
    let path = PathBuf::from(file.strip_prefix("file://").unwrap_or(file));
    let bytes = files::read_capped(&path, MAX_FILE).map_err(|e| Failure::usage(e.to_string()))?;
    let bytes =
        bytes.ok_or_else(|| Failure::usage(format!("`{}` is not there", path.display())))?;
    let wrong = |what: &str| Failure::usage(format!("`{}` {what}", path.display()));
    let text = String::from_utf8(bytes).map_err(|_| wrong("is no public key"))?;
    if text.contains("PRIVATE KEY") {
        return Err(wrong("is a private key: name the .pub file"));
    }
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return Err(wrong("must hold one public key"));
    };
    // The comment stays here: it may name people.
    let words: Vec<&str> = line.split_whitespace().take(2).collect();
    words
        .join(" ")
        .parse()
        .map_err(|e| wrong(&format!("cannot be pushed: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{EphemeralKey, KeyType};

    #[test]
    fn private_keys_certificates_and_several_keys_are_refused() {
        // H-13
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        let key = EphemeralKey::generate(KeyType::Ed25519).unwrap();
        let line = key.public().to_string();
        let private = key.reveal_openssh().unwrap();
        for bad in [
            private.as_str(),
            "",
            "ssh-ed25519-cert-v01@openssh.com AAAA",
            &format!("{line}\n{line}\n"),
            "ssh-ed25519 AAAA",
        ] {
            std::fs::write(&file, bad).unwrap();
            assert!(read_key(file.to_str().unwrap()).is_err(), "{bad:?}");
        }
        std::fs::write(&file, format!("{line} alice@laptop\n\n")).unwrap();
        let given = format!("file://{}", file.display());
        assert_eq!(read_key(&given).unwrap(), *key.public());
    }
}
