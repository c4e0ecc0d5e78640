//! The terminal sessions of docs/quickstart.md, recorded from real runs: each is run in a lab, in the order of the
//! page, and must print what the page shows. `EIC_RECORD=1` writes what was printed into the page instead.
//!
//! A session is a code block `console PLACE`: lines that begin with `$ ` are typed there, the rest is printed.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use eic_lab::aws::{ACCOUNT, REGION};
use eic_lab::process::Output;
use eic_lab::{Ca, Client, Host, Lab, small_fleet};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/quickstart.md");

/// What the page has in place of a fingerprint.
const FINGERPRINT: &str = "SHA256:…";

/// Where the page's reader stands, and what stands for the reader's own values.
struct Stage {
    lab: Lab,
    ca: Ca,
    web: Host,
    alice: Client,
}

impl Stage {
    /// A CA that runs, an instance without an agent, and somebody who is not set up.
    fn new() -> Stage {
        let lab = Lab::new().unwrap();
        let ca = small_fleet::ca(&lab).unwrap().start().unwrap();
        let web = lab.host("web-1").tag("team", "web");
        let web = web.tag("eic:enrolled", "true").start().unwrap();
        let alice = small_fleet::person(&lab, "alice").unwrap();
        let stage = Stage {
            lab,
            ca,
            web,
            alice,
        };
        stage.give_the_host_an_agent();
        stage.give_the_ca_the_hosts_key();
        stage
    }

