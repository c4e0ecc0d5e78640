//! Findings and how they are shown.

use eic_protocol::text::printable;
use serde::Serialize;

use crate::status::Judged;

/// What a finding means for the login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// As it should be.
    Good,
    /// Worth knowing; refuses nothing by itself.
    Note,
    /// Refuses the login.
    Bad,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) level: Level,
    /// What it is about, one word.
    pub(super) about: &'static str,
    pub(super) text: String,
    /// What to do; only with a bad one.
    pub(super) fix: Option<String>,
}

/// All findings, in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    pub(super) fn good(&mut self, about: &'static str, text: impl Into<String>) {
        self.push(Level::Good, about, text.into(), None);
    }

    pub(super) fn note(&mut self, about: &'static str, text: impl Into<String>) {
        self.push(Level::Note, about, text.into(), None);
    }

    pub(super) fn bad(&mut self, about: &'static str, text: impl Into<String>, fix: &str) {
        self.push(Level::Bad, about, text.into(), Some(fix.to_owned()));
    }

    fn push(&mut self, level: Level, about: &'static str, text: String, fix: Option<String>) {
        // Certificates, names and other programs' words come from strangers.
        let text = text.lines().map(printable).collect::<Vec<_>>().join(" ");
        self.0.push(Finding {
            level,
            about,
            text,
            fix,
        });
    }

    pub(super) fn judged(&self, json: bool) -> Judged {
        let good = self.0.iter().all(|finding| finding.level != Level::Bad);
        let text = if json {
            let report = serde_json::json!({ "accepted": good, "findings": self.0 });
            format!("{report:#}\n")
        } else {
            self.text(good)
        };
        Judged { text, good }
    }

    fn text(&self, good: bool) -> String {
        let mut text: String = self.0.iter().map(line).collect();
        text.push_str(if good {
            "nothing here refuses this login\n"
        } else {
            "this login is refused: see the lines with FAIL\n"
        });
        text
    }
}

fn line(finding: &Finding) -> String {
    let level = match finding.level {
        Level::Good => "ok  ",
        Level::Note => "note",
        Level::Bad => "FAIL",
    };
    let fix = finding
        .fix
        .as_ref()
        .map(|fix| format!(" | fix: {fix}"))
        .unwrap_or_default();
    format!("{level} {}: {}{fix}\n", finding.about, finding.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_finding_refuses() {
        let mut findings = Findings::default();
        findings.good("time", "right");
        findings.note("time", "so so");
        assert!(findings.judged(false).good);
        findings.bad("key", "a\u{1b}[2J\nb", "make another");
        let judged = findings.judged(false);
        assert!(!judged.good);
        assert_eq!(
            judged.text,
            "ok   time: right\nnote time: so so\nFAIL key: a\\u{1b}[2J b | fix: make another\n\
             this login is refused: see the lines with FAIL\n"
        );
        let json: serde_json::Value = serde_json::from_str(&findings.judged(true).text).unwrap();
        assert_eq!(json["accepted"], false);
        assert_eq!(json["findings"][2]["level"], "bad");
    }
}
