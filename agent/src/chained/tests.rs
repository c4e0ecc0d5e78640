//! Chained commands as processes: what each failure costs, and that it costs nobody else anything.

use super::*;
use std::cell::RefCell;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Instant;

/// Where no helper listens.
const NOBODY: &str = "/nonexistent/eic-logins.sock";

#[derive(Default)]
struct Lines(RefCell<Vec<String>>);

impl Log for Lines {
    fn info(&self, message: &str) {
        self.0.borrow_mut().push(message.to_owned());
    }
}

fn commands(text: &str) -> ChainedCommands {
    let config = crate::config::Config::parse(text).unwrap();
    config.authorized_keys.command
}

/// `sh -c SCRIPT`, with its arguments `$1`…; unless `more` says otherwise it has the time that a busy machine may
/// need.
fn shell(name: &str, script: &str, more: &str) -> String {
    let time = match more.contains("deadline_ms") {
        true => "",
        false => "deadline_ms = 10000",
    };
    format!(
        "[[authorized_keys.command]]\nname = \"{name}\"\ncommand = [\"/bin/sh\", \"-c\", '''{script}''', \"x\", \"%u\"]\n{more}\n{time}\n"
    )
}

/// A script to be run. Another process writes it: while a descriptor that writes is open, in a child of another test
/// even, nobody can run the file (execve(2), ETXTBSY).
fn write_program(file: &Path, script: &str) {
    let written = std::process::Command::new("sh")
        .args([
            "-c",
            r#"printf %s "$2" > "$1.new" && chmod 755 "$1.new" && mv "$1.new" "$1""#,
            "sh",
        ])
        .arg(file)
        .arg(script)
        .status();
    assert!(written.unwrap().success());
}

fn tokens() -> Tokens {
    let mut tokens = Tokens::default();
    tokens.insert(tokens::Token::User, "alice".to_owned());
    tokens
}

fn ask(text: &str) -> (String, Vec<String>) {
    let log = Lines::default();
    let lines = start(
        &commands(text),
        &tokens(),
        NOBODY.as_ref(),
        &Trusted::system(),
    )
    .finish(&log);
    (lines, log.0.into_inner())
}

const GOOD: &str = "echo ssh-ed25519 AAAA $1";

/// What goes wrong, the script, further settings, what the log says.
const FAILURES: &[(&str, &str, &str, &str)] = &[
    ("exit 1", "echo ssh-rsa EVIL; exit 1", "", "exit status: 1"),
    (
        "exit 255",
        "echo ssh-rsa EVIL; exit 255",
        "",
        "exit status: 255",
    ),
    ("signal", "echo ssh-rsa EVIL; kill -9 $$", "", "signal: 9"),
    (
        "slow",
        "echo ssh-rsa EVIL; exec sleep 60",
        "deadline_ms = 100",
        "deadline_ms",
    ),
    (
        "mute",
        "exec >&-; exec sleep 60",
        "deadline_ms = 100",
        "deadline_ms",
    ),
    (
        "stopped",
        "echo ssh-rsa EVIL; kill -STOP $$",
        "deadline_ms = 100",
        "deadline_ms",
    ),
    (
        "deaf",
        "trap '' TERM INT; while :; do :; done",
        "deadline_ms = 100",
        "deadline_ms",
    ),
    (
        "endless",
        "while :; do echo ssh-rsa EVIL; done",
        "",
        "max_bytes",
    ),
    (
        "one byte too many",
        "printf %%s 'ssh-rsa EVIL1'",
        "max_bytes = 12",
        "max_bytes",
    ),
    (
        "loud",
        "while :; do echo no >&2; done",
        "deadline_ms = 100",
        "deadline_ms",
    ),
    (
        "complaining",
        "echo first >&2; echo second >&2; exit 2",
        "",
        "saying: first",
    ),
    (
        "forging",
        "printf 'a\\033[2J\\n' >&2; exit 2",
        "",
        "saying: a\\u{1b}[2J",
    ),
];

