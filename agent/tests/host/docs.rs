//! docs/agent.md is true: its configurations are read, its commands run on a host that is set up, and what it quotes
//! from the log exists in the sources.

use std::process::Stdio;

use crate::documents::{INSTANCE, ROOT_KEY, public};
use crate::login::{USER_KEY, identity_of, instance_connect, key_line};
use crate::sandbox::{Host, current, ok, stderr};

const PAGE: &str = include_str!("../../../docs/agent.md");

/// A fenced block: its language and its lines.
struct Block {
    language: String,
    text: String,
}

fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut parts = PAGE.split("\n```");
    // Text and blocks take turns.
    while let (Some(_), Some(block)) = (parts.next(), parts.next()) {
        let (language, text) = block.split_once('\n').unwrap();
        blocks.push(Block {
            language: language.trim().to_owned(),
            text: format!("{text}\n"),
        });
    }
    blocks
}

fn of(language: &str) -> Vec<Block> {
    let mut found = blocks();
    found.retain(|block| block.language == language);
    assert!(!found.is_empty(), "no `{language}` block");
    found
}

#[test]
fn every_block_is_of_a_kind_that_is_checked() {
    for block in blocks() {
        let known = ["", "toml", "text"];
        assert!(
            known.contains(&block.language.as_str()),
            "{}: {}",
            block.language,
            block.text
        );
    }
}

#[test]
fn every_configuration_is_read() {
    for block in of("toml") {
        eic_agent::config::Config::parse(&block.text).unwrap();
    }
}

/// A host before installation, as the page assumes it: the documents in a folder, their key's fingerprint in
/// `ROOT_FINGERPRINT`, root's key and certificate in `/etc/user`, and that key pushed.
fn host() -> Option<(Host, crate::imds::Imds)> {
    let host = Host::new()?;
    host.documents(&current());
    let imds = instance_connect(&host, "root", &key_line(USER_KEY));
    identity_of(&host, USER_KEY, Some(&format!("root@{INSTANCE}")));
    for file in ["root.json", "host-view.json"] {
        let content = std::fs::read(host.path(&format!("documents/{file}"))).unwrap();
        host.write(&format!("etc/eic-documents/{file}"), content);
    }
    Some((host, imds))
}

#[test]
fn every_command_runs() {
    let Some((host, _imds)) = host() else { return };
    for block in of("") {
        block.text.lines().for_each(|command| runs(&host, command));
    }
}

/// Programs of distributions that are not everywhere are only looked for.
fn runs(host: &Host, command: &str) {
    let program = command.split(' ').next().unwrap();
    let found = host
        .command("sh")
        .args(["-c", &format!("command -v {program}")])
        .output()
        .unwrap();
    if !found.status.success() {
        eprintln!("skipped: {program} is not installed ({command})");
        return;
    }
    let mut shell = host.command("sh");
    shell.args(["-c", command]).stdin(Stdio::null());
    shell.env("ROOT_FINGERPRINT", public(ROOT_KEY).fingerprint());
    let output = shell.output().unwrap();
    println!("{command}: {}", output.status);
    // A diagnosis is given with either; there is no sshd here that runs all the time.
    let told = [" doctor ", " status"]
        .iter()
        .any(|verb| command.contains(verb));
    if told && output.status.code() == Some(1) {
        assert!(!output.stdout.is_empty(), "{command}: {}", stderr(&output));
    } else {
        ok(&output);
    }
}

#[test]
fn every_quoted_log_line_is_in_the_sources() {
    let sources = [
        include_str!("../../src/instance_connect.rs"),
        include_str!("../../src/instance_connect/official_log.rs"),
        include_str!("../../src/commands/official.rs"),
    ]
    .concat();
    for block in of("text") {
        for line in block
            .text
            .lines()
            .filter(|line| line.contains("EC2 Instance Connect"))
        {
            let start = line
                .split(" ...")
                .next()
                .unwrap()
                .split("SHA256:")
                .next()
                .unwrap();
            assert!(sources.contains(start.trim_end()), "{line}");
        }
    }
}
