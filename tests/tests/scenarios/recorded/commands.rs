//! No command stands in the pages for users that nobody runs: sessions are recorded, and for each other kind of code
//! the test is named here that runs or reads all of its page.

use super::page::{self, Block, Part};

const CLIENT: &str = include_str!("../../../../client/tests/login/pages.rs");
const ACTION: &str = include_str!("../../../../client/src/command/pages.rs");
const CA: &str = include_str!("../../../../ca-service/tests/api/pages.rs");
const QUICK_START: &str = include_str!("quick_start.rs");
const LOGIN: &str = include_str!("../login.rs");
const COMPANY: &str = include_str!("company.rs");

/// The pages whose sessions are recorded.
const PAGES: [&str; 4] = [
    "quickstart.md",
    "operations.md",
    "clients.md",
    "automation.md",
];

/// Page, language, the source of the test or stage that takes every such block, and its name there.
const HELD: [(&str, &str, &str, &str); 9] = [
    ("quickstart.md", "toml", QUICK_START, "configure"),
    (
        "operations.md",
        "toml",
        CA,
        "the_configuration_in_the_page_about_operations_is_read",
    ),
    ("operations.md", "sh", QUICK_START, "renew_daily"),
    (
        "operations.md",
        "text", // sshd's line in the log
        LOGIN,
        "one_login_by_certificate_one_by_instance_connect_and_the_audit_joins_them",
    ),
    (
        "clients.md",
        "sh",
        CLIENT,
        "every_command_of_the_page_about_tools_does_what_it_says",
    ),
    (
        "clients.md",
        "python",
        CLIENT,
        "the_pages_python_programs_log_in_under_exec",
    ),
    ("clients.md", "python", COMPANY, "take_file"),
    (
        "automation.md",
        "sh",
        CLIENT,
        "every_command_of_the_page_about_jobs_does_what_it_says",
    ),
    (
        "automation.md",
        "yaml",
        ACTION,
        "the_workflow_of_the_page_uses_inputs_that_exist",
    ),
];

/// Whether somebody runs or reads what is in the block.
fn is_held(page: &str, block: &Block<'_>) -> bool {
    let by = HELD
        .iter()
        .filter(|(name, language, ..)| (*name, *language) == (page, block.language));
    block.place().is_some() || by.count() > 0
}

#[test]
fn no_code_stands_in_the_pages_that_no_test_runs() {
    for page in PAGES {
        let text = page::read(page);
        let blocks: Vec<Block<'_>> = page::parts(&text)
            .into_iter()
            .filter_map(|part| match part {
                Part::Block(block) => Some(block),
                Part::Text(_) => None,
            })
            .collect();
        assert!(blocks.iter().any(|b| b.place().is_some()), "{page}");
        for block in &blocks {
            assert!(
                is_held(page, block),
                "docs/{page}: nobody runs this `{}`:\n{}",
                block.language,
                block.lines.join("\n")
            );
        }
    }
}

#[test]
fn what_holds_the_code_of_the_pages_exists() {
    for (page, language, source, name) in HELD {
        let text = page::read(page);
        assert!(text.contains(&format!("```{language}\n")), "{page}: {name}");
        assert!(source.contains(&format!("fn {name}(")), "{name}");
        // Other crates' tests read the page at compile time; the rest is given its blocks while it is recorded.
        let by_name = [CLIENT, ACTION, CA].contains(&source);
        assert!(!by_name || source.contains(page), "{name}: docs/{page}");
    }
}

/// A session shows what each command printed: one that is only printed, or only typed, is no session.
#[test]
fn every_session_begins_with_a_command() {
    for page in PAGES {
        let text = page::read(page);
        for part in page::parts(&text) {
            let Part::Block(block) = part else { continue };
            let begins = block.lines.first().is_some_and(|l| l.starts_with("$ "));
            assert!(
                block.place().is_none() || begins,
                "{page}: {:?}",
                block.lines
            );
        }
    }
}