#[test]
fn each_failing_command_costs_only_its_own_lines() {
    for (flaw, script, more, logged) in FAILURES {
        let text = [
            shell("before", GOOD, ""),
            shell("bad", script, more),
            shell("after", GOOD, ""),
        ]
        .concat();
        let started = Instant::now();
        let (lines, log) = ask(&text);
        assert_eq!(lines, "ssh-ed25519 AAAA alice\n".repeat(2), "{flaw}");
        assert_eq!(log.len(), 1, "{flaw}: {log:?}");
        assert!(
            log[0].contains("`bad`") && log[0].contains(*logged),
            "{flaw}: {log:?}"
        );
        assert!(!log[0].contains("EVIL"), "{flaw}");
        // The time of a command that nobody ends is 10 s.
        assert!(started.elapsed() < Duration::from_secs(9), "{flaw}");
    }
}

#[test]
fn programs_that_others_could_change_are_not_run() {
    // J-12, and sshd's own rule for its commands
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path().canonicalize().unwrap();
    let program = top.join("open/program");
    std::fs::create_dir(top.join("open")).unwrap();
    write_program(&program, "#!/bin/sh\necho ssh-rsa EVIL\n");
    let trusted = Trusted::under(&top, rustix::process::geteuid().as_raw());
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(&top, 0o755);
    let ask = |program: &Path| {
        let text = format!("[[authorized_keys.command]]\ncommand = [{program:?}]");
        start(&commands(&text), &tokens(), NOBODY.as_ref(), &trusted).finish(&Lines::default())
    };
    for (folder_mode, file_mode) in [
        (0o777, 0o755),
        (0o775, 0o755),
        (0o755, 0o775),
        (0o755, 0o757),
        (0o755, 0o644),
    ] {
        mode(&top.join("open"), folder_mode);
        mode(&program, file_mode);
        assert_eq!(ask(&program), "", "{folder_mode:o} {file_mode:o}");
    }
    mode(&program, 0o755);
    assert_eq!(ask(&top.join("open")), "", "a folder");
    assert_eq!(ask(&top.join("none")), "", "nothing");
    let outside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(&program, outside.path().join("link")).unwrap();
    assert_eq!(ask(&program), "ssh-rsa EVIL\n");
    assert_eq!(ask(Path::new("/bin/echo")), "", "outside what is checked");
}

#[test]
fn tokens_that_sshd_did_not_pass_stop_that_command_only() {
    let uses_home =
        "[[authorized_keys.command]]\nname = \"home\"\ncommand = [\"/bin/echo\", \"%h\"]\n";
    let (lines, log) = ask(&format!("{uses_home}{}", shell("good", GOOD, "")));
    assert_eq!(lines, "ssh-ed25519 AAAA alice\n");
    assert!(
        log[0].contains("`home`") && log[0].contains("h=%h"),
        "{log:?}"
    );
}

#[test]
fn arguments_reach_the_program_whole_and_through_no_shell() {
    let mut tokens = tokens();
    assert!(tokens.take_word("h=/home/a b; id 'x\""));
    assert!(tokens.take_word("k="));
    let text = "[[authorized_keys.command]]\ncommand = [\"/usr/bin/printf\", \"ssh <%%s>\\\\n\", \"%u\", \"%h\", \"%k\", \"*\"]";
    let lines = start(
        &commands(text),
        &tokens,
        NOBODY.as_ref(),
        &Trusted::system(),
    )
    .finish(&Lines::default());
    assert_eq!(
        lines,
        "ssh <alice>\nssh </home/a b; id 'x\">\nssh <>\nssh <*>\n"
    );
}

#[test]
fn a_command_without_arguments_gets_the_user_name() {
    let (lines, _) = ask("[[authorized_keys.command]]\ncommand = [\"/bin/echo\"]");
    assert_eq!(lines, "alice\n");
}

