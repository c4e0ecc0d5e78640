//! `eic-login man`: the manual pages, made from the command line itself and from the table of exit codes, so that
//! they cannot name what does not exist.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Arg, Args, Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::Cli;
use crate::exit_code::{self, Failure};
use crate::files;
use crate::terminal;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Where to, e.g. /usr/local/share/man/man1; it is made where it is missing.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let pages = pages().map_err(|e| Failure::of(&e))?;
    write(&arguments.folder, &pages)?;
    terminal::print(&format!(
        "{} pages in {}\n",
        pages.len(),
        terminal::one_line(&arguments.folder.display().to_string())
    ));
    Ok(())
}

fn write(folder: &Path, pages: &[(String, Vec<u8>)]) -> Result<(), Failure> {
    std::fs::create_dir_all(folder)
        .map_err(|e| Failure::of(&e).context(&format!("cannot make `{}`", folder.display())))?;
    for (name, text) in pages {
        files::write_atomic(&folder.join(name), text, 0o644).map_err(|e| Failure::of(&e))?;
    }
    Ok(())
}

/// File names and texts, one for the program and each command that people type.
fn pages() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut root = Cli::command()
        .after_help(None::<&str>)
        .subcommand(ssh())
        .disable_help_subcommand(true);
    root.build();
    let mut pages = Vec::new();
    collect(&root, "eic-login", &mut pages)?;
    Ok(pages)
}

fn collect(command: &Command, name: &str, pages: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    pages.push((format!("{name}.1"), page(command, name)?));
    for inner in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        collect(inner, &format!("{name}-{}", inner.get_name()), pages)?;
    }
    Ok(())
}

fn page(command: &Command, name: &str) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let command = command.clone().version(env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone())
        .title(name)
        // No day: the same program makes the same pages.
        .date(" ")
        .source(concat!("eic-login ", env!("CARGO_PKG_VERSION")))
        .manual("eic-login manual");
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    if command
        .get_arguments()
        .any(|argument| !argument.is_hide_set())
    {
        man.render_options_section(&mut text)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    exit_status(name).to_writer(&mut text)?;
    man.render_version_section(&mut text)?;
    Ok(ascii(&String::from_utf8_lossy(&text)).into_bytes())
}

/// Other characters by their names: a troff that is not told the encoding takes their bytes for three letters.
fn ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_ascii() {
            true => out.push(c),
            false => out.push_str(&format!("\\[u{:04X}]", u32::from(c))),
        }
    }
    out
}

fn exit_status(name: &str) -> Roff {
    let mut roff = Roff::default();
    roff.control("SH", ["EXIT STATUS"]);
    for (code, _, meaning) in exit_code::ALL {
        roff.control("TP", []);
        roff.text([bold(code.to_string())]);
        roff.text([roman(meaning)]);
    }
    let more = match name {
        "eic-login" => {
            "ssh itself exits with 255 when its ProxyCommand or KnownHostsCommand, both of them this program, fails. \
             Under the names mssh and msftp the codes are those of the programs of these names."
        }
        "eic-login-exec" => {
            "Where the command was started: its own code, or 128 and the number of the signal."
        }
        "eic-login-ssh" => "Where ssh was started: its own code.",
        _ => return roff,
    };
    roff.control("PP", []);
    roff.text([roman(more)]);
    roff
}

/// `eic-login ssh` is parsed by hand, since it takes all of ssh's own options: this is for its page only.
pub(super) fn ssh() -> Command {
    let option = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    Command::new("ssh")
        .about("Run ssh with the settings of this program, where its configuration is not touched")
        .long_about(
            "Runs the installed ssh. The options below come first, in this order; everything after them is ssh's own. \
             The options of `aws ec2-instance-connect ssh` (--instance-id ID and so on) are taken instead.",
        )
        .override_usage("eic-login ssh [--wait[=SECONDS]] [--via WAY] [--bastion [USER@]HOST[:PORT]] [SSH OPTIONS] [USER@]HOST [COMMAND]")
        .arg(
            option("wait", "SECONDS", "Wait for an instance that is still booting [default: 300]")
                .num_args(0..=1)
                .require_equals(true),
        )
        .arg(option("via", "WAY", "The way to the host: auto, direct, bastion, endpoint or ssm"))
        .arg(option("bastion", "HOST", "The ssh host in front of it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(pages: &[(String, Vec<u8>)], name: &str) -> String {
        let page = pages.iter().find(|(file, _)| file == name);
        let (_, text) = page.unwrap_or_else(|| panic!("{name} is missing"));
        String::from_utf8(text.clone()).unwrap()
    }

    #[test]
    fn every_command_has_a_page_with_an_about_line_and_the_exit_codes() {
        let pages = pages().unwrap();
        let cli = Cli::command();
        let names = cli.get_subcommands().map(Command::get_name);
        for name in names.chain(["ssh", "endpoint-plan"]) {
            let page = text(&pages, &format!("eic-login-{name}.1"));
            let about = page.split(".SH NAME\n").nth(1).unwrap();
            let about = about.split(".SH").next().unwrap();
            let (_, about) = about
                .split_once(" \\- ")
                .unwrap_or_else(|| panic!("{about}"));
            assert!(about.trim().len() > 10, "{name}: {about}");
            for (_, _, meaning) in exit_code::ALL {
                assert!(page.contains(meaning), "{name}: {meaning}");
            }
        }
        assert!(pages.iter().all(|(_, text)| text.is_ascii()));
        assert!(text(&pages, "eic-login-setup.1").contains("SHA256:\\[u2026]"));
        assert!(text(&pages, "eic-login.1").contains("eic\\-login\\-tunnel(1)"));
        assert!(text(&pages, "eic-login-exec.1").contains("128"));
    }

    #[test]
    fn the_ways_of_the_ssh_page_are_those_that_exist() {
        let pages = pages().unwrap();
        let page = text(&pages, "eic-login-ssh.1");
        let ways = page.split("way to the host: ").nth(1).unwrap();
        let ways = ways.lines().next().unwrap().replace(" or ", ", ");
        for way in ways.split(", ") {
            assert!(way.parse::<crate::transport::Via>().is_ok(), "{way}");
        }
    }

    #[test]
    fn pages_are_replaced_in_a_folder_that_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("share/man1");
        let arguments = Arguments {
            folder: folder.clone(),
        };
        for _ in 0..2 {
            run(&arguments).unwrap();
        }
        let page = std::fs::read(folder.join("eic-login.1")).unwrap();
        assert!(page.starts_with(b".ie"), "{:?}", page.get(..20));
        let refused = write(Path::new("/dev/null/man1"), &[]).unwrap_err();
        assert!(refused.message.contains("/dev/null/man1"), "{refused:?}");
    }
}
