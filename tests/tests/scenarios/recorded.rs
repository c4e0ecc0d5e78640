//! The pages for users are true: the terminal sessions that they show are recorded from real runs, and every command
//! in them is run by a test. `EIC_RECORD=1 cargo test -p eic-lab --test scenarios recorded` records them anew.

mod commands;
mod company;
mod page;
mod quick_start;

/// A session is a code block `console PLACE`: lines that begin with `$ ` are typed there, the rest is printed.
const SESSION: &str = "console ";

/// Whoever came to the quick start's end runs that CA by the second page.
#[test]
fn the_quick_start_and_the_page_for_operators_show_what_their_commands_print() {
    let mut stage = quick_start::Stage::new();
    page::check("quickstart.md", &mut stage);
    page::check("operations.md", &mut stage);
}

/// One company for both, since most of the time is spent on its start.
#[test]
fn the_pages_about_tools_and_jobs_show_what_their_commands_print() {
    let mut company = company::Company::new();
    page::check("clients.md", &mut company);
    page::check("automation.md", &mut company);
}
