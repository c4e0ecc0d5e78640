//! Where docs/quickstart.md happens: a CA that is made as the page says, an instance without an agent, a legacy one,
//! and people who are not set up yet.

use eic_lab::process::Output;
use eic_lab::{Ca, Client, Host, Lab, small_fleet};

use super::page;

pub(super) struct Stage {
    lab: Lab,
    /// With the lab's policy and the lab's AWS in its configuration; the page's own is tried at the place `new`.
    ca: Ca,
    web: Host,
    legacy: Host,
    alice: Client,
    /// Somebody without a CA.
    bob: Client,
}

impl Stage {
    pub(super) fn new() -> Stage {
        let lab = Lab::new().unwrap();
        let ca = small_fleet::ca(&lab).unwrap().https().unwrap();
        let ca = ca.prepare().unwrap();
        let web = lab.host("web-1").tag("team", "web");
        let web = web.tag("eic:enrolled", "true").start().unwrap();
        let legacy = lab.host("legacy-1").instance_connect_only();
        let stage = Stage {
            ca,
            web,
            legacy: legacy.start().unwrap(),
            alice: small_fleet::person(&lab, "alice").unwrap(),
            bob: small_fleet::person(&lab, "bob").unwrap(),
            lab,
        };
        stage.give_the_host_an_agent();
        stage.give_the_ca_the_hosts_key();
        stage
    }

    /// As an image or a package would have put it there.
    fn give_the_host_an_agent(&self) {
        for name in ["eic-agent", "eic-agent-service"] {
            let there = self.web.file("/usr/local/bin").join(name);
            // By another process: nobody can run a file that one of this one's children could write.
            let mut install = std::process::Command::new("install");
            install
                .args(["-m", "755"])
                .arg(eic_lab::binaries::find(name).unwrap());
            assert!(install.arg(there).status().unwrap().success());
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

    /// With the CA's own credentials, which no shell of the lab has.
    fn type_at_the_ca(&mut self, line: &str) -> String {
        if line.starts_with("eic-ca serve ") {
            // By these very words; it runs until the test ends.
            let config = self.ca.config().display();
            assert_eq!(line, format!("eic-ca serve --config {config}"));
            self.take_the_pages_tls();
            self.ca.start().unwrap();
            return String::new();
        }
        let printed = all_of(&self.ca.command(line.split(' ').skip(1)).run().unwrap());
        if line.contains("host-state") {
            self.copy_the_state();
        }
        printed
    }

    /// The certificate that the page makes is the CA's, and people have it.
    fn take_the_pages_tls(&self) {
        for name in ["server.crt", "server.key"] {
            std::fs::copy(self.new_folder().join(name), self.ca.folder().join(name)).unwrap();
        }
        let given = self.alice.home().join("server.crt");
        std::fs::copy(self.new_folder().join("server.crt"), given).unwrap();
    }

    fn new_folder(&self) -> std::path::PathBuf {
        self.lab.folder().join("new-ca")
    }

    /// Puts the page's lines into the configuration that `init` made.
    fn configure(&self, lines: &str) {
        let file = self.new_folder().join("eic-ca.toml");
        let mut all: toml::Table = std::fs::read_to_string(&file).unwrap().parse().unwrap();
        for (section, value) in lines.parse::<toml::Table>().unwrap() {
            match (all.get_mut(&section), value) {
                (Some(toml::Value::Table(there)), toml::Value::Table(new)) => there.extend(new),
                (_, value) => drop(all.insert(section, value)),
            }
        }
        std::fs::write(file, toml::to_string(&all).unwrap()).unwrap();
    }

    /// The loop that renews what hosts without a service have, for the one host that is here.
    fn renew_daily(&self, script: &str) {
        let folder = self.ca.folder().join("daily");
        std::fs::create_dir_all(folder.join("hostkeys")).unwrap();
        std::fs::write(folder.join("enrolled-hosts"), self.web.id()).unwrap();
        let key = self.web.file("/etc/ssh/ssh_host_ed25519_key.pub");
        let copy = folder.join(format!("hostkeys/{}.pub", self.web.id()));
        std::fs::copy(key, copy).unwrap();
        let here = self.ca.folder().display().to_string();
        let script = format!("set -e; {}", script.replace("/srv/eic", &here));
        let bash = self.lab.command("bash").args(["-c", &script]);
        let run = bash.current_dir(folder.display().to_string()).run();
        run.unwrap().success().unwrap();
        let state = folder.join("state").join(self.web.id());
        assert!(state.join("host-cert.pub").is_file(), "{script}");
    }
}

fn all_of(output: &Output) -> String {
    format!("{}{}", output.stdout, output.stderr)
}

impl page::Stage for Stage {
    fn type_line(&mut self, place: &str, line: &str) -> String {
        let script = format!("exec 2>&1; {line}");
        let shell = ["-c", script.as_str()];
        let output = match place {
            "ca" => return self.type_at_the_ca(line),
            "new" => self.lab.command("bash").args(shell).run(),
            "host" => {
                let command = self.web.command("bash").args(shell);
                command.current_dir("/root").run()
            }
            "you" => self.alice.run("bash", shell),
            "without-ca" => self.bob.run("bash", shell),
            other => panic!("nobody stands at `{other}`"),
        };
        all_of(&output.unwrap())
    }

    fn pairs(&self, place: &str) -> Vec<(&'static str, String)> {
        if place == "new" {
            return vec![
                ("/srv/eic", self.new_folder().display().to_string()),
                ("DNS:ca.example", "IP:10.77.0.1".to_owned()),
            ];
        }
        let folder = ("/srv/eic", self.ca.folder().display().to_string());
        let users = ["2001", "2002"].map(|uid| ("/run/user/1000/", format!("/run/user/{uid}/")));
        let names = page::names(&self.ca, &self.web, &self.legacy);
        [folder].into_iter().chain(names).chain(users).collect()
    }

    fn take_file(&mut self, language: &str, text: &str) {
        match language {
            "toml" => self.configure(text),
            "sh" => self.renew_daily(text),
            _ => {}
        }
    }
}
