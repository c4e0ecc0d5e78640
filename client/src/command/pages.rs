//! Documentation names only what exists: every command line of the pages is parsed, every option that they mention
//! looked up, and the action's scripts are run with a stand-in for this program.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command as Process;

use clap::{Args as _, Command, CommandFactory as _};

use super::*;

const PAGES: [(&str, &str); 4] = [
    ("client.md", include_str!("../../../docs/client.md")),
    ("clients.md", include_str!("../../../docs/clients.md")),
    ("automation.md", include_str!("../../../docs/automation.md")),
    ("quickstart.md", include_str!("../../../docs/quickstart.md")),
];
const ACTION: &str = include_str!("../../../infra/github-action/action.yml");

/// Commands that are parsed by hand, without `ssh`.
const FOR_PROGRAMS: [&str; 5] = [
    "connect",
    "known-hosts",
    "credentials",
    "carry",
    "complete-host",
];

/// Lines inside and outside of fences.
fn fenced(page: &str) -> (Vec<&str>, String) {
    let (mut code, mut text, mut inside) = (Vec::new(), String::new(), false);
    for line in page.lines() {
        match (line.starts_with("```"), inside) {
            (true, _) => inside = !inside,
            (false, true) => code.push(line),
            (false, false) => text = format!("{text}{line}\n"),
        }
    }
    (code, text)
}

/// The words of the first command in `text`, as a shell splits them.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None::<char>);
    for c in text.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (None, '|' | ';' | '&' | '>' | '<' | '#' | ')') => break,
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Every command line of ours in a line of code. What stands for something is replaced by an example of it.
fn command_lines(line: &str) -> Vec<Vec<String>> {
    let line = line
        .replace("SHA256:…", &format!("SHA256:{}", "A".repeat(43)))
        .replace("%h", "i-0123456789abcdef0")
        .replace("%p'", "22;")
        .replace(" …", "")
        .replace("setup URL", "setup https://ca.example")
        .replace("inventory \"$@\"", "inventory --list;")
        .replace("-o ProxyCommand='eic-login", "; eic-login");
    let starts = line.match_indices("eic-login ").map(|(at, _)| at);
    let ours = starts.filter(|at| {
        let before = line[..*at].chars().next_back();
        before.is_none_or(|c| " (;".contains(c))
    });
    ours.map(|at| words(&line[at..])).collect()
}

/// Parses as the program would, without running it.
fn parse(words: &[String]) -> Result<(), String> {
    let rest: Vec<OsString> = words.iter().skip(2).map(OsString::from).collect();
    match words.get(1).map(String::as_str) {
        Some("ssh") if rest.first().is_some_and(|word| word == "--instance-id") => {
            let aws = aws_ssh::Arguments::augment_args(Command::new("ssh").no_binary_name(true));
            aws.try_get_matches_from(rest).map_err(|e| e.to_string())?;
            Ok(())
        }
        Some("ssh") => ssh::check(&rest).map_err(|e| e.message),
        _ => Cli::try_parse_from(words)
            .map(|_| ())
            .map_err(|e| e.to_string()),
    }
}

#[test]
fn every_command_line_of_the_pages_is_one_that_the_program_takes() {
    for (name, page) in PAGES {
        let (code, _) = fenced(page);
        let lines: Vec<_> = code.iter().flat_map(|line| command_lines(line)).collect();
        assert!(!lines.is_empty(), "{name}");
        for line in lines {
            if let Err(error) = parse(&line) {
                panic!("{name}: {line:?}: {error}");
            }
        }
    }
}

fn options_of(command: &Command, all: &mut BTreeSet<String>) {
    for argument in command.get_arguments() {
        let aliases = argument.get_all_aliases().unwrap_or_default();
        let names = argument.get_long().into_iter().chain(aliases);
        all.extend(names.map(|name| format!("--{name}")));
    }
    for inner in command.get_subcommands() {
        options_of(inner, all);
    }
}

/// Options of a command and of the commands below it; of all of them where none is named.
fn options(command: Option<&str>) -> BTreeSet<String> {
    let mut cli = aws_ssh::Arguments::augment_args(man::ssh());
    cli = Cli::command().subcommand(cli);
    cli.build();
    let mut all = BTreeSet::new();
    match command {
        None => options_of(&cli, &mut all),
        Some(name) => {
            let found = cli.get_subcommands().find(|c| c.get_name() == name);
            options_of(found.unwrap_or_else(|| panic!("{name}")), &mut all);
        }
    }
    all
}

/// The options in a piece of code: `[--json]`, `--list|--host ID` and `--wait=SECONDS` name them too.
fn mentioned(span: &str) -> impl Iterator<Item = &str> {
    let ends = |c: char| !(c.is_ascii_alphanumeric() || c == '-');
    span.split(ends)
        .filter(|word| word.starts_with("--") && word.len() > 2)
}

