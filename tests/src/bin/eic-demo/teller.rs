//! How the demo speaks: a line of plain words, the real command, the real output under it.
//! Colour on a terminal only.

use std::io::IsTerminal as _;
use std::time::Duration;

use eic_lab::error::Result;
use eic_lab::process::{Output, RoomCommand};

/// Prints steps.
pub(crate) struct Teller {
    colour: bool,
    step: usize,
}

impl Teller {
    /// For standard output.
    pub(crate) fn new() -> Self {
        Self {
            colour: std::io::stdout().is_terminal(),
            step: 0,
        }
    }

    /// The next step, in a line of plain words.
    pub(crate) fn step(&mut self, words: &str) {
        self.step += 1;
        println!(
            "\n{}",
            self.painted("1;36", &format!("{}. {words}", self.step))
        );
    }

    /// A remark.
    pub(crate) fn say(&self, words: &str) {
        println!("   {words}");
    }

    /// Shows a command and runs it; it must succeed.
    pub(crate) fn run(&self, who: &str, command: &RoomCommand) -> Result<Output> {
        let output = self.attempt(who, command)?;
        output.success()
    }

    /// Shows a command and runs it, whatever comes of it.
    pub(crate) fn attempt(&self, who: &str, command: &RoomCommand) -> Result<Output> {
        println!(
            "   {}",
            self.painted("1", &format!("{who}$ {}", command.line()))
        );
        let output = command.run()?;
        for line in output.stdout.lines().chain(output.stderr.lines()) {
            println!("   {} {line}", self.painted("2", "|"));
        }
        Ok(output)
    }

    /// Lines that a program wrote elsewhere, such as sshd's log.
    pub(crate) fn quote(&self, source: &str, line: &str) {
        println!("   {}", self.painted("2", source));
        println!("   {} {line}", self.painted("2", "|"));
    }

    /// Times at the end.
    pub(crate) fn times(&self, rows: &[(String, Duration)]) {
        for (name, time) in rows {
            println!("   {name:<44} {:>7.0} ms", time.as_secs_f64() * 1_000.0);
        }
    }

    fn painted(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}
