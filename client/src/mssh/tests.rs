//! The documented command lines, valid and invalid: arguments of ssh or sftp, exit code, class of the message.

use super::*;

/// Words, then `program arguments…` or `exit code: part of the message`.
const TABLE: [(&str, &str); 78] = [
    // --- mssh: the target ---
    (
        "mssh i-0123456789abcdef0",
        "ssh -- ec2-user@i-0123456789abcdef0",
    ),
    ("mssh i-01234567", "ssh -- ec2-user@i-01234567"),
    ("mssh ubuntu@i-01234567", "ssh -- ubuntu@i-01234567"),
    ("mssh _svc@i-01234567", "ssh -- _svc@i-01234567"),
    (
        "mssh -l ubuntu i-01234567",
        "ssh -l ubuntu -- ubuntu@i-01234567",
    ),
    (
        "mssh -lubuntu i-01234567",
        "ssh -lubuntu -- ubuntu@i-01234567",
    ),
    (
        "mssh -l other ubuntu@i-01234567",
        "ssh -l other -- ubuntu@i-01234567",
    ),
    (
        "mssh -t i-01234567 10.0.0.5",
        "ssh -- ec2-user@i-01234567 | 10.0.0.5",
    ),
    (
        "mssh -t i-01234567 ubuntu@10.0.0.5",
        "ssh -- ubuntu@i-01234567 | 10.0.0.5",
    ),
    (
        "mssh -t i-01234567 web.example.com",
        "ssh -- ec2-user@i-01234567 | web.example.com",
    ),
    (
        "mssh --instance_id i-01234567 fd00::5",
        "ssh -- ec2-user@i-01234567 | fd00::5",
    ),
    (
        "mssh --instance_id=i-01234567 10.0.0.5",
        "ssh -- ec2-user@i-01234567 | 10.0.0.5",
    ),
    (
        "mssh -ti-01234567 10.0.0.5",
        "ssh -- ec2-user@i-01234567 | 10.0.0.5",
    ),
    (
        "mssh -t i-01234567 i-01234567",
        "ssh -- ec2-user@i-01234567",
    ),
    ("mssh -- i-01234567", "ssh -- ec2-user@i-01234567"),
    ("mssh", "1: Missing target"),
    ("mssh -d", "1: Missing target"),
    ("mssh -t i-01234567", "1: Missing target"),
    ("mssh --", "1: Missing target"),
    ("mssh web-1", "1: Missing instance_id"),
    ("mssh ubuntu@10.0.0.5", "1: Missing instance_id"),
    ("mssh i-xyz", "1: Invalid instance_id"),
    ("mssh i-0123", "1: Invalid instance_id"),
    ("mssh i-01234567;id", "1: Invalid instance_id"),
    ("mssh i-01234567$(id)", "1: Invalid instance_id"),
    (
        "mssh --instance_id web-1 10.0.0.5",
        "1: Invalid instance_id",
    ),
    ("mssh -t i-01234567 a_b", "1: Invalid target"),
    ("mssh -t i-01234567 ubuntu@", "1: Invalid target"),
    ("mssh -t i-01234567 $(id)", "1: Invalid target"),
    (
        "mssh UPPER@i-01234567",
        "1: UPPER is not a valid UNIX username",
    ),
    ("mssh @i-01234567", "1: is not a valid UNIX username"),
    (
        "mssh us;er@i-01234567",
        "1: us;er is not a valid UNIX username",
    ),
    (
        "mssh -l -oX i-01234567",
        "1: -oX is not a valid UNIX username",
    ),
    // --- mssh: own options, anywhere before the command ---
    (
        "mssh -u prod i-01234567",
        "ssh -- ec2-user@i-01234567 | u=prod",
    ),
    (
        "mssh --profile prod i-01234567",
        "ssh -- ec2-user@i-01234567 | u=prod",
    ),
    (
        "mssh --prof=prod i-01234567",
        "ssh -- ec2-user@i-01234567 | u=prod",
    ),
    (
        "mssh -r us-east-1 i-01234567",
        "ssh -- ec2-user@i-01234567 | r=us-east-1",
    ),
    (
        "mssh -rus-east-1 i-01234567",
        "ssh -- ec2-user@i-01234567 | r=us-east-1",
    ),
    (
        "mssh --reg us-east-1 i-01234567",
        "ssh -- ec2-user@i-01234567 | r=us-east-1",
    ),
    (
        "mssh i-01234567 -r us-east-1",
        "ssh -- ec2-user@i-01234567 | r=us-east-1",
    ),
    (
        "mssh i-01234567 -r us-east-1 -L 8080:localhost:80",
        "ssh -L 8080:localhost:80 -- ec2-user@i-01234567 | r=us-east-1",
    ),
    (
        "mssh -z us-east-1a i-01234567",
        "ssh -- ec2-user@i-01234567",
    ),
    (
        "mssh -z us-west-2-lax-1a i-01234567",
        "ssh -- ec2-user@i-01234567",
    ),
    ("mssh -d i-01234567", "ssh -v -- ec2-user@i-01234567"),
    ("mssh --debug i-01234567", "ssh -v -- ec2-user@i-01234567"),
    ("mssh -h", "0: help"),
    ("mssh i-01234567 --help", "0: help"),
    ("mssh -r moon i-01234567", "1: moon is not a valid region"),
    (
        "mssh -r us-moon-1 i-01234567",
        "1: us-moon-1 is not a valid region",
    ),
    (
        "mssh -z us-east-1 i-01234567",
        "1: us-east-1 is not a valid zone",
    ),
    ("mssh -z x i-01234567", "1: x is not a valid zone"),
    ("mssh -r", "2: argument -r/--region: expected one argument"),
    (
        "mssh -t",
        "2: argument -t/--instance_id: expected one argument",
    ),
    (
        "mssh -u -d i-01234567",
        "2: argument -u/--profile: expected one argument",
    ),
    (
        "mssh --zone",
        "2: argument -z/--zone: expected one argument",
    ),
    (
        "mssh --port 22 i-01234567",
        "2: unrecognized arguments: --port",
    ),
    ("mssh --debug=x i-01234567", "2: ignored explicit argument"),
    // --- mssh: ssh's flags and the remote command ---
    (
        "mssh -i key i-01234567",
        "1: '-i' is not supported when using mssh",
    ),
    (
        "mssh -ikey i-01234567",
        "1: '-i' is not supported when using mssh",
    ),
    ("mssh -p", "2: argument -p: expected one argument"),
    (
        "mssh -p 2222 i-01234567",
        "ssh -p 2222 -- ec2-user@i-01234567",
    ),
    ("mssh -A i-01234567 ls", "ssh -A -- ec2-user@i-01234567 ls"),
    ("mssh -v i-01234567", "ssh -v -- ec2-user@i-01234567"),
    (
        "mssh -vvN -o ServerAliveInterval=5 i-01234567",
        "ssh -vvN -o ServerAliveInterval=5 -- ec2-user@i-01234567",
    ),
    (
        "mssh -tt ubuntu@i-01234567 top",
        "ssh -tt -- ubuntu@i-01234567 top",
    ),
    (
        "mssh -t ubuntu@i-01234567 top",
        "ssh -t -- ubuntu@i-01234567 top",
    ),
    ("mssh i-01234567 ls -t", "ssh -- ec2-user@i-01234567 ls -t"),
    (
        "mssh i-01234567 ls -r -d -h --help",
        "ssh -- ec2-user@i-01234567 ls -r -d -h --help",
    ),
    ("mssh i-01234567 -- -x", "ssh -- ec2-user@i-01234567 -- -x"),
    (
        "mssh i-01234567 echo a;id $(id)",
        "ssh -- ec2-user@i-01234567 echo a;id $(id)",
    ),
    // --- msftp ---
    ("msftp i-01234567", "sftp -- ec2-user@i-01234567"),
    (
        "msftp ubuntu@i-01234567:/etc/hosts",
        "sftp -- ubuntu@i-01234567:/etc/hosts",
    ),
    (
        "msftp -r us-east-1 i-01234567",
        "sftp -- ec2-user@i-01234567 | r=us-east-1",
    ),
    (
        "msftp -r i-01234567:dir",
        "sftp -r -- ec2-user@i-01234567:dir",
    ),
    (
        "msftp -l 100 -P 2222 i-01234567",
        "sftp -l 100 -P 2222 -- ec2-user@i-01234567",
    ),
    (
        "msftp i-01234567 extra words",
        "2: unrecognized arguments: extra words",
    ),
    (
        "msftp -i key i-01234567",
        "1: '-i' is not supported when using msftp",
    ),
    ("msftp", "1: Missing target"),
];