#[test]
fn every_option_and_command_that_the_pages_mention_exists() {
    let all = options(None);
    for (name, page) in PAGES {
        let (_, text) = fenced(page);
        for span in text.split('`').skip(1).step_by(2) {
            // Other programs have options of their own.
            if !span.starts_with("eic-login ") && !span.starts_with("--") {
                continue;
            }
            let known = match span.strip_prefix("eic-login ") {
                Some(rest) => named(name, rest),
                None => all.clone(),
            };
            for option in mentioned(span) {
                assert!(known.contains(option), "{name}: `{span}`: {option}");
            }
        }
    }
}

/// The options that go with `rest`, whose first word must be a command.
fn named(page: &str, rest: &str) -> BTreeSet<String> {
    let command = rest.split([' ', ',']).next().unwrap_or_default();
    let is_command = command.starts_with(|c: char| c.is_ascii_lowercase());
    if !is_command || FOR_PROGRAMS.contains(&command) {
        return options(None);
    }
    let cli = Cli::command();
    let exists = command == "ssh" || cli.find_subcommand(command).is_some();
    assert!(exists, "{page}: `eic-login {rest}`");
    options(Some(command))
}

/// Python's, which the lab needs anyway.
fn yaml(text: &str) -> serde_json::Value {
    let script = "import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.argv[1])))";
    let output = Process::new("python3").args(["-c", script, text]).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs the scripts of the action's steps as a runner would; gives the command lines that they made.
fn run_action(dir: &Path, inputs: &[(&str, &str)]) -> Vec<Vec<String>> {
    let stand_in = dir.join("program");
    let log = dir.join("log");
    let script = format!(
        "#!/bin/sh\nprintf '%s\\0' eic-login \"$@\" >> {0}; printf '\\n\\0' >> {0}\n",
        log.display()
    );
    crate::testing::write_program(&stand_in, &script);
    let action = yaml(ACTION);
    for step in action["runs"]["steps"].as_array().unwrap() {
        let mut bash = Process::new("bash");
        bash.args(["--noprofile", "--norc", "-eo", "pipefail", "-c"])
            .arg(step["run"].as_str().unwrap());
        for (variable, template) in step["env"].as_object().unwrap() {
            let input = template.as_str().unwrap();
            let input = input
                .trim_start_matches("${{ inputs.")
                .trim_end_matches(" }}");
            assert!(action["inputs"].get(input).is_some(), "{template}");
            let given = inputs.iter().find(|(name, _)| *name == input);
            let value = match input {
                "program" => stand_in.display().to_string(),
                _ => given
                    .map(|(_, value)| (*value).to_owned())
                    .unwrap_or_default(),
            };
            bash.env(variable, value);
        }
        assert!(bash.status().unwrap().success());
    }
    let log = std::fs::read_to_string(log).unwrap();
    let lines = log.split("\n\0").filter(|line| !line.is_empty());
    let words = |line: &str| {
        line.trim_end_matches('\0')
            .split('\0')
            .map(str::to_owned)
            .collect()
    };
    lines.map(words).collect()
}

#[test]
fn the_actions_inputs_reach_the_program_as_single_words() {
    let dir = tempfile::tempdir().unwrap();
    let fingerprint = format!("SHA256:{}", "A".repeat(43));
    let hostile = "touch owned; echo \"$(id)\" 'x' ${{ secrets.X }}";
    let inputs = [
        ("ca-url", "https://ca.example"),
        ("fingerprint", &*fingerprint),
        ("fleet", "deploy@web\ndeploy@db\n"),
        ("target", "$(touch owned)@web-1"),
        ("run", hostile),
    ];
    let lines = run_action(dir.path(), &inputs);
    let [setup, exec] = lines.as_slice() else {
        panic!("{lines:?}")
    };
    parse(setup).unwrap();
    assert_eq!(setup.last().unwrap(), "https://ca.example");
    assert!(exec.contains(&"--fleet=deploy@db".to_owned()), "{exec:?}");
    assert_eq!(exec.last().unwrap(), hostile);
    // It reaches the program's own parser, which refuses it.
    assert!(parse(exec).is_err());
    let good: Vec<String> = exec
        .iter()
        .filter(|w| !w.contains("owned)"))
        .cloned()
        .collect();
    parse(&good).unwrap();
}

#[test]
fn no_script_of_the_action_has_an_expression_in_it() {
    let action = yaml(ACTION);
    assert_eq!(action["runs"]["using"], "composite");
    for step in action["runs"]["steps"].as_array().unwrap() {
        assert!(!step["run"].as_str().unwrap().contains("${{"), "{step}");
        assert_eq!(step["shell"], "bash");
    }
}

#[test]
fn the_workflow_of_the_page_uses_inputs_that_exist() {
    let (_, page) = PAGES[2];
    let workflow = page.split("```yaml\n").nth(1).unwrap();
    let workflow = yaml(workflow.split("```").next().unwrap());
    let action = yaml(ACTION);
    let ours = workflow["steps"].as_array().unwrap().last().unwrap();
    assert_eq!(ours["uses"], "./infra/github-action");
    for (input, _) in ours["with"].as_object().unwrap() {
        assert!(action["inputs"].get(input).is_some(), "{input}");
    }
    for input in action["inputs"].as_object().unwrap().keys() {
        assert!(
            page.contains(&format!("`{input}`")),
            "{input} is not in the page"
        );
    }
}