#[test]
fn the_environment_is_sshds_and_stdin_is_empty() {
    // I-20
    let (lines, _) = ask(&shell("env", "read x && echo input; env; pwd", ""));
    let names: Vec<&str> = lines
        .lines()
        .filter_map(|l| l.split_once('='))
        .map(|(n, _)| n)
        .collect();
    assert!(names.contains(&"PATH"), "{lines}");
    // PWD and _ are the shell's own.
    let known = [
        "PATH", "USER", "LOGNAME", "HOME", "LANG", "PWD", "_", "OLDPWD", "SHLVL",
    ];
    assert!(names.iter().all(|name| known.contains(name)), "{lines}");
    assert!(
        lines.contains("\n/\n") && !lines.contains("input"),
        "{lines}"
    );
}

#[test]
fn a_child_left_behind_holds_up_nobody_and_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("pid");
    let script = format!("sleep 60 & echo $! > {}; echo ssh-rsa AAAA", mark.display());
    let (lines, log) = ask(&shell("parent", &script, ""));
    // Held up, the command would have been killed at its deadline, which is told.
    assert_eq!((lines.as_str(), log.len()), ("ssh-rsa AAAA\n", 0));
    is_gone(&mark);
}

#[test]
fn the_whole_group_is_killed_at_the_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("pid");
    let script = format!("sleep 60 & echo $! > {}; wait", mark.display());
    let (lines, log) = ask(&shell("slow", &script, "deadline_ms = 3000"));
    assert_eq!((lines.as_str(), log.len()), ("", 1));
    is_gone(&mark);
}

#[test]
fn commands_that_no_longer_matter_are_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("pid");
    let script = format!("echo $$ > {}; exec sleep 60", mark.display());
    let running = start(
        &commands(&shell("slow", &script, "")),
        &tokens(),
        NOBODY.as_ref(),
        &Trusted::system(),
    );
    let until = Instant::now() + Duration::from_secs(10);
    while std::fs::read_to_string(&mark)
        .unwrap_or_default()
        .is_empty()
    {
        assert!(Instant::now() < until);
        thread::yield_now();
    }
    drop(running);
    is_gone(&mark);
}

fn is_gone(mark: &Path) {
    let pid = std::fs::read_to_string(mark).unwrap();
    let stat = format!("/proc/{}/stat", pid.trim());
    let until = Instant::now() + Duration::from_secs(10);
    // A zombie whose parent is not us counts as gone.
    while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(Instant::now() < until, "{pid} is still there");
        thread::yield_now();
    }
}

#[test]
fn commands_run_side_by_side_and_answer_in_the_files_order() {
    // Each ends only after the next one has: one after the other, they would be killed at their deadlines.
    let folder = tempfile::tempdir().unwrap();
    let wait = |mark: &str| {
        let mark = folder.path().join(mark);
        format!("until [ -e {} ]; do sleep 0.01; done", mark.display())
    };
    let done = |mark: &str| format!("> {}", folder.path().join(mark).display());
    let first = format!("{}; echo ssh-rsa FIRST", wait("second"));
    let second = format!("{}; echo ssh-rsa SECOND; {}", wait("third"), done("second"));
    let third = format!("echo ssh-rsa THIRD; {}", done("third"));
    let text = [("first", first), ("second", second), ("third", third)]
        .map(|(name, script)| shell(name, &script, ""))
        .concat();
    let (lines, log) = ask(&text);
    assert_eq!(
        lines, "ssh-rsa FIRST\nssh-rsa SECOND\nssh-rsa THIRD\n",
        "{log:?}"
    );
}