fn told(words: &str) -> String {
    let words: Vec<OsString> = words.split(' ').map(OsString::from).collect();
    let program = Program::of(&words[0]).unwrap();
    match Line::parse(program, &words[1..]) {
        Err(refusal) => format!("{}: {refusal}", refusal.exit_code()),
        Ok(line) => {
            let mut text = program.runs().to_owned();
            for word in line.arguments() {
                text.push(' ');
                text.push_str(word.to_str().unwrap());
            }
            let more = [
                line.host,
                line.profile.map(|profile| format!("u={profile}")),
                line.region.map(|region| format!("r={}", region.as_str())),
            ];
            for part in more.into_iter().flatten() {
                text.push_str(&format!(" | {part}"));
            }
            text
        }
    }
}

#[test]
fn the_documented_command_lines_give_the_documented_exec_line_or_refusal() {
    // H-03 for the hostile ones.
    for (words, expected) in TABLE {
        let told = told(words);
        let refusal = expected.as_bytes()[1] == b':';
        let (code, message) = expected.split_once(": ").unwrap_or_default();
        let fits = match refusal {
            true => told.starts_with(&format!("{code}:")) && told.contains(message),
            false => told == expected,
        };
        assert!(fits, "`{words}`\n     is {told}\nbut not {expected}");
    }
}

#[test]
fn words_of_the_remote_command_stay_words() {
    let words = ["i-01234567", "echo \"a b\"; id", "c d"].map(OsString::from);
    let line = Line::parse(Program::Mssh, &words).unwrap();
    assert_eq!(line.arguments()[2..], words[1..]);
}

#[test]
fn the_name_decides_the_program() {
    for (argv0, program) in [
        ("/usr/bin/mssh", Some(Program::Mssh)),
        ("msftp", Some(Program::Msftp)),
        ("eic-login", None),
        ("/mssh/eic-login", None),
        ("", None),
    ] {
        assert_eq!(Program::of(&argv0.into()), program);
    }
}