    /// As an image or a package would have put it there.
    fn give_the_host_an_agent(&self) {
        for name in ["eic-agent", "eic-agent-service"] {
            let there = self.web.file("/usr/local/bin").join(name);
            std::fs::copy(eic_lab::binaries::find(name).unwrap(), &there).unwrap();
            std::fs::set_permissions(there, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    fn give_the_ca_the_hosts_key(&self) {
        let key = self.web.file("/etc/ssh/ssh_host_ed25519_key.pub");
        let copy = self.ca.folder().join("ssh_host_ed25519_key.pub");
        std::fs::copy(key, copy).unwrap();
    }

    /// The folder that `host-state` wrote goes to the host, as the page tells its reader to do.
    fn copy_the_state(&self) {
        let (from, to) = (self.ca.folder().join("state"), self.web.file("/root/state"));
        std::fs::create_dir(&to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let file = entry.unwrap();
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }

    /// Types a line at a place.
    fn type_line(&self, place: &str, line: &str) -> Output {
        let real = self.pairs(place).into_iter();
        let line = real.fold(line.to_owned(), |line, (page, real)| {
            line.replace(page, &real)
        });
        let script = format!("exec 2>&1; {line}");
        let shell = ["-c", script.as_str()];
        match place {
            "new" => self.lab.command("bash").args(shell).run(),
            // With the CA's own credentials, which no shell of the lab has.
            "ca" => self.ca.command(line.split(' ').skip(1)).run(),
            "host" => {
                let command = self.web.command("bash").args(shell);
                command.current_dir("/root").run()
            }
            "you" => self.alice.run("bash", shell),
            other => panic!("nobody stands at `{other}`"),
        }
        .unwrap()
    }

    /// What the page says and what it is here.
    fn pairs(&self, place: &str) -> Vec<(&'static str, String)> {
        let folder = match place {
            "new" => self.lab.folder().join("new-ca"),
            _ => self.ca.folder().to_path_buf(),
        };
        vec![
            ("/srv/eic", folder.display().to_string()),
            ("https://ca.example", self.ca.url()),
            (FINGERPRINT, self.ca.root_fingerprint().to_owned()),
            ("i-0123456789abcdef0", self.web.id().to_owned()),
            ("111122223333", ACCOUNT.to_owned()),
            ("eu-west-1", REGION.to_owned()),
            ("172.31.5.9", self.web.address().to_string()), // as long as the lab's, for the table
            ("/run/user/1000/", "/run/user/2001/".to_owned()),
        ]
    }

    /// Everything that differs from run to run, or from this lab to the page's reader.
    fn as_on_the_page(&self, place: &str, text: &str) -> String {
        let pairs = self.pairs(place).into_iter();
        let text = pairs.fold(text.to_owned(), |text, (page, real)| {
            text.replace(&real, page)
        });
        let lines = folded(&text).into_iter();
        let lines = lines.map(|line| without_changing_parts(line.trim_end()));
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// Without what trust documents say: too long for a page, and other keys and times in each run.
fn folded(text: &str) -> Vec<&str> {
    let mut is_inside = false;
    let shown = text.lines().filter_map(|line| {
        let was_inside = is_inside;
        is_inside = line != "+ }" && (was_inside || line == "+ {");
        match (was_inside, is_inside) {
            (false, true) => Some("+ { … }"),
            (true, _) => None,
            (false, false) => Some(line),
        }
    });
    shown.collect()
}

/// Keys, ids, numbers of processes and times.
fn without_changing_parts(line: &str) -> String {
    let words = line.split(' ').map(without_changing_part);
    words.collect::<Vec<_>>().join(" ")
}

fn without_changing_part(word: &str) -> String {
    if let Some((before, rest)) = word.split_once("SHA256:") {
        let base64 = |c: char| c.is_ascii_alphanumeric() || "+/…".contains(c);
        let behind = rest.trim_start_matches(base64);
        return format!("{before}{FINGERPRINT}{behind}");
    }
    let core = word.trim_end_matches([',', ';', ')']);
    let behind = word.get(core.len()..).unwrap_or_default();
    let is_hash = core.len() >= 32 && core.bytes().all(|b| b.is_ascii_hexdigit());
    let is_serial = core.len() >= 12 && core.bytes().all(|b| b.is_ascii_digit());
    let is_process = behind == ")" && core.bytes().all(|b| b.is_ascii_digit());
    match core {
        _ if is_hash || is_serial || is_process => format!("…{behind}"),
        _ if core.starts_with("AAAA") => format!("AAAA…{behind}"),
        _ if is_time(core) => format!("2026-11-22T09:00:00Z{behind}"),
        _ => word.to_owned(),
    }
}

/// `2026-11-22T09:04:15Z`.
fn is_time(word: &str) -> bool {
    let digit = |c: char| if c.is_ascii_digit() { '0' } else { c };
    let shape: String = word.chars().map(digit).collect();
    shape == "0000-00-00T00:00:00Z"
}

/// Runs every session of the page and returns the page with what was printed.
fn recorded(stage: &Stage, page: &str) -> String {
    let (mut out, mut place) = (String::new(), None::<&str>);
    for line in page.lines() {
        match (place, line.strip_prefix("```console ")) {
            (_, Some(here)) => {
                place = Some(here);
                writeln!(out, "{line}").unwrap();
            }
            (Some(_), None) if line == "```" => {
                place = None;
                writeln!(out, "{line}").unwrap();
            }
            (Some(here), None) => {
                if let Some(typed) = line.strip_prefix("$ ") {
                    writeln!(out, "{line}").unwrap();
                    let printed = stage.type_line(here, typed);
                    let printed = format!("{}{}", printed.stdout, printed.stderr);
                    let printed = stage.as_on_the_page(here, &printed);
                    if !printed.is_empty() {
                        writeln!(out, "{printed}").unwrap();
                    }
                    if typed.contains("host-state") {
                        stage.copy_the_state();
                    }
                }
            }
            (None, None) => writeln!(out, "{line}").unwrap(),
        }
    }
    out
}

#[test]
fn the_quick_start_shows_what_its_commands_print() {
    let page: PathBuf = Path::new(PAGE).to_path_buf();
    let shown = std::fs::read_to_string(&page).unwrap();
    assert!(shown.contains("```console "), "no session is shown");
    let printed = recorded(&Stage::new(), &shown);
    if std::env::var_os("EIC_RECORD").is_some_and(|value| value == "1") {
        std::fs::write(&page, &printed).unwrap();
        return;
    }
    let mut lines = shown.lines().zip(printed.lines());
    let first = lines.find(|(shown, printed)| shown != printed);
    assert_eq!(
        first, None,
        "docs/quickstart.md shows something else (left) than was printed; EIC_RECORD=1 records it anew"
    );
    assert_eq!(shown.lines().count(), printed.lines().count());
}