#[test]
fn the_file_that_was_checked_is_run_under_the_name_that_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink("/bin/sh", &link).unwrap();
    let script =
        "printf '%s %s\\n' \"$(readlink /proc/$$/exe)\" \"$(tr '\\0' ' ' < /proc/$$/cmdline)\"";
    let arguments = ["-c", script].map(std::ffi::OsString::from);
    let limits = Limits {
        deadline: Deadline::after(Duration::from_secs(10)),
        max_bytes: 4096,
    };
    // The link has been turned round since the check.
    let shell = std::fs::canonicalize("/bin/sh").unwrap();
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("/bin/false", &link).unwrap();
    let program = Program {
        file: &shell,
        name: &link,
        account: None,
    };
    let output = process::output(&program, &arguments, &limits, &|| false).unwrap();
    let output = String::from_utf8(output).unwrap();
    let expected = format!("{} {} -c", shell.display(), link.display());
    assert!(output.starts_with(&expected), "{output}");
}

#[test]
fn a_link_is_run_as_the_file_that_was_checked() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path().canonicalize().unwrap();
    let (file, link) = (top.join("file"), top.join("link"));
    // A script is told the path that was executed.
    write_program(&file, "#!/bin/sh\necho ssh-ed25519 AAAA \"$0\"\n");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let text = format!(
        "[[authorized_keys.command]]\nname = \"link\"\ncommand = [\"{}\"]\n",
        link.display()
    );
    let trusted = Trusted::under(&top, rustix::process::geteuid().as_raw());
    let log = Lines::default();
    let lines = start(&commands(&text), &tokens(), NOBODY.as_ref(), &trusted).finish(&log);
    let expected = format!("ssh-ed25519 AAAA {}\n", file.display());
    assert_eq!(lines, expected, "{:?}", log.0.into_inner());
}

#[test]
fn without_the_helper_only_commands_of_another_user_are_skipped() {
    let other = shell("other", GOOD, "user = \"daemon\"");
    let (lines, log) = ask(&[shell("own", GOOD, ""), other].concat());
    assert_eq!(lines, "ssh-ed25519 AAAA alice\n");
    assert_eq!(log.len(), 1, "{log:?}");
    for part in ["`other`", NOBODY, "eic-agent-logins.socket"] {
        assert!(log[0].contains(part), "{log:?}");
    }
}

#[test]
fn a_helper_that_hangs_or_ends_costs_only_its_commands_lines() {
    let folder = tempfile::tempdir().unwrap();
    let door = folder.path().join("door");
    let listener = std::os::unix::net::UnixListener::bind(&door).unwrap();
    let text = |time: &str| {
        let other = shell("other", GOOD, &format!("user = \"daemon\"\n{time}"));
        [shell("own", GOOD, ""), other].concat()
    };
    let ask = |text: &str| {
        let log = Lines::default();
        let lines = start(&commands(text), &tokens(), &door, &Trusted::system()).finish(&log);
        assert_eq!(lines, "ssh-ed25519 AAAA alice\n");
        log.0.into_inner().concat()
    };
    // Nobody accepts: the kernel does, and then nothing comes.
    assert!(ask(&text("deadline_ms = 200")).contains("deadline_ms"));
    let (first, _) = listener.accept().unwrap();
    let hanging_up = thread::spawn(move || drop(listener.accept()));
    assert!(ask(&text("")).contains("no answer at"));
    drop(first);
    hanging_up.join().unwrap();
}

#[test]
fn an_errand_that_no_longer_matters_is_given_up_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let door = folder.path().join("door");
    let listener = std::os::unix::net::UnixListener::bind(&door).unwrap();
    let text = shell("other", GOOD, "user = \"daemon\"\ndeadline_ms = 10000");
    let running = start(&commands(&text), &tokens(), &door, &Trusted::system());
    let (stream, _) = listener.accept().unwrap();
    drop(running);
    // Not given up, it would be at the end of its 10 s.
    stream
        .set_read_timeout(Some(Duration::from_secs(8)))
        .unwrap();
    let mut sent = String::new();
    std::io::Read::read_to_string(&mut &stream, &mut sent).unwrap();
    assert!(
        sent.contains("\"command\":\"other\"") && sent.contains("u=alice"),
        "{sent}"
    );
}

#[test]
fn no_command_is_no_output() {
    assert_eq!(ask("").0, "");
}
