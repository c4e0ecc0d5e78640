//! The SELinux module in infra/selinux: it compiles by its documented build, and says what the program says.

use std::process::Command;

const TE: &str = include_str!("../../../infra/selinux/eic-agent.te");
const FC: &str = include_str!("../../../infra/selinux/eic-agent.fc");
const README: &str = include_str!("../../../infra/selinux/README.md");

fn run(folder: &std::path::Path, line: &str) -> Option<()> {
    let words: Vec<&str> = line.split(' ').collect();
    let (program, arguments) = words.split_first()?;
    match Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .output()
    {
        Ok(output) => {
            assert!(output.status.success(), "{line}: {output:?}");
            Some(())
        }
        Err(_) => {
            eprintln!("skipped: no {program}");
            None
        }
    }
}

#[test]
fn the_module_builds_as_documented() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("eic-agent.te"), TE).unwrap();
    std::fs::write(folder.path().join("eic-agent.fc"), FC).unwrap();
    let steps = README
        .lines()
        .filter(|line| line.starts_with("checkmodule ") || line.starts_with("semodule_package "));
    let mut count = 0;
    for step in steps {
        if run(folder.path(), step).is_none() {
            return;
        }
        count += 1;
    }
    assert_eq!(count, 2);
    let built = std::fs::metadata(folder.path().join("eic-agent.pp")).unwrap();
    assert!(built.len() > 1000);
}

#[test]
fn every_label_is_a_declared_type_and_the_program_has_the_one_that_is_looked_for() {
    for line in FC.lines() {
        let label = line.rsplit(['\t', ' ']).next().unwrap();
        let parts: Vec<&str> = label.split(':').collect();
        assert_eq!(parts[..2], ["system_u", "object_r"], "{line}");
        assert!(TE.contains(&format!("\ntype {};\n", parts[2])), "{line}");
    }
    assert!(FC.contains("/usr/local/bin/eic-agent\t--\tsystem_u:object_r:eic_agent_exec_t:s0\n"));
}
