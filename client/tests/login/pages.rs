//! The commands of docs/clients.md and docs/automation.md run, with the real programs, in the order of the page. Only
//! the host's address and port, the account and the folders of the examples are replaced by those of the test.

use std::path::Path;
use std::process::{Command, Output};

use crate::exec::libraries;
use crate::real_ssh::{Scene, program, said};
use crate::stub::INSTANCE;
use crate::testing::write_program;

const CLIENTS: &str = include_str!("../../../docs/clients.md");
const AUTOMATION: &str = include_str!("../../../docs/automation.md");

/// The blocks of one language.
fn blocks(page: &'static str, language: &str) -> Vec<&'static str> {
    let start = format!("```{language}\n");
    let parts = page.split(start.as_str()).skip(1);
    parts
        .filter_map(|part| part.split("\n```").next())
        .collect()
}

struct Stage {
    scene: Scene,
}

impl Stage {
    /// A folder with what the pages take for given; programs that find the test's ssh_config as others find
    /// `~/.ssh/config`, which ssh would look for in the real home folder.
    async fn new() -> Self {
        let stage = Self {
            scene: Scene::new(Some(INSTANCE)).await,
        };
        let dir = stage.scene.world.dir.path();
        let user = &stage.scene.user;
        let principals = format!("{user}@{INSTANCE}\n{user}@fleet/web\n");
        std::fs::write(dir.join("principals"), principals).unwrap();
        for folder in ["bin", "here/site", "srv/data"] {
            std::fs::create_dir_all(dir.join(folder)).unwrap();
        }
        std::fs::write(dir.join("here/report.txt"), "report\n").unwrap();
        std::fs::write(dir.join("here/site/index.html"), "site\n").unwrap();
        let bare = dir.join("srv/repo.git");
        let made = Command::new("git")
            .args(["init", "-q", "--bare"])
            .arg(bare)
            .status();
        assert!(made.unwrap().success());
        std::os::unix::fs::symlink(program(), dir.join("bin/eic-login")).unwrap();
        for name in ["ssh", "scp", "sftp"] {
            let config = dir.join("ssh_config");
            let text = format!(
                "#!/bin/sh\nexec /usr/bin/{name} -F {} \"$@\"\n",
                config.display()
            );
            let file = dir.join("bin").join(name);
            write_program(&file, &text);
        }
        stage
    }

    fn dir(&self) -> &Path {
        self.scene.world.dir.path()
    }

    fn of_the_test(&self, example: &str) -> String {
        let (user, port) = (&self.scene.user, self.scene.world.state().port);
        example
            .replace("ubuntu@", &format!("{user}@"))
            .replace("deploy@", &format!("{user}@"))
            .replace("\"ubuntu\"", &format!("\"{user}\""))
            .replace("10.0.0.5", "127.0.0.1")
            .replace("-p 22 ", &format!("-p {port} "))
            .replace("port=22", &format!("port={port}"))
            .replace("/srv/", &format!("{}/srv/", self.dir().display()))
    }

    async fn run(&self, mut command: Command) -> Output {
        let path = std::env::var("PATH").unwrap();
        self.scene.environment(&mut command);
        command
            .env(
                "PATH",
                format!("{}:{path}", self.dir().join("bin").display()),
            )
            .current_dir(self.dir().join("here"));
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        output.await.unwrap()
    }

    async fn line(&self, line: &str) -> String {
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", &self.of_the_test(line)]);
        let output = self.run(bash).await;
        let log = self.scene.sshd_log();
        assert!(output.status.success(), "{line}: {}\n{log}", said(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    async fn page(&self, page: &'static str) -> Vec<String> {
        let mut said = Vec::new();
        for line in blocks(page, "sh").iter().flat_map(|block| block.lines()) {
            said.push(self.line(line).await);
        }
        said
    }
}

#[tokio::test]
async fn every_command_of_the_page_about_tools_does_what_it_says() {
    let stage = Stage::new().await;
    let said = stage.page(CLIENTS).await;
    assert!(said[0].contains("load average"), "{said:?}");
    for file in [
        "srv/data/report.txt",
        "here/copy.txt",
        "srv/data/site/index.html",
        "here/repo/.git/HEAD",
    ] {
        assert!(stage.dir().join(file).is_file(), "{file}: {said:?}");
    }
}

#[tokio::test]
async fn every_command_of_the_page_about_jobs_does_what_it_says() {
    let stage = Stage::new().await;
    let said = stage.page(AUTOMATION).await;
    let [
        listed,
        fleet,
        issued,
        uptime,
        removed,
        hosts,
        inventory,
        cached,
    ] = said.as_slice()
    else {
        panic!("{said:?}")
    };
    assert!(listed.contains("CERT"), "{said:?}");
    assert_eq!(fleet, "1\n");
    assert!(issued.contains("ssh -F none -i"), "{issued}");
    assert!(uptime.contains("load average"), "{said:?}");
    assert!(removed.is_empty() && !stage.dir().join("here/job").exists());
    for json in [hosts, inventory, cached] {
        assert!(json.contains(INSTANCE), "{json}");
        serde_json::from_str::<serde_json::Value>(json).unwrap();
    }
}

#[tokio::test]
async fn the_pages_python_programs_log_in_under_exec() {
    let Some(packages) = libraries() else {
        println!("skipped: the lab has not fetched paramiko and asyncssh into target/eic-lab yet");
        return;
    };
    let stage = Stage::new().await;
    let target = format!("{}@web-1", stage.scene.user);
    let programs = blocks(CLIENTS, "python");
    assert_eq!(programs.len(), 2);
    for text in programs {
        let text = stage.of_the_test(text);
        let mut command = stage.scene.eic(&[
            "exec",
            "--target",
            &target,
            "--",
            "/usr/bin/python3",
            "-c",
            &text,
        ]);
        command.env("PYTHONPATH", &packages);
        let waiting = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = waiting.await.unwrap();
        assert!(
            said(&output).starts_with("in\n"),
            "{text}: {}",
            said(&output)
        );
    }
}
